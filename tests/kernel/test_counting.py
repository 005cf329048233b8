"""Counting by slack: exactly the binned number, never less than the true one."""

from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest
from tasks_for_tests import TASKS, token_words, words_by_letters

from compactproofs.kernel import ClassAutomaton, MaxOfK, OptionError, Task
from compactproofs.kernel._counting import _offsets, count_within_slack
from compactproofs.kernel._ledger import Counted, Ledger


def letters_of(words: ClassAutomaton) -> np.ndarray:
    """The letter of each token of the class, tokens grouped by letter as theorems do."""
    return np.array([a for a, letter in enumerate(words.letters) for _ in letter], dtype=np.int64)


def count(words: ClassAutomaton, slack: np.ndarray, budgets: list[int], bins: int) -> list[int]:
    ledger = Ledger()
    counted = Counted.of(slack.astype(np.int64), ledger)
    return list(count_within_slack(words, counted, letters_of(words), budgets, bins, ledger))


def columns_of_words(words: ClassAutomaton) -> np.ndarray:
    """Every word of the class, as columns of the slack table."""
    tokens = [token for letter in words.letters for token in letter]
    column = {token: i for i, token in enumerate(tokens)}
    members = [
        [column[token] for token in word]
        for letters in words_by_letters(words)
        for word in token_words(words, letters)
    ]
    return np.array(members, dtype=np.int64).reshape(len(members), words.length)


def word_slacks(words: ClassAutomaton, slack: np.ndarray) -> np.ndarray:
    """Slack by row, word and position, in Python integers."""
    columns = columns_of_words(words)
    return slack.astype(object)[:, np.arange(words.length), columns]


def exact_number(words: ClassAutomaton, slack: np.ndarray, budgets: list[int]) -> list[int]:
    sums = word_slacks(words, slack).sum(axis=2)
    return [int(sum(x <= budget for x in row)) for row, budget in zip(sums, budgets, strict=True)]


def binned_number(
    words: ClassAutomaton, slack: np.ndarray, budgets: list[int], bins: int
) -> list[int]:
    numbers = []
    of_words = word_slacks(words, slack)
    one_each = np.ones(slack.shape[2], dtype=np.int64)
    for row, of_word, budget in zip(slack.astype(np.int64), of_words, budgets, strict=True):
        width = max(1, -(-budget // bins))
        offsets = _offsets(row, one_each, width, budget, Ledger()).tolist()
        assert all(0 <= e < width for e in offsets)
        limit = (budget + sum(offsets)) // width
        numbers.append(
            sum(
                sum((x + e) // width for x, e in zip(word, offsets, strict=True)) <= limit
                for word in of_word
            )
        )
    return numbers


def some_classes(task: Task, rng: np.random.Generator, at_most: int) -> Iterator[ClassAutomaton]:
    classes = [words for _, _, words in task.classes()]
    for i in rng.permutation(len(classes))[:at_most]:
        yield classes[i]


def random_slack(rng: np.random.Generator, shape: tuple[int, ...], size: int) -> np.ndarray:
    """Non-negative, with many zeros and ties, up to ``size``."""
    slack = rng.integers(0, size, shape, endpoint=True)
    slack[rng.random(shape) < 0.2] = 0
    return np.where(rng.random(shape) < 0.3, slack.max(initial=0) // 2, slack)


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("size", [0, 1, 3, 100, 2**20, 2**61 // 5])
def test_counts_are_the_binned_ones_and_at_least_the_true_ones(name: str, size: int) -> None:
    rng = np.random.default_rng(size % 1000)
    for k, v in ((1, 3), (2, 1), (2, 4), (3, 3), (4, 3), (5, 2)):
        for words in some_classes(TASKS[name](k, v), rng, 4):
            tokens = len(letters_of(words))
            for bins in (1, 2, 7, int(rng.integers(1, 300))):
                slack = random_slack(rng, (5, k - 1, tokens), size)
                budgets = [0, 1, size, int(rng.integers(0, 3 * size + 2)), k * size + 1]
                counts = count(words, slack, budgets, bins)
                assert counts == binned_number(words, slack, budgets, bins)
                exact = exact_number(words, slack, budgets)
                assert all(c >= x for c, x in zip(counts, exact, strict=True))
                assert counts[-1] == words.size, "every word is within the largest budget"


def test_as_many_bins_as_units_count_exactly() -> None:
    rng = np.random.default_rng(1)
    for words in some_classes(MaxOfK(4, 4), rng, 6):
        slack = random_slack(rng, (3, 3, len(letters_of(words))), 60)
        budgets = [17, 60, 100]
        assert count(words, slack, budgets, 100) == exact_number(words, slack, budgets)


def test_a_word_at_the_budget_is_counted_for_every_number_of_bins() -> None:
    # The border that an unsound bin width (rounded down) or a strict limit would lose.
    words = MaxOfK(3, 2).class_automaton(1, 1)
    assert words is not None
    for budget in (0, 1, 2, 99, 100, 101, 2**40 + 1):
        for first in (0, budget // 3, budget // 2, budget):
            slack = np.full((1, 2, 2), budget + 1)
            slack[0, 0, 0], slack[0, 1, 0] = first, budget - first
            for bins in (1, 2, 3, 10, 64, 127):
                assert count(words, slack, [budget], bins)[0] >= 1


def test_offsets_lose_least_of_all_that_begin_at_a_token() -> None:
    rng = np.random.default_rng(3)
    for width in (2, 7, 1000, 2**39, 2**50):
        for _ in range(20):
            slack = random_slack(rng, (3, 6), 5 * width)
            shared = rng.integers(1, 5, 6)
            budget = int(rng.integers(1, 6 * width))
            chosen = _offsets(slack, shared, width, budget, Ledger())
            for row, offset in zip(slack.tolist(), chosen.tolist(), strict=True):

                def lost(e: int) -> int:
                    return sum(
                        int(n) * ((s + e) % width)  # noqa: B023
                        for s, n in zip(row, shared, strict=True)  # noqa: B023
                        if s <= budget  # noqa: B023
                    )

                best = min(lost(-s % width) for s in row)
                assert lost(offset) <= best + 40 * (width >> 40) + 40 * (width.bit_length() > 40)


def test_rows_do_not_influence_each_other() -> None:
    rng = np.random.default_rng(2)
    words = MaxOfK(4, 3).class_automaton(2, 2)
    assert words is not None
    slack = np.stack([random_slack(rng, (3, 3), size) for size in (0, 5, 10**6, 2**59)])
    budgets = [0, 7, 10**6, 2**60]
    together = count(words, slack, budgets, 50)
    alone = [count(words, slack[i : i + 1], budgets[i : i + 1], 50)[0] for i in range(len(budgets))]
    assert together == alone


@pytest.mark.parametrize("bins", [1, 128])
@pytest.mark.parametrize("label", [0, 1, 31, 63])
def test_counts_beyond_64_bits(label: int, bins: int) -> None:
    for query in {0, label}:
        words = MaxOfK(20, 64).class_automaton(query, label)
        if words is None:
            continue
        slack = np.zeros((2, 19, label + 1), dtype=np.int64)
        expected = (label + 1) ** 19 - (label**19 if query < label else 0)
        assert count(words, slack, [0, 2**61], bins) == [expected, expected]
    assert 64**19 > 2**64


def test_large_counts_with_slack_match_a_count_over_numbers_of_tokens() -> None:
    # At each of 19 positions token t has slack t: the sums are those of 19 dice.
    words = MaxOfK(20, 64).class_automaton(63, 63)
    assert words is not None
    tokens = np.array([token for letter in words.letters for token in letter])
    ways = Counter({0: 1})
    for _ in range(19):
        following: Counter[int] = Counter()
        for total, number in ways.items():
            for t in range(64):
                following[total + t] += number
        ways = following
    for budget in (0, 5, 300, 600, 1197):
        slack = np.broadcast_to(tokens, (1, 19, 64)).copy()
        expected = sum(number for total, number in ways.items() if total <= budget)
        assert count(words, slack, [budget], 2000) == [expected]


def test_slot_sizes_around_a_byte_border() -> None:
    # The number of words just below, at and above a power of two: no digit may carry over.
    for k, v in ((2, 255), (2, 256), (2, 257), (3, 16), (5, 256), (9, 16), (4, 1626)):
        words = TASKS["constant"](k, v).class_automaton(0, 0)
        assert words is not None
        slack = np.zeros((1, k - 1, v), dtype=np.int64)
        assert count(words, slack, [0], 4) == [v ** (k - 1)]
        slack[:, :, 0] = 1
        assert count(words, slack, [k - 1], 10) == [v ** (k - 1)]
        assert count(words, slack, [0], 10) == [(v - 1) ** (k - 1)]


def test_a_count_that_fills_its_slot_but_for_one() -> None:
    # 2^48 - 1 words: the remainder that adds up the digits would be 0 in a slot of 48 bits.
    factors = (9, 5, 7, 13, 17, 97, 241, 257, 673)
    assert np.prod(factors) == 2**48 - 1
    words = TASKS["constant"](len(factors) + 1, max(factors)).class_automaton(0, 0)
    assert words is not None
    slack = np.ones((1, len(factors), max(factors)), dtype=np.int64)
    for position, inside in enumerate(factors):
        slack[0, position, :inside] = 0
    assert count(words, slack, [0], 128) == [2**48 - 1]


@pytest.mark.parametrize("bins", [0, -5])
def test_bins_below_one_are_refused(bins: int) -> None:
    words = MaxOfK(2, 2).class_automaton(1, 1)
    assert words is not None
    with pytest.raises(OptionError, match=f"bins = {bins} must be at least 1"):
        count(words, np.zeros((1, 1, 2)), [0], bins)


def test_counting_is_entered_into_the_ledger() -> None:
    words = MaxOfK(4, 3).class_automaton(2, 2)
    assert words is not None
    rng = np.random.default_rng(3)
    slack = random_slack(rng, (2, 3, 3), 1000)
    flops = []
    for bins in (1, 16, 256):
        ledger = Ledger()
        rows = count_within_slack(
            words, Counted.of(slack, ledger), letters_of(words), [900, 900], bins, ledger
        )
        assert ledger.flops == 0, "nothing is counted before it is asked for"
        next(rows)
        first = ledger.flops
        next(rows)
        assert ledger.flops > first, "each row is paid for when it is counted"
        flops.append(ledger.flops)
    assert 0 < flops[0] < flops[1] < flops[2]
