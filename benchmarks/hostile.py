"""Certificates spoilt in every way we know, each checked, and each check judged.

    python benchmarks/hostile.py [--only small|bytes|bundled]

Mutants of certificates of every theorem, with the digest that their content asks for, from
``tests/hostile/mutants_of_certificates.py``; judged by ``tests/hostile/judge.py``: a valid verdict
must have the numbers of a fresh proof from the mutant's own tensors, a bound of at most the
exhaustively computed truth, and tables around the model's numbers. Three runs: models of at most 8
tokens; single bytes and truncations; the bundled max-of-4. Writes ``results/hostile.json`` and
exits with 1 if any verdict was wrong. One core, under 10 minutes.
"""

import argparse
import json
import os
import resource
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # for numpy, imported below

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "hostile.json"
sys.path.insert(0, str(ROOT / "tests"))

kernel: Any = import_module("compactproofs.kernel")
files: Any = import_module("certificates")
judging: Any = import_module("hostile.judge")
mutants: Any = import_module("hostile.mutants_of_certificates")
subjects: Any = import_module("hostile.subjects")

SHARE = 3
"""One mutant in so many of the small models' is tried."""
BUNDLED = 60
"""Mutants of each of the bundled model's certificates."""
UNSIGNED = {"truncated", "structure", "byte of the digest"}
"""Kinds whose digest is not made right: it is what they attack, or there is no file to sign."""


class Tally:
    """Counts of one run."""

    def __init__(self) -> None:
        """Nothing tried yet."""
        self.counts: Counter[tuple[str, str]] = Counter()
        self.faults: list[str] = []
        self.great_lies = self.unprintable = 0
        self.slowest = 0.0
        self.began = time.process_time()

    def run(self, subject: Any, tried: Iterator[Any]) -> None:
        """Judge the verdict on each mutant."""
        for mutant in tried:
            data = mutant.made_of(subject)
            if data is None:
                continue
            began = time.process_time()
            ruling = judging.judge(subject, data, must_hold=mutant.must_hold)
            self.slowest = max(self.slowest, time.process_time() - began)
            self.counts[mutant.kind, ruling.outcome] += 1
            if ruling.fault is not None and ruling.fault.startswith(judging.UNPRINTABLE):
                self.unprintable += 1
            elif ruling.fault is not None:
                self.faults.append(f"{subject.name}, {mutant.kind}: {ruling.fault}")
                print("WRONG:", self.faults[-1], file=sys.stderr)
            if mutant.kind == "coherent" and int(files.claim_of(data)["correct"]) > subject.right:
                self.great_lies += 1

    def as_json(self) -> dict[str, Any]:
        """What is written down."""
        kinds = sorted({kind for kind, _ in self.counts})
        return {
            "mutants": self.counts.total(),
            "with_a_right_digest": sum(
                n for (kind, _), n in self.counts.items() if kind not in UNSIGNED
            ),
            "wrong_verdicts": len(self.faults),
            "wrong": self.faults[:20],
            "reasons_not_printable": self.unprintable,
            "lies_that_claim_more_than_the_truth": self.great_lies,
            "slowest_judged_seconds": round(self.slowest, 2),
            "cpu_seconds": round(time.process_time() - self.began, 1),
            "outcomes": {
                kind: {outcome: n for (of, outcome), n in sorted(self.counts.items()) if of == kind}
                for kind in kinds
            },
        }


def small() -> Tally:
    """Every theorem on every small model."""
    tally = Tally()
    for name in subjects.small_models():
        family = {v: subjects.subject(kernel, name, v) for v in subjects.VARIANTS}
        for n, subject in enumerate(family.values()):
            tried = mutants.of_all(subject, family, seed=n)
            tally.run(subject, islice(tried, n % SHARE, None, SHARE))
        print(name, tally.counts.total(), file=sys.stderr)
    return tally


def single_bytes() -> Tally:
    """Every bit of the smallest certificate of each theorem, every byte of one, every length."""
    tally = Tally()
    for variant in subjects.VARIANTS:
        subject = subjects.subject(kernel, "one token", variant)
        tally.run(subject, mutants.of_structure(subject))
        tally.run(subject, mutants.of_bytes(subject, 255 if variant == "cubic" else 8))
        print(variant, tally.counts.total(), file=sys.stderr)
    subject = subjects.subject(kernel, "like max, v=3", "composed")
    tally.run(subject, mutants.of_structure(subject))
    tally.run(subject, islice(mutants.of_bytes(subject), 0, None, 3))
    return tally


def bundled() -> Tally:
    """The bundled max-of-4 by every theorem whose length does not grow with v^k."""
    tally = Tally()
    family: Mapping[str, Any] = {
        variant: subjects.bundled_subject(kernel, variant)
        for variant in subjects.VARIANTS
        if variant != "brute-force"
    }
    for n, (variant, subject) in enumerate(family.items()):
        every = sum(1 for _ in mutants.of_all(subject, {}, seed=n)) // BUNDLED  # none is made yet
        tally.run(subject, islice(mutants.of_all(subject, {}, seed=n), n, None, every))
        print(variant, tally.counts.total(), file=sys.stderr)
    return tally


RUNS = {"small": small, "bytes": single_bytes, "bundled": bundled}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=RUNS)
    only = parser.parse_args().only
    known = json.loads(RESULTS.read_text()) if only and RESULTS.exists() else {}
    for name, run in RUNS.items():
        if only in (None, name):
            known[name] = run().as_json()
    known["kernel"] = kernel.__version__
    known["peak_mb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    RESULTS.write_text(json.dumps(known, indent=1) + "\n")
    wrong = 0
    for name in RUNS.keys() & known.keys():
        part = known[name]
        wrong += part["wrong_verdicts"] + part["reasons_not_printable"]
        print(name, {key: part[key] for key in part if key not in ("outcomes", "wrong")})
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
