"""The tasks other than max that have a name: labels, classes, sizes, spelling, refusals."""

from collections import Counter
from itertools import product
from time import perf_counter

import numpy as np
import pytest
from tasks_for_tests import token_words, words_by_letters, words_by_moves

from compactproofs.kernel import (
    ClassAutomaton,
    FetchAndMap,
    SecondLargest,
    SumModV,
    Task,
    TaskError,
    parse_task,
)

SIZES = [(2, 1), (2, 2), (2, 3), (3, 1), (3, 2), (3, 4), (4, 3), (5, 2), (2, 6), (3, 5)]
NAMES = ["second", "sum", "fetch"]
CASES = [(name, k, v) for name in NAMES for k, v in SIZES] + [("sum", 1, 1), ("sum", 1, 4)]
FACTORS = {1: 2, 2: 3, 3: 2, 4: 3, 5: 4, 6: 5}  # by the definition, by hand


def truth(name: str, word: tuple[int, ...], v: int) -> int:
    """The label by its definition in words."""
    if name == "second":
        return sorted(word, reverse=True)[1]
    if name == "sum":
        return sum(word) % v
    *others, pointer = word
    return (FACTORS[v] * others[pointer % len(others)] + 1) % v


def made(name: str, k: int, v: int) -> Task:
    return parse_task(f"{name}:k={k},v={v}")


@pytest.mark.parametrize(("name", "k", "v"), CASES)
def test_labels_follow_the_definition(name: str, k: int, v: int) -> None:
    task = made(name, k, v)
    tokens = np.array(list(product(range(v), repeat=k)))
    expected = [truth(name, tuple(word), v) for word in tokens.tolist()]
    assert task.labels(tokens).tolist() == expected
    assert task.total == len(tokens) == v**k


@pytest.mark.parametrize(("name", "k", "v"), CASES)
def test_classes_are_a_disjoint_cover(name: str, k: int, v: int) -> None:
    task = made(name, k, v)
    counted = Counter((word[-1], truth(name, word, v)) for word in product(range(v), repeat=k))
    seen: set[tuple[int, ...]] = set()
    for query, label, words in task.classes():
        spelled = list(words_by_moves(words))
        assert sorted(spelled) == sorted(words_by_letters(words))
        members = [(*word, query) for letters in spelled for word in token_words(words, letters)]
        assert words.size == len(members) == counted[query, label] > 0
        assert {truth(name, member, v) for member in members} == {label}
        assert seen.isdisjoint(members)
        seen.update(members)
    assert len(seen) == task.total == sum(counted.values())


@pytest.mark.parametrize(("name", "k", "v"), CASES)
def test_classes_written_down_are_those_of_the_automaton(name: str, k: int, v: int) -> None:
    task = made(name, k, v)
    written = {(q, m): words for q, m, words in task.classes()}
    derived = {(q, m): words for q, m, words in Task.classes(task)}
    assert list(written) == list(derived)
    for query, label in product(range(v), range(-1, v + 1)):
        words = written.get((query, label))
        assert task.class_automaton(query, label) == words
        if words is not None:
            every = [set(of_tokens(one)) for one in (words, derived[query, label])]
            assert every[0] == every[1] and words.size == derived[query, label].size
            # The automaton of fetch goes on after the query, and so tells more tokens apart.
            assert name == "fetch" or words == derived[query, label]


def of_tokens(words: ClassAutomaton) -> list[tuple[int, ...]]:
    return [word for one in words_by_letters(words) for word in token_words(words, one)]


@pytest.mark.parametrize("name", NAMES)
def test_parts_add_up(name: str) -> None:
    whole = made(name, 3, 4)
    parts = [parse_task(f"{name}:k=3,v=4,q={ends}", parts=True) for ends in ("0-0", "1-2", "3-3")]
    assert [part.total for part in parts] == [16, 32, 16]
    found = sorted(one for part in parts for one in part.classes())
    assert found == sorted(whole.classes())
    assert len({task.digest for task in (whole, *parts)}) == 4
    assert all(part.whole.name == whole.name for part in parts)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("second:k=4,v=12", SecondLargest),
        ("second:k=2,v=1", SecondLargest),
        ("second:k=3,v=202", SecondLargest),
        ("sum:k=2,v=31", SumModV),
        ("sum:k=1,v=2048", SumModV),
        ("fetch:k=4,v=16", FetchAndMap),
        ("fetch:k=4,v=39", FetchAndMap),
        ("fetch:k=9000,v=1", FetchAndMap),
    ],
)
def test_a_name_reads_back(text: str, kind: type[Task]) -> None:
    task = parse_task(text)
    assert task.name == text and type(task) is kind


def test_the_factor_of_fetch_is_the_least_that_is_wanted() -> None:
    for v in range(1, 60):
        values = FetchAndMap(2, v).permutation.tolist()
        assert sorted(values) == list(range(v))
        factors = [a for a in range(2, 3 * v + 3) if 1000 * a >= 618 * v and np.gcd(a, v) == 1]
        assert values == [(factors[0] * t + 1) % v for t in range(v)]
        assert FACTORS.get(v, factors[0]) == factors[0]


def test_digests_tell_the_tasks_apart() -> None:
    tasks = [made(name, k, v) for name in ["max", *NAMES] for k, v in ((2, 3), (3, 3), (3, 2))]
    assert len({task.digest for task in tasks}) == len(tasks)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("second:k=1,v=4", "k must be a whole number, at least 2"),
        ("fetch:k=1,v=4", "k must be a whole number, at least 2"),
        ("second:k=3,v=203", "its automaton would have more than 20661 states; lower k or v"),
        ("fetch:k=4,v=40", "its automaton would have more than 65536 states; lower k or v"),
        ("fetch:k=17,v=2", "its automaton would have more than 65536 states; lower k or v"),
        ("fetch:k=3000,v=2", "its automaton would have more than 65536 states; lower k or v"),
        ("fetch:k=3,v=161", "its automaton would have more than 26051 states; lower k or v"),
        ("sum:k=2,v=2049", "v is at most 2048"),
        ("second:k=4", "needs both k and v, as second:k=4,v=64"),
        ("thumb:k=4,v=64", "known tasks are max, second, sum, fetch"),
    ],
)
def test_what_is_not_a_task_is_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(TaskError) as caught:
        parse_task(text)
    assert message in str(caught.value) and text in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", [SecondLargest, SumModV, FetchAndMap])
@pytest.mark.parametrize(("k", "v"), [(0, 3), (2, 0), (True, 3), (2, True), (-1, -1)])
def test_sizes_that_are_none_are_refused(kind: type, k: object, v: object) -> None:
    with pytest.raises(TaskError, match=f"k={k},v={v} is not defined"):
        kind(k, v)


@pytest.mark.parametrize("text", ["second:k=4,v=64", "sum:k=4,v=64", "fetch:k=4,v=16"])
def test_all_classes_take_less_than_seconds(text: str) -> None:
    began = perf_counter()
    task = parse_task(text)
    assert sum(words.size for _, _, words in task.classes()) == task.total
    assert perf_counter() - began < 5
