"""Grouping the tokens of a class into columns: near ones by themselves, far ones together.

The windowed and collapsed theorems treat each token ``t > far`` as it is and give all tokens
``t <= far`` of one letter a single bound. For max-of-k with label ``m``, ``far = m - g``.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int64

from ._tasks import ClassAutomaton


class Columns(NamedTuple):
    """Columns of a class; the near ones first."""

    near: Int64[np.ndarray, " n"]
    """The token of each near column."""
    letter_of: Int64[np.ndarray, " c"]
    multiplicity: Int64[np.ndarray, " c"]
    has_far: bool
    """Whether columns for far tokens follow, one for each letter that has some."""


def columns(words: ClassAutomaton, far: int) -> Columns:
    """Split the tokens of ``words`` at ``far``, the largest far token; -1 if none is far."""
    near: list[int] = []
    near_letter: list[int] = []
    far_letter: list[int] = []
    shared: list[int] = []
    for letter, tokens in enumerate(words.letters):
        beyond = [t for t in tokens if t > far]
        near += beyond
        near_letter += [letter] * len(beyond)
        if len(beyond) < len(tokens):
            far_letter.append(letter)
            shared.append(len(tokens) - len(beyond))
    return Columns(
        np.array(near, dtype=np.int64),
        np.array(near_letter + far_letter, dtype=np.int64),
        np.array([1] * len(near) + shared, dtype=np.int64),
        bool(shared),
    )
