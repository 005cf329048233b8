"""Crosscoders that other tools trained, from their own files.

Each reader takes exactly the tensors that it knows and refuses any other, because one that is
ignored could change the function. What a format does not say (sites, scales of the activations)
is asked for.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import fields
from math import prod
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Float, Float32, Shaped

from ._config import BATCHTOPK, JUMPRELU, L1, SCALED, TOPK, CrosscoderConfig, Site, site_of
from ._crosscoder import Crosscoder
from ._errors import CrosscoderError, located
from ._foreign import Tensors, read_foreign_tensors, read_settings, take

_SCORES: Final = {1: "sum", 2: "concat", 3: "mixed", 4: "none", 5: "decoupled"}
_SCORE_NAMES: Final = {
    "crosscoder": "sum",
    "sae": "concat",
    "mixed": "mixed",
    "none": "none",
    "decoupled": "decoupled",
}


def import_ckkissane(
    path: str | os.PathLike[str],
    *,
    sites: Sequence[Site] | None = None,
    norm_scale: Float[np.ndarray, " L"] | None = None,
) -> Crosscoder:
    """An L1 crosscoder from ``cfg.json`` and ``cc_weights.pt``, as model-diffing work writes them.

    sites: None for the one hook point of ``cfg.json`` in each model; norm_scale: the factor by
    which each site's activations were multiplied for it, which the files do not hold (None: 1).

    Raises CrosscoderError, naming the file and what is wrong with it; ImportError without torch.
    """
    directory = Path(path)
    settings = read_settings(directory / "cfg.json")
    file = directory / "cc_weights.pt"
    with located(file):
        shapes = {"W_enc": "L d H", "b_enc": "H", "W_dec": "H L d", "b_dec": "L d"}
        weights = take(read_foreign_tensors(file), shapes)
        n_models = len(weights["W_enc"])
        if sites is None:
            hook = settings.get("hook_point")
            if not isinstance(hook, str):
                raise CrosscoderError(f"cfg.json has hook_point = {hook!r}; give the sites")
            sites = [site_of(hook, model_index) for model_index in range(n_models)]
        return _assembled(L1, sites, weights, norm_scale=norm_scale, metadata={"source": settings})


def import_crosscode(
    path: str | os.PathLike[str],
    sites: Sequence[Site],
    *,
    threshold: float | None = None,
    norm_scale: Float[np.ndarray, " L"] | None = None,
) -> Crosscoder:
    """A crosscoder from ``model.pt`` and ``model_cfg.yaml`` (``W_enc_XDH`` and so on).

    sites: in the order of the flattened axes X (models, then hook points). threshold: of the score,
    for its batch top-k, which has none: without one it is read as top-k of each sample.
    norm_scale: the factors of its activations, where they are not folded into the weights.
    Selected codes that are negative, which its top-k permits, are zero here.

    Raises CrosscoderError, naming the file and what is wrong with it; ImportError without torch,
    and without PyYAML unless ``model_cfg.yaml`` holds JSON.
    """
    directory = Path(path)
    settings = read_settings(directory / "model_cfg.yaml")
    with located(directory / "model_cfg.yaml"):
        kind, options = _activation_of(settings)
    file = directory / "model.pt"
    with located(file):
        weights, folded, log_threshold = _crosscode_weights(read_foreign_tensors(file))
        if folded and norm_scale is not None:
            raise CrosscoderError("norm_scale is given, but the scales are folded; drop it")
        chosen: dict[str, Any] = {"norm_scale": norm_scale, "folded": folded}
        if kind == "AnthropicJumpReLUActivation":
            if log_threshold is None:
                raise CrosscoderError("tensor 'hidden_activation.log_threshold_H' is missing")
            architecture, chosen["threshold"] = JUMPRELU, np.exp(np.float64(log_threshold))
        elif kind == "ReLUActivation":
            architecture = L1
        elif kind in ("TopkActivation", "BatchTopkActivation"):
            by_batch = kind == "BatchTopkActivation"
            chosen["k"] = options.get("k_per_example" if by_batch else "k")
            architecture = BATCHTOPK if by_batch and threshold is not None else TOPK
            chosen["threshold"] = threshold if architecture == BATCHTOPK else None
        else:
            raise CrosscoderError(
                f"its activation is {kind!r}, which is not one of AnthropicJumpReLUActivation, "
                "ReLUActivation, TopkActivation, BatchTopkActivation"
            )
        return _assembled(
            architecture, sites, weights, score="none", metadata={"source": settings}, **chosen
        )


def import_dictionary_learning(
    path: str | os.PathLike[str],
    sites: Sequence[Site],
    *,
    threshold: float | None = None,
    norm_scale: Float[np.ndarray, " L"] | None = None,
) -> Crosscoder:
    """A crosscoder from ``config.json`` and ``model.safetensors`` or ``ae.pt`` of the forks of
    dictionary_learning (``encoder.weight`` and so on).

    One with a threshold is a ``batchtopk_crosscoder``, any other an ``l1_crosscoder``. threshold:
    in place of the stored one, which is negative where training never estimated it; norm_scale:
    the factor by which each site's activations were multiplied for it (None: 1).

    Raises CrosscoderError, naming the file and what is wrong with it, and ImportError for ``ae.pt``
    without torch.
    """
    directory = Path(path)
    settings = read_settings(directory / "config.json")
    file = directory / "model.safetensors"
    if not file.exists():
        file = directory / "ae.pt"
    with located(file):
        shapes = {
            "encoder.weight": "L d H",
            "encoder.bias": "H",
            "decoder.weight": "L H d",
            "decoder.bias": "L d",
            "threshold": "",
            "k": "",
            "code_normalization_id": "",
        }
        stored = take(
            read_foreign_tensors(file), shapes, ("threshold", "k", "code_normalization_id")
        )
        weights = {
            "W_enc": stored["encoder.weight"],
            "b_enc": stored["encoder.bias"],
            "W_dec": np.swapaxes(stored["decoder.weight"], 0, 1),
            "b_dec": stored["decoder.bias"],
        }
        chosen = _score_of(settings, stored, weights["W_dec"])
        if threshold is None and "threshold" in stored:
            threshold = float(stored["threshold"])
        if threshold is not None:
            k = int(stored["k"]) if "k" in stored else _setting(settings, "k")
            chosen |= {"threshold": threshold, "k": k}
        return _assembled(
            L1 if threshold is None else BATCHTOPK,
            sites,
            weights,
            norm_scale=norm_scale,
            metadata={"source": settings},
            **chosen,
        )


def _activation_of(settings: Mapping[str, Any]) -> tuple[object, Mapping[str, Any]]:
    nested = settings.get("activation_fn")
    if isinstance(nested, Mapping):
        kind, options = nested.get("classname"), nested.get("cfg")
    else:
        kind = settings.get("hidden_activation_classname")
        options = settings.get("hidden_activation_cfg")
    if not isinstance(kind, str) or not isinstance(options, Mapping | None):
        raise CrosscoderError("it names no activation: hidden_activation_classname is missing")
    return kind, options or {}


def _crosscode_weights(
    stored: Tensors,
) -> tuple[Tensors, bool, Shaped[np.ndarray, " H"] | None]:
    """The weights with one axis of sites, whether scales are folded, the log of the thresholds."""
    if "W_dec_HXD" not in stored or stored["W_dec_HXD"].ndim < 3:
        raise CrosscoderError("tensor 'W_dec_HXD' with the axes H, X, D is missing")
    n_features, *crossed, d = stored["W_dec_HXD"].shape
    axes = " ".join(f"X{i}" for i in range(len(crossed)))
    shapes = {
        "W_enc_XDH": f"{axes} D H",
        "b_enc_H": "H",
        "W_dec_HXD": f"H {axes} D",
        "b_dec_XD": f"{axes} D",
        "folded_scaling_factors_X": axes,
        "is_folded": "",
        "hidden_activation.log_threshold_H": "H",
    }
    optional = {"b_enc_H", "b_dec_XD", "folded_scaling_factors_X", *list(shapes)[-1:]}
    stored = take(stored, shapes, optional)
    n_sites = prod(crossed)
    # A bias that was not trained is not stored; it is zero.
    b_enc = stored.get("b_enc_H", np.zeros(n_features, np.float32))
    b_dec = stored.get("b_dec_XD", np.zeros((n_sites, d), np.float32))
    weights = {
        "W_enc": stored["W_enc_XDH"].reshape(n_sites, d, n_features),
        "b_enc": b_enc,
        "W_dec": stored["W_dec_HXD"].reshape(n_features, n_sites, d),
        "b_dec": b_dec.reshape(n_sites, d),
    }
    return weights, bool(stored["is_folded"]), stored.get("hidden_activation.log_threshold_H")


def _score_of(
    settings: Mapping[str, Any], stored: Tensors, W_dec: Float32[np.ndarray, "H L d"]
) -> dict[str, Any]:
    """``score``, and ``feature_scale`` where the weights are a mixture that has no name here."""
    if "code_normalization_id" in stored:
        said: object = int(stored["code_normalization_id"])
        score = _SCORES.get(int(stored["code_normalization_id"]))
    else:
        said = _setting(settings, "code_normalization") or "crosscoder"
        score = _SCORE_NAMES.get(str(said).rsplit(".", 1)[-1].lower())
    if score in (None, "decoupled"):
        raise CrosscoderError(f"code_normalization {said!r} is not supported: one code, not L")
    if score != "mixed":
        return {"score": score}
    norms = np.sqrt(np.square(np.float64(W_dec)).sum(axis=2))
    parts = {"code_normalization_alpha_sae": 1.0, "code_normalization_alpha_cc": 0.1}
    sae, cc = (_setting(settings, name, default) for name, default in parts.items())
    mixed = sae * np.sqrt(np.square(norms).sum(axis=1)) + cc * norms.sum(axis=1)
    return {"score": "sum", "feature_scale": mixed.astype(np.float32)}


def _setting(settings: Mapping[str, Any], name: str, default: Any = None) -> Any:
    """A setting, also from the ``trainer`` part that some versions write."""
    trainer = settings.get("trainer")
    inner = trainer if isinstance(trainer, Mapping) else {}
    return settings.get(name, inner.get(name, default))


def _assembled(
    architecture: str,
    sites: Sequence[Site],
    weights: Tensors,
    *,
    norm_scale: Float[np.ndarray, " L"] | None,
    folded: bool = False,
    **others: Any,
) -> Crosscoder:
    n_sites, d, n_features = weights["W_enc"].shape
    if len(sites) != n_sites:
        raise CrosscoderError(f"{len(sites)} sites are given, but the weights have {n_sites}")
    names = {field.name for field in fields(CrosscoderConfig)}
    config = CrosscoderConfig(
        architecture=architecture,
        sites=tuple(sites),
        d_in=(d,) * n_sites,
        d_sae=n_features,
        positions="all",
        normalize_activations="none" if norm_scale is None and not folded else SCALED,
        folded=folded,
        **{name: value for name, value in others.items() if name in names},
    )
    arrays = {name: value for name, value in others.items() if name not in names}
    return Crosscoder(config, **weights, norm_scale=norm_scale, **arrays)
