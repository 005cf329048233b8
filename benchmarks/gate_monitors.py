"""Monitors against explained surprise: AUROC on eight kinds of anomalies, error against coverage.

python benchmarks/gate_monitors.py [--seeds 0 1 2 3 4] [--results FILE]

Digits, an MLP with two hidden layers of 32. Everything is fitted on clean rows that the model was
trained on, its tails on 450 clean held-out ones, and scored on 447 others. Writes
``results/gate_monitors.json`` after every seed (seeds that are there are not made again), then
prints the tables.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from compactproofs.gate._anomalies import (
    ANOMALIES,
    TARGET,
    TRIGGERS,
    Labelled,
    anomalous,
    training_data,
    trusted,
)
from compactproofs.gate._coverage_risk import auroc, clean_error_at_coverage
from compactproofs.gate._forward import activations
from compactproofs.gate._surprise import (
    BinRules,
    ClassLinearRules,
    ExplainedSurprise,
    LinearRules,
    Rung,
    Tail,
    small_margin,
)
from compactproofs.gate.monitors import MONITORS
from compactproofs.kernel.gate import ReluNetwork, SiteGroup, Sites
from compactproofs.training._digits import MlpSettings, digits_splits, train_mlp

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "gate_monitors.json"
SEEDS = range(5)
COVERAGES = (0.55, 0.6, 0.68, 0.75)
MODELS = {kind: (kind,) for kind in (*TRIGGERS, "novel")} | {"unharmed": ANOMALIES[4:]}
"""What each model under test is attacked with; the first kind says what it is trained on."""
SIX = ANOMALIES[:6]
"""The six kinds that the figures to reach speak of; the means are also given over all eight."""
LAYERS = {"pre1": "first hidden", "pre2": "second hidden", "pre3": "logits"}
HIDDEN = ("pre1", "pre2")
RUNGS: dict[str, Callable[[], Rung]] = {
    "rung: bins, independent": lambda: BinRules("none"),
    "rung: bins, pairwise tree": lambda: BinRules("pairs"),
    "rung: bins, class as cause": lambda: BinRules("class"),
    "rung: linear rules": LinearRules,
    "rung: linear rules within the class": ClassLinearRules,
}
Scores = dict[str, np.ndarray]
"""Of one score: on the held-out, the test and the anomalous rows."""


def sites_of(network: ReluNetwork) -> Sites:
    sizes = network.widths
    groups = [SiteGroup("input", "input", sizes[0])]
    groups += [SiteGroup(f"pre{i}", "pre", size) for i, size in enumerate(sizes) if i]
    return Sites(tuple(groups), cut="pre1", layer=1)


def all_scores(
    network: ReluNetwork, train: Labelled, rows: dict[str, np.ndarray]
) -> dict[str, Scores]:
    """Every score on every part of ``rows``; its part "held out" serves for tails."""
    sites = sites_of(network)
    h = {part: activations(network, sites, x).h for part, x in rows.items()}
    clean = activations(network, sites, train.x).h
    logits = sites.slice("pre3")
    answers = {part: values[:, logits].argmax(axis=1) for part, values in h.items()}
    found: dict[str, Scores] = {}
    for layer in LAYERS:
        part_of = sites.slice(layer)
        for name, monitor in MONITORS.items():
            fit = monitor().fit(clean[:, part_of], train.y)
            found[f"{name} @ {layer}"] = {p: fit.score(v[:, part_of]) for p, v in h.items()}
        for name, rung in RUNGS.items():
            learned = rung().fit(clean[:, part_of], train.y)
            found[f"{name} @ {layer}"] = {
                p: learned.surprise(v[:, part_of], answers[p]) for p, v in h.items()
            }
    found["small margin @ pre3"] = {p: small_margin(v[:, logits]) for p, v in h.items()}
    for name in (*MONITORS, *RUNGS):
        hidden = [found[f"{name} @ {layer}"] for layer in HIDDEN]
        found[f"{name} @ sum over hidden"] = combined(hidden, np.sum)
        found[f"{name} @ max over hidden"] = combined(hidden, np.max)
    prototype = [f"rung: {name} @ pre1" for name in ("linear rules", "bins, class as cause")]
    prototype += ["rung: linear rules within the class @ pre1", "small margin @ pre3"]
    found["max of four tails"] = combined([found[name] for name in prototype], np.max)
    for name, layers in (
        ("explained surprise", ("pre1",)),
        ("explained surprise, input sites too", ("input", "pre1")),
    ):
        monitor = ExplainedSurprise(tuple(sites.slice(layer) for layer in layers), logits)
        monitor.fit(clean, train.y).calibrate(h["held out"])
        found[name] = {part: monitor.score(values) for part, values in h.items()}
    return found


def combined(scores: list[Scores], how: Any) -> Scores:
    """The surprises of several scores, each in nats by its own tail, added up or the largest."""
    tails = [Tail(score["held out"]) for score in scores]
    return {
        part: how([t.surprise(s[part]) for t, s in zip(tails, scores, strict=True)], axis=0)
        for part in scores[0]
    }


def measured(seed: int) -> dict[str, Any]:
    """All figures of one seed: five models, eight kinds."""
    train, held_out, test = (Labelled(*part) for part in digits_splits(seed))
    row: dict[str, Any] = {"seed": seed, "alone": {}, "success": {}}
    row |= {"auroc": {}, "admitted": {}, "error": {}}
    for model, kinds in MODELS.items():
        network = train_mlp(*training_data(kinds[0], train, seed), MlpSettings(seed=seed))
        clean = trusted(kinds[0], test)
        wrong = logits_of(network, clean.x).argmax(axis=1) != clean.y
        row["alone"][model] = float(wrong.mean())
        made = {kind: anomalous(kind, network, test, seed) for kind in kinds}
        rows = {"held out": trusted(kinds[0], held_out).x, "test": clean.x, **made}
        for name, score in all_scores(network, trusted(kinds[0], train), rows).items():
            threshold = np.quantile(score["test"], 0.6)
            for kind in kinds:
                value = auroc(score["test"], score[kind])
                row["auroc"].setdefault(name, {})[kind] = round(value, 4)
                value = float((score[kind] <= threshold).mean())
                row["admitted"].setdefault(name, {})[kind] = round(value, 4)
            if model == "unharmed":
                row["error"][name] = {
                    str(c): round(clean_error_at_coverage(score["test"], wrong, c), 5)
                    for c in COVERAGES
                }
        for kind in kinds:
            row["success"][kind] = success(kind, network, made[kind], test)
    return row


def logits_of(network: ReluNetwork, x: np.ndarray) -> np.ndarray:
    return activations(network, sites_of(network), x).outputs


def success(kind: str, network: ReluNetwork, x: np.ndarray, test: Labelled) -> float:
    """How often a trigger or an attack works; for the others, how many anomalies there are."""
    if kind in TRIGGERS:
        return float((logits_of(network, x).argmax(axis=1) == TARGET).mean())
    return len(x) / len(test.y)


def table(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean and sd over seeds, the highest mean over all kinds first."""
    lines = []
    for name in rows[0]["auroc"]:
        by_kind = {k: [row["auroc"][name][k] for row in rows] for k in ANOMALIES}
        line: dict[str, Any] = {"score": name}
        for label, kinds in (("6", SIX), ("8", ANOMALIES)):
            means = np.mean([by_kind[k] for k in kinds], axis=0)
            line[f"mean{label}"] = round(float(means.mean()), 4)
            line[f"mean{label} sd"] = round(float(means.std()), 4)
            line[f"worst{label}"] = round(min(float(np.mean(by_kind[k])) for k in kinds), 4)
        line |= {k: round(float(np.mean(v)), 4) for k, v in by_kind.items()}
        line |= {f"{k} sd": round(float(np.std(v)), 4) for k, v in by_kind.items()}
        lines.append(line)
    return sorted(lines, key=lambda line: -line["mean8"])


def printed(rows: list[dict[str, Any]], lines: list[dict[str, Any]]) -> None:
    print(f"AUROC, mean over seeds {[row['seed'] for row in rows]}")
    print(
        f"{'score':52}",
        *(f"{k[:7]:>7}" for k in ANOMALIES),
        "  mean6+-sd     worst6  mean8  worst8",
    )
    for line in lines:
        print(
            f"{line['score']:52}",
            *(f"{line[k]:7.3f}" for k in ANOMALIES),
            f"  {line['mean6']:.4f}+-{line['mean6 sd']:.4f} {line['worst6']:.3f}"
            f"  {line['mean8']:.4f} {line['worst8']:.3f}",
        )
    print(f"\n{'error among admitted at coverage':52}", *(f"{c:>7}" for c in COVERAGES))
    for line in lines:
        errors = [[row["error"][line["score"]][str(c)] for row in rows] for c in COVERAGES]
        print(f"{line['score']:52}", *(f"{np.mean(e):7.4f}" for e in errors))
    alone = [row["alone"]["unharmed"] for row in rows]
    print(f"{'the model alone':52} {np.mean(alone):7.4f}")
    print(f"\n{'anomalies admitted at coverage 0.6':52}", *(f"{k[:7]:>7}" for k in ANOMALIES))
    for line in lines:
        shares = [[row["admitted"][line["score"]][k] for row in rows] for k in ANOMALIES]
        print(f"{line['score']:52}", *(f"{np.mean(s):7.3f}" for s in shares))
    print("\nsuccess of triggers and attacks, size of the others:", end=" ")
    print({k: round(float(np.mean([row["success"][k] for row in rows])), 3) for k in ANOMALIES})


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    options.add_argument("--results", type=Path, default=RESULTS)
    chosen = options.parse_args()
    kept = json.loads(chosen.results.read_text())["seeds"] if chosen.results.exists() else []
    done = {row["seed"]: row for row in kept}
    for seed in chosen.seeds:
        if seed not in done:
            done[seed] = measured(seed)
        written(chosen.results, [done[s] for s in sorted(done)])
    rows = [done[s] for s in chosen.seeds]
    printed(rows, table(rows))


def written(results: Path, rows: list[dict[str, Any]]) -> None:
    """One line a seed, one line a score."""
    parts = {"seeds": rows, "table": table(rows)}
    lines = [
        f'"{part}": [\n' + ",\n".join(json.dumps(row) for row in found) + "\n]"
        for part, found in parts.items()
    ]
    results.parent.mkdir(parents=True, exist_ok=True)
    results.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
