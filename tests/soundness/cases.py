"""Chosen cases with their exact truth, computed once: what ``attack`` compares a kernel with."""

from functools import cache
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from compactproofs import kernel as our_kernel
from compactproofs.explain.subcubic import find_subcubic_witnesses
from compactproofs.kernel import IntegerTables, Model
from compactproofs.kernel.theorems._attention_error import ATTENTION_ERRORS
from compactproofs.kernel.theorems._direct_path import DIRECT_PATHS
from compactproofs.kernel.theorems.subcubic import AVERAGINGS
from random_models import hostile_models, max_like_model, random_model, vote_model

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

    def verified_for(self, kernel: ModuleType) -> Any:
        """The honest witness, verified by another copy of the kernel."""
        model = self.model_for(kernel)
        return kernel.verify_tables(model, kernel.integer_tables(model))

    @property
    def right(self) -> int:
        """Sequences that the model gets right."""
        return sum(count.right for count in self.truth.values())

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


SubcubicCase = tuple[RealCase, dict[str, int | str], tuple[Any, ...]]


@cache
def subcubic_cases() -> tuple[SubcubicCase, ...]:
    """Real models of max-of-k with strategies that between them have every part, and witnesses."""
    errors, directs = list(ATTENTION_ERRORS), list(DIRECT_PATHS)
    names: list[dict[str, int | str]] = [
        {
            "direct": directs[n % len(directs)],
            "averaging": list(AVERAGINGS)[n // 2 % 2],
            "attention_error": errors[n % len(errors)],
        }
        for n in range(len(errors))
    ]
    options = [our_kernel.SubcubicOptions.parse(one) for one in names]
    cases: list[SubcubicCase] = []
    for case in real_cases():
        if case.task == "max":
            task = our_kernel.MaxOfK(case.model.n_ctx, case.model.d_vocab)
            found = find_subcubic_witnesses(case.model, task, options)
            cases += [(case, one, tuple(w)) for one, w in zip(names, found, strict=True)]
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


BATCHES = 40
PER_BATCH = 8


@cache
def random_cases(batch: int) -> tuple[RealCase, ...]:
    """Eight of the 320 random models: every size, from uniform to saturated attention."""
    rng = np.random.default_rng([7, batch])
    cases: list[RealCase] = []
    for n in range(PER_BATCH):
        v = int(rng.integers(3, 9))
        k = int(rng.choice([size for size in range(2, 6) if v**size <= 4096]))
        model = random_model(
            rng,
            k=k,
            v=v,
            d=int(rng.integers(1, 9)),
            h=int(rng.integers(1, 9)),
            outputs=v + int(rng.choice([0, 0, 3])),
            scale=float(np.exp(rng.uniform(np.log(0.1), np.log(30)))),
            weights=float(rng.choice([1.0, 1.0, 0.1, 5.0])),
            biases=bool(n % 2),
        )
        if n == PER_BATCH - 1:  # random models are mostly wrong: one in eight mostly right
            model = max_like_model(
                rng, k=k, v=v, sharpness=rng.uniform(0.3, 5), noise=rng.uniform(0, 0.6)
            )
        cases.append(RealCase(f"batch {batch}, model {n}", model, "max", 0, exact_truth(model)))
    return tuple(cases)


@cache
def edge_cases() -> tuple[RealCase, ...]:
    """One token, one position, two tokens, two positions, and every hostile model."""
    rng = np.random.default_rng(11)
    models = {
        f"k={k}, v={v}, {n}": random_model(rng, k=k, v=v, d=2, h=1, outputs=v + n, biases=n > 0)
        for k, v in ((1, 1), (1, 2), (1, 6), (2, 1), (4, 1), (2, 2), (3, 2), (8, 2))
        for n in (0, 1)
    }
    models |= hostile_models(rng) | {
        "votes of four": vote_model(4, 4),
        "votes of two": vote_model(6, 2),
    }
    for seed in range(3):
        again = hostile_models(np.random.default_rng(seed), k=2 + seed, v=3)
        models |= {f"{name} ({seed})": model for name, model in again.items()}
    return tuple(
        RealCase(name, model, "max", 0, exact_truth(model)) for name, model in models.items()
    )
