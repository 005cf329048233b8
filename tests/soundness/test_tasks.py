"""T8: the theorems take any label automaton, not only that of the largest token."""

from types import ModuleType

import numpy as np
import pytest

from compactproofs import kernel
from random_models import random_model
from subcubic_witnesses import blank_subcubic_witness

from .attack import exceeded, missed
from .cases import RealCase
from .tasks import KERNEL_TASKS, automaton_task, make_task, task_names
from .truth import exact_truth


def cases(name: str, count: int) -> list[RealCase]:
    """Random models with the truth about a task."""
    found: list[RealCase] = []
    for seed in range(count):
        rng = np.random.default_rng([seed, *name.encode()])
        k, v = ((2, 3), (3, 3), (3, 5), (4, 3), (5, 2), (1, 4))[seed % 6]
        k = max(k, 2) if name in KERNEL_TASKS else k
        scale = float(10 ** rng.uniform(-1, 1.4))
        model = random_model(
            rng, k=k, v=v, d=4, h=3, outputs=v + seed % 2, scale=scale, biases=seed % 3 > 0
        )
        labels = make_task(kernel, name, k, v, seed).labels
        found.append(RealCase(f"{name} {seed}", model, name, seed, exact_truth(model, labels)))
    return found


@pytest.mark.parametrize("name", [*task_names(3), *KERNEL_TASKS])
def test_no_class_of_any_task_is_overrated(name: str, plain: ModuleType) -> None:
    proved_right = 0
    for case in cases(name, 12):
        tables, task = case.verified_for(plain), case.task_for(plain)
        for bins in (2, 256):
            proved = plain.additive(tables, task, plain.AdditiveOptions(bins))
            assert list(exceeded(proved, case.truth, case.name)) == []
        proved_right += proved.claim.correct
        for proved in (
            plain.windowed(tables, task, plain.WindowedOptions(window=2)),
            plain.collapsed_cubic(tables, task, plain.CollapsedCubicOptions()),
            plain.collapsed_subcubic(tables, task, plain.CollapsedSubcubicOptions(window=2)),
        ):
            assert list(exceeded(proved, case.truth, case.name)) == []
        exact = plain.brute_force(tables, task, plain.BruteForceOptions())
        assert list(exceeded(exact, case.truth, case.name)) == []
        assert list(missed(exact, case.truth, case.name)) == []
        assert exact.claim.correct == case.right
    assert proved_right > 0


@pytest.mark.parametrize("name", [*task_names(3), *KERNEL_TASKS])
def test_tasks_run_where_every_shape_is_checked(name: str) -> None:
    case = cases(name, 2)[1]
    tables, task = case.verified_for(kernel), case.task_for(kernel)
    proved = kernel.additive(tables, task, kernel.AdditiveOptions())
    assert list(exceeded(proved, case.truth, case.name)) == []
    exact = kernel.brute_force(tables, task, kernel.BruteForceOptions())
    assert list(exceeded(exact, case.truth, case.name)) == []


@pytest.mark.parametrize("name", [*task_names(3), *KERNEL_TASKS])
def test_the_automaton_and_the_definition_label_alike(name: str) -> None:
    for k, v in ((1 if name in task_names(3) else 2, 3), (2, 4), (4, 3), (6, 2)):
        task, labels = make_task(kernel, name, k, v, seed=k)
        tokens = np.array(list(np.ndindex(*(v,) * k)))
        assert np.array_equal(task.labels(tokens), labels(tokens))


@pytest.mark.parametrize("name", KERNEL_TASKS)
def test_theorems_about_the_maximum_refuse_other_tasks_by_name(name: str) -> None:
    case = cases(name, 1)[0]
    tables, task = case.verified_for(kernel), case.task_for(kernel)
    witness = blank_subcubic_witness(case.model)
    with pytest.raises(kernel.TaskError, match=f"cubic .* not {task.name}: use additive"):
        kernel.cubic(tables, task, kernel.CubicOptions())
    with pytest.raises(kernel.TaskError, match=f"subcubic .* not {task.name}: use additive"):
        kernel.subcubic(case.model, task, kernel.SubcubicOptions(), witness=witness)


def test_one_token_read_by_an_automaton_that_never_goes_on() -> None:
    # After its first token every word is in a state from which nothing is accepted.
    label = {"start": 0, 0: 2, 1: 0, 2: 1, "late": 0}
    task = automaton_task(
        kernel, "dead", 1, 3, "start", lambda s, t: t if s == "start" else "late", label.__getitem__
    )
    for seed in range(3):
        model = random_model(np.random.default_rng(seed), k=1, v=3, d=3, h=2)
        truth = exact_truth(model, lambda t: np.array([2, 0, 1])[t[:, 0]])
        tables = kernel.verify_tables(model, kernel.integer_tables(model))
        proved = kernel.additive(tables, task, kernel.AdditiveOptions())
        assert list(exceeded(proved, truth, "dead")) == []
