"""Theorem C against exact margins and forward passes; its certificates, honest and edited."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
from safetensors.numpy import load

from certificates import claim_of, sign
from codes_for_tests import exact_codes, taught_subject
from compactproofs import kernel
from compactproofs.crosscoders.proofs import cell_witness
from compactproofs.kernel import CellCodes, CodeOptions, Outcome, crosscoder_c

from . import laws_of_codes


def test_no_bound_is_above_an_exact_margin(plain: ModuleType) -> None:
    assert list(laws_of_codes.cell_margins(plain)) == []


def test_with_a_cell_for_each_sequence_everything_true_is_proved() -> None:
    # One value of one feature: the range of a neuron is a point, and its line is exact.
    for seed in range(2):
        subject = taught_subject(seed, mlp=(6, 0)[seed])
        found = cell_witness(
            subject.net, subject.task, exact_codes(subject), cells="support", values=64
        )
        proved = found.prove()
        assert proved.claim.correct == subject.right.sum() > 0.3 * len(subject.right)


def test_the_exact_residual_and_forward_passes_prove_what_codes_do_not() -> None:
    subject = taught_subject(2, mlp=6)
    shares = []
    for residual, passes in ((False, False), (True, False), (True, True)):
        found = cell_witness(
            subject.net,
            subject.task,
            subject.sparse(3),
            extra=1,
            by_residual=residual,
            forward_passes=passes,
        )
        proved = found.prove()
        assert proved.claim.correct == (found.claims.claimed > 0).sum()
        shares.append(proved.claim.correct)
    assert shares[0] < shares[1] < shares[2] == subject.right.sum()


def test_a_certificate_is_checked_and_what_is_edited_in_it_is_refused() -> None:
    subject = taught_subject(1, mlp=6)
    net, task = subject.net, subject.task
    found = cell_witness(net, task, subject.sparse(4), extra=1, by_residual=True, values=16)
    certificate = kernel.encode_certificate(found.prove())
    assert kernel.check(certificate, net, task).valid

    def edited(change: Callable[[dict[str, np.ndarray]], Any]) -> Any:
        tensors = {name: array.copy() for name, array in load(certificate).items()}
        change(tensors)
        return kernel.check(sign(claim_of(certificate), tensors), net, task)

    wrong = int(np.flatnonzero(~subject.right)[0])
    for way in (1, 2, 3):
        verdict = edited(lambda t, way=way: t["claimed"].__setitem__(wrong, way))
        assert verdict.outcome is Outcome.REJECTED
    # Slopes of 0 say nothing of the neurons; whatever they are, nothing false is proved.
    several = (len(found.witness.bias), net.d_vocab_out, net.blocks[-1].d_mlp)
    verdict = edited(lambda t: t.update(slope=np.zeros(several)))
    assert verdict.outcome is Outcome.REJECTED
    for shape in ((1, *several[1:]), (several[0], several[1], 1), several[1:]):
        verdict = edited(lambda t, shape=shape: t.update(slope=np.zeros(shape)))
        assert verdict.outcome is Outcome.MALFORMED, shape
    for number in (np.nan, 1e40):
        verdict = edited(lambda t, number=number: t.update(slope=np.full(several, number)))
        assert verdict.outcome is Outcome.MALFORMED


def test_slopes_of_a_witness_are_used() -> None:
    # On a neuron that is on everywhere no slope but a is exact.
    subject = taught_subject(5, mlp=6)
    net, task = subject.net, subject.task
    found = cell_witness(net, task, exact_codes(subject), cells="support", values=64)
    right = found.claims.claimed > 0
    proved = crosscoder_c(net, task, CodeOptions(), witness=found.witness)
    assert proved.claim.correct == right.sum()
    several = (len(found.witness.bias), net.d_vocab_out, net.blocks[-1].d_mlp)
    own = net.W_U.T[subject.label[np.unique(found.search.placed.cell, return_index=True)[1]]]
    a = (own[:, None] - net.W_U.T[None]) @ net.blocks[-1].W_out.T
    assert a.shape == several
    # A cell is a point, where the line touches whatever its slope: the margin is the same.
    for slope in (a, 3 * a + 1):
        witness = CellCodes(*found.witness)._replace(slope=slope)
        assert crosscoder_c(net, task, CodeOptions(), witness=witness).claim.correct == (
            right.sum()
        )
