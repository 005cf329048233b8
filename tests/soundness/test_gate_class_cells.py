from types import ModuleType

import numpy as np
import pytest

from compactproofs import kernel
from compactproofs.kernel import TaskError

from .cases import real_cases
from .laws_of_gate_classes import class_cells, gates


def test_only_right_sequences_are_admitted_and_the_coverage_is_the_bound(
    plain: ModuleType,
) -> None:
    assert list(class_cells(plain)) == []


def test_something_is_admitted_and_something_refused_by_every_kind_of_gate() -> None:
    coverages: dict[str, set[bool]] = {}
    for case in real_cases():
        for name, gate, _ in gates(kernel, case):
            coverages.setdefault(name, set()).add(0 < gate.coverage < 1)
    assert all(True in seen for seen in coverages.values())
    assert set(coverages) == {"worst case", "mixed", "cubic"}


def test_a_proof_about_another_task_makes_no_gate() -> None:
    case = real_cases()[0]
    tables, task = case.verified_for(kernel), case.task_for(kernel)
    proved = kernel.additive(tables, task, kernel.AdditiveOptions())
    with pytest.raises(TaskError, match="pass the task it names"):
        kernel.class_gate(proved, kernel.MaxOfK(task.k, task.v + 1))


def test_sequences_of_another_length_are_refused_by_name() -> None:
    case = real_cases()[0]
    _, gate, _ = next(gates(kernel, case))
    with pytest.raises(TaskError, match="tokens, but"):
        gate.admitted(np.zeros((2, gate.task.k + 1), dtype=np.int64))


def test_a_gate_cannot_be_made_up() -> None:
    _, gate, _ = next(gates(kernel, real_cases()[0]))
    with pytest.raises(TypeError, match="class_gate or cubic_gate"):
        kernel.ClassGate(
            gate.proved, gate.task, gate.coverage, gate.whole, gate.fillings, seal=object()
        )
