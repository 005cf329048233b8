from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import product

import numpy as np
import pytest

from compactproofs.estimate import AccuracyEstimate, last_position_logits, sample_accuracy


@dataclass(frozen=True)
class _Weights:
    W_E: np.ndarray
    W_pos: np.ndarray
    W_Q: np.ndarray
    W_K: np.ndarray
    W_V: np.ndarray
    W_O: np.ndarray
    W_U: np.ndarray
    b_Q: np.ndarray
    b_K: np.ndarray
    b_V: np.ndarray
    b_O: np.ndarray
    b_U: np.ndarray
    score_divisor_squared: Fraction


@dataclass(frozen=True)
class _Max:
    k: int
    v: int
    shift: int = 0
    seen: list[int] = field(default_factory=list)

    def labels(self, tokens: np.ndarray) -> np.ndarray:
        self.seen.append(len(tokens))
        return tokens.max(axis=1) + self.shift


def _random(v: int, k: int, d: int, h: int, x: int, seed: int = 0) -> _Weights:
    draw = np.random.default_rng(seed).normal
    return _Weights(
        W_E=draw(size=(v, d)),
        W_pos=draw(size=(k, d)),
        W_Q=draw(size=(d, h)),
        W_K=draw(size=(d, h)),
        W_V=draw(size=(d, h)),
        W_O=draw(size=(h, d)),
        W_U=draw(size=(d, x)),
        b_Q=draw(size=h),
        b_K=draw(size=h),
        b_V=draw(size=h),
        b_O=draw(size=d),
        b_U=draw(size=x),
        score_divisor_squared=Fraction(h),
    )


def _always(v: int, k: int, answer: int) -> _Weights:
    zero = np.zeros
    return _Weights(
        W_E=zero((v, 1)),
        W_pos=zero((k, 1)),
        W_Q=zero((1, 1)),
        W_K=zero((1, 1)),
        W_V=zero((1, 1)),
        W_O=zero((1, 1)),
        W_U=zero((1, v)),
        b_Q=zero(1),
        b_K=zero(1),
        b_V=zero(1),
        b_O=zero(1),
        b_U=(np.arange(v) == answer).astype(np.float64),
        score_divisor_squared=Fraction(1),
    )


def _one_logit_row(weights: _Weights, tokens: tuple[int, ...]) -> np.ndarray:
    """The textbook formula, one sequence and one position at a time, biases included."""
    residual = [weights.W_E[t] + weights.W_pos[i] for i, t in enumerate(tokens)]
    query = residual[-1] @ weights.W_Q + weights.b_Q
    keys = [r @ weights.W_K + weights.b_K for r in residual]
    values = [r @ weights.W_V + weights.b_V for r in residual]
    scores = np.array([query @ key for key in keys]) / float(weights.score_divisor_squared) ** 0.5
    exps = np.exp(scores - scores.max())
    head = sum(e / exps.sum() * value for e, value in zip(exps, values, strict=True))
    return (residual[-1] + head @ weights.W_O + weights.b_O) @ weights.W_U + weights.b_U


def test_logits_are_those_of_the_textbook_formula() -> None:
    weights = replace(_random(v=4, k=3, d=5, h=2, x=6), score_divisor_squared=Fraction(7, 3))
    for length in (1, 2, 3):
        tokens = list(product(range(4), repeat=length))
        expected = np.array([_one_logit_row(weights, row) for row in tokens])
        got = last_position_logits(weights, np.array(tokens))
        np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-9)


def test_the_interval_covers_the_exhaustive_accuracy() -> None:
    weights, task = _random(v=5, k=3, d=8, h=4, x=5, seed=1), _Max(k=3, v=5)
    tokens = np.array(list(product(range(5), repeat=3)))
    truth = np.mean(last_position_logits(weights, tokens).argmax(axis=1) == tokens.max(axis=1))
    estimate = sample_accuracy(weights, task, samples=20_000, seed=3, confidence=0.999)
    assert 0 < truth < 1
    assert estimate.low <= truth <= estimate.high
    assert estimate.high - estimate.low < 0.03
    assert estimate.estimate == estimate.correct / estimate.samples
    assert sum(task.seen) == estimate.samples == 20_000


def test_constant_answers_are_right_as_often_as_the_label_is_common() -> None:
    estimate = sample_accuracy(_always(4, 2, 3), _Max(k=2, v=4), samples=50_000, seed=0)
    assert estimate.low < 7 / 16 < estimate.high


def test_equal_arguments_give_equal_estimates_and_other_seeds_do_not() -> None:
    weights, task = _random(v=5, k=3, d=8, h=4, x=5), _Max(k=3, v=5)
    first, again, other = (
        sample_accuracy(weights, task, samples=5000, seed=seed) for seed in (1, 1, 2)
    )
    assert first == again
    assert first.correct != other.correct


def test_ties_count_as_wrong() -> None:
    tied = replace(_always(3, 2, 0), b_U=np.zeros(3))
    assert sample_accuracy(tied, _Max(k=2, v=3), samples=100, seed=0).correct == 0


def test_a_single_output_is_always_right() -> None:
    estimate = sample_accuracy(_always(1, 2, 0), _Max(k=2, v=1), samples=10, seed=0)
    assert (estimate.correct, estimate.high) == (10, 1.0)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_weights_that_overflow_are_never_right(value: float) -> None:
    weights = _random(v=3, k=2, d=2, h=2, x=3)
    hostile = replace(weights, W_Q=np.full((2, 2), value), W_K=np.full((2, 2), value))
    assert sample_accuracy(hostile, _Max(k=2, v=3), samples=50, seed=0).correct == 0


def test_progress_reaches_the_end_and_may_stop_the_run() -> None:
    weights, task = _always(3, 2, 0), _Max(k=2, v=3)
    calls: list[tuple[int, int]] = []
    sample_accuracy(
        weights, task, samples=9000, seed=0, tick=lambda done, total: calls.append((done, total))
    )
    assert calls == [(4096, 9000), (8192, 9000), (9000, 9000)]

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sample_accuracy(weights, task, samples=9000, seed=0, tick=interrupt)


def test_an_estimate_has_none_of_a_proofs_words() -> None:
    estimate = sample_accuracy(_always(3, 2, 0), _Max(k=2, v=3), samples=10, seed=0)
    assert type(estimate) is AccuracyEstimate
    for word in ("bound", "proved", "outcome", "theorem", "undecided"):
        assert not any(word in name.lower() for name in vars(estimate))


@pytest.mark.parametrize(
    ("task", "samples", "seed", "confidence", "message"),
    [
        (_Max(k=2, v=3), 0, 0, 0.95, "samples=0"),
        (_Max(k=2, v=3), 5, -1, 0.95, "seed=-1"),
        (_Max(k=2, v=3), 5, 0, 1.5, "confidence=1.5"),
        (_Max(k=3, v=3), 5, 0, 0.95, "k=3 positions, but the model reads 2"),
        (_Max(k=2, v=9), 5, 0, 0.95, "v=9 tokens, but the model knows 3"),
        (_Max(k=2, v=3, shift=9), 5, 0, 0.95, "labels range over .* has 3 outputs"),
        (_Max(k=2, v=3, shift=-9), 5, 0, 0.95, "labels range over"),
    ],
)
def test_misuse_is_refused_in_one_line(
    task: _Max, samples: int, seed: int, confidence: float, message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        sample_accuracy(_always(3, 2, 0), task, samples=samples, seed=seed, confidence=confidence)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("tokens", [[[0, 0, 0]], [[0, 3]], [[-1, 0]], [[]]])
def test_tokens_outside_the_model_are_refused(tokens: list[list[int]]) -> None:
    with pytest.raises(ValueError, match="but the model"):
        last_position_logits(_always(3, 2, 0), np.array(tokens, dtype=np.int64))
