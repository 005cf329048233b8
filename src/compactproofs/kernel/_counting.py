"""Counting sequences by slack: how many words of a class could still be wrong.

T5, second half (docs/theory.md section 4): each token at each position has a slack, how far it
stays below the best token there; a wrong word has total slack at most ``budget``. Words are
counted by a generating polynomial: the coefficient of ``z^b`` counts words whose *binned* slack
is ``b``. A polynomial is one Python integer with a slot of bits for each coefficient, so a
convolution is one exact integer product.
"""

from collections.abc import Iterator
from math import prod

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
) -> Iterator[int]:
    """For each row, an upper bound on the words of the class whose slack is within the budget.

    Counted when asked for: a caller that has seen enough rows pays for no more.

    ``slack[row, i, t] >= 0`` belongs to the token whose letter is ``letters[t]``. With the bin
    width ``c = max(1, ceil(budget / bins))``, the words counted are those with
    ``sum_i floor(slack_i / c) <= floor(budget / c)``; every word with ``sum_i slack_i <= budget``
    is one of them, since a sum of floors is at most the floor of the sum.

    Cost of a row: O(k states letters) products of integers of ``bins`` slots.
    """
    if bins < 1:
        raise OptionError(f"bins = {bins} must be at least 1")
    for row, budget in zip(slack, budgets, strict=True):
        width = max(1, -(-budget // bins))
        limit = budget // width
        binned = row // width
        inside = binned <= limit
        # No coefficient, nor the sum of all of them, exceeds the number of words it counts.
        most = prod(max(1, tokens) for tokens in inside.sum(axis=1).tolist())
        slot = max(4, (most.bit_length() + 8) // 8)  # bytes, one bit to spare; 4 hold any count
        if (limit + 1) * slot > _MAX_POLYNOMIAL:
            raise OptionError(
                f"{bins} bins of counts up to 2^{most.bit_length()} are too many: use fewer bins"
            )
        polynomials = _polynomials(words, binned, inside, letters, limit, slot, ledger)
        yield _count_words(words, polynomials, limit, slot, ledger)


def _polynomials(
    words: ClassAutomaton,
    binned: Int64[np.ndarray, "i t"],
    inside: Bool[np.ndarray, "i t"],
    letters: Int64[np.ndarray, " t"],
    limit: int,
    slot: int,
    ledger: Ledger,
) -> Iterator[list[int]]:
    """For each position one integer per letter; slot ``b`` counts the letter's tokens in bin b."""
    of_letter = [np.flatnonzero(letters == letter) for letter in range(len(words.letters))]
    for bins, within in zip(np.asarray(binned), np.asarray(inside), strict=True):
        at_position: list[int] = []
        for tokens in of_letter:
            present = bins[tokens][within[tokens]]
            ledger.point(present.size)
            slots = np.zeros((limit + 1, slot), dtype=np.uint8)
            counts = np.bincount(present, minlength=limit + 1).astype("<u4")
            slots[:, :4] = counts.view(np.uint8).reshape(-1, 4)
            at_position.append(int.from_bytes(slots.tobytes(), "little"))
        yield at_position


def _count_words(
    words: ClassAutomaton,
    polynomials: Iterator[list[int]],
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
                factor = sum(at_position[letter] for letter in by_letter)
                product = _multiply(reached.get(state, 0), factor, ledger) & mask
                ledger.integer_sum(product)
                following[target] = following.get(target, 0) + product
        reached = following
    # The digits of a number in base b add up to its remainder modulo b - 1.
    return sum(reached.values()) % ((1 << (8 * slot)) - 1)


def _multiply(polynomial: int, factor: int, ledger: Ledger) -> int:
    if factor & (factor - 1) == 0:  # a power of two, mostly z^b alone, or 0: a shift is enough
        ledger.integer_sum(polynomial)
        return polynomial << (factor.bit_length() - 1) if factor else 0
    ledger.integer_product(polynomial, factor)
    return polynomial * factor
