"""Write ``docs/crosscoder-measurements.md`` and its figure from ``results/crosscoders.jsonl``.

python benchmarks/crosscoder_page.py
"""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import mean
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "crosscoders.jsonl"
PAGE = ROOT / "docs" / "crosscoder-measurements.md"
FIGURE = ROOT / "docs" / "crosscoder-penalty.svg"
SEEDS = range(5)

Rows = dict[str, dict[str, Any]]
TOY_THEOREMS = (
    ("A, norm balls", "{seed}: A"),
    ("B, static tables alone, plain crosscoder", "{seed} plain: B plain"),
    ("B, static tables alone", "{seed} certificate: B plain"),
    ("B, tables and signs in label cells", "{seed} certificate: B"),
    ("C, label cells, plain crosscoder", "{seed} plain: C label"),
    ("C, label cells", "{seed} certificate: C label"),
    ("C, label cells, up to 2 features more", "{seed} certificate: C label, 2 features more"),
    ("C, full-support cells", "{seed} certificate: C support"),
    (
        "C, full-support cells, up to 2 features more",
        "{seed} certificate: C support, 2 features more",
    ),
    ("D", "{seed}: D"),
    ("brute force", "{seed}: brute force"),
)
OTHERS = (
    ("max-of-8, v=32, D", "max8v32 seed 0: D"),
    ("max-of-8, v=32, D without counting", "max8v32 seed 0: D without counting"),
    ("fetch and map, v=8, D", "fetch4v8 seed 0: D"),
    ("fetch and map, v=8, B with one feature", "fetch4v8 seed 0: B with one feature"),
    ("fetch and map, v=16, D", "fetch4v16 seed 0: D"),
    ("fetch and map, v=16, B with one feature", "fetch4v16 seed 0: B with one feature"),
    ("attention alone, v=16, D", "max4v16-attn seed 0: D"),
    ("attention alone, v=16, additive", "max4v16-attn seed 0: additive"),
    ("attention alone, v=64 (bundled max-of-4), D", "max-of-4: D"),
    ("attention alone, v=64 (bundled max-of-4), additive", "max-of-4: additive"),
    ("addition mod 31, D", "sum2v31 seed 0: D"),
    ("addition mod 31, D, at most 249 cells", "sum2v31 seed 0: D, 249 cells"),
    ("addition mod 31, D, at most 150 cells", "sum2v31 seed 0: D, 150 cells"),
    ("addition mod 31, brute force", "sum2v31 seed 0: brute force"),
    ("second of 4, two layers, cells", "second4v12x2 seed 0: cells"),
    ("second of 4, two layers, cells, both MLPs in lines", "second4v12x2 seed 0: cells, relaxed"),
    ("second of 4, two layers, brute force", "second4v12x2 seed 0: brute force"),
)


def share(row: dict[str, Any]) -> float:
    """The bound as a number."""
    return int(row["correct"]) / int(row["total"])


def percent(value: float) -> str:
    """Rounded down, so that only what is proved whole says 100 %."""
    return f"{int(value * 1e5) / 1e3:.3f} %"


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    names = list(head)
    lines = [names, ["---"] * len(names), *map(list, rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def toys(found: Rows) -> str:
    """Theorems on max-of-4, over seeds."""
    rows = []
    for name, pattern in TOY_THEOREMS:
        several = [
            found[key] for s in SEEDS if (key := f"max4v16 seed {pattern.format(seed=s)}") in found
        ]
        if not several:
            continue
        bounds = [share(one) for one in several]
        rows.append(
            [
                name,
                percent(mean(bounds)),
                percent(min(bounds)),
                percent(max(bounds)),
                f"{mean(one['flops'] for one in several) / 1e6:,.1f} M",
                f"{mean(one['times_shorter_than_brute_force'] for one in several):,.1f}",
                f"{mean(one['cpu_seconds'] for one in several):.1f}",
            ]
        )
    head = [
        "theorem",
        "mean",
        "worst seed",
        "best seed",
        "FLOPs",
        "brute force / this",
        "CPU s",
    ]
    return table(head, rows)


def claims(found: Rows) -> str:
    """What the crosscoders claim, and how well they reconstruct."""
    rows = []
    for kind in ("plain", "certificate"):
        several = [found[key] for s in SEEDS if (key := f"max4v16 seed {s} {kind}: claim") in found]
        if not several:
            continue
        worst = max(max(one["fvu"].values()) for one in several)
        rows.append(
            [
                kind,
                percent(mean(one["claimed"] / one["inputs"] for one in several)),
                percent(min(one["claimed"] / one["inputs"] for one in several)),
                f"{worst:.3%}",
                f"{mean(one['dominant_share'] for one in several):.3f}",
                f"{max(one['cpu_seconds_train'] for one in several):.1f}",
            ]
        )
    head = [
        "crosscoder",
        "claimed accuracy",
        "worst seed",
        "largest FVU of a site",
        "dominant share",
        "CPU s to train, at most",
    ]
    return table(head, rows)


def others(found: Rows) -> str:
    """The other tasks."""
    rows = []
    for name, key in OTHERS:
        if key not in found:
            continue
        row = found[key]
        rows.append(
            [
                name,
                f"{int(row['correct']):,} of {int(row['total']):,}",
                row["bound"],
                str(row.get("cells", "")),
                f"{row['flops'] / 1e6:,.1f} M",
                f"{row['times_shorter_than_brute_force']:,.3g}",
                f"{row['cpu_seconds']:.1f}",
            ]
        )
    head = [
        "model and theorem",
        "right",
        "bound",
        "cells",
        "FLOPs",
        "brute force / this",
        "CPU s",
    ]
    return table(head, rows)


def by_penalty(found: Rows) -> list[tuple[float, list[dict[str, Any]]]]:
    """The rows of each penalty, ascending."""
    weights: dict[float, list[dict[str, Any]]] = {}
    for key, row in found.items():
        if key.startswith("penalty "):
            weights.setdefault(float(key.split()[1]), []).append(row)
    return sorted(weights.items())


def penalties(found: Rows) -> str:
    """Dominant share, reconstruction and bound as the penalty grows."""
    rows = [
        [
            f"{weight:g}",
            f"{mean(one['dominant_share'] for one in several):.3f}",
            f"{mean(one['fvu_mid'] for one in several):.3%}",
            percent(mean(one["claimed"] / int(one["total"]) for one in several)),
            percent(mean(map(share, several))),
            percent(min(map(share, several))),
            percent(max(map(share, several))),
        ]
        for weight, several in by_penalty(found)
    ]
    head = [
        "penalty",
        "dominant share",
        "FVU before the MLP",
        "claimed",
        "theorem B, mean",
        "worst seed",
        "best seed",
    ]
    return table(head, rows)


def figure(found: Rows) -> None:
    """Dominant share and bound against the penalty, the best penalty marked."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "compactproofs"
    import matplotlib.pyplot as plt

    series = by_penalty(found)
    if not series:
        return
    least = min(weight for weight, _ in series if weight)
    place = [weight or least / 3 for weight, _ in series]
    bound = [mean(map(share, several)) for _, several in series]
    dominant = [mean(one["dominant_share"] for one in several) for _, several in series]
    _, axes = plt.subplots(figsize=(6.4, 3.8), layout="constrained")
    for at, (_, several) in zip(place, series, strict=True):
        axes.plot([at] * len(several), list(map(share, several)), "o", color="C0", alpha=0.3)
        shares = [one["dominant_share"] for one in several]
        axes.plot([at] * len(several), shares, "s", color="C1", alpha=0.3, markersize=4)
    axes.plot(place, bound, "-o", color="C0", label="proved by theorem B (static tables)")
    axes.plot(place, dominant, "-s", color="C1", markersize=5, label="dominant share")
    best = max(range(len(bound)), key=bound.__getitem__)
    axes.axvline(place[best], color="C0", linestyle=":", linewidth=1)
    axes.annotate(
        f"best mean: {bound[best]:.3f} at {series[best][0]:g}",
        (place[best], bound[best]),
        xytext=(6, 8),
        textcoords="offset points",
    )
    axes.set_xscale("log")
    axes.set_xticks(place, [f"{weight:g}" for weight, _ in series])
    axes.minorticks_off()
    axes.set_xlabel("weight of the interaction penalty")
    axes.set_ylim(0, 1.08)
    axes.legend(loc="lower left")
    axes.set_title("max-of-4, v=16, ReLU MLP: five seeds and their mean", fontsize=10)
    plt.savefig(FIGURE, metadata={"Date": None})


HEAD = """# Crosscoder theorems, measured

Made by `benchmarks/crosscoders.py`, which trains every model and crosscoder by its recipe. Bounds
are proved, in enclosures, and rounded down; FLOPs are those of the proof, the search is free. CPU
seconds of D and `cells` include their search, the others are those of verification. How to use
it: [crosscoders.md](crosscoders.md); what is proved: [theory.md](theory.md), section 7.

## Max-of-4, 16 tokens, ReLU MLP of 64 neurons, five seeds

65,536 inputs; every model answers all of them. Crosscoders have 64 features, 4 of them active, at
three sites of the last position. *plain* is trained to reconstruct alone; *certificate* on the
certified margin as well, as `compactproofs crosscoder train` does without options; rows that do not
say *plain* use the latter.
"""
PENALTY = """
*The interaction penalty.* A price on features that meet in one neuron buys certified accuracy up to
a point, where reconstruction begins to cost more than interaction.

![Dominant share and proved accuracy as the penalty grows](crosscoder-penalty.svg)
"""
OTHER_TASKS = """
## Other tasks

D and `cells` need no crosscoder. *Fetch and map* is the case where features exclude one another:
one feature an input, no interaction at all. *Addition* is the hard case, where the computation is
the interaction. Of the *two-layer* model `cells` runs all but the last MLP exactly; with both MLPs
in lines, the errors of the first go through the second attention as a cloud.
"""


def page(found: Rows) -> str:
    """The whole page."""
    parts: list[tuple[str, Callable[[Rows], str]]] = [
        (HEAD, claims),
        ("", toys),
        (PENALTY, penalties),
        (OTHER_TASKS, others),
    ]
    return "\n".join(f"{text}\n{make(found)}\n" for text, make in parts)


def main() -> None:
    """Write the page and the figure."""
    rows = map(json.loads, RESULTS.read_text().splitlines())
    found = {row["key"]: row for row in rows}
    PAGE.write_text(page(found))
    figure(found)


if __name__ == "__main__":
    main()
