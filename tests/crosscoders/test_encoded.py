import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from crosscoder_examples import KINDS, SITES, D, H, acts, as_users_call, make
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from compactproofs.crosscoders import (
    ActivationStore,
    ActivationWriter,
    CrosscoderError,
    EncodedDataset,
    StoreSettings,
    encode_dataset,
    encoded_from_codes,
    load_encoded,
    save_encoded,
)
from compactproofs.models import _directory

N, N_CTX, V = 40, 3, 7
SHA = "ab" * 32


def _inputs(n: int = N) -> dict[str, Any]:
    rng = np.random.default_rng(n)
    return {
        "token_ids": rng.integers(V, size=(n, N_CTX)),
        "position": np.full(n, N_CTX - 1),
        "label": rng.integers(V, size=n),
        "d_vocab": V,
        "d_vocab_out": V,
    }


def _dataset(**changes: Any) -> EncodedDataset:
    encoded = encode_dataset(make(), acts(N), **_inputs(), task="max:k=3,v=7")
    return replace(encoded, **changes) if changes else encoded


CODES = hnp.arrays(
    np.float32,
    st.tuples(st.integers(0, 12), st.integers(1, 9)),
    elements=st.sampled_from([0.0, 0.0, 0.25, 1.0, 3.5, 1e-30]),
)


def _same(one: EncodedDataset, other: EncodedDataset) -> None:
    for name, value in vars(one).items():
        theirs = getattr(other, name)
        if isinstance(value, np.ndarray):
            assert value.dtype == theirs.dtype
            np.testing.assert_array_equal(value, theirs)
        else:
            assert value == theirs


@settings(deadline=None)  # for a busy machine
@given(codes=CODES)
def test_compressed_rows_hold_the_codes(codes: np.ndarray) -> None:
    n, n_features = codes.shape
    encoded = encoded_from_codes(codes, **_inputs(n))
    assert (len(encoded), encoded.d_sae) == codes.shape
    np.testing.assert_array_equal(encoded.dense(), codes)
    np.testing.assert_array_equal(encoded.active(), (codes > 0).sum(axis=1))
    if n:
        np.testing.assert_array_equal(encoded.firing_frequency(), (codes > 0).mean(axis=0))
        some = np.random.default_rng(n_features).integers(n, size=5)
        np.testing.assert_array_equal(encoded.dense(some), codes[some])
    np.testing.assert_array_equal(encoded.dense(slice(1, -1, 2)), codes[1:-1:2])


@settings(deadline=None)  # for a busy machine
@given(codes=CODES)
def test_what_is_saved_is_what_is_loaded(
    codes: np.ndarray, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("encoded") / "d"
    encoded = encoded_from_codes(
        codes, **_inputs(len(codes)), crosscoder_sha256=SHA, k=9, task="max:k=3,v=7"
    )
    for written in (encoded, encoded.quantised(2)):
        save_encoded(path, written, force=True)
        _same(load_encoded(path, crosscoder_sha256=SHA, task="max:k=3,v=7"), written)


def _levels_of(encoded: EncodedDataset) -> np.ndarray:
    if encoded.levels is None:
        raise AssertionError("no levels")
    return encoded.levels


@settings(deadline=None)  # for a busy machine
@given(codes=CODES, n_levels=st.integers(1, 6), method=st.sampled_from(["quantile", "uniform"]))
def test_every_code_becomes_the_nearest_of_its_levels(
    codes: np.ndarray, n_levels: int, method: str
) -> None:
    encoded = encoded_from_codes(codes, **_inputs(len(codes)))
    quantised = encoded.quantised(n_levels, method)
    levels = _levels_of(quantised)
    assert levels.shape == (codes.shape[1], n_levels)
    np.testing.assert_array_equal(quantised.indices, encoded.indices)
    for feature, before, after in zip(
        encoded.indices, encoded.values, quantised.values, strict=True
    ):
        mine = levels[feature].astype(np.float64)
        distances = np.abs(mine - before)
        assert after in mine
        assert np.abs(np.float64(after) - before) <= distances.min() * (1 + 1e-12)
        if len(np.unique(encoded.values[encoded.indices == feature])) <= n_levels:
            assert after == before
    never = np.bincount(encoded.indices, minlength=codes.shape[1]) == 0
    assert (levels[never] == 0).all() and (levels[~never] > 0).all()
    _same(quantised.quantised(n_levels, method), quantised)


def test_uniform_levels_err_by_at_most_half_a_step() -> None:
    rng = np.random.default_rng(0)
    codes = rng.uniform(1, 3, size=(500, 4)).astype(np.float32)
    encoded = encoded_from_codes(codes, **_inputs(500))
    error = np.abs(encoded.quantised(8, "uniform").dense() - codes).max(axis=0)
    assert (error <= np.ptp(codes, axis=0) / 16 * (1 + 1e-5)).all()
    shares = np.unique(encoded.quantised(5, "quantile").values, return_counts=True)[1] / 500
    assert len(shares) == 20 and shares.max() < 0.3


def test_quantisation_out_of_range_is_refused() -> None:
    with pytest.raises(CrosscoderError, match="method = 'kmeans' is not one of"):
        _dataset().quantised(2, "kmeans")
    with pytest.raises(CrosscoderError, match="n_levels = 0"):
        _dataset().quantised(0)


@pytest.mark.parametrize("k", [None, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_encoding_is_that_of_the_crosscoder(kind: str, k: int | None) -> None:
    crosscoder = make(kind, model_sha256=SHA)
    encoded = encode_dataset(crosscoder, acts(N), **_inputs(), task="t", k=k, batch=7)
    codes = crosscoder.encode(acts(N)) if k is None else crosscoder.encode_topk(acts(N), k)
    np.testing.assert_allclose(encoded.dense(), codes, rtol=1e-5, atol=1e-6)
    assert encoded.crosscoder_sha256 == crosscoder.sha256
    assert (encoded.model_sha256, encoded.task) == (SHA, "t")
    assert encoded.k == (k or (3 if kind == "topk_crosscoder" else None))


def _stored(path: Path, settings: StoreSettings) -> ActivationStore:
    with ActivationWriter(path, settings) as writer:
        writer.write(acts(N))
    return ActivationStore(path)


def test_a_store_is_encoded_if_it_is_of_the_same_sites_and_model(tmp_path: Path) -> None:
    crosscoder = make(model_sha256=SHA)
    store = _stored(tmp_path / "s", StoreSettings(SITES, D, model_sha256=SHA, shard_rows=16))
    encoded = encode_dataset(crosscoder, store, **_inputs(), batch=9)
    np.testing.assert_allclose(encoded.dense(), crosscoder.encode(acts(N)), rtol=1e-5, atol=1e-6)
    other = _stored(tmp_path / "o", StoreSettings(SITES, D, model_sha256="cd" * 32))
    with pytest.raises(CrosscoderError, match="of the model cdcd.* is of abab"):
        encode_dataset(crosscoder, other, **_inputs())
    turned = _stored(tmp_path / "t", StoreSettings(SITES[::-1], D))
    with pytest.raises(CrosscoderError, match="holds the sites blocks.1.hook_resid_mid"):
        encode_dataset(crosscoder, turned, **_inputs())


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.full((2, 3), np.nan, np.float32), "values of row 0 holds nan"),
        (np.full((2, 3), -1, np.float32), "values of row 0 holds -1.0"),
        (np.full((2, 3), np.inf, np.float32), "values of row 0 holds inf"),
        (np.ones((2, 3), int), "codes are int64"),
        (np.ones(3, np.float32), r"codes are float32 \(3,\)"),
    ],
)
def test_codes_that_are_none_are_refused(bad: np.ndarray, message: str) -> None:
    with pytest.raises(CrosscoderError, match=message):
        encoded_from_codes(bad, **_inputs(2))


def _small(**changes: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "indptr": np.array([0, 2, 2, 3]),
        "indices": np.array([0, 3, 1], np.int32),
        "values": np.array([1, 2, 3], np.float32),
        "token_ids": np.array([[0, 1], [2, 3], [4, 4]], np.int32),
        "position": np.array([1, 1, 0], np.int32),
        "label": np.array([1, 3, 4], np.int32),
        "d_sae": 4,
        "d_vocab": 5,
        "d_vocab_out": 5,
        "k": 2,
    }
    return {**fields, **changes}


LEVELS = np.array([[1, 1], [3, 4], [0, 0], [1, 2]], np.float32)


def test_the_small_one_is_accepted() -> None:
    rows = EncodedDataset(**_small(levels=LEVELS))
    np.testing.assert_array_equal(rows.dense(), [[1, 0, 0, 2], [0, 0, 0, 0], [0, 3, 0, 0]])
    np.testing.assert_allclose(rows.firing_frequency(), np.array([1, 1, 0, 1]) / 3)
    with pytest.raises(ValueError, match="read-only"):
        rows.values[0] = 1
    with pytest.raises(CrosscoderError, match="row 3 is not one of the 3"):
        rows.dense(np.array([3]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"indptr": np.array([0, 2, 3])}, r"indptr is int64 \(3,\)"),
        ({"indptr": np.array([0, 2, 1, 3])}, "indptr must begin with 0 and never decrease"),
        ({"indptr": np.array([1, 2, 2, 3])}, "indptr must begin with 0"),
        ({"indptr": np.array([0, 2, 2, 4])}, r"values is float32 \(3,\), not floats \(4,\)"),
        ({"indptr": np.array([0.0, 2, 2, 3])}, "indptr is float64"),
        ({"indices": np.array([0, 4, 1])}, "indices of row 1 is 4, not from 0 to 3"),
        ({"indices": np.array([0, -1, 1])}, "indices of row 1 is -1"),
        ({"indices": np.array([3, 0, 1])}, "indices of row 0 are not in increasing order"),
        ({"indices": np.array([3, 3, 1])}, "indices of row 0 are not in increasing order"),
        ({"indices": np.array([0, 1])}, r"indices is int64 \(2,\)"),
        ({"values": np.array([1, np.nan, 3])}, "values of row 0 holds nan"),
        ({"values": np.array([1, 2, 0.0])}, "values of row 2 holds 0.0"),
        ({"values": np.array([1, 2, -1.0])}, "values of row 2 holds -1.0"),
        ({"k": 1}, "row 0 has 2 active features, more than k = 1"),
        ({"k": 0}, "k = 0"),
        ({"token_ids": np.array([[0, 1], [2, 5], [4, 4]])}, "token_ids of row 1 is 5"),
        ({"token_ids": np.array([0, 1, 2])}, "token_ids has shape"),
        ({"position": np.array([1, 2, 0])}, "position of row 1 is 2, not from 0 to 1"),
        ({"label": np.array([1, 3, 5])}, "label of row 2 is 5, not from 0 to 4"),
        ({"label": np.array([1, -3, 4])}, "label of row 1 is -3"),
        ({"label": np.array([1, 3])}, r"label is int64 \(2,\)"),
        ({"d_vocab": 1 << 40}, "d_vocab = 1099511627776 is more than"),
        ({"d_sae": 0}, "d_sae = 0"),
        ({"crosscoder_sha256": "x"}, "crosscoder_sha256 = 'x'"),
        ({"model_sha256": None}, "model_sha256 = None"),
        ({"task": 3}, "task = 3"),
        ({"levels": LEVELS[:3]}, "levels is float32"),
        ({"levels": -LEVELS}, "levels must be finite"),
        ({"levels": LEVELS[:, ::-1]}, "levels must be finite, at least 0 and non-decreasing"),
        ({"levels": np.full((4, 2), np.nan)}, "levels must be finite"),
        ({"levels": LEVELS + 1}, "values of row 0: 1.0 is not a level of feature 0"),
    ],
)
def test_what_is_no_data_set_is_refused_by_name(changes: dict[str, Any], message: str) -> None:
    with as_users_call(), pytest.raises(CrosscoderError, match=message) as caught:
        EncodedDataset(**_small(**changes))
    assert "\n" not in str(caught.value)


def test_more_features_than_k_are_refused_on_encoding() -> None:
    crosscoder = make("l1_crosscoder")
    encoded = encode_dataset(crosscoder, acts(N), **_inputs())
    with pytest.raises(CrosscoderError, match="more than k = 1; encode with encode_topk"):
        replace(encoded, k=1)


def test_equal_data_sets_give_equal_bytes(tmp_path: Path) -> None:
    one, two = (save_encoded(tmp_path / name, _dataset()) for name in ("one", "two"))
    assert sorted(os.listdir(one)) == ["encoded.json", "encoded.safetensors"]
    for name in os.listdir(one):
        assert (one / name).read_bytes() == (two / name).read_bytes()


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"crosscoder_sha256": SHA}, "crosscoder_sha256 is '.*', not 'abab"),
        ({"model_sha256": SHA}, "model_sha256 is '', not 'abab"),
        ({"task": "max:k=4,v=64"}, "task is 'max:k=3,v=7', not 'max:k=4,v=64'"),
    ],
)
def test_one_of_another_crosscoder_model_or_task_is_refused(
    tmp_path: Path, asked: dict[str, Any], message: str
) -> None:
    path = save_encoded(tmp_path / "d", _dataset())
    with pytest.raises(CrosscoderError, match=message):
        load_encoded(path, **asked)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 3}, "format_version is 3"),
        ({"more": 3}, "the field 'more' is unknown"),
        ({"rows": 41}, "it holds 40 rows, but encoded.json states 41"),
        ({"k": 1}, "more than k = 1"),
        ({"d_vocab_out": 1}, "label of row"),
        ({"d_vocab": True}, "d_vocab = True"),
        ({"rows_sha256": ""}, "its digest is"),
    ],
)
def test_changed_settings_are_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    path = save_encoded(tmp_path / "d", _dataset())
    stated = json.loads((path / "encoded.json").read_text())
    (path / "encoded.json").write_text(json.dumps({**stated, **changes}))
    with as_users_call(), pytest.raises(CrosscoderError, match=message) as caught:
        load_encoded(path)
    assert str(caught.value).startswith(str(path))


def test_another_set_of_arrays_is_refused(tmp_path: Path) -> None:
    path = save_encoded(tmp_path / "d", _dataset())
    file = path / "encoded.safetensors"
    tensors = safetensors.numpy.load_file(file)
    for changed in ({**tensors, "more": np.zeros(1)}, {"label": tensors["label"]}):
        file.write_bytes(safetensors.numpy.save(changed))
        with pytest.raises(CrosscoderError, match="it holds"):
            load_encoded(path)


@settings(deadline=None)  # for a busy machine
@given(data=st.data())
def test_no_damaged_file_is_read(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = save_encoded(tmp_path_factory.mktemp("damaged") / "d", _dataset())
    file = path / "encoded.safetensors"
    content = bytearray(file.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content = content[:place]
    else:
        content[place] ^= data.draw(st.integers(1, 255))
    file.write_bytes(content)
    with as_users_call(), pytest.raises(CrosscoderError) as caught:
        load_encoded(path)
    assert str(caught.value).startswith(str(file))


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("interruption", [KeyboardInterrupt, OSError])
def test_interruption_leaves_things_as_they_were(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    force: bool,
    interruption: type[BaseException],
) -> None:
    path = tmp_path / "d"
    if force:
        save_encoded(path, _dataset())

    def stopped(source: Path, destination: Path) -> None:
        raise interruption

    monkeypatch.setattr(_directory.os, "rename", stopped)
    with pytest.raises(interruption):
        save_encoded(path, _dataset().quantised(2), force=force)
    assert os.listdir(tmp_path) == (["d"] if force else [])
    if force:
        _same(load_encoded(path), _dataset())


def test_only_a_data_set_is_replaced(tmp_path: Path) -> None:
    path = save_encoded(tmp_path / "d", _dataset())
    with pytest.raises(FileExistsError, match="force=True"):
        save_encoded(path, _dataset())
    (path / "thesis.tex").write_text("")
    with pytest.raises(FileExistsError, match="holds 'thesis.tex'"):
        save_encoded(path, _dataset(), force=True)


def test_the_number_of_features_is_that_of_the_crosscoder() -> None:
    assert _dataset().d_sae == H
