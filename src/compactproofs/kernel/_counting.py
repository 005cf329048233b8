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

from ._errors import KernelDefectError, OptionError
from ._ledger import Ledger
from ._tasks import ClassAutomaton

_MAX_POLYNOMIAL = 1 << 24  # bytes


def count_within_slack(
    words: ClassAutomaton,
    slack: Int64[np.ndarray, "rows i t"],
    letters: Int64[np.ndarray, " t"],
    budgets: list[int],
    bins: int,
    ledger: Ledger,
    multiplicity: Int64[np.ndarray, " t"] | None = None,
) -> Iterator[int]:
    """For each row, an upper bound on the words of the class whose slack is within the budget.

    Counted when asked for: a caller that has seen enough rows pays for no more.

    ``slack[row, i, t] >= 0`` belongs to the ``multiplicity[t]`` tokens (1 if not given) of letter
    ``letters[t]`` that share column ``t``. With the bin width ``c = max(1, ceil(budget / bins))``
    and offsets ``0 <= e_i < c``, the words counted are those with
    ``sum_i floor((slack_i + e_i) / c) <= floor((budget + sum_i e_i) / c)``; every word with
    ``sum_i slack_i <= budget`` is one of them, since a sum of floors is at most the floor of the
    sum. Any offsets are sound; ``_offsets`` chooses those that round least.

    Cost of a row: O(k states letters) products of integers of ``bins`` slots.
    """
    if bins < 1:
        raise OptionError(f"bins = {bins} must be at least 1")
    sharing = np.ones(len(letters), dtype=np.int64) if multiplicity is None else multiplicity
    for row, budget in zip(np.asarray(slack), budgets, strict=True):
        if budget < 0:
            raise KernelDefectError(f"budget {budget}: the worst case excludes this output")
        width = max(1, -(-budget // bins))
        offset = _offsets(row, sharing, width, budget, ledger)
        limit = (budget + int(offset.sum())) // width
        binned = (row + offset[:, None]) // width
        inside = binned <= limit
        ledger.point(3 * row.size)
        # No coefficient, nor the sum of all of them, exceeds the number of words it counts.
        most = prod(max(1, tokens) for tokens in (inside @ sharing).tolist())
        slot = max(4, (most.bit_length() + 8) // 8)  # bytes, one bit to spare; 4 hold any count
        if (limit + 1) * slot > _MAX_POLYNOMIAL:
            raise OptionError(
                f"{bins} bins of counts up to 2^{most.bit_length()} are too many: use fewer bins"
            )
        polynomials = [
            _polynomials(binned[:, of], inside[:, of], sharing[of], limit)
            for of in (letters == letter for letter in range(len(words.letters)))
        ]
        ledger.point(int(inside.sum()))
        yield _count_words(words, polynomials, limit, slot, ledger)


def _offsets(
    slack: Int64[np.ndarray, "i t"],
    multiplicity: Int64[np.ndarray, " t"],
    width: int,
    budget: int,
    ledger: Ledger,
) -> Int64[np.ndarray, " i"]:
    """For each position the offset at which its tokens lose least by rounding to bins.

    Most tokens of a position often have nearly the same slack (that of a token without attention):
    a bin should begin there. With residues ``a_t = slack_t mod width``, sorted, the bin that
    begins at token ``j`` loses ``sum_t n_t ((a_t - a_j) mod width)``; the least of these sums is
    taken, over tokens within the budget. Residues are cut to 40 bits, so that no sum leaves int64.
    Cost: O(t log t) a position.
    """
    if width == 1:
        return np.zeros(len(slack), dtype=np.int64)
    residue = slack % width
    order = np.argsort(residue, axis=1, kind="stable")
    ascending = np.take_along_axis(residue, order, axis=1)
    shared = np.where(slack <= budget, multiplicity, 0)
    shared = np.take_along_axis(shared, order, axis=1)
    cut = max(0, width.bit_length() - 40)
    before = shared.cumsum(axis=1) - shared
    loss = before * (width >> cut) - (ascending >> cut) * shared.sum(axis=1, keepdims=True)
    ledger.point(slack.size * (7 + slack.shape[1].bit_length()))
    begins = np.take_along_axis(ascending, loss.argmin(axis=1)[:, None], axis=1)[:, 0]
    return -begins % width


class _Polynomial(NamedTuple):
    """Terms ``count z^bin`` with ``count > 0``, ascending bins."""

    bins: list[int]
    counts: list[int]


def _polynomials(
    binned: Int64[np.ndarray, "i t"],
    inside: Bool[np.ndarray, "i t"],
    multiplicity: Int64[np.ndarray, " t"],
    limit: int,
) -> list[_Polynomial]:
    """For each position a polynomial: how many tokens of one letter each bin holds."""
    positions = len(binned)
    at = binned + (limit + 1) * np.arange(positions)[:, None]
    counts = np.zeros(positions * (limit + 1), dtype=np.int64)
    np.add.at(counts, at[inside], np.broadcast_to(multiplicity, inside.shape)[inside])
    used = np.flatnonzero(counts)
    ends = np.searchsorted(used, (limit + 1) * np.arange(positions + 1)).tolist()
    bins, numbers = (used % (limit + 1)).tolist(), counts[used].tolist()
    return [
        _Polynomial(bins[start:end], numbers[start:end])
        for start, end in zip(ends, ends[1:], strict=False)
    ]


def _count_words(
    words: ClassAutomaton,
    polynomials: list[list[_Polynomial]],
    limit: int,
    slot: int,
    ledger: Ledger,
) -> int:
    """Run the automaton on polynomials, and add up the coefficients where words are accepted.

    polynomials: by letter and position.
    """
    mask = (1 << (8 * slot * (limit + 1))) - 1
    reached = {0: 1}
    for position, moves in enumerate(words.moves):
        following: dict[int, int] = {}
        for state, targets in moves.items():
            before = reached.get(state, 0)
            for target, by_letter in targets.items():
                for letter in by_letter:
                    factor = polynomials[letter][position]
                    product = _multiply(before, factor, limit, slot, ledger) & mask
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
        limbs = -(-polynomial.bit_length() // 64) or 1
        operations = limbs * terms  # the shifts
        step = 8 * slot
        for at, count in zip(factor.bins, factor.counts, strict=True):
            term = polynomial << (step * at)
            if count > 1:
                operations += limbs
                term *= count
            if total:
                operations += (term.bit_length() + 63) >> 6
            total += term
        ledger.point(operations)
        return total
    slots = np.zeros((limit + 1, slot), dtype=np.uint8)
    counts = np.array(factor.counts, dtype="<u4")
    slots[factor.bins, :4] = counts.view(np.uint8).reshape(-1, 4)
    packed = int.from_bytes(slots.tobytes(), "little")
    ledger.integer_product(polynomial, packed)
    return polynomial * packed
