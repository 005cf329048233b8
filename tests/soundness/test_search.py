"""An enemy who climbs: models are changed step by step towards a bound that would be false."""

from dataclasses import replace
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest

from compactproofs.kernel import Model
from random_models import float32, random_model

from .truth import all_sequences, exact_truth, float_logits, largest, margins

STEPS = 200
TENSORS = ("W_E", "W_pos", "W_Q", "W_K", "W_V", "W_O", "W_U", "b_Q", "b_K", "b_V", "b_O", "b_U")


class Fitness(NamedTuple):
    """What the enemy maximises, in this order."""

    excess: int
    """The largest ``proved - true`` of a class: positive would be a false proof."""
    tight: int
    """Classes with a wrong sequence of which everything that is right is proved."""
    closeness: float
    """How close the best wrong sequence comes to being right: rounding decides at 0."""


def fitness(kernel: ModuleType, model: Model, bins: int) -> Fitness:
    ours = kernel.Model(**vars(model))
    tables = kernel.verify_tables(ours, kernel.integer_tables(ours))
    task = kernel.MaxOfK(model.n_ctx, model.d_vocab)
    proved = kernel.additive(tables, task, kernel.AdditiveOptions(bins))
    truth = exact_truth(model)
    excess = [part.correct - truth[part.query, part.label].right for part in proved.by_class]
    tight = sum(
        part.correct == truth[part.query, part.label].right < part.size for part in proved.by_class
    )
    tokens = all_sequences(model.n_ctx, model.d_vocab)
    margin = margins(float_logits(model, tokens)[0], largest(tokens))
    wrong = margin[margin >= 0]
    return Fitness(max(excess), tight, -float(wrong.min()) if wrong.size else -np.inf)


def step(rng: np.random.Generator, model: Model, whole: bool) -> Model:
    """A small change to one tensor; whole numbers of eighths make exact ties likely."""
    name = str(rng.choice(TENSORS))
    values: np.ndarray[Any, Any] = getattr(model, name)
    size = 2.0 ** rng.integers(-12, 1)
    change = size * rng.normal(size=values.shape) * (rng.random(values.shape) < 0.5)
    moved = values + change
    if whole:
        moved = np.rint(moved * 8 + rng.integers(-1, 2, values.shape)) / 8
    return replace(model, **{name: float32(moved)})


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize(("k", "bins"), [(2, 128), (3, 128), (3, 6)])
def test_no_climb_reaches_a_false_proof(k: int, bins: int, whole: bool, plain: ModuleType) -> None:
    rng = np.random.default_rng([k, bins, whole])
    model = random_model(rng, k=k, v=3, d=2, h=2, biases=True)
    best = start = fitness(plain, model, bins)
    for _ in range(STEPS):
        other = step(rng, model, whole)
        found = fitness(plain, other, bins)
        assert found.excess <= 0
        if found >= best:
            model, best = other, found
    assert best > start
