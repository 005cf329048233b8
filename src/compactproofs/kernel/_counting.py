"""Counting sequences by slack: how many words of a class could still be wrong.

T5, second half (docs/theory.md section 4): each token at each position has a slack, how far it
stays below the best token there; a wrong word has total slack at most ``budget``. Words are
counted by a generating polynomial: the coefficient of ``z^b`` counts words whose *binned* slack
is ``b``. A polynomial is one Python integer with a slot of bits for each coefficient, so a
convolution is one exact integer product.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Int64

from ._errors import OptionError
from ._ledger import Counted, Ledger
from ._tasks import ClassAutomaton

_MAX_COUNTS = 1 << 16  # bins made ready at once, over all rows, positions and letters


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
    rows_at_once = max(1, _MAX_COUNTS // (slack.shape[1] * len(words.letters) * bins + 1))
    for begin in range(0, len(budgets), rows_at_once):
        chunk = slice(begin, begin + rows_at_once)
        yield from _count_rows(words, slack[chunk], letters, budgets[chunk], bins, ledger)


def _count_rows(
    words: ClassAutomaton,
    slack: Int64[np.ndarray, "rows i t"],
    letters: Int64[np.ndarray, " t"],
    budgets: list[int],
    bins: int,
    ledger: Ledger,
) -> Iterator[int]:
    widths = [max(1, -(-budget // bins)) for budget in budgets]
    limits = [budget // width for budget, width in zip(budgets, widths, strict=True)]
    column = (slice(None), None, None)
    binned = slack // np.array(widths)[column]
    inside = binned <= np.array(limits)[column]
    row, position, token = np.nonzero(inside)

    # counts[row, i, letter, b]: tokens of a letter at a position in bin b.
    rows, length, _ = slack.shape
    shape = (rows, length, len(words.letters), max(limits) + 1)
    flat = np.ravel_multi_index((row, position, letters[token], np.asarray(binned)[inside]), shape)
    counts = np.bincount(flat, minlength=int(np.prod(shape))).reshape(shape)
    ledger.point(flat.size)

    # No coefficient, nor the sum of all of them, exceeds the number of words it counts.
    most = max(_product(per_position) for per_position in inside.sum(axis=2).tolist())
    slot = max(4, (most.bit_length() + 8) // 8)  # bytes, one bit to spare; 4 hold any count
    packed = np.zeros((*shape, slot), dtype=np.uint8)
    packed[..., :4] = counts[..., None].astype("<u4").view(np.uint8)
    stored, width = packed.tobytes(), shape[3] * slot

    for r in range(rows):
        mask = (1 << (8 * slot * (limits[r] + 1))) - 1
        start = r * length * shape[2] * width
        polynomials = [
            int.from_bytes(stored[begin : begin + width], "little")
            for begin in range(start, start + length * shape[2] * width, width)
        ]
        yield _count_words(words, polynomials, mask, slot, ledger)


def _product(numbers: list[int]) -> int:
    result = 1
    for number in numbers:
        result *= max(number, 1)
    return result


def _count_words(
    words: ClassAutomaton, polynomials: list[int], mask: int, slot: int, ledger: Ledger
) -> int:
    """Run the automaton on polynomials, and add up the coefficients where words are accepted."""
    letters = len(words.letters)
    reached = {0: 1}
    for position, moves in enumerate(words.moves):
        at_position = polynomials[position * letters : (position + 1) * letters]
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
    if factor & (factor - 1) == 0:  # one term with coefficient 1 (or none): a shift, not a product
        ledger.integer_sum(polynomial)
        return polynomial << (factor.bit_length() - 1) if factor else 0
    ledger.integer_product(polynomial, factor)
    return polynomial * factor
