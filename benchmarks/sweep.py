"""The published sweep: many seeds, every K, all families. Builds docs/ladder.md from the results.

    python benchmarks/sweep.py            run what is missing (resumes), then build the page
    python benchmarks/sweep.py --page     build the page alone
    python benchmarks/sweep.py --only k=20,v=64 --processes 2

Every number on the page comes from the JSON lines beside it.
"""

import argparse
import json
from pathlib import Path
from typing import Any, NamedTuple

import as_published
from compactproofs._sweep import SweepSettings, parse_seeds, read_results, sweep
from compactproofs.cli._sweep import summary

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "sweep"
MODELS = ROOT / "out" / "sweep-models"
PAGE = ROOT / "docs" / "ladder.md"


class Piece(NamedTuple):
    """One file of results."""

    name: str
    task: str
    seeds: str
    strategies: str = "families"


PIECES = (
    Piece("k=4,v=64", "max:k=4,v=64", "0-150", "families,refined"),
    Piece("k=5,v=64", "max:k=5,v=64", "0-19", "families,refined"),
    Piece("k=10,v=64", "max:k=10,v=64", "0-19", "families,refined"),
    Piece("k=20,v=64", "max:k=20,v=64", "0-19", "families,refined"),
    Piece("k=10,v=128", "max:k=10,v=128", "0-19"),
    Piece("k=4,v=64,all", "max:k=4,v=64", "0-19", "all"),
)

# Reference: the authors' result files, 151 seeds, figure sources of 2024-12-09 (mean, sample std).
PAPER: dict[str, dict[str, tuple[float, float]]] = {
    "brute force": {
        "k=4,v=64": (0.9992, 0.0015),
        "k=5,v=64": (0.9990, 0.0018),
        "k=10,v=64": (0.9988, 0.0013),
        "k=20,v=64": (0.995, 0.015),
        "k=10,v=128": (0.9972, 0.0031),
    },
    "cubic": {
        "k=4,v=64": (0.9539, 0.0080),
        "k=5,v=64": (0.942, 0.010),
        "k=10,v=64": (0.915, 0.021),
        "k=20,v=64": (0.888, 0.036),
        "k=10,v=128": (0.885, 0.012),
    },
    "subcubic": {
        "k=4,v=64": (0.700, 0.036),
        "k=5,v=64": (0.702, 0.033),
        "k=10,v=64": (0.673, 0.030),
        "k=20,v=64": (0.563, 0.041),
        "k=10,v=128": (0.613, 0.037),
    },
    "attention-vd²": {
        "k=4,v=64": (0.675, 0.035),
        "k=5,v=64": (0.682, 0.033),
        "k=10,v=64": (0.658, 0.028),
        "k=20,v=64": (0.549, 0.041),
        "k=10,v=128": (0.595, 0.035),
    },
    "direct-quadratic": {
        "k=4,v=64": (0.633, 0.062),
        "k=5,v=64": (0.649, 0.055),
        "k=10,v=64": (0.640, 0.032),
        "k=20,v=64": (0.540, 0.040),
        "k=10,v=128": (0.609, 0.030),
    },
    "attention-vd², direct-quadratic": {
        "k=4,v=64": (0.610, 0.060),
        "k=5,v=64": (0.629, 0.053),
        "k=10,v=64": (0.626, 0.031),
        "k=20,v=64": (0.528, 0.039),
        "k=10,v=128": (0.596, 0.030),
    },
    "attention-quadratic": {
        "k=4,v=64": (0.316, 0.037),
        "k=5,v=64": (0.354, 0.034),
        "k=10,v=64": (0.393, 0.030),
        "k=20,v=64": (0.323, 0.035),
        "k=10,v=128": (0.351, 0.029),
    },
    "attention-quadratic, direct-quadratic": {
        "k=4,v=64": (0.283, 0.037),
        "k=5,v=64": (0.336, 0.033),
        "k=10,v=64": (0.391, 0.028),
        "k=20,v=64": (0.322, 0.034),
        "k=10,v=128": (0.385, 0.025),
    },
}

FAMILIES = (
    "attention-quadratic, direct-quadratic",
    "attention-quadratic",
    "direct-quadratic",
    "attention-vd², direct-quadratic",
    "subcubic",
    "attention-vd²",
    "collapsed sub-cubic",
    "cubic",
    "collapsed cubic",
    "windowed",
    "additive",
    "additive, refined",
)


def run(pieces: list[Piece], processes: int, *, skip_corrupt: bool) -> None:
    RESULTS.mkdir(parents=True, exist_ok=True)
    for piece in pieces:
        settings = SweepSettings(task=piece.task, strategies=piece.strategies)
        path = RESULTS / f"{piece.name}.jsonl"
        seeds = parse_seeds(piece.seeds)
        for result in sweep(
            settings, seeds, path, processes=processes, skip_corrupt=skip_corrupt, models=MODELS
        ):
            print(f"{piece.name} seed {result['seed']}: {result['seconds']} s", flush=True)


def page() -> str:
    found = {
        piece.name: read_results(RESULTS / f"{piece.name}.jsonl")
        for piece in PIECES
        if (RESULTS / f"{piece.name}.jsonl").exists()
    }
    lines = [
        "# The ladder of proofs, over many models",
        "",
        "Made by `benchmarks/sweep.py` from `benchmarks/results/sweep/*.jsonl`; every number is",
        "read from there. *Normalised* is the proved bound over the model's accuracy: exact (brute",
        "force) at K=4, sampled (1,000,000 sequences) above. For each model the best strategy of a",
        "family counts; mean +- sample standard deviation over models. *Paper*: the authors' own",
        "results, 151 models each, trained by the same recipe from other seeds.",
        "*Published code, these models*: the strategies as the paper's code computes them,",
        "defects in, run on our models (no proofs). The whole sweep",
        f"took {_hours(found)} hours of one core.",
        "",
        "![sigma1/sigma2 of the QK circuit against bound](faithfulness.svg)",
        "",
    ]
    for piece in PIECES:
        if piece.name not in found or piece.strategies == "all":
            continue
        lines += _table(piece, found[piece.name])
    lines += _scale()
    if "k=4,v=64,all" in found:
        lines += _all_strategies(found["k=4,v=64,all"])
    return "\n".join(lines).rstrip() + "\n"


def _hours(found: dict[str, list[dict[str, Any]]]) -> str:
    seconds = sum(result["seconds"] for results in found.values() for result in results)
    return f"{seconds / 3600:.1f}"


def _table(piece: Piece, results: list[dict[str, Any]]) -> list[str]:
    rows = {str(row["family"]): row for row in summary(results)}  # type: ignore[arg-type]
    accuracy = [r["accuracy"]["value"] for r in results]
    mean = sum(accuracy) / len(accuracy)
    std = (sum((a - mean) ** 2 for a in accuracy) / max(1, len(accuracy) - 1)) ** 0.5
    paper = PAPER["brute force"].get(piece.name)
    kind = results[0]["accuracy"]["kind"]
    lines = [
        f"## {piece.task}: {len(results)} models",
        "",
        f"Accuracy ({kind}): {mean:.4f} +- {std:.4f}"
        + (f"; paper {paper[0]:.4f} +- {paper[1]:.4f}." if paper else "."),
        "",
        "| family | normalised bound | standard error | paper | published code, these models "
        "| log2 FLOPs | unexplained dimension |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    published = as_published.summary(piece.name)
    for family in FAMILIES:
        if family not in rows:
            continue
        row = rows[family]
        again = published.get(family)
        theirs = PAPER.get(family, {}).get(piece.name)
        lines.append(
            f"| {family} | {row['mean']:.4f} +- {row['std']:.4f} "
            f"| {float(row['std']) / int(row['seeds']) ** 0.5:.4f} "
            f"| {f'{theirs[0]:.3f} +- {theirs[1]:.3f}' if theirs else '-'} "
            f"| {f'{again[0]:.3f} +- {again[1]:.3f}' if again else '-'} "
            f"| {row['log2_flops']:.2f} | {row['unexplained_dimension']:,.0f} |"
        )
    return [*lines, "", *_refined(results), *_above(piece)]


def _refined(results: list[dict[str, Any]]) -> list[str]:
    """How far the refined additive proof stays below the accuracy, and what it takes."""
    rows = []
    for result in results:
        of = {point["family"]: point for point in result["points"]}
        if "additive, refined" in of:
            rows.append((result["accuracy"]["value"], of["additive, refined"], of))
    if not rows:
        return []
    gaps = [accuracy - point["bound"] for accuracy, point, _ in rows]
    text = f"Additive, refined: on average {sum(gaps) / len(gaps):.5f} below the accuracy"
    exact = [(point, of["brute force"]) for _, point, of in rows if "brute force" in of]
    if exact:
        equal = sum(point["correct"] == brute["correct"] for point, brute in exact)
        ratio = [
            (point["seconds_search"] + point["seconds_verify"]) / brute["seconds_verify"]
            for point, brute in exact
        ]
        text += (
            f"; equal to the exact one on {equal} of {len(exact)} models, in "
            f"{sum(ratio) / len(ratio):.2f} (at most {max(ratio):.2f}) of brute force's seconds"
        )
    return [text + ".", ""]


def _above(piece: Piece) -> list[str]:
    """Whether a strategy as published lies above ours at its FLOPs."""
    compared = as_published.compared(piece.name)
    if not compared:
        return []
    above, other = as_published.above_frontier(piece.name)
    text = (
        f"Strategies as published (`benchmarks/as_published.py`, no proofs) above our frontier at "
        f"their FLOPs: {len(above)}, on {len(compared) - len(other)} models"
    )
    return [text + (f"; {len(other)} could not be trained again." if other else "."), ""]


def _scale() -> list[str]:
    """The largest vocabularies, from ``benchmarks/scale.py``."""
    rows = json.loads((RESULTS.parent / "scale.json").read_text())
    lines = [
        "## Larger vocabularies: k=4, d=32",
        "",
        f"Made by `benchmarks/scale.py`; each model by `{rows[0]['recipe']}` with its own v.",
        "",
        "| v | sampled accuracy | theorem | proved | log2 FLOPs | seconds | MB |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        proved = (
            f"{row['bound_decimal']} | {_log2(float(row['flops'])):.2f} | {row['seconds_prove']} "
            f"| {row['peak_mb']}"
            if "bound_decimal" in row
            else f"stopped after {row['stopped_after_seconds']} s | | |"
        )
        lines.append(
            f"| {row['v']} | {row['accuracy_sampled']:.4f} | {row['theorem']} | {proved} |"
        )
    return [*lines, ""]


def _all_strategies(results: list[dict[str, Any]]) -> list[str]:
    by_name: dict[str, list[dict[str, Any]]] = {}
    for result in results:
        for point in result["points"]:
            by_name.setdefault(point["name"], []).append(point)
    count = len(results)
    on_frontier = {name: sum(name in result["pareto"] for result in results) for name in by_name}
    lines = [
        f"## Every strategy, K=4: {count} models",
        "",
        "Mean normalised bound, FLOPs, unexplained dimension, seconds of search and verification,",
        "and on how many models no other strategy has as good a bound with as few FLOPs.",
        "",
        "| strategy | bound | log2 FLOPs | dimension | search s | verify s | on the frontier |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    order = sorted(by_name.items(), key=lambda item: -sum(p["normalised"] for p in item[1]))
    for name, points in order:
        n = len(points)

        def mean(key: str) -> float:
            return sum(float(p[key]) for p in points) / n  # noqa: B023

        lines.append(
            f"| {name} | {mean('normalised'):.4f} | {_log2(mean('flops')):.2f} "
            f"| {mean('unexplained_dimension'):,.0f} | {mean('seconds_search'):.2f} "
            f"| {mean('seconds_verify'):.2f} | {on_frontier[name]} |"
        )
    return [*lines, ""]


def faithfulness() -> str:
    """The QK circuit's sigma1/sigma2 against the best bound of each family, over the models."""
    from compactproofs.report import faithfulness_figure

    return faithfulness_figure(read_results(RESULTS / "k=4,v=64.jsonl")).svg()


def _log2(number: float) -> float:
    from math import log2

    return log2(number)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--page", action="store_true", help="build the page, run nothing")
    parser.add_argument("--only", default="", help="one piece, as k=20,v=64")
    parser.add_argument("--seeds", default="", help="fewer seeds than the piece has")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--skip-corrupt", action="store_true")
    arguments = parser.parse_args()
    pieces = [p for p in PIECES if arguments.only in ("", p.name)]
    if not pieces:
        parser.error(f"no piece {arguments.only!r}: {', '.join(p.name for p in PIECES)}")
    if arguments.seeds:
        pieces = [p._replace(seeds=arguments.seeds) for p in pieces]
    if not arguments.page:
        run(pieces, arguments.processes, skip_corrupt=arguments.skip_corrupt)
    PAGE.write_text(page())
    (PAGE.parent / "faithfulness.svg").write_text(faithfulness())
    print(json.dumps({"page": str(PAGE.relative_to(ROOT))}))


if __name__ == "__main__":
    main()
