"""The bundled models of four tokens: 16.8 million sequences each, by three ways of counting."""

from functools import cache
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest

from compactproofs.kernel import Model, load_model
from compactproofs.models import resolve_model

from .truth import arb_right_answers

NEAR = 1e-9
"""Margins below this are left to Arb; float64 errs by less than 1e-11 on these models."""

KNOWN = {"max-of-4": 16_774_110, "max-of-4-undertrained": 16_581_554}
"""Right answers of all 64^4, counted once and for all by an earlier, separate program."""


class Exact(NamedTuple):
    """A bundled model's verified tables, the task, and what brute force proves."""

    tables: Any
    task: Any
    proved: Any


@cache
def by_brute_force(name: str, kernel: ModuleType) -> Exact:
    model = kernel.load_model(resolve_model(name))
    tables, task = kernel.verify_tables(model, kernel.integer_tables(model)), kernel.MaxOfK(4, 64)
    return Exact(tables, task, kernel.brute_force(tables, task, kernel.BruteForceOptions()))


def right_by_label(model: Model, query: int) -> np.ndarray:
    """For each label the sequences ending in ``query`` that are right, by softmax and float64."""
    v = model.d_vocab
    residual = model.W_E[None] + model.W_pos[:, None]  # [i, t, d]
    asked = residual[-1, query] @ model.W_Q + model.b_Q
    asked /= float(model.score_divisor_squared) ** 0.5
    scores = (residual @ model.W_K + model.b_K) @ asked  # [i, t]
    raised = np.exp(scores - scores.max())
    outputs = (residual @ model.W_V + model.b_V) @ model.W_O @ model.W_U  # [i, t, x]
    weighted = raised[:, :, None] * outputs
    own = (residual[-1, query] + model.b_O) @ model.W_U + model.b_U
    right = np.zeros(v, dtype=np.int64)
    near: list[tuple[int, int, int, int]] = []
    second, third = (a.ravel() for a in np.indices((v, v)))
    pair = (weighted[1].T[:, :, None] + weighted[2].T[:, None]).reshape(-1, v * v)  # [x, n]
    pair_total = (raised[1][:, None] + raised[2][None]).ravel()
    columns = np.arange(v * v)
    logits = np.empty_like(pair)
    for first in range(v):
        np.add(pair, (weighted[0, first] + weighted[3, query])[:, None], out=logits)
        logits /= pair_total + (raised[0, first] + raised[3, query])
        logits += own[:, None]
        label = np.maximum(np.maximum(second, third), max(first, query))
        answer = logits[label, columns]
        logits[label, columns] = -np.inf
        margin = logits.max(axis=0) - answer
        right += np.bincount(label[margin < -NEAR], minlength=v)
        for n in np.flatnonzero(np.abs(margin) <= NEAR).tolist():
            near.append((first, int(second[n]), int(third[n]), query))
    if near:
        tokens = np.array(near)
        label = tokens.max(axis=1)
        right += np.bincount(label[arb_right_answers(model, tokens, label)], minlength=v)
    return right


@pytest.mark.parametrize("name", KNOWN)
def test_brute_force_counts_exactly_what_a_forward_pass_counts(
    name: str, plain: ModuleType
) -> None:
    model = load_model(resolve_model(name))
    right = np.array([right_by_label(model, query) for query in range(64)])
    proved = by_brute_force(name, plain).proved
    for query, label, size, correct in proved.by_class:
        assert size == (label + 1) ** 3 - (label**3 if query != label else 0)
        assert correct == right[query, label]
    assert proved.claim.undecided == 0
    assert proved.claim.correct == right.sum() == KNOWN[name]


@pytest.mark.parametrize(
    ("name", "share"), [("max-of-4", 0.99999), ("max-of-4-undertrained", 0.997)]
)
def test_the_additive_bound_is_below_brute_force_in_every_class_and_close(
    name: str, share: float, plain: ModuleType
) -> None:
    tables, task, exact = by_brute_force(name, plain)
    bound = plain.additive(tables, task, plain.AdditiveOptions())
    assert all(
        a[:3] == b[:3] and a.correct <= b.correct
        for a, b in zip(bound.by_class, exact.by_class, strict=True)
    )
    # Measured: 0.9999989 and 0.99784 of the truth at 128 bins.
    assert bound.claim.correct >= share * exact.claim.correct
