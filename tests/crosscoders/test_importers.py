"""Files in exactly the layouts of other tools, written here, and what those tools compute."""

import importlib
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from crosscoder_examples import D, H, acts, close_to, of_seed

from compactproofs.crosscoders import (
    Crosscoder,
    CrosscoderError,
    import_ckkissane,
    import_crosscode,
    load_crosscoder,
    save_crosscoder,
    site_of,
)

HOOK = "blocks.2.hook_resid_pre"
TWO = (site_of(HOOK), site_of(HOOK, 1))
CROSSED = tuple(
    site_of(f"blocks.{layer}.hook_resid_post", model) for model in (0, 1) for layer in (0, 3)
)


def _saved_and_loaded(crosscoder: Crosscoder, path: Path) -> Crosscoder:
    return load_crosscoder(save_crosscoder(path / "imported", crosscoder))


# ckkissane: cfg.json and cc_weights.pt


def _ckkissane(path: Path, dtype: torch.dtype = torch.float32, **changes: Any) -> dict[str, Any]:
    cfg = {"d_in": D, "dict_size": H, "enc_dtype": "fp32", "hook_point": HOOK, "seed": 49}
    state = {
        "W_enc": of_seed(0, 2, D, H).to(dtype),
        "W_dec": of_seed(1, H, 2, D).to(dtype),
        "b_enc": of_seed(2, H).to(dtype),
        "b_dec": of_seed(3, 2, D).to(dtype),
    }
    (path / "cfg.json").write_text(json.dumps({**cfg, **changes}))
    torch.save(state, path / "cc_weights.pt")
    return state


def test_ckkissane_computes_what_it_did(tmp_path: Path) -> None:
    state = _ckkissane(tmp_path)
    mine = _saved_and_loaded(import_ckkissane(tmp_path), tmp_path)
    assert mine.config.sites == TWO
    assert mine.config.architecture == "l1_crosscoder"
    assert mine.config.metadata["source"]["seed"] == 49
    given = acts(20, n_sites=2)
    h = torch.einsum("nld,ldh->nh", torch.tensor(given), state["W_enc"]) + state["b_enc"]
    codes = torch.relu(h)
    close_to(mine.encode(given), codes)
    out = torch.einsum("nh,hld->nld", codes, state["W_dec"]) + state["b_dec"]
    close_to(mine.decode(mine.encode(given)), out)


def test_the_scale_of_activations_is_asked_for(tmp_path: Path) -> None:
    _ckkissane(tmp_path)
    scale = np.array([0.25, 4.0], np.float32)
    plain, scaled = import_ckkissane(tmp_path), import_ckkissane(tmp_path, norm_scale=scale)
    given = acts(20, n_sites=2)
    close_to(scaled.encode(given / scale[:, None]), torch.tensor(plain.encode(given)))
    close_to(scaled.fold().encode(given), torch.tensor(scaled.encode(given)))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_keeps_its_values(tmp_path: Path, dtype: torch.dtype) -> None:
    state = _ckkissane(tmp_path, dtype)
    mine = import_ckkissane(tmp_path)
    np.testing.assert_array_equal(mine.W_enc, state["W_enc"].float().numpy())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hook_point": None}, "hook_point = None; give the sites"),
        ({"hook_point": "hook_embed"}, "site name 'hook_embed' is not"),
    ],
)
def test_a_hook_that_is_no_site_is_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    _ckkissane(tmp_path, **changes)
    with pytest.raises(CrosscoderError, match=message):
        import_ckkissane(tmp_path)
    assert import_ckkissane(tmp_path, sites=TWO).config.sites == TWO
    with pytest.raises(CrosscoderError, match="3 sites are given, but the weights have 2"):
        import_ckkissane(tmp_path, sites=CROSSED[:3])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("b_dec"), "tensor 'b_dec' is missing"),
        (lambda s: s.update(W_skip=torch.ones(2)), "tensor 'W_skip' is unknown"),
        (lambda s: s.update(b_enc=torch.ones(H + 1)), "tensor 'b_enc' has shape"),
        (lambda s: s.update(b_enc=torch.ones(H, 1)), "tensor 'b_enc' has shape"),
        (lambda s: s.update(b_enc=torch.full((H,), torch.nan)), "b_enc holds NaN"),
        (lambda s: s.update(b_enc=3), "'b_enc' is int, not a tensor"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(tmp_path: Path, change: Any, message: str) -> None:
    state = _ckkissane(tmp_path)
    change(state)
    torch.save(state, tmp_path / "cc_weights.pt")
    with pytest.raises(CrosscoderError, match=message) as caught:
        import_ckkissane(tmp_path, sites=TWO)
    assert str(caught.value).startswith(str(tmp_path / "cc_weights.pt"))


class _Harmful:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path("executed").touch, ())


def test_nothing_in_a_file_is_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    _ckkissane(tmp_path)
    file = tmp_path / "cc_weights.pt"
    torch.save({"W_enc": _Harmful()}, file)
    hostile = [file.read_bytes(), pickle.dumps(_Harmful()), b"", b"PK\x03\x04", b"\x80\x02."]
    for content in hostile:
        file.write_bytes(content)
        with pytest.raises(CrosscoderError, match="cc_weights.pt: torch refuses it") as caught:
            import_ckkissane(tmp_path)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "executed").exists()
    torch.save([torch.ones(2)], file)
    with pytest.raises(CrosscoderError, match="holds list, not tensors by name"):
        import_ckkissane(tmp_path)
    file.unlink()
    with pytest.raises(CrosscoderError, match="cc_weights.pt: is missing"):
        import_ckkissane(tmp_path)


def _without(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    load = importlib.import_module

    def refuse(name: str, package: str | None = None) -> Any:
        if name == module:
            raise ImportError(name)
        return load(name, package)

    monkeypatch.setattr(importlib, "import_module", refuse)


def test_without_torch_the_way_to_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _ckkissane(tmp_path)
    _without(monkeypatch, "torch")
    with pytest.raises(ImportError, match=r"pip install 'compactproofs\[train\]'"):
        import_ckkissane(tmp_path)


# crosscode: model.pt and model_cfg.yaml


def _crosscode(
    path: Path, activation: str, options: dict[str, Any], folded: bool = False
) -> dict[str, Any]:
    state = {
        "W_dec_HXD": of_seed(1, H, 2, 2, D),
        "b_enc_H": of_seed(2, H),
        "W_enc_XDH": of_seed(0, 2, 2, D, H),
        "b_dec_XD": of_seed(3, 2, 2, D),
        "folded_scaling_factors_X": torch.ones(2, 2) if folded else torch.zeros(2, 2),
        "is_folded": torch.tensor(folded),
    }
    if activation == "AnthropicJumpReLUActivation":
        state["hidden_activation.log_threshold_H"] = 0.3 * of_seed(4, H)
    settings = {
        "crosscoding_dims": [2, 2],
        "d_model": D,
        "hidden_dim": H,
        "hidden_activation_classname": activation,
        "hidden_activation_cfg": options,
    }
    (path / "model_cfg.yaml").write_text(json.dumps(settings))
    torch.save(state, path / "model.pt")
    return state


@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize(
    ("activation", "options", "architecture"),
    [
        ("ReLUActivation", {}, "l1_crosscoder"),
        ("TopkActivation", {"k": 3}, "topk_crosscoder"),
        ("BatchTopkActivation", {"k_per_example": 3}, "topk_crosscoder"),
        ("AnthropicJumpReLUActivation", {"size": H, "bandwidth": 2.0}, "jumprelu_crosscoder"),
    ],
)
def test_crosscode_computes_what_it_did(
    tmp_path: Path, activation: str, options: dict[str, Any], architecture: str, folded: bool
) -> None:
    state = _crosscode(tmp_path, activation, options, folded)
    mine = _saved_and_loaded(import_crosscode(tmp_path, CROSSED), tmp_path)
    assert (mine.config.architecture, mine.config.folded) == (architecture, folded)
    given = acts(20)
    crossed = torch.tensor(given).unflatten(1, (2, 2))
    h = torch.einsum("nxyd,xydh->nh", crossed, state["W_enc_XDH"]) + state["b_enc_H"]
    codes = torch.relu(h)
    if "opk" in activation:
        values, places = codes.topk(3, dim=1)
        codes = torch.zeros_like(codes).scatter(1, places, values)
    elif "Jump" in activation:
        codes = h * (h > state["hidden_activation.log_threshold_H"].exp())
    close_to(mine.encode(given), codes)
    out = torch.einsum("nh,hxyd->nxyd", codes, state["W_dec_HXD"]) + state["b_dec_XD"]
    close_to(mine.decode(mine.encode(given)), out.flatten(1, 2))


def test_crosscode_batch_topk_takes_a_threshold(tmp_path: Path) -> None:
    _crosscode(tmp_path, "BatchTopkActivation", {"k_per_example": 3})
    mine = import_crosscode(tmp_path, CROSSED, threshold=0.5)
    assert (mine.config.architecture, mine.config.k) == ("batchtopk_crosscoder", 3)
    h = mine.pre_activations(acts())
    np.testing.assert_array_equal(mine.encode(acts()), np.where(h > 0.5, h, 0))


def test_crosscode_without_biases_has_zero_ones(tmp_path: Path) -> None:
    state = _crosscode(tmp_path, "ReLUActivation", {})
    del state["b_enc_H"], state["b_dec_XD"]
    torch.save(state, tmp_path / "model.pt")
    mine = import_crosscode(tmp_path, CROSSED)
    assert not mine.b_enc.any() and not mine.b_dec.any()


@pytest.mark.parametrize(
    ("activation", "options", "change", "message"),
    [
        ("GroupMaxActivation", {"k_groups": 3}, None, "its activation is 'GroupMaxActivation'"),
        ("TopkActivation", {}, None, "k is missing"),
        ("TopkActivation", {"k": 99}, None, "k = 99 is more than"),
        ("ReLUActivation", {}, lambda s: s.pop("W_dec_HXD"), "'W_dec_HXD' .* is missing"),
        ("ReLUActivation", {}, lambda s: s.pop("is_folded"), "'is_folded' is missing"),
        (
            "ReLUActivation",
            {},
            lambda s: s.update(W_skip_XdXd=torch.ones(20, 20)),
            "tensor 'W_skip_XdXd' is unknown",
        ),
        (
            "AnthropicJumpReLUActivation",
            {},
            lambda s: s.pop("hidden_activation.log_threshold_H"),
            "log_threshold_H' is missing",
        ),
    ],
)
def test_crosscode_that_cannot_be_represented_is_refused(
    tmp_path: Path, activation: str, options: dict[str, Any], change: Any, message: str
) -> None:
    state = _crosscode(tmp_path, activation, options)
    if change is not None:
        change(state)
        torch.save(state, tmp_path / "model.pt")
    with pytest.raises(CrosscoderError, match=message):
        import_crosscode(tmp_path, CROSSED)


def test_folded_scales_are_not_applied_twice(tmp_path: Path) -> None:
    _crosscode(tmp_path, "ReLUActivation", {}, folded=True)
    with pytest.raises(CrosscoderError, match="the scales are folded"):
        import_crosscode(tmp_path, CROSSED, norm_scale=np.ones(4, np.float32))


NESTED = """\
crosscoding_dims: !!python/tuple
- 2
- 2
d_model: 5
hidden_activation_cfg:
  k: 3
hidden_activation_classname: TopkActivation
hidden_dim: 12
"""


def test_nested_yaml_is_read_by_pyyaml(tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    _crosscode(tmp_path, "ReLUActivation", {})
    (tmp_path / "model_cfg.yaml").write_text(NESTED)
    mine = import_crosscode(tmp_path, CROSSED)
    assert (mine.config.architecture, mine.config.k) == ("topk_crosscoder", 3)
    assert mine.config.metadata["source"]["crosscoding_dims"] == [2, 2]
    hostile = "a: !!python/object/apply:os.system ['touch executed']\n"
    (tmp_path / "model_cfg.yaml").write_text(hostile)
    with pytest.raises(CrosscoderError, match="not valid YAML"):
        import_crosscode(tmp_path, CROSSED)


def test_without_pyyaml_the_way_to_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _crosscode(tmp_path, "ReLUActivation", {})
    (tmp_path / "model_cfg.yaml").write_text(NESTED)
    _without(monkeypatch, "yaml")
    with pytest.raises(ImportError, match=r"pip install pyyaml .or write .* as JSON"):
        import_crosscode(tmp_path, CROSSED)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2]", "is not a mapping of settings"),
        ("a: 1", "it names no activation"),
        ('{"hidden_activation_classname": "ReLUActivation", "hidden_activation_cfg": 3}', "names"),
    ],
)
def test_settings_without_an_activation_are_refused(
    tmp_path: Path, text: str, message: str
) -> None:
    _crosscode(tmp_path, "ReLUActivation", {})
    (tmp_path / "model_cfg.yaml").write_text(text)
    with pytest.raises(CrosscoderError, match=message):
        import_crosscode(tmp_path, CROSSED)
    (tmp_path / "model_cfg.yaml").unlink()
    with pytest.raises(CrosscoderError, match=r"model_cfg.yaml: cannot be read"):
        import_crosscode(tmp_path, CROSSED)
