"""The laws of theorem D on any copy of the kernel: imagined fronts exactly, and real transformers.

Each function yields one line for each violation it finds; none at all on a sound kernel.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np

from compactproofs import kernel as our_kernel
from compactproofs.explain.cells import find_cells
from compactproofs.kernel import Transformer, integer_tables
from compactproofs.kernel._front import front_model

from .drawn_trees import (
    PROVE,
    UNKNOWN,
    DrawnTree,
    all_labels,
    drawn_tree,
    hull,
    sequences_by_leaf,
    tree_arrays,
)
from .imagined_fronts import ImaginedFront, imagined_front
from .laws_of_networks import transformer_for
from .one_layer_networks import one_layer_networks
from .tasks import KERNEL_TASKS, make_task, task_names
from .transformer_truth import answers

BINS = (0, 1, 7, 128)
FRONTS = 120
SEARCHED = 3
"""Every so many transformers also get the witness that search finds."""
SHAPES = ((1, 3), (2, 2), (2, 3), (3, 2), (2, 4), (3, 3), (4, 2), (2, 3))

Sequence = tuple[int, ...]


@dataclass(frozen=True)
class Case:
    """Something that theorem D is about, a task by name, and the truth about both."""

    name: str
    subject: ImaginedFront | Transformer
    task: str
    seed: int
    tables: dict[str, np.ndarray]
    sizes: tuple[int, int, int, int]  # k, v, x, m
    labels: dict[Sequence, int]
    right: dict[Sequence, bool]
    z: dict[Sequence, Any]
    """The neurons' inputs, in units of the tables' grid."""
    room: int
    """So far around what neurons do the tables are, at most."""
    narrow: bool
    """Whether ranges with that much room must be accepted."""

    def task_for(self, kernel: ModuleType) -> Any:
        """The task as an object of a copy of the kernel."""
        k, v, _, _ = self.sizes
        return make_task(kernel, self.task, k, v, seed=self.seed).task

    def front_for(self, kernel: ModuleType) -> Any:
        """What the theorem counts from; of a transformer, its verified tables."""
        if isinstance(self.subject, ImaginedFront):
            return self.subject.in_kernel(kernel)
        tables = kernel.IntegerTables(**self.tables)
        return kernel._front.verified_front(transformer_for(kernel, self.subject), tables)


@cache
def imagined_cases(
    seed: int = 41,
    fronts: int = FRONTS,
    shapes: tuple[tuple[int, int], ...] = SHAPES,
) -> tuple[Case, ...]:
    """Fronts of every small shape, some without neurons."""
    rng = np.random.default_rng(seed)
    found: list[Case] = []
    for n in range(fronts):
        k, v = shapes[n % len(shapes)]
        names = [*task_names(v), *(KERNEL_TASKS if k > 1 else ())]
        task = names[n % len(names)] if n % 3 else "max"
        front = imagined_front(rng, k, v, v + n % 2, n % 4)
        labels = all_labels(k, v, make_task(our_kernel, task, k, v, seed=n).labels)
        right = {s: front.is_right(s, label) for s, label in labels.items()}
        z = {s: front.z(s)[front.sizes[2] :] for s in labels}
        case = f"front {n}", front, task, n, front.tables, front.sizes, labels, right, z
        found.append(Case(*case, front.room, front.narrow))
    return tuple(found)


@cache
def real_cases() -> tuple[Case, ...]:
    """Transformers of one layer, random and hostile, with every task."""
    found: list[Case] = []
    for n, (name, net) in enumerate(one_layer_networks().items()):
        k, v = net.n_ctx, net.d_vocab
        names = [*task_names(v), *(KERNEL_TASKS if k > 1 and v < 7 else ())]
        task = names[n % len(names)] if n % 3 else "max"
        truth = answers(net, make_task(our_kernel, task, k, v, seed=n).labels)
        tables = integer_tables(front_model(net))
        every = list(map(tuple, truth.tokens.tolist()))
        z = np.ldexp(truth.z, int(tables.grid[0]))
        found.append(
            Case(
                name, net, task, n, tables._asdict(),
                (k, v, net.d_vocab_out, net.blocks[0].d_mlp),
                dict(zip(every, truth.label.tolist(), strict=True)),
                dict(zip(every, truth.right.tolist(), strict=True)),
                dict(zip(every, z, strict=True)),
                64,
                narrow=int(np.ptp(tables.weight_exponent)) <= 16,
            )
        )  # fmt: skip
    return tuple(found)


@cache
def searched(number: int) -> dict[str, np.ndarray]:
    """The witness that search finds for one of ``real_cases``."""
    case = real_cases()[number]
    task, options = case.task_for(our_kernel), our_kernel.CrosscoderDOptions()
    return find_cells(_transformer(case), task, options, seconds=0.1)


def in_kernel(kernel: ModuleType, case: Case) -> Any:
    """The transformer of a case as an object of a copy of the kernel."""
    return transformer_for(kernel, _transformer(case))


def _transformer(case: Case) -> Transformer:
    if not isinstance(case.subject, Transformer):
        raise TypeError(f"{case.name} is no transformer")
    return case.subject


def imagined(kernel: ModuleType) -> Iterator[str]:
    """Drawn witnesses on imagined fronts."""
    rng = np.random.default_rng(42)
    for case in imagined_cases():
        yield from of_drawn_witnesses(kernel, rng, case, (False, False, True))


def real(kernel: ModuleType, start: int = 0, stop: int | None = None) -> Iterator[str]:
    """Found and drawn witnesses on transformers."""
    rng = np.random.default_rng([43, start])
    for number, case in list(enumerate(real_cases()))[start:stop]:
        if number % SEARCHED == 0:
            yield from of_found_witness(kernel, number)
        yield from of_drawn_witnesses(kernel, rng, case, (False, True))


def of_found_witness(kernel: ModuleType, number: int) -> Iterator[str]:
    """What search finds for one of ``real_cases`` gives no more than the truth."""
    case, options = real_cases()[number], kernel.CrosscoderDOptions(BINS[number % len(BINS)])
    witness = kernel.CellWitness(**searched(number))
    net, task = in_kernel(kernel, case), case.task_for(kernel)
    proved = kernel.crosscoder_d(net, task, options, witness=witness)
    yield from overrated(case, proved.by_class)
    if proved.claim.correct != sum(part.correct for part in proved.by_class):
        yield f"{case.name}: the total is not the sum of the classes"


def of_drawn_witnesses(
    kernel: ModuleType, rng: np.random.Generator, case: Case, inward: tuple[bool, ...]
) -> Iterator[str]:
    """No class counts more than is right, and no range is accepted that a neuron leaves.

    inward: for each witness whether to claim a range that is a little too small.
    """
    theorem: Any = sys.modules[f"{kernel.__name__}.theorems.crosscoder_d"]
    front, task = case.front_for(kernel), case.task_for(kernel)
    k, v, _, m = case.sizes
    for within in inward:
        trees = {y: drawn_tree(rng, k, v, 3) for y in sorted(set(case.labels.values()))}
        claims = drawn_claims(rng, case, trees, within)
        witness = kernel.CellWitness(**drawn_witness(rng, case, trees, claims))
        options = kernel.CrosscoderDOptions(int(rng.choice(BINS)))
        try:
            by_class = theorem.classes_proved(front, task, options, kernel.no_tick, witness)
        except kernel.RejectedError as error:
            if case.narrow and (not within or not m):
                yield f"{case.name}: true ranges are refused: {error}"
            continue
        except kernel.MalformedError as error:
            yield f"{case.name}: a witness of the right form is refused: {error}"
            continue
        yield from overrated(case, by_class)
        yield from _left(case, trees, claims)


def _left(case: Case, trees: dict[int, DrawnTree], claims: "Claims") -> Iterator[str]:
    for sequence, label in case.labels.items():
        leaf = trees[label].leaf_of(sequence)
        if leaf.kind == PROVE:
            ends = (end.tolist() for end in claims[id(leaf)])
            for z, low, high in zip(case.z[sequence], *ends, strict=True):
                if (low != UNKNOWN[0] and z < low - 0.01) or (
                    high != UNKNOWN[1] and z > high + 0.01
                ):
                    yield f"{case.name}: {sequence} leaves an accepted range"


Claims = dict[int, tuple[np.ndarray, np.ndarray]]


def drawn_claims(
    rng: np.random.Generator, case: Case, trees: dict[int, DrawnTree], inward: bool
) -> Claims:
    """By the identity of each leaf: ranges around what neurons do there; some ends unknown."""
    m = case.sizes[3]
    by_leaf = sequences_by_leaf(trees, case.labels)
    claims: Claims = {}
    for leaf in (leaf for tree in trees.values() for leaf in tree.in_order()):
        if leaf.kind == PROVE:
            held = [case.z[sequence] for sequence in by_leaf.get(id(leaf), [])]
            low, high = hull(held or [[0] * m], case.room)
            free = rng.random((2, m)) < 0.1
            low, high = np.where(free[0], UNKNOWN[0], low), np.where(free[1], UNKNOWN[1], high)
            claims[id(leaf)] = low, high
    used = [leaf for leaf in claims if leaf in by_leaf]
    if inward and m and used:
        leaf, neuron, end = (int(rng.integers(size)) for size in (len(used), m, 2))
        inner = hull([case.z[s] for s in by_leaf[used[leaf]]], -1)
        claims[used[leaf]][end][neuron] = inner[end][neuron]
    return claims


def drawn_witness(
    rng: np.random.Generator, case: Case, trees: dict[int, DrawnTree], claims: Claims
) -> dict[str, np.ndarray]:
    """The tensors with these trees and claims, and any slopes."""
    _, v, x, m = case.sizes
    tree, sets = tree_arrays(list(trees.values()), v)
    low, high = (
        np.array([pair[end] for pair in claims.values()], dtype=np.int32).reshape(len(claims), m)
        for end in (0, 1)
    )
    share = rng.integers(0, 129, len(claims) * x * m).astype(np.uint8)
    front = {f"front_{name}": array for name, array in case.tables.items()}
    return front | {
        "tree": tree,
        "sets": sets,
        "range_low": low,
        "range_high": high,
        "share": share,
    }


def overrated(case: Case, by_class: Any) -> Iterator[str]:
    """Classes of which more is proved than is true, or whose sizes are not the true ones."""
    truth: dict[tuple[int, int], list[int]] = {}
    for sequence, label in case.labels.items():
        counts = truth.setdefault((sequence[-1], label), [0, 0])
        counts[0] += 1
        counts[1] += case.right[sequence]
    if {(q, y): size for q, y, size, _ in by_class} != {c: n for c, (n, _) in truth.items()}:
        yield f"{case.name}: the classes are not the true ones"
        return
    for q, y, _, correct in by_class:
        if correct > truth[q, y][1]:
            yield f"{case.name}: {correct} of class ({q}, {y}) proved, in truth {truth[q, y]}"
