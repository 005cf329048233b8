"""Finite automata: one that labels the sequences of a task, and those of the words of its classes.

A class holds the sequences with one last token and one label; the words of a class are what
precedes that token. Counts are Python integers, which do not overflow.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, final

import numpy as np
from jaxtyping import Bool, Int


class LabelAutomaton(NamedTuple):
    """A deterministic automaton over the tokens ``0 .. v-1`` that starts in state 0."""

    step: Int[np.ndarray, "states v"]
    """The state after reading token ``t`` in state ``s`` is ``step[s, t]``."""
    label: Int[np.ndarray, " states"]
    """The label of a sequence that ends in state ``s`` is ``label[s]``."""


@final
@dataclass(frozen=True)
class ClassAutomaton:
    """Which words ``t_0 .. t_{k-2}`` put before a fixed query give a fixed label.

    Tokens that the automaton cannot tell apart share one *letter*; tokens that occur in no such
    word have none. Reading starts in state 0.
    """

    length: int
    """Tokens in a word, ``k - 1``."""
    letters: tuple[tuple[int, ...], ...]
    """For each letter the tokens it stands for, ascending; no token occurs twice."""
    step: tuple[tuple[int, ...], ...]
    """``step[s][a]``: the state after letter ``a`` in state ``s``, or -1: no word goes on so."""
    accepting: tuple[bool, ...]
    """Whether a word that ends in state ``s`` gives the label."""

    @cached_property
    def moves(self) -> tuple[dict[int, dict[int, tuple[int, ...]]], ...]:
        """``moves[i][s]``: for each next state the letters at position ``i`` that lead there.

        Only states that can be reached at ``i`` and moves after which a word can still be
        accepted at its end: following all moves spells the words of the class, each once.
        """
        forward = [{0}]
        for _ in range(self.length):
            forward.append({t for s in forward[-1] for t in self.step[s] if t >= 0})
        useful = {s for s in forward[-1] if self.accepting[s]}
        moves: list[dict[int, dict[int, tuple[int, ...]]]] = []
        for states in reversed(forward[:-1]):
            here: dict[int, dict[int, tuple[int, ...]]] = {}
            for state in sorted(states):
                for letter, target in enumerate(self.step[state]):
                    if target in useful:
                        letters = here.setdefault(state, {}).get(target, ())
                        here[state][target] = (*letters, letter)
            moves.append(here)
            useful = set(here)
        return tuple(reversed(moves))

    @cached_property
    def size(self) -> int:
        """The exact number of words."""
        counts = {0: int(self.length > 0 or self.accepting[0])}
        for here in self.moves:
            following: dict[int, int] = {}
            for state, targets in here.items():
                for target, letters in targets.items():
                    choices = sum(len(self.letters[letter]) for letter in letters)
                    following[target] = following.get(target, 0) + counts[state] * choices
            counts = following
        return sum(counts.values())


def classes_with_label(
    step: Int[np.ndarray, "states v"], accepted: Bool[np.ndarray, " states"], label: int, k: int
) -> Iterator[tuple[int, int, ClassAutomaton]]:
    """Every ``(query, label, words)`` with a word, by an automaton that accepts the label.

    It reads whole sequences of ``k`` tokens from state 0.
    """
    # Many queries accept the same states: for max-of-k, all below the label.
    known: dict[bytes, ClassAutomaton | None] = {}
    for query in range(step.shape[1]):
        accepts = accepted[step[:, query]]
        key = accepts.tobytes()
        if key not in known:
            known[key] = merge_states(step, accepts, k - 1)
        words = known[key]
        if words is not None:
            yield query, label, words


def merge_states(
    step: Int[np.ndarray, "states v"], accepts: Bool[np.ndarray, " states"], length: int
) -> ClassAutomaton | None:
    """The automaton of the words of a length that end in a state of ``accepts``, or None.

    States that accept the same continuations are merged (Moore's partition refinement,
    O(states v) a round); states from which nothing is accepted are dropped.
    """
    block = accepts.astype(np.int64)
    while True:
        refined = _number_rows(np.column_stack([block, block[step]]))
        if refined.max() == block.max():
            break
        block = refined
    member = np.unique(block, return_index=True)[1]  # one state of each block
    merged = block[step[member]]
    words = _trim(merged, accepts[member], int(block[0]), length)
    return words if words is not None and words.size else None


def _number_rows(rows: Int[np.ndarray, "n c"]) -> Int[np.ndarray, " n"]:
    """Equal rows get equal numbers ``0, 1, ...``, different rows different ones."""
    packed = np.ascontiguousarray(rows, dtype=np.int64)
    as_one = packed.view(np.dtype((np.void, packed.shape[1] * 8))).ravel()
    return np.unique(as_one, return_inverse=True)[1].reshape(-1).astype(np.int64)


def _trim(
    merged: Int[np.ndarray, "states v"],
    accepts: Bool[np.ndarray, " states"],
    start: int,
    length: int,
) -> ClassAutomaton | None:
    """Keep the states between start and acceptance, start first; group tokens into letters."""
    live = accepts.copy()
    while (grown := live | live[merged].any(axis=1)).sum() > live.sum():
        live = grown
    if not live[start]:
        return None
    order = [start]
    for state in order:  # grows while it is read
        order += [s for s in dict.fromkeys(merged[state].tolist()) if live[s] and s not in order]
    renumber = np.full(len(live), -1)
    renumber[order] = np.arange(len(order))
    step = renumber[merged[order]]
    by_column: dict[tuple[int, ...], list[int]] = {}
    for token, column in enumerate(map(tuple, step.T.tolist())):
        by_column.setdefault(column, []).append(token)
    by_column.pop((-1,) * len(order), None)
    return ClassAutomaton(
        length=length,
        letters=tuple(tuple(tokens) for tokens in by_column.values()),
        step=tuple(zip(*by_column, strict=True)) if by_column else ((),) * len(order),
        accepting=tuple(bool(a) for a in accepts[order]),
    )
