"""Codes of every sequence of a task at the residual before the last MLP, chosen for a proof.

Theorems B and C of the kernel take any codes (``kernel._codes``); these functions look for good
ones: from a crosscoder or from plain arrays, re-fitted by least squares, on other supports where
those fit better, and on a grid of values. Nothing here is trusted.

Notation: N sequences, H features, k active ones, L values of a feature, d width.
"""

from dataclasses import dataclass, replace
from typing import final

import numpy as np
from jaxtyping import Float, Float64, Int64

from ..kernel import Task, Transformer, sequences
from ._activations import require_own_crosscoder, residuals
from ._crosscoder import Crosscoder
from ._errors import CrosscoderError

_AT_ONCE = 1 << 13


@final
@dataclass(frozen=True, eq=False)
class SparseCodes:
    """``bias + sum_j value[:, j] decoder[feature[:, j]]`` for each sequence, -1 for no feature."""

    decoder: Float64[np.ndarray, "H d"]
    bias: Float64[np.ndarray, " d"]
    feature: Int64[np.ndarray, "N k"]
    """No feature twice in a row; -1 where the value is 0."""
    value: Float64[np.ndarray, "N k"]

    def decoded(self) -> Float64[np.ndarray, "N d"]:
        """What the codes stand for. Cost: N k d."""
        result = np.repeat(self.bias[None], len(self.feature), axis=0)
        for feature, value in zip(self.feature.T, self.value.T, strict=True):
            result += value[:, None] * self.decoder[feature]
        return result


def exact_residuals(net: Transformer, task: Task) -> Float64[np.ndarray, "N d"]:
    """The residual before the last MLP of every sequence of the task, up to float64 rounding."""
    name = f"blocks.{len(net.blocks) - 1}.hook_resid_mid"
    parts = [
        residuals(net, sequences(task, start, min(start + _AT_ONCE, task.total)), (name,))[:, 0]
        for start in range(0, task.total, _AT_ONCE)
    ]
    return np.concatenate(parts)


def crosscoder_codes(net: Transformer, task: Task, crosscoder: Crosscoder, k: int) -> SparseCodes:
    """Every sequence encoded with the ``k`` strongest features, decoded before the last MLP.

    Raises CrosscoderError for a crosscoder of another model, or that does not write that site.
    """
    crosscoder = crosscoder.fold()
    require_own_crosscoder(crosscoder.config, net)
    wanted = f"blocks.{len(net.blocks) - 1}.hook_resid_mid"
    written = [site.name for site in crosscoder.config.written_sites]
    if wanted not in written:
        raise CrosscoderError(
            f"the crosscoder does not write the site {wanted}, which the proof needs; it writes "
            f"{', '.join(written)}"
        )
    place = written.index(wanted)
    read = [site.name for site in crosscoder.config.sites]
    parts = []
    for start in range(0, task.total, _AT_ONCE):
        tokens = sequences(task, start, min(start + _AT_ONCE, task.total))
        parts.append(crosscoder.encode_topk(residuals(net, tokens, read), k))
    return dense_codes(
        crosscoder.W_dec[:, place].astype(np.float64),
        crosscoder.b_dec[place].astype(np.float64),
        np.concatenate(parts),
        k,
    )


def dense_codes(
    decoder: Float[np.ndarray, "H d"],
    bias: Float[np.ndarray, " d"],
    codes: Float[np.ndarray, "N H"],
    k: int,
) -> SparseCodes:
    """The ``k`` entries of each row that decode to the longest vectors."""
    decoder, codes = decoder.astype(np.float64), codes.astype(np.float64)
    size = np.abs(codes) * np.linalg.norm(decoder, axis=1)
    k = min(k, codes.shape[1])
    feature = np.argsort(-size, axis=1, kind="stable")[:, :k].astype(np.int64)
    value = np.take_along_axis(codes, feature, axis=1)
    return SparseCodes(decoder, bias.astype(np.float64), np.where(value == 0, -1, feature), value)


def refitted(
    codes: SparseCodes, target: Float64[np.ndarray, "N d"], ridge: float = 1e-9
) -> SparseCodes:
    """The same features with the values that bring the decodes closest to ``target``.

    Any sign. ridge: of the size of a squared direction; keeps values small where directions agree.
    """
    value = np.empty_like(codes.value)
    size = ridge * (1e-300 + np.square(codes.decoder).sum(axis=1).max(initial=0.0))
    for rows in _blocks(len(value)):
        chosen = codes.feature[rows]
        directions = codes.decoder[chosen] * (chosen >= 0)[:, :, None]
        gram = directions @ directions.transpose(0, 2, 1) + size * np.eye(chosen.shape[1])
        wanted = directions @ (target[rows] - codes.bias)[:, :, None]
        value[rows] = np.linalg.solve(gram, wanted)[:, :, 0] * (chosen >= 0)
    return replace(codes, feature=np.where(value == 0, -1, codes.feature), value=value)


def pursued(
    codes: SparseCodes, target: Float64[np.ndarray, "N d"], k: int, given: int = 0
) -> SparseCodes:
    """Orthogonal matching pursuit: ``k`` features, each the one that explains most of what is left.

    given: how many of the features that ``codes`` has are kept to begin with. Cost: N k H d.
    """
    feature = np.full((len(target), k), -1)
    feature[:, :given] = codes.feature[:, :given]
    found = replace(codes, feature=feature, value=np.zeros(feature.shape))
    norm = np.linalg.norm(codes.decoder, axis=1)
    unit = codes.decoder / np.where(norm > 0, norm, 1.0)[:, None]
    for step in range(given, k):
        found = refitted(found, target) if step else found
        left = target - found.decoded()
        gain = np.abs(left @ unit.T)
        for column in found.feature.T[:step]:
            rows = np.flatnonzero(column >= 0)
            gain[rows, column[rows]] = -1.0
        next_one = found.feature.copy()
        next_one[:, step] = gain.argmax(axis=1)
        found = replace(found, feature=next_one)
    return refitted(found, target)


def _blocks(n: int) -> list[slice]:
    return [slice(start, start + _AT_ONCE) for start in range(0, n, _AT_ONCE)]
