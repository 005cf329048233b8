"""The scripts in ``benchmarks``, imported by path: they are no package."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).parents[1] / "benchmarks"


def load_benchmark(name: str) -> Any:
    """The module of ``benchmarks/<name>.py``, under a name that no other module has."""
    spec = spec_from_file_location(f"{name}_benchmark", _FOLDER / f"{name}.py")
    if spec is None or spec.loader is None:
        raise ImportError(name)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
