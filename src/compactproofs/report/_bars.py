"""Bars in plain SVG: named numbers, histograms, what an accuracy loses on the way to a proof."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np
from jaxtyping import Float64, Int64

from ._svg import FAINT, INK, RULE, Pixels, document, line, rect, text

WARM, COLD, QUIET = "#b2182b", "#2166ac", "#9aa3ad"
_ROW = 17
_TOP = 44


def named_bars(
    title: str,
    names: Sequence[str],
    values: Sequence[float] | Float64[np.ndarray, " n"],
    note: str = "",
    *,
    width: int = 300,
    names_width: int = 84,
) -> str:
    """An SVG: a bar for each number, red to the right of 0 and blue to the left of it."""
    numbers = [float(value) for value in values]
    low, high = min(0.0, *numbers, 0.0), max(0.0, *numbers, 0.0)
    across = width - names_width - 60
    left = names_width + (46 if low < 0 else 0)
    across -= left - names_width
    height = _TOP + _ROW * len(numbers) + 10
    zero = left + across * -low / ((high - low) or 1.0)
    parts = [*_heading(title, note), line(zero, _TOP - 4, zero, height - 6, stroke=FAINT)]
    for row, (name, value) in enumerate(zip(names, numbers, strict=True)):
        y = _TOP + _ROW * row
        length = across * abs(value) / ((high - low) or 1.0)
        begin = zero if value >= 0 else zero - length
        fill = WARM if value >= 0 else COLD
        parts.append(text(names_width - 6, y + 11, name, size=11, anchor="end"))
        parts.append(rect(begin, y + 2, length, _ROW - 5, fill, f"{name}: {value:.6g}"))
        at, anchor = (zero + length + 4, "start") if value >= 0 else (begin - 4, "end")
        parts.append(text(at, y + 11, f"{value:.3g}", size=10, anchor=anchor, fill=FAINT))
    return document(width, height, title, parts)


def histogram(
    title: str,
    counts: Int64[np.ndarray, " b"],
    edges: Float64[np.ndarray, " b+1"],
    axis: str,
    note: str = "",
    *,
    width: int = 300,
    height: int = 170,
) -> str:
    """An SVG: how many of what there are between every two edges."""
    left, bottom = 44, height - 34
    across, up = width - left - 14, bottom - _TOP
    most = max(1, int(counts.max(initial=0)))
    step = across / max(1, len(counts))
    parts = [*_heading(title, note), line(left, bottom, left + across, bottom, stroke=FAINT)]
    for n, count in enumerate(counts.tolist()):
        tall = up * count / most
        hint = f"{edges[n]:.4g} to {edges[n + 1]:.4g}: {count:,}"
        parts.append(rect(left + n * step, bottom - tall, step * 0.92, tall, COLD, hint))
    parts += [
        text(left - 6, _TOP + 8, f"{most:,}", size=10, anchor="end", fill=FAINT),
        text(left - 6, bottom, "0", size=10, anchor="end", fill=FAINT),
        text(left, bottom + 13, f"{edges[0]:.3g}", size=10, fill=FAINT),
        text(left + across, bottom + 13, f"{edges[-1]:.3g}", size=10, anchor="end", fill=FAINT),
        text(left + across / 2, bottom + 26, axis, size=11, anchor="middle"),
    ]
    return document(width, height, title, parts)


class Loss(NamedTuple):
    """A step down in a waterfall."""

    name: str
    share: float
    """Of all inputs."""
    note: str = ""


@final
@dataclass(frozen=True)
class Waterfall:
    """What becomes of the inputs between a claim and its proof, as shares of all inputs.

    Raises ValueError unless ``start`` less all losses is ``end``, up to rounding.
    """

    start: float
    """Where it begins: a claimed accuracy, or 1 for all inputs."""
    losses: tuple[Loss, ...]
    end: float
    """What is proved."""
    start_name: str = "claimed"
    end_name: str = "proved"

    def __post_init__(self) -> None:
        """Refuse steps that do not lead from the start to the end."""
        left = self.start - sum(loss.share for loss in self.losses)
        if not abs(left - self.end) <= 1e-6:
            raise ValueError(
                f"{self.start_name} {self.start} less the losses is {left}, not {self.end_name} "
                f"{self.end}: the losses must add up"
            )


def waterfall(data: Waterfall, title: str = "From the claim to the proof") -> str:
    """An SVG: the start, a step down for each loss (up, if it is negative), and the end."""
    levels = np.cumsum([data.start, *(-loss.share for loss in data.losses)])
    lowest = min(float(levels.min()), data.end)
    # A share of less than half is drawn from 0: its size is what matters.
    floor = np.floor(lowest * 10 - 0.5) / 10 if lowest > 0.55 else 0.0
    names_width, across, rows = 190, 420, len(data.losses) + 2
    bottom = _TOP + 30 * rows + 6

    def at(share: float) -> float:
        return names_width + across * (share - floor) / (1 - floor)

    note = "" if floor == 0 else f"the axis begins at {floor:.0%}"
    parts = _heading(title, note)
    for tick in np.linspace(floor, 1, 6):
        parts.append(line(at(tick), _TOP, at(tick), bottom, stroke=RULE))
        parts.append(
            text(at(tick), bottom + 15, f"{tick:.0%}", size=10, anchor="middle", fill=FAINT)
        )

    def row(n: int, name: str, note: str, low: float, high: float, fill: str, said: str) -> None:
        y = _TOP + 30 * n + 4
        length = max(at(high) - at(low), 0.0)
        parts.append(text(names_width - 10, y + 12, name, anchor="end", weight="600"))
        parts.append(text(names_width - 10, y + 23, note, size=9, anchor="end", fill=FAINT))
        parts.append(rect(at(low), y, length, 18, fill, f"{name}: {said}"))
        parts.append(text(at(high) + 6, y + 13, said, size=11))

    row(0, data.start_name, "", floor, data.start, QUIET, _percent(data.start))
    for n, loss in enumerate(data.losses):
        low, high = sorted((float(levels[n]), float(levels[n + 1])))
        fill, sign = (WARM, "-") if loss.share >= 0 else ("#4a8f5b", "+")
        said = f"{sign}{100 * abs(loss.share):.4g} %" if loss.share else "0"
        row(n + 1, loss.name, loss.note, max(low, floor), high, fill, said)
        x = at(float(levels[n]))
        parts.append(line(x, _TOP + 30 * n + 22, x, _TOP + 30 * n + 34, stroke=INK, dash="2 2"))
    x = at(data.end)
    parts.append(line(x, _TOP + 30 * rows - 38, x, _TOP + 30 * rows - 26, stroke=INK, dash="2 2"))
    row(rows - 1, data.end_name, "", floor, data.end, COLD, _percent(data.end))
    return document(names_width + across + 90, bottom + 26, title, parts)


def _percent(share: float) -> str:
    """To a thousandth of a percent, cut off and not rounded up, but for what adding up loses."""
    return f"{np.floor(share * 10**5 + 10**-6) / 10**3:.3f}".rstrip("0").rstrip(".") + " %"


def _heading(title: str, note: str, left: Pixels = 10) -> list[str]:
    return [
        text(left, 18, title, size=13, weight="bold"),
        text(left, 33, note, size=11, fill=FAINT),
    ]
