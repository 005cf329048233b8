"""T5: the worst case of a class, and how many of its words could be wrong (docs/theory.md).

Shared by the additive, windowed and collapsed theorems, which differ in the bounds they put in.
Fix a class: a query, a label, the automaton of the words before the query. Let column ``c`` stand
for ``multiplicity[c]`` tokens of one letter, with integers ``y_i(c, x) >= f_i(t)`` for each token
``t`` in it, ``M_i = max_c y_i(c)``, ``base >= f_{k-1}(q)``, ``W = base + sum_i M_i``.

1. If the largest ``base + sum_i y_i(c_i)`` over the words of the class is negative, no sequence of
   the class is wrong against ``x``. (The automaton of the class makes this maximum exact: for
   max-of-k it contains the condition that some position holds ``m``.)
2. Otherwise a sequence that is wrong against ``x`` has ``sum_i (M_i - y_i(c_i)) <= W``; at most
   ``wrong_x`` words, counted by ``count_within_slack``, are that close.
3. With ``y_i(c) = max_x y_i(c, x)`` over the outputs not excluded by 1, the same bounds the
   sequences wrong against *any* of them by ``wrong_joint``.

So at most ``min(sum_x wrong_x, wrong_joint)`` words are wrong.
"""

from functools import reduce
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64

from ._counting import count_within_slack
from ._ledger import Counted, Ledger
from ._tasks import ClassAutomaton


class Terms(NamedTuple):
    """The bounds ``y`` of one class, in one unit; sums of ``k`` of them stay below 2^62."""

    at_query: Int64[np.ndarray, " x"]
    before: Int64[np.ndarray, "i c x"]
    letter_of: Int64[np.ndarray, " c"]
    """The letter of each column; every letter of the class has at least one."""
    multiplicity: Int64[np.ndarray, " c"] | None = None
    """How many tokens share each column; one each if not given."""


def wrong_words(terms: Terms, words: ClassAutomaton, bins: int, ledger: Ledger) -> int:
    """An upper bound on the words after which the model is wrong or tied.

    bins: how finely slack is counted; 0 to take the worst case only.
    """
    worst = worst_word(terms, words)
    open_outputs = np.flatnonzero(np.asarray(worst >= 0))
    # The worst outputs first: their counts reach the joint one soonest, and the rest is saved.
    order = np.argsort(-np.asarray(worst)[open_outputs], kind="stable")
    open_outputs = open_outputs[order]
    ledger.point(open_outputs.size)
    if not open_outputs.size:
        return 0
    if not words.length:
        return 1  # the empty word, which has no slack to count
    if not bins:
        return words.size
    at_query, before = terms.at_query[open_outputs], terms.before[:, :, open_outputs]
    if open_outputs.size > 1:
        at_query, before = _with_joint(at_query, ledger), _with_joint(before, ledger)
    highest = before.max(axis=1)  # [i, x]
    budgets = (at_query + highest.sum(axis=0)).tolist()
    slack = np.moveaxis(highest[:, None, :] - before, 2, 0)
    counts = count_within_slack(
        words, slack, terms.letter_of, budgets, bins, ledger, terms.multiplicity
    )
    wrong_joint = next(counts)
    if open_outputs.size == 1:
        return wrong_joint
    wrong_by_output = 0
    for wrong in counts:
        wrong_by_output += wrong
        if wrong_by_output >= wrong_joint:  # the sum only grows
            return wrong_joint
    return wrong_by_output


def _with_joint(rows: Int64[np.ndarray, "*shape x"], ledger: Ledger) -> Counted:
    """The maximum over all outputs, then the rows of the outputs themselves."""
    joint = rows.max(axis=-1, keepdims=True)
    return Counted.of(np.concatenate([joint, rows], axis=-1), ledger)


def worst_word(terms: Terms, words: ClassAutomaton) -> Int64[np.ndarray, " x"]:
    """For each wrong output the largest ``base + sum_i y_i(c_i)`` over the words of the class."""
    by_letter = [
        terms.before[:, terms.letter_of == letter].max(axis=1)
        for letter in range(len(words.letters))
    ]
    best = {0: terms.at_query}
    for position, moves in enumerate(words.moves):
        following: dict[int, Int64[np.ndarray, " x"]] = {}
        for state, targets in moves.items():
            for target, letters in targets.items():
                for letter in letters:
                    candidate = best[state] + by_letter[letter][position]
                    if target in following:
                        candidate = np.maximum(following[target], candidate)
                    following[target] = candidate
        best = following
    return reduce(np.maximum, best.values())
