import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch
from crosscoder_examples import MLP_SITES, D, acts, make, numbers
from safetensors.torch import save_file

from compactproofs.crosscoders import (
    Crosscoder,
    CrosscoderConfig,
    CrosscoderError,
    causal_masks,
    export_clt,
    import_clt,
    site_of,
)

L, F = 3, 4
READ = tuple(site_of(f"blocks.{layer}.hook_resid_mid") for layer in range(L))
WRITTEN = MLP_SITES[:L]
YAML = """\
model_name: "google/gemma-2-2b"
model_kind: cross_layer_transcoder
feature_input_hook: hook_resid_mid
feature_output_hook: hook_mlp_out
"""


def _write(
    path: Path, jumprelu: bool = True, dtype: torch.dtype = torch.float32, text: str = YAML
) -> list[dict[str, np.ndarray]]:
    """A cross-layer transcoder in the layout of circuit-tracer, and its numbers."""
    path.mkdir()
    rng, layers = np.random.default_rng(0), []
    for i in range(L):
        encoder = {
            f"W_enc_{i}": numbers(rng, F, D),
            f"b_enc_{i}": numbers(rng, F),
            f"b_dec_{i}": numbers(rng, D),
        }
        if jumprelu:
            encoder[f"threshold_{i}"] = np.abs(numbers(rng, F))
        decoder = {f"W_dec_{i}": numbers(rng, F, L - i, D)}
        for name, tensors in (("enc", encoder), ("dec", decoder)):
            stored = {key: torch.tensor(value).to(dtype) for key, value in tensors.items()}
            save_file(stored, path / f"W_{name}_{i}.safetensors")
            kept = {key: value.float().numpy() for key, value in stored.items()}
            (encoder if name == "enc" else decoder).update(kept)
        layers.append({key.rsplit("_", 1)[0]: v for key, v in (encoder | decoder).items()})
    (path / "config.yaml").write_text(text)
    return layers


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("jumprelu", [True, False])
def test_an_imported_transcoder_computes_what_it_did(
    tmp_path: Path, jumprelu: bool, dtype: torch.dtype
) -> None:
    layers = _write(tmp_path / "clt", jumprelu, dtype)
    clt = import_clt(tmp_path / "clt")
    assert (clt.config.sites, clt.config.output_sites) == (READ, WRITTEN)
    assert clt.config.d_sae == L * F
    given = acts(30, n_sites=L)
    codes, out = [], np.stack([layer["b_dec"] for layer in layers])[None].repeat(30, axis=0)
    for i, layer in enumerate(layers):
        h = given[:, i] @ layer["W_enc"].T + layer["b_enc"]
        codes.append(np.where(h > (layer["threshold"] if jumprelu else 0), h, 0))
        out[:, i:] += np.einsum("nf,fld->nld", codes[-1], layer["W_dec"])
    np.testing.assert_allclose(
        clt.encode(given), np.concatenate(codes, axis=1), rtol=1e-4, atol=1e-4
    )
    np.testing.assert_allclose(clt.decode(clt.encode(given)), out, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("jumprelu", [True, False])
def test_exporting_what_was_imported_gives_the_same_tensors(tmp_path: Path, jumprelu: bool) -> None:
    _write(tmp_path / "clt", jumprelu)
    exported = export_clt(
        tmp_path / "again", import_clt(tmp_path / "clt"), model_name="google/gemma-2-2b"
    )
    assert sorted(os.listdir(exported)) == sorted(os.listdir(tmp_path / "clt"))
    for name in os.listdir(exported):
        if name == "config.yaml":
            continue
        one = safetensors.numpy.load_file(tmp_path / "clt" / name)
        other = safetensors.numpy.load_file(exported / name)
        assert one.keys() == other.keys()
        for key in one:
            np.testing.assert_array_equal(one[key], other[key])
    again = import_clt(exported)
    assert again.config.metadata["source"] == import_clt(tmp_path / "clt").config.metadata["source"]


def _mixed(**changes: Any) -> Crosscoder:
    """Features out of order of their layers, and normalised activations."""
    rng = np.random.default_rng(5)
    source = rng.permutation(np.repeat(np.arange(L), F))
    enc_mask, dec_mask = causal_masks(source, L)
    config = CrosscoderConfig(
        "clt",
        READ,
        (D,) * L,
        L * F,
        output_sites=WRITTEN,
        mask="clt",
        normalize_activations="centred_sqrt_d_over_mean_norm",
        **changes,
    )
    return Crosscoder(
        config,
        numbers(rng, L, D, L * F) * enc_mask.T[:, None],
        numbers(rng, L * F),
        numbers(rng, L * F, L, D) * dec_mask[:, :, None],
        numbers(rng, L, D),
        norm_scale=np.array([1, 2, 3], np.float32),
        norm_mean=numbers(rng, L, D),
        out_scale=np.array([3, 1, 2], np.float32),
        out_mean=numbers(rng, L, D),
        enc_mask=enc_mask,
        dec_mask=dec_mask,
    )


def test_an_export_is_folded_and_ordered_by_layer(tmp_path: Path) -> None:
    clt = _mixed()
    again = import_clt(export_clt(tmp_path / "clt", clt, model_name="toy"))
    if clt.enc_mask is None:
        raise AssertionError("no mask")
    order = np.argsort(clt.enc_mask.argmax(axis=1), kind="stable")
    given = acts(20, n_sites=L)
    codes = clt.encode(given)
    np.testing.assert_allclose(again.encode(given), codes[:, order], rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(
        again.decode(codes[:, order]), clt.decode(codes), rtol=1e-3, atol=1e-3
    )


def test_what_the_layout_cannot_say_is_not_exported(tmp_path: Path) -> None:
    path = tmp_path / "clt"
    with pytest.raises(CrosscoderError, match="'topk_crosscoder', not 'clt'"):
        export_clt(path, make(), model_name="toy")
    with pytest.raises(CrosscoderError, match="it selects the k = 2 largest"):
        export_clt(path, _mixed(k=2), model_name="toy")
    mixed = _mixed()
    other = replace(mixed, config=replace(mixed.config, sites=READ[::-1]))
    with pytest.raises(CrosscoderError, match="are not one hook of every layer"):
        export_clt(path, other, model_name="toy")
    # The examples' features are dealt to the sites at random.
    with pytest.raises(CrosscoderError, match="features; they must be equal"):
        export_clt(path, make("clt"), model_name="toy")
    assert os.listdir(tmp_path) == []


def test_only_a_transcoder_is_replaced(tmp_path: Path) -> None:
    path = export_clt(tmp_path / "clt", _mixed(), model_name="toy")
    with pytest.raises(FileExistsError, match="force=True"):
        export_clt(path, _mixed(), model_name="toy")
    export_clt(path, _mixed(), model_name="other", force=True)
    assert 'model_name: "other"' in (path / "config.yaml").read_text()
    (path / "thesis.tex").write_text("")
    with pytest.raises(FileExistsError, match="holds 'thesis.tex'"):
        export_clt(path, _mixed(), model_name="toy", force=True)


def test_a_name_with_quotes_comes_back(tmp_path: Path) -> None:
    path = export_clt(tmp_path / "clt", _mixed(), model_name="org/model: 1 #2")
    assert import_clt(path).config.metadata["source"]["model_name"] == "org/model: 1 #2"


def test_other_hooks_need_sites(tmp_path: Path) -> None:
    _write(tmp_path / "clt", text=YAML.replace("hook_resid_mid", "mlp.hook_in"))
    with pytest.raises(CrosscoderError, match="site name 'blocks.0.mlp.hook_in' is not"):
        import_clt(tmp_path / "clt")
    assert import_clt(tmp_path / "clt", sites=READ).config.sites == READ


@pytest.mark.parametrize(
    ("file", "tensors", "message"),
    [
        ("W_enc_1", {"W_enc_1": np.ones((F, D), np.float32)}, "tensor 'b_enc_1' is missing"),
        ("W_dec_1", {"W_dec_1": np.ones((F, L, D), np.float32)}, "tensor 'W_dec_1' has shape"),
        ("W_dec_2", {"W_dec_1": np.ones((F, 1, D), np.float32)}, "tensor 'W_dec_1' is unknown"),
        (
            "W_enc_1",
            {
                "W_enc_1": np.ones((F, D), np.float32),
                "b_enc_1": np.ones(F, np.float32),
                "b_dec_1": np.ones(D, np.float32),
                "threshold_1": np.full(F, -1, np.float32),
            },
            "threshold holds -1.0",
        ),
        (
            "W_enc_1",
            {
                "W_enc_1": np.ones((F, D), np.float32),
                "b_enc_1": np.ones(F, np.float32),
                "b_dec_1": np.ones(D, np.float32),
                "W_skip_1": np.ones((D, D), np.float32),
            },
            "tensor 'W_skip_1' is unknown",
        ),
        (
            "W_enc_1",
            {
                "W_enc_1": np.ones((F, D), np.float32),
                "b_enc_1": np.ones(F, np.float32),
                "b_dec_1": np.ones(D, np.float32),
            },
            "its layers differ in shape or activation",
        ),
    ],
)
def test_layers_that_do_not_fit_are_refused(
    tmp_path: Path, file: str, tensors: dict[str, np.ndarray], message: str
) -> None:
    path = tmp_path / "clt"
    _write(path)
    (path / f"{file}.safetensors").write_bytes(safetensors.numpy.save(tensors))
    with pytest.raises(CrosscoderError, match=message) as caught:
        import_clt(path)
    assert str(caught.value).startswith(str(path))


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(CrosscoderError, match="holds no W_enc_0.safetensors"):
        import_clt(tmp_path)
    path = tmp_path / "clt"
    _write(path)
    (path / "W_dec_2.safetensors").unlink()
    with pytest.raises(CrosscoderError, match=r"W_dec_2.safetensors: cannot be read"):
        import_clt(path)
    (path / "config.yaml").unlink()
    with pytest.raises(CrosscoderError, match=r"config.yaml: cannot be read"):
        import_clt(path)
