"""Reading a model: the network that TransformerLens runs, and one digest for one function."""

import json
import struct
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exact import WEIGHTS

from compactproofs.estimate import last_position_logits
from compactproofs.kernel import Model, ModelError, load_model
from compactproofs.kernel._ledger import Ledger
from compactproofs.kernel._safetensors import DamagedError, RawTensor, decode_floats, read_tensors
from compactproofs.kernel._tables import enclose_tables
from compactproofs.kernel._tables_arb import arb_tables
from model_directories import (
    CONFIG,
    SHAPES,
    as_version_4,
    random_tensors,
    safetensors_bytes,
    stored,
    write_model,
)

FIXTURES = Path(__file__).parent.parent / "fixtures" / "models"
READABLE = ["tl3-base", "tl3-attnscale", "tl3-noscale", "tl4-base", "tl4-attnscale"]


# The same network as TransformerLens, which wrote both the files and the logits.


def reference(name: str) -> tuple[Model, np.ndarray, np.ndarray]:
    recorded = json.loads((FIXTURES / name / "logits.json").read_text())
    return load_model(FIXTURES / name), np.array(recorded["tokens"]), np.array(recorded["logits"])


def straight_logits(model: Model, tokens: np.ndarray) -> np.ndarray:
    """The definition, one sequence at a time."""
    rows = []
    for word in tokens:
        residual = model.W_E[word] + model.W_pos
        query = residual[-1] @ model.W_Q + model.b_Q
        scores = (
            (residual @ model.W_K + model.b_K) @ query / float(model.score_divisor_squared) ** 0.5
        )
        weights = np.exp(scores - scores.max())
        values = residual @ model.W_V + model.b_V
        after = residual[-1] + (weights @ values / weights.sum()) @ model.W_O + model.b_O
        rows.append(after @ model.W_U + model.b_U)
    return np.array(rows)


def logits_of_tables(tables: list[np.ndarray], tokens: np.ndarray) -> np.ndarray:
    """docs/theory.md section 2: ``h + sum_i w_i o / sum_i w_i``."""
    scores, values, direct = tables
    rows = []
    for word in tokens:
        query, positions = word[-1], np.arange(len(word))
        weights = np.exp(scores[positions, query, word])
        mixed = weights @ values[positions, word] / weights.sum()
        rows.append(direct[query] + mixed)
    return np.array(rows)


@pytest.mark.parametrize("name", READABLE)
def test_the_weights_read_give_the_logits_of_transformerlens(name: str) -> None:
    model, tokens, logits = reference(name)
    np.testing.assert_allclose(straight_logits(model, tokens), logits, rtol=0, atol=1e-9)
    np.testing.assert_allclose(last_position_logits(model, tokens), logits, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", READABLE)
def test_the_tables_give_the_logits_of_transformerlens(name: str) -> None:
    model, tokens, logits = reference(name)
    balls = [ball.mid for ball in enclose_tables(model, Ledger())]
    np.testing.assert_allclose(logits_of_tables(balls, tokens), logits, rtol=0, atol=1e-9)
    middles = [np.array(table, dtype=object).astype(np.float64) for table in arb_tables(model, 128)]
    np.testing.assert_allclose(logits_of_tables(middles, tokens), logits, rtol=0, atol=1e-9)


@pytest.mark.parametrize("part", ["W_Q", "W_K", "W_V", "W_O", "b_Q", "b_V", "b_O", "b_U", "W_pos"])
def test_the_comparison_would_see_a_wrong_part(part: str) -> None:
    model, tokens, logits = reference("tl3-base")
    wrong = replace(model, **{part: getattr(model, part)[..., ::-1].copy()})
    assert np.abs(straight_logits(wrong, tokens) - logits).max() > 1e-4
    balls = [ball.mid for ball in enclose_tables(wrong, Ledger())]
    assert np.abs(logits_of_tables(balls, tokens) - logits).max() > 1e-4


def test_what_transformerlens_4_leaves_ambiguous_is_refused_with_the_way_out() -> None:
    with pytest.raises(ModelError) as caught:
        load_model(FIXTURES / "tl4-noscale")
    message = str(caught.value)
    assert (
        "use_attn_scale = false means no scaling in TransformerLens 3 and sqrt(d_head)" in message
    )
    assert "write use_attn_scale = true and the attn_scale that you mean" in message


def test_a_second_head_is_refused_by_name() -> None:
    with pytest.raises(ModelError, match="1 layers, 2 heads and an MLP of 0 neurons"):
        load_model(FIXTURES / "tl3-twohead")


# Scales.


@pytest.mark.parametrize(
    ("fields", "square"),
    [
        ({}, 6),
        ({"attn_scale": -1}, 6),
        ({"attn_scale": None}, 6),
        ({"attn_scale": 2}, 4),
        ({"attn_scale": 1.7}, Fraction(1.7) ** 2),
        ({"use_attn_scale": False}, 1),
        ({"use_attn_scale": False, "attn_scale": 3.0}, 1),
    ],
)
def test_the_scale_is_exact(fields: dict[str, Any], square: Fraction, tmp_path: Path) -> None:
    assert load_model(write_model(tmp_path, config=CONFIG | fields)).score_divisor_squared == square


def test_outputs_default_to_the_vocabulary(tmp_path: Path) -> None:
    tensors = random_tensors()
    tensors["unembed.W_U"] = tensors["unembed.W_U"][:, :5].copy()
    tensors["unembed.b_U"] = tensors["unembed.b_U"][:5].copy()
    for out in ({"d_vocab_out": -1}, {}):
        config = {name: x for name, x in CONFIG.items() if name != "d_vocab_out"} | out
        assert load_model(write_model(tmp_path, tensors, config)).d_vocab_out == 5


# Digests.


def digest(tmp_path: Path, tensors: Any = None, config: Any = CONFIG) -> str:
    return load_model(write_model(tmp_path, tensors, config)).sha256


def test_equal_functions_have_equal_digests(tmp_path: Path) -> None:
    tensors = random_tensors()
    tensors["unembed.b_U"][:] = 0
    tensors["blocks.0.attn.W_Q"][0, 0, 0] = 0
    expected = digest(tmp_path, tensors)
    wide = {name: array.astype(np.float64) for name, array in tensors.items()}
    without = {name: array for name, array in tensors.items() if name != "unembed.b_U"}
    minus = {name: np.where(array == 0, np.float32(-0.0), array) for name, array in tensors.items()}
    assert np.signbit(minus["unembed.b_U"]).all()
    buffers = {
        "blocks.0.attn.mask": np.ones((3, 3), dtype=bool),
        "blocks.0.attn.IGNORE": np.array(-np.inf, dtype=np.float32),
    }
    backwards = dict(reversed(list(tensors.items())))
    for same in (wide, without, minus, tensors | buffers, backwards, as_version_4(tensors)):
        assert digest(tmp_path, same) == expected
    for fields in ({"seed": 3}, {"dtype": "x"}, {"eps": 1.0, "act_fn": "relu"}, {"attn_scale": -1}):
        assert digest(tmp_path, tensors, CONFIG | fields) == expected
    metadata = safetensors_bytes(stored(tensors), more_header=', "__metadata__": {"format": "pt"}')
    assert digest(tmp_path, metadata) == expected


@pytest.mark.parametrize("scale", ["base", "attnscale"])
def test_both_families_of_files_by_transformerlens_have_one_digest(
    scale: str, tmp_path: Path
) -> None:
    digests = []
    for family in ("tl3", "tl4"):
        config = json.loads((FIXTURES / f"{family}-{scale}" / "config.json").read_text())
        config["attn_scale"] = -1 if scale == "base" else config["attn_scale"]
        raw = (FIXTURES / f"{family}-{scale}" / "model.safetensors").read_bytes()
        digests.append(digest(tmp_path, raw, config))
    assert digests[0] == digests[1]


@pytest.mark.parametrize("name", SHAPES)
def test_every_weight_is_in_the_digest(name: str, tmp_path: Path) -> None:
    tensors = {key: array.astype(np.float64) for key, array in random_tensors().items()}
    expected = digest(tmp_path, tensors)
    for index in {0, tensors[name].size - 1}:
        other = {key: array.copy() for key, array in tensors.items()}
        other[name].ravel()[index] = np.nextafter(tensors[name].ravel()[index], np.inf)
        assert digest(tmp_path, other) != expected


def test_config_that_changes_the_function_is_in_the_digest(tmp_path: Path) -> None:
    changes: list[dict[str, Any]] = [
        {},
        {"attn_scale": 2.0},
        {"attn_scale": float(np.nextafter(2.0, 3.0))},
        {"use_attn_scale": False},
        {"attention_dir": "bidirectional"},
    ]
    digests = {digest(tmp_path, config=CONFIG | change) for change in changes}
    assert len(digests) == len(changes)


def test_a_transposed_square_matrix_is_another_model(tmp_path: Path) -> None:
    size = 3
    config = CONFIG | dict.fromkeys(("d_model", "d_head", "d_vocab", "d_vocab_out", "n_ctx"), size)
    rng = np.random.default_rng(0)
    tensors = {
        name: rng.normal(size=(1,) * (len(shape) - 2) + (size, size)).astype(np.float32)
        for name, shape in SHAPES.items()
        if ".W_" in name
    }
    digests = {digest(tmp_path, tensors, config), digest(tmp_path, as_version_4(tensors), config)}
    assert len(digests) == 1
    for name in tensors:
        transposed = tensors[name].swapaxes(-1, -2).copy()
        digests.add(digest(tmp_path, tensors | {name: transposed}, config))
    swapped = tensors | {
        "blocks.0.attn.W_Q": tensors["blocks.0.attn.W_K"],
        "blocks.0.attn.W_K": tensors["blocks.0.attn.W_Q"],
    }
    digests.add(digest(tmp_path, swapped, config))
    assert len(digests) == 1 + len(tensors) + 1


def test_what_is_ignored_is_listed(tmp_path: Path) -> None:
    tensors = random_tensors() | {"blocks.0.attn.mask": np.ones((3, 3), dtype=bool)}
    config = CONFIG | {"seed": 1, "device": "cpu", "final_rms": False}
    model = load_model(write_model(tmp_path, tensors, config))
    assert set(model.ignored) == {"seed", "device", "final_rms", "blocks.0.attn.mask"}


# Exactness of every storage format.


def half(bits: int, exponent_bits: int, mantissa_bits: int) -> Fraction | None:
    """The value of a 16-bit float by the definition of the format; None if it is not finite."""
    sign = -1 if bits >> 15 else 1
    exponent = (bits >> mantissa_bits) & ((1 << exponent_bits) - 1)
    mantissa = bits & ((1 << mantissa_bits) - 1)
    if exponent == (1 << exponent_bits) - 1:
        return None
    bias = (1 << (exponent_bits - 1)) - 1
    if exponent:
        mantissa |= 1 << mantissa_bits
    return sign * mantissa * Fraction(2) ** (max(exponent, 1) - bias - mantissa_bits)


@pytest.mark.parametrize(("dtype", "split"), [("BF16", (8, 7)), ("F16", (5, 10))])
def test_all_16_bit_patterns(dtype: str, split: tuple[int, int]) -> None:
    values = [half(bits, *split) for bits in range(1 << 16)]
    finite = [bits for bits, value in enumerate(values) if value is not None]
    raw = RawTensor(dtype, (len(finite),), struct.pack(f"<{len(finite)}H", *finite))
    decoded = decode_floats(raw)
    assert decoded.dtype == np.float64
    assert [Fraction(x) for x in decoded.tolist()] == [values[bits] for bits in finite]
    not_finite = sorted(set(range(1 << 16)) - set(finite))
    assert len(not_finite) == 2 * (1 << split[1])
    for bits in not_finite:
        with pytest.raises(DamagedError, match="NaN or infinity"):
            decode_floats(RawTensor(dtype, (1,), struct.pack("<H", bits)))


@pytest.mark.parametrize(("dtype", "code"), [("F32", "f"), ("F64", "d")])
def test_32_and_64_bit_numbers_are_kept_exactly(dtype: str, code: str) -> None:
    rng = np.random.default_rng(0)
    raw = rng.integers(256, size=8 * 4000, dtype=np.uint8).tobytes()
    values = [x for (x,) in struct.iter_unpack(f"<{code}", raw) if np.isfinite(x)]
    data = struct.pack(f"<{len(values)}{code}", *values)
    assert decode_floats(RawTensor(dtype, (len(values),), data)).tolist() == values


def test_bfloat16_files_are_read(tmp_path: Path) -> None:
    tensors = random_tensors()
    bits = {name: (array.view(np.uint32) >> 16).astype("<u2") for name, array in tensors.items()}
    cut = {n: (b.astype(np.uint32) << 16).view(np.float32) for n, b in bits.items()}
    entries = [(name, "BF16", array.shape, array.tobytes()) for name, array in bits.items()]
    assert digest(tmp_path, safetensors_bytes(entries)) == digest(tmp_path, cut)


def test_tensors_and_metadata_are_read_as_stored() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    raw = safetensors_bytes(stored({"a": array}), more_header=', "__metadata__": {"b": "c"}')
    tensors, metadata = read_tensors(raw)
    assert tensors == {"a": RawTensor("F32", (2, 3), array.tobytes())}
    assert metadata == {"b": "c"}


def test_fixture_weights_are_float32_numbers() -> None:
    model = load_model(FIXTURES / "tl3-base")
    for name in WEIGHTS:
        array = getattr(model, name)
        assert array.dtype == np.float64
        assert (array == array.astype(np.float32)).all()


def test_a_model_cannot_be_changed_and_its_digest_is_of_what_it_holds() -> None:
    embedding = np.arange(6.0).reshape(3, 2)
    square, bias = np.eye(2), np.zeros(2)
    parts: dict[str, Any] = {name: square for name in ("W_Q", "W_K", "W_V", "W_O")}
    parts |= {name: bias for name in ("b_Q", "b_K", "b_V", "b_O")}
    parts |= {"W_E": embedding, "W_pos": np.ones((4, 2)), "W_U": np.ones((2, 3))}
    model = Model(score_divisor_squared=Fraction(2), b_U=np.zeros(3), **parts)
    digest = model.sha256
    embedding[0, 0] = 7.0
    assert model.W_E[0, 0] == 0.0 and model.sha256 == digest
    for name in parts:
        with pytest.raises(ValueError, match="read-only"):
            getattr(model, name)[0] = 1.0
    assert replace(model, W_E=embedding).sha256 != digest
    assert replace(model, score_divisor_squared=Fraction(3)).sha256 != digest
    with pytest.raises(ValueError, match="WRITEABLE"):
        model.W_E.flags.writeable = True
    with pytest.raises(ModelError, match="score_divisor_squared = 0"):
        replace(model, score_divisor_squared=Fraction(0))
    with pytest.raises(ModelError, match="W_U holds NaN"):
        replace(model, W_U=np.full((2, 3), np.nan))
