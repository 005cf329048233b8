"""Bytes and texts drawn at random, and near to good ones: only the documented exceptions."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from compactproofs import kernel
from compactproofs.kernel import (
    MalformedError,
    ModelError,
    TaskError,
    check,
    decode_certificate,
    load_model,
    parse_task,
)
from compactproofs.kernel._safetensors import DamagedError, read_tensors
from model_directories import CONFIG, random_tensors, safetensors_bytes, stored, write_model

from .files import Entry, header_of, signed, with_header
from .judge import Subject, fault_of_valid
from .subjects import subject

GOOD = subject(kernel, "one token", "additive")
COMPOSED = subject(kernel, "like max, v=3", "composed")
RAW = safetensors_bytes(stored(random_tensors()))

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-3, 70),
    st.sampled_from([2**31 - 1, 2**31, 2**32, 2**53, 2**62, 2**63 - 1, 2**63, 2**64 - 1, 2**64]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
    st.sampled_from(["F32", "F64", "I32", "I64", "U8", "BF16", "F4", "claim", "\ud800", "\u202e"]),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=6), inner, max_size=4)
    ),
    max_leaves=8,
)
dtypes = st.one_of(
    st.sampled_from("BOOL F4 F6_E2M3 U8 I8 F8_E5M2 I16 F16 BF16 I32 U32 F32 F64 I64 C64".split()),
    scalars,
)
sizes = st.one_of(st.integers(0, 5), scalars)
declared = st.fixed_dictionaries(
    {
        "dtype": dtypes,
        "shape": st.one_of(st.lists(sizes, max_size=5), scalars),
        "data_offsets": st.one_of(st.tuples(sizes, sizes), st.lists(sizes, max_size=3), scalars),
    },
    optional={"extra": values},
)
headers = st.dictionaries(
    st.one_of(st.sampled_from(["a", "embed.W_E", "grid", "__metadata__", "", "../x"]), st.text()),
    st.one_of(declared, declared, values),
    max_size=4,
)


def quickly(count: int) -> settings:
    return settings(
        max_examples=count,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )


def reads(data: bytes) -> bool:
    """Whether ``read_tensors`` takes the bytes; nothing but its own refusal may end it."""
    try:
        tensors, metadata = read_tensors(data)
    except DamagedError:
        return False
    assert isinstance(metadata, dict)
    assert sum(len(raw.data) for raw in tensors.values()) <= len(data)
    return True


@quickly(800)
@given(headers, st.binary(max_size=40), st.booleans())
@example({"a": {"dtype": "F4", "shape": [1], "data_offsets": [0, 0]}}, b"", True)
@example({"a": {"dtype": "F4", "shape": [3], "data_offsets": [0, 2]}}, b"12", True)
@example({"a": {"dtype": "F6_E2M3", "shape": [2**62, 4], "data_offsets": [0, 0]}}, b"", True)
@example({"a": {"dtype": "I64", "shape": [2**61], "data_offsets": [0, 0]}}, b"", True)
@example({"a": {"dtype": "I64", "shape": [2**61, 8], "data_offsets": [0, 0]}}, b"", True)
@example({"a": {"dtype": "U8", "shape": [1], "data_offsets": [2**64 - 1, 0]}}, b"", True)
@example({"a": {"dtype": "U8", "shape": [0], "data_offsets": [1, 1]}}, b"1", True)
@example({"__metadata__": {"a": "\ud800"}}, b"", True)
@example({"__metadata__": {"a": None}}, b"", True)
@example({"__metadata__": []}, b"", True)
@example({"": {"dtype": "U8", "shape": [], "data_offsets": [0, 1]}}, b"1", True)
def test_any_header_is_read_or_refused(header: dict[str, Any], body: bytes, align: bool) -> None:
    reads(with_header(json.dumps(header), body, align=align))


@quickly(1000)
@given(st.binary(max_size=120), st.booleans())
@example(b"", False)
@example(b"\x80" * 8, True)
@example(b"{}\0\0\0\0\0\0", True)
@example(b'{"a":\xff}', True)
def test_any_bytes_are_read_or_refused(data: bytes, with_length: bool) -> None:
    reads(with_header(data, align=False) if with_length else data)


cuts = st.lists(
    st.tuples(st.integers(0, 4000), st.integers(0, 12), st.binary(max_size=12)),
    min_size=1,
    max_size=4,
)


def spliced(data: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    for at, length, new in edits:
        at %= len(data) + 1
        data = data[:at] + new + data[at + length :]
    return data


@quickly(1000)
@given(st.sampled_from([GOOD, COMPOSED]), cuts, st.booleans())
def test_a_certificate_cut_up_gets_a_deserved_verdict(
    s: Subject, edits: list[tuple[int, int, bytes]], repair: bool
) -> None:
    data = spliced(s.data, edits)
    if repair:
        header, body = header_of(data)
        data = with_header(header, body)
    reads(data)
    verdict = check(data, s.model, s.task)
    assert not verdict.valid or fault_of_valid(s, data) is None


names = st.sampled_from([*GOOD.claim, "extra", ""])


@quickly(500)
@given(
    st.sampled_from([GOOD, COMPOSED]),
    st.dictionaries(names, values, max_size=3),
    st.lists(names, max_size=1),
    st.dictionaries(
        st.sampled_from([*GOOD.entries, "part.0", "part.1", "x"]), declared, max_size=2
    ),
    st.binary(max_size=40),
)
@example(GOOD, {"theorem": "composed"}, [], {}, b"")
@example(GOOD, {"theorem": "composed", "options": {}}, ["task"], {}, b"")
@example(GOOD, {"options": {"bins": "\u0661"}}, [], {}, b"")
@example(GOOD, {"format": True}, [], {}, b"")
@example(COMPOSED, {"theorem": "additive"}, [], {}, b"")
def test_a_claim_of_anything_gets_a_deserved_verdict(
    s: Subject, more: dict[str, Any], less: list[str], tensors: dict[str, Any], body: bytes
) -> None:
    fields = {name: value for name, value in (s.claim | more).items() if name not in less}
    strange = {
        name: Entry(one["dtype"], one["shape"], body[: len(body) // 2])
        for name, one in tensors.items()
    }
    try:
        data = signed(fields, s.entries | strange)
    except ValueError:  # a float that is no JSON number
        return
    try:
        decode_certificate(data)
    except MalformedError as error:
        assert "\n" not in str(error)
    verdict = check(data, s.model, s.task)
    assert not verdict.valid or fault_of_valid(s, data) is None


fields_of_config = st.dictionaries(
    st.one_of(
        st.sampled_from([*CONFIG, "d_mlp", "eps", "seed", "final_rms", "clip_qkv", "rotary_dim"]),
        st.text(max_size=5),
    ),
    values,
    max_size=3,
)


@quickly(400)
@given(fields_of_config, st.lists(st.sampled_from([*CONFIG]), max_size=1))
@example({"attn_scale": 1e-320}, [])
@example({"attn_scale": 10**400}, [])
@example({"n_ctx": 10**30}, [])
@example({"d_model": 2**63}, [])
@example({"\ud800": 1}, [])
@example({"normalization_type": "\ud800"}, [])
@example({"a\nb": "c\nd"}, [])
def test_any_config_is_read_or_refused_in_one_line(
    tmp_path: Path, more: dict[str, Any], less: list[str]
) -> None:
    config = {name: value for name, value in (CONFIG | more).items() if name not in less}
    directory = write_model(tmp_path, RAW, json.dumps(config))
    try:
        load_model(directory)
    except ModelError as error:
        assert str(error).isprintable()


@quickly(600)
@given(cuts)
def test_model_files_cut_up_are_read_or_refused(
    tmp_path: Path, edits: list[tuple[int, int, bytes]]
) -> None:
    directory = write_model(tmp_path, spliced(RAW, edits))
    try:
        load_model(directory)
    except ModelError as error:
        assert "\n" not in str(error)


pieces = st.sampled_from(
    ["max", ":", "k", "v", "q", "=", ",", "-", "0", "1", "4", "64", "9" * 7, " ", "\n", "\0"]
    + ["\u0661", "\uff14", "+4", "1e3", "0x4", "k=4", "v=64", "q=0-31", "max:k=4,v=64", "min:"]
)


@quickly(1500)
@given(st.one_of(st.text(max_size=20), st.lists(pieces, max_size=9).map("".join)), st.booleans())
@example("max:k=4,v=64,q=5-4", True)
@example("max:k=4,v=64,q=0-63", True)
@example("max:k=4,v=64,q=64-64", True)
@example("max:k=4,v=64,q=0-1,q=2-3", True)
@example("max:k=1,v=1,q=0-0", True)
@example("max:k=12001,v=1", False)
@example("max:k=999999,v=2048", False)
def test_any_text_is_a_task_or_refused_in_one_line(text: str, parts: bool) -> None:
    try:
        task = parse_task(text, parts=parts)
    except TaskError as error:
        assert "\n" not in str(error)
        return
    again = parse_task(task.name, parts=parts)
    assert again.name == task.name and again.digest == task.digest
    assert task.total == len(task.queries) * task.v ** (task.k - 1) and task.total >= 1


DECEPTIVE = ["I\n32", "I\x1b[2J", "I\u202e32", "I\x7f2"]


@pytest.mark.parametrize("kind", DECEPTIVE)
def test_reasons_are_one_printable_line(kind: str, tmp_path: Path) -> None:
    spoilt = {"grid": GOOD.entries["grid"]._replace(kind=kind)}
    assert check(signed(GOOD.claim, GOOD.entries | spoilt), GOOD.model).reason.isprintable()


@pytest.mark.parametrize("kind", DECEPTIVE)
def test_refusals_of_a_model_are_one_printable_line(kind: str, tmp_path: Path) -> None:
    header = {"embed.W_E": {"dtype": kind, "shape": [1], "data_offsets": [0, 4]}}
    with pytest.raises(ModelError) as caught:
        load_model(write_model(tmp_path, with_header(json.dumps(header), b"1234")))
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("field", ["bound", "format", "x" * 100_000])
def test_reasons_are_short(field: str) -> None:
    changed = GOOD.claim | {field: "x" * 100_000}
    assert len(check(signed(changed, GOOD.entries), GOOD.model).reason) < 2000


def test_the_files_that_are_cut_up_are_good() -> None:
    for s in (GOOD, COMPOSED):
        assert check(s.data, s.model, s.task).valid and reads(s.data)
    assert reads(RAW)
