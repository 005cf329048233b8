"""Float32 semantics against float32 evaluations: what it costs, and whether any sequence breaks it.

    python benchmarks/float32.py [--share 1.0]

For the bundled models: every theorem's bound under both semantics; then at least 10^8 sequences
(times --share) evaluated in float32 by numpy and torch in several ways, and sequences of the
smallest margins by the slow evaluations of ``tests/soundness/float32_evaluations.py``. Every
sequence that some evaluation gets wrong is looked up: the proof must not have counted it as right.
Writes ``results/float32.json`` and ``docs/float32.md``.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch

import compactproofs as cp
from compactproofs.kernel import THEOREMS, Model, integer_tables, verify_tables
from compactproofs.kernel._ledger import Ledger
from compactproofs.kernel._margins import Margins
from compactproofs.models import resolve_model

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))
evaluations: Any = import_module("soundness.float32_evaluations")

RESULTS = ROOT / "benchmarks" / "results" / "float32.json"
PAGE = ROOT / "docs" / "float32.md"
MODELS = {"max-of-4": 4, "max-of-10": 10, "max-of-20": 20}
SAMPLED = 10_000_000  # sequences a pass where not all can be taken
PASSES = {"max-of-4": 4, "max-of-10": 2, "max-of-20": 2}
NEAR_TIES = 20_000
STYLES = 24

Logits = Callable[[np.ndarray], np.ndarray]


def torch_logits(model: Model, *, subtract: bool, divide_first: bool, einsum: bool) -> Logits:
    """Float32 logits by torch, from tokens ``[n, k]``."""
    W = {n: torch.tensor(getattr(model, n)).float() for n in vars(model) if n[1] == "_"}
    sigma = float(model.score_divisor_squared) ** 0.5

    def logits(tokens: np.ndarray) -> np.ndarray:
        residual = W["W_E"][torch.from_numpy(tokens)] + W["W_pos"]
        query = residual[:, -1] @ W["W_Q"] + W["b_Q"]
        key, value = residual @ W["W_K"] + W["b_K"], residual @ W["W_V"] + W["b_V"]
        if einsum:
            scores = torch.einsum("nh,nih->ni", query, key) / sigma
        else:
            scores = ((query / sigma)[:, None] @ key.transpose(1, 2))[:, 0]
        if divide_first and subtract:
            pattern = torch.softmax(scores, dim=-1)
            z = (pattern[:, None] @ value)[:, 0]
        else:
            raised = torch.exp(scores - scores.max(dim=1, keepdim=True)[0] if subtract else scores)
            z = (raised[:, None] @ value)[:, 0] / raised.sum(dim=1, keepdim=True)
        out = residual[:, -1] + (z @ W["W_O"] + W["b_O"])
        return (out @ W["W_U"] + W["b_U"]).numpy()

    return logits


def numpy_logits(model: Model) -> Logits:
    """Float32 logits by numpy: keys and values looked up by token and position."""
    W = {n: getattr(model, n).astype(np.float32) for n in vars(model) if n[1] == "_"}
    sigma = np.float32(float(model.score_divisor_squared) ** 0.5)
    residual = W["W_E"][None] + W["W_pos"][:, None]  # [i, t, d]
    key, value = residual @ W["W_K"] + W["b_K"], residual @ W["W_V"] + W["b_V"]
    query = residual[-1] @ W["W_Q"] + W["b_Q"]
    scores = np.einsum("qh,ith->qit", query, key, optimize=True) / sigma
    at = np.arange(len(residual))

    def logits(tokens: np.ndarray) -> np.ndarray:
        own = tokens[:, -1]
        here = scores[own[:, None], at, tokens]
        raised = np.exp(here - here.max(axis=1, keepdims=True))
        pattern = raised / raised.sum(axis=1, keepdims=True)
        z = np.einsum("ni,nih->nh", pattern, value[at, tokens])
        return (residual[-1, own] + (z @ W["W_O"] + W["b_O"])) @ W["W_U"] + W["b_U"]

    return logits


def evaluators(model: Model) -> list[tuple[str, Logits]]:
    return [
        ("numpy", numpy_logits(model)),
        ("torch softmax", torch_logits(model, subtract=True, divide_first=True, einsum=False)),
        (
            "torch einsum, no maximum",
            torch_logits(model, subtract=False, divide_first=False, einsum=True),
        ),
        (
            "torch, divided last",
            torch_logits(model, subtract=True, divide_first=False, einsum=True),
        ),
    ]


def batches(k: int, v: int, total: int | None, seed: int) -> Iterator[np.ndarray]:
    """All sequences, or ``total`` random ones, in batches of several sizes."""
    rng = np.random.default_rng(seed)
    size = int(rng.choice([20_000, 65_536, 99_991]))
    end = v**k if total is None else total
    for start in range(0, end, size):
        n = min(size, end - start)
        if total is None:
            index = np.arange(start, start + n)
            yield np.stack([index // v ** (k - 1 - i) % v for i in range(k)], axis=1)
        else:
            yield rng.integers(v, size=(n, k))


class Certified:
    """Which sequences the float32 proof counts as right: brute force's rule, one by one."""

    def __init__(self, model: Model) -> None:
        """Verify the tables and form the margins of every label."""
        tables = verify_tables(model, integer_tables(model, "float32"), "float32")
        self._margins = [Margins(tables, m, Ledger()) for m in range(model.d_vocab)]

    def __call__(self, tokens: np.ndarray) -> np.ndarray:
        """Whether each sequence ``[n, k]`` is counted as right."""
        label, found = tokens.max(axis=1), np.zeros(len(tokens), dtype=bool)
        for m in np.unique(label):
            rows = np.flatnonzero(label == m)
            found[rows] = np.asarray(
                (self._margins[m].of_sequences(tokens[rows])[1] < 0).all(axis=1)
            )
        return found


def margin_of(logits: np.ndarray, label: np.ndarray) -> np.ndarray:
    rows = np.arange(len(label))
    others = logits.copy()
    others[rows, label] = -np.inf
    return logits[rows, label] - others.max(axis=1)


def near_ties(logits: Logits, k: int, v: int, count: int) -> np.ndarray:
    """Right and wrong sequences of small margin, half the smallest found, half up to 0.02.

    Many random ones, then again and again those of smallest margin with a token changed.
    """
    rng = np.random.default_rng(7)
    kept, small = np.zeros((0, k), dtype=np.int64), np.zeros((0, k), dtype=np.int64)
    for number in range(40):
        fresh = rng.integers(v, size=(4 * count, k))
        if len(kept) and number % 8:
            fresh = kept[rng.integers(len(kept), size=4 * count)]
            at = rng.integers(k, size=4 * count)
            fresh[np.arange(4 * count), at] = rng.integers(v, size=4 * count)
        both = np.unique(np.concatenate([kept, fresh]), axis=0)
        size = np.abs(margin_of(logits(both), both.max(axis=1)))
        small = np.unique(np.concatenate([small, both[size < 0.02]]), axis=0)
        small = small[rng.permutation(len(small))[: 8 * count]]
        kept = both[np.argsort(size)[:count]]
    return np.unique(np.concatenate([kept[: count // 2], small[: count // 2]]), axis=0)


def attack(name: str, share: float) -> dict[str, Any]:
    """Evaluate, and look up what came out wrong."""
    model, k = cp.load_model(resolve_model(name)), MODELS[name]
    v, certified = model.d_vocab, Certified(model)
    evaluated = wrong = broken = 0
    ways = evaluators(model)
    for number in range(PASSES[name]):
        way, logits = ways[number % len(ways)]
        torch.set_num_threads(1 + number % 2)
        total = None if name == "max-of-4" and share >= 1 else int(SAMPLED * share)
        began = time.perf_counter()
        for tokens in batches(k, v, total, seed=number):
            failed = tokens[margin_of(logits(tokens), tokens.max(axis=1)) <= 0]
            evaluated += len(tokens)
            wrong += len(failed)
            broken += int(certified(failed).sum()) if len(failed) else 0
        print(f"{name}, {way}: {time.perf_counter() - began:.0f} s", flush=True)
    near = near_ties(ways[0][1], k, v, max(500, int(NEAR_TIES * share)))
    label, promised = near.max(axis=1), certified(near)
    margins = np.abs(margin_of(ways[0][1](near), label))
    near_evaluated = near_wrong = near_broken = 0
    ever_wrong = np.zeros(len(near), dtype=bool)
    always_wrong = np.ones(len(near), dtype=bool)
    for style in evaluations.styles(STYLES, seed=3):
        for rows in np.array_split(np.arange(len(near)), max(1, len(near) // 2000)):
            found = evaluations.right(
                evaluations.evaluate(model, near[rows], label[rows], style), label[rows]
            )
            ever_wrong[rows] |= ~found
            always_wrong[rows] &= ~found
            near_evaluated += len(rows)
            near_wrong += int((~found).sum())
            near_broken += int((promised[rows] & ~found).sum())
    print(f"{name}: {near_evaluated} evaluations of near ties", flush=True)
    return {
        "evaluated": evaluated + near_evaluated,
        "wrong": wrong + near_wrong,
        "certified_and_wrong": broken + near_broken,
        "near_ties": len(near),
        "near_ties_largest_margin": float(margins.max()),
        "near_ties_certified": int(promised.sum()),
        "near_ties_that_rounding_decides": int((ever_wrong & ~always_wrong).sum()),
        "near_ties_evaluations": near_evaluated,
    }


def bounds(name: str) -> dict[str, dict[str, Any]]:
    """Each theorem's correct count under both semantics."""
    model = cp.load_model(resolve_model(name))
    task = cp.parse_task(f"max:k={MODELS[name]},v=64")
    found: dict[str, dict[str, Any]] = {}
    for theorem, known in THEOREMS.items():
        if not known.from_tables or (theorem == "brute-force" and name != "max-of-4"):
            continue
        claims = {s: cp.prove(model, task, theorem, semantics=s).claim for s in ("real", "float32")}
        real, wide = claims["real"], claims["float32"]
        found[theorem] = {
            "real": real.bound_decimal,
            "float32": wide.bound_decimal,
            "lost": float(real.bound - wide.bound),
            "flops_ratio": round(wide.flops / real.flops, 3),
        }
    return found


def write_page(report: dict[str, Any]) -> None:
    lines = [
        "# Float32: what it costs, and what tried to break it",
        "",
        "Made by `benchmarks/float32.py` from `benchmarks/results/float32.json`; "
        "[theory.md](theory.md), section 5, says which evaluations are covered and proves it.",
        "",
        "| model | theorem | real | float32 | lost | FLOPs, ratio |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, entry in report.items():
        for theorem, row in entry["bounds"].items():
            lines.append(
                f"| {name} | {theorem} | {row['real']} | {row['float32']} | {row['lost']:.1e} | "
                f"{row['flops_ratio']:.2f} |"
            )
    total = sum(entry["attack"]["evaluated"] for entry in report.values())
    broken = sum(entry["attack"]["certified_and_wrong"] for entry in report.values())
    lines += [
        "",
        f"{total:,} sequences were evaluated in float32 (numpy, torch, several orders of "
        "summation, one and two threads, with and without subtracting the maximum; near ties also "
        f"by an adversary that errs by the whole unit at every operation). Counted as right by the "
        f"proof and wrong in an evaluation: {broken}.",
        "",
        "| model | evaluated | wrong | near ties | margin up to | certified | rounding decides |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, entry in report.items():
        row = entry["attack"]
        lines.append(
            f"| {name} | {row['evaluated']:,} | {row['wrong']:,} | {row['near_ties']:,} | "
            f"{row['near_ties_largest_margin']:.2g} | {row['near_ties_certified']:,} | "
            f"{row['near_ties_that_rounding_decides']:,} |"
        )
    PAGE.write_text("\n".join(lines) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--share", type=float, default=1.0, help="of the evaluations")
    parser.add_argument("--page", action="store_true", help="build the page alone")
    wanted = parser.parse_args()
    if wanted.page:
        write_page(json.loads(RESULTS.read_text()))
        return
    report = {
        name: {"bounds": bounds(name), "attack": attack(name, wanted.share)} for name in MODELS
    }
    if wanted.share >= 1:
        RESULTS.write_text(json.dumps(report, indent=1) + "\n")
        write_page(report)
    print(json.dumps(report, indent=1))
    if any(entry["attack"]["certified_and_wrong"] for entry in report.values()):
        sys.exit("a sequence that the proof counts as right is wrong in an evaluation")


if __name__ == "__main__":
    main()
