"""Which rows of a source a step is trained on: a function of the seed and the step alone."""

from dataclasses import dataclass
from functools import cached_property
from typing import final

import numpy as np
from jaxtyping import Int64

from .._errors import CrosscoderError
from ._settings import CrosscoderSettings
from ._sources import ActivationSource

_DEFAULT_HELD_OUT = 0.05


@final
@dataclass(frozen=True, eq=False)
class Drawing:
    """Rows 0 .. trained - 1 are trained on, the others are held out."""

    seed: int
    trained: int
    total: int
    balance: float
    labels: Int64[np.ndarray, " trained"] | None
    """Of the rows that are trained on; None unless they are balanced."""

    @property
    def first_held_out(self) -> int:
        """The first row that was kept from training, or 0 where none was."""
        return self.trained if self.trained < self.total else 0

    def rows(self, drawn: np.random.Generator, n: int) -> Int64[np.ndarray, " n"]:
        """`n` rows, with replacement; a share `balance` of them with all labels equally likely."""
        uniform = drawn.integers(self.trained, size=n)
        if self.labels is None:
            return uniform
        order, begins, counts = self._by_label
        label = drawn.integers(len(counts), size=n)
        balanced = order[begins[label] + (drawn.random(n) * counts[label]).astype(np.int64)]
        return np.where(drawn.random(n) < self.balance, balanced, uniform)

    def distinct(self, drawn: np.random.Generator, n: int) -> Int64[np.ndarray, " n"]:
        """`n` rows drawn likewise, but none twice as long as enough others turn up."""
        several = self.rows(drawn, 8 * n)
        first = np.sort(np.unique(several, return_index=True)[1])
        return np.concatenate([several[first], self.rows(drawn, n)])[:n]

    def of_step(self, step: int, batch: int) -> Int64[np.ndarray, " batch"]:
        """The joint batch of a step."""
        return self.rows(self.generator(step, "batch"), batch)

    def generator(self, step: int, purpose: str) -> np.random.Generator:
        """Random numbers of one step for one purpose, the same whenever they are asked for."""
        return np.random.default_rng([self.seed, step, *purpose.encode()])

    @cached_property
    def _by_label(
        self,
    ) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " labels"], Int64[np.ndarray, " labels"]]:
        """Rows sorted by label, and where each label that occurs begins and how often it does."""
        known = self.labels
        if known is None:
            none = np.zeros(0, np.int64)
            return none, none, none
        _, begins, counts = np.unique(np.sort(known), return_index=True, return_counts=True)
        return np.argsort(known, kind="stable"), begins, counts


def drawing_of(settings: CrosscoderSettings, source: ActivationSource) -> Drawing:
    """Raises CrosscoderError where labels are to be balanced and the source knows none."""
    share = settings.held_out
    if share is None:
        share = 0.0 if source.complete else _DEFAULT_HELD_OUT
    trained = len(source) - int(share * len(source))
    labels = None
    if settings.balance > 0:
        labels = source.labels()
        if labels is None:
            raise CrosscoderError(
                f"balance = {settings.balance} needs a source that knows the labels of its rows"
            )
        labels = labels[:trained]
    return Drawing(settings.seed, trained, len(source), settings.balance, labels)
