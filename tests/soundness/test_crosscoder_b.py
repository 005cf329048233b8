"""Theorem B against exact margins and forward passes; its certificates, honest and edited."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load

from certificates import altered, claim_of, sign
from codes_for_tests import exact_codes, taught_subject, taught_transformer
from compactproofs import kernel
from compactproofs.crosscoders.proofs import additive_witness
from compactproofs.kernel import AdditiveCodes, CodeOptions, MaxOfK, Outcome, crosscoder_b

from . import laws_of_codes


@pytest.mark.parametrize(
    "law",
    [
        laws_of_codes.middles,
        laws_of_codes.malformed,
        laws_of_codes.ranges,
        laws_of_codes.additive_margins,
        laws_of_codes.claims,
    ],
    ids=lambda law: law.__name__,
)
def test_the_law_holds(law: Callable[[ModuleType], Iterator[str]], plain: ModuleType) -> None:
    assert list(law(plain)) == []


def test_with_one_exact_feature_for_each_sequence_everything_true_is_proved() -> None:
    for seed in range(3):
        subject = taught_subject(seed, mlp=(6, 0, 3)[seed])
        codes = exact_codes(subject)
        found = additive_witness(
            subject.net, subject.task, codes, cells="one", anchors=False, signs=False, values=64
        )
        assert found.prove().claim.correct == subject.right.sum() > 0.3 * len(subject.right)


def test_the_bound_is_the_margin_where_the_theorem_loses_nothing() -> None:
    # One atom whose decode is exact: no interaction, no residual.
    subject = taught_subject(7, mlp=6)
    found = additive_witness(
        subject.net, subject.task, exact_codes(subject), cells="one", anchors=False, values=64
    )
    exact = subject.margin.min(axis=1)
    assert np.abs(found.claims.worst - exact).max() < 1e-6 * np.abs(exact).max()


def test_a_tie_is_never_proved() -> None:
    net = taught_transformer(3, mlp=6)
    twins = replace(net, W_U=np.repeat(net.W_U, 2, axis=1), b_U=np.repeat(net.b_U, 2))
    task = MaxOfK(net.n_ctx, net.d_vocab)
    subject = taught_subject(3, mlp=6)
    found = additive_witness(twins, task, exact_codes(subject), k=1, forward_passes=True)
    assert found.prove().claim.correct == 0
    for way in (1, 2):
        claimed = np.full(task.total, way, dtype=np.int32)
        with pytest.raises(kernel.RejectedError, match="is claimed, but the theorem crosscoder-b"):
            _prove(twins, task, found.witness._replace(claimed=claimed))


def _prove(net: Any, task: Any, witness: AdditiveCodes | None) -> Any:
    return crosscoder_b(net, task, CodeOptions(), witness=witness)


def test_a_certificate_is_checked_and_what_is_edited_in_it_is_refused() -> None:
    subject = taught_subject(1, mlp=6)
    net, task = subject.net, subject.task
    found = additive_witness(net, task, subject.sparse(4), extra=1, cells="label", values=16)
    proved = found.prove()
    assert 0 < proved.claim.correct < task.total
    certificate = kernel.encode_certificate(proved)
    assert kernel.check(certificate, net, task).valid
    assert kernel.encode_certificate(found.prove()) == certificate

    def edited(change: Callable[[dict[str, np.ndarray]], Any]) -> Any:
        tensors = {name: array.copy() for name, array in load(certificate).items()}
        change(tensors)
        return kernel.check(sign(claim_of(certificate), tensors), net, task)

    wrong = int(np.flatnonzero(~subject.right)[0])
    for way in (1, 2):
        verdict = edited(lambda t, way=way: t["claimed"].__setitem__(wrong, way))
        assert verdict.outcome is Outcome.REJECTED
        assert f"sequence {wrong} " in verdict.reason
    mine = int(np.flatnonzero(found.claims.claimed)[0])
    verdict = edited(lambda t: t["claimed"].__setitem__(mine, 0))
    assert verdict.outcome is Outcome.REJECTED and "correct is" in verdict.reason
    verdict = edited(lambda t: t["bias"].__imul__(-1.0))
    assert verdict.outcome is Outcome.REJECTED
    used = np.unique(found.search.placed.cell[found.claims.claimed > 0])
    signs = found.claims.sign[used]
    assert signs.any()
    cell = int(used[signs.any(axis=1)][0])
    verdict = edited(lambda t: t["sign"].__setitem__((cell, slice(None)), -t["sign"][cell]))
    assert verdict.outcome is Outcome.REJECTED and "is claimed to be" in verdict.reason
    more = str(proved.claim.correct + 1)
    verdict = kernel.check(
        altered(certificate, correct=more, bound=f"{more}/{task.total}"), net, task
    )
    assert verdict.outcome in (Outcome.REJECTED, Outcome.MALFORMED)
    other = kernel.check(altered(certificate, options={"ranges": "nothing"}), net, task)
    assert other.outcome is Outcome.REJECTED and "known are features, sequences" in other.reason


MALFORMED: dict[str, Callable[[dict[str, np.ndarray]], Any]] = {
    "an atom that there is not": lambda t: t["code"].__setitem__((0, 0), t["level"].size),
    "a cell that there is not": lambda t: t["cell"].__setitem__(0, len(t["bias"])),
    "a way to claim that there is not": lambda t: t["claimed"].__setitem__(0, 3),
    "a sign that there is not": lambda t: t["sign"].__setitem__((0, 0), 2),
    "too large a number": lambda t: t["decoder"].__setitem__((0, 0), 1e40),
    "one sequence too few": lambda t: t.update(code=t["code"][1:].copy()),
    "no cells": lambda t: t.update(bias=t["bias"][:0].copy()),
    "values of fewer features": lambda t: t.update(level=t["level"][1:].copy()),
    "signs of other neurons": lambda t: t.update(sign=t["sign"][:, 1:].copy()),
    "vectors of another width": lambda t: t.update(decoder=t["decoder"][:, 1:].copy()),
    "one axis of values": lambda t: t.update(level=t["level"].reshape(-1)),
    "codes of another type": lambda t: t.update(code=t["code"].astype(np.int64)),
}


@pytest.mark.parametrize("edit", MALFORMED.values(), ids=list(MALFORMED))
def test_a_witness_of_the_wrong_form_is_malformed(
    edit: Callable[[dict[str, np.ndarray]], Any],
) -> None:
    subject = taught_subject(1, mlp=6)
    found = additive_witness(subject.net, subject.task, subject.sparse(4), values=4)
    certificate = kernel.encode_certificate(found.prove())
    tensors = {name: array.copy() for name, array in load(certificate).items()}
    edit(tensors)
    verdict = kernel.check(sign(claim_of(certificate), tensors), subject.net, subject.task)
    assert verdict.outcome is Outcome.MALFORMED, verdict.reason


def test_numbers_that_are_none_are_refused() -> None:
    subject = taught_subject(1, mlp=6)
    witness = additive_witness(subject.net, subject.task, subject.sparse(4), values=4).witness
    for name in ("decoder", "bias", "level"):
        array = getattr(witness, name).copy()
        array.reshape(-1)[0] = np.nan
        with pytest.raises(kernel.MalformedError, match=f"{name} holds NaN"):
            _prove(subject.net, subject.task, witness._replace(**{name: array}))


def test_misuse_is_refused_in_a_sentence() -> None:
    net = taught_transformer(1, mlp=6)
    with pytest.raises(kernel.MalformedError, match="needs a witness, a code of every sequence"):
        _prove(net, MaxOfK(net.n_ctx, net.d_vocab), None)
    with pytest.raises(kernel.TaskError, match="pass a task with"):
        _prove(net, MaxOfK(2, 4), None)
    with pytest.raises(kernel.OptionError, match="ranges = wide: known are features, sequences"):
        CodeOptions.parse({"ranges": "wide"})
    big = replace(net, W_E=np.ones((128, 6)), W_U=np.ones((6, 128)), b_U=np.ones(128))
    with pytest.raises(kernel.OptionError, match="takes at most 1048576: use crosscoder-d"):
        _prove(big, MaxOfK(3, 128), None)
