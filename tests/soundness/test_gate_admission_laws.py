"""Admission: every law, G1 on many ledgers, and that the ledgers drawn are worth it."""

from collections.abc import Callable, Iterator
from types import ModuleType

import numpy as np
import pytest

from . import laws_of_gate_admission
from .drawn_ledgers import drawn, probes, weakened
from .laws_of_gate_admission import nothing_new
from .mutants.gate_admission import GATE_ADMISSION
from .written_ledgers import Written, replayed_once

Law = Callable[[ModuleType], Iterator[str]]


@pytest.mark.parametrize(
    "law",
    [law for law in laws_of_gate_admission.LAWS if law is not nothing_new],
    ids=lambda law: law.__name__,
)
def test_the_law_holds(law: Law, plain: ModuleType) -> None:
    assert list(law(plain)) == []


def test_of_500_ledgers_that_know_less_none_admits_a_new_input(plain: ModuleType) -> None:
    assert list(nothing_new(plain, ledgers=500)) == []


def test_drawn_ledgers_admit_something_and_less_when_they_know_less(plain: ModuleType) -> None:
    rng, (h, outputs) = np.random.default_rng(11), probes()
    some = fewer = closed = 0
    with replayed_once(plain):
        for _ in range(30):
            draft = drawn(rng)
            larger = Written(plain, draft).admission()
            closed += larger.closed is not None
            before = larger.admitted(h, outputs)
            after = Written(plain, weakened(rng, draft)).admission().admitted(h, outputs)
            some += before.any()
            fewer += (before & ~after).any()
    assert closed == 0 and some > 10 and fewer > 5


def test_every_file_of_admission_has_mutants() -> None:
    attacked = {mutant.edits[0].file for mutant in GATE_ADMISSION}
    assert attacked == set(laws_of_gate_admission.WEAK_SPOTS)
