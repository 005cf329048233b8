"""A model directory, read exactly: ``config.json`` and ``model.safetensors`` to one function.

Reading is trusted: a transposed matrix would certify another network. Every stored number is a
dyadic rational and is kept as the float64 number of the same value. Fields and tensors that are
not understood are refused, because ignoring one could ignore what the network does.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import prod
from pathlib import Path
from typing import Any, final

import numpy as np
from jaxtyping import Float64

from ._errors import ModelError
from ._files import MAX_BYTES
from ._frozen import frozen
from ._model_config import ignored_fields, load_config, read_model_file, score_divisor_squared
from ._safetensors import DamagedError, RawTensor, decode_floats, read_tensors
from ._transformer import Block, Transformer, assemble_transformer, mlp_width, tensor_shapes

_MAX_WEIGHTS = 1 << 24
_MAX_HEADER = 1 << 24  # bytes; more than a header may have


@final
@dataclass(frozen=True, eq=False)
class Model:
    """A one-layer, one-head, attention-only transformer with standard positions.

    Row vectors: ``residual = W_E[t] + W_pos[i]``, ``query = residual W_Q + b_Q`` and so on,
    scores divided by ``sqrt(score_divisor_squared)``. See ``_tables`` for the function.
    """

    score_divisor_squared: Fraction
    """``d_head``, or the exact square of ``attn_scale`` if the config gives one."""
    W_E: Float64[np.ndarray, "v d"]
    W_pos: Float64[np.ndarray, "k d"]
    W_Q: Float64[np.ndarray, "d h"]
    W_K: Float64[np.ndarray, "d h"]
    W_V: Float64[np.ndarray, "d h"]
    W_O: Float64[np.ndarray, "h d"]
    W_U: Float64[np.ndarray, "d x"]
    b_Q: Float64[np.ndarray, " h"]
    b_K: Float64[np.ndarray, " h"]
    b_V: Float64[np.ndarray, " h"]
    b_O: Float64[np.ndarray, " d"]
    b_U: Float64[np.ndarray, " x"]
    attention_dir: str = "causal"
    ignored: tuple[str, ...] = ()
    """Config fields and tensors that were present and do not change the function."""

    def __post_init__(self) -> None:
        """Keep copies that nobody can change, so that the digest is that of what is proved."""
        d, h = np.shape(self.W_Q)
        sizes = {"v": len(self.W_E), "k": len(self.W_pos), "d": d, "h": h, "x": len(self.b_U)}
        for name, axes in _AXES.items():
            values = np.asarray(getattr(self, name))
            if values.dtype != np.float64 or values.shape != tuple(sizes[axis] for axis in axes):
                raise ModelError(f"{name} is {values.dtype} {values.shape}, not float64 [{axes}]")
            if not np.isfinite(values).all():
                raise ModelError(f"{name} holds NaN or infinity")
            object.__setattr__(self, name, frozen(values))
        if type(self.score_divisor_squared) is not Fraction or self.score_divisor_squared <= 0:
            raise ModelError(
                f"score_divisor_squared = {self.score_divisor_squared} must be a positive Fraction"
            )

    @property
    def n_ctx(self) -> int:
        """Positions, k."""
        return len(self.W_pos)

    @property
    def d_vocab(self) -> int:
        """Tokens, v."""
        return len(self.W_E)

    @property
    def d_vocab_out(self) -> int:
        """Outputs, x."""
        return len(self.b_U)

    def as_transformer(self) -> Transformer:
        """The same function as a transformer of one block without MLP."""
        d = len(self.W_Q)
        block = Block(
            *(array[None] for array in (self.W_Q, self.W_K, self.W_V, self.W_O)),
            *(array[None] for array in (self.b_Q, self.b_K, self.b_V)),
            b_O=self.b_O,
            W_in=np.zeros((d, 0)),
            b_in=np.zeros(0),
            W_out=np.zeros((0, d)),
            b_out=np.zeros(d),
        )
        return Transformer(
            score_divisor_squared=self.score_divisor_squared,
            W_E=self.W_E,
            W_pos=self.W_pos,
            blocks=(block,),
            W_U=self.W_U,
            b_U=self.b_U,
            attention_dir=self.attention_dir,
            ignored=self.ignored,
        )

    @property
    def sha256(self) -> str:
        """Digest (hex) of the function: function-changing config and exact values.

        Equal for every file format and key family of equal numbers. Cost: reads every weight.
        """
        return self.as_transformer().sha256


def load_model(path: str | os.PathLike[str]) -> Model:
    """Read a model directory exactly; raises ``ModelError`` with one line that says what to do.

    For one layer of attention alone, with one head; ``load_transformer`` reads every model.
    """
    directory = Path(path)
    config = load_config(directory / "config.json")
    _refuse_more_than_attention(config, directory / "config.json")
    stored, file = _load_tensors(config, _shapes(config), directory)
    return _assemble(config, stored, directory, file)


def load_transformer(path: str | os.PathLike[str]) -> Transformer:
    """Read a model directory of any depth, with or without MLP; otherwise as ``load_model``."""
    directory = Path(path)
    config = load_config(directory / "config.json")
    if _is_one_attention(config):
        return load_model(path).as_transformer()
    stored, file = _load_tensors(config, tensor_shapes(config), directory)
    ignored = tuple(ignored_fields(config))
    divisor_squared = score_divisor_squared(config, 3, directory / "config.json")
    return assemble_transformer(config, stored, divisor_squared, ignored, file)


def load_network(path: str | os.PathLike[str]) -> Model | Transformer:
    """Read any model directory: a ``Model`` if it is one, else a ``Transformer``."""
    net = load_transformer(path)
    return load_model(path) if net.is_attention_only_layer else net


def _load_tensors(
    config: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]], directory: Path
) -> tuple[dict[str, RawTensor], Path]:
    file = directory / "model.safetensors"
    weights = sum(prod(shape) for shape in shapes.values())
    if weights > _MAX_WEIGHTS:
        raise ModelError(
            f"{directory / 'config.json'}: a model of {weights} weights; this version reads up to "
            f"{_MAX_WEIGHTS}"
        )
    try:
        # At most 8 bytes a number; TransformerLens 3 stores a mask of n_ctx^2 a layer besides.
        masks = config["n_layers"] * config["n_ctx"] ** 2
        limit = 8 * (weights + masks) + _MAX_HEADER
        stored, _ = read_tensors(read_model_file(file, min(limit, MAX_BYTES)))
    except DamagedError as error:
        raise ModelError(f"{file}: {error}") from None
    return dict(stored), file


def _is_one_attention(config: Mapping[str, Any]) -> bool:
    return config["n_layers"] == 1 and config["n_heads"] == 1 and mlp_width(config) == 0


def _refuse_more_than_attention(config: Mapping[str, Any], path: Path) -> None:
    if not _is_one_attention(config):
        mlp = mlp_width(config)
        raise ModelError(
            f"{path}: {config['n_layers']} layers, {config['n_heads']} heads and an MLP of {mlp} "
            "neurons: this is for one layer of attention with one head; the theorems "
            "brute-force, cells and crosscoder-a to -d read other models"
        )


_TENSORS = {
    # ours: (TransformerLens 3 key, TransformerLens 4 key); a missing bias is zero
    "W_E": ("embed.W_E", "embed.weight"),
    "W_pos": ("pos_embed.W_pos", "pos_embed.weight"),
    "W_Q": ("blocks.0.attn.W_Q", "blocks.0.attn.q.weight"),
    "W_K": ("blocks.0.attn.W_K", "blocks.0.attn.k.weight"),
    "W_V": ("blocks.0.attn.W_V", "blocks.0.attn.v.weight"),
    "W_O": ("blocks.0.attn.W_O", "blocks.0.attn.o.weight"),
    "W_U": ("unembed.W_U", "unembed.weight"),
    "b_Q": ("blocks.0.attn.b_Q", "blocks.0.attn.q.bias"),
    "b_K": ("blocks.0.attn.b_K", "blocks.0.attn.k.bias"),
    "b_V": ("blocks.0.attn.b_V", "blocks.0.attn.v.bias"),
    "b_O": ("blocks.0.attn.b_O", "blocks.0.attn.o.bias"),
    "b_U": ("unembed.b_U", "unembed.bias"),
}
_AXES = {
    "W_E": "vd", "W_pos": "kd", "W_Q": "dh", "W_K": "dh", "W_V": "dh", "W_O": "hd", "W_U": "dx",
    "b_Q": "h", "b_K": "h", "b_V": "h", "b_O": "d", "b_U": "x",
}  # fmt: skip
_OUT_BY_IN = ("W_Q", "W_K", "W_V", "W_O", "W_U")  # how TransformerLens 4 stores them
_BUFFERS = ("blocks.0.attn.mask", "blocks.0.attn.IGNORE")


def _shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    out = config.get("d_vocab_out", -1)
    sizes = {
        "d": config["d_model"],
        "h": config["d_head"],
        "k": config["n_ctx"],
        "v": config["d_vocab"],
        "x": config["d_vocab"] if out == -1 else out,
    }
    return {name: tuple(sizes[axis] for axis in axes) for name, axes in _AXES.items()}


def _as_stored(name: str, shape: tuple[int, ...], family: int) -> tuple[int, ...]:
    """The shape of a tensor in the file: one head in front (3), or out-by-in matrices (4)."""
    if family == 3:
        headed = name in ("W_Q", "W_K", "W_V", "W_O", "b_Q", "b_K", "b_V")
        return (1, *shape) if headed else shape
    return shape[::-1] if name in _OUT_BY_IN else shape


def _assemble(
    config: Mapping[str, Any], stored: Mapping[str, RawTensor], directory: Path, path: Path
) -> Model:
    # The first tensor tells the family; every other key of the file must belong to it.
    family = 4 if "embed.weight" in stored else 3
    keys = {ours: row[family - 3] for ours, row in _TENSORS.items()}
    strangers = set(stored) - set(keys.values()) - set(_BUFFERS if family == 3 else ())
    if strangers:
        raise ModelError(
            f"{path}: unexpected tensor {min(strangers)!r}; a one-layer, one-head, attention-only "
            f"model in TransformerLens {family} names has {', '.join(keys.values())}"
        )
    tensors: dict[str, Float64[np.ndarray, "..."]] = {}
    for ours, shape in _shapes(config).items():
        key = keys[ours]
        if key not in stored:
            if not ours.startswith("b_"):
                raise ModelError(f"{path}: the tensor {key!r} is missing")
            tensors[ours] = np.zeros(shape)
            continue
        expected = _as_stored(ours, shape, family)
        if stored[key].shape != expected:
            raise ModelError(
                f"{path}: tensor {key!r} has shape {stored[key].shape}, but config.json makes it "
                f"{expected}"
            )
        try:
            values = decode_floats(stored[key])
        except DamagedError as error:
            raise ModelError(f"{path}: tensor {key!r}: {error}") from None
        if family == 4 and ours in _OUT_BY_IN:
            values = values.T
        tensors[ours] = values.reshape(shape)
    ignored = ignored_fields(config) + sorted(set(stored) & set(_BUFFERS))
    divisor_squared = score_divisor_squared(config, family, directory / "config.json")
    return Model(
        score_divisor_squared=divisor_squared,
        attention_dir=config.get("attention_dir", "causal"),
        ignored=tuple(ignored),
        **tensors,
    )
