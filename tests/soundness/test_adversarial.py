"""Weights made up by an enemy (``adversary``) against each theorem and its independent ideal.

The kernel withstands the same search, of the same length, in which a small defect is found out;
``benchmarks/adversarial.py`` searches for minutes and says how random sampling fares beside it.
"""

from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
import pytest

from compactproofs.kernel import THEOREMS, Model
from compactproofs.kernel.theorems._attention_error import ATTENTION_ERRORS
from compactproofs.kernel.theorems._direct_path import DIRECT_PATHS
from compactproofs.kernel.theorems.subcubic import AVERAGINGS

from .adversary import (
    DEFECTS,
    FLOAT32_DEFECTS,
    Counts,
    Defect,
    Enemy,
    Float32Enemy,
    Subject,
    accepted,
    hunt,
    sequences,
)
from .copies import kernel_copy
from .ideals import IDEALS, Between, ideal_counts
from .truth import float_logits, margins, right_answers

EVALUATIONS = 350


class Compared(NamedTuple):
    """A class at an advance of the enemy."""

    ideal: Between
    proved: int
    true: int
    size: int


def compared(theorem: str, kernel: ModuleType) -> list[Compared]:
    """Every class wherever the enemy advances, from tables as narrow as can be."""
    found: list[Compared] = []

    def visit(subject: Subject, model: Model, proved: Counts) -> None:
        if subject.choices.loose is not None or model.d_vocab_out == 1:
            return
        if len(found) % 20 == 0:  # the tables are what a prover may claim
            assert accepted(kernel, subject, model) is not None
        tokens, label = sequences(subject)
        logits, error = float_logits(model, tokens)
        margin = margins(logits, label)
        right = margin < 0
        near = np.flatnonzero(np.abs(margin) <= 2 * error)
        right[near] = right_answers(model, tokens[near], label[near]) if near.size else False
        ideals = ideal_counts(theorem, subject.choices, model, tokens, label)
        for (q, m), ideal in ideals.items():
            members = (tokens[:, -1] == q) & (label == m)
            true = int((right & members).sum())
            found.append(Compared(ideal, proved[q, m], true, int(members.sum())))

    enemy = Enemy(kernel, theorem, seed=5, visit=visit)
    enemy.climb(EVALUATIONS)
    assert enemy.report.violation is None
    assert enemy.report.largest_excess == 0  # it came as close as it could
    return found


@pytest.mark.parametrize("theorem", IDEALS)
def test_the_kernel_proves_what_its_statement_says_and_that_is_true(
    theorem: str, plain: ModuleType
) -> None:
    found = compared(theorem, plain)
    for one in found:
        assert one.proved <= min(one.true, one.ideal.most), one
        assert one.ideal.least <= one.true, one
    # Rounding to the unit of a class may lose what the statement proves, but seldom does.
    assert sum(one.ideal.least <= one.proved for one in found) >= 0.95 * len(found)
    # Not all or nothing, and hardly ever undecided by the tolerances.
    assert sum(0 < one.ideal.least < one.size for one in found) >= 5
    assert sum(one.ideal.least == one.ideal.most for one in found) >= 0.7 * len(found)


def test_every_theorem_has_an_ideal_or_is_searched_with_every_part() -> None:
    about_models = {name for name, one in THEOREMS.items() if one.on_transformer is not one.prove}
    assert {*IDEALS, "subcubic"} == about_models


def test_no_strategy_of_the_subcubic_family_overrates_a_class(plain: ModuleType) -> None:
    reports = [
        Enemy(plain, "subcubic", seed, part).climb(90) for seed, part in enumerate(ATTENTION_ERRORS)
    ]
    assert [report.violation for report in reports] == [None] * len(reports)
    assert max(report.largest_excess or -1 for report in reports) <= 0
    assert sum(report.advances for report in reports) >= 50
    strategies = {strategy for report in reports for strategy in report.strategies}
    for place, parts in enumerate((DIRECT_PATHS, AVERAGINGS, ATTENTION_ERRORS)):
        assert {strategy[place] for strategy in strategies} == set(parts)


@pytest.mark.parametrize("defect", (*DEFECTS, *FLOAT32_DEFECTS), ids=str)
def test_the_enemy_finds_out(defect: Defect, tmp_path: Path) -> None:
    with kernel_copy(tmp_path, defect.edits) as kernel:
        violation, _ = hunt(kernel, defect)
    assert violation is not None
    assert violation.proved > violation.true


def test_no_float32_evaluation_gets_wrong_what_is_certified(plain: ModuleType) -> None:
    enemy = Float32Enemy(plain, "brute-force", seed=1)
    assert enemy.climb(150).violation is None
    assert enemy.share > 0.1  # of the room that the theorem leaves, some evaluation needs so much
