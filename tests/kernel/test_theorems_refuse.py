"""A theorem proves nothing about a task that its tables are not about."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from compactproofs.kernel import (
    THEOREMS,
    AdditiveOptions,
    BruteForceOptions,
    Claim,
    ClassCount,
    KernelDefectError,
    MaxOfK,
    Model,
    OptionError,
    Outcome,
    Proved,
    TaskError,
    VerifiedTables,
    integer_tables,
    require_fit,
    verify_tables,
)
from compactproofs.kernel._claim import conclude
from compactproofs.kernel._ledger import Ledger
from compactproofs.kernel._tasks import Task
from random_models import model_of, random_model
from subcubic_witnesses import blank_subcubic_witness


def tables_of(k: int, v: int) -> tuple[Model, VerifiedTables]:
    model = random_model(np.random.default_rng(0), k=k, v=v, d=3, h=2)
    return model, verify_tables(model, integer_tables(model))


MODEL, TABLES = tables_of(4, 4)
# Theorems about transformers alone, which need a witness found for them, have their own tests.
ABOUT_MODELS = [name for name, one in THEOREMS.items() if one.on_transformer is not one.prove]


def proved_by(name: str, model: Model, tables: VerifiedTables, task: Task) -> Proved:
    theorem = THEOREMS[name]
    if theorem.from_tables:
        return theorem.prove(tables, task, theorem.options())
    return theorem.prove(model, task, theorem.options(), witness=blank_subcubic_witness(model))


@pytest.mark.parametrize("name", ABOUT_MODELS)
def test_a_task_that_fits_is_proved(name: str) -> None:
    proved = proved_by(name, MODEL, TABLES, MaxOfK(4, 4))
    assert proved.claim.total == 4**4
    assert proved.claim.model_sha256 == MODEL.sha256
    assert proved.claim.theorem == name


@pytest.mark.parametrize("name", ABOUT_MODELS)
@pytest.mark.parametrize(("k", "v"), [(2, 4), (3, 4), (1, 4), (5, 4), (4, 5), (4, 3)])
def test_a_task_of_another_length_or_vocabulary_is_refused(name: str, k: int, v: int) -> None:
    with pytest.raises(TaskError):
        proved_by(name, MODEL, TABLES, MaxOfK(k, v))


def reader_of_the_position() -> Model:
    """Its logits are the last token, one-hot, plus 9 for output 1 where the last position is 0."""
    nothing = np.zeros((2, 1))
    return model_of(
        W_E=np.eye(2),
        W_pos=np.array([[0, 9.0], [0, 0], [0, 0]]),
        W_Q=nothing,
        W_K=nothing,
        W_V=nothing,
        W_O=nothing.T,
        W_U=np.eye(2),
    )


@pytest.mark.parametrize("name", ABOUT_MODELS)
def test_no_false_bound_is_proved_of_shorter_sequences(name: str) -> None:
    # On a single token the network reads position 0 and answers 1: right once in two.
    model = reader_of_the_position()
    tables = verify_tables(model, integer_tables(model))
    try:
        proved = proved_by(name, model, tables, MaxOfK(1, 2))
    except TaskError:
        return
    assert proved.claim.correct <= 1, "a false bound"


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (MaxOfK(3, 4), "has k=3, but the model has k=4: pass a task with k=4"),
        (MaxOfK(4, 5), "has v=5, but the model has v=4: pass a task with v=4"),
    ],
)
def test_require_fit_names_the_way_out(task: Task, message: str) -> None:
    with pytest.raises(TaskError, match=message):
        require_fit(task, MODEL)
    require_fit(MaxOfK(4, 4), MODEL)


def test_require_fit_counts_outputs() -> None:
    model = random_model(np.random.default_rng(0), k=2, v=4, d=3, h=2, outputs=3)
    with pytest.raises(TaskError, match="labels up to 3, but the model has 3 outputs"):
        require_fit(MaxOfK(2, 4), model)


@pytest.mark.parametrize("bins", [0, -1, 65537])
def test_bins_out_of_range_are_refused(bins: int) -> None:
    with pytest.raises(OptionError, match=f"bins = {bins} must be from 1 to 65536"):
        AdditiveOptions(bins=bins)


def test_brute_force_refuses_what_would_not_end() -> None:
    with pytest.raises(OptionError, match="would not end"):
        THEOREMS["brute-force"].prove(tables_of(17, 4)[1], MaxOfK(17, 4), BruteForceOptions())


# The last step of every theorem.


_, TWO = tables_of(4, 2)


def concluded(by_class: list[ClassCount], undecided: int = 0) -> Proved:
    return conclude("test", {}, TWO, MaxOfK(4, 2), by_class, undecided, 0, Ledger())


COVER = [ClassCount(0, 0, 1, 1), ClassCount(0, 1, 7, 3), ClassCount(1, 1, 8, 5)]


def test_a_task_that_does_not_fit_is_never_concluded() -> None:
    with pytest.raises(TaskError):
        conclude("test", {}, TABLES, MaxOfK(4, 2), COVER, 0, 0, Ledger())


def test_a_cover_is_added_up() -> None:
    proved = concluded(COVER)
    assert (proved.claim.correct, proved.claim.total) == (9, 16)
    assert proved.by_class == tuple(COVER)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda: COVER[:-1],
        lambda: [*COVER, COVER[0]],
        lambda: [*COVER, ClassCount(1, 0, 1, 0)],
        lambda: [COVER[0], COVER[1], ClassCount(0, 1, 8, 5)],
        lambda: [*COVER[:-1], ClassCount(1, 1, 8, 9)],
        lambda: [*COVER[:-1], ClassCount(1, 1, 8, -1)],
    ],
)
def test_what_is_not_a_disjoint_cover_is_a_defect(spoil: Callable[[], Any]) -> None:
    with pytest.raises(KernelDefectError):
        concluded(spoil())


@pytest.mark.parametrize(("correct", "outcome"), [(15, "VACUOUS"), (16, "PROVED"), (14, "VACUOUS")])
def test_a_bound_that_a_constant_answer_reaches_is_vacuous(correct: int, outcome: str) -> None:
    # Label 1 is the answer to 15 of 16 sequences.
    parts = [ClassCount(0, 0, 1, 1), ClassCount(0, 1, 7, correct - 9), ClassCount(1, 1, 8, 8)]
    assert concluded(parts).outcome is Outcome[outcome]


def test_decimals_are_rounded_down() -> None:
    def decimal(correct: int, total: int) -> str:
        claim = Claim("", "", "", "", (), correct, total, 0, 0, 0, 0)
        assert claim.bound.numerator * total == correct * claim.bound.denominator
        return claim.bound_decimal

    assert decimal(2, 3) == "0.6666666666"
    assert decimal(64**20 - 1, 64**20) == "0.9999999999"
    assert decimal(1, 1) == "1.0000000000"
    assert decimal(0, 7) == "0.0000000000"
    assert decimal(1, 10**11) == "0.0000000000"
