"""The standalone checker on the same mutants: it never accepts what the kernel rejects.

But for costs, which it says it does not count: a claim wrong in nothing else it may accept. And
what the kernel accepts, it accepts with the same outcome, unless it says that it cannot.
"""

import re
from fractions import Fraction
from itertools import islice
from types import ModuleType

import numpy as np
import pytest

import compactproofs_check as checker

from .files import signed
from .judge import Subject
from .mutants_of_certificates import of_all, of_bytes, of_structure
from .subjects import VARIANTS, small_models, subject

SHARE = 192
COSTS = {"flops", "radius_flops"}


def model_for_checker(s: Subject) -> checker.Model:
    weights = {name: np.atleast_2d(getattr(s.model, name)).tolist() for name in checker.AXES}
    square: Fraction = s.model.score_divisor_squared
    return checker.Model(square, weights, s.model.attention_dir)


def disagreement(s: Subject, model: checker.Model, data: bytes) -> str | None:
    """How the two verdicts contradict each other."""
    ours = s.kernel.check(data, s.model, s.task)
    try:
        theirs = checker.decide(data, model, s.task.name)
    except Exception as error:
        return f"the checker raised {type(error).__name__}: {error!s:.200}"
    if not theirs.reason.isprintable():
        return f"the checker's reason is not one printable line: {theirs.reason!r:.200}"
    if theirs.valid and not ours.valid:
        found = set(re.findall(r"(\w+) is \S+, not", ours.reason.partition("numbers: ")[2]))
        if not found or not found <= COSTS:
            return f"only the checker accepts; the kernel: {ours.outcome.name}: {ours.reason}"
    if ours.valid and theirs.outcome not in (ours.outcome.name, "UNSUPPORTED"):
        return f"only the kernel accepts; the checker: {theirs.outcome}: {theirs.reason}"
    return None


@pytest.mark.parametrize("name", list(small_models()))
def test_the_checker_and_the_kernel_agree_on_mutants(name: str, plain: ModuleType) -> None:
    family = {variant: subject(plain, name, variant) for variant in VARIANTS}
    for n, s in enumerate(family.values()):
        model = model_for_checker(s)
        for mutant in islice(of_all(s, family, seed=n), 7 * n % SHARE, None, SHARE):
            data = mutant.make()
            if data is not None:
                found = disagreement(s, model, data)
                assert found is None, (s.name, mutant.kind, found)


@pytest.mark.parametrize("variant", ["cubic", "composed"])
def test_the_checker_and_the_kernel_agree_on_bytes(variant: str, plain: ModuleType) -> None:
    s = subject(plain, "like max, v=3" if variant == "composed" else "one token", variant)
    model = model_for_checker(s)
    step = 173 if variant == "composed" else 11
    for mutant in [*islice(of_bytes(s), 0, None, step), *islice(of_structure(s), 0, None, 5)]:
        data = mutant.make()
        found = None if data is None else disagreement(s, model, data)
        assert found is None, (mutant.kind, found)


def test_every_certificate_that_is_spoilt_was_good_for_both(plain: ModuleType) -> None:
    outcomes = set()
    for variant in VARIANTS:
        s = subject(plain, "like max, v=4", variant)
        assert plain.check(s.data, s.model, s.task).valid
        outcomes.add(checker.decide(s.data, model_for_checker(s), s.task.name).outcome)
    assert outcomes == {"PROVED", "VACUOUS", "UNSUPPORTED"}


def test_a_tensor_named_by_half_a_character_gets_a_verdict_from_both(plain: ModuleType) -> None:
    s = subject(plain, "one token", "cubic")
    data = signed(s.claim, s.entries | {"\ud800": s.entries["grid"]})
    assert s.kernel.check(data, s.model).outcome.name == "MALFORMED"
    assert checker.decide(data, model_for_checker(s)).outcome == "MALFORMED"
