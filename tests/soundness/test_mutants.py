from pathlib import Path
from types import ModuleType

import pytest

from . import (
    laws_of_cells,
    laws_of_codes,
    laws_of_gate_admission,
    laws_of_gate_calibration,
    laws_of_gate_cells,
    laws_of_gate_classes,
    laws_of_gate_credal,
    laws_of_gate_paths,
    laws_of_gate_regions,
    laws_of_gate_single_site,
    laws_of_gate_statistics,
    laws_of_gate_structure,
    laws_of_telescoping,
)
from .attack import attack, of_float32, of_independence, of_networks, of_subcubic
from .copies import kernel_copy
from .laws_of_relaxations import crosscoder_d
from .mutants import MUTANTS, Mutant

LOW_RANK = "subcubic _position_mass _row_spread _direct_path _attention_error".split()
WEAK_SPOTS = (
    {f"theorems/{name}.py": of_subcubic for name in LOW_RANK}
    | {f"{name}.py": of_float32 for name in ("_float32", "_tables_arb")}
    | {
        f"{name}.py": of_networks
        for name in ("_network", "_transformer", "theorems/_brute_force_network")
    }
    | {"_independence.py": of_independence}
    | laws_of_cells.WEAK_SPOTS
    | laws_of_codes.WEAK_SPOTS
    | laws_of_telescoping.WEAK_SPOTS
    | laws_of_gate_admission.WEAK_SPOTS
    | laws_of_gate_calibration.WEAK_SPOTS
    | laws_of_gate_cells.WEAK_SPOTS
    | laws_of_gate_classes.WEAK_SPOTS
    | laws_of_gate_credal.WEAK_SPOTS
    | laws_of_gate_paths.WEAK_SPOTS
    | laws_of_gate_regions.WEAK_SPOTS
    | laws_of_gate_single_site.WEAK_SPOTS
    | laws_of_gate_statistics.WEAK_SPOTS
    | laws_of_gate_structure.WEAK_SPOTS
    | {f"{n}.py": crosscoder_d for n in ("_front", "_cell", "_cells", "theorems/crosscoder_d")}
)
"""Where a defect of a file shows soonest."""


def first_violation(kernel: ModuleType, file: str) -> str | None:
    """What the attack finds first; a kernel that notices its own defect is found out too."""
    try:
        return next(attack(kernel, first=WEAK_SPOTS.get(file)), None)
    except (kernel.KernelDefectError, kernel.RejectedError) as error:
        return repr(error)


def test_the_kernel_itself_withstands_the_attack(plain: ModuleType) -> None:
    assert list(attack(plain)) == []


@pytest.mark.parametrize(
    "mutant", MUTANTS, ids=[f"{m.edits[0].file}: {m.breaks}".replace("/", ".") for m in MUTANTS]
)
def test_every_unsound_kernel_is_found_out(mutant: Mutant, tmp_path: Path) -> None:
    with kernel_copy(tmp_path, mutant.edits) as kernel:
        assert first_violation(kernel, mutant.edits[0].file) is not None


def test_no_mutant_is_listed_twice() -> None:
    assert len({mutant.edits for mutant in MUTANTS}) == len(MUTANTS) >= 25
