"""Trees of questions while they grow, and as the arrays of a witness."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Int32, UInt8

from ..kernel._cells import COUNT, PROVE, QUERY, SKIP, TOKEN
from ..kernel._cells import Path as Path


class Question(NamedTuple):
    """What a node asks of a sequence; see ``kernel/_cells``."""

    kind: int
    """QUERY, TOKEN or COUNT."""
    number: int
    """0, the position, or the least count."""
    tokens: frozenset[int]

    def narrowed(self, path: Path, yes: bool) -> Path:
        """The path with an answer to this question."""
        marks = tuple(token in self.tokens for token in range(len(path.query)))
        return path.answered(self.kind, self.number, marks, yes)


def query_in(tokens: Iterable[int]) -> Question:
    """Is the last token one of these?"""
    return Question(QUERY, 0, frozenset(tokens))


def token_in(position: int, tokens: Iterable[int]) -> Question:
    """Is the token at this position, which is not the last, one of these?"""
    return Question(TOKEN, position, frozenset(tokens))


def at_least(least: int, tokens: Iterable[int]) -> Question:
    """Are so many of the tokens before the last one of these?"""
    return Question(COUNT, least, frozenset(tokens))


class Claimed(NamedTuple):
    """What the witness says of a cell."""

    low: Int32[np.ndarray, " m"]
    high: Int32[np.ndarray, " m"]
    share: UInt8[np.ndarray, "x m"]


@dataclass(eq=False)
class Node:
    """A question with two answers, a cell, or (neither) sequences given up."""

    question: Question | None = None
    yes: "Node | None" = None
    no: "Node | None" = None
    cell: Claimed | None = None
    right: int = 0
    """Sequences of the cell that are proved right."""

    def ask(self, question: Question) -> "tuple[Node, Node]":
        """Turn a leaf, or what was below a question, into a question; its answers are leaves."""
        self.cell, self.right = None, 0
        self.question, self.yes, self.no = question, Node(), Node()
        return self.yes, self.no

    def cells(self) -> "list[Node]":
        """The cells below."""
        return [node for node in self.in_order() if node.cell is not None]

    def in_order(self) -> "Iterator[Node]":
        """This node and all below it, in pre-order."""
        waiting: list[Node] = [self]
        while waiting:
            node = waiting.pop()
            yield node
            if node.yes is not None and node.no is not None:
                waiting += (node.no, node.yes)


def witness_arrays(roots: list[Node], v: int, x: int, m: int) -> dict[str, np.ndarray]:
    """The tensors ``tree``, ``sets``, ``range_low``, ``range_high`` and ``share``."""
    rows: list[tuple[int, int, int]] = []
    sets: dict[frozenset[int], int] = {}
    cells: list[Claimed] = []
    for root in roots:
        for node in root.in_order():
            if (asked := node.question) is not None:
                of = sets.setdefault(asked.tokens, len(sets))
                rows.append((asked.kind, asked.number, of))
            elif node.cell is not None:
                rows.append((PROVE, 0, 0))
                cells.append(node.cell)
            else:
                rows.append((SKIP, 0, 0))
    marks = np.zeros((len(sets), v), dtype=np.uint8)
    for tokens, row in sets.items():
        marks[row, sorted(tokens)] = 1
    return {
        "tree": np.array(rows, dtype=np.int32).reshape(-1, 3),
        "sets": marks.ravel(),
        "range_low": np.array([c.low for c in cells], dtype=np.int32).reshape(len(cells), m),
        "range_high": np.array([c.high for c in cells], dtype=np.int32).reshape(len(cells), m),
        "share": np.array([c.share for c in cells], dtype=np.uint8).reshape(len(cells) * x * m),
    }
