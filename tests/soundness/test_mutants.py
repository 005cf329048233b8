from pathlib import Path
from types import ModuleType

import pytest

from .attack import attack, of_float32, of_subcubic
from .copies import kernel_copy
from .mutants import MUTANTS, Mutant

WEAK_SPOTS = dict.fromkeys(
    (
        "theorems/subcubic.py",
        "theorems/_position_mass.py",
        "theorems/_row_spread.py",
        "theorems/_direct_path.py",
        "theorems/_attention_error.py",
    ),
    of_subcubic,
) | dict.fromkeys(("_float32.py", "_tables_arb.py"), of_float32)
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
