"""Attacks on the gate that once succeeded, or might have."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from . import laws_of_gate_classes, laws_of_gate_extremes
from .cases import real_cases
from .exact_margins import gate_of
from .laws_of_gate_extremes import _cell, _network, _sites


@pytest.mark.parametrize("law", laws_of_gate_extremes.LAWS, ids=lambda law: law.__name__)
def test_the_law_holds(law: Callable[[ModuleType], Iterator[str]], plain: ModuleType) -> None:
    assert list(law(plain)) == []


def test_a_thread_that_takes_subnormal_numbers_for_0_puts_no_point_inside() -> None:
    script = (
        "from process_modes import FLUSH_OPERANDS, FLUSH_RESULTS, set_flush\n"
        "import numpy as np\n"
        "from compactproofs.kernel import EnclosureError\n"
        "from compactproofs.kernel.gate import *\n"
        "no = np.zeros(0)\n"
        "layer = ReluLayer(np.array([[1.0, 0.0]]), np.array([1.0, 0.0]), False)\n"
        "sites = Sites((SiteGroup('x', 'input', 1),), 'x', 0)\n"
        "cell = Cell(np.zeros(1), np.ones(1), np.zeros((0, 1)), no, no, no.astype(np.int8), 0)\n"
    )
    script += (
        "table = CellTable(ReluNetwork((layer,)), sites, [cell], 0.0)\n"
        "point = np.array([[-1e-310]])\n"
        "assert not table.inside(point).any()\n"
        "for bits in (FLUSH_OPERANDS, FLUSH_RESULTS, FLUSH_OPERANDS | FLUSH_RESULTS):\n"
        "    set_flush(bits)\n"
        "    try:\n"
        "        print(table.inside(point).any())\n"
        "    except EnclosureError:\n"
        "        set_flush(0)\n"
        "        print('refused')\n"
    )
    where = Path(__file__).parent.parent / "kernel"
    found = subprocess.run(
        [sys.executable, "-c", script], cwd=where, capture_output=True, text=True, check=False
    )
    assert found.stdout.split() == ["refused"] * 3, found.stderr


def test_a_relation_states_the_coefficients_that_were_used(plain: ModuleType) -> None:
    network = _network(plain, ([[1.0, 1.0]], [0.0, 0.0], False), (np.eye(2), [1.0, 0.0], True))
    cell = _cell(plain, [0.0], [1.0], 2)
    relation = gate_of(plain).duplicate(network, _sites(plain, 1), cell, 1, 0, [1], [2**53 + 1])
    assert relation.coefficients == (2.0**53,)


def test_sequences_that_are_no_integers_are_refused(plain: ModuleType) -> None:
    case = real_cases()[0]
    for _, gate, _ in laws_of_gate_classes.gates(plain, case):
        with pytest.raises(plain.TaskError, match="pass integers"):
            gate.admitted(np.full((1, case.model.n_ctx), 0.5))  # type: ignore[arg-type]
