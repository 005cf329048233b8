"""Features on a circle, joined where they interact, in plain SVG."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64

from ._svg import FAINT, document, text

_HUES = (
    "#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#17becf",
    "#bcbd22", "#393b79", "#637939", "#8c6d31", "#843c39", "#7b4173",
)  # fmt: skip
_ALONE = "#c3c7cd"
_SIDE, _RADIUS = 560, 218.0


class Edge(NamedTuple):
    """Two features and how much they interact."""

    first: int
    second: int
    weight: float


def circle_order(groups: Int64[np.ndarray, " H"], features: Sequence[int]) -> list[int]:
    """Features group by group; those without one last."""
    last = int(groups.max(initial=0)) + 1
    return sorted(features, key=lambda i: (last if groups[i] < 0 else int(groups[i]), i))


def interaction_graph(
    edges: Sequence[Edge], groups: Int64[np.ndarray, " H"], title: str, note: str = ""
) -> str:
    """An SVG: the features of ``edges`` in the order of their groups, a chord for each edge.

    groups: the group of every feature, -1 for none; features of one have one colour. A chord is
    as wide and as dark as its weight, relative to the largest.
    """
    features = circle_order(groups, sorted({i for edge in edges for i in edge[:2]}))
    angle = {i: 2 * math.pi * n / max(1, len(features)) for n, i in enumerate(features)}
    middle = _SIDE / 2

    def place(i: int, radius: float) -> tuple[float, float]:
        return middle + radius * math.sin(angle[i]), middle + 22 - radius * math.cos(angle[i])

    most = max((edge.weight for edge in edges), default=1.0) or 1.0
    strength: dict[int, float] = dict.fromkeys(features, 0.0)
    parts = [
        text(14, 22, title, size=14, weight="bold"),
        text(14, 38, note, size=11, fill=FAINT),
    ]
    for edge in sorted(edges, key=lambda edge: edge.weight):
        part = edge.weight / most
        (x1, y1), (x2, y2) = place(edge.first, _RADIUS), place(edge.second, _RADIUS)
        own = groups[edge.first] == groups[edge.second] >= 0
        hue = _hue(int(groups[edge.first])) if own else "#7d8590"
        parts.append(
            f'<path d="M{x1:.1f} {y1:.1f} Q{middle:.1f} {middle + 22:.1f} {x2:.1f} {y2:.1f}" '
            f'fill="none" stroke="{hue}" stroke-width="{0.6 + 6 * part:.2f}" '
            f'stroke-opacity="{0.2 + 0.6 * math.sqrt(part):.2f}"><title>features {edge.first} and '
            f"{edge.second}: {edge.weight:.4g}</title></path>"
        )
        for i in edge[:2]:
            strength[i] += edge.weight
    largest = max(strength.values(), default=1.0) or 1.0
    for i in features:
        x, y = place(i, _RADIUS)
        size = 3.5 + 6 * math.sqrt(strength[i] / largest)
        group = int(groups[i])
        said = f"feature {i}" + (f", group {group}" if group >= 0 else "")
        parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size:.1f}" fill="{_hue(group)}" '
            f'stroke="#ffffff"><title>{said}: {strength[i]:.4g} in all</title></circle>'
        )
        x, y = place(i, _RADIUS + 20)
        parts.append(text(x, y + 4, str(i), size=10, anchor="middle"))
    return document(_SIDE, _SIDE + 30, title, parts)


def _hue(group: int) -> str:
    return _HUES[group % len(_HUES)] if group >= 0 else _ALONE
