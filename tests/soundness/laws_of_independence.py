"""The law of independence certificates, against exact sums over every subset of every code."""

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from functools import cache
from itertools import combinations
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from compactproofs.kernel import Transformer
from transformers_for_tests import random_transformer

from .laws_of_networks import transformer_for

ON, OFF, ALONE, DOMINATED, NONE = range(5)


class Subject(NamedTuple):
    """What a certificate is asked about."""

    name: str
    net: Transformer
    layer: int
    decoder: np.ndarray
    bias: np.ndarray
    levels: np.ndarray
    codes: np.ndarray

    def asked(self, kernel: ModuleType, codes: np.ndarray | None = None, **options: Any) -> Any:
        """The certificate of some codes (None: of all) by a copy of the kernel."""
        net = transformer_for(kernel, self.net)
        rows = self.codes if codes is None else codes
        return kernel.independence(
            net, self.layer, self.decoder, self.bias, self.levels, rows, **options
        )


class Truth(NamedTuple):
    """Of one code and neuron, by exact arithmetic."""

    holds: tuple[bool, bool, bool, bool]
    """Whether it is on, off, alone, dominated."""
    differences: dict[tuple[int, int], Fraction]
    """The largest |D| of each pair of features that are present, over all S."""
    interaction: Fraction
    """|r|."""


@cache
def subjects() -> tuple[Subject, ...]:
    """Random ones, some that hit zeros and ties, some at the ends of float64's range."""
    rng = np.random.default_rng(71)
    found: list[Subject] = []
    for number in range(3):
        layers = 1 + number % 2
        net = random_transformer(rng, k=2, v=3, layers=layers, mlp=7, d=4, h=2)
        decoder, bias = rng.normal(size=(6, 4)), 0.5 * rng.normal(size=4)
        levels = rng.choice([-1.0, 1.0, 1.0, 1.0], (6, 2)) * rng.uniform(0, 2, (6, 2))
        found.append(
            Subject("random", net, layers - 1, decoder, bias, levels, drawn_codes(rng, 6, 2))
        )
    # Small whole numbers: partial sums that are exactly 0, neurons that see no or one feature.
    for number in range(3):
        net = random_transformer(rng, k=2, v=3, mlp=7, d=4, h=2)
        block = net.blocks[0]
        whole = replace(
            block,
            W_in=rng.integers(-1, 2, block.W_in.shape).astype(float),
            b_in=rng.integers(-2, 3, block.b_in.shape).astype(float),
        )
        decoder = rng.integers(-1, 2, (6, 4)) * (rng.random((6, 4)) < 0.5).astype(float)
        levels = rng.integers(-1 if number % 2 else 0, 3, (6, 2)).astype(float)
        bias = rng.integers(-1, 2, 4).astype(float)
        found.append(
            Subject(
                "whole numbers", replace(net, blocks=(whole,)), 0, decoder, bias, levels,
                drawn_codes(rng, 6, 2),
            )
        )  # fmt: skip
    alone = [one._replace(codes=np.arange(0, 12, 2)[:, None]) for one in found[2:4]]
    return (*found, *alone, *near_ties(rng), *scaled(found[0]))


def drawn_codes(rng: np.random.Generator, n_features: int, n_levels: int) -> np.ndarray:
    """Codes of 0 to 4 features in any order, some listed twice."""
    rows = []
    for size in (0, 1, 2, 2, 3, 3, 4):
        chosen = rng.permutation(n_features)[:size]
        atoms = chosen * n_levels + rng.integers(0, n_levels, size)
        rows.append(rng.permutation(np.concatenate([atoms, np.full(4 - size, -1)])))
    return np.array([*rows, *rows[2:4]])


def near_ties(rng: np.random.Generator) -> Iterator[Subject]:
    """One unit of the last place from a change of status: low or high is 2^-50 beside 0."""
    net = random_transformer(rng, k=2, v=3, mlp=2, d=1, h=2)
    W_in = np.array([[1.0, -1.0]])
    for away in (2.0**-50, -(2.0**-50), 0.0):
        for b_in in (1.0 + away, 1.0, -1.0):
            block = replace(net.blocks[0], W_in=W_in, b_in=np.array([b_in, -b_in]))
            levels = np.array([[1.0], [-1.0], [-2.0], [0.5], [0.5 + away], [-1.0 - away]])
            rows = "0 - -, 1 - -, 5 - -, 1 3 -, 0 1 -, 2 3 4, 1 2 5".replace("-", "-1")
            codes = np.array([row.split() for row in rows.split(", ")], dtype=int)
            yield Subject(
                f"near ties {away} {b_in}", replace(net, blocks=(block,)), 0, np.ones((6, 1)),
                np.zeros(1), levels, codes,
            )  # fmt: skip


def scaled(subject: Subject) -> Iterator[Subject]:
    """The same far from 1, where sums underflow or come near the largest numbers."""
    for name, by in (("tiny", 1e-160), ("huge", 1e140)):
        yield subject._replace(
            name=name, decoder=subject.decoder * by, bias=subject.bias * by, levels=subject.levels
        )


def pulls_of(subject: Subject, code: np.ndarray, neuron: int) -> tuple[Fraction, dict]:
    """``beta``, and the pull of each feature that is present."""
    block, n_levels = subject.net.blocks[subject.layer], subject.levels.shape[1]
    column = [Fraction(w) for w in block.W_in[:, neuron].tolist()]

    def along(row: np.ndarray) -> Fraction:
        return sum((Fraction(x) * w for x, w in zip(row.tolist(), column, strict=True)), Fraction())

    pulls = {}
    for atom in code.tolist():
        if atom >= 0:
            level = float(subject.levels[atom // n_levels, atom % n_levels])
            if level:
                pulls[atom // n_levels] = Fraction(level) * along(subject.decoder[atom // n_levels])
    return along(subject.bias) + Fraction(float(block.b_in[neuron])), pulls


def true_of(subject: Subject, code: np.ndarray, neuron: int) -> Truth:
    """Every subset of the code, one by one."""
    beta, pulls = pulls_of(subject, code, neuron)
    z = {
        frozenset(chosen): beta + sum((pulls[i] for i in chosen), Fraction())
        for size in range(len(pulls) + 1)
        for chosen in combinations(pulls, size)
    }
    zero = Fraction()
    with_one = [[value for chosen, value in z.items() if i in chosen] for i in pulls]
    one_sign = [min(some) >= 0 or max(some) <= 0 for some in (*with_one, list(z.values()))]
    relu = {chosen: max(zero, value) for chosen, value in z.items()}
    differences = {}
    for i, j in combinations(sorted(pulls), 2):
        differences[i, j] = max(
            abs(relu[s | {i, j}] - relu[s | {i}] - relu[s | {j}] + relu[s])
            for s in z
            if not s & {i, j}
        )
    singles = sum((relu[frozenset({i})] - relu[frozenset()] for i in pulls), zero)
    return Truth(
        (
            min(z.values()) >= 0,
            max(z.values()) <= 0,
            sum(p != 0 for p in pulls.values()) <= 1,
            any(one_sign),
        ),
        differences,
        abs(relu[frozenset(pulls)] - relu[frozenset()] - singles),
    )


@cache
def truth_of(number: int) -> tuple[tuple[Truth, ...], ...]:
    """By code and neuron of one of ``subjects``."""
    subject = subjects()[number]
    neurons = range(subject.net.blocks[subject.layer].d_mlp)
    return tuple(tuple(true_of(subject, code, n) for n in neurons) for code in subject.codes)


def single_codes(kernel: ModuleType) -> Iterator[str]:
    """Of one code alone: what is called on, off, alone or dominated is; bounds are not exceeded."""
    for number, subject in enumerate(subjects()):
        for code, truths in zip(subject.codes, truth_of(number), strict=True):
            found = subject.asked(kernel, code[None])
            place = f"{subject.name}, code {code.tolist()}"
            yield from _exceeded(found, [truths], place)
            for neuron, truth in enumerate(truths):
                kind = int(np.argmax(found.tally[:, neuron]))
                if kind < NONE and not truth.holds[kind]:
                    yield f"{place}, neuron {neuron}: called {kind}, in truth {truth.holds}"
                if found.tally[kind, neuron] != 1 or found.tally[:, neuron].sum() != 1:
                    yield f"{place}, neuron {neuron}: one code is {found.tally[:, neuron]}"


def lists_of_codes(kernel: ModuleType) -> Iterator[str]:
    """Of all codes: the tally is the sum of the single ones, and the status is what it says."""
    for number, subject in enumerate(subjects()):
        truths = truth_of(number)
        found = subject.asked(kernel)
        if number % 4 == 0:
            parts = [subject.asked(kernel, code[None]) for code in subject.codes]
            if not np.array_equal(found.tally, sum(part.tally for part in parts)):
                yield f"{subject.name}: the tally is not that of the codes"
        additive = [all(any(t.holds[:3]) for t in code) for code in truths]
        if found.additive_codes > sum(additive):
            yield f"{subject.name}: {found.additive_codes} codes called additive, not {additive}"
        if found.n_codes != len(subject.codes):
            yield f"{subject.name}: {found.n_codes} codes, not {len(subject.codes)}"
        yield from _exceeded(found, truths, subject.name)
        for neuron, status in enumerate(found.status.tolist()):
            holds = np.array([code[neuron].holds for code in truths])
            apart = holds[:, :3].any(axis=1)
            right = (
                holds[:, ON].all(),
                holds[:, OFF].all(),
                apart.all(),
                (apart | holds[:, DOMINATED]).all(),
                True,
            )
            if not right[status]:
                yield f"{subject.name}, neuron {neuron}: status {status}, in truth {right}"
            if status <= 2 and (found.second_difference[neuron] or found.interaction[neuron]):
                yield f"{subject.name}, neuron {neuron}: separate, and not bounded by 0"


def _exceeded(found: Any, truths: Any, place: str) -> Iterator[str]:
    listed = {tuple(pair): row for row, pair in enumerate(found.pairs.tolist())}
    for truths_of_code in truths:
        for neuron, truth in enumerate(truths_of_code):
            if truth.interaction > Fraction(float(found.interaction[neuron])):
                yield f"{place}, neuron {neuron}: interaction {float(truth.interaction)}"
            for pair, difference in truth.differences.items():
                if difference > Fraction(float(found.second_difference[neuron])):
                    yield f"{place}, neuron {neuron}: second difference {float(difference)}"
                if pair not in listed:
                    yield f"{place}: the pair {pair} is missing"
                elif difference > Fraction(float(found.pair_bound[listed[pair], neuron])):
                    yield f"{place}, neuron {neuron}: pair {pair} {float(difference)}"
                elif difference and neuron not in found.shared_neurons(*pair):
                    yield f"{place}: neuron {neuron} is not one where {pair} meet"


LAWS = (single_codes, lists_of_codes)
