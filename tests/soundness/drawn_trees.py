"""Trees of questions, drawn at random, and what they say of each sequence.

The leaf of a sequence is found by asking the questions one after another: neither the kernel's
trees nor its automata are used.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from math import ceil, floor
from typing import Any

import numpy as np

UNKNOWN = (-(1 << 31), (1 << 31) - 1)
PROVE, SKIP, QUERY, TOKEN, COUNT = range(5)


@dataclass
class DrawnTree:
    """A question with two answers, or a leaf."""

    kind: int
    number: int = 0
    tokens: frozenset[int] = frozenset()
    yes: "DrawnTree | None" = None
    no: "DrawnTree | None" = None

    def leaf_of(self, sequence: tuple[int, ...]) -> "DrawnTree":
        """Where the answers lead."""
        node = self
        while node.yes is not None and node.no is not None:
            word = sequence[:-1]
            holds = {
                QUERY: sequence[-1] in node.tokens,
                TOKEN: node.kind == TOKEN and word[node.number] in node.tokens,
                COUNT: sum(t in node.tokens for t in word) >= node.number,
            }[node.kind]
            node = node.yes if holds else node.no
        return node

    def in_order(self) -> "Iterator[DrawnTree]":
        """Pre-order: a node, below its yes, below its no."""
        yield self
        if self.yes is not None and self.no is not None:
            yield from self.yes.in_order()
            yield from self.no.in_order()


def drawn_tree(rng: np.random.Generator, k: int, v: int, depth: int) -> DrawnTree:
    """Questions at random."""
    if not depth or rng.random() < 0.1:
        return DrawnTree(PROVE if rng.random() < 0.95 else SKIP)
    kind = int(rng.choice([QUERY, TOKEN, COUNT] if k > 1 else [QUERY]))
    number = {QUERY: 0, TOKEN: int(rng.integers(max(1, k - 1)))}.get(kind, 0)
    if kind == COUNT:
        number = int(rng.integers(1, k))
    tokens = frozenset(np.flatnonzero(rng.random(v) < 0.5).tolist())
    answers = (drawn_tree(rng, k, v, depth - 1) for _ in range(2))
    return DrawnTree(kind, number, tokens, *answers)


def sequences_by_leaf(
    trees: dict[int, DrawnTree], labels: dict[tuple[int, ...], int]
) -> dict[int, list[tuple[int, ...]]]:
    """By the identity of each leaf; every sequence once."""
    found: dict[int, list[tuple[int, ...]]] = {}
    for sequence, label in labels.items():
        found.setdefault(id(trees[label].leaf_of(sequence)), []).append(sequence)
    return found


def tree_arrays(trees: list[DrawnTree], v: int) -> tuple[np.ndarray, np.ndarray]:
    """The tensors ``tree`` and ``sets``."""
    nodes = [node for tree in trees for node in tree.in_order()]
    sets = list(dict.fromkeys(node.tokens for node in nodes if node.yes is not None))
    rows = [
        (node.kind, node.number, sets.index(node.tokens) if node.yes is not None else 0)
        for node in nodes
    ]
    marks = [[t in tokens for t in range(v)] for tokens in sets]
    return np.array(rows, np.int32).reshape(-1, 3), np.array(marks, np.uint8).ravel()


def all_labels(k: int, v: int, labels: Any) -> dict[tuple[int, ...], int]:
    """The label of every sequence."""
    every = list(product(range(v), repeat=k))
    return dict(zip(every, labels(np.array(every, dtype=np.int64)).tolist(), strict=True))


def hull(values: list[Any], room: int) -> tuple[np.ndarray, np.ndarray]:
    """Whole numbers around (or, with negative room, within) the ranges of some numbers."""
    columns = list(zip(*values, strict=True))
    low = [max(UNKNOWN[0], floor(min(c)) - room) for c in columns]
    high = [min(UNKNOWN[1], ceil(max(c)) + room) for c in columns]
    return np.array(low, np.int64), np.array(high, np.int64)
