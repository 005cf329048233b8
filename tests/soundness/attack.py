"""``attack(kernel)``: everything that could show a copy of the kernel to be unsound, in seconds."""

import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import numpy as np

from subcubic_witnesses import blank_subcubic_witness, random_subcubic_witness

from . import (
    laws,
    laws_of_composition,
    laws_of_float32,
    laws_of_independence,
    laws_of_networks,
    laws_of_parts,
    laws_of_tasks,
)
from .cases import imagined_cases, real_cases, subcubic_cases
from .tasks import make_task
from .witnesses import drawn_order, sealed, widened

BINS = (1, 6, 128)


def attack(
    kernel: ModuleType, *, first: Callable[..., Iterator[str]] | None = None
) -> Iterator[str]:
    """Violations of soundness, one line each; a sound kernel gives none.

    first: begin here, where a defect shows soonest.
    """
    if first is not None:
        yield from first(kernel)
    for law in (
        *laws_of_parts.LAWS,
        *laws_of_tasks.LAWS,
        laws.shifts,
        laws.rounding_of_integers,
        laws.balls,
        laws_of_composition.compositions,
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
    yield from laws_of_parts.first_rivals(kernel)
    yield from of_subcubic(kernel)
    yield from of_networks(kernel)
    yield from of_independence(kernel)
    yield from of_float32(kernel)
    yield from blocks_of_brute_force(kernel)


def of_tables(
    kernel: ModuleType, tables: Any, task: Any, rng: np.random.Generator
) -> Iterator[Any]:
    """What every theorem that counts from any tables proves, with options and witnesses drawn."""
    v, x = tables.d_vocab, tables.d_vocab_out
    for bins in BINS:
        yield kernel.additive(tables, task, kernel.AdditiveOptions(bins))
    effort = rng.choice([-2, -2, -1, 0, 1, 7, 200], (v, x)).astype(np.int32)
    options = kernel.AdditiveOptions()
    everything = np.full((v, x), -2, dtype=np.int32)
    for efforts, order in (
        (effort, drawn_order(rng, effort)),
        (np.full_like(effort, 300), drawn_order(rng, np.full_like(effort, 300))),
        (everything, np.zeros((0, 6), dtype=np.int32)),
    ):
        yield kernel.additive(tables, task, options, witness=kernel.EffortWitness(efforts, order))
    order = drawn_order(rng, np.full_like(effort, 300), circular=True)
    witness = kernel.EffortWitness(np.full_like(effort, 300), order)
    try:
        yield kernel.additive(tables, task, options, witness=witness)
    except kernel.MalformedError:
        pass  # as it must be, unless no row has a pivot
    bins = int(rng.choice([1, 6, 128, 4000]))
    yield kernel.collapsed_cubic(tables, task, kernel.CollapsedCubicOptions(bins))
    for theorem, kind in (
        (kernel.windowed, kernel.WindowedOptions),
        (kernel.collapsed_subcubic, kernel.CollapsedSubcubicOptions),
    ):
        for window in (1, 2):
            yield theorem(tables, task, kind(window, bins))
        drawn = rng.integers(1, v + 2, (v, x)).astype(np.int32)
        yield theorem(tables, task, kind(), witness=kernel.WindowWitness(drawn))


def against_integers(kernel: ModuleType, every: int = 1) -> Iterator[str]:
    """The theorems on extreme tables against exact sums of the same integers."""
    rng = np.random.default_rng(5)
    for n, case in enumerate(imagined_cases()[::every]):
        task = make_task(kernel, case.task, case.k, case.v).task
        tables = sealed(kernel, case.tables)
        for proved in of_tables(kernel, tables, task, rng):
            for q, m, size, correct in proved.by_class:
                if size != case.counts[q, m][0] or correct > case.counts[q, m][1]:
                    yield (
                        f"{proved.claim.theorem}, tables {n}: {correct} of class ({q}, {m}) "
                        f"{case.counts[q, m]}"
                    )
        proved = kernel.brute_force(tables, task, kernel.BruteForceOptions())
        for q, m, _, correct in proved.by_class:
            if correct > case.counts[q, m][1]:
                yield f"brute force, tables {n}: {correct} of class ({q}, {m}) {case.counts[q, m]}"
        wrong = sum(part[2] for part in case.counts.values())
        if proved.claim.total - proved.claim.correct - proved.claim.undecided > wrong:
            yield f"brute force on tables {n} calls more wrong than the {wrong} that are"


def against_truth(kernel: ModuleType) -> Iterator[str]:
    """All theorems on real models, with honest and hostile witnesses, against the truth."""
    rng = np.random.default_rng(8)
    for case in real_cases():
        model, task = case.model_for(kernel), case.task_for(kernel)
        honest = kernel.integer_tables(model)
        for witness in (honest, widened(rng, honest, 0.3)):
            tables = kernel.verify_tables(model, witness)
            for proved in of_tables(kernel, tables, task, rng):
                yield from exceeded(proved, case.truth, case.name)
            if case.task == "max":
                proved = kernel.cubic(tables, task, kernel.CubicOptions())
                yield from exceeded(proved, case.truth, case.name)
            proved = kernel.brute_force(tables, task, kernel.BruteForceOptions())
            yield from exceeded(proved, case.truth, case.name)
            yield from missed(proved, case.truth, case.name)


def of_subcubic(kernel: ModuleType) -> Iterator[str]:
    """The sub-cubic family on real models, with found, blank and random witnesses."""
    for law in laws_of_parts.LAWS_OF_SUBCUBIC:
        yield from law(kernel)
    rng = np.random.default_rng(18)
    for case, names, found in subcubic_cases():
        model, task = case.model_for(kernel), case.task_for(kernel)
        options = kernel.SubcubicOptions.parse(names)
        for witness in (
            kernel.SubcubicWitness(*found),
            blank_subcubic_witness(model, kernel.SubcubicWitness),
            random_subcubic_witness(rng, case.model, kernel.SubcubicWitness),
        ):
            proved = kernel.subcubic(model, task, options, witness=witness)
            yield from exceeded(proved, case.truth, f"{case.name}, {names}")


def of_networks(kernel: ModuleType) -> Iterator[str]:
    """Forward passes in enclosures, and brute force by them."""
    for law in laws_of_networks.LAWS:
        yield from law(kernel)


def of_independence(kernel: ModuleType) -> Iterator[str]:
    """Certificates that features do not interact at a neuron."""
    for law in laws_of_independence.LAWS:
        yield from law(kernel)


def of_float32(kernel: ModuleType) -> Iterator[str]:
    """Float32 semantics: tables as wide as stated, and wide enough for every evaluation."""
    yield from laws_of_float32.stated_envelope(kernel)
    yield from laws_of_float32.narrow_tables(kernel)
    yield from laws_of_float32.evaluations(kernel)


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
    remainder: Any = sys.modules[f"{kernel.__name__}._remainder"]
    before = module._BLOCK
    try:
        for module._BLOCK in (1, 20, 50):
            for case in real_cases()[:14]:
                model, task = case.model_for(kernel), case.task_for(kernel)
                tables = kernel.verify_tables(model, kernel.integer_tables(model))
                proved = kernel.brute_force(tables, task, kernel.BruteForceOptions())
                yield from exceeded(proved, case.truth, case.name)
                yield from missed(proved, case.truth, case.name)
                remainder._BLOCK = module._BLOCK
                every = np.full((task.v, tables.d_vocab_out), -2, dtype=np.int32)
                proved = kernel.additive(
                    tables,
                    task,
                    kernel.AdditiveOptions(),
                    witness=kernel.EffortWitness(every, np.zeros((0, 6), dtype=np.int32)),
                )
                yield from exceeded(proved, case.truth, case.name)
    finally:
        module._BLOCK, remainder._BLOCK = before, 1 << 21
