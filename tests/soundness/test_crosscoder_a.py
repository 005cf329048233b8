"""Norm-ball telescoping, against forward passes and exact truth."""

from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load

from certificates import altered, claim_of, sign
from compactproofs import prove
from compactproofs.crosscoders import CrosscoderError, default_sites
from compactproofs.crosscoders.telescoping import (
    Dictionary,
    anchored_at_tokens,
    telescoping_witness,
    with_claims,
)
from compactproofs.kernel import (
    CrosscoderAOptions,
    MalformedError,
    MaxOfK,
    OptionError,
    Outcome,
    RejectedError,
    TelescopingWitness,
    Transformer,
    check,
    crosscoder_a,
    encode_certificate,
)
from compactproofs.kernel.theorems import brute_force_network
from lookup_crosscoder import lookup_crosscoder
from transformers_for_tests import random_transformer

from . import laws_of_telescoping
from .laws_of_telescoping import drawn_witness
from .truth import all_sequences

TASK = MaxOfK(3, 3)


@pytest.mark.parametrize("law", laws_of_telescoping.LAWS, ids=lambda law: law.__name__)
def test_the_law_holds(law: Callable[[ModuleType], Iterator[str]], plain: ModuleType) -> None:
    assert list(law(plain)) == []


def drawn(net: Transformer, noise: float, coded: int, seed: int = 1) -> Dictionary:
    rng = np.random.default_rng(seed)
    return Dictionary(**drawn_witness(rng, net, all_sequences(3, 3), noise, coded))


@pytest.mark.parametrize(("layers", "heads", "coded"), [(1, 1, 3), (1, 2, 1), (2, 1, 3), (3, 2, 3)])
def test_a_code_without_errors_proves_nearly_all_that_is_true(
    layers: int, heads: int, coded: int
) -> None:
    net = random_transformer(np.random.default_rng(6), k=3, v=3, layers=layers, heads=heads, mlp=4)
    true = brute_force_network(net, TASK, None).claim
    witness = with_claims(net, TASK, drawn(net, 0.0, coded))
    proved = prove(net, TASK, "crosscoder-a", witness=witness)
    assert true.correct >= proved.claim.correct >= 0.9 * true.correct > 0


def test_errors_of_a_code_cost_what_it_proves() -> None:
    net = random_transformer(np.random.default_rng(6), k=3, v=3, mlp=4)
    counts = [
        prove(net, TASK, "crosscoder-a", witness=with_claims(net, TASK, drawn(net, noise, 3)))
        for noise in (0.0, 0.03, 10.0)
    ]
    none, some, much = (proved.claim.correct for proved in counts)
    assert none > some > much == 0


def test_anchors_take_the_first_error_away() -> None:
    net = random_transformer(np.random.default_rng(6), k=3, v=3, mlp=4, scale=3.0)
    for coded in (1, 3):
        arrays = drawn(net, 0.01, coded)
        plain, anchored = (
            int(with_claims(net, TASK, one)["claimed"].sum())
            for one in (arrays, anchored_at_tokens(net, TASK, arrays))
        )
        assert anchored > plain


@pytest.mark.parametrize("anchored", [False, True])
def test_a_crosscoder_gives_a_witness(anchored: bool) -> None:
    net = random_transformer(np.random.default_rng(6), k=3, v=3, mlp=4)
    own = lookup_crosscoder(net, default_sites(net), all_sequences(3, 3))
    witness = telescoping_witness(net, TASK, own, active=1, levels=2, anchored=anchored)
    proved = prove(net, TASK, "crosscoder-a", witness=witness)
    true = brute_force_network(net, TASK, None).claim
    assert true.correct >= proved.claim.correct >= 0.8 * true.correct > 0
    assert check(encode_certificate(proved), net, TASK).valid


def test_a_crosscoder_of_other_sites_is_refused() -> None:
    net = random_transformer(np.random.default_rng(6), k=3, v=3, mlp=4)
    own = lookup_crosscoder(net, default_sites(net)[1:], all_sequences(3, 3))
    with pytest.raises(CrosscoderError, match="telescopes through"):
        telescoping_witness(net, TASK, own)


@pytest.fixture(scope="module")
def certified() -> tuple[Transformer, bytes]:
    net = random_transformer(np.random.default_rng(6), k=3, v=3, layers=2, mlp=4)
    witness = with_claims(net, TASK, drawn(net, 1e-4, 3))
    return net, encode_certificate(prove(net, TASK, "crosscoder-a", witness=witness))


def test_a_certificate_comes_back(certified: tuple[Transformer, bytes]) -> None:
    net, data = certified
    verdict = check(data, net, TASK)
    assert verdict.valid and verdict.claim is not None and verdict.claim.correct > 0
    other = random_transformer(np.random.default_rng(60), k=3, v=3, layers=2, mlp=4)
    assert check(data, other).outcome is Outcome.MISMATCH


def test_hostile_edits_of_a_certificate_are_refused(certified: tuple[Transformer, bytes]) -> None:
    net, data = certified
    fields, arrays = claim_of(data), load(data)

    def outcome(**changes: Any) -> Outcome:
        return check(sign(fields, arrays | changes), net).outcome

    assert outcome() in (Outcome.PROVED, Outcome.VACUOUS)
    claimed, code = arrays["claimed"], arrays["code"]
    assert outcome(claimed=1 - claimed) is Outcome.REJECTED
    assert outcome(claimed=np.ones_like(claimed)) is Outcome.REJECTED
    assert outcome(claimed=np.zeros_like(claimed)) is Outcome.REJECTED
    assert outcome(claimed=2 * claimed) is Outcome.MALFORMED
    assert outcome(code=code[::-1].copy()) is Outcome.REJECTED
    assert outcome(code=np.full_like(code, -1)) is Outcome.REJECTED
    assert outcome(code=np.full_like(code, arrays["level"].size)) is Outcome.MALFORMED
    assert outcome(code=np.full_like(code, -2)) is Outcome.MALFORMED
    assert outcome(code=code[:, :1]) is Outcome.MALFORMED
    assert outcome(code=code[:-1]) is Outcome.MALFORMED
    for name in ("decoder", "bias", "level"):
        array = arrays[name]
        assert outcome(**{name: array + 0.5}) is Outcome.REJECTED
        assert outcome(**{name: array + 1e300}) is Outcome.REJECTED
        assert outcome(**{name: array[..., :-1].copy()}) is Outcome.MALFORMED
        assert outcome(**{name: array * np.nan}) is Outcome.MALFORMED
    correct, total = int(fields["correct"]) + 1, int(fields["total"])
    changed = altered(data, correct=str(correct), undecided=str(total - correct))
    assert check(changed, net).outcome is Outcome.MALFORMED  # its bound is another
    assert check(altered(data, flops="7"), net).outcome is Outcome.REJECTED


def test_misuse_is_refused_in_a_line() -> None:
    rng = np.random.default_rng(0)
    net = random_transformer(rng, k=3, v=3, layers=2)
    options = CrosscoderAOptions()
    with pytest.raises(OptionError, match="needs its witness"):
        crosscoder_a(net, TASK, options)
    with pytest.raises(OptionError, match="needs its witness"):
        prove(net, TASK, "crosscoder-a")
    arrays = drawn(net, 0.0, 3)
    all_of_them = TelescopingWitness(*arrays, np.ones(27, dtype=np.int32))
    with pytest.raises(RejectedError, match="right, as the witness claims"):
        crosscoder_a(net, TASK, options, witness=all_of_them)
    with pytest.raises(MalformedError, match="is about 1 positions: it must be 3"):
        crosscoder_a(net, TASK, options, witness=all_of_them._replace(code=arrays.code[:, -1:]))
    with pytest.raises(MalformedError, match="not an array of 3 axes"):
        crosscoder_a(net, TASK, options, witness=all_of_them._replace(code=arrays.code[0]))
    large = random_transformer(rng, k=21, v=2)
    with pytest.raises(OptionError, match="more than the 1048576"):
        crosscoder_a(large, MaxOfK(21, 2), options, witness=all_of_them)
