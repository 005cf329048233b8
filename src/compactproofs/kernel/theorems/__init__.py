"""The theorems by name. Each file states one, with its proof or its place in docs/theory.md."""

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, NamedTuple

from .._claim import Proved as Proved
from .._errors import OptionError
from .additive import AdditiveOptions as AdditiveOptions
from .additive import additive as additive
from .brute_force import BruteForceOptions as BruteForceOptions
from .brute_force import brute_force as brute_force


class Theorem(NamedTuple):
    """A function ``(tables, task, options, tick) -> Proved`` and the class of its options."""

    prove: Callable[..., Proved]
    options: type[Any]

    def parse_options(self, values: Mapping[str, int]) -> Any:
        """The options object with these values; refuses names that the theorem does not have."""
        names = [field.name for field in fields(self.options)]
        for name, value in values.items():
            if name not in names:
                known = ", ".join(names) or "none"
                raise OptionError(f"unknown option {name} = {value}: this theorem has {known}")
        return self.options(**values)


THEOREMS = {
    "additive": Theorem(additive, AdditiveOptions),
    "brute-force": Theorem(brute_force, BruteForceOptions),
}
