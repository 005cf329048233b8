"""Parts of a task and their composition: a tiling, each sequence once."""

from dataclasses import replace

import numpy as np
import pytest

from compactproofs import prove
from compactproofs.kernel import (
    COMPOSED,
    THEOREMS,
    MaxOfK,
    OptionError,
    Outcome,
    Proved,
    TaskError,
    check,
    compose,
    decode_certificate,
    encode_certificate,
    parse_task,
)
from compactproofs.kernel._tasks import PartOfTask
from random_models import max_like_model, random_model

MODEL = max_like_model(np.random.default_rng(3), k=3, v=6, noise=0.6)
TABLES_THEOREMS = [name for name, theorem in THEOREMS.items() if theorem.from_tables]


def part(first: int, last: int, theorem: str = "additive", semantics: str = "real") -> Proved:
    task = parse_task(f"max:k=3,v=6,q={first}-{last}", parts=True)
    return prove(MODEL, task, theorem, semantics=semantics)


@pytest.mark.parametrize("theorem", TABLES_THEOREMS)
def test_parts_add_up_to_what_the_whole_task_gives(theorem: str) -> None:
    whole = prove(MODEL, MaxOfK(3, 6), theorem)
    composed = compose([part(4, 5, theorem), part(0, 0, theorem), part(1, 3, theorem)])
    assert composed.claim.theorem == COMPOSED
    assert sorted(composed.by_class) == sorted(whole.by_class)
    for field in ("correct", "total", "undecided", "task", "task_sha256", "model_sha256"):
        assert getattr(composed.claim, field) == getattr(whole.claim, field)
    assert composed.outcome is whole.outcome


def test_parts_may_use_different_theorems() -> None:
    composed = compose([part(0, 2, "cubic"), part(3, 5, "brute-force")])
    assert check(encode_certificate(composed), MODEL).outcome is composed.outcome


def test_a_part_counts_its_own_sequences() -> None:
    task = parse_task("max:k=3,v=6,q=2-4", parts=True)
    assert (task.total, list(task.queries)) == (3 * 36, [2, 3, 4])
    assert sum(words.size for _, _, words in task.classes()) == task.total
    assert task.digest != MaxOfK(3, 6).digest
    assert task.digest != parse_task("max:k=3,v=6,q=2-3", parts=True).digest
    assert task.class_automaton(1, 3) is None and task.class_automaton(2, 3) is not None


@pytest.mark.parametrize(
    "queries", ["0-5", "3-2", "4-6", "00-1", "1", "-1-2", "1-2,q=3-4", "1-999999999"]
)
def test_ranges_that_are_no_proper_part_are_refused(queries: str) -> None:
    with pytest.raises(TaskError):
        parse_task(f"max:k=3,v=6,q={queries}", parts=True)


def test_a_part_is_refused_where_a_whole_task_is_wanted() -> None:
    with pytest.raises(TaskError, match="whole task"):
        parse_task("max:k=3,v=6,q=0-2")
    with pytest.raises(TaskError, match="part already"):
        PartOfTask(parse_task("max:k=3,v=6,q=0-2", parts=True), range(1))


@pytest.mark.parametrize(
    ("ranges", "complaint"),
    [
        ([(0, 2)], "3-5 missing"),
        ([(1, 5)], "0-0 missing"),
        ([(0, 1), (3, 5)], "2-2 missing"),
        ([(0, 3), (3, 5)], "3-3 there twice"),
        ([(0, 2), (0, 2), (3, 5)], "0-2 there twice"),
        ([(0, 4), (1, 5)], "1-4 there twice"),
    ],
)
def test_gaps_and_overlaps_are_refused(ranges: list[tuple[int, int]], complaint: str) -> None:
    with pytest.raises(OptionError, match=complaint):
        compose([part(*ends) for ends in ranges])


def test_parts_of_other_models_semantics_or_tasks_are_refused() -> None:
    other = random_model(np.random.default_rng(1), k=3, v=6, d=2, h=2)
    theirs = prove(other, parse_task("max:k=3,v=6,q=3-5", parts=True))
    with pytest.raises(OptionError, match="model_sha256"):
        compose([part(0, 2), theirs])
    with pytest.raises(OptionError, match="semantics"):
        compose([part(0, 2), part(3, 5, semantics="float32")])
    with pytest.raises(OptionError, match="whole task already"):
        compose([prove(MODEL, MaxOfK(3, 6))])
    with pytest.raises(OptionError, match="whole task already"):
        compose([compose([part(0, 2), part(3, 5)])])
    with pytest.raises(OptionError, match="nothing"):
        compose([])


def test_composed_certificates_read_back_and_are_deterministic() -> None:
    data = encode_certificate(compose([part(3, 5), part(0, 2)]))
    assert data == encode_certificate(compose([part(0, 2), part(3, 5)]))
    assert len(decode_certificate(data).parts) == 2
    verdict = check(data, MODEL)
    assert verdict.valid and verdict.claim == compose([part(0, 2), part(3, 5)]).claim
    assert check(data, MODEL, MaxOfK(3, 6)).valid
    part_task = parse_task("max:k=3,v=6,q=0-2", parts=True)
    assert check(data, MODEL, part_task).outcome is Outcome.MISMATCH


def forged(parts: list[Proved], **changes: object) -> bytes:
    """A certificate of these parts that claims what it likes, digest and all."""
    honest = compose([part(0, 2), part(3, 5)])
    claim = replace(honest.claim, **changes)  # type: ignore[arg-type]
    from compactproofs.kernel import _claim

    proved = Proved(
        claim, honest.outcome, None, None, honest.by_class, tuple(parts), seal=_claim._SEAL
    )
    return encode_certificate(proved)


def test_a_forged_composition_is_not_accepted() -> None:
    low, high = part(0, 2), part(3, 5)
    assert check(forged([low, high]), MODEL).valid
    total = compose([low, high]).claim
    nested = compose([low, high])
    for data in (
        forged([low]),
        forged([low, low]),
        forged([low, high, high]),
        forged([high, low]),
        forged([nested]),
        forged([prove(MODEL, MaxOfK(3, 6))]),
        forged([]),
        forged([low, high], correct=total.correct + 1),
        forged([low, high], semantics="float32"),
        forged([low, high], flops=total.flops - 1),
        forged([low, high], theorem="additive"),
    ):
        assert not check(data, MODEL).valid


def test_a_part_with_a_wrong_claim_spoils_the_whole() -> None:
    low, high = part(0, 2), part(3, 5)
    from compactproofs.kernel import _claim

    better = Proved(
        replace(low.claim, correct=low.claim.correct + 1),
        low.outcome,
        low.tables,
        low.witness,
        low.by_class,
        seal=_claim._SEAL,
    )
    sum_of_both = better.claim.correct + high.claim.correct
    verdict = check(forged([better, high], correct=sum_of_both), MODEL)
    assert verdict.outcome is Outcome.REJECTED and "part 0" in verdict.reason
