"""Counting sequences by slack: how many words of a class could still be wrong.

T5, second half (docs/theory.md section 4): each token at each position has a slack, how far it
stays below the best token there; a wrong word has total slack at most ``budget``. Words are
counted by a generating polynomial: the coefficient of ``z^b`` counts words whose *binned* slack
is ``b``. A polynomial is one Python integer with a slot of bits for each coefficient, so a
convolution is one exact integer product.
"""

from collections.abc import Iterator
from math import prod
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int64

from ._errors import OptionError
from ._ledger import Counted, Ledger
from ._tasks import ClassAutomaton

_MAX_POLYNOMIAL = 1 << 24  # bytes


def count_within_slack(
    words: ClassAutomaton,
    slack: Counted,
    letters: Int64[np.ndarray, " t"],
    budgets: list[int],
    bins: int,
    ledger: Ledger,
    multiplicity: Int64[np.ndarray, " t"] | None = None,
) -> Iterator[int]:
    """For each row, an upper bound on the words of the class whose slack is within the budget.

    Counted when asked for: a caller that has seen enough rows pays for no more.

    ``slack[row, i, t] >= 0`` belongs to the ``multiplicity[t]`` tokens (1 if not given) of letter
    ``letters[t]`` that share column ``t``. With the bin
    width ``c = max(1, ceil(budget / bins))``, the words counted are those with
    ``sum_i floor(slack_i / c) <= floor(budget / c)``; every word with ``sum_i slack_i <= budget``
    is one of them, since a sum of floors is at most the floor of the sum.

    Cost of a row: O(k states letters) products of integers of ``bins`` slots.
    """
    if bins < 1:
        raise OptionError(f"bins = {bins} must be at least 1")
    sharing = np.ones(len(letters), dtype=np.int64) if multiplicity is None else multiplicity
    for row, budget in zip(slack, budgets, strict=True):
        width = max(1, -(-budget // bins))
        limit = budget // width
        binned = row // width
        inside = binned <= limit
        # No coefficient, nor the sum of all of them, exceeds the number of words it counts.
        most = prod(max(1, tokens) for tokens in (np.asarray(inside) @ sharing).tolist())
        slot = max(4, (most.bit_length() + 8) // 8)  # bytes, one bit to spare; 4 hold any count
        if (limit + 1) * slot > _MAX_POLYNOMIAL:
            raise OptionError(
                f"{bins} bins of counts up to 2^{most.bit_length()} are too many: use fewer bins"
            )
        polynomials = _polynomials(words, binned, inside, letters, sharing, limit, ledger)
        yield _count_words(words, polynomials, limit, slot, ledger)


class _Polynomial(NamedTuple):
    """Terms ``count z^bin`` with ``count > 0``, ascending bins."""

    bins: list[int]
    counts: list[int]


def _polynomials(
    words: ClassAutomaton,
    binned: Int64[np.ndarray, "i t"],
    inside: Bool[np.ndarray, "i t"],
    letters: Int64[np.ndarray, " t"],
    multiplicity: Int64[np.ndarray, " t"],
    limit: int,
    ledger: Ledger,
) -> Iterator[list[_Polynomial]]:
    """For each position one polynomial per letter: how many of its tokens each bin holds."""
    of_letter = [np.flatnonzero(letters == letter) for letter in range(len(words.letters))]
    for bins, within in zip(np.asarray(binned), np.asarray(inside), strict=True):
        at_position: list[_Polynomial] = []
        for tokens in of_letter:
            present = tokens[within[tokens]]
            ledger.point(present.size)
            counts = np.zeros(limit + 1, dtype=np.int64)
            np.add.at(counts, bins[present], multiplicity[present])
            used = np.flatnonzero(counts)
            at_position.append(_Polynomial(used.tolist(), counts[used].tolist()))
        yield at_position


def _count_words(
    words: ClassAutomaton,
    polynomials: Iterator[list[_Polynomial]],
    limit: int,
    slot: int,
    ledger: Ledger,
) -> int:
    """Run the automaton on polynomials, and add up the coefficients where words are accepted."""
    mask = (1 << (8 * slot * (limit + 1))) - 1
    reached = {0: 1}
    for moves, at_position in zip(words.moves, polynomials, strict=True):
        following: dict[int, int] = {}
        for state, targets in moves.items():
            for target, by_letter in targets.items():
                before = reached.get(state, 0)
                for letter in by_letter:
                    product = _multiply(before, at_position[letter], limit, slot, ledger) & mask
                    ledger.integer_sum(product)
                    following[target] = following.get(target, 0) + product
        reached = following
    # The digits of a number in base b add up to its remainder modulo b - 1.
    return sum(reached.values()) % ((1 << (8 * slot)) - 1)


def _multiply(polynomial: int, factor: _Polynomial, limit: int, slot: int, ledger: Ledger) -> int:
    """The product, by the cheaper way: term by term, or as one product of packed integers."""
    terms = len(factor.bins)
    packed_limbs = -(-slot * (limit + 1) // 8)
    if 3 * terms < packed_limbs or not polynomial:
        total = 0
        for at, count in zip(factor.bins, factor.counts, strict=True):
            ledger.integer_sum(polynomial)  # the shift
            term = polynomial << (8 * slot * at)
            if count > 1:
                ledger.integer_product(polynomial, count)
                term *= count
            if total:
                ledger.integer_sum(term)
            total += term
        return total
    slots = np.zeros((limit + 1, slot), dtype=np.uint8)
    counts = np.array(factor.counts, dtype="<u4")
    slots[factor.bins, :4] = counts.view(np.uint8).reshape(-1, 4)
    packed = int.from_bytes(slots.tobytes(), "little")
    ledger.integer_product(polynomial, packed)
    return polynomial * packed
