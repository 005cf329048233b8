"""Where observations come from: a source hands out each of them once, in their order."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int

from compactproofs.kernel import UserError

from ._events import Pattern


class SourceError(UserError):
    """Observations that do not fit together, or none where some are needed."""


class Batch(NamedTuple):
    """Site values, logits, and labels (-1 where nobody labelled)."""

    h: Float64[np.ndarray, "n s"]
    outputs: Float64[np.ndarray, "n x"]
    labels: Int[np.ndarray, " n"]

    @property
    def classes(self) -> Int[np.ndarray, " n"]:
        """What the network answers."""
        return self.outputs.argmax(axis=1)

    def having(self, pattern: Pattern) -> Bool[np.ndarray, " n"]:
        """Which observations have all the events; an empty conjunction holds everywhere."""
        result = np.ones(len(self.h), dtype=bool)
        for event in pattern:
            result &= event.holds(self.h)
        return result


class Source:
    """Observations that come once: what was taken to mine in is never taken to count on.

    ``draw(n)`` gives the next n observations, or fewer at the end.
    """

    def __init__(self, draw: Callable[[int], Batch]) -> None:
        """Of a function that draws."""
        self._draw = draw

    @classmethod
    def of(
        cls,
        h: Float64[np.ndarray, "n s"],
        outputs: Float64[np.ndarray, "m x"],
        labels: Int[np.ndarray, " l"] | None = None,
    ) -> "Source":
        """The rows in their order. Raises SourceError if the numbers of rows differ."""
        labels = np.full(len(h), -1) if labels is None else labels
        if not len(h) == len(outputs) == len(labels):
            raise SourceError(
                f"h, outputs and labels have {len(h)}, {len(outputs)} and {len(labels)} rows: "
                "give one each of every observation"
            )
        copies = Batch(np.array(h), np.array(outputs), np.array(labels, dtype=np.int64))
        place = 0

        def draw(n: int) -> Batch:
            nonlocal place
            start, place = place, min(place + n, len(copies.h))
            return Batch(*(array[start:place] for array in copies))

        return cls(draw)

    def take(self, n: int) -> Batch:
        """The next ``n`` observations; fewer, or none, at the end. Raises SourceError for n < 1."""
        if n < 1:
            raise SourceError(f"n = {n} observations cannot be taken: take at least 1")
        return self._draw(n)
