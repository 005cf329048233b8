"""Tasks with other automata than the maximum: what is generic must hold for them as well."""

from collections.abc import Callable, Iterator
from functools import cached_property
from itertools import product

import numpy as np

from compactproofs.kernel import ClassAutomaton, LabelAutomaton, MaxOfK, Task


class TableTask(Task):
    """A task given by the tables of its automaton."""

    def __init__(self, name: str, k: int, step: list[list[int]], label: list[int]) -> None:
        self._name = name
        self.k = k
        self.v = len(step[0])
        self._automaton = LabelAutomaton(np.array(step), np.array(label))

    @property
    def name(self) -> str:
        return self._name

    @cached_property
    def automaton(self) -> LabelAutomaton:
        return self._automaton


def parity(k: int, v: int) -> Task:
    """The sum of the tokens modulo 2."""
    return TableTask("parity", k, [[(s + t) % 2 for t in range(v)] for s in range(2)], [0, 1])


def sum_modulo(k: int, v: int, modulus: int) -> Task:
    """The sum of the tokens modulo a number, each label reached by two equivalent states."""
    states = 2 * modulus
    step = [[(s + t) % modulus + modulus * ((s + t) % 2) for t in range(v)] for s in range(states)]
    return TableTask("remainder", k, step, [s % modulus for s in range(states)])


def last_position_of_zero(k: int, v: int) -> Task:
    """Where the last 0 is (1-based), 0 if there is none: the state counts and remembers."""
    states = [(read, last) for read in range(k + 1) for last in range(k + 1)]
    number = {state: i for i, state in enumerate(states)}
    step = [
        [number[min(read + 1, k), min(read + 1, k) if token == 0 else last] for token in range(v)]
        for read, last in states
    ]
    return TableTask("last zero", k, step, [last for _, last in states])


def second_largest(k: int, v: int) -> Task:
    """The second largest token, with multiplicity; 0 for one token."""
    states = [(a, b) for a in range(v) for b in range(a + 1)]
    number = {state: i for i, state in enumerate(states)}

    def after(a: int, b: int, token: int) -> tuple[int, int]:
        first, second = sorted((a, b, token), reverse=True)[:2]
        return first, second

    step = [[number[after(a, b, t)] for t in range(v)] for a, b in states]
    return TableTask("runner-up", k, step, [b for _, b in states])


def constant(k: int, v: int) -> Task:
    """Always 0."""
    return TableTask("constant", k, [[0] * v], [0])


Maker = Callable[[int, int], Task]
TASKS: dict[str, Maker] = {
    "max": MaxOfK,
    "parity": parity,
    "sum mod 3": lambda k, v: sum_modulo(k, v, 3),
    "last zero": last_position_of_zero,
    "second largest": second_largest,
    "constant": constant,
}
"""Tasks by name, for any k and v."""


def words_by_letters(words: ClassAutomaton) -> Iterator[tuple[int, ...]]:
    """Every word of letters that the automaton accepts, by its step table alone."""
    for word in product(range(len(words.letters)), repeat=words.length):
        state = 0
        for letter in word:
            state = words.step[state][letter] if state >= 0 else -1
        if state >= 0 and words.accepting[state]:
            yield word


def words_by_moves(words: ClassAutomaton) -> Iterator[tuple[int, ...]]:
    """Every word of letters spelled by following the moves, once for each way to spell it."""

    def follow(position: int, state: int, word: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        if position == words.length:
            yield word
            return
        for target, letters in words.moves[position].get(state, {}).items():
            for letter in letters:
                yield from follow(position + 1, target, (*word, letter))

    yield from follow(0, 0, ())


def token_words(words: ClassAutomaton, letters: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """The words of tokens that a word of letters stands for."""
    yield from product(*(words.letters[letter] for letter in letters))
