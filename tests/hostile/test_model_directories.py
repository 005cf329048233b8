"""Bad model directories: each is refused with one line that names the file and what is wrong."""

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compactproofs.kernel import ModelError, load_model
from model_directories import (
    CONFIG,
    SHAPES,
    as_version_4,
    random_tensors,
    safetensors_bytes,
    stored,
    write_model,
)

TENSORS = random_tensors()
RAW = safetensors_bytes(stored(TENSORS))
CONFIG_TEXT = json.dumps(CONFIG)


def refusal(directory: Path) -> str:
    with pytest.raises(ModelError) as caught:
        load_model(directory)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 1000
    return message


def test_the_directory_to_start_from_is_good(tmp_path: Path) -> None:
    assert load_model(write_model(tmp_path, TENSORS)).n_ctx == 3
    assert load_model(write_model(tmp_path, as_version_4(TENSORS))).n_ctx == 3


# Files.


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("how", ["missing", "directory"])
def test_a_missing_file_is_named(missing: str, how: str, tmp_path: Path) -> None:
    write_model(tmp_path)
    (tmp_path / missing).unlink()
    if how == "directory":
        (tmp_path / missing).mkdir()
    message = refusal(tmp_path)
    assert f"{missing}: cannot be read" in message
    assert "a model is a directory with config.json and model.safetensors" in message


def test_no_directory_at_all(tmp_path: Path) -> None:
    assert "config.json: cannot be read" in refusal(tmp_path / "nowhere")
    file = tmp_path / "file"
    file.write_text("x")
    assert "config.json: cannot be read" in refusal(file)


# Configs.


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in CONFIG.items() if key != name}


REFUSED_FIELDS: list[tuple[dict[str, Any], str]] = [
    ({"n_layers": 2}, "2 layers, 1 heads and an MLP of 0 neurons"),
    ({"n_heads": 2}, "1 layers, 2 heads and an MLP of 0 neurons"),
    ({"attn_only": False, "act_fn": "gelu"}, "act_fn = 'gelu' is not supported yet"),
    ({"attn_only": False, "act_fn": "relu"}, "1 heads and an MLP of"),
    ({"attn_only": 1}, "attn_only = 1 is not supported yet"),
    ({"attn_only": None}, "attn_only = None is not supported yet"),
    ({"normalization_type": "LN"}, "normalization_type = 'LN' is not supported yet"),
    ({"normalization_type": "LNPre"}, "normalization_type = 'LNPre'"),
    ({"normalization_type": False}, "normalization_type = False"),
    ({"positional_embedding_type": "rotary"}, "positional_embedding_type = 'rotary'"),
    ({"positional_embedding_type": "shortformer"}, "positional_embedding_type = 'shortformer'"),
    ({"attention_dir": "backwards"}, "attention_dir = 'backwards'"),
    ({"attention_dir": None}, "attention_dir = None"),
    ({"surprise": 3}, "unknown field 'surprise' = 3"),
    ({"W_E": [1]}, "unknown field 'W_E' = [1]"),
    ({"d_model": True}, "d_model = True must be a positive integer"),
    ({"n_layers": True}, "n_layers = True must be a positive integer"),
    ({"d_head": 0}, "d_head = 0 must be a positive integer"),
    ({"n_ctx": -3}, "n_ctx = -3 must be a positive integer"),
    ({"d_vocab": 5.0}, "d_vocab = 5.0 must be a positive integer"),
    ({"d_vocab": "5"}, "d_vocab = '5' must be a positive integer"),
    ({"d_model": None}, "d_model = None must be a positive integer"),
    ({"d_model": [4]}, "d_model = [4] must be a positive integer"),
    ({"d_vocab_out": 0}, "d_vocab_out = 0 must be a positive integer"),
    ({"d_vocab_out": -2}, "d_vocab_out = -2 must be a positive integer"),
    ({"d_vocab_out": True}, "d_vocab_out = True must be a positive integer"),
    ({"d_vocab_out": "x"}, "d_vocab_out = 'x' must be a positive integer"),
    ({"attn_scale": 0}, "attn_scale = 0 must be a positive number"),
    ({"attn_scale": -2.0}, "attn_scale = -2.0 must be a positive number"),
    ({"attn_scale": "8"}, "attn_scale = '8' must be a positive number"),
    ({"attn_scale": True}, "attn_scale = True must be a positive number"),
    ({"attn_scale": [1]}, "attn_scale = [1] must be a positive number"),
    ({"use_attn_scale": 1}, "use_attn_scale = 1 must be true or false"),
    ({"use_attn_scale": "no"}, "use_attn_scale = 'no' must be true or false"),
    ({"attn_scores_soft_cap": 30.0}, "attn_scores_soft_cap = 30.0 is not supported"),
    ({"output_logits_soft_cap": 30.0}, "output_logits_soft_cap = 30.0 is not supported"),
    ({"attn_scores_soft_cap": True}, "attn_scores_soft_cap = True is not supported"),
    ({"use_qk_norm": True}, "use_qk_norm = True is not supported"),
    ({"use_qk_norm": 0}, "use_qk_norm = 0 is not supported"),
    ({"final_rms": True}, "final_rms = True is not supported"),
    ({"use_local_attn": True}, "use_local_attn = True is not supported"),
    ({"parallel_attn_mlp": True}, "parallel_attn_mlp = True is not supported"),
    ({"post_embedding_ln": True}, "post_embedding_ln = True is not supported"),
    ({"scale_embedding": True}, "scale_embedding = True is not supported"),
    ({"n_key_value_heads": 1}, "n_key_value_heads = 1 is not supported"),
    ({"clip_qkv": 1.0}, "clip_qkv = 1.0 is not supported"),
    ({"use_attention_sinks": True}, "use_attention_sinks = True is not supported"),
    ({"use_logn_attn": True}, "use_logn_attn = True is not supported"),
    ({"architecture": "GPT2LMHeadModel"}, "architecture = 'GPT2LMHeadModel' is not supported"),
]


@pytest.mark.parametrize(("fields", "message"), REFUSED_FIELDS, ids=lambda x: str(x)[:40])
def test_a_refused_field_is_named_with_its_value(
    fields: dict[str, Any], message: str, tmp_path: Path
) -> None:
    seen = refusal(write_model(tmp_path, TENSORS, CONFIG | fields))
    assert "config.json: " in seen
    assert message in seen


@pytest.mark.parametrize(
    "name",
    [
        *("n_layers", "n_heads", "d_model", "d_head", "d_vocab", "n_ctx"),
        *("attn_only", "normalization_type"),
    ],
)
def test_a_missing_field_is_named(name: str, tmp_path: Path) -> None:
    message = refusal(write_model(tmp_path, TENSORS, without(name)))
    assert f"config.json: the field {name!r} is missing" in message


REFUSED_TEXTS: list[tuple[str | bytes, str]] = [
    ("", "not valid JSON"),
    ("{", "not valid JSON"),
    (CONFIG_TEXT[:-1], "not valid JSON"),
    (CONFIG_TEXT + "x", "not valid JSON"),
    (CONFIG_TEXT.encode()[:-1] + b', "seed": "\xff"}', "not valid JSON"),
    (b"\xff\xfe\x00", "not valid JSON"),
    (CONFIG_TEXT[:-1] + ', "n_ctx": 4}', "the key 'n_ctx' occurs twice"),
    (CONFIG_TEXT[:-1] + ', "seed": {"a": 1, "a": 1}}', "the key 'a' occurs twice"),
    (CONFIG_TEXT.replace("-1.0", "NaN"), "NaN is not a JSON number"),
    (CONFIG_TEXT.replace("-1.0", "Infinity"), "Infinity is not a JSON number"),
    (CONFIG_TEXT.replace("-1.0", "1e999"), "attn_scale = inf must be a positive number"),
    (CONFIG_TEXT.replace("-1.0", "1e-999"), "attn_scale = 0.0 must be a positive number"),
    (CONFIG_TEXT.replace("-1.0", "9" * 5000), "not valid JSON"),
    ("[]", "must be a JSON object"),
    ('"model"', "must be a JSON object"),
    ("null", "must be a JSON object"),
    ("[" * 100_000, "JSON nested too deeply"),
    ('{"seed": ' * 100_000, "JSON nested too deeply"),
]


@pytest.mark.parametrize(("text", "message"), REFUSED_TEXTS, ids=lambda x: str(x)[:30])
def test_a_config_that_is_not_one_json_object(
    text: str | bytes, message: str, tmp_path: Path
) -> None:
    seen = refusal(write_model(tmp_path, TENSORS, text))
    assert "config.json: " in seen
    assert message in seen


@pytest.mark.parametrize("depth", [100, 300, 600, 900, 950, 990, 1000, 3000])
def test_any_depth_of_nesting_ends_in_one_line(depth: int, tmp_path: Path) -> None:
    nested = "[" * depth + "]" * depth
    for field in ("surprise", "d_model", "n_key_value_heads"):
        text = CONFIG_TEXT[:-1] + f', "{field}": {nested}}}'
        with pytest.raises(ModelError):
            load_model(write_model(tmp_path, TENSORS, text.replace(f'"{field}": 4, ', "")))


def test_an_absurd_scale_is_refused(tmp_path: Path) -> None:
    refusal(write_model(tmp_path, TENSORS, CONFIG | {"attn_scale": 10**3000}))


# Tensors.


def edited(**edits: Callable[[np.ndarray], np.ndarray] | None) -> dict[str, np.ndarray]:
    """The good tensors with some changed; None takes one away. Dots are written ``__``."""
    tensors = dict(TENSORS)
    for name, edit in edits.items():
        key = name.replace("__", ".")
        array = tensors.pop(key)
        if edit is not None:
            tensors[key] = np.ascontiguousarray(edit(array))
    return tensors


def with_entry(value: float) -> Callable[[np.ndarray], np.ndarray]:
    def edit(array: np.ndarray) -> np.ndarray:
        array = array.copy()
        array.ravel()[-1] = value
        return array

    return edit


REFUSED_TENSORS: list[tuple[dict[str, np.ndarray], str]] = [
    (edited(embed__W_E=with_entry(np.nan)), "tensor 'embed.W_E': it holds NaN or infinity"),
    (edited(unembed__b_U=with_entry(np.inf)), "tensor 'unembed.b_U': it holds NaN or infinity"),
    (edited(embed__W_E=with_entry(-np.inf)), "tensor 'embed.W_E': it holds NaN or infinity"),
    (
        TENSORS | {"blocks.1.attn.W_Q": np.ones((1, 4, 6), np.float32)},
        "unexpected tensor 'blocks.1.attn.W_Q'",
    ),
    (
        TENSORS | {"blocks.0.mlp.W_in": np.ones((4, 9), np.float32)},
        "unexpected tensor 'blocks.0.mlp.W_in'",
    ),
    (TENSORS | {"ln_final.w": np.ones(4, np.float32)}, "unexpected tensor 'ln_final.w'"),
    (TENSORS | {"embed.weight": TENSORS["embed.W_E"]}, "unexpected tensor 'blocks.0.attn.W_K'"),
    (
        TENSORS | {"unembed.weight": np.ones((7, 4), np.float32)},
        "unexpected tensor 'unembed.weight'",
    ),
    (
        as_version_4(TENSORS) | {"unembed.W_U": TENSORS["unembed.W_U"]},
        "unexpected tensor 'unembed.W_U'",
    ),
    (
        as_version_4(TENSORS) | {"blocks.0.attn.mask": np.ones((3, 3), bool)},
        "unexpected tensor 'blocks.0.attn.mask'",
    ),
    (edited(embed__W_E=lambda a: a.T), "tensor 'embed.W_E' has shape (4, 5)"),
    (edited(unembed__W_U=lambda a: a.T), "tensor 'unembed.W_U' has shape (7, 4)"),
    (edited(pos_embed__W_pos=lambda a: a[:2]), "tensor 'pos_embed.W_pos' has shape (2, 4)"),
    (edited(unembed__b_U=lambda a: a[:6]), "tensor 'unembed.b_U' has shape (6,)"),
    (
        edited(blocks__0__attn__W_Q=lambda a: a[0]),
        "tensor 'blocks.0.attn.W_Q' has shape (4, 6), but config.json makes it (1, 4, 6)",
    ),
    (
        edited(blocks__0__attn__W_O=lambda a: np.concatenate([a, a])),
        "tensor 'blocks.0.attn.W_O' has shape (2, 6, 4)",
    ),
    (edited(embed__W_E=lambda a: a.astype(np.int32)), "tensor 'embed.W_E': type I32 is not one of"),
    (edited(embed__W_E=lambda a: a.astype(np.int64)), "tensor 'embed.W_E': type I64 is not one of"),
    (edited(embed__W_E=lambda a: a > 0), "tensor 'embed.W_E': type BOOL is not one of"),
    *(
        (edited(**{name.replace(".", "__"): None}), f"the tensor {name!r} is missing")
        for name in SHAPES
        if ".W_" in name
    ),
    ({}, "the tensor 'embed.W_E' is missing"),
]


@pytest.mark.parametrize(("tensors", "message"), REFUSED_TENSORS, ids=lambda x: str(x)[:40])
def test_a_refused_tensor_is_named(
    tensors: dict[str, np.ndarray], message: str, tmp_path: Path
) -> None:
    seen = refusal(write_model(tmp_path, tensors))
    assert "model.safetensors: " in seen
    assert message in seen


def test_config_and_tensors_must_fit(tmp_path: Path) -> None:
    for name in ("d_model", "d_head", "d_vocab", "n_ctx", "d_vocab_out"):
        message = refusal(write_model(tmp_path, TENSORS, CONFIG | {name: CONFIG[name] + 1}))
        assert "but config.json makes it" in message
        assert str(CONFIG[name] + 1) in message
        message = refusal(write_model(tmp_path, TENSORS, CONFIG | {name: 10**12}))
        assert "this version reads up to" in message


# Bytes.


def header_of(text: str, body: bytes = b"") -> bytes:
    return len(text.encode()).to_bytes(8, "little") + text.encode() + body


ENTRY = '"embed.W_E": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}'

REFUSED_BYTES: list[bytes] = [
    b"",
    b"\0",
    b"\0" * 8,
    b"garbage that is long enough for a header length",
    RAW[:7],
    RAW[:8],
    RAW[:100],
    RAW[:-1],
    RAW + b"\0",
    RAW[:8] + RAW[9:],
    (10**15).to_bytes(8, "little") + RAW[8:],
    (2**64 - 1).to_bytes(8, "little") + RAW[8:],
    (len(RAW) - 7).to_bytes(8, "little") + RAW[8:],
    header_of("[]"),
    header_of("null"),
    header_of("{}", b"1234"),
    header_of("{" + ENTRY + ", " + ENTRY + "}", b"1234"),
    header_of('{"embed.W_E": 3}'),
    header_of('{"embed.W_E": {"dtype": "F32", "shape": [1]}}', b"1234"),
    header_of("{" + ENTRY[:-1] + ', "dtype": "F64"}}', b"1234"),
    header_of("{" + ENTRY[:-1] + ', "extra": 1}}', b"1234"),
    header_of("{" + ENTRY.replace("[1]", "[2]") + "}", b"1234"),
    header_of("{" + ENTRY.replace("[1]", "[-1]") + "}", b"1234"),
    header_of("{" + ENTRY.replace("[1]", "[1.0]") + "}", b"1234"),
    header_of("{" + ENTRY.replace("[0, 4]", "[4, 8]") + "}", b"12345678"),
    header_of("{" + ENTRY.replace("[0, 4]", "[4, 0]") + "}", b"1234"),
    header_of("{" + ENTRY.replace("[0, 4]", "[0, 4000000000000]") + "}", b"1234"),
    header_of("{" + ENTRY.replace("F32", "Q7") + "}", b"1234"),
    header_of("{" + ENTRY + ', "__metadata__": {"a": 1}}', b"1234"),
    header_of("{" + ENTRY + ', "__metadata__": {"a": "1", "a": "2"}}', b"1234"),
    header_of("{" + ENTRY + ', "__metadata__": {}, "__metadata__": {}}', b"1234"),
    header_of('{"a": ' * 5000),
    header_of("{" + " " * 10_000_001 + "}"),
    b"\x80\x04\x95pickle.",
]


@pytest.mark.parametrize("raw", REFUSED_BYTES, ids=lambda raw: str(raw[:40]))
def test_bytes_that_are_not_one_safetensors_file(raw: bytes, tmp_path: Path) -> None:
    assert "model.safetensors: " in refusal(write_model(tmp_path, raw))


def test_a_duplicate_tensor_is_named(tmp_path: Path) -> None:
    twice = safetensors_bytes([*stored(TENSORS), *stored({"embed.W_E": TENSORS["embed.W_E"]})])
    assert "the key 'embed.W_E' occurs twice" in refusal(write_model(tmp_path, twice))


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    for length in range(0, len(RAW), 37):
        refusal(write_model(tmp_path, RAW[:length]))


# Files that are no files, and texts that are no texts.


def fifo(path: Path) -> None:
    os.mkfifo(path)


def listening(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(path.parent)  # the name of a socket is at most 108 bytes
        try:
            server.bind(path.name)
        finally:
            os.chdir(here)


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
@pytest.mark.parametrize(
    "put",
    [
        fifo,
        listening,
        lambda path: path.symlink_to(path.name),
        lambda path: path.symlink_to("nowhere"),
        lambda path: path.symlink_to("/dev/zero"),
        lambda path: path.symlink_to("/dev/stdin"),
        lambda path: path.symlink_to("."),
        lambda path: path.symlink_to("/proc/self/mem"),
    ],
)
def test_what_is_no_regular_file_is_named(
    missing: str, put: Callable[[Path], None], tmp_path: Path
) -> None:
    write_model(tmp_path)
    (tmp_path / missing).unlink()
    put(tmp_path / missing)
    assert missing in refusal(tmp_path)


@pytest.mark.parametrize("name", ["a\nb", "a\x1b[2Jb", "\u202e", "x" * 255, "\udcff"])
def test_a_directory_of_any_name_is_refused_by_that_name(name: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        load_model(tmp_path / name / "model")
    with pytest.raises(ModelError, match="cannot be read"):
        load_model("a" * 10_000)


def test_a_link_to_a_good_model_is_good(tmp_path: Path) -> None:
    write_model(tmp_path / "model", TENSORS)
    (tmp_path / "link").symlink_to("model")
    assert load_model(tmp_path / "link").sha256 == load_model(tmp_path / "model").sha256


@pytest.mark.parametrize(
    "text",
    [
        CONFIG_TEXT.encode("latin-1") + b"\xe9",
        b"\xc0\xaf" + CONFIG_TEXT.encode(),
        CONFIG_TEXT.encode().replace(b'"causal"', b'"caus\xe1l"'),
        CONFIG_TEXT.encode().replace(b'"causal"', b'"causal\x00"'),
        CONFIG_TEXT.encode().replace(b'"causal"', b'"causal\\u0000"'),
        CONFIG_TEXT.replace('"n_ctx"', '"n_ctx\u200b"'),
        CONFIG_TEXT.replace('"n_ctx"', '"n\u0441tx"'),
        CONFIG_TEXT.replace('"n_ctx": 3', '"n_ctx": \u0663'),
        CONFIG_TEXT.replace('"n_ctx": 3', '"n_ctx": 03'),
        CONFIG_TEXT.replace('"n_ctx": 3', '"n_ctx": 3e0'),
        CONFIG_TEXT.replace('"n_ctx": 3', '"n_ctx": 0x3'),
        CONFIG_TEXT.replace('"n_ctx": 3', '"n_ctx": +3'),
        CONFIG_TEXT.replace('"n_ctx": 3', '"n_ctx": 3, "\\u006e_ctx": 3'),
        CONFIG_TEXT[:-1] + ', "../../etc/passwd": 1}',
        CONFIG_TEXT[:-1] + ', "a\\nb\\u001b[2J": "\\u202e"}',
        CONFIG_TEXT[:-1] + ', "a": "' + "x" * 5_000_000 + '"}',
    ],
    ids=range(16),
)
def test_a_config_in_other_letters_is_refused(text: str | bytes, tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        load_model(write_model(tmp_path, TENSORS, text))
    assert "config.json" in str(caught.value) and str(caught.value).isprintable()


@pytest.mark.parametrize(
    "text",
    [
        CONFIG_TEXT.encode("utf-16-le"),
        CONFIG_TEXT.encode("utf-32"),
        b"\xef\xbb\xbf" + CONFIG_TEXT.encode(),
        CONFIG_TEXT.encode()[:-1] + b', "seed": "\xed\xa0\x80"}',
    ],
    ids=["utf-16", "utf-32", "byte order mark", "surrogate"],
)
def test_a_config_that_is_not_plain_utf_8_is_refused(text: bytes, tmp_path: Path) -> None:
    refusal(write_model(tmp_path, TENSORS, text))


@pytest.mark.parametrize("field", ["surprise", "clip_qkv", "n_ctx", "d_vocab_out"])
def test_what_a_config_holds_is_not_quoted_whole(field: str, tmp_path: Path) -> None:
    refusal(write_model(tmp_path, TENSORS, CONFIG | {field: "x" * 1_000_000}))


@pytest.mark.parametrize(
    "name",
    ["", "embed.W_E ", "Embed.W_E", "../embed.W_E", "\u202e", "a\nb", "a\x00b", "x" * 99_999],
)
def test_a_tensor_of_a_strange_name_is_quoted(name: str, tmp_path: Path) -> None:
    tensors = TENSORS | {name: np.ones(1, np.float32)}
    with pytest.raises(ModelError, match="unexpected tensor") as caught:
        load_model(write_model(tmp_path, tensors))
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "fields",
    [
        {"shape": [2**40]},
        {"shape": [2**62, 4]},
        {"shape": [2**64]},
        {"shape": [2**200]},
        {"shape": [0, 2**62], "data_offsets": [0, 0]},
        {"shape": [1] * 65},
        {"shape": [1] * 9},
        {"shape": []},
        {"shape": [0], "data_offsets": [0, 0]},
        {"shape": [True]},
        {"shape": ["1"]},
        {"shape": [[1]]},
        {"shape": None},
        {"shape": 1},
        {"data_offsets": [0, 2**40]},
        {"data_offsets": [0, 2**63]},
        {"data_offsets": [0, 2**64]},
        {"data_offsets": [-4, 0]},
        {"data_offsets": [0]},
        {"data_offsets": [0, 4, 4]},
        {"data_offsets": {"0": 0}},
        {"dtype": "F8_E4M3", "shape": [4]},
        {"dtype": "F4", "shape": [8]},
        {"dtype": "U8", "shape": [4]},
        {"dtype": "C64", "shape": [1], "data_offsets": [0, 8]},
        {"dtype": "f32"},
        {"dtype": ""},
        {"dtype": None},
        {"dtype": 32},
    ],
    ids=str,
)
def test_a_header_that_lies_about_a_tensor_is_refused(fields: Any, tmp_path: Path) -> None:
    entry = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} | fields
    for body in (b"1234", b"", b"12345678"):
        raw = header_of(json.dumps({"embed.W_E": entry}), body)
        assert "model.safetensors: " in refusal(write_model(tmp_path, raw))
