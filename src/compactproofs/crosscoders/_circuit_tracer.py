"""Cross-layer transcoders in the files of circuit-tracer: one pair of files a layer.

``W_enc_i.safetensors`` holds ``W_enc_i`` [F, d], ``b_enc_i`` [F], ``b_dec_i`` [d] and, for
JumpReLU, ``threshold_i`` [F]; ``W_dec_i.safetensors`` holds ``W_dec_i`` [F, L - i, d]: features of
layer i write the layers from i on. ``config.yaml`` names the model and the two hooks. Here, feature
j of layer i is feature i F + j.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Integer

from ._config import CLT, CrosscoderConfig, Site, site_of
from ._crosscoder import Crosscoder
from ._directory import check_destination, write_directory
from ._errors import CrosscoderError, located
from ._foreign import Tensors, flat_yaml, read_foreign_tensors, read_settings, take
from ._masks import causal_masks
from ._tensors import tensor_bytes

CONFIG_FILE: Final = "config.yaml"

_HOOK = re.compile(r"blocks\.[0-9]+\.(.+)")


def import_clt(
    path: str | os.PathLike[str],
    *,
    sites: Sequence[Site] | None = None,
    output_sites: Sequence[Site] | None = None,
) -> Crosscoder:
    """A ``clt`` from a directory in circuit-tracer's layout.

    sites, output_sites: one of each layer, read and written; None for the hooks of ``config.yaml``,
    where they have TransformerLens names.

    Raises CrosscoderError, naming the file and what is wrong with it. Cost: memory of L^2 F d
    numbers four times, because zeros are stored here.
    """
    directory = Path(path)
    n_layers = len(list(directory.glob("W_enc_*.safetensors")))
    if not n_layers:
        raise CrosscoderError(
            f"{path}: holds no W_enc_0.safetensors; not a cross-layer transcoder?"
        )
    settings = read_settings(directory / CONFIG_FILE)
    with located(directory / CONFIG_FILE):
        read = _sites(settings, "feature_input_hook", n_layers) if sites is None else sites
        written = (
            _sites(settings, "feature_output_hook", n_layers)
            if output_sites is None
            else output_sites
        )
    layers = [_read_layer(directory, layer, n_layers) for layer in range(n_layers)]
    with located(directory):
        sizes = {layer["W_enc"].shape for layer in layers}
        if len(sizes) != 1 or len({"threshold" in layer for layer in layers}) != 1:
            raise CrosscoderError(f"its layers differ in shape or activation: {sorted(sizes)}")
        n_features, d = layers[0]["W_enc"].shape
        config = CrosscoderConfig(
            architecture=CLT,
            sites=tuple(read),
            output_sites=tuple(written),
            d_in=(d,) * n_layers,
            d_sae=n_layers * n_features,
            mask="clt",
            positions="all",
            metadata={"source": settings},
        )
        return Crosscoder(config, **_stacked(layers))


def export_clt(
    path: str | os.PathLike[str],
    crosscoder: Crosscoder,
    *,
    model_name: str,
    force: bool = False,
) -> Path:
    """Write a ``clt`` in circuit-tracer's layout, folded, and return `path`.

    model_name: what circuit-tracer loads the model by. Features are written by layer, in their
    order. The directory appears whole or not at all; `force` replaces one of this kind.

    Raises CrosscoderError for another architecture, for one that selects by k, which that layout
    cannot say, for layers with unequal numbers of features, and for sites without a common hook.
    Raises FileExistsError as `save_crosscoder` does.
    """
    config = crosscoder.config
    if config.architecture != CLT or crosscoder.enc_mask is None:
        raise CrosscoderError(f"the architecture is {config.architecture!r}, not {CLT!r}")
    if crosscoder.threshold is None and config.k is not None:
        raise CrosscoderError(
            f"it selects the k = {config.k} largest, which circuit-tracer cannot; "
            "give it thresholds"
        )
    n_layers = len(config.sites)
    source = crosscoder.enc_mask.argmax(axis=1)
    counts = np.bincount(source, minlength=n_layers)
    if len(set(counts.tolist())) != 1:
        raise CrosscoderError(f"its layers have {counts.tolist()} features; they must be equal")
    hooks = {
        "feature_input_hook": _common_hook(config.sites),
        "feature_output_hook": _common_hook(config.output_sites),
    }
    names = [
        f"W_{part}_{layer}.safetensors" for layer in range(n_layers) for part in ("enc", "dec")
    ]
    kind = "the directory of a cross-layer transcoder"
    check_destination(path, kind, [CONFIG_FILE, *names], CONFIG_FILE, force=force)
    settings = {"model_name": model_name, "model_kind": "cross_layer_transcoder", **hooks}
    files = {CONFIG_FILE: flat_yaml(settings)}
    folded = crosscoder.fold()
    for layer in range(n_layers):
        files |= _layer_files(folded, layer, np.flatnonzero(source == layer))
    return write_directory(path, files)


def _layer_files(
    folded: Crosscoder, layer: int, features: Integer[np.ndarray, " F"]
) -> dict[str, bytes]:
    encoder = {
        f"W_enc_{layer}": folded.W_enc[layer][:, features].T,
        f"b_enc_{layer}": folded.b_enc[features],
        f"b_dec_{layer}": folded.b_dec[layer],
    }
    if folded.threshold is not None:
        every = np.broadcast_to(folded.threshold, folded.b_enc.shape)
        encoder[f"threshold_{layer}"] = every[features]
    decoder = {f"W_dec_{layer}": folded.W_dec[features, layer:]}
    return {
        f"W_enc_{layer}.safetensors": tensor_bytes(encoder),
        f"W_dec_{layer}.safetensors": tensor_bytes(decoder),
    }


def _read_layer(directory: Path, layer: int, n_layers: int) -> Tensors:
    file = directory / f"W_enc_{layer}.safetensors"
    names = ("W_enc", "b_enc", "b_dec", "threshold")
    with located(file):
        shapes = dict(zip((f"{n}_{layer}" for n in names), ("F d", "F", "d", "F"), strict=True))
        stored = take(read_foreign_tensors(file), shapes, [f"threshold_{layer}"])
        tensors = {name.removesuffix(f"_{layer}"): array for name, array in stored.items()}
    file = directory / f"W_dec_{layer}.safetensors"
    with located(file):
        W_dec = take(read_foreign_tensors(file), {f"W_dec_{layer}": "F T d"})[f"W_dec_{layer}"]
        n_features, d = tensors["W_enc"].shape
        if W_dec.shape != (n_features, n_layers - layer, d):
            raise CrosscoderError(
                f"tensor 'W_dec_{layer}' has shape {W_dec.shape}, "
                f"not {(n_features, n_layers - layer, d)}"
            )
    return {**tensors, "W_dec": W_dec}


def _stacked(layers: Sequence[Tensors]) -> dict[str, Any]:
    n_layers = len(layers)
    n_features, d = layers[0]["W_enc"].shape
    W_enc = np.zeros((n_layers, d, n_layers * n_features), np.float32)
    W_dec = np.zeros((n_layers * n_features, n_layers, d), np.float32)
    for i, layer in enumerate(layers):
        here = slice(i * n_features, (i + 1) * n_features)
        W_enc[i, :, here] = layer["W_enc"].T
        W_dec[here, i:] = layer["W_dec"]
    enc_mask, dec_mask = causal_masks(np.repeat(np.arange(n_layers), n_features), n_layers)
    arrays: dict[str, Any] = {
        "W_enc": W_enc,
        "b_enc": np.concatenate([layer["b_enc"] for layer in layers]),
        "W_dec": W_dec,
        "b_dec": np.stack([layer["b_dec"] for layer in layers]),
        "enc_mask": enc_mask,
        "dec_mask": dec_mask,
    }
    if "threshold" in layers[0]:
        arrays["threshold"] = np.concatenate([layer["threshold"] for layer in layers])
    return arrays


def _sites(settings: dict[str, Any], field: str, n_layers: int) -> tuple[Site, ...]:
    hook = settings.get(field)
    if not isinstance(hook, str):
        raise CrosscoderError(f"{field} = {hook!r} is no name of a hook; give the sites")
    return tuple(site_of(f"blocks.{layer}.{hook}") for layer in range(n_layers))


def _common_hook(sites: Sequence[Site]) -> str:
    matches = [_HOOK.fullmatch(site.name) for site in sites]
    hooks = {match[1] for match in matches if match is not None}
    layers = [site.layer for site in sites]
    if None in matches or len(hooks) != 1 or layers != list(range(len(sites))):
        raise CrosscoderError(
            f"the sites {', '.join(site.name for site in sites)} are not one hook of every layer"
        )
    return hooks.pop()
