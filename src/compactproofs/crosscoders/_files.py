"""A crosscoder on disk: ``cfg.json``, ``crosscoder_weights.safetensors``, a model card.

Fields that SAELens has too (``architecture``, ``d_in``, ``d_sae``, ``dtype``, ``device``,
``normalize_activations``, ``apply_b_dec_to_input``, ``metadata``) have its names; ``d_in`` is a
list with the width of each site.
"""

import json
import os
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Float32, Shaped

from ._config import CrosscoderConfig
from ._crosscoder import TENSORS, Crosscoder
from ._directory import check_destination, write_directory
from ._errors import CrosscoderError, located
from ._json import json_bytes, read_object, require_fields, require_version, sites_from
from ._tensors import open_tensors, tensor_bytes

CONFIG_FILE: Final = "cfg.json"
WEIGHTS_FILE: Final = "crosscoder_weights.safetensors"
CARD_FILE: Final = "README.md"
SPARSITY_FILE: Final = "sparsity.safetensors"
FORMAT_VERSION: Final = 1

_REQUIRED = ("W_enc", "b_enc", "W_dec", "b_dec")
_SETTINGS = tuple(field.name for field in fields(CrosscoderConfig))
_FREQUENCY = "firing_frequency"


def save_crosscoder(
    path: str | os.PathLike[str],
    crosscoder: Crosscoder,
    *,
    firing_frequency: Shaped[np.ndarray, " H"] | None = None,
    force: bool = False,
) -> Path:
    """Write the directory of a crosscoder and return its path.

    firing_frequency: [H], the share of samples in which each feature is active, for
    ``sparsity.safetensors``; force: replace a directory that holds a crosscoder and nothing else.

    The directory appears whole or not at all, also after Ctrl-C; equal inputs give equal bytes.
    Raises FileExistsError or NotADirectoryError as `compactproofs.models.save_model` does, and
    CrosscoderError for frequencies of another shape or outside [0, 1].
    Cost: two copies of the weights in memory.
    """
    check_crosscoder_destination(path, force=force)
    digest = crosscoder.sha256
    files = {
        CONFIG_FILE: json_bytes(_stated(crosscoder.config, digest)),
        WEIGHTS_FILE: tensor_bytes(dict(crosscoder.tensors())),
        CARD_FILE: _card(crosscoder.config, digest).encode(),
    }
    if firing_frequency is not None:
        checked = _checked_frequency(np.asarray(firing_frequency), crosscoder.config.d_sae)
        files[SPARSITY_FILE] = tensor_bytes({_FREQUENCY: checked})
    return write_directory(path, files)


def check_crosscoder_destination(path: str | os.PathLike[str], *, force: bool = False) -> None:
    """Raise unless `save_crosscoder` may write to `path`; call it before a long run."""
    names = (CONFIG_FILE, WEIGHTS_FILE, CARD_FILE, SPARSITY_FILE)
    check_destination(path, "the directory of a crosscoder", names, CONFIG_FILE, force=force)


def load_crosscoder(path: str | os.PathLike[str]) -> Crosscoder:
    """Read a directory written by `save_crosscoder`.

    Raises CrosscoderError, naming the file, for one that is missing, malformed, of another format
    version, with a field or tensor that is not understood, or whose weights and settings do not
    have the digest that it states. Cost: reads every weight twice.
    """
    directory = Path(path)
    stated = read_object(directory / CONFIG_FILE)
    with located(directory / CONFIG_FILE):
        config = config_from(stated)
    with located(directory / WEIGHTS_FILE):
        stored = open_tensors(directory / WEIGHTS_FILE).arrays
        for name in stored:
            if name not in TENSORS:
                raise CrosscoderError(f"tensor {name!r} is unknown; known are {', '.join(TENSORS)}")
        for name in _REQUIRED:
            if name not in stored:
                raise CrosscoderError(f"tensor {name!r} is missing")
        crosscoder = Crosscoder(config, **stored)
    if crosscoder.sha256 != stated["sha256"]:
        raise CrosscoderError(
            f"{path}: the weights and settings have digest {crosscoder.sha256}, but {CONFIG_FILE} "
            f"states {stated['sha256']!r}; the files were changed or do not belong together"
        )
    return crosscoder


def load_firing_frequency(path: str | os.PathLike[str]) -> Float32[np.ndarray, " H"] | None:
    """The share of samples in which each feature is active; None where it was not stored.

    Raises CrosscoderError for a malformed file.
    """
    file = Path(path) / SPARSITY_FILE
    if not file.exists():
        return None
    with located(file):
        stored = open_tensors(file).arrays
        if set(stored) != {_FREQUENCY}:
            raise CrosscoderError(f"it holds {sorted(stored)}, not {_FREQUENCY!r} alone")
        found = stored[_FREQUENCY]
        return _checked_frequency(found, len(found) if found.ndim == 1 else -1)


def config_from(stated: dict[str, Any]) -> CrosscoderConfig:
    """Settings from the fields of ``cfg.json``; raises CrosscoderError, naming the field."""
    require_version(stated, FORMAT_VERSION)
    require_fields(stated, ("format_version", "sha256", *_SETTINGS), ("device",))
    settings = {name: stated[name] for name in _SETTINGS}
    for name in ("sites", "output_sites"):
        settings[name] = sites_from(name, settings[name])
    if isinstance(settings["d_in"], list):
        settings["d_in"] = tuple(settings["d_in"])
    return CrosscoderConfig(**settings)


def _stated(config: CrosscoderConfig, digest: str) -> dict[str, Any]:
    settings = asdict(config)
    metadata = settings.pop("metadata")
    return {
        "format_version": FORMAT_VERSION,
        **settings,
        # SAELens asks for it; nothing here depends on it.
        "device": "cpu",
        "sha256": digest,
        "metadata": metadata,
    }


def _checked_frequency(found: Shaped[np.ndarray, "..."], size: int) -> Float32[np.ndarray, " H"]:
    if found.shape != (size,) or found.dtype.kind not in "fiu":
        raise CrosscoderError(
            f"firing_frequency is {found.dtype} {found.shape}, not one number of each feature"
        )
    within = (found >= 0) & (found <= 1)
    if not within.all():
        feature = int(np.argmin(within))
        raise CrosscoderError(
            f"firing_frequency of feature {feature} is {found[feature]}, not within [0, 1]"
        )
    return np.array(found, np.float32)


def _card(config: CrosscoderConfig, digest: str) -> str:
    rows = {
        "architecture": config.architecture,
        "features (d_sae)": config.d_sae,
        "active features (k)": "not limited" if config.k is None else config.k,
        "sites read": ", ".join(site.name for site in config.sites),
        "sites written": ", ".join(site.name for site in config.written_sites),
        "width of a site (d_in)": config.d,
        "token positions": config.positions,
        "score": config.score,
        "mask": config.mask,
        "normalisation": config.normalize_activations + (" (folded)" if config.folded else ""),
        "digest of the model": config.model_sha256 or "unknown",
        "digest of the crosscoder": digest,
        **{f"metadata: {name}": value for name, value in config.metadata.items()},
    }
    cells = [f"| {_cell(name)} | {_cell(value)} |" for name, value in rows.items()]
    return (
        "---\nlibrary_name: compactproofs\ntags: [crosscoder, interpretability]\n---\n\n"
        "# Crosscoder\n\n"
        "One sparse code for the activations of several sites of a network. Encodes raw "
        "activations `[n, L, d]`.\n\n"
        "| | |\n| --- | --- |\n" + "\n".join(cells) + "\n\n"
        "```python\nfrom compactproofs.crosscoders import load_crosscoder\n\n"
        'crosscoder = load_crosscoder("path/of/this/directory")\n'
        "codes = crosscoder.encode(activations)  # [n, H]\n```\n"
    )


def _cell(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return " ".join(text.split()).replace("|", "\\|")
