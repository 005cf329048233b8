"""The picture of a proof: how much each theorem proves, how long it is, and where it fails."""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

from ..kernel import ClassCount
from . import _svg

_HUES = ("#3b6fb6", "#c77c11", "#4a8f5b", "#9a4f96")
_LOW, _HIGH = (246, 240, 228), (150, 28, 28)  # a sequential ramp that survives grey scale


class Bar(NamedTuple):
    """One theorem in the left panel."""

    label: str
    bound: Fraction
    """The proved accuracy."""
    flops: int
    """The length of the proof."""


def proof_figure(
    title: str, bars: Sequence[Bar], truth: Fraction | None, by_class: Sequence[ClassCount]
) -> str:
    """An SVG with three panels.

    Upper left: for each theorem the proved accuracy on an axis of nines (0.9, 0.99, ...), with
    the true accuracy as a dashed line if it is known. Lower left: the length of each proof.
    Right: for each class (query and label) the share of its sequences that is not proved right.
    """
    parts = [_svg.text(24.0, 30.0, title, size=16, weight="600")]
    bottom = 100.0 + 44 * len(bars)
    parts += _bounds_panel(24.0, 64.0, 420.0, bars, truth, bottom)
    parts += _lengths_panel(24.0, bottom + 52, 420.0, bars)
    height = round(bottom) + 102 + 28 * len(bars)
    parts += _classes_panel(500.0, 64.0, height - 118.0, by_class)
    return _svg.document(500 + height - 118 + 90, height, title, parts)


def _nines(accuracy: Fraction) -> float:
    """0.9 is 1, 0.99 is 2, ...; beyond 7 nines, and for exactly 1, it is drawn at 7."""
    wrong = float(1 - accuracy)
    return 7.0 if wrong <= 0 else min(7.0, -math.log10(wrong))


def _bounds_panel(
    left: float,
    top: float,
    width: float,
    bars: Sequence[Bar],
    truth: Fraction | None,
    bottom: float,
) -> list[str]:
    values = [_nines(bar.bound) for bar in bars] + ([_nines(truth)] if truth is not None else [])
    last = max(2, math.ceil(max(values)))

    def at(nines: float) -> float:
        return left + width * nines / last

    parts = [
        _svg.text(left, top, "Proved accuracy: the model is right at least so often", weight="600")
    ]
    for nines in range(last + 1):
        label = "0." + "9" * nines if nines else "0"
        x = at(float(nines))
        parts.append(_svg.line(x, top + 12, x, bottom))
        parts.append(_svg.text(x, bottom + 18, label, size=11, anchor="middle", fill=_svg.FAINT))
    for row, bar in enumerate(bars):
        y = top + 24 + 44 * row
        scaled = bar.bound.numerator * 10**6 // bar.bound.denominator
        inside = f"{bar.label}: {scaled / 10**6:.6f}"
        parts.append(_svg.rect(left, y, at(_nines(bar.bound)) - left, 24, _HUES[row % len(_HUES)]))
        parts.append(_svg.text(left + 8, y + 17, inside, fill="#ffffff", weight="600"))
    if truth is not None:
        x = at(_nines(truth))
        parts.append(_svg.line(x, top + 12, x, bottom, _svg.INK, "4 3"))
        parts.append(_svg.text(x - 5, bottom - 4, "true accuracy", size=11, anchor="end"))
    return parts


def _lengths_panel(left: float, top: float, width: float, bars: Sequence[Bar]) -> list[str]:
    parts = [_svg.text(left, top, "Length of the proof, in FLOPs", weight="600")]
    powers = [math.log2(max(1, bar.flops)) for bar in bars]
    low, high = math.floor(min(powers)) - 1, math.ceil(max(powers)) + 1
    for row, (bar, power) in enumerate(zip(bars, powers, strict=True)):
        y = top + 28 + 28 * row
        x = left + 90 + (width - 170) * (power - low) / (high - low)
        hue = _HUES[row % len(_HUES)]
        parts.append(_svg.text(left, y + 4, bar.label))
        parts.append(_svg.line(left + 90, y, left + width - 80, y))
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="6" fill="{hue}"/>')
        parts.append(_svg.text(left + width - 70, y + 4, f"2^{power:.1f}"))
    return parts


def _classes_panel(
    left: float, top: float, side: float, by_class: Sequence[ClassCount]
) -> list[str]:
    queries = 1 + max(part.query for part in by_class)
    labels = 1 + max(part.label for part in by_class)
    cell_x, cell_y = side / labels, side / queries
    unproved = [(part, Fraction(part.size - part.correct, part.size)) for part in by_class]
    largest = max((share for _, share in unproved), default=Fraction(0))
    parts = [
        _svg.text(left, top, "Where the proof fails: share not proved right", weight="600"),
        _svg.rect(left, top + 12, side, side, "#f3f4f6"),
    ]
    for part, share in unproved:
        x, y = left + part.label * cell_x, top + 12 + side - (part.query + 1) * cell_y
        weight = float(share / largest) if largest else 0.0
        hint = f"query {part.query}, label {part.label}: {float(share):.4%} of {part.size}"
        fill = _ramp(math.sqrt(weight)) if share else "#ffffff"
        parts.append(_svg.rect(x, y, cell_x + 0.3, cell_y + 0.3, fill, hint if share else ""))
    below = top + side + 28
    parts.append(_svg.text(left + side / 2, below, "label (the maximum)", size=11, anchor="middle"))
    parts.append(_svg.text(left + side + 12, top + 24, f"{float(largest):.2%}", size=11))
    for step in range(60):
        y = top + 30 + (side - 40) * step / 60
        shade = _ramp(math.sqrt(1 - step / 59))
        parts.append(_svg.rect(left + side + 12, y, 12, (side - 40) / 60 + 0.3, shade))
    parts.append(_svg.text(left + side + 12, top + side + 4, "0", size=11))
    parts.append(
        f'<text transform="translate({left - 8:.1f} {top + 12 + side / 2:.1f}) rotate(-90)" '
        f'font-size="11" text-anchor="middle" fill="{_svg.INK}">query (the last token)</text>'
    )
    return parts


def _ramp(weight: float) -> str:
    mixed = (round(a + (b - a) * weight) for a, b in zip(_LOW, _HIGH, strict=True))
    return "#" + "".join(f"{channel:02x}" for channel in mixed)
