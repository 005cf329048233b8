"""Weights to tables: float64 enclosures, Arb and exact rational arithmetic say the same."""

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from exact import WEIGHTS, Rationals, ends, exact_tables, misses
from flint import arb

from compactproofs.kernel import Model, _tables_arb, integer_tables, verify_tables
from compactproofs.kernel import _tables as float_tables
from compactproofs.kernel._enclosure import Ball
from compactproofs.kernel._ledger import Ledger
from compactproofs.kernel._tables import Tables, enclose_tables
from compactproofs.kernel._tables_arb import arb_tables
from random_models import hostile_models, random_model

# Every size differs from every other, so that no transposed product has the right shape.
SHAPES: list[dict[str, Any]] = [
    {"k": 3, "v": 5, "d": 4, "h": 2, "outputs": 6},
    {"k": 2, "v": 4, "d": 3, "h": 5, "outputs": 7},
    {"k": 5, "v": 3, "d": 2, "h": 6, "outputs": 4},
    {"k": 1, "v": 3, "d": 4, "h": 2, "outputs": 5},
    {"k": 4, "v": 1, "d": 3, "h": 2, "outputs": 5},
    {"k": 3, "v": 4, "d": 1, "h": 2, "outputs": 1},
]
DIVISORS = [Fraction(1), Fraction(9, 4), Fraction(4), Fraction(1, 2**40)]


def beyond_float32(rng: np.random.Generator) -> Iterator[tuple[str, Model]]:
    """Weights of float64 files: 53-bit mantissas, exponents that float32 lacks."""

    def base() -> Model:
        return random_model(rng, k=2, v=3, d=4, h=2, outputs=5, biases=True)

    def scaled(factor: float, *names: str) -> Model:
        model = base()
        return replace(model, **{name: getattr(model, name) * factor for name in names})

    yield "float64 mantissas", scaled(1 / 3, *WEIGHTS)
    yield "embedding 1e30", scaled(1e30, "W_E", "W_pos")
    yield "all 1e30", scaled(1e30, *WEIGHTS)
    yield "all 1e-40", scaled(1e-40, *WEIGHTS)
    yield "underflow everywhere", scaled(1e-160, *WEIGHTS)
    yield "float64 subnormals", scaled(1e-309, "W_E", "b_Q", "b_U")
    cancelling = base()
    huge = np.repeat(np.array([[1e30, -1e30, 1.0, 0.0]]), 3, axis=0)
    once = np.repeat(cancelling.W_U[:1], 4, axis=0)
    yield "cancelling 1e30", replace(cancelling, W_E=huge + cancelling.W_E, W_U=once)


def models() -> dict[str, Model]:
    rng = np.random.default_rng(0)
    return {
        **{f"random {i}": random_model(rng, biases=True, **s) for i, s in enumerate(SHAPES)},
        "no biases": random_model(rng, **SHAPES[0]),
        "large scores": random_model(rng, scale=1e4, biases=True, **SHAPES[1]),
        **hostile_models(rng),
        **dict(beyond_float32(rng)),
    }


MODELS = models()


def with_divisor(name: str) -> Model:
    """The model with a scores' divisor that is rational: a different one from model to model."""
    return replace(MODELS[name], score_divisor_squared=DIVISORS[len(name) % len(DIVISORS)])


def arb_array(table: Any) -> np.ndarray:
    """Nested lists of arb as an array of objects."""
    return np.array(table, dtype=object)


def contained(table: Any, truth: Rationals) -> bool:
    bounds = [ends(x) for x in arb_array(table).ravel()]
    return all(low <= x <= high for (low, high), x in zip(bounds, truth.ravel(), strict=True))


def overlap(ball: Ball, table: Any) -> bool:
    entries = arb_array(table)
    return ball.shape == entries.shape and all(
        arb(mid, rad).overlaps(x)
        for mid, rad, x in zip(
            ball.mid.ravel().tolist(), ball.rad.ravel().tolist(), entries.ravel(), strict=True
        )
    )


@pytest.mark.parametrize("name", MODELS)
def test_both_paths_contain_the_exact_rational_tables(name: str) -> None:
    model = with_divisor(name)
    truth = exact_tables(model)
    for ball, exact in zip(enclose_tables(model, Ledger()), truth, strict=True):
        assert misses(ball, exact) == 0
    for bits in (53, 128):
        for table, exact in zip(arb_tables(model, bits), truth, strict=True):
            assert contained(table, exact)


@pytest.mark.parametrize("name", MODELS)
def test_the_two_paths_overlap_with_an_irrational_divisor(name: str) -> None:
    model = replace(MODELS[name], score_divisor_squared=Fraction(32))
    for ball, table in zip(enclose_tables(model, Ledger()), arb_tables(model, 128), strict=True):
        assert overlap(ball, table)


@pytest.mark.parametrize("name", MODELS)
def test_the_provers_integer_tables_verify_for_every_model(name: str) -> None:
    verify_tables(MODELS[name], integer_tables(MODELS[name]))


def test_enclosures_are_tight_at_moderate_weights() -> None:
    model = random_model(np.random.default_rng(3), k=4, v=30, d=32, h=16, biases=True)
    for ball in enclose_tables(model, Ledger()):
        assert (ball.rad < 1e-10).all()


def test_arb_tables_are_exact_to_the_precision_asked() -> None:
    model = MODELS["random 0"]
    for bits in (64, 512):
        for table in arb_tables(model, bits):
            for low, high in map(ends, arb_array(table).ravel()):
                assert high - low < Fraction(2) ** (20 - bits)


def test_precision_is_restored_after_arb_tables() -> None:
    before = _tables_arb.ctx.prec
    arb_tables(MODELS["random 0"], 256)
    assert _tables_arb.ctx.prec == before
    with pytest.raises(ZeroDivisionError), _tables_arb.arb_precision(99):
        raise ZeroDivisionError
    assert _tables_arb.ctx.prec == before


def swapped(tables: Tables) -> Tables:
    return tables._replace(scores=tables.scores[::-1])


def test_a_wrong_table_would_be_caught() -> None:
    model = with_divisor("random 0")
    tables, truth = enclose_tables(model, Ledger()), exact_tables(model)
    assert misses(swapped(tables).scores, truth.scores) > 0
    without_bias = replace(model, b_V=0 * model.b_V)
    assert misses(enclose_tables(without_bias, Ledger()).values, truth.values) > 0
    assert not overlap(tables.values, arb_tables(without_bias, 64).values)


def test_unexplained_dimension_counts_the_entries_of_the_five_tables() -> None:
    assert float_tables.unexplained_dimension(64, 4, 64) == 3 * 64**2 + 2 * 64 * 4
    k, v, x = 3, 5, 7
    sizes = {"A": (v, v), "B": (v, k), "F": (v, x), "G": (k, x), "H": (v, x)}
    entries = sum(rows * columns for rows, columns in sizes.values())
    assert float_tables.unexplained_dimension(v, k, x) == entries
