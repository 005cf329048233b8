"""Brute force on a transformer of any depth: every sequence is run in enclosures.

Theorem. A sequence with label ``m`` is right if the enclosure of ``logit(m) - logit(x)`` is above 0
for every other output ``x``, and wrong if for some ``x`` it reaches no higher than 0. Sequences
that are neither are undecided and count as not right.

Cost: ``v^k`` forward passes. Unexplained dimension ``v^k x``.
"""

import numpy as np
from jaxtyping import Bool

from .._claim import ClassCount, Proved, conclude, require_fit
from .._enclosure import Ball
from .._errors import OptionError
from .._ledger import Ledger
from .._network import blocks_of, logits, sequences
from .._tasks import Task
from .._tick import Tick, no_tick
from .._transformer import Transformer

MAX_SEQUENCES = 1 << 24
_NUMBERS = 1 << 21  # numbers in an array: what stays in a cache


def brute_force_network(
    net: Transformer, task: Task, options: object, tick: Tick = no_tick, witness: None = None
) -> Proved:
    """Decide every sequence of the task by a forward pass; see the theorem above."""
    require_fit(task, net)
    if task.total > MAX_SEQUENCES:
        raise OptionError(
            f"brute force over {task.total} sequences of {task.name} would not end (at most "
            f"{MAX_SEQUENCES} forward passes): use --theorem crosscoder-d or cells"
        )
    ledger = Ledger()
    sizes: dict[tuple[int, int], list[int]] = {}
    undecided = 0
    for start, stop in blocks_of(task.total, sequences_at_once(net)):
        tokens = sequences(task, start, stop)
        labels = task.labels(tokens)
        right, wrong = decide(logits(net, tokens, ledger), labels)
        undecided += int((~right & ~wrong).sum())
        count_classes(sizes, tokens[:, -1], labels, right)
        tick(stop, task.total)
    return conclude(
        theorem="brute-force",
        options={},
        tables=net,
        task=task,
        by_class=[ClassCount(q, m, *counts) for (q, m), counts in sorted(sizes.items())],
        undecided=undecided,
        unexplained_dimension=task.total * net.d_vocab_out,
        ledger=ledger,
    )


def brute_force_flops(net: Transformer, task: Task) -> int:
    """The length of a brute-force proof, without making it: all sequences cost the same."""
    cost = []
    for several in (1, 2):
        ledger = Ledger()
        tokens = np.zeros((several, task.k), dtype=np.int64)
        decide(logits(net, tokens, ledger), np.zeros(several, dtype=np.int64))
        cost.append(ledger.flops)
    return cost[0] + (task.total - 1) * (cost[1] - cost[0])


def sequences_at_once(net: Transformer) -> int:
    """How many sequences a block of work may have."""
    block = net.blocks[0]
    width = max(net.d_model, block.d_mlp, net.n_ctx * block.W_Q.shape[2], net.d_vocab_out)
    return max(1, _NUMBERS // (net.n_ctx * width))


def decide(
    answers: Ball, labels: np.ndarray
) -> tuple[Bool[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
    """Which sequences are certainly right, and which certainly wrong or tied.

    answers: logits ``[n, x]``.
    """
    rows = np.arange(len(labels))
    margin = answers[rows, labels][:, None] - answers
    own = np.zeros(answers.shape, dtype=bool)
    own[rows, labels] = True
    right = ((margin.lower() > 0) | own).all(axis=1)
    wrong = ((margin.upper() <= 0) & ~own).any(axis=1)
    return np.asarray(right), np.asarray(wrong)


def count_classes(
    counts: dict[tuple[int, int], list[int]],
    queries: np.ndarray,
    labels: np.ndarray,
    right: Bool[np.ndarray, " n"],
) -> None:
    """Add sequences to ``counts[query, label] = [size, right]``."""
    pairs, which = np.unique(np.column_stack([queries, labels]), axis=0, return_inverse=True)
    size = np.bincount(which.reshape(-1), minlength=len(pairs))
    good = np.bincount(which.reshape(-1), weights=right, minlength=len(pairs))
    for pair, n, g in zip(map(tuple, pairs.tolist()), size.tolist(), good.tolist(), strict=True):
        entry = counts.setdefault(pair, [0, 0])
        entry[0] += n
        entry[1] += int(g)
