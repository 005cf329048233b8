"""``attack(kernel)``: everything that could show a copy of the kernel to be unsound, in seconds."""

import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np

from . import laws
from .cases import imagined_cases, real_cases
from .tasks import make_task
from .witnesses import sealed, widened

BINS = (1, 6, 128)


def attack(kernel: ModuleType) -> Iterator[str]:
    """Violations of soundness, one line each; a sound kernel gives none."""
    for law in (
        laws.shifts,
        laws.rounding_of_integers,
        laws.balls,
        laws.exponentials,
        laws.counting,
        laws.packing,
        laws.arb_agrees,
        laws.margin_bounds,
        laws.enclosed_tables,
    ):
        yield from law(kernel)
    yield from against_integers(kernel)
    yield from against_truth(kernel)
    yield from blocks_of_brute_force(kernel)


def against_integers(kernel: ModuleType, every: int = 1) -> Iterator[str]:
    """Both theorems on extreme tables against exact sums of the same integers."""
    for n, case in enumerate(imagined_cases()[::every]):
        task = make_task(kernel, case.task, case.k, case.v).task
        tables = sealed(kernel, case.tables)
        for bins in BINS:
            proved = kernel.additive(tables, task, kernel.AdditiveOptions(bins))
            for q, m, size, correct in proved.by_class:
                if size != case.counts[q, m][0] or correct > case.counts[q, m][1]:
                    yield f"additive, tables {n}: {correct} of class ({q}, {m}) {case.counts[q, m]}"
        proved = kernel.brute_force(tables, task, kernel.BruteForceOptions())
        for q, m, _, correct in proved.by_class:
            if correct > case.counts[q, m][1]:
                yield f"brute force, tables {n}: {correct} of class ({q}, {m}) {case.counts[q, m]}"
        wrong = sum(part[2] for part in case.counts.values())
        if proved.claim.total - proved.claim.correct - proved.claim.undecided > wrong:
            yield f"brute force on tables {n} calls more wrong than the {wrong} that are"


def against_truth(kernel: ModuleType) -> Iterator[str]:
    """Both theorems on real models, with honest and hostile witnesses, against the truth."""
    rng = np.random.default_rng(8)
    for case in real_cases():
        model, task = case.model_for(kernel), case.task_for(kernel)
        honest = kernel.integer_tables(model)
        for witness in (honest, widened(rng, honest, 0.3)):
            tables = kernel.verify_tables(model, witness)
            for bins in BINS:
                proved = kernel.additive(tables, task, kernel.AdditiveOptions(bins))
                yield from exceeded(proved, case.truth, case.name)
            proved = kernel.brute_force(tables, task, kernel.BruteForceOptions())
            yield from exceeded(proved, case.truth, case.name)
            yield from missed(proved, case.truth, case.name)


def exceeded(proved: Any, truth: Any, name: str) -> Iterator[str]:
    """Classes of which more is proved than is true, or whose sizes are not the true ones."""
    if {(q, m): size for q, m, size, _ in proved.by_class} != {
        key: count.size for key, count in truth.items()
    }:
        yield f"{name}: the classes of {proved.claim.theorem} are not the true ones"
        return
    for q, m, _, correct in proved.by_class:
        if correct > truth[q, m].right:
            yield (
                f"{name}: {proved.claim.theorem} proves {correct} of class ({q}, {m}), in truth "
                f"{truth[q, m].right}"
            )
    if proved.claim.correct != sum(part.correct for part in proved.by_class):
        yield f"{name}: the total is not the sum of the classes"


def missed(proved: Any, truth: Any, name: str) -> Iterator[str]:
    """Brute force decides every sequence that it does not call undecided."""
    right = sum(count.right for count in truth.values())
    claim = proved.claim
    if not claim.correct <= right <= claim.correct + claim.undecided:
        yield f"{name}: brute force finds {claim.correct} (+{claim.undecided}) of {right}"


def blocks_of_brute_force(kernel: ModuleType) -> Iterator[str]:
    """The same with blocks of a few numbers, so that no sequence may hide at a block's end."""
    module: Any = sys.modules[f"{kernel.__name__}.theorems.brute_force"]
    before = module._BLOCK
    try:
        for module._BLOCK in (1, 20, 50):
            for case in real_cases()[:14]:
                model, task = case.model_for(kernel), case.task_for(kernel)
                tables = kernel.verify_tables(model, kernel.integer_tables(model))
                proved = kernel.brute_force(tables, task, kernel.BruteForceOptions())
                yield from exceeded(proved, case.truth, case.name)
                yield from missed(proved, case.truth, case.name)
    finally:
        module._BLOCK = before
