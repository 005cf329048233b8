"""What explanations take from surprise: a ladder of rules on digits, with data that came later.

    python benchmarks/gate_ladder.py [--seeds 5] [--out benchmarks/results/gate_ladder.json]

A network 64-32-32-10 (weight decay 1e-4) is trained on 900 digits, which are mined. Of the others
450 arrive in three shards, on which rules are counted, and 447 are only scored, after every step.
``pairs`` compares what is predicted of all pairs of sites without looking at a pair; ``ladder`` is
the discovery loop from an empty ledger; ``kinds`` the same with one kind of explanation;
``users_example`` is about two events of 10 %, one of which has the other in 90 %; ``tokens`` is the
loop on a task of sequences.

Notation: n inputs, g sites of a layer, p pairs of sites, c and d bins.
"""

import argparse
import json
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from compactproofs.gate import activations
from compactproofs.gate._events import class_variable, site_signs
from compactproofs.gate._explain import Budget, explain, take_mine
from compactproofs.gate._explanation import explained_cells
from compactproofs.gate._mined_network import layers_below, moments_below, variables_of
from compactproofs.gate._rule_book import MemoryBook
from compactproofs.gate._source import Batch, Source
from compactproofs.gate.propose import (
    CommonCause,
    Constant,
    Joint,
    Linear,
    Proposer,
    WeightsDerived,
)
from compactproofs.gate.propose._gaussian_pairs import pair_tables, with_margins
from compactproofs.kernel.gate import ReluNetwork, SiteGroup, Sites
from compactproofs.kernel.gate._credal import Statement, lower_probability
from compactproofs.kernel.gate._proportions import clopper_pearson, lower_mass
from compactproofs.training._digits import MlpSettings, digits_splits, train_mlp

MINED, CHECKED = 900, 450
WIDTH = 32


def pair_surprise(net: ReluNetwork, x: Any, layer: int, bins: int) -> dict[str, Any]:
    """Nats per pair of sites, n times the divergence of the checked counts from a prediction."""
    z = activations(net, Sites((SiteGroup("z", "pre", WIDTH),), "z", layer), x)
    below = activations(
        net, Sites((SiteGroup("z", "pre", net.widths[layer - 1]),), "z", layer - 1), x
    )
    acts = np.maximum(below.h, 0.0) if layer > 1 else below.h
    classes = z.outputs.argmax(axis=1)
    mined, later = slice(0, MINED), slice(MINED, MINED + CHECKED)
    levels = np.arange(1, bins) / bins
    varied = np.flatnonzero(np.ptp(z.h[mined], axis=0) > 0)
    edges = np.quantile(z.h[mined], levels, axis=0, method="inverted_cdf").T
    codes = np.stack([np.searchsorted(edges[i], z.h[:, i]) for i in range(WIDTH)], axis=1)
    pairs = np.array([(i, j) for i in varied for j in varied if i < j])
    i, j = pairs.T

    held = codes[:, :, None] == np.arange(bins)
    counts = {
        name: np.einsum("npc,npd->pcd", held[rows][:, i], held[rows][:, j], dtype=np.float64)
        for name, rows in (("mined", mined), ("later", later))
    }
    share = held[mined].mean(axis=0)
    layer_of = net.layers[layer - 1]
    plain = moments_below(acts[mined], layer_of.W, layer_of.b, 0)
    mixed = moments_below(acts[mined], layer_of.W, layer_of.b, 0, classes[mined])
    weights = pair_tables(plain, pairs, edges[i], edges[j])
    both = pair_tables(mixed, pairs, edges[i], edges[j])
    tables = np.ones((10, WIDTH, bins))
    np.add.at(tables, classes[mined], held[mined])
    tables /= tables.sum(axis=2, keepdims=True)
    classes_share = np.bincount(classes[mined], minlength=10) / MINED
    saturated = counts["mined"] + 0.5
    predictions = {
        "independent": share[i][:, :, None] * share[j][:, None, :],
        "weights": with_margins(weights, share[i], share[j]),
        "weights_gaussian_margins": weights,
        "class": np.einsum("k,kpc,kpd->pcd", classes_share, tables[:, i], tables[:, j]),
        "both": with_margins(both, share[i], share[j]),
        "floor": saturated / saturated.sum(axis=(1, 2), keepdims=True),
    }
    found = {name: float(divergence(counts["later"], p)) for name, p in predictions.items()}
    excess = found["independent"] - found["floor"]
    removed = {
        name: (found["independent"] - value) / excess
        for name, value in found.items()
        if name not in ("independent", "floor")
    }
    return {"layer": layer, "bins": bins, "pairs": len(pairs), "nats": found, "removed": removed}


def divergence(counts: Any, p: Any) -> Any:
    n = counts.sum(axis=(1, 2), keepdims=True)
    p = np.maximum(p, 1e-6)
    p = p / p.sum(axis=(1, 2), keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(counts > 0, counts * np.log(counts / n / p), 0.0)
    return terms.sum(axis=(1, 2)).mean()


def ladder(
    net: ReluNetwork, x: Any, y: Any, groups: tuple[str, ...], kinds: list[Proposer] | None
) -> dict[str, Any]:
    """The discovery loop from an empty ledger; every step with the surprise of fresh data."""
    sites = Sites(
        tuple(SiteGroup(name, "pre", WIDTH) for name in groups), groups[0], int(groups[0][3:])
    )
    h, outputs = activations(net, sites, x)
    source = Source.of(h, outputs, y)
    budget = Budget(mine=MINED, shard=CHECKED // 3, rounds=3, proposals=20, order=3)
    mined = take_mine(source, budget)
    book = MemoryBook(Fraction(1, 20))
    last = slice(MINED + CHECKED, None)
    began = time.perf_counter()
    found = explain(
        book,
        source,
        variables_of(sites, mined),
        mined,
        budget,
        proposers=kinds,
        below=layers_below(net, sites, x[:MINED]),
        watch=Batch(h[last], outputs[last], y[last]),
    )
    accepted = found.accepted
    start = 900 * float(np.log2(10) + sum(np.log2(v.size) for v in found.state.variables[1:]))
    watched = [start] + [step.watched or 0.0 for step in accepted]
    return {
        "groups": list(groups),
        "seconds": time.perf_counter() - began,
        "steps": [step.row() for step in found.steps if step.decision != "stored"],
        "accepted": len(accepted),
        "frozen": len(found.steps) + len(found.pending),
        "alpha_spent": float(book.spent),
        "falls_on_the_shard": found.always_shorter,
        "falls_on_watched": [bool(b < a) for a, b in zip(watched, watched[1:], strict=False)],
        "watched_bits": [round(value, 1) for value in watched],
        "bits_of_rules": found.bits,
        "largest_unexplained_bits": found.largest_unexplained,
        "compulsory_cells": len(found.compulsory),
        "explained_cells": len(explained_cells(found, book)),
    }


def users_example() -> list[dict[str, float]]:
    """A 10 %, B 10 %, P(B | A) = 0.9: the lower probability of A and B, alpha 1e-3 each."""
    alpha = Fraction(1, 1000)
    a, b, both = frozenset("A"), frozenset("B"), frozenset("AB")
    nothing = frozenset()
    rows = []
    for n in (100, 1000, 10_000, 100_000):
        k, joint = n // 10, 9 * n // 100
        marginals = [
            Statement(nothing, event, lower_mass(k, n, alpha), clopper_pearson(k, n, alpha).high)
            for event in (a, b)
        ]
        rule = Statement(a, b, lower_mass(joint, k, alpha), Fraction(1))
        seen, alone = np.array([0.09, 0.01, 0.01, 0.89]), np.array([0.01, 0.09, 0.09, 0.81])
        nats = n * (seen * np.log(seen / alone)).sum()
        rows.append(
            {
                "n": n,
                "marginals_only": float(lower_probability(both, marginals)),
                "independence": 0.01,
                "with_rule": float(lower_probability(both, [*marginals, rule])),
                "direct": float(lower_mass(joint, n, alpha)),
                "surprise_nats": float(nats),
            }
        )
    return rows


def majority(seed: int) -> dict[str, Any]:
    """Sequences of 9 bits, of which a network 9-16-2 tells the majority: from nothing."""
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 2, (24_000, 9)).astype(np.float64)
    y = (x.sum(axis=1) > 4.5).astype(np.int64)
    net = train_mlp(x[:1000], y[:1000], MlpSettings((16,), 100, seed=seed), outputs=2)
    sites = Sites((SiteGroup("pre1", "pre", 16), SiteGroup("logits", "readout", 2)), "pre1", 1)
    run = activations(net, Sites(sites.groups[:1], "pre1", 1), x)
    h = np.concatenate([run.h, run.outputs], axis=1)
    source = Source.of(h, run.outputs, y)
    budget = Budget(mine=2000, shard=2000, rounds=8, proposals=20)
    mined = take_mine(source, budget)
    size = sites.size
    variables = [
        class_variable(2, size, sites.slice("logits")),
        *site_signs("pre1", 0, size, range(16)),
    ]
    book = MemoryBook(Fraction(1, 100))
    watch = slice(20_000, None)
    found = explain(
        book,
        source,
        variables,
        mined,
        budget,
        below=layers_below(net, sites, x[:2000]),
        watch=Batch(h[watch], run.outputs[watch], y[watch]),
    )
    cells = explained_cells(found, book)
    return {
        "accuracy": float((run.outputs.argmax(axis=1) == y).mean()),
        "steps": [step.row() for step in found.steps if step.decision != "stored"],
        "falls_on_the_shard": found.always_shorter,
        "largest_unexplained_bits": found.largest_unexplained,
        "compulsory_cells": len(found.compulsory),
        "explained_cells": [
            {"events": [event.name for event in cell.pattern], "lower": cell.lower}
            for cell in cells
        ],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    default = Path(__file__).parent / "results" / "gate_ladder.json"
    parser.add_argument("--out", type=Path, default=default)
    options = parser.parse_args()
    parts = digits_splits(0)
    x = np.concatenate([part.x for part in parts])
    y = np.concatenate([part.y for part in parts])
    result: dict[str, Any] = {"pairs": [], "ladder": [], "kinds": []}
    kinds: dict[str, list[Proposer]] = {
        "joint": [Constant(), Joint()],
        "weights_derived": [WeightsDerived()],
        "linear": [Linear()],
        "common_cause": [CommonCause()],
    }
    for seed in range(options.seeds):
        settings = MlpSettings((WIDTH, WIDTH), 100, weight_decay=1e-4, seed=seed)
        net = train_mlp(x[:MINED], y[:MINED], settings)
        for layer in (1, 2):
            for bins in (2, 3):
                row = {"seed": seed} | pair_surprise(net, x, layer, bins)
                result["pairs"].append(row)
                print(json.dumps(row), flush=True)
        row = {"seed": seed} | ladder(net, x, y, ("pre1",), None)
        result["ladder"].append(row)
        print({k: v for k, v in row.items() if k != "steps"}, flush=True)
        if seed == 0:
            for name, proposers in kinds.items():
                row = {"seed": seed, "kind": name} | ladder(net, x, y, ("pre1",), proposers)
                result["kinds"].append(row)
                print({k: v for k, v in row.items() if k != "steps"}, flush=True)
            row = {"seed": seed} | ladder(net, x, y, ("pre1", "pre2"), None)
            result["ladder"].append(row)
            print({k: v for k, v in row.items() if k != "steps"}, flush=True)
    result["pairs_summary"] = summary(result["pairs"])
    result["users_example"] = users_example()
    result["tokens"] = [majority(seed) for seed in range(2)]
    print(json.dumps(result["pairs_summary"], indent=1), json.dumps(result["users_example"]))
    print([{k: v for k, v in row.items() if k != "steps"} for row in result["tokens"]])
    options.out.write_text(json.dumps(result, indent=1) + "\n")


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found = []
    for layer, bins in sorted({(row["layer"], row["bins"]) for row in rows}):
        own = [row for row in rows if (row["layer"], row["bins"]) == (layer, bins)]
        entry: dict[str, Any] = {"layer": layer, "bins": bins, "seeds": len(own)}
        for part in ("nats", "removed"):
            entry[part] = {
                name: [
                    round(float(np.mean([row[part][name] for row in own])), 3),
                    round(float(np.std([row[part][name] for row in own])), 3),
                ]
                for name in own[0][part]
            }
        found.append(entry)
    return found


if __name__ == "__main__":
    main()
