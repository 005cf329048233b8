"""The theorems by name. Each file states one, with its proof or its place in docs/theory.md."""

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, NamedTuple

from .._claim import Proved as Proved
from .._code_ranges import CodeOptions as CodeOptions
from .._codes import CODE_TYPES
from .._errors import OptionError
from .._model import Model
from .._transformer import Transformer
from ._brute_force_network import brute_force_flops as brute_force_flops
from ._brute_force_network import brute_force_network as brute_force_network
from .additive import AdditiveOptions as AdditiveOptions
from .additive import EffortWitness as EffortWitness
from .additive import additive as additive
from .brute_force import BruteForceOptions as BruteForceOptions
from .brute_force import brute_force as brute_force
from .cells import CellsOptions as CellsOptions
from .cells import CellsWitness as CellsWitness
from .cells import cells as cells
from .collapsed import CollapsedCubicOptions as CollapsedCubicOptions
from .collapsed import CollapsedSubcubicOptions as CollapsedSubcubicOptions
from .collapsed import collapsed_cubic as collapsed_cubic
from .collapsed import collapsed_subcubic as collapsed_subcubic
from .crosscoder_a import TELESCOPING_TYPES
from .crosscoder_a import CrosscoderAOptions as CrosscoderAOptions
from .crosscoder_a import TelescopingWitness as TelescopingWitness
from .crosscoder_a import crosscoder_a as crosscoder_a
from .crosscoder_b import AdditiveCodes as AdditiveCodes
from .crosscoder_b import crosscoder_b as crosscoder_b
from .crosscoder_c import CellCodes as CellCodes
from .crosscoder_c import crosscoder_c as crosscoder_c
from .crosscoder_d import CELL_WITNESS_TYPES
from .crosscoder_d import CellWitness as CellWitness
from .crosscoder_d import CrosscoderDOptions as CrosscoderDOptions
from .crosscoder_d import crosscoder_d as crosscoder_d
from .cubic import CubicOptions as CubicOptions
from .cubic import cubic as cubic
from .subcubic import SubcubicOptions as SubcubicOptions
from .subcubic import SubcubicWitness as SubcubicWitness
from .subcubic import subcubic as subcubic
from .windowed import WindowedOptions as WindowedOptions
from .windowed import WindowWitness as WindowWitness
from .windowed import windowed as windowed


class Theorem(NamedTuple):
    """A function ``(subject, task, options, tick, witness) -> Proved`` and what it takes."""

    prove: Callable[..., Proved]
    options: type[Any]
    from_tables: bool = True
    """Whether the subject is a ``VerifiedTables``; otherwise the ``Model`` itself."""
    witness: type[Any] | None = None
    """The NamedTuple of the theorem's own tensors: optional if it counts from tables."""
    witness_types: Mapping[str, str] = {}
    """The type of each of them, as safetensors spells it."""
    on_transformer: Callable[..., Proved] | None = None
    """The theorem for a ``Transformer`` of any kind; None if it is about one attention alone."""

    def about(
        self, name: str, model: Model | Transformer
    ) -> tuple[Callable[..., Proved], Transformer | None]:
        """The function to call, and the transformer to call it with if it takes one.

        Refuses a model that the theorem is not about.
        """
        if self.on_transformer is self.prove and isinstance(model, Model):
            model = model.as_transformer()
        if isinstance(model, Model):
            return self.prove, None
        if self.on_transformer is None:
            several = ", ".join(n for n, one in THEOREMS.items() if one.on_transformer)
            raise OptionError(
                f"the theorem {name} is about one layer of attention with one head: for this model "
                f"use one of {several}"
            )
        return self.on_transformer, model

    def parse_options(self, values: Mapping[str, int | str]) -> Any:
        """The options object with these values; refuses names that the theorem does not have."""
        names = [field.name for field in fields(self.options)]
        for name, value in values.items():
            if name not in names:
                known = ", ".join(names) or "none"
                raise OptionError(f"unknown option {name} = {value}: this theorem has {known}")
        if hasattr(self.options, "parse"):
            return self.options.parse(values)
        return self.options(**values)


THEOREMS = {
    "additive": Theorem(
        additive,
        AdditiveOptions,
        witness=EffortWitness,
        witness_types={"effort": "I32", "order": "I32"},
    ),
    "brute-force": Theorem(brute_force, BruteForceOptions, on_transformer=brute_force_network),
    "cells": Theorem(
        cells,
        CellsOptions,
        from_tables=False,
        witness=CellsWitness,
        witness_types={"cell": "I32"},
        on_transformer=cells,
    ),
    "collapsed-cubic": Theorem(collapsed_cubic, CollapsedCubicOptions),
    "collapsed-subcubic": Theorem(
        collapsed_subcubic,
        CollapsedSubcubicOptions,
        witness=WindowWitness,
        witness_types={"window": "I32"},
    ),
    "crosscoder-a": Theorem(
        crosscoder_a,
        CrosscoderAOptions,
        from_tables=False,
        witness=TelescopingWitness,
        witness_types=TELESCOPING_TYPES,
        on_transformer=crosscoder_a,
    ),
    "crosscoder-b": Theorem(
        crosscoder_b,
        CodeOptions,
        from_tables=False,
        witness=AdditiveCodes,
        witness_types=CODE_TYPES | {"sign": "I32"},
        on_transformer=crosscoder_b,
    ),
    "crosscoder-c": Theorem(
        crosscoder_c,
        CodeOptions,
        from_tables=False,
        witness=CellCodes,
        witness_types=CODE_TYPES | {"slope": "F64"},
        on_transformer=crosscoder_c,
    ),
    "crosscoder-d": Theorem(
        crosscoder_d,
        CrosscoderDOptions,
        from_tables=False,
        witness=CellWitness,
        witness_types=CELL_WITNESS_TYPES,
        on_transformer=crosscoder_d,
    ),
    "cubic": Theorem(cubic, CubicOptions),
    "subcubic": Theorem(
        subcubic,
        SubcubicOptions,
        from_tables=False,
        witness=SubcubicWitness,
        witness_types={n: "I32" if n == "gap" else "F64" for n in SubcubicWitness._fields},
    ),
    "windowed": Theorem(
        windowed, WindowedOptions, witness=WindowWitness, witness_types={"window": "I32"}
    ),
}
