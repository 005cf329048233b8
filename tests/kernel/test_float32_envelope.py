"""Float32 semantics: what it refuses, by name, in the prover and in a check."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from certificates import altered
from compactproofs import prove
from compactproofs.kernel import (
    MaxOfK,
    Model,
    OptionError,
    Outcome,
    SemanticsError,
    check,
    encode_certificate,
    integer_tables,
    verify_tables,
)
from compactproofs.kernel._float32 import roundings
from random_models import random_model

TASK = MaxOfK(2, 3)
MODEL = random_model(np.random.default_rng(0), k=2, v=3, d=3, h=2, biases=True)


def with_scaled(**factors: float) -> Model:
    return replace(MODEL, **{name: getattr(MODEL, name) * by for name, by in factors.items()})


@pytest.mark.parametrize(
    "factors",
    [
        {"W_E": 2.0**121, "W_Q": 0.0, "W_K": 0.0, "W_V": 0.0, "W_U": 0.0},
        {"W_Q": 2.0**122},
        {"b_K": 2.0**122},
        {"W_Q": 2.0**62, "W_K": 2.0**62},
        {"W_V": 2.0**122},
        {"W_V": 2.0**62, "W_O": 2.0**62},
        {"W_O": 2.0**62, "W_U": 2.0**62},
        {"b_O": 2.0**122, "W_U": 0.0},
        {"b_U": 2.0**122},
    ],
    ids=lambda factors: " ".join(factors),
)
def test_what_could_overflow_is_refused(factors: dict[str, float]) -> None:
    model = with_scaled(**factors)
    integer_tables(model)
    with pytest.raises(SemanticsError, match="overflow"):
        integer_tables(model, "float32")


def test_a_key_that_overflows_when_scaled_first_is_refused() -> None:
    model = with_scaled(W_K=2.0**100, b_K=2.0**100, W_Q=2.0**-100, b_Q=2.0**-100)
    with pytest.raises(SemanticsError, match="overflow"):
        integer_tables(replace(model, score_divisor_squared=Fraction(1, 2**48)), "float32")


def test_a_query_that_overflows_when_scaled_first_is_refused() -> None:
    model = replace(
        with_scaled(W_Q=2.0**100, W_K=2.0**-100), score_divisor_squared=Fraction(1, 2**48)
    )
    with pytest.raises(SemanticsError, match="overflow"):
        integer_tables(model, "float32")


@pytest.mark.parametrize("value", [1 / 3, 2.0**-160, 1e60])
def test_weights_that_are_not_float32_numbers_are_refused(value: float) -> None:
    weights = MODEL.W_E.copy()
    weights[1, 2] = value
    with pytest.raises(SemanticsError, match="W_E holds"):
        verify_tables(replace(MODEL, W_E=weights), integer_tables(MODEL), "float32")


@pytest.mark.parametrize("square", [Fraction(1, 2**49), Fraction(2**49)])
def test_extreme_scales_are_refused(square: Fraction) -> None:
    with pytest.raises(SemanticsError, match="2\\^-24"):
        integer_tables(replace(MODEL, score_divisor_squared=square), "float32")


def test_sums_that_are_too_long_are_refused() -> None:
    assert roundings(4096) >= 4096 * 2.0**-24 / (1 - 4096 * 2.0**-24)
    with pytest.raises(SemanticsError, match="4097"):
        roundings(4097)


def test_unknown_semantics_are_refused() -> None:
    with pytest.raises(OptionError, match="real, float32"):
        prove(MODEL, TASK, semantics="bfloat16")


def test_a_certificate_of_real_numbers_is_none_of_float32() -> None:
    data = encode_certificate(prove(MODEL, TASK))
    assert check(altered(data, semantics="float32"), MODEL).outcome is Outcome.REJECTED
    wide = encode_certificate(prove(MODEL, TASK, semantics="float32"))
    assert check(wide, MODEL).valid
    # Wider tables hold for real numbers too, but the length of the proof is another.
    assert check(altered(wide, semantics="real"), MODEL).outcome is Outcome.REJECTED


def test_a_float32_claim_about_a_model_that_overflows_is_rejected() -> None:
    model = with_scaled(b_U=2.0**122)
    data = encode_certificate(prove(model, TASK))
    verdict = check(altered(data, semantics="float32"), model)
    assert verdict.outcome is Outcome.REJECTED and "overflow" in verdict.reason
