"""Of the page of the gate's measurements: what was measured on digits and their strangers."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"
KINDS = ("corner", "mid", "blend", "novel", "noise", "adversarial", "inverted", "rotated")
MONITORS = {
    "class_mahalanobis": "class-wise Mahalanobis",
    "relative_mahalanobis": "relative Mahalanobis",
    "mahalanobis": "Mahalanobis",
    "knn": "k nearest neighbours",
    "lof": "local outlier factor",
    "pca_residual": "PCA residual",
    "vae": "VAE",
    "isolation_forest": "isolation forest",
}


def read(name: str) -> Any:
    """The results of one benchmark."""
    return json.loads((RESULTS / f"gate_{name}.json").read_text())


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def percent(share: float, digits: int = 1) -> str:
    return f"{100 * share:.{digits}f} %"


def coverage_section() -> str:
    """Coverage, error, and monitors at equal coverage."""
    seeds = read("digits")["seeds"]
    rows = []
    for seed in seeds:
        quoted = seed["quoted"]
        worst = min(seed["monitors wrong at that coverage"].values())
        rows.append(
            [
                str(seed["seed"]),
                percent(quoted["coverage"]),
                f"{quoted['wrong']} of {quoted['admitted']}",
                str(quoted["cells"]),
                percent(seed["model wrong"], 2),
                str(worst),
            ]
        )
    wrong = sum(s["quoted"]["wrong"] for s in seeds)
    admitted = sum(s["quoted"]["admitted"] for s in seeds)
    rows.append(
        [
            "**mean**",
            f"**{percent(mean(s['quoted']['coverage'] for s in seeds))}**",
            f"**{wrong} of {admitted} = {percent(wrong / admitted, 2)}**",
            "",
            percent(mean(s["model wrong"] for s in seeds), 2),
            "",
        ]
    )
    head = [
        "seed",
        "coverage",
        "wrong among admitted",
        "cells",
        "the network alone",
        "best monitor",
    ]
    monitors = [
        [
            name,
            str(sum(s["monitors wrong at that coverage"][key] for s in seeds)),
            percent(sum(s["monitors wrong at that coverage"][key] for s in seeds) / admitted, 2),
        ]
        for key, name in MONITORS.items()
    ]
    levels = [
        [
            f"{row['margin']:g}",
            percent(mean(s["family"][i]["coverage"] for s in seeds)),
            percent(
                sum(s["family"][i]["wrong"] for s in seeds)
                / max(1, sum(s["family"][i]["admitted"] for s in seeds)),
                2,
            ),
            percent(mean(s["family"][i]["delta at alpha 0.05"] for s in seeds), 2),
        ]
        for i, row in enumerate(seeds[0]["family"])
    ]
    alphas = [
        [
            alpha,
            percent(mean(s["coverage by alpha"][alpha] for s in seeds), 2),
        ]
        for alpha in seeds[0]["coverage by alpha"]
    ]
    return f"""
## Digits, cut after the first layer

`python benchmarks/gate_digits.py`. An MLP 64-32-32-10; cells are searched in the training images,
certified by the kernel, and need mass on the check images (tau = 1e-5, alpha = 1e-3 in all). The
error is that of test images admitted.

{table(head, rows)}
"Best monitor": the fewest wrong test images of any monitor that admits equally many. All of them, over
the five seeds (the gate: {wrong}):

{table(["monitor, at equal coverage", "wrong", "share of what it admits"], monitors)}
The knob is the margin that a cell's evidence must show. What is *guaranteed* is the calibrated
delta: P(admitted and wrong) is at most that with 95 % confidence (450 check images can show
0.66 % at best); the error seen is far below it.

{table(["margin", "coverage", "wrong among admitted", "delta at 95 %"], levels)}
Less certainty, less coverage (G1):

{table(["alpha", "coverage"], alphas)}"""


def attack_section() -> str:
    """Adversarial images, and other strangers."""
    seeds = read("digits")["seeds"]
    rows = []
    for i, row in enumerate(seeds[0]["attacks"]):
        same = [s["attacks"][i] for s in seeds]
        attacks = sum(s["attacks"] for s in same)
        rows.append(
            [
                f"{row['margin']:g}",
                "-" if row["input ranges"] is None else f"{row['input ranges']:g}",
                percent(mean(s["coverage"] for s in same)),
                percent(sum(s["attacks admitted"] for s in same) / max(1, attacks)),
                percent(
                    sum(s["first points admitted"] for s in same)
                    / max(1, sum(s["first points"] for s in same))
                ),
                percent(
                    sum(s["adaptive"]["fooled"] for s in same)
                    / sum(s["adaptive"]["rows"] for s in same)
                )
                if all(s.get("adaptive") for s in same)
                else "not run",
            ]
        )
    strangers = []
    for kind, first in seeds[0]["anomalies"].items():
        for i, row in enumerate(first):
            same = [s["anomalies"][kind][i] for s in seeds]
            strangers.append(
                [
                    kind,
                    f"{row['margin']:g}",
                    "-" if row["input ranges"] is None else f"{row['input ranges']:g}",
                    percent(mean(s["coverage"] for s in same)),
                    percent(mean(s["admitted"] for s in same)),
                    percent(mean(s["admitted and wrong"] for s in same)),
                ]
            )
    head = [
        "margin",
        "input ranges",
        "coverage",
        "attacks admitted",
        "at the first point",
        "adaptive",
    ]
    return f"""
## Adversaries and strangers

The same gates. Attacks are those points of PGD (eps = 0.12, 40 steps) that change the answer: the
last one, or the first on its way. "Input ranges" adds a second cut: the pixels must be within so many
standard deviations of those of the cell's class. The first column's margin is the knob of above.
*Adaptive* is the share of the test images that the network answers rightly and that an attack which
descends towards the cells of a wrong class, inside the same ball, brings into one. What is refused
here is measured, not proved: another attack may do better.

{table(head, rows)}
{
        table(
            [
                "stranger",
                "margin",
                "input ranges",
                "coverage of clean images",
                "admitted",
                "admitted and wrong",
            ],
            strangers,
        )
    }"""


def anomaly_section() -> str:
    """Anomaly scores on eight kinds."""
    found = read("monitors")
    rows = []
    for row in found["table"]:
        rows.append(
            [
                row["score"],
                *(f"{row[kind]:.3f}" for kind in KINDS),
                f"{row['mean8']:.4f}",
                f"{row['worst8']:.3f}",
            ]
        )
    rows.sort(key=lambda row: -float(row[-2]))
    return f"""
## Telling anomalies apart: explained surprise

`python benchmarks/gate_monitors.py`. AUROC, mean over five seeds, detectors fitted on clean data.
Surprise is presumed: it ranks, and admits nothing. *Explained surprise* is the surprise of the first
layer under linear rules within the class answered, with that of the logit margin; its form was fixed
on other seeds, on these kinds. "@" names the layer.

{table(["score", *KINDS, "mean", "worst"], rows)}"""
