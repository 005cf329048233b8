"""Figures of the ladder, from the plain data of ``compactproofs frontier`` and of a sweep.

Each takes one model's data or several. Static pictures are drawn by matplotlib, interactive ones by
plotly; both are imported when a figure is asked for.
"""

import io
from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np

from ..kernel import UserError
from ._families import FAMILIES, colour

Found = Mapping[str, Any]


class MissingExtraError(UserError):
    """A plotting library is not installed."""


def _matplotlib() -> Any:
    try:
        from matplotlib import rc_context
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError(
            "figures need matplotlib: pip install 'compactproofs[report]'"
        ) from None
    with rc_context({"svg.fonttype": "none"}):
        figure = Figure(figsize=(9, 5.6), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


@final
class Plot:
    """A static picture."""

    def __init__(self, figure: Any) -> None:
        """Keep a matplotlib figure."""
        self._figure = figure

    def svg(self) -> str:
        """The picture as SVG text, the same for the same data."""
        from matplotlib import rc_context

        out = io.StringIO()
        with rc_context({"svg.hashsalt": "compactproofs", "svg.fonttype": "none"}):
            self._figure.savefig(out, format="svg", metadata={"Date": None})
        return out.getvalue()

    def png(self, dpi: int = 150) -> bytes:
        """The picture as PNG bytes."""
        out = io.BytesIO()
        self._figure.savefig(out, format="png", dpi=dpi, metadata={"Software": None})
        return out.getvalue()


def _several(found: Found | Sequence[Found]) -> list[Found]:
    return [found] if isinstance(found, Mapping) else list(found)


def _by_name(models: Sequence[Found]) -> dict[str, list[Mapping[str, Any]]]:
    points: dict[str, list[Mapping[str, Any]]] = {}
    for one in models:
        for point in one["points"]:
            points.setdefault(point["name"], []).append(point)
    return points


def _log2(points: Sequence[Mapping[str, Any]], key: str) -> float:
    return float(np.mean([np.log2(max(1.0, float(p[key]))) for p in points]))


def _title(models: Sequence[Found], what: str) -> str:
    if len(models) == 1:
        return f"{what}: {models[0]['model'] or models[0]['model_sha256'][:12]}"
    return f"{what}: {len(models)} models at {models[0]['task']}"


def frontier_figure(found: Found | Sequence[Found]) -> Plot:
    """Length against bound; the steps join the strategies that no other beats."""
    models = _several(found)
    figure = _matplotlib()
    axes = figure.add_subplot()
    means: list[tuple[float, float]] = []
    seen: set[str] = set()
    for points in _by_name(models).values():
        family = points[0]["family"]
        x = _log2(points, "flops")
        bounds = [p["normalised"] for p in points]
        y, spread = float(np.mean(bounds)), float(np.std(bounds)) if len(bounds) > 1 else 0.0
        means.append((x, y))
        axes.errorbar(
            x,
            y,
            yerr=spread or None,
            fmt="*" if family == "brute force" else "o",
            markersize=12 if family == "brute force" else 5,
            color=colour(family),
            alpha=0.85,
            elinewidth=0.8,
            label=None if family in seen else family,
        )
        seen.add(family)
    steps: list[tuple[float, float]] = []
    for x, y in sorted(means, key=lambda point: (point[0], -point[1])):
        if not steps or y > steps[-1][1]:
            steps.append((x, y))
    if steps:
        end = max(x for x, _ in means) + 0.3
        axes.step(
            [x for x, _ in steps] + [end],
            [y for _, y in steps] + [steps[-1][1]],
            where="post",
            color="#9aa3ad",
            linewidth=1,
            zorder=0,
            label="no strategy beats these",
        )
    trivial = float(np.mean([m["trivial"]["bound"] / m["accuracy"]["value"] for m in models]))
    axes.axhline(trivial, color="#b0413e", linestyle=":", linewidth=1)
    axes.text(
        0.995,
        trivial + 0.01,
        "a constant answer",
        transform=axes.get_yaxis_transform(),
        ha="right",
        color="#b0413e",
        fontsize=8,
    )
    axes.set_xlabel("proof length, log2 FLOPs")
    axes.set_ylabel("proved bound / accuracy")
    axes.set_ylim(-0.03, 1.05)
    axes.set_title(_title(models, "Bound against length"), fontsize=11)
    _finish(axes)
    return Plot(figure)


def dimension_figure(found: Found | Sequence[Found]) -> Plot:
    """Length against unexplained dimension, both log2; one point a strategy."""
    models = _several(found)
    figure = _matplotlib()
    axes = figure.add_subplot()
    seen: set[str] = set()
    for points in _by_name(models).values():
        family = points[0]["family"]
        axes.plot(
            _log2(points, "unexplained_dimension"),
            _log2(points, "flops"),
            "*" if family == "brute force" else "o",
            markersize=12 if family == "brute force" else 6,
            color=colour(family),
            alpha=0.8,
            label=None if family in seen else family,
        )
        seen.add(family)
    axes.set_xlabel("unexplained dimension, log2")
    axes.set_ylabel("proof length, log2 FLOPs")
    axes.set_title(_title(models, "What is left unexplained"), fontsize=11)
    _finish(axes)
    return Plot(figure)


def faithfulness_figure(found: Found | Sequence[Found]) -> Plot:
    """How near the QK circuit is to rank one against the best bound of each family.

    A least-squares line for each family with three models or more.
    """
    models = [one for one in _several(found) if len(one["qk_singular_values"]) > 1]
    figure = _matplotlib()
    axes = figure.add_subplot()
    best: dict[str, list[tuple[float, float]]] = {}
    for one in models:
        first, second = one["qk_singular_values"][:2]
        of_family: dict[str, float] = {}
        for point in one["points"]:
            family = point["family"]
            of_family[family] = max(of_family.get(family, 0.0), point["normalised"])
        for family, bound in of_family.items():
            best.setdefault(family, []).append((first / max(second, 1e-300), bound))
    for family in sorted(best, key=list(FAMILIES).index if set(best) <= set(FAMILIES) else None):
        x, y = np.array(best[family]).T
        axes.plot(x, y, "o", markersize=4, color=colour(family), alpha=0.7, label=family)
        if len(x) >= 3 and np.ptp(x) > 0:
            slope, at_zero = np.polyfit(x, y, 1)
            ends = np.array([x.min(), x.max()])
            axes.plot(ends, slope * ends + at_zero, color=colour(family), linewidth=1)
    axes.set_xlabel("sigma1 / sigma2 of the QK circuit")
    axes.set_ylabel("best proved bound / accuracy")
    axes.set_ylim(-0.03, 1.05)
    axes.set_title(_title(models or _several(found), "Faithfulness"), fontsize=11)
    _finish(axes)
    return Plot(figure)


def _finish(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    order = list(FAMILIES)
    entries = sorted(
        zip(*axes.get_legend_handles_labels(), strict=True),
        key=lambda entry: order.index(entry[1]) if entry[1] in order else len(order),
    )
    if entries:
        axes.legend(
            [handle for handle, _ in entries],
            [label for _, label in entries],
            loc="center left",
            bbox_to_anchor=(1.01, 0.5),
            fontsize=8,
            frameon=False,
        )


def interactive_frontier(found: Found) -> str:
    """The first figure as an HTML fragment with hovering; needs plotly's script on the page."""
    try:
        import plotly.graph_objects as plotly
    except ImportError:
        raise MissingExtraError(
            "interactive figures need plotly: pip install 'compactproofs[report]'"
        ) from None
    figure = plotly.Figure()
    points = list(found["points"])
    for family in dict.fromkeys(p["family"] for p in points):
        of_family = [p for p in points if p["family"] == family]
        figure.add_scatter(
            x=[float(np.log2(max(1, p["flops"]))) for p in of_family],
            y=[p["bound"] for p in of_family],
            mode="markers",
            name=family,
            marker={"color": colour(family), "size": 9},
            text=[
                f"{p['name']}<br>bound {p['bound']:.7f}<br>{p['flops']:,} FLOPs<br>"
                f"unexplained dimension {p['unexplained_dimension']:,}<br>"
                f"search {p['seconds_search']:.2f} s, verify {p['seconds_verify']:.2f} s"
                for p in of_family
            ],
            hovertemplate="%{text}<extra></extra>",
        )
    names = set(found["pareto"])
    steps = sorted(
        (float(np.log2(max(1, p["flops"]))), p["bound"]) for p in points if p["name"] in names
    )
    figure.add_scatter(
        x=[x for x, _ in steps],
        y=[y for _, y in steps],
        mode="lines",
        line={"shape": "hv", "color": "#9aa3ad", "width": 1},
        name="no strategy beats these",
        hoverinfo="skip",
    )
    figure.add_hline(y=found["trivial"]["bound"], line_dash="dot", line_color="#b0413e")
    figure.update_layout(
        template="plotly_white",
        height=520,
        margin={"l": 60, "r": 20, "t": 20, "b": 50},
        xaxis_title="proof length, log2 FLOPs",
        yaxis_title="proved bound",
    )
    return str(
        figure.to_html(full_html=False, include_plotlyjs=False, div_id="interactive-frontier")
    )


def plotly_script() -> str:
    """Plotly's JavaScript, to be put on a page once."""
    try:
        from plotly.offline import get_plotlyjs
    except ImportError:
        raise MissingExtraError(
            "interactive figures need plotly: pip install 'compactproofs[report]'"
        ) from None
    return str(get_plotlyjs())
