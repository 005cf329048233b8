"""Certificates that hold a theorem's own tensors: kept whole, and refused when spoilt."""

from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load

from certificates import claim_of, sign
from compactproofs import prove
from compactproofs.kernel import (
    Outcome,
    check,
    decode_certificate,
    encode_certificate,
    parse_task,
)
from random_models import max_like_model

MODEL = max_like_model(np.random.default_rng(2), k=3, v=4)
TASK = parse_task("max:k=3,v=4")
WITNESSES: dict[str, dict[str, np.ndarray] | None] = {
    "windowed": {"window": np.full((4, 4), 2, dtype=np.int32)},
    "collapsed-subcubic": {"window": np.full((4, 4), 3, dtype=np.int32)},
    "additive": {
        "effort": np.full((4, 4), 50, dtype=np.int32),
        "order": np.array([[1, 2, 3, 0, -1, 0], [1, 2, 0, 0, 3, 8]], dtype=np.int32),
    },
    "subcubic": None,
}


def certificate(theorem: str) -> bytes:
    return encode_certificate(prove(MODEL, TASK, theorem, witness=WITNESSES[theorem]))


@pytest.mark.parametrize("theorem", WITNESSES)
def test_a_witness_is_kept_and_checked(theorem: str) -> None:
    data = certificate(theorem)
    assert data == certificate(theorem)
    assert check(data, MODEL, TASK).valid
    stored = decode_certificate(data)
    assert stored.witness is not None and (stored.tables is None) == (theorem == "subcubic")


@pytest.mark.parametrize(
    ("theorem", "name", "spoil"),
    [
        ("windowed", "window", lambda a: 0 * a),
        ("windowed", "window", lambda a: a[:2]),
        ("windowed", "window", lambda a: a.astype(np.int64)),
        ("windowed", "window", lambda a: a.astype(np.float64)),
        ("additive", "effort", lambda a: a - 97),
        ("additive", "effort", lambda a: a + 10**9),
        ("additive", "effort", lambda a: a - 52),
        ("additive", "order", lambda a: a[:, :5]),
        ("additive", "order", lambda a: a.ravel()),
        ("additive", "order", lambda a: a.astype(np.float64)),
        ("additive", "order", lambda a: a[::-1]),
        ("additive", "order", lambda a: np.concatenate([a, a])),
        ("additive", "order", lambda a: a + np.array([4, 0, 0, 0, 0, 0], dtype=np.int32)),
        ("additive", "order", lambda a: a - np.array([2, 0, 0, 0, 0, 0], dtype=np.int32)),
        ("additive", "order", lambda a: a + np.array([0, 2, 0, 0, 0, 0], dtype=np.int32)),
        ("additive", "order", lambda a: a - np.array([0, 0, 1, 0, 0, 0], dtype=np.int32)),
        ("additive", "order", lambda a: a - np.array([0, 0, 0, 1, 0, 0], dtype=np.int32)),
        ("additive", "order", lambda a: a + np.array([0, 0, 0, 0, 1, 0], dtype=np.int32)),
        ("additive", "order", lambda a: a + np.array([0, 0, 0, 0, 0, 241], dtype=np.int32)),
        ("subcubic", "gap", lambda a: -a - 1),
        ("subcubic", "gap", lambda a: a + 1000),
        ("subcubic", "average", lambda a: a * np.nan),
        ("subcubic", "average", lambda a: a + 7),
        ("subcubic", "query_directions", lambda a: a + np.inf),
        ("subcubic", "query_directions", lambda a: a + 1e200),
        ("subcubic", "W_Q_direction", lambda a: a[:-1]),
    ],
)
def test_a_spoilt_witness_is_refused(theorem: str, name: str, spoil: Any) -> None:
    data = certificate(theorem)
    tensors = load(data)
    spoilt = sign(claim_of(data), tensors | {name: spoil(tensors[name])})
    assert check(spoilt, MODEL, TASK).outcome in (Outcome.MALFORMED, Outcome.REJECTED)


@pytest.mark.parametrize("theorem", WITNESSES)
def test_tensors_missing_or_strange_are_refused(theorem: str) -> None:
    data = certificate(theorem)
    tensors, claim = load(data), claim_of(data)
    for name in tensors:
        rest = {n: a for n, a in tensors.items() if n != name}
        verdict = check(sign(claim, rest), MODEL, TASK)
        assert not verdict.valid or name == "window", name
    assert not check(sign(claim, tensors | {"extra": np.zeros(1)}), MODEL, TASK).valid


def test_claimed_parts_must_exist() -> None:
    data = certificate("subcubic")
    claim = claim_of(data)
    for option, value in (("direct", "none_such"), ("averaging", "7"), ("colour", "red")):
        changed = claim | {"options": claim["options"] | {option: value}}
        verdict = check(sign(changed, load(data)), MODEL, TASK)
        assert verdict.outcome in (Outcome.MALFORMED, Outcome.REJECTED)
