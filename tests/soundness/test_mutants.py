from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import module_from_spec, spec_from_file_location
from itertools import count
from pathlib import Path
from shutil import copytree, ignore_patterns
from sys import modules
from types import ModuleType

import pytest

from compactproofs import kernel as our_kernel

from .attack import attack
from .mutants import MUTANTS, Edit, Mutant

_SOURCE = Path(our_kernel.__file__).parent
_numbers = count()


@contextmanager
def kernel_copy(directory: Path, edits: tuple[Edit, ...] = ()) -> Iterator[ModuleType]:
    """An edited copy of the kernel, imported under a name of its own."""
    name = f"kernel_copy_{next(_numbers)}"
    folder = directory / name
    copytree(_SOURCE, folder, ignore=ignore_patterns("__pycache__"))
    for file, old, new in edits:
        text = (folder / file).read_text()
        if text.count(old) != 1:
            raise ValueError(f"stale mutant: {file} holds {old!r} {text.count(old)} times, not once")
        (folder / file).write_text(text.replace(old, new))
    spec = spec_from_file_location(
        name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"{folder} is not a package")
    module = modules[name] = module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        yield module
    finally:
        for loaded in [m for m in modules if m == name or m.startswith(f"{name}.")]:
            del modules[loaded]


def first_violation(kernel: ModuleType) -> str | None:
    """What the attack finds first; a kernel that notices its own defect is found out too."""
    try:
        return next(attack(kernel), None)
    except (kernel.KernelDefectError, kernel.RejectedError) as error:
        return repr(error)


def test_the_kernel_itself_withstands_the_attack(tmp_path: Path) -> None:
    with kernel_copy(tmp_path) as kernel:
        assert list(attack(kernel)) == []


@pytest.mark.parametrize(
    "mutant", MUTANTS, ids=[f"{m.edits[0].file}: {m.breaks}".replace("/", ".") for m in MUTANTS]
)
def test_every_unsound_kernel_is_found_out(mutant: Mutant, tmp_path: Path) -> None:
    with kernel_copy(tmp_path, mutant.edits) as kernel:
        assert first_violation(kernel) is not None


def test_no_mutant_is_listed_twice() -> None:
    assert len({mutant.edits for mutant in MUTANTS}) == len(MUTANTS) >= 25
