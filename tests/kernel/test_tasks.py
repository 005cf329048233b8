"""Tasks: parsing, labels, and classes that cover every sequence exactly once."""

import hashlib
import json
from itertools import product

import numpy as np
import pytest
from tasks_for_tests import TASKS, token_words, words_by_letters, words_by_moves

from compactproofs.kernel import MaxOfK, Task, TaskError, parse_task

SIZES = [(1, 1), (1, 4), (2, 1), (2, 3), (3, 2), (3, 4), (4, 3), (5, 2)]
CASES = [(name, k, v) for name in TASKS for k, v in SIZES]


def sequences(task: Task) -> np.ndarray:
    return np.array(list(product(range(task.v), repeat=task.k)))


def truth(name: str, word: tuple[int, ...]) -> int:
    """The label by its definition in words."""
    return {
        "max": lambda: max(word),
        "parity": lambda: sum(word) % 2,
        "sum mod 3": lambda: sum(word) % 3,
        "last zero": lambda: max((i + 1 for i, t in enumerate(word) if t == 0), default=0),
        "second largest": lambda: sorted((0, *word))[-2],
        "constant": lambda: 0,
    }[name]()


@pytest.mark.parametrize(("name", "k", "v"), CASES)
def test_labels_follow_the_definition(name: str, k: int, v: int) -> None:
    task = TASKS[name](k, v)
    tokens = sequences(task)
    expected = [truth(name, tuple(word)) for word in tokens.tolist()]
    assert task.labels(tokens).tolist() == expected
    assert task.total == len(tokens) == v**k


@pytest.mark.parametrize(("name", "k", "v"), CASES)
def test_classes_are_a_disjoint_cover(name: str, k: int, v: int) -> None:
    task = TASKS[name](k, v)
    seen: dict[tuple[int, ...], tuple[int, int]] = {}
    for query, label, words in task.classes():
        assert words.length == k - 1
        members = [
            (*word, query)
            for letters in words_by_moves(words)
            for word in token_words(words, letters)
        ]
        assert members, "an empty class was given"
        assert words.size == len(members)
        for member in members:
            assert member not in seen, f"{member} is in the classes {seen[member]}, {query, label}"
            seen[member] = query, label
            assert truth(name, member) == label
    assert len(seen) == task.total


@pytest.mark.parametrize(("name", "k", "v"), CASES)
def test_moves_spell_each_word_of_the_step_table_once(name: str, k: int, v: int) -> None:
    for query, label, words in TASKS[name](k, v).classes():
        spelled = list(words_by_moves(words))
        assert len(set(spelled)) == len(spelled), (query, label)
        assert sorted(spelled) == sorted(words_by_letters(words))


@pytest.mark.parametrize(("name", "k", "v"), CASES)
def test_letters_are_disjoint_and_ascending(name: str, k: int, v: int) -> None:
    for _, _, words in TASKS[name](k, v).classes():
        tokens = [token for letter in words.letters for token in letter]
        assert len(set(tokens)) == len(tokens)
        assert set(tokens) <= set(range(v))
        assert all(list(letter) == sorted(letter) and letter for letter in words.letters)
        assert all(len(row) == len(words.letters) for row in words.step)


@pytest.mark.parametrize("name", TASKS)
def test_moves_never_lead_to_a_dead_end(name: str) -> None:
    for _, _, words in TASKS[name](4, 3).classes():
        for here, following in zip(words.moves, words.moves[1:], strict=False):
            assert {target for moves in here.values() for target in moves} == set(following)
        for targets in words.moves[-1].values():
            assert all(words.accepting[target] for target in targets)


@pytest.mark.parametrize(("k", "v"), [*SIZES, (4, 30), (20, 40)])
def test_class_sizes_of_the_maximum(k: int, v: int) -> None:
    total = 0
    for query, label, words in MaxOfK(k, v).classes():
        assert query <= label
        full = (label + 1) ** (k - 1)
        assert words.size == (full if query == label else full - label ** (k - 1))
        assert len(words.accepting) <= 2
        assert len(words.letters) <= 2
        total += words.size
    assert total == v**k


def test_a_class_without_words_is_none() -> None:
    task = MaxOfK(3, 4)
    assert task.class_automaton(3, 2) is None
    assert task.class_automaton(0, 9) is None
    assert MaxOfK(1, 4).class_automaton(1, 3) is None, "the only token is the query"


def test_one_token_tasks() -> None:
    classes = list(MaxOfK(1, 3).classes())
    assert [(query, label) for query, label, _ in classes] == [(0, 0), (1, 1), (2, 2)]
    assert all(words.size == 1 and words.length == 0 and words.moves == () for *_, words in classes)
    (only,) = MaxOfK(5, 1).classes()
    assert (only[0], only[1], only[2].size) == (0, 0, 1)


def test_equivalent_states_are_merged() -> None:
    # The automaton of "sum mod 3" has six states, two for each remainder.
    for _, _, words in TASKS["sum mod 3"](4, 4).classes():
        assert len(words.accepting) == 3
        assert words.letters == ((0, 3), (1,), (2,))


# Names and digests.


@pytest.mark.parametrize("text", ["max:k=4,v=64", "max:k=1,v=1", "max:k=20,v=64", "max:k=2,v=2048"])
def test_a_name_reads_back(text: str) -> None:
    task = parse_task(text)
    assert task.name == text
    assert isinstance(task, MaxOfK)


def test_parameters_may_come_in_any_order() -> None:
    assert parse_task("max:v=5,k=3").name == "max:k=3,v=5"


@pytest.mark.parametrize(
    "text",
    [
        *("", "max", "max:", ":k=4,v=64", "min:k=4,v=64", "MAX:k=4,v=64", " max:k=4,v=64"),
        *("max:k=4", "max:v=64", "max:k=4,v=64,", "max:k=4,v=64,k=4", "max:k=4,k=4"),
        *("max:k=0,v=64", "max:k=-1,v=64", "max:k=04,v=64", "max:k=4.0,v=64", "max:k=4 ,v=64"),
        *("max:k=4,v=1000000", "max:k=4,v=1e3", "max:k=4,v=", "max:k=4;v=64"),
        *("max:k=4,v=64\n", "max:k=4,v=\u0664", "max:k=4,v=64,w=1", "max:4,64"),
    ],
)
def test_what_is_not_a_task_is_refused_in_one_line_with_an_example(text: str) -> None:
    with pytest.raises(TaskError) as caught:
        parse_task(text)
    message = str(caught.value)
    assert "\n" not in message
    assert "max:k=4,v=64" in message or ":k=4,v=64" in message
    assert repr(text) in message


@pytest.mark.parametrize("text", ["max:k=4,v=2049", "max:k=99999,v=2", "max:k=999999,v=1"])
def test_a_task_too_large_is_refused_with_the_limit(text: str) -> None:
    with pytest.raises(TaskError, match=f"{text}.* v is at most 2048 and v\\^k at most 2\\^12000"):
        parse_task(text)


def test_digests_tell_tasks_apart_and_are_of_the_meaning() -> None:
    tasks = [make(k, v) for make in TASKS.values() for k, v in ((2, 3), (3, 3), (3, 2))]
    assert len({task.digest for task in tasks}) == len(tasks)
    assert MaxOfK(3, 4).digest == parse_task("max:k=3,v=4").digest


def test_the_digest_is_of_canonical_json() -> None:
    meaning = {
        "distribution": "uniform",
        "k": 2,
        "label": [0, 1],
        "step": [[0, 1], [1, 1]],
        "v": 2,
    }
    text = json.dumps(meaning, sort_keys=True, separators=(",", ":"))
    expected = hashlib.sha256(b"compactproofs task 1\n" + text.encode()).hexdigest()
    assert MaxOfK(2, 2).digest == expected


@pytest.mark.parametrize(("k", "v"), [(k, v) for k in (1, 2, 3, 5) for v in (1, 2, 3, 6)])
def test_the_classes_of_max_written_down_are_those_of_its_automaton(k: int, v: int) -> None:
    task = MaxOfK(k, v)
    written = {(q, m): words for q, m, words in task.classes()}
    derived = {(q, m): words for q, m, words in Task.classes(task)}
    assert written.keys() == derived.keys()
    for key, words in written.items():
        assert (words.size, words.letters) == (derived[key].size, derived[key].letters)
        assert words.moves == derived[key].moves
