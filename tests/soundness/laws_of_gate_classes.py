"""The law of the gate over the cells of a theorem (G4), on any copy of the kernel.

Yields one line for each violation it finds; none at all on a sound kernel.
"""

from collections.abc import Iterator
from fractions import Fraction
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np

from compactproofs import kernel as our_kernel

from .cases import RealCase, real_cases
from .tasks import make_task
from .truth import all_sequences, right_answers

WORST_CASE = -1


@cache
def right_sequences(number: int) -> np.ndarray:
    """Whether the model of a case is right, sequence by sequence."""
    case = real_cases()[number]
    tokens = all_sequences(case.model.n_ctx, case.model.d_vocab)
    labels = make_task(
        our_kernel, case.task, case.model.n_ctx, case.model.d_vocab, case.seed
    ).labels
    return right_answers(case.model, tokens, labels(tokens))


def gates(kernel: ModuleType, case: RealCase) -> Iterator[tuple[str, Any, Any]]:
    """Name, the gate, and the bound that its coverage has to equal, if it has to."""
    tables, task = case.verified_for(kernel), case.task_for(kernel)
    shape = (task.v, tables.d_vocab_out)
    for name, effort in (
        ("worst case", np.full(shape, WORST_CASE, dtype=np.int32)),
        ("mixed", np.resize(np.array([-2, 0, -1, 7], dtype=np.int32), shape)),
    ):
        witness = kernel.EffortWitness(effort, np.zeros((0, 6), dtype=np.int32))
        proved = kernel.additive(tables, task, kernel.AdditiveOptions(), witness=witness)
        bound = proved.claim.bound if name == "worst case" else None
        yield name, kernel.class_gate(proved, task), bound
    if case.task == "max":
        bound = kernel.cubic(tables, task, kernel.CubicOptions()).claim.bound
        yield "cubic", kernel.cubic_gate(tables, task), bound


def class_cells(kernel: ModuleType) -> Iterator[str]:
    """Whatever is admitted is right; the share admitted is the coverage, and the bound."""
    for number, case in enumerate(real_cases()):
        k, v = case.model.n_ctx, case.model.d_vocab
        tokens = all_sequences(k, v)
        right = right_sequences(number)
        for name, gate, bound in gates(kernel, case):
            admitted = gate.admitted(tokens)
            where = f"{case.name}, {case.task}, {name}"
            if (admitted & ~right).any():
                yield f"{where}: {tokens[np.argmax(admitted & ~right)].tolist()} is wrong"
            share = Fraction(int(admitted.sum()), len(tokens))
            if share != gate.coverage:
                yield f"{where}: {share} is admitted, but the coverage is {gate.coverage}"
            if bound is not None and bound != gate.coverage:
                yield f"{where}: the coverage is {gate.coverage}, but the bound is {bound}"
            for stranger in (-1, v):
                outside = tokens.copy()
                outside[:, 0] = stranger
                if gate.admitted(outside).any():
                    yield f"{where}: the token {stranger} is admitted"


WEAK_SPOTS = {"gate/_class_cells.py": class_cells}
