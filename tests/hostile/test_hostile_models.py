"""Models made to break bounds, each by every theorem: at most the truth, or one line that says no.

``tests/soundness`` has the random models and those of ``hostile_models``; these are the extremes
of size, of margin and of shape.
"""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from functools import cache
from itertools import product
from math import comb
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from compactproofs import kernel
from compactproofs.kernel import Model, UserError
from random_models import (
    float32,
    hostile_models,
    max_like_model,
    random_model,
    vote_model,
)
from soundness.attack import exceeded
from soundness.truth import Count, Truth, arb_right_answers, exact_truth
from subcubic_witnesses import blank_subcubic_witness

from .subjects import THEOREMS, proof, witness_arrays


def scaled(model: Model, factor: float, names: str) -> Model:
    """Some weights times a power of two, exactly."""
    return replace(model, **{name: getattr(model, name) * factor for name in names.split()})


def breaking_ties(k: int, v: int, by: float) -> Model:
    """Votes with a margin of ``by`` logits where they tie, for the larger token or against it."""
    model = vote_model(k, v)
    return replace(model, b_U=float32(by * np.arange(v)))


@cache
def extreme_models() -> dict[str, Model]:
    rng = np.random.default_rng(41)
    embeddings, outputs = "W_E W_pos", "W_U b_U"

    def random(k: int = 3, v: int = 3, **settings: Any) -> Model:
        return random_model(rng, **{"k": k, "v": v, "d": 3, "h": 2, "biases": True} | settings)

    good = max_like_model(rng, k=3, v=3)
    models = {
        f"ties of {k} broken by {by}": breaking_ties(k, v, by)
        for k, v in ((2, 3), (3, 3), (4, 2))
        for by in (1e-17, -1e-17, 2.0**-60, 1e-30, -1e-38, 2.0**-149)
    }
    models |= {
        "weights of 2^100, all": scaled(random(), 2.0**100, "W_E W_pos W_Q W_K W_V W_O W_U"),
        "embeddings of 2^100": scaled(good, 2.0**100, embeddings),
        "outputs of 2^100": scaled(good, 2.0**100, outputs),
        "outputs of 2^100 and 2^-100": scaled(scaled(good, 2.0**100, "W_U"), 2.0**-100, "W_O b_O"),
        "outputs of 2^-133": scaled(good, 2.0**-133, outputs),
        "queries of 2^-133": scaled(good, 2.0**-133, "W_Q b_Q"),
        "embeddings of 2^-133": scaled(random(), 2.0**-133, embeddings),
        "float64 weights of 2^500": scaled(good, 2.0**500, embeddings),
        "float64 outputs of 2^900": scaled(good, 2.0**900, outputs),
        "float64 outputs of 2^1000": scaled(good, 2.0**1000, outputs),
        "float64 outputs of 2^-1000": scaled(good, 2.0**-1000, outputs),
        "float64 outputs of 2^-1070": scaled(good, 2.0**-1070, outputs),
        "float64 embeddings of 2^-1060": scaled(random(), 2.0**-1060, embeddings),
        "scores of 1e4 nats": random(scale=1e4),
        "scores of 1e4 nats, like max": max_like_model(rng, k=3, v=3, sharpness=1e4),
        "scores of 1e6 nats, like max": max_like_model(rng, k=3, v=3, sharpness=1e6),
        "scores of 1e8 nats, like max": max_like_model(rng, k=3, v=3, sharpness=1e8),
        "scores against max": max_like_model(rng, k=3, v=3, sharpness=-1e4),
        "all tokens equal": replace(good, W_E=np.repeat(good.W_E[:1], 3, axis=0)),
        "last two tokens equal": replace(good, W_E=good.W_E[[0, 1, 1]]),
        "outputs equal": replace(good, W_U=good.W_U[:, [0, 0, 0]], b_U=good.b_U[[0, 0, 0]]),
        "outputs equal up to 2^-149": replace(
            good,
            W_U=0 * good.W_U,
            b_U=np.array([0.0, 2.0**-149, 2.0**-148]),
        ),
        "one output": random(outputs=1, v=1),
        "one position": random(k=1, v=6),
        "one position, two tokens": random(k=1, v=2),
        "one token": random(k=3, v=1, outputs=1),
        "one token, outputs to spare": random(k=3, v=1, outputs=5),
        "two tokens": random(k=5, v=2),
        "two tokens, outputs to spare": random(k=5, v=2, outputs=4, scale=10.0),
        "no direct path, no bias": replace(good, W_E=good.W_E, b_U=0 * good.b_U, b_O=0 * good.b_O),
        "a divisor of 2^-900": replace(good, score_divisor_squared=Fraction(1, 2**900)),
        "a divisor of 2^900": replace(good, score_divisor_squared=Fraction(2**900)),
    }
    # Logits of 2^60 and 2^100 whose difference is of order 1, in exact powers of two.
    for size in (2.0**60, 2.0**100):
        models[f"logits of {size:.0e} that cancel"] = replace(
            good, b_V=good.b_V + size, b_O=good.b_O - size * (np.ones(good.b_V.size) @ good.W_O)
        )
    models |= {
        f"hostile, k=4, v=2: {name}": model for name, model in hostile_models(rng, k=4, v=2).items()
    }
    models |= {
        f"hostile, k=1, v=4: {name}": model for name, model in hostile_models(rng, k=1, v=4).items()
    }
    return models


@cache
def truth_of(name: str) -> Truth:
    with np.errstate(over="ignore", invalid="ignore"):  # Arb decides where float64 cannot
        return exact_truth(extreme_models()[name])


def bounds(kernel: ModuleType, model: Model) -> dict[str, Any]:
    """What every theorem proves of a model, or the line with which it refuses.

    subcubic claims every class, at the smallest gap.
    """
    own = kernel.Model(**vars(model))
    task = kernel.MaxOfK(own.n_ctx, own.d_vocab)
    found: dict[str, Any] = {}
    for variant in THEOREMS:
        theorem = variant.partition(", ")[0]
        try:
            of: Any = own
            if kernel.THEOREMS[theorem].from_tables:
                of = kernel.verify_tables(own, kernel.integer_tables(own))
            blank = theorem == "subcubic"
            witness = (
                blank_subcubic_witness(model)._asdict() if blank else witness_arrays(model, variant)
            )
            found[variant] = proof(kernel, of, task, theorem, witness=witness)
        except (kernel.UserError, UserError) as error:
            found[variant] = str(error)
    return found


@pytest.mark.parametrize("name", list(extreme_models()))
def test_no_theorem_says_more_than_the_truth_of_an_extreme_model(
    name: str, plain: ModuleType
) -> None:
    model, refused = extreme_models()[name], 0
    for variant, proved in bounds(plain, model).items():
        if isinstance(proved, str):
            refused += 1
            assert proved.isprintable() and len(proved) < 400
        else:
            assert list(exceeded(proved, truth_of(name), f"{name}, {variant}")) == []
            data = plain.encode_certificate(proved)
            assert plain.check(data, plain.Model(**vars(model))).valid
    assert refused == 0 or any(word in name for word in ("2^", "nats"))


def test_most_extreme_models_have_tables(plain: ModuleType) -> None:
    enclosed = 0
    for model in extreme_models().values():
        try:
            plain.integer_tables(plain.Model(**vars(model)))
            enclosed += 1
        except plain.EnclosureError:
            pass
    assert enclosed >= 0.85 * len(extreme_models())


@pytest.mark.parametrize("by", [1e-17, -1e-17, 2.0**-149])
def test_margins_far_below_the_tables_are_left_undecided_not_guessed(by: float) -> None:
    model = breaking_ties(3, 3, by)
    truth = exact_truth(model)
    untied = sum(count.right for count in exact_truth(vote_model(3, 3)).values())
    right = sum(count.right for count in truth.values())
    # The tie is broken for max or against it, and float64 would not see it.
    assert (right > untied) == (by > 0)
    tables = kernel.verify_tables(model, kernel.integer_tables(model))
    exact = kernel.brute_force(tables, kernel.MaxOfK(3, 3), kernel.BruteForceOptions())
    assert exact.claim.correct <= right <= exact.claim.correct + exact.claim.undecided


# 64 positions: 2^64 sequences, told apart by how many ones they have where positions are alike.


def alike_positions(rng: np.random.Generator, k: int, *, sharpness: float, noise: float) -> Model:
    """Two tokens; every position before the query the same."""
    model = max_like_model(rng, k=k, v=2, sharpness=sharpness, noise=noise)
    position = np.repeat(model.W_pos[:1], k, axis=0)
    position[-1] = model.W_pos[-1]
    return replace(model, W_pos=position)


def truth_by_number_of_ones(model: Model) -> Truth:
    """Exact, by 2 k forward passes in Arb: sequences with equally many ones get one answer."""
    k = model.n_ctx
    tokens = np.array(
        [[1] * ones + [0] * (k - 1 - ones) + [q] for q in (0, 1) for ones in range(k)]
    )
    label = tokens.max(axis=1)
    answers = arb_right_answers(model, tokens, label)
    truth: Truth = {}
    for word, m, right in zip(tokens.tolist(), label.tolist(), answers.tolist(), strict=True):
        words = comb(k - 1, sum(word[:-1]))
        size, good = truth.get((word[-1], m), (0, 0))
        truth[word[-1], m] = Count(size + words, good + right * words)
    return truth


@pytest.mark.parametrize(
    ("k", "sharpness", "noise"),
    list(product([64], [0.0, 0.5, 2.0, 6.0], [0.3, 1.0])) + [(5, 2.0, 1.0)],
)
def test_no_theorem_says_more_than_the_truth_of_64_positions(
    k: int, sharpness: float, noise: float, plain: ModuleType
) -> None:
    rng = np.random.default_rng(int(10 * sharpness + noise))
    model = alike_positions(rng, k, sharpness=sharpness, noise=noise)
    truth = truth_by_number_of_ones(model)
    if k == 5:
        assert truth == exact_truth(model)
    assert sum(count.size for count in truth.values()) == 2**k
    for variant, proved in bounds(plain, model).items():
        if isinstance(proved, str):
            assert variant == "brute-force" and "would not end" in proved
        else:
            assert list(exceeded(proved, truth, variant)) == []
            assert plain.check(plain.encode_certificate(proved), plain.Model(**vars(model))).valid


REFUSED: dict[str, Callable[[Model], Model]] = {
    "logits beyond float64": lambda m: scaled(m, 2.0**1000, "W_U W_O"),
    "embeddings beyond float64": lambda m: scaled(m, 2.0**1000, "W_E"),
    "scores beyond the exponential": lambda m: scaled(m, 2.0**400, "W_Q W_K"),
    "a divisor beyond float64": lambda m: replace(m, score_divisor_squared=Fraction(2) ** 4000),
    "a divisor of nearly 0": lambda m: replace(m, score_divisor_squared=Fraction(1, 2**4000)),
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_cannot_be_enclosed_is_refused_in_one_line(why: str, plain: ModuleType) -> None:
    model = REFUSED[why](max_like_model(np.random.default_rng(0), k=2, v=3))
    refusals = [text for text in bounds(plain, model).values() if isinstance(text, str)]
    assert refusals and all(text.isprintable() and len(text) < 2000 for text in refusals)
