"""The circuits add up to the model, and facts and ablations say what they are."""

import numpy as np
import pytest

from compactproofs import prove
from compactproofs.estimate import last_position_logits
from compactproofs.explain.ablation import KINDS, ablations, pessimised
from compactproofs.explain.circuits import NAMES, circuits
from compactproofs.kernel import integer_tables, parse_task, verify_tables
from random_models import max_like_model, random_model


def test_the_circuits_give_the_logits() -> None:
    model = random_model(np.random.default_rng(1), k=3, v=5, d=4, h=3, biases=True, outputs=6)
    c = circuits(model)
    tokens = np.random.default_rng(2).integers(5, size=(40, 3))
    query = tokens[:, -1]
    scores = c.A[query[:, None], tokens] + c.B[query]
    weight = np.exp(scores - scores.max(axis=1, keepdims=True))
    weight /= weight.sum(axis=1, keepdims=True)
    logits = c.H[query] + (weight[:, :, None] * (c.F[tokens] + c.G[None])).sum(axis=1)
    np.testing.assert_allclose(logits, last_position_logits(model, tokens), rtol=1e-9, atol=1e-9)


def test_the_summary_is_plain_data() -> None:
    found = circuits(random_model(np.random.default_rng(1), k=3, v=5, d=4, h=3)).summary()
    assert set(found["circuits"]) == set(NAMES)
    for one in found["circuits"].values():
        values = one["singular_values"]
        assert values == sorted(values, reverse=True) and one["min"] <= one["max"]
    assert all(isinstance(value, float) for value in found["facts"].values())


@pytest.mark.parametrize("name", NAMES)
def test_a_circuit_at_its_worst_is_enclosed_and_proves_no_more(name: str) -> None:
    model = max_like_model(np.random.default_rng(3), k=3, v=5)
    task, honest = parse_task("max:k=3,v=5"), integer_tables(model)
    wide = pessimised(honest, name)
    verify_tables(model, wide)  # raises if the model is no longer enclosed
    assert prove(model, task, tables=wide).claim.correct <= prove(model, task).claim.correct


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("H", lambda c, rng: c.H[rng.permutation(5)]),
        ("F", lambda c, rng: c.F[rng.permutation(5)]),
        ("G", lambda c, rng: c.G[rng.permutation(3)]),
    ],
)
def test_the_worst_case_covers_every_permutation(name: str, spoil) -> None:  # type: ignore[no-untyped-def]
    # What is proved without knowing a circuit holds whatever row of it is read.
    rng = np.random.default_rng(5)
    model = max_like_model(rng, k=3, v=5)
    task, c = parse_task("max:k=3,v=5"), circuits(model)
    bound = prove(model, task, tables=pessimised(integer_tables(model), name)).claim.correct
    tokens = np.array(list(np.ndindex(5, 5, 5)))
    for _ in range(5):
        parts = {n: getattr(c, n) for n in NAMES} | {name: spoil(c, rng)}
        query = tokens[:, -1]
        scores = parts["A"][query[:, None], tokens] + parts["B"][query]
        weight = np.exp(scores - scores.max(axis=1, keepdims=True))
        weight /= weight.sum(axis=1, keepdims=True)
        values = parts["F"][tokens] + parts["G"][None]
        logits = parts["H"][query] + (weight[:, :, None] * values).sum(axis=1)
        label = tokens.max(axis=1)
        own = logits[np.arange(125), label].copy()
        logits[np.arange(125), label] = -np.inf
        assert bound <= int((own > logits.max(axis=1)).sum())


def test_every_circuit_is_ablated_in_every_way() -> None:
    model = max_like_model(np.random.default_rng(3), k=3, v=5)
    rows = list(ablations(model, parse_task("max:k=3,v=5"), samples=300))
    keys = {(row.component, row.kind) for row in rows}
    assert keys == {("none", "none"), ("none", "pessimal")} | {(n, k) for n in NAMES for k in KINDS}
    for row in rows:
        assert row.low <= row.accuracy <= row.high
        assert row.proved == (row.kind == "pessimal") == (row.loss is None)
