import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from compactproofs.models import _directory, check_destination, save_model

CONFIG: dict[str, object] = {"n_layers": 1, "act_fn": None, "attn_scale": -1.0}
TENSORS = {"embed.W_E": np.arange(6, dtype=np.float32).reshape(3, 2)}


def _read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    return json.loads((path / "config.json").read_text()), load_file(path / "model.safetensors")


def test_writes_exactly_the_two_files_and_reads_back_equal(tmp_path: Path) -> None:
    path = tmp_path / "model"
    assert save_model(path, CONFIG, TENSORS) == path
    assert sorted(os.listdir(tmp_path)) == ["model"]
    assert sorted(os.listdir(path)) == ["config.json", "model.safetensors"]
    config, tensors = _read(path)
    assert config == CONFIG
    assert tensors.keys() == TENSORS.keys()
    np.testing.assert_array_equal(tensors["embed.W_E"], TENSORS["embed.W_E"])
    assert tensors["embed.W_E"].dtype == np.float32


def test_equal_inputs_give_equal_bytes(tmp_path: Path) -> None:
    tensors = {name: np.full(3, 0.1) for name in ("b", "a", "c")}
    one, two = (save_model(tmp_path / name, CONFIG, tensors) for name in ("one", "two"))
    for name in ("config.json", "model.safetensors"):
        assert (one / name).read_bytes() == (two / name).read_bytes()


def test_whoever_may_read_the_config_may_read_the_weights(tmp_path: Path) -> None:
    path = save_model(tmp_path / "model", CONFIG, TENSORS)
    ordinary = tmp_path / "ordinary"
    ordinary.write_text("")
    for name in ("config.json", "model.safetensors"):
        assert (path / name).stat().st_mode == ordinary.stat().st_mode


def test_strides_byte_order_and_sharing_do_not_change_values(tmp_path: Path) -> None:
    base = np.arange(24, dtype=np.float64).reshape(4, 6)
    shared = torch.arange(12, dtype=torch.float32).reshape(3, 4)
    given = {
        "transposed": base.T,
        "strided": base[::2, ::-3],
        "big_endian": base.astype(">f8"),
        "scalar": np.float64(-np.inf),
        "list": [[1.5, 2.5]],
        "mask": np.tril(np.ones((3, 3), dtype=bool)),
        "torch_transposed": shared.T,
        "torch_row": shared[1],
        "torch_grad": torch.ones(2, 2, requires_grad=True),
    }
    _, tensors = _read(save_model(tmp_path / "model", CONFIG, given))
    for name, value in given.items():
        expected = value.detach().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
        np.testing.assert_array_equal(tensors[name], expected)
        assert tensors[name].shape == expected.shape


def test_bfloat16_keeps_its_values(tmp_path: Path) -> None:
    tensor = torch.tensor([1.0, -3.1415, 1e38, 1e-40]).to(torch.bfloat16)
    _, tensors = _read(save_model(tmp_path / "model", CONFIG, {"w": tensor}))
    assert tensors["w"].dtype == np.float32
    assert torch.equal(torch.from_numpy(tensors["w"]).to(torch.bfloat16), tensor)
    np.testing.assert_array_equal(tensors["w"], tensor.float().numpy())


def test_torch_and_numpy_values_in_the_config_become_plain(tmp_path: Path) -> None:
    config: dict[str, object] = {
        "dtype": torch.bfloat16,
        "device": torch.device("cuda:1"),
        "d_model": np.int64(32),
        "eps": np.float32(0.5),
        "nested": {"dtypes": [torch.float32]},
    }
    written, _ = _read(save_model(tmp_path / "model", config, TENSORS))
    assert written == {
        "dtype": "bfloat16",
        "device": "cuda:1",
        "d_model": 32,
        "eps": 0.5,
        "nested": {"dtypes": ["float32"]},
    }


def _circular() -> list[object]:
    circle: list[object] = []
    circle.append(circle)
    return circle


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), {1, 2}, b"x", object(), print, np.zeros(3), _circular(), 1j]
    + [{(1, 2): 3}, "\n" * 1000 and {"\n" * 1000}],
)
def test_config_that_is_not_json_is_refused_by_name(tmp_path: Path, value: object) -> None:
    with pytest.raises(ValueError, match="config field 'strange' is ") as caught:
        save_model(tmp_path / "model", {"fine": 1, "strange": value}, TENSORS)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({}, "tensors is empty"),
        ({"w": np.array(["a"])}, "tensor 'w' has dtype <U1"),
        ({"w": np.zeros(2, dtype=np.complex128)}, "tensor 'w' has dtype complex128"),
        ({"w": np.zeros(2, dtype=np.longdouble)}, "tensor 'w' has dtype"),
        ({"w": [[1.0], [1.0, 2.0]]}, "tensor 'w' does not become a numpy array"),
        ({"w": np.array([None])}, "tensor 'w' has dtype object"),
        ({"w": torch.empty(2, device="meta")}, "tensor 'w' does not become a numpy array"),
        ({"__metadata__": np.zeros(2)}, "'__metadata__' is reserved"),
    ],
)
def test_what_is_not_an_array_of_numbers_is_refused_by_name(
    tmp_path: Path, tensors: Mapping[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        save_model(tmp_path / "model", CONFIG, tensors)
    assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == []


def test_an_existing_model_is_kept_without_force_and_replaced_with_it(tmp_path: Path) -> None:
    path = save_model(tmp_path / "model", {"n_layers": 7}, TENSORS)
    with pytest.raises(FileExistsError, match="pass --force"):
        save_model(path, CONFIG, TENSORS)
    assert _read(path)[0] == {"n_layers": 7}
    save_model(path, CONFIG, {"other": np.zeros(1)}, force=True)
    config, tensors = _read(path)
    assert config == CONFIG
    assert list(tensors) == ["other"]
    assert os.listdir(tmp_path) == ["model"]


def test_an_empty_directory_is_replaced_only_with_force(tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.mkdir()
    with pytest.raises(FileExistsError, match="pass --force"):
        save_model(path, CONFIG, TENSORS)
    save_model(path, CONFIG, TENSORS, force=True)
    assert _read(path)[0] == CONFIG


def _a_file(path: Path) -> None:
    path.write_text("thesis")


def _a_folder_of_work(path: Path) -> None:
    path.mkdir()
    (path / "thesis.tex").write_text("thesis")


def _a_project_with_a_config(path: Path) -> None:
    _a_folder_of_work(path)
    (path / "config.json").write_text("{}")


def _weights_only(path: Path) -> None:
    path.mkdir()
    (path / "model.safetensors").write_bytes(b"")


def _a_link(path: Path) -> None:
    elsewhere = path.with_name("elsewhere")
    save_model(elsewhere, CONFIG, TENSORS)
    path.symlink_to(elsewhere)


def _a_dangling_link(path: Path) -> None:
    path.symlink_to(path.with_name("nowhere"))


@pytest.mark.parametrize(
    "make",
    [
        _a_file,
        _a_folder_of_work,
        _a_project_with_a_config,
        _weights_only,
        _a_link,
        _a_dangling_link,
    ],
)
@pytest.mark.parametrize("force", [False, True])
def test_what_is_not_a_model_directory_is_never_overwritten(
    tmp_path: Path, make: Callable[[Path], None], force: bool
) -> None:
    path = tmp_path / "model"
    make(path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(FileExistsError, match="choose another path"):
        check_destination(path, force=force)
    with pytest.raises(FileExistsError, match="choose another path"):
        save_model(path, CONFIG, TENSORS, force=force)
    assert sorted(tmp_path.rglob("*")) == before


def test_missing_parents_are_made_and_a_file_as_parent_is_refused(tmp_path: Path) -> None:
    save_model(tmp_path / "a" / "b" / "model", CONFIG, TENSORS)
    _a_file(tmp_path / "file")
    with pytest.raises(NotADirectoryError, match="is not a directory"):
        save_model(tmp_path / "file" / "model", CONFIG, TENSORS)


def test_a_relative_path_is_beside_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert save_model("model", CONFIG, TENSORS) == Path("model")
    assert os.listdir(tmp_path) == ["model"]


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, OSError])
@pytest.mark.parametrize("force", [False, True])
def test_interruption_while_writing_leaves_things_as_they_were(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    interruption: type[BaseException],
    force: bool,
) -> None:
    path = tmp_path / "parent" / "model"
    if force:
        save_model(path, {"n_layers": 7}, TENSORS)

    def half(where: Path, content: bytes) -> None:
        with where.open("wb") as file:
            file.write(content[: len(content) // 2])
        raise interruption

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(interruption):
        save_model(path, CONFIG, TENSORS, force=force)
    if force:
        assert os.listdir(path.parent) == ["model"]
        assert _read(path)[0] == {"n_layers": 7}
    else:
        assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("fatal_rename", [1, 2])
def test_interruption_while_renaming_keeps_the_old_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fatal_rename: int
) -> None:
    path = save_model(tmp_path / "model", {"n_layers": 7}, TENSORS)
    rename, calls = os.rename, []

    def interrupted(source: Path, destination: Path) -> None:
        calls.append(source)
        if len(calls) == fatal_rename:
            raise KeyboardInterrupt
        rename(source, destination)

    monkeypatch.setattr(_directory.os, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_model(path, CONFIG, TENSORS, force=True)
    assert os.listdir(tmp_path) == ["model"]
    assert _read(path)[0] == {"n_layers": 7}
