"""Curves in plain SVG: points joined by lines, one of several series by colour."""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from ._svg import FAINT, RULE, document, line, rect, text

_COLOURS: Final = ("#2166ac", "#b2182b", "#4a8f5b", "#8c6bb1", "#c27c0e")
_LEFT, _TOP, _ACROSS, _UP = 58, 44, 330, 180

Points = Sequence[tuple[float, float]]


def curves(
    title: str,
    series: Mapping[str, Points],
    x_axis: str,
    note: str = "",
    *,
    log_x: bool = False,
    y_range: tuple[float, float] | None = None,
) -> str:
    """An SVG: each series' points ``(x, y)`` from left to right, joined.

    ``log_x``: a logarithmic axis for positive x. ``y_range``: ends of the other axis, else those
    of the points.
    """
    xs = [x for points in series.values() for x, _ in points]
    ys = [y for points in series.values() for _, y in points]
    low, high = y_range or (min([0.0, *ys]), max([0.0, *ys]) or 1.0)
    ends = [float(np.log10(x)) if log_x else x for x in (min(xs), max(xs))] if xs else [0.0, 1.0]
    right, bottom = _LEFT + _ACROSS, _TOP + _UP

    def at(x: float, y: float) -> tuple[float, float]:
        place = float(np.log10(x)) if log_x else x
        across = (place - ends[0]) / ((ends[1] - ends[0]) or 1.0)
        up = (y - low) / ((high - low) or 1.0)
        return _LEFT + across * _ACROSS, bottom - up * _UP

    parts = [
        text(10, 18, title, size=13, weight="bold"),
        text(10, 33, note, size=11, fill=FAINT),
        text(_LEFT + _ACROSS / 2, bottom + 32, x_axis, size=11, anchor="middle"),
    ]
    for share in np.linspace(0, 1, 5):
        y = bottom - share * _UP
        value = low + share * (high - low)
        parts.append(line(_LEFT, y, right, y, RULE))
        parts.append(text(_LEFT - 6, y + 4, f"{value:.3g}", size=10, anchor="end", fill=FAINT))
    for x in sorted({*xs}) if len({*xs}) <= 6 else [min(xs), max(xs)]:
        place = at(x, low)[0]
        parts.append(text(place, bottom + 15, f"{x:.3g}", size=10, anchor="middle", fill=FAINT))
    for number, (name, points) in enumerate(series.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (at(*point) for point in points))
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for x, y in points:
            px, py = at(x, y)
            parts.append(rect(px - 3, py - 3, 6, 6, colour, f"{name}: {x:.6g}, {y:.6g}"))
        if len(series) > 1:
            parts.append(rect(right + 14, _TOP + 18 * number, 10, 10, colour))
            parts.append(text(right + 30, _TOP + 9 + 18 * number, name, size=11))
    width = right + (170 if len(series) > 1 else 30)
    return document(width, bottom + 44, title, parts)
