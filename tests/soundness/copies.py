"""Copies of the kernel under other names: as it is, or edited.

A copy is not seen by the import hook that checks every array's shape, and runs five times faster:
the long searches use one. The hook has its own tests, on the same theorems.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import module_from_spec, spec_from_file_location
from itertools import count
from pathlib import Path
from shutil import copytree, ignore_patterns
from sys import modules
from types import ModuleType
from typing import NamedTuple

from compactproofs import kernel as our_kernel

_SOURCE = Path(our_kernel.__file__).parent
_numbers = count()


class Edit(NamedTuple):
    """In ``file``, ``old`` becomes ``new``."""

    file: str
    old: str
    new: str


@contextmanager
def kernel_copy(directory: Path, edits: tuple[Edit, ...] = ()) -> Iterator[ModuleType]:
    """A copy of the kernel, imported under a name of its own; every ``old`` must occur once."""
    name = f"kernel_copy_{next(_numbers)}"
    folder = directory / name
    copytree(_SOURCE, folder, ignore=ignore_patterns("__pycache__"))
    for file, old, new in edits:
        text = (folder / file).read_text()
        if text.count(old) != 1:
            raise ValueError(f"stale: {file} holds {old!r} {text.count(old)} times, not once")
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
