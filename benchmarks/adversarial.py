"""An enemy that makes up weights against each theorem, for as long as one likes.

    python benchmarks/adversarial.py [--minutes 8]

Searches for models of which a theorem proves more than is true (``tests/soundness/adversary.py``),
theorem by theorem, and compares what is proved with an independent statement of each theorem
(``ideals.py``) wherever the search advances. Then lets the same search and plain random sampling
of the same length loose on defective kernels. Writes ``results/adversarial.json`` and exits with 1
if anything false was proved.
"""

import argparse
import json
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

TESTS = Path(__file__).resolve().parents[1] / "tests"
RESULTS = Path(__file__).resolve().parent / "results" / "adversarial.json"
sys.path.insert(0, str(TESTS))

from soundness import adversary  # noqa: E402 # pyright: ignore[reportMissingImports]
from soundness.copies import kernel_copy  # noqa: E402 # pyright: ignore[reportMissingImports]
from soundness.ideals import IDEALS, ideal_counts  # noqa: E402 # pyright: ignore[reportMissingImports]
from soundness.truth import float_logits, margins  # noqa: E402 # pyright: ignore[reportMissingImports]

ROUND = 400
"""Evaluations of one search."""
MAX_SEEDS = 5


class Comparison:
    """What is proved beside the ideal theorem, at every advance."""

    def __init__(self, theorem: str) -> None:
        """Of nothing yet."""
        self.theorem = theorem
        self.classes = self.decided = self.differences = 0

    def __call__(self, subject: Any, model: Any, proved: dict[tuple[int, int], int]) -> None:
        """Add the classes of one model."""
        if self.theorem not in IDEALS or subject.choices.loose or model.d_vocab_out == 1:
            return
        tokens, label = adversary.sequences(subject)
        logits, error = float_logits(model, tokens)
        perhaps = margins(logits, label) < 2 * error
        ideals = ideal_counts(self.theorem, subject.choices, model, tokens, label)
        for (q, m), ideal in ideals.items():
            true = int((perhaps & (tokens[:, -1] == q) & (label == m)).sum())
            self.classes += 1
            self.decided += ideal.least == ideal.most
            within = ideal.least <= proved[q, m] <= ideal.most and ideal.least <= true
            self.differences += not within


def attacked(kernel: ModuleType, theorem: str, float32: bool, seconds: float) -> dict[str, Any]:
    """One theorem, by searches with seeds 1000, 1001, ... until the time is up."""
    ends, total, strategies = time.monotonic() + seconds, adversary.Report(), set()
    comparison, seed, found = Comparison(theorem), 1000, []
    while time.monotonic() < ends:
        if float32:
            enemy = adversary.Float32Enemy(kernel, theorem, seed)
        else:
            part = None
            if theorem == "subcubic":  # every attention-error part in turn
                part = list(adversary.ATTENTION_ERRORS)[seed % len(adversary.ATTENTION_ERRORS)]
            enemy = adversary.Enemy(kernel, theorem, seed, part, visit=comparison)
        one = enemy.climb(ROUND)
        excess = [e for e in (total.largest_excess, one.largest_excess) if e is not None]
        total = replace(
            total,
            evaluations=total.evaluations + one.evaluations,
            starts=total.starts + one.starts,
            advances=total.advances + one.advances,
            tight=total.tight + one.tight,
            smallest_gap=min(total.smallest_gap, one.smallest_gap),
            largest_excess=max(excess, default=None),
        )
        strategies |= one.strategies
        if one.violation is not None:
            found.append(repr(one.violation))
        seed += 1
    row = {"theorem": theorem, "semantics": "float32" if float32 else "real", **total.as_dict()}
    row["searches"], row["false_proofs"] = seed - 1000, found
    if float32:
        row["largest_share_of_the_room_needed"] = round(1 / (1 + total.smallest_gap), 4)
        del row["smallest_gap"]
    if theorem == "subcubic":
        row["strategies"] = len(strategies)
    elif not float32:
        row["compared_with_ideal"] = {
            "classes": comparison.classes,
            "decided": int(comparison.decided),
            "differences": comparison.differences,
        }
    return row


def against_defects(folder: Path, seconds: float) -> list[dict[str, Any]]:
    """How many evaluations the search and random sampling take to find each defect; None: more."""
    every = (*adversary.DEFECTS, *adversary.HARD_DEFECTS, *adversary.FLOAT32_DEFECTS)
    rows = []
    for n, defect in enumerate(every):
        ends = time.monotonic() + seconds / len(every)
        float32 = defect in adversary.FLOAT32_DEFECTS
        kind = adversary.Float32Enemy if float32 else adversary.Enemy
        taken: dict[str, list[int | None]] = {"search": [], "random": []}
        with kernel_copy(folder / str(n), defect.edits) as kernel:
            for seed in range(2000, 2000 + MAX_SEEDS):
                for way, spent in taken.items():
                    enemy = kind(kernel, defect.theorem, seed, defect.part)
                    run = enemy.climb if way == "search" else enemy.draw
                    report = run(defect.evaluations)
                    spent.append(report.evaluations if report.violation else None)
                if time.monotonic() > ends:
                    break
        rows.append({"defect": str(defect), "at_most": defect.evaluations, **taken})
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=8.0)
    seconds = 60 * parser.parse_args().minutes
    subjects = [(theorem, False) for theorem in (*IDEALS, "subcubic")]
    subjects += [(theorem, True) for theorem in ("brute-force", "additive", "windowed", "cubic")]
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        with kernel_copy(Path(temporary)) as kernel:
            for theorem, float32 in subjects:
                share = (2 if theorem == "subcubic" else 1) / (1 + len(subjects))
                rows.append(attacked(kernel, theorem, float32, 0.6 * seconds * share))
                print(rows[-1], flush=True)
        defects = against_defects(Path(temporary), 0.4 * seconds)
    RESULTS.write_text(
        json.dumps(
            {
                "numpy": np.__version__,
                "minutes": seconds / 60,
                "theorems": rows,
                "defects": defects,
            },
            indent=1,
        )
        + "\n"
    )
    if any(
        row["false_proofs"] or row.get("compared_with_ideal", {}).get("differences") for row in rows
    ):
        sys.exit(1)


if __name__ == "__main__":
    main()
