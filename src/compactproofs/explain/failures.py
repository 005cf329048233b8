"""Where a proof fails: queries, labels, wrong outputs, and sequences with their margins.

The counts come from the proof; the sequences are found by following the theorem's own worst case
class by class, so that it works where nobody can run all sequences. A sequence's sign is decided by
the kernel's exact integers; its margin is a float64 number beside it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from ..estimate import last_position_logits
from ..kernel import Model, Proved, Task, Tick, no_tick, verify_tables
from ..kernel._ledger import Ledger
from ..kernel._margins import Margins
from ..kernel._slack import Terms
from ..kernel._tasks import ClassAutomaton
from ..kernel.theorems.additive import class_terms


@dataclass(frozen=True)
class Example:
    """A sequence near or beyond the edge."""

    tokens: tuple[int, ...]
    label: int
    answer: int
    """The output with the largest logit."""
    rival: int
    """The largest output other than the label."""
    margin: float
    """logit(label) - logit(rival), in float64."""
    verdict: str
    """right, wrong or undecided, by exact integers."""


@dataclass(frozen=True)
class Failures:
    """What the proof leaves open."""

    by_query: tuple[tuple[int, int], ...]
    """``(query, sequences not proved right)``, most first."""
    by_label: tuple[tuple[int, int], ...]
    by_rival: tuple[tuple[int, int], ...]
    """``(wrong output, examples it is the rival of)``, most first."""
    share: Float64[np.ndarray, "q m"]
    """Of each class, the share proved right; NaN where there is no sequence."""
    examples: tuple[Example, ...]
    """Smallest margins first."""


def failures(
    model: Model, task: Task, proved: Proved, classes: int = 40, tick: Tick = no_tick
) -> Failures:
    """Analyse the proof of a theorem that counts from tables.

    classes: how many of the classes that lose most are searched for examples.
    Cost: O(k v x) for each of them.
    """
    v, outputs = task.v, model.d_vocab_out
    share = np.full((v, outputs), np.nan)
    queries, labels = [0] * v, [0] * outputs
    for query, label, size, correct in proved.by_class:
        share[query, label] = correct / size
        queries[query] += size - correct
        labels[label] += size - correct
    found: dict[tuple[int, ...], Example] = {}
    if proved.tables is not None and task.k > 1:
        losing = sorted(proved.by_class, key=lambda c: c.correct - c.size)[:classes]
        tables = verify_tables(model, proved.tables, proved.claim.semantics)
        for done, (query, label, size, correct) in enumerate(losing):
            tick(done, len(losing))
            words = task.class_automaton(query, label)
            if correct == size or words is None:
                continue
            margins = Margins(tables, label, Ledger())
            candidates = _near_worst(class_terms(margins, query, words), words, query)
            for example in _judged(model, task, margins, candidates, label):
                found[example.tokens] = example
    examples = tuple(sorted(found.values(), key=lambda e: e.margin))
    rivals: dict[int, int] = {}
    for example in examples:
        rivals[example.rival] = rivals.get(example.rival, 0) + 1
    return Failures(
        by_query=_ranked(enumerate(queries)),
        by_label=_ranked(enumerate(labels)),
        by_rival=_ranked(rivals.items()),
        share=share,
        examples=examples,
    )


def _ranked(counts: Iterator[tuple[int, int]] | object) -> tuple[tuple[int, int], ...]:
    pairs = [(int(i), int(n)) for i, n in counts if n]  # type: ignore[attr-defined]
    return tuple(sorted(pairs, key=lambda pair: (-pair[1], pair[0])))


def _near_worst(terms: Terms, words: ClassAutomaton, query: int) -> Int64[np.ndarray, "n k"]:
    """The worst word against the worst output, and all words one substitution away from it."""
    before = np.asarray(terms.before)
    token_of = np.array([t for letter in words.letters for t in letter])
    best: list[tuple[int, list[int]]] = []
    for x in range(before.shape[2]):
        reached: dict[int, tuple[int, list[int]]] = {0: (int(terms.at_query[x]), [])}
        for position, moves in enumerate(words.moves):
            following: dict[int, tuple[int, list[int]]] = {}
            for state, targets in moves.items():
                for target, letters in targets.items():
                    columns = np.flatnonzero(np.isin(terms.letter_of, letters))
                    worst = columns[before[position, columns, x].argmax()]
                    total = reached[state][0] + int(before[position, worst, x])
                    if target not in following or total > following[target][0]:
                        following[target] = total, [*reached[state][1], int(token_of[worst])]
            reached = following
        best.append(max(reached.values(), key=lambda item: item[0]))
    word = np.array([*max(best, key=lambda item: item[0])[1], query])
    near = [word]
    for position in range(len(word) - 1):
        block = np.repeat(word[None], len(token_of), axis=0)
        block[:, position] = token_of
        near.extend(block)
    return np.unique(np.stack(near), axis=0)


def _judged(
    model: Model,
    task: Task,
    margins: Margins,
    tokens: Int64[np.ndarray, "n k"],
    label: int,
    keep: int = 5,
) -> Iterator[Example]:
    tokens = tokens[task.labels(tokens) == label]
    if not len(tokens):
        return
    logits = last_position_logits(model, tokens)
    others = logits.copy()
    others[:, label] = -np.inf
    margin = logits[:, label] - others.max(axis=1)
    lowest = np.argsort(margin, kind="stable")[:keep]
    lower, upper = margins.of_sequences(tokens[lowest])
    right = np.asarray((upper < 0).all(axis=1))
    wrong = np.asarray((lower >= 0).any(axis=1))
    for at, is_right, is_wrong in zip(lowest.tolist(), right, wrong, strict=True):
        yield Example(
            tokens=tuple(tokens[at].tolist()),
            label=label,
            answer=int(logits[at].argmax()),
            rival=int(others[at].argmax()),
            margin=float(margin[at]),
            verdict="right" if is_right else "wrong" if is_wrong else "undecided",
        )
