"""Packages that only some of the gate needs, imported when they are."""

import importlib
from types import ModuleType

from ..kernel import UserError


def needed(module: str, caller: str) -> ModuleType:
    """The module; UserError, in one line with the way out, if its package is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError:
        torch = module.split(".")[0] == "torch"
        package, extra = ("torch", "train") if torch else ("scikit-learn", "gate")
        raise UserError(
            f"{caller} needs {package}, which is not installed: "
            f"pip install 'compactproofs[{extra}]'"
        ) from None
