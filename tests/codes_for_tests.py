"""Small transformers that answer most sequences rightly, and codes of their residuals."""

from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from compactproofs.crosscoders.sparse_codes import SparseCodes, pursued
from compactproofs.kernel import MaxOfK, Task, Transformer, sequences
from transformers_for_tests import float_forward, random_transformer

K, V = 3, 3


@cache
def taught_transformer(seed: int, mlp: int) -> Transformer:
    """Random, but for an unembedding by least squares: right on most sequences of max-of-3."""
    rng = np.random.default_rng(seed)
    net = random_transformer(rng, k=K, v=V, mlp=mlp, d=6, h=4)
    tokens = sequences(MaxOfK(K, V), 0, V**K)
    post = float_forward(net, tokens)["blocks.0.hook_resid_post"][:, -1]
    post = np.append(post, np.ones((len(post), 1)), axis=1)
    wanted = np.eye(V)[tokens.max(axis=1)]
    weights = 8 * np.linalg.lstsq(post, wanted, rcond=None)[0]
    return replace(net, W_U=weights[:-1], b_U=weights[-1])


@dataclass(frozen=True, eq=False)
class TaughtSubject:
    """A taught transformer and what it answers, in float64; no margin is near 0."""

    net: Transformer
    task: Task
    label: np.ndarray
    residual: np.ndarray
    margin: np.ndarray
    right: np.ndarray

    def sparse(self, k: int) -> SparseCodes:
        """``k`` of twelve features, found by pursuit."""
        rng = np.random.default_rng(0)
        mean = self.residual.mean(axis=0)
        decoder = self.residual[rng.permutation(len(self.residual))[:12]] - mean
        nothing = np.full((len(self.residual), 1), -1)
        codes = SparseCodes(decoder, mean, nothing, np.zeros(nothing.shape))
        return pursued(codes, self.residual, k)


@cache
def taught_subject(seed: int, mlp: int) -> TaughtSubject:
    net, task = taught_transformer(seed, mlp), MaxOfK(K, V)
    tokens = sequences(task, 0, task.total)
    found = float_forward(net, tokens)
    label = tokens.max(axis=1)
    rows = np.arange(len(label))
    margins = found["logits"][rows, label][:, None] - found["logits"]
    margin = margins[np.arange(V)[None] != label[:, None]].reshape(len(label), V - 1)
    if np.abs(margin).min() < 1e-6:
        raise ValueError(f"seed {seed} has a margin near 0: take another")
    residual = found["blocks.0.hook_resid_mid"][:, -1]
    right = np.asarray((margin > 0).all(axis=1))
    return TaughtSubject(net, task, label, residual, margin, right)


def exact_codes(subject: TaughtSubject) -> SparseCodes:
    """One feature for each sequence: its residual."""
    n = len(subject.residual)
    return SparseCodes(
        subject.residual,
        np.zeros(subject.residual.shape[1]),
        np.arange(n)[:, None],
        np.ones((n, 1)),
    )
