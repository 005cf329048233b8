"""Codes to attack theorems B and C with: exact ones, poor ones, ones that lean the wrong way."""

from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from compactproofs.kernel import Transformer, parse_task, sequences
from exact_networks import exact_logits
from transformers_for_tests import float_forward, random_transformer

from .laws_of_networks import networks

KINDS = ("exact", "mixed", "close", "leaning", "opposed", "random", "nothing")


class Subject(NamedTuple):
    """A transformer, and what it really answers."""

    name: str
    net: Transformer
    task: str
    label: np.ndarray  # [N]
    residual: np.ndarray  # [N, d]: before the last MLP, in float64
    margin: np.ndarray  # [N, r]: not below the exact ones, by no more than rounding
    right: np.ndarray  # [N]


@cache
def subjects() -> tuple[Subject, ...]:
    """Random and hostile networks, wide MLPs among them, and one with a single output."""
    rng = np.random.default_rng(61)
    found = [_subject(name, net, task) for name, net, task in networks() if _wanted(name, net)]
    for mlp, size in ((9, 1.0), (9, 6.0), (5, 0.2)):
        net = random_transformer(rng, k=2, v=3, mlp=mlp, d=3, h=2)
        found.append(_subject(f"{mlp} neurons, {size}", _with_mlp(net, size), "max:k=2,v=3"))
    pairs = random_transformer(rng, k=2, v=3, mlp=6, d=3, h=2)
    found.append(_subject("neurons in opposite pairs", _in_pairs(pairs), "max:k=2,v=3"))
    single = random_transformer(rng, k=2, v=1, mlp=3, d=3, h=2, outputs=1)
    found.append(_subject("a single output", single, "max:k=2,v=1"))
    return tuple(found)


def _wanted(name: str, net: Transformer) -> bool:
    """Every hostile network, and of the random ones those of ordinary size."""
    return " layers, " not in name or 0.1 < np.abs(net.W_U).max() < 10


def _with_mlp(net: Transformer, size: float) -> Transformer:
    """The MLP's output times ``size``, and no other path: interactions alone decide."""
    block = net.blocks[0]
    return replace(net, blocks=(replace(block, W_out=block.W_out * size),))


def _in_pairs(net: Transformer) -> Transformer:
    """Two neurons of a pair write the size of what one of them reads."""
    block = net.blocks[0]
    W_in, b_in, W_out = (np.array(getattr(block, name)) for name in ("W_in", "b_in", "W_out"))
    W_in[:, 1::2], b_in[1::2], W_out[1::2] = -W_in[:, ::2], -b_in[::2], W_out[::2]
    return replace(net, blocks=(replace(block, W_in=W_in, b_in=b_in, W_out=8 * W_out),))


def _subject(name: str, net: Transformer, task: str) -> Subject:
    parsed = parse_task(task)
    tokens = sequences(parsed, 0, parsed.total)
    label = parsed.labels(tokens)
    margins: list[list[float]] = []
    right: list[bool] = []
    for own, row in zip(label.tolist(), exact_logits(net, tokens), strict=True):
        differences = [row[own] - other for x, other in enumerate(row) if x != own]
        # The midpoint is rounded by an ulp of itself; the radius is 2^-300 of the logits.
        margins.append([_above(one) for one in differences])
        right.append(all(bool(one > 0) for one in differences))
    where = f"blocks.{len(net.blocks) - 1}.hook_resid_mid"
    residual = float_forward(net, tokens)[where][:, -1]
    shape = (len(tokens), net.d_vocab_out - 1)
    return Subject(
        name, net, task, label, residual, np.array(margins).reshape(shape), np.array(right)
    )


def _above(exact: Any) -> float:
    return float(np.nextafter(float(exact.upper()), np.inf))


class Drawn(NamedTuple):
    """The tensors that both theorems take, and the exact decodes."""

    decoder: np.ndarray
    bias: np.ndarray
    level: np.ndarray
    code: np.ndarray
    cell: np.ndarray
    decoded: np.ndarray

    def arrays(self) -> dict[str, np.ndarray]:
        """By the names of the tensors."""
        return {n: a for n, a in self._asdict().items() if n != "decoded"}


def drawn_codes(rng: np.random.Generator, subject: Subject, kind: str) -> Drawn:
    """Codes of every sequence; each sequence has activation values of its own.

    exact: with so many features that nothing is left; mixed: the same, but half of the sequences
    lose most of them; close: by least squares on fewer; leaning: the same, moved towards larger
    margins; opposed: values as for another sequence.
    """
    n, d = subject.residual.shape
    cells = int(rng.integers(1, 3))
    whole = kind in ("exact", "mixed")
    features = d + 2 if whole else int(rng.integers(1, d + 3))
    k = features if whole else int(rng.integers(1, features + 1))
    decoder = rng.normal(size=(features, d))
    if features > 2 and rng.random() < 0.3:
        decoder[1] = -decoder[0]
    decoder[-1] *= rng.choice([0.0, 1e-3, 1.0, 30.0])
    cell = rng.integers(0, cells, n)
    if rng.random() < 0.5:  # the label in the middle is in two cells
        cell[np.argsort(subject.label, kind="stable")] = np.arange(n) * cells // n
    bias = rng.choice([0.0, 0.5, 1.0]) * subject.residual[rng.integers(0, n, cells)]
    chosen = np.array([rng.permutation(features)[:k] for _ in range(n)])
    target = subject.residual.copy()
    if kind == "leaning":
        target = target + _upwards(subject) * rng.choice([0.1, 1.0, 3.0])
    if kind == "opposed":
        target = target[rng.permutation(n)]
    value = np.zeros((n, k))
    for row, (own, wanted) in enumerate(zip(chosen, target - bias[cell], strict=True)):
        value[row] = np.linalg.lstsq(decoder[own].T, wanted, rcond=1e-9)[0]
    if kind == "random":
        value = rng.normal(size=(n, k)) * rng.choice([0.1, 1.0, 100.0])
    if kind == "nothing":
        value[:] = 0.0
    absent = rng.random(chosen.shape) < rng.choice([0.0, 0.3]) * (not whole)
    if kind == "mixed":
        absent = (rng.random((n, 1)) < 0.5) & (rng.random(chosen.shape) < 0.7)
    level = np.zeros((features, n))
    level[chosen, np.arange(n)[:, None]] = value
    code = np.where(absent | (kind == "nothing"), -1, chosen * n + np.arange(n)[:, None])
    decoded = bias[cell] + np.einsum("nk,nkd->nd", np.where(code < 0, 0.0, value), decoder[chosen])
    return Drawn(decoder, bias, level, code.astype(np.int32), cell.astype(np.int32), decoded)


def _upwards(subject: Subject) -> np.ndarray:
    """The direction in which the label's logit grows fastest, by differences."""
    net, block = subject.net, subject.net.blocks[-1]
    own = net.W_U[:, subject.label].T - net.W_U.mean(axis=1)
    active = subject.residual @ block.W_in + block.b_in > 0
    return own + ((own @ block.W_out.T) * active) @ block.W_in.T


def few_values(rng: np.random.Generator, subject: Subject, values: int) -> Drawn:
    """Any features in any number, with one or two values each; in one cell."""
    n, d = subject.residual.shape
    features = int(rng.integers(1, 6))
    decoder = rng.normal(size=(features, d))
    level = rng.uniform(0.5, 2.0, (features, values))
    present = rng.random((n, features)) < rng.choice([0.3, 0.6, 1.0], features)
    which = rng.integers(0, values, (n, features))
    code = np.where(present, np.arange(features) * values + which, -1)
    code = np.take_along_axis(code, rng.permuted(np.tile(np.arange(features), (n, 1)), axis=1), 1)
    bias = rng.normal(size=(1, d))
    value = np.where(present, np.take_along_axis(level.T, which, axis=0), 0.0)
    decoded = bias + value @ decoder
    cell = np.zeros(n, dtype=np.int32)
    return Drawn(decoder, bias, level, code.astype(np.int32), cell, decoded)
