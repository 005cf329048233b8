import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from crosscoder_examples import KINDS, NORMALISATIONS, SITES, H, acts, as_users_call, make
from hypothesis import given, settings
from hypothesis import strategies as st

from compactproofs.crosscoders import (
    Crosscoder,
    CrosscoderError,
    load_crosscoder,
    load_firing_frequency,
    save_crosscoder,
)
from compactproofs.models import _directory

CONFIG, WEIGHTS = "cfg.json", "crosscoder_weights.safetensors"


def _same(one: Crosscoder, other: Crosscoder) -> None:
    assert one.config == other.config
    assert dict(one.config.metadata) == dict(other.config.metadata)
    mine, theirs = dict(one.tensors()), dict(other.tensors())
    assert mine.keys() == theirs.keys()
    for name, array in mine.items():
        np.testing.assert_array_equal(array, theirs[name])
        assert (array.dtype, array.shape) == (theirs[name].dtype, theirs[name].shape)


@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize("normalisation", NORMALISATIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_saved_is_what_is_loaded(
    tmp_path: Path, kind: str, normalisation: str, folded: bool
) -> None:
    crosscoder = make(kind, normalisation=normalisation, metadata={"seed": 3, "loss": [0.5, None]})
    crosscoder = crosscoder.fold() if folded else crosscoder
    path = tmp_path / "crosscoder"
    assert save_crosscoder(path, crosscoder) == path
    assert sorted(os.listdir(path)) == ["README.md", CONFIG, WEIGHTS]
    loaded = load_crosscoder(path)
    _same(loaded, crosscoder)
    np.testing.assert_array_equal(loaded.encode(acts()), crosscoder.encode(acts()))


def test_equal_crosscoders_give_equal_bytes(tmp_path: Path) -> None:
    metadatas = ({"b": 1, "a": {"y": 2, "x": 3}}, {"a": {"x": 3, "y": 2}, "b": 1})
    paths = [tmp_path / name for name in ("one", "two")]
    for path, metadata in zip(paths, metadatas, strict=True):
        save_crosscoder(path, make(metadata=metadata), firing_frequency=np.linspace(0, 1, H))
    assert len(os.listdir(paths[0])) == 4
    for name in os.listdir(paths[0]):
        assert (paths[0] / name).read_bytes() == (paths[1] / name).read_bytes()


def test_the_settings_have_the_names_of_saelens(tmp_path: Path) -> None:
    path = save_crosscoder(tmp_path / "c", make("batchtopk_crosscoder", metadata={"seed": 1}))
    stated = json.loads((path / CONFIG).read_text())
    assert stated["architecture"] == "batchtopk_crosscoder"
    assert (stated["d_in"], stated["d_sae"], stated["k"]) == ([5, 5, 5, 5], H, 3)
    assert (stated["dtype"], stated["device"]) == ("float32", "cpu")
    assert stated["normalize_activations"] == "none"
    assert stated["metadata"] == {"seed": 1}
    assert stated["sites"][1] == {
        "name": "blocks.0.hook_resid_mid",
        "role": "resid_mid",
        "layer": 0,
        "model_index": 0,
    }
    tensors = safetensors.numpy.load_file(path / WEIGHTS)
    assert tensors.keys() == {"W_enc", "b_enc", "W_dec", "b_dec", "threshold"}
    assert tensors["threshold"].shape == ()


def test_the_card_says_what_it_is_and_how_to_load_it(tmp_path: Path) -> None:
    crosscoder = make(metadata={"note": "a|b\nc"})
    card = (save_crosscoder(tmp_path / "c", crosscoder) / "README.md").read_text()
    for text in (crosscoder.sha256, *(site.name for site in SITES), "load_crosscoder", "a\\|b c"):
        assert text in card


def test_firing_frequencies_are_kept_beside(tmp_path: Path) -> None:
    path = save_crosscoder(tmp_path / "c", make())
    assert load_firing_frequency(path) is None
    frequency = np.linspace(0, 1, H)
    save_crosscoder(path, make(), firing_frequency=frequency, force=True)
    np.testing.assert_array_equal(load_firing_frequency(path), frequency.astype(np.float32))
    for bad, message in (
        (np.ones(H + 1), "not one number of each feature"),
        (np.array([2.0] + [0] * (H - 1)), "of feature 0 is 2.0"),
        (np.array([np.nan] * H), "of feature 0 is nan"),
    ):
        with pytest.raises(CrosscoderError, match=message):
            save_crosscoder(path, make(), firing_frequency=bad, force=True)
    (path / "sparsity.safetensors").write_bytes(safetensors.numpy.save({"x": np.ones(2)}))
    with pytest.raises(CrosscoderError, match="sparsity.safetensors: it holds"):
        load_firing_frequency(path)


def _edit(path: Path, **changes: Any) -> None:
    stated = json.loads((path / CONFIG).read_text())
    stated |= changes
    stated = {name: value for name, value in stated.items() if value != "delete"}
    (path / CONFIG).write_text(json.dumps(stated))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 2}, "format_version is 2, but this version"),
        ({"format_version": True}, "format_version is True"),
        ({"hook_name": "x"}, "the field 'hook_name' is unknown"),
        ({"score": "delete"}, "the field 'score' is missing"),
        ({"k": 99}, "k = 99 is more than"),
        ({"k": "3"}, "k = '3' must be"),
        ({"sites": [{"name": "x"}]}, "sites holds"),
        ({"sites": "x"}, "sites = 'x' must be a list"),
        ({"d_in": [5, 5, 5, 6]}, "all sites must have one width"),
        ({"score": "none"}, "states"),
        ({"sha256": None}, "states None"),
        ({"architecture": "l1_crosscoder"}, "states"),
    ],
)
def test_settings_that_are_not_understood_are_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    path = save_crosscoder(tmp_path / "c", make())
    _edit(path, **changes)
    with as_users_call(), pytest.raises(CrosscoderError, match=message) as caught:
        load_crosscoder(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not valid JSON"),
        (b"[]", "not a JSON object"),
        (b'{"k": 1, "k": 2}', "the key 'k' occurs twice"),
        (b'{"k": NaN}', "NaN is not a JSON number"),
        (b"\xff", "not valid JSON"),
    ],
)
def test_a_malformed_config_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = save_crosscoder(tmp_path / "c", make())
    (path / CONFIG).write_bytes(content)
    with pytest.raises(CrosscoderError, match=message):
        load_crosscoder(path)


@pytest.mark.parametrize("missing", [CONFIG, WEIGHTS])
def test_a_missing_file_is_named(tmp_path: Path, missing: str) -> None:
    path = save_crosscoder(tmp_path / "c", make())
    (path / missing).unlink()
    with pytest.raises(CrosscoderError, match=f"{missing}: cannot be read"):
        load_crosscoder(path)
    with pytest.raises(CrosscoderError, match="cfg.json: cannot be read"):
        load_crosscoder(tmp_path / "nowhere")


def _resave(path: Path, change: Callable[[dict[str, np.ndarray]], object]) -> None:
    tensors = safetensors.numpy.load_file(path / WEIGHTS)
    change(tensors)
    (path / WEIGHTS).write_bytes(safetensors.numpy.save(tensors))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("b_dec"), "tensor 'b_dec' is missing"),
        (lambda t: t.update(W_skip=np.ones(2)), "tensor 'W_skip' is unknown"),
        (lambda t: t.update(b_enc=np.ones(3, np.float32)), "b_enc has shape"),
        (lambda t: t.update(b_enc=np.full(H, np.nan, np.float32)), "b_enc holds NaN"),
        (lambda t: t.update(b_enc=t["b_enc"] + 1), "the files were changed"),
        (lambda t: t.update(threshold=np.array(1, np.float32)), "threshold is given"),
    ],
)
def test_changed_weights_are_refused(
    tmp_path: Path, change: Callable[[dict[str, np.ndarray]], object], message: str
) -> None:
    path = save_crosscoder(tmp_path / "c", make())
    _resave(path, change)
    with as_users_call(), pytest.raises(CrosscoderError, match=message):
        load_crosscoder(path)


@settings(deadline=None)  # for a busy machine
@given(data=st.data())
def test_no_damaged_file_is_read(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("damaged") / "c"
    save_crosscoder(path, make("jumprelu_crosscoder"))
    file = path / data.draw(st.sampled_from([CONFIG, WEIGHTS]))
    content = bytearray(file.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content = content[:place]
    else:
        content[place] ^= data.draw(st.integers(1, 255))
    file.write_bytes(content)
    try:
        with as_users_call():
            loaded = load_crosscoder(path)
    except CrosscoderError as error:
        assert str(path) in str(error) and "\n" not in str(error)
        return
    # What may pass unseen changes neither weights nor settings: white space, or the metadata.
    assert loaded.sha256 == make("jumprelu_crosscoder").sha256


HEADERS: list[tuple[object, str]] = [
    ([], "the header is not a JSON object"),
    ({"x": 1}, "the header entry 'x'"),
    ({"x": {"dtype": "F8_E4M3", "shape": [1], "data_offsets": [0, 1]}}, "the type 'F8_E4M3'"),
    ({"x": {"dtype": ["F32"], "shape": [1], "data_offsets": [0, 1]}}, "the type"),
    ({"x": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}, "is out of range"),
    ({"x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4, 4]}}, "needs two offsets"),
    ({"x": {"dtype": "F32", "shape": [3], "data_offsets": [0, 4]}}, "where or as long"),
    ({"x": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}, "where or as long"),
    ({"x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, "8 bytes of data are not"),
    ({"__metadata__": {"a": 1}}, "the metadata is not"),
    ({"x": {"dtype": "BOOL", "shape": [8], "data_offsets": [0, 8]}}, "a truth value"),
]


@pytest.mark.parametrize(("header", "message"), HEADERS)
def test_hostile_headers_are_refused(tmp_path: Path, header: object, message: str) -> None:
    path = save_crosscoder(tmp_path / "c", make())
    text = json.dumps(header).encode()
    (path / WEIGHTS).write_bytes(len(text).to_bytes(8, "little") + text + b"\xff" * 8)
    with pytest.raises(CrosscoderError, match=message):
        load_crosscoder(path)


def test_a_pipe_or_a_directory_is_no_file_of_weights(tmp_path: Path) -> None:
    path = save_crosscoder(tmp_path / "c", make())
    for make_it in (os.mkfifo, os.mkdir):
        (path / WEIGHTS).unlink()
        make_it(path / WEIGHTS)
        with pytest.raises(CrosscoderError, match="not a regular file"):
            load_crosscoder(path)
        if make_it is os.mkfifo:
            continue
        (path / WEIGHTS).rmdir()


def test_an_existing_crosscoder_is_replaced_only_with_force(tmp_path: Path) -> None:
    path = save_crosscoder(tmp_path / "c", make(), firing_frequency=np.zeros(H))
    with pytest.raises(FileExistsError, match="force=True"):
        save_crosscoder(path, make(seed=9))
    _same(load_crosscoder(path), make())
    save_crosscoder(path, make(seed=9), force=True)
    _same(load_crosscoder(path), make(seed=9))
    assert load_firing_frequency(path) is None
    assert os.listdir(tmp_path) == ["c"]


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("name", ["thesis.tex", "certificates"])
def test_anything_else_is_never_overwritten(tmp_path: Path, force: bool, name: str) -> None:
    path = save_crosscoder(tmp_path / "c", make())
    (path / name).write_text("")
    with pytest.raises(FileExistsError, match="choose another path"):
        save_crosscoder(path, make(seed=9), force=force)
    _same(load_crosscoder(path), make())
    (tmp_path / "file").write_text("")
    with pytest.raises(FileExistsError, match="is not a directory"):
        save_crosscoder(tmp_path / "file", make(), force=force)
    with pytest.raises(NotADirectoryError, match="is not a directory"):
        save_crosscoder(tmp_path / "file" / "c", make(), force=force)


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, OSError])
@pytest.mark.parametrize("force", [False, True])
def test_interruption_while_writing_leaves_things_as_they_were(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    interruption: type[BaseException],
    force: bool,
) -> None:
    path = tmp_path / "parent" / "c"
    if force:
        save_crosscoder(path, make())
    write = Path.write_bytes

    def half(where: Path, content: bytes) -> None:
        write(where, content[: len(content) // 2])
        if where.name == WEIGHTS:
            raise interruption

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(interruption):
        save_crosscoder(path, make(seed=9), force=force)
    if force:
        assert os.listdir(path.parent) == ["c"]
        _same(load_crosscoder(path), make())
    else:
        assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("fatal_rename", [1, 2])
def test_interruption_while_renaming_keeps_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fatal_rename: int
) -> None:
    path = save_crosscoder(tmp_path / "c", make())
    rename, calls = os.rename, []

    def interrupted(source: Path, destination: Path) -> None:
        calls.append(source)
        if len(calls) == fatal_rename:
            raise KeyboardInterrupt
        rename(source, destination)

    monkeypatch.setattr(_directory.os, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_crosscoder(path, make(seed=9), force=True)
    assert os.listdir(tmp_path) == ["c"]
    _same(load_crosscoder(path), make())


def test_metadata_may_be_replaced_without_another_digest(tmp_path: Path) -> None:
    crosscoder = make()
    named = replace(crosscoder, config=replace(crosscoder.config, metadata={"by": "somebody"}))
    path = save_crosscoder(tmp_path / "c", named)
    assert load_crosscoder(path).sha256 == crosscoder.sha256
