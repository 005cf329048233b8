"""The theorems by name. Each file states one, with its proof or its place in docs/theory.md."""

from collections.abc import Callable
from typing import Any, NamedTuple

from .._claim import Proved as Proved
from .additive import AdditiveOptions as AdditiveOptions
from .additive import additive as additive
from .brute_force import BruteForceOptions as BruteForceOptions
from .brute_force import brute_force as brute_force


class Theorem(NamedTuple):
    """A function ``(tables, task, options, tick) -> Proved`` and the class of its options."""

    prove: Callable[..., Proved]
    options: Callable[..., Any]


THEOREMS = {
    "additive": Theorem(additive, AdditiveOptions),
    "brute-force": Theorem(brute_force, BruteForceOptions),
}
