"""Mutants with right digests: no verdict is wrong, and the judge knows a wrong one when it sees it.

A deterministic share of what ``benchmarks/hostile.py`` runs in full.
"""

from collections import Counter
from functools import cache
from itertools import islice
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from certificates import claim_of
from soundness.copies import Edit, kernel_copy

from .judge import Subject, judge
from .mutants_of_certificates import Mutant, of_all, of_bytes, of_lies, of_structure
from .subjects import VARIANTS, small_models, subject

SHARE = 48
"""One mutant in so many is tried here."""


@cache
def subjects(kernel: ModuleType, name: str) -> dict[str, Subject]:
    return {variant: subject(kernel, name, variant) for variant in VARIANTS}


def outcomes(s: Subject, mutants: list[Mutant]) -> Counter[tuple[str, str]]:
    """How often each kind of mutant ended how; fails at the first wrong verdict."""
    found: Counter[tuple[str, str]] = Counter()
    for mutant in mutants:
        data = mutant.made_of(s)
        if data is not None:
            ruling = judge(s, data, must_hold=mutant.must_hold)
            assert ruling.fault is None, (s.name, mutant.kind, ruling)
            found[mutant.kind, ruling.outcome] += 1
    return found


@pytest.mark.parametrize("half", [0, 1])
@pytest.mark.parametrize("name", list(small_models()))
def test_no_verdict_on_a_mutant_is_wrong(name: str, half: int, plain: ModuleType) -> None:
    family = subjects(plain, name)
    for n, s in list(enumerate(family.values()))[half::2]:
        mutants = list(islice(of_all(s, family, seed=n), (5 * n + half) % SHARE, None, SHARE))
        found = outcomes(s, mutants)
        assert found.total() > 25


@pytest.mark.parametrize("variant", VARIANTS)
def test_truncated_and_strangely_built_files_are_refused(variant: str, plain: ModuleType) -> None:
    s = subjects(plain, "one token")[variant]
    found = outcomes(s, list(of_structure(s)))
    assert found["truncated", "MALFORMED"] == len(s.data)
    # Padding is the only freedom that the format leaves.
    assert {kind for kind, outcome in found if outcome != "MALFORMED"} <= {"structure"}
    assert sum(n for (_, outcome), n in found.items() if outcome == "VACUOUS") <= 12


@pytest.mark.parametrize("variant", ["cubic", "subcubic"])
@pytest.mark.parametrize("bit", range(8))
def test_a_file_with_one_bit_flipped_says_no_more(
    variant: str, bit: int, plain: ModuleType
) -> None:
    s = subjects(plain, "one token")[variant]
    found = outcomes(s, list(islice(of_bytes(s), bit, None, 24)))
    assert found.total() >= len(s.data) // 3


def test_lies_that_claim_more_than_the_truth_are_told_and_rejected(plain: ModuleType) -> None:
    s = subjects(plain, "like max, v=4")["additive"]
    told = [data for data in (m.make() for m in of_lies(s, _rng())) if data is not None]
    great = [data for data in told if int(claim_of(data)["correct"]) > s.right]
    assert len(great) >= 8
    assert {judge(s, data).outcome for data in great} == {"REJECTED"}


def _rng() -> np.random.Generator:
    return np.random.default_rng(3)


BROKEN = {
    "tables are believed": Edit(
        "_integers.py",
        "    for name, entries in doubtful.items():\n        if entries.any():",
        "    for name, entries in doubtful.items():\n        if False:",
    ),
    "upper weights are believed": Edit(
        "_integers.py",
        "        | (scaled(claimed.weight_high, exponent - weight.upper_exponent) < weight.upper),",
        ",",
    ),
    "shifts are believed": Edit(
        "_integers.py",
        "weight = exp_bounds(tables.scores - _column(claimed.shift, ledger))",
        "weight = exp_bounds(tables.scores - _column(np.rint(claimed.shift), ledger))",
    ),
    "numbers are believed": Edit("_certificate.py", "    if different:", "    if False:"),
    "digests are believed": Edit(
        "_certificate.py", 'if _digest(fields, tensors) != fields["digest"]:', "if False:"
    ),
    "the subset sum of costs is not compared": Edit(
        "_certificate.py",
        "for name in ours if ours[name]",
        'for name in ("correct",) if ours[name]',
    ),
}


@pytest.mark.parametrize("defect", BROKEN)
def test_the_judge_finds_a_kernel_that_believes_too_much(defect: str, tmp_path: Path) -> None:
    with kernel_copy(tmp_path, (BROKEN[defect],)) as kernel:
        s = subject(kernel, "like max, v=3", "windowed")
        family = {"windowed": s, "cubic": subject(kernel, "like max, v=3", "cubic")}
        mutants = [*islice(of_bytes(s), 0, None, 41), *of_all(s, family, seed=1)]
        rulings = (judge(s, data) for m in mutants if (data := m.made_of(s)) is not None)
        assert any(ruling.fault is not None for ruling in rulings)
