import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from crosscoder_examples import SITES, D, acts, as_users_call
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from compactproofs.crosscoders import (
    ActivationStore,
    ActivationWriter,
    CrosscoderError,
    StoreSettings,
    _store,
)

SHA = "ab" * 32
SETTINGS = StoreSettings(SITES, D, model_sha256=SHA, shard_rows=8, shuffle_seed=5)


def _write(path: Path, rows: np.ndarray, held: StoreSettings = SETTINGS, by: int = 5) -> None:
    with ActivationWriter(path, held) as writer:
        for begin in range(0, len(rows), by):
            writer.write(rows[begin : begin + by])


# Every shard is flushed to the disk, which may take its time.
@settings(deadline=None, max_examples=30)
@given(
    n=st.integers(0, 40),
    by=st.integers(1, 30),
    shard_rows=st.integers(1, 20),
    size=st.integers(1, 50),
    seed=st.none() | st.integers(0, 9),
)
def test_every_row_comes_back_once(
    n: int,
    by: int,
    shard_rows: int,
    size: int,
    seed: int | None,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    path, rows = tmp_path_factory.mktemp("store") / "s", acts(n)
    _write(path, rows, StoreSettings(SITES, D, shard_rows=shard_rows), by)
    store = ActivationStore(path)
    assert len(store) == n
    batches = list(store.batches(size, seed))
    assert all(len(batch) == size for batch in batches[:-1])
    together = np.concatenate([acts(0), *batches])
    if seed is None:
        np.testing.assert_array_equal(together, rows)
    else:
        np.testing.assert_array_equal(np.sort(together, axis=0), np.sort(rows, axis=0))
        np.testing.assert_array_equal(
            together, np.concatenate([acts(0), *store.batches(size, seed)])
        )
    chosen = np.random.default_rng(n).integers(max(n, 1), size=9 if n else 0)
    np.testing.assert_array_equal(store.read(chosen), rows[chosen])


def test_the_files_are_as_documented(tmp_path: Path) -> None:
    rows = acts(20)
    _write(tmp_path / "s", rows)
    names = sorted(os.listdir(tmp_path / "s"))
    assert names == ["index.json", *(f"shard_0000{i}.safetensors" for i in range(3))]
    index = json.loads((tmp_path / "s" / "index.json").read_text())
    assert (index["total"], index["complete"], index["shard_rows"]) == (20, True, 8)
    assert (index["model_sha256"], index["shuffle_seed"], index["dtype"]) == (SHA, 5, "float32")
    assert [site["name"] for site in index["sites"]] == [site.name for site in SITES]
    last = load_file(tmp_path / "s" / names[-1])
    np.testing.assert_array_equal(last["activations"], rows[16:])


def test_float16_is_rounded_and_read_as_float32(tmp_path: Path) -> None:
    rows = acts(20)
    _write(tmp_path / "s", rows, StoreSettings(SITES, D, dtype="float16", shard_rows=8))
    read = ActivationStore(tmp_path / "s").read(range(20))
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, rows.astype(np.float16).astype(np.float32))


class _Stop(Exception):
    pass


def _interrupted(path: Path, rows: np.ndarray, after: int) -> None:
    with pytest.raises(_Stop), ActivationWriter(path, SETTINGS) as writer:
        writer.write(rows[:after])
        raise _Stop


@pytest.mark.parametrize("after", [0, 7, 8, 19, 24])
def test_a_writer_continues_after_the_last_whole_shard(tmp_path: Path, after: int) -> None:
    path, rows = tmp_path / "s", acts(30)
    _interrupted(path, rows, after)
    with pytest.raises(CrosscoderError, match="is unfinished"):
        ActivationStore(path)
    with ActivationWriter(path, SETTINGS) as writer:
        assert writer.rows == after // 8 * 8
        writer.write(rows[writer.rows :])
    np.testing.assert_array_equal(ActivationStore(path).read(range(30)), rows)


@pytest.mark.parametrize("fatal", range(1, 8))
@pytest.mark.parametrize("where", ["replace", "fsync"])
def test_ctrl_c_at_any_moment_loses_only_the_last_shard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fatal: int, where: str
) -> None:
    path, rows = tmp_path / "s", acts(30)
    original, calls = getattr(os, where), []

    def stopped(*args: Any) -> Any:
        calls.append(args)
        if len(calls) == fatal:
            raise KeyboardInterrupt
        return original(*args)

    monkeypatch.setattr(_store.os, where, stopped)
    with pytest.raises(KeyboardInterrupt):
        _write(path, rows)
    monkeypatch.undo()
    assert not [name for name in os.listdir(path) if name.endswith(".part")]
    with ActivationWriter(path, SETTINGS) as writer:
        assert writer.rows % 8 == 0
        writer.write(rows[writer.rows :])
    np.testing.assert_array_equal(ActivationStore(path).read(range(30)), rows)


def test_half_a_shard_of_a_power_cut_is_written_again(tmp_path: Path) -> None:
    path, rows = tmp_path / "s", acts(30)
    _interrupted(path, rows, 24)
    shard = path / "shard_00001.safetensors"
    shard.write_bytes(shard.read_bytes()[:-40])
    (path / ".shard_00003.safetensors.part").write_bytes(b"half")
    (path / "shard_00003.safetensors").write_bytes(b"not named by the index")
    with ActivationWriter(path, SETTINGS) as writer:
        assert writer.rows == 8
        writer.write(rows[8:])
    np.testing.assert_array_equal(ActivationStore(path).read(range(30)), rows)
    assert not list(path.glob(".*"))


def test_a_finished_store_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "s"
    writer = ActivationWriter(path, SETTINGS)
    writer.write(acts(3))
    writer.finish()
    writer.finish()
    with pytest.raises(CrosscoderError, match="the store is finished"):
        writer.write(acts(1))
    with pytest.raises(CrosscoderError, match="holds a finished store"):
        ActivationWriter(path, SETTINGS)
    assert len(ActivationStore(path)) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sites": SITES[::-1]}, "other settings .sites"),
        ({"d": D + 1}, "other settings .d: 5, not 6"),
        ({"model_sha256": ""}, "other settings .model_sha256"),
        ({"dtype": "float16"}, "other settings .dtype"),
        ({"shard_rows": 9}, "other settings .shard_rows"),
        ({"shuffle_seed": None}, "other settings .shuffle_seed"),
    ],
)
def test_a_store_of_other_settings_is_not_continued(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    path = tmp_path / "s"
    _interrupted(path, acts(30), 24)
    other = StoreSettings(**{**vars(SETTINGS), **changes})
    with pytest.raises(CrosscoderError, match=message):
        ActivationWriter(path, other)


def test_other_things_are_no_store(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    for path in (tmp_path, tmp_path / "thesis.tex"):
        with pytest.raises(CrosscoderError, match="is no activation store"):
            ActivationWriter(path, SETTINGS)
    with pytest.raises(CrosscoderError, match=r"index.json: cannot be read"):
        ActivationStore(tmp_path)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sites": ()}, "sites is empty"),
        ({"d": 0}, "d = 0"),
        ({"dtype": "float64"}, "dtype = 'float64' is not one of"),
        ({"shard_rows": 0}, "shard_rows = 0"),
        ({"shuffle_seed": 0.5}, "shuffle_seed = 0.5"),
        ({"model_sha256": "0"}, "model_sha256 = '0'"),
    ],
)
def test_settings_out_of_range_are_refused(fields: dict[str, Any], message: str) -> None:
    with as_users_call(), pytest.raises(CrosscoderError, match=message):
        StoreSettings(**{**vars(SETTINGS), **fields})


@pytest.mark.parametrize(
    ("rows", "dtype", "message"),
    [
        (np.ones((2, D)), "float32", r"activations are float64 \(2, 5\)"),
        (np.ones((2, 4, D + 1)), "float32", "not floats"),
        (np.ones((2, 4, D), int), "float32", "activations are int64"),
        (np.full((2, 4, D), np.nan), "float32", "of row 5 at blocks.0.hook_resid_pre hold NaN"),
        (np.full((2, 4, D), 1e5), "float16", "of row 5 .* beyond float16"),
    ],
)
def test_rows_that_cannot_be_stored_are_refused_and_leave_the_rest(
    tmp_path: Path, rows: np.ndarray, dtype: str, message: str
) -> None:
    stored_as = StoreSettings(SITES, D, dtype=dtype, shard_rows=3)
    with ActivationWriter(tmp_path / "s", stored_as) as writer:
        writer.write(acts(5))
        with pytest.raises(CrosscoderError, match=message):
            writer.write(rows)
    assert len(ActivationStore(tmp_path / "s")) == 5


def test_a_store_of_other_sites_or_of_another_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s"
    _write(path, acts(9))
    assert len(ActivationStore(path, sites=SITES, model_sha256=SHA)) == 9
    with pytest.raises(CrosscoderError, match="holds the sites"):
        ActivationStore(path, sites=SITES[:2])
    with pytest.raises(CrosscoderError, match=f"of the model {SHA}, not {'cd' * 32}"):
        ActivationStore(path, model_sha256="cd" * 32)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 2}, "format_version is 2"),
        ({"total": -1}, "total = -1"),
        ({"complete": 1}, "complete = 1"),
        ({"more": 1}, "the field 'more' is unknown"),
        ({"total": 21}, "shard_00002.safetensors: does not hold"),
        ({"total": 30}, "shard_00002.safetensors: does not hold"),
        ({"dtype": "float16"}, "does not hold"),
        ({"d": 6}, "does not hold"),
    ],
)
def test_an_index_that_is_not_of_the_shards_is_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    path = tmp_path / "s"
    _write(path, acts(20))
    index = json.loads((path / "index.json").read_text())
    (path / "index.json").write_text(json.dumps({**index, **changes}))
    with as_users_call(), pytest.raises(CrosscoderError, match=message):
        ActivationStore(path)


def test_a_missing_shard_and_a_row_of_nan_are_named(tmp_path: Path) -> None:
    path = tmp_path / "s"
    _write(path, acts(20))
    shard = path / "shard_00001.safetensors"
    content = bytearray(shard.read_bytes())
    content[-4:] = np.float32(np.nan).tobytes()
    shard.write_bytes(content)
    store = ActivationStore(path)
    np.testing.assert_array_equal(store.read(range(15)), acts(20)[:15])
    with pytest.raises(CrosscoderError, match="row 15 holds NaN"):
        list(store.batches(4))
    for row in (-1, 20):
        with pytest.raises(CrosscoderError, match=f"row {row} is not one of its 20"):
            store.read([3, row])
    shard.unlink()
    with pytest.raises(CrosscoderError, match=r"shard_00001.safetensors: cannot be read"):
        ActivationStore(path)


def test_more_shards_than_open_maps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_store, "_MOST_OPEN", 2)
    path, rows = tmp_path / "s", acts(30)
    _write(path, rows, StoreSettings(SITES, D, shard_rows=4))
    store = ActivationStore(path)
    order = np.random.default_rng(0).permutation(30)
    np.testing.assert_array_equal(store.read(order), rows[order])
    assert len(store._maps) == 2
