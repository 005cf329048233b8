"""Chosen cases with their exact truth, computed once: what ``attack`` compares a kernel with."""

from functools import cache
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from random_models import hostile_models, max_like_model, random_model, vote_model

from compactproofs import kernel as our_kernel
from compactproofs.kernel import IntegerTables, Model

from .tasks import make_task, task_names
from .truth import Truth, exact_truth
from .witnesses import decided_counts, extreme_tables


class RealCase(NamedTuple):
    """A model, a task by name, and the truth about them."""

    name: str
    model: Model
    task: str
    seed: int
    truth: Truth

    def model_for(self, kernel: ModuleType) -> Any:
        """The same model as an object of another copy of the kernel."""
        return kernel.Model(**vars(self.model))

    def task_for(self, kernel: ModuleType) -> Any:
        """The task as an object of another copy of the kernel."""
        return make_task(kernel, self.task, self.model.n_ctx, self.model.d_vocab, self.seed).task


class ImaginedCase(NamedTuple):
    """Integer tables of no model, a task by name, and (size, right, wrong) by class."""

    tables: IntegerTables
    k: int
    v: int
    task: str
    counts: dict[tuple[int, int], tuple[int, int, int]]


@cache
def real_cases() -> tuple[RealCase, ...]:
    """Small models on which a wrong step shows: positions, biases, ties, wide and narrow."""
    rng = np.random.default_rng(2024)

    def random(k: int, v: int, **settings: Any) -> Model:
        return random_model(rng, k=k, v=v, d=4, h=3, biases=True, **settings)

    models = {
        "biased": random(2, 3),
        "three tokens": random(3, 3, scale=3.0),
        "outputs to spare": random(2, 4, outputs=6, scale=0.3),
        "two tokens, four positions": random(4, 2, scale=5.0),
        "like max": max_like_model(rng, k=3, v=4),
        "votes": vote_model(4, 2),
        "like max, sharper": max_like_model(rng, k=4, v=3, sharpness=4.0),
        "votes of three": vote_model(3, 3),
        "saturated": random(3, 4, scale=30.0),
        "one position": random(1, 4),
    } | {name: model for name, model in hostile_models(rng, k=2, v=3).items()}
    cases: list[RealCase] = []
    for n, (name, model) in enumerate(models.items()):
        tasks = ["max", task_names(model.d_vocab)[1 + n % 7]] if n < 10 else ["max"]
        for task in tasks:
            labels = make_task(our_kernel, task, model.n_ctx, model.d_vocab, seed=n).labels
            cases.append(RealCase(name, model, task, n, exact_truth(model, labels)))
    return tuple(cases)


@cache
def imagined_cases() -> tuple[ImaginedCase, ...]:
    """Integer tables at the limits of what is accepted."""
    rng = np.random.default_rng(99)
    cases: list[ImaginedCase] = []
    shapes = [(1, 3), (2, 2), (2, 3), (3, 2), (2, 4), (3, 3), (4, 2), (7, 2)]
    for n in range(96):
        k, v = shapes[n % len(shapes)]
        tables = extreme_tables(our_kernel, rng, k, v, v + n % 2)
        task = "max" if n % 3 else task_names(v)[n % 8]
        labels = make_task(our_kernel, task, k, v).labels
        cases.append(ImaginedCase(tables, k, v, task, decided_counts(tables, k, v, labels)))
    return tuple(cases)
