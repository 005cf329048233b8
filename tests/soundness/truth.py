"""What a model really answers, sequence by sequence: a textbook forward pass and nothing else.

Written without the kernel (it only reads the arrays of a ``Model``). Logits are computed in
float64, as one would teach them: queries, keys, softmax, residual stream, unembedding. A sequence
whose margin is not clearly away from 0, by a bound that allows for every rounding many times over,
is decided by Arb at 256 bits, then at 1024; what those cannot separate is a tie. A tie is wrong.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from flint import arb, arb_mat, ctx, fmpq

from compactproofs.kernel import Model

Labels = Callable[[np.ndarray], np.ndarray]
"""From sequences ``[n, k]`` to the right answers ``[n]``."""


class Count(NamedTuple):
    """Sequences of one class, and how many of them the model gets right."""

    size: int
    right: int


Truth = dict[tuple[int, int], Count]
"""By (query, label)."""


def all_sequences(k: int, v: int) -> np.ndarray:
    """Every sequence, ``[v^k, k]``."""
    return np.array(list(np.ndindex(*(v,) * k)), dtype=np.int64).reshape(v**k, k)


def largest(tokens: np.ndarray) -> np.ndarray:
    """The label of max-of-k."""
    return tokens.max(axis=1)


def exact_truth(model: Model, labels: Labels = largest) -> Truth:
    """For each class the exact number of sequences that the model gets right."""
    tokens = all_sequences(model.n_ctx, model.d_vocab)
    label = labels(tokens)
    right = right_answers(model, tokens, label)
    truth: dict[tuple[int, int], Count] = {}
    for q, m, ok in zip(tokens[:, -1].tolist(), label.tolist(), right.tolist(), strict=True):
        size, good = truth.get((q, m), (0, 0))
        truth[q, m] = Count(size + 1, good + ok)
    return truth


def right_answers(model: Model, tokens: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Whether the label's logit is strictly the largest, for each sequence."""
    logits, error = float_logits(model, tokens)
    if model.d_vocab_out == 1:
        return np.ones(len(tokens), dtype=bool)
    margin = margins(logits, label)
    right = margin < 0
    near = np.flatnonzero(~(np.abs(margin) > 2 * error))
    if near.size:
        right[near] = arb_right_answers(model, tokens[near], label[near])
    return right


def margins(logits: np.ndarray, label: np.ndarray) -> np.ndarray:
    """The best wrong logit minus the right one: negative means right."""
    rows = np.arange(len(logits))
    others = logits.copy()
    others[rows, label] = -np.inf
    return others.max(axis=1) - logits[rows, label]


def float_logits(model: Model, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Logits at the last position in float64, and a bound on the error of each sequence's."""
    m = model
    root = float(m.score_divisor_squared) ** 0.5

    def forward(a: Callable[[np.ndarray], np.ndarray]) -> tuple[np.ndarray, ...]:
        # With a = abs, every sum becomes the sum of the sizes of its terms.
        residual = a(m.W_E)[tokens] + a(m.W_pos)
        query = residual[:, -1] @ a(m.W_Q) + a(m.b_Q)
        key = residual @ a(m.W_K) + a(m.b_K)
        value = residual @ a(m.W_V) + a(m.b_V)
        scores = np.einsum("nh,nih->ni", query, key) / root
        return residual[:, -1], value, scores

    residual, value, scores = forward(lambda w: w)
    raised = np.exp(scores - scores.max(axis=1, keepdims=True))
    pattern = raised / raised.sum(axis=1, keepdims=True)
    attended = np.einsum("ni,nih->nh", pattern, value)
    logits = (residual + attended @ m.W_O + m.b_O) @ m.W_U + m.b_U

    # Any sum of products of depth n errs by at most about n 2^-53 of the sum of sizes: with
    # unit = 2^-53 * 8 (operations on the longest path), all of this is generous.
    unit = 2.0**-50 * (8 + 4 * m.W_E.shape[1] + 4 * m.W_Q.shape[1] + m.n_ctx)
    sizes, value_sizes, score_sizes = forward(np.abs)
    off = np.expm1(np.minimum(4 * unit * score_sizes.max(axis=1), 700.0)) + unit
    moved = (value_sizes.max(axis=1) @ np.abs(m.W_O)) @ np.abs(m.W_U)
    fixed = (sizes + np.abs(m.b_O)) @ np.abs(m.W_U) + np.abs(m.b_U)
    error = (off + unit) * moved.max(axis=1) + unit * fixed.max(axis=1)
    return logits, error * (1 + unit) + 1e-290


@contextmanager
def _precision(bits: int) -> Iterator[None]:
    before = ctx.prec
    ctx.prec = bits
    try:
        yield
    finally:
        ctx.prec = before


class ArbStreams(NamedTuple):
    """Per position and token: query, key and value vectors, and what a value does to the logits."""

    scores: list[list[list[arb]]]  # [i][q][t]: query of (q, k-1) on the key of (t, i)
    values: list[list[list[arb]]]  # [i][t][x]: (value of (t, i)) W_O W_U
    rest: list[list[arb]]  # [q][x]: (residual of (q, k-1) + b_O) W_U + b_U


def arb_streams(model: Model, bits: int) -> ArbStreams:
    """What attention reads and writes, enclosed at ``bits`` bits."""

    def matrix(values: np.ndarray) -> arb_mat:
        return arb_mat([[arb(x) for x in row] for row in np.atleast_2d(values).tolist()])

    def rows(bias: np.ndarray) -> arb_mat:
        return matrix(np.repeat(bias[None], model.d_vocab, axis=0))

    m = model
    with _precision(bits):
        root = arb(fmpq(m.score_divisor_squared.numerator, m.score_divisor_squared.denominator))
        root = root.sqrt()
        residual = [matrix(m.W_E) + rows(p) for p in m.W_pos]
        query = residual[-1] * matrix(m.W_Q) + rows(m.b_Q)
        scores, values = [], []
        for r in residual:
            key = r * matrix(m.W_K) + rows(m.b_K)
            scores.append([[s / root for s in row] for row in (query * key.transpose()).table()])
            value = r * matrix(m.W_V) + rows(m.b_V)
            values.append((value * (matrix(m.W_O) * matrix(m.W_U))).table())
        rest = (residual[-1] + rows(m.b_O)) * matrix(m.W_U) + rows(m.b_U)
        return ArbStreams(scores, values, rest.table())


def arb_right_answers(model: Model, tokens: np.ndarray, label: np.ndarray) -> np.ndarray:
    """The same answers by Arb; a tie, proved or not to be told apart at 1024 bits, is wrong."""
    right = np.zeros(len(tokens), dtype=bool)
    open_rows = list(range(len(tokens)))
    for bits in (256, 1024):
        if not open_rows:
            break
        streams = arb_streams(model, bits)
        left: list[int] = []
        with _precision(bits):
            for n in open_rows:
                answer = _arb_right(streams, tokens[n].tolist(), int(label[n]))
                if answer is None:
                    left.append(n)
                else:
                    right[n] = answer
        open_rows = left
    return right


def _arb_right(streams: ArbStreams, tokens: list[int], label: int) -> bool | None:
    q = tokens[-1]
    scores = [streams.scores[i][q][t] for i, t in enumerate(tokens)]
    raised = [(s - scores[0]).exp() for s in scores]
    total = sum(raised, arb(0))
    pattern = [r / total for r in raised]

    def logit(x: int) -> arb:
        terms = zip(pattern, range(len(tokens)), tokens, strict=True)
        return streams.rest[q][x] + sum((p * streams.values[i][t][x] for p, i, t in terms), arb(0))

    right = logit(label)
    undecided = False
    for x in range(len(streams.rest[0])):
        if x == label:
            continue
        difference = logit(x) - right
        if difference >= 0:
            return False
        if not difference < 0:
            undecided = True
    return None if undecided else True
