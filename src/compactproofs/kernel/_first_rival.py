"""T5 refined: every wrong word counted once, at the first output that it is wrong against.

The sum over the outputs ``x`` of the words wrong against each counts a word as often as it is
wrong; the joint maximum counts words that no single output makes wrong. Put some outputs in any
order. With ``y >= f`` as in T5, a word that is wrong against one of them has
``sum_i y_i(t_i, x) >= 0`` for a *first* ``x`` in the order, and ``sum_i y_i(t_i, p) < 0`` for every
``p`` before it. So for any such ``p`` and any multiplier ``e >= 0``

    sum_i [8 y_i(t_i, x) - e y_i(t_i, p)] >= 0,

one additive condition again, to which T5 applies. Outputs may share a *group*: the maximum of
their conditions, token by token, bounds the words that fulfil any of them. The class has at most
as many wrong words as all groups and the outputs left out of the order together. Any order, groups
and multipliers are sound.
"""

from collections.abc import Sequence
from functools import reduce
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64

from ._ledger import Ledger
from ._slack import Terms, wrong_words
from ._tasks import ClassAutomaton

SPARE = 8
"""Bits of headroom that the terms must have beyond what T5 needs."""
MAX_EIGHTHS = (1 << SPARE) - 8
"""The largest multiplier: ``8 y(x) - e y(p)`` is then at most ``2^SPARE`` times a term."""


class Rival(NamedTuple):
    """An output in the order, told apart from those before it."""

    output: int
    """Its column in the terms."""
    group: int
    """Outputs of one group are counted by one joint condition."""
    pivot: int
    """The column of an output earlier in the order; -1 for none."""
    eighths: int
    """The multiplier ``e``, from 0 to ``MAX_EIGHTHS``."""


def wrong_by_first_rival(
    terms: Terms,
    words: ClassAutomaton,
    order: Sequence[Rival],
    bins: int,
    ledger: Ledger,
) -> int:
    """An upper bound on the words after which the model is wrong or tied; their number at most.

    terms: with ``SPARE`` bits to spare. Each pivot must stand earlier in ``order``. Cost: that of
    one row of T5 for each group.
    """
    named = {rival.output for rival in order}
    rest = [x for x in range(len(terms.at_query)) if x not in named]
    left_out = terms._replace(at_query=terms.at_query[rest], before=terms.before[..., rest])
    wrong = wrong_words(left_out, words, bins, ledger) if rest else 0
    groups: dict[int, list[Rival]] = {}
    for rival in order:
        groups.setdefault(rival.group, []).append(rival)
    for rivals in groups.values():
        joint = terms._replace(
            at_query=_largest(terms.at_query, rivals), before=_largest(terms.before, rivals)
        )
        wrong += wrong_words(joint, words, bins, ledger)
    return min(words.size, wrong)


def _largest(
    bounds: Int64[np.ndarray, "*shape x"], rivals: Sequence[Rival]
) -> Int64[np.ndarray, "*shape 1"]:
    conditions = (
        8 * bounds[..., rival.output, None]
        - (rival.eighths * bounds[..., rival.pivot, None] if rival.eighths else 0)
        for rival in rivals
    )
    return reduce(np.maximum, conditions)
