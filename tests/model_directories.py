"""Model directories written by hand, byte for byte: good ones, to be spoilt by an edit."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

K, V, D, H, X = 3, 5, 4, 6, 7
"""Sizes of the model below, all different."""

CONFIG: dict[str, Any] = {
    "n_layers": 1,
    "n_heads": 1,
    "d_model": D,
    "d_head": H,
    "d_vocab": V,
    "d_vocab_out": X,
    "n_ctx": K,
    "attn_only": True,
    "normalization_type": None,
    "use_attn_scale": True,
    "attn_scale": -1.0,
    "attention_dir": "causal",
}

SHAPES = {
    "embed.W_E": (V, D),
    "pos_embed.W_pos": (K, D),
    "blocks.0.attn.W_Q": (1, D, H),
    "blocks.0.attn.W_K": (1, D, H),
    "blocks.0.attn.W_V": (1, D, H),
    "blocks.0.attn.W_O": (1, H, D),
    "unembed.W_U": (D, X),
    "blocks.0.attn.b_Q": (1, H),
    "blocks.0.attn.b_K": (1, H),
    "blocks.0.attn.b_V": (1, H),
    "blocks.0.attn.b_O": (D,),
    "unembed.b_U": (X,),
}
"""TransformerLens 3 names."""

Stored = tuple[str, str, tuple[int, ...], bytes]
"""Name, format, shape, little-endian bytes."""

_FORMATS = {"f2": "F16", "f4": "F32", "f8": "F64", "i4": "I32", "i8": "I64", "b1": "BOOL"}


def random_tensors(seed: int = 0) -> dict[str, np.ndarray]:
    """Float32 weights of every name in ``SHAPES``, none of them zero."""
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}


def as_version_4(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same one-head model under TransformerLens 4 names: matrices out by in, no head axis."""
    renamed: dict[str, np.ndarray] = {}
    for name, array in tensors.items():
        module, short = name.rsplit(".", 1)
        if module == "blocks.0.attn":
            bias = short == "b_O"
            array = array if bias else array[0]
            key = f"{module}.{short[-1].lower()}.{'weight' if short[0] == 'W' else 'bias'}"
        else:
            key = f"{module}.{'weight' if short[0] == 'W' else 'bias'}"
        out_by_in = short[0] == "W" and module not in ("embed", "pos_embed")
        renamed[key] = np.ascontiguousarray(array.T if out_by_in else array)
    return renamed


def stored(tensors: Mapping[str, np.ndarray]) -> list[Stored]:
    """Arrays as they lie in a file."""
    return [
        (name, _FORMATS[array.dtype.str[1:]], array.shape, array.tobytes())
        for name, array in tensors.items()
    ]


def safetensors_bytes(entries: Iterable[Stored], *, more_header: str = "") -> bytes:
    """A safetensors file; ``more_header`` is raw JSON text put before the closing brace."""
    parts: list[str] = []
    body = b""
    for name, dtype, shape, data in entries:
        fields = {
            "dtype": dtype,
            "shape": list(shape),
            "data_offsets": [len(body), len(body) + len(data)],
        }
        parts.append(f"{json.dumps(name)}: {json.dumps(fields)}")
        body += data
    header = ("{" + ", ".join(parts) + more_header + "}").encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + body


def write_model(
    directory: Path,
    tensors: Mapping[str, np.ndarray] | bytes | None = None,
    config: Mapping[str, Any] | str | bytes = CONFIG,
) -> Path:
    """Write a model directory from arrays or raw bytes and return it."""
    directory.mkdir(parents=True, exist_ok=True)
    tensors = random_tensors() if tensors is None else tensors
    raw = tensors if isinstance(tensors, bytes) else safetensors_bytes(stored(tensors))
    text = config if isinstance(config, str | bytes) else json.dumps(config)
    (directory / "model.safetensors").write_bytes(raw)
    (directory / "config.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    return directory
