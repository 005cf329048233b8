"""Certificates: what is written is read back, and whatever is altered ends where it should."""

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from safetensors.numpy import load

from certificates import altered, claim_of, sign
from compactproofs import prove
from compactproofs.kernel import (
    Model,
    Outcome,
    Proved,
    Verdict,
    check,
    decode_certificate,
    encode_certificate,
    parse_task,
)
from random_models import random_model

TASK = parse_task("max:k=3,v=5")


@pytest.fixture(scope="module", params=["additive", "brute-force"])
def proved(request: pytest.FixtureRequest) -> tuple[Model, Proved]:
    model = _model(7)
    return model, prove(model, TASK, request.param)


def _model(seed: int) -> Model:
    return random_model(np.random.default_rng(seed), k=3, v=5, d=4, h=4, scale=2.0)


def test_round_trip(proved: tuple[Model, Proved]) -> None:
    model, proof = proved
    data = encode_certificate(proof)
    assert decode_certificate(data).claim == proof.claim
    verdict = check(data, model, TASK)
    assert verdict.valid and verdict.outcome is proof.outcome and verdict.claim == proof.claim
    assert check(data, model).valid


def test_equal_inputs_give_equal_bytes_and_the_documented_digest() -> None:
    data = encode_certificate(prove(_model(7), TASK))
    assert encode_certificate(prove(_model(7), TASK)) == data
    assert altered(data) == data


@pytest.mark.parametrize(
    ("field", "value", "outcome"),
    [
        ("model_sha256", "f" * 64, Outcome.MISMATCH),
        ("task", "max:k=3,v=6", Outcome.REJECTED),
        ("task", "max:k=3,v=05", Outcome.REJECTED),
        ("task", "max:v=5,k=3", Outcome.REJECTED),
        ("task", "min:k=3,v=5", Outcome.REJECTED),
        ("task", 3, Outcome.MALFORMED),
        ("task_sha256", "f" * 64, Outcome.REJECTED),
        ("theorem", "cubic", Outcome.REJECTED),
        ("semantics", "float32", Outcome.REJECTED),
        ("metric", "loss", Outcome.REJECTED),
        ("distribution", "zipf", Outcome.REJECTED),
        ("kernel", "99.0.0", Outcome.MALFORMED),
        ("format", 2, Outcome.MALFORMED),
        ("format", True, Outcome.MALFORMED),
        ("options", {"bins": "0"}, Outcome.REJECTED),
        ("options", {"bins": 128}, Outcome.MALFORMED),
        ("options", {"speed": "9"}, Outcome.REJECTED),
        ("options", [], Outcome.MALFORMED),
        ("flops", "1", Outcome.REJECTED),
        ("radius_flops", "1", Outcome.REJECTED),
        ("unexplained_dimension", "1", Outcome.REJECTED),
        ("undecided", "77", Outcome.REJECTED),
        ("total", "126", Outcome.MALFORMED),
        ("flops", "01", Outcome.MALFORMED),
        ("flops", "-1", Outcome.MALFORMED),
        ("flops", "1e9", Outcome.MALFORMED),
        ("flops", "\u0661", Outcome.MALFORMED),
        ("flops", "9" * 5000, Outcome.MALFORMED),
        ("flops", 12, Outcome.MALFORMED),
        ("bound", "1/1", Outcome.MALFORMED),
        ("surprise", "1", Outcome.MALFORMED),
    ],
)
def test_an_altered_field_with_a_fresh_digest_never_passes(
    proved: tuple[Model, Proved], field: str, value: object, outcome: Outcome
) -> None:
    model, proof = proved
    assert check(altered(encode_certificate(proof), **{field: value}), model).outcome is outcome


@pytest.mark.parametrize("by", [-2, -1, 1, 2])
def test_an_altered_count_is_rejected(proved: tuple[Model, Proved], by: int) -> None:
    model, proof = proved
    count = proof.claim.correct + by
    bound = Fraction(count, proof.claim.total)
    text = f"{bound.numerator}/{bound.denominator}"
    data = altered(encode_certificate(proof), correct=str(count), bound=text)
    assert check(data, model).outcome is Outcome.REJECTED


def test_the_reason_names_the_number(proved: tuple[Model, Proved]) -> None:
    model, proof = proved
    verdict = check(altered(encode_certificate(proof), flops="12"), model)
    assert f"flops is {proof.claim.flops}, not 12" in verdict.reason


def test_every_field_is_needed_and_wrong_types_are_malformed(
    proved: tuple[Model, Proved],
) -> None:
    model, proof = proved
    data = encode_certificate(proof)
    fields, tensors = claim_of(data), load(data)
    for name in fields:
        without = {key: value for key, value in fields.items() if key != name}
        if name != "digest":
            assert check(sign(without, tensors), model).outcome is Outcome.MALFORMED
        for value in (None, [], {}, 1.5, 7):
            if name != "digest" and value != fields[name]:
                assert not check(sign(fields | {name: value}, tensors), model).valid, (name, value)


UNSAFE: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "weight_low": lambda a: a + 9,
    "weight_high": lambda a: a - 9,
    "weight_exponent": lambda a: a + 1,
    "value_low": lambda a: a + 9,
    "value_high": lambda a: a - 9,
    "direct_low": lambda a: a + 9,
    "direct_high": lambda a: a - 9,
    "shift": lambda a: a + 1,
    "grid": lambda a: a + 1,
}


@pytest.mark.parametrize("name", sorted(UNSAFE))
def test_a_table_that_does_not_enclose_is_rejected(proved: tuple[Model, Proved], name: str) -> None:
    model, proof = proved
    data = encode_certificate(proof)
    tensors = load(data)
    for index in (0, -1, tensors[name].size // 2):
        changed = tensors[name].copy()
        changed.flat[index] = UNSAFE[name](changed.flat[index])
        verdict = check(sign(claim_of(data), tensors | {name: changed}), model)
        assert verdict.outcome is Outcome.REJECTED, verdict


@pytest.mark.parametrize("name", sorted(UNSAFE))
def test_a_tensor_of_another_kind_is_malformed(proved: tuple[Model, Proved], name: str) -> None:
    model, proof = proved
    data = encode_certificate(proof)
    fields, tensors = claim_of(data), load(data)
    array = tensors[name]

    def outcome(changed: dict[str, np.ndarray]) -> Outcome:
        return check(sign(fields, changed), model).outcome

    others = {key: value for key, value in tensors.items() if key != name}
    retyped = array.astype(np.int64 if array.dtype != np.int64 else np.int32)
    assert outcome(others) is Outcome.MALFORMED
    assert outcome(tensors | {name: retyped}) is Outcome.MALFORMED
    assert outcome(tensors | {name: array[None]}) is Outcome.MALFORMED
    assert outcome(tensors | {name: array[:0]}) is Outcome.MALFORMED
    assert outcome(tensors | {"extra": array}) is Outcome.MALFORMED
    limit = {"weight_exponent": 1 << 23, "shift": np.nan, "grid": 901}.get(name, (1 << 30) + 1)
    assert outcome(tensors | {name: np.full_like(array, limit)}) is Outcome.MALFORMED


def test_another_witness_gives_only_what_the_kernel_counts_from_it() -> None:
    """A wider table may be honest; then the claim must be the one that follows from it."""
    model = _model(7)
    proof = prove(model, TASK)
    assert proof.tables is not None
    wide = proof.tables._replace(value_high=proof.tables.value_high + (1 << 27))
    weaker = prove(model, TASK, tables=wide)
    assert weaker.claim.correct < proof.claim.correct
    data = encode_certificate(proof)
    mixed = sign(claim_of(data), load(encode_certificate(weaker)))
    assert check(mixed, model).outcome is Outcome.REJECTED
    assert check(encode_certificate(weaker), model).valid


def test_truncation_garbage_and_flipped_bytes_never_pass(proved: tuple[Model, Proved]) -> None:
    model, proof = proved
    data = encode_certificate(proof)
    rng = np.random.default_rng(0)
    cuts = [0, 1, 7, 8, 9, len(data) - 1, *rng.integers(10, len(data), 40).tolist()]
    for cut in cuts:
        assert check(data[:cut], model).outcome is Outcome.MALFORMED
    for tail in (b"\0", b" ", data):
        assert check(data + tail, model).outcome is Outcome.MALFORMED
    for position in rng.integers(0, len(data), 400).tolist():
        flipped = bytearray(data)
        flipped[position] ^= 1 << int(rng.integers(8))
        assert not check(bytes(flipped), model).valid, position


def test_stray_bytes_in_the_header_are_malformed(proved: tuple[Model, Proved]) -> None:
    model, proof = proved
    data = encode_certificate(proof)
    length = int.from_bytes(data[:8], "little")
    header, rest = data[8 : 8 + length], data[8 + length :]

    def outcome(new_header: bytes) -> Outcome:
        padded = new_header + b" " * (-len(new_header) % 8)
        return check(len(padded).to_bytes(8, "little") + padded + rest, model).outcome

    assert outcome(header.rstrip()) is proof.outcome
    assert outcome(header + b" " * 8) is Outcome.MALFORMED
    assert outcome(header.replace(b"{", b"{ ", 1)) is Outcome.MALFORMED
    twice = header.rstrip()[:-1] + b"," + header[header.index(b'"grid"') :].split(b"}")[0] + b"}}"
    assert outcome(twice) is Outcome.MALFORMED
    second_key = header.replace(b'"__metadata__":{', b'"__metadata__":{"note":"x",', 1)
    assert outcome(second_key) is Outcome.MALFORMED


def test_another_model_or_task_is_a_mismatch(proved: tuple[Model, Proved]) -> None:
    _, proof = proved
    data = encode_certificate(proof)
    other = random_model(np.random.default_rng(8), k=3, v=5, d=4, h=4)
    assert check(data, other).outcome is Outcome.MISMATCH
    assert check(data, _model(7), parse_task("max:k=3,v=6")).outcome is Outcome.MISMATCH


def test_weights_that_do_not_match_the_tables_are_rejected() -> None:
    """Even if the digest in the file were forged to name the other model."""
    model, other = _model(7), _model(9)
    data = altered(encode_certificate(prove(model, TASK)), model_sha256=other.sha256)
    verdict: Verdict = check(data, other)
    assert verdict.outcome is Outcome.REJECTED and "does not enclose" in verdict.reason
