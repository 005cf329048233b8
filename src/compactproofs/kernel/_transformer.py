"""Transformers of any depth, with several heads and ReLU MLPs: the stored numbers, exactly.

Row vectors. With ``r_i = W_E[t_i] + W_pos[i]`` a block maps the residual stream of each position to

    mid_i  = r_i + sum_heads (sum_j A_ij (r_j W_V + b_V)) W_O + b_O
    post_i = mid_i + relu(mid_i W_in + b_in) W_out + b_out

with ``A_i = softmax_j((r_i W_Q + b_Q) . (r_j W_K + b_K) / sqrt(score_divisor_squared))`` over the
positions ``j <= i`` (all positions, if attention is bidirectional). The answer is read at the last
position: ``logits = post_{k-1} W_U + b_U`` after the last block.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, final

import numpy as np
from jaxtyping import Float64

from ._errors import ModelError
from ._frozen import frozen
from ._safetensors import DamagedError, RawTensor, decode_floats


def _kept(owner: object, name: str, shape: tuple[int, ...]) -> None:
    """Replace an array attribute by a copy that nobody can change, or refuse it."""
    values = np.asarray(getattr(owner, name))
    if values.dtype != np.float64 or values.shape != shape:
        raise ModelError(f"{name} is {values.dtype} {values.shape}, not float64 {shape}")
    if not np.isfinite(values).all():
        raise ModelError(f"{name} holds NaN or infinity")
    object.__setattr__(owner, name, frozen(values))


@final
@dataclass(frozen=True, eq=False)
class Block:
    """One layer: attention of ``a`` heads, then an MLP of ``m`` ReLU neurons (none if m = 0)."""

    W_Q: Float64[np.ndarray, "a d h"]
    W_K: Float64[np.ndarray, "a d h"]
    W_V: Float64[np.ndarray, "a d h"]
    W_O: Float64[np.ndarray, "a h d"]
    b_Q: Float64[np.ndarray, "a h"]
    b_K: Float64[np.ndarray, "a h"]
    b_V: Float64[np.ndarray, "a h"]
    b_O: Float64[np.ndarray, " d"]
    W_in: Float64[np.ndarray, "d m"]
    b_in: Float64[np.ndarray, " m"]
    W_out: Float64[np.ndarray, "m d"]
    b_out: Float64[np.ndarray, " d"]

    def __post_init__(self) -> None:
        """Keep copies that nobody can change."""
        (a, d, h), m = np.shape(self.W_Q), len(self.b_in)
        sizes = {"a": a, "d": d, "h": h, "m": m}
        for name, axes in _BLOCK_AXES.items():
            _kept(self, name, tuple(sizes[axis] for axis in axes))
        if not m and np.any(self.b_out):
            raise ModelError("b_out is not zero in a block without neurons: add it to b_O instead")

    @property
    def n_heads(self) -> int:
        """Heads, a."""
        return len(self.W_Q)

    @property
    def d_mlp(self) -> int:
        """Neurons, m."""
        return len(self.b_in)


@final
@dataclass(frozen=True, eq=False)
class Transformer:
    """A transformer without LayerNorm, with learned positions; see the top of this file."""

    score_divisor_squared: Fraction
    """``d_head``, or the exact square of ``attn_scale`` if the config gives one."""
    W_E: Float64[np.ndarray, "v d"]
    W_pos: Float64[np.ndarray, "k d"]
    blocks: tuple[Block, ...]
    W_U: Float64[np.ndarray, "d x"]
    b_U: Float64[np.ndarray, " x"]
    attention_dir: str = "causal"
    ignored: tuple[str, ...] = ()
    """Config fields and tensors that were present and do not change the function."""

    def __post_init__(self) -> None:
        """Keep copies that nobody can change; the blocks must fit together."""
        v, d = np.shape(self.W_E)
        for name, shape in (
            ("W_E", (v, d)),
            ("W_pos", (len(self.W_pos), d)),
            ("W_U", (d, len(self.b_U))),
            ("b_U", (len(self.b_U),)),
        ):
            _kept(self, name, shape)
        if not self.blocks or any(type(block) is not Block for block in self.blocks):
            raise ModelError("a transformer needs at least one block")
        if len({(*block.W_Q.shape, block.d_mlp) for block in self.blocks}) != 1 or (
            self.blocks[0].W_Q.shape[1] != d
        ):
            raise ModelError("the blocks of a transformer must all have its width and one size")
        if type(self.score_divisor_squared) is not Fraction or self.score_divisor_squared <= 0:
            raise ModelError(
                f"score_divisor_squared = {self.score_divisor_squared} must be a positive Fraction"
            )
        if self.attention_dir not in ("causal", "bidirectional"):
            raise ModelError(
                f"attention_dir = {self.attention_dir!r} must be causal or bidirectional"
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

    @property
    def d_model(self) -> int:
        """Width of the residual stream, d."""
        return self.W_E.shape[1]

    @property
    def is_attention_only_layer(self) -> bool:
        """Whether this is one layer of one head without MLP: what a ``Model`` is."""
        first = self.blocks[0]
        return len(self.blocks) == 1 and first.n_heads == 1 and first.d_mlp == 0

    @property
    def sha256(self) -> str:
        """Digest (hex) of the function: function-changing config and exact values.

        For one attention-only layer of one head it is the digest of the same ``Model``.
        Cost: reads every weight.
        """
        first = self.blocks[0]
        simple = self.is_attention_only_layer
        function: dict[str, object] = {
            "attention_dir": self.attention_dir,
            "attn_only": first.d_mlp == 0,
            "d_head": first.W_Q.shape[2],
            "d_model": self.d_model,
            "d_vocab": self.d_vocab,
            "d_vocab_out": self.d_vocab_out,
            "n_ctx": self.n_ctx,
            "n_heads": first.n_heads,
            "n_layers": len(self.blocks),
            "normalization_type": None,
            "positional_embedding_type": "standard",
            "score_divisor_squared": str(self.score_divisor_squared),
        }
        if first.d_mlp:
            function |= {"act_fn": "relu", "d_mlp": first.d_mlp}
        text = json.dumps(function, sort_keys=True, separators=(",", ":"))
        digest = hashlib.sha256(b"compactproofs model 1\n" + text.encode())
        for name, values in self._named():
            shaped = values[0] if simple and ".attn." in name and values.ndim > 1 else values
            digest.update(f"\n{name} {list(shaped.shape)}\n".encode())
            # -0.0 is the number 0.0; float64 holds the exact value of every format read.
            digest.update(np.where(shaped == 0, 0.0, shaped).astype("<f8").tobytes())
        return digest.hexdigest()

    def _named(self) -> Iterator[tuple[str, np.ndarray]]:
        """Every tensor under its TransformerLens 3 name: weights first, then biases."""

        def of_blocks(*kinds: str) -> Iterator[tuple[str, np.ndarray]]:
            for number, block in enumerate(self.blocks):
                for name in _BLOCK_AXES:
                    part = "mlp" if name in _MLP else "attn"
                    if name.startswith(kinds) and (part == "attn" or block.d_mlp):
                        yield f"blocks.{number}.{part}.{name}", getattr(block, name)

        yield "embed.W_E", self.W_E
        yield "pos_embed.W_pos", self.W_pos
        yield from of_blocks("W_")
        yield "unembed.W_U", self.W_U
        yield from of_blocks("b_")
        yield "unembed.b_U", self.b_U


_BLOCK_AXES = {
    "W_Q": "adh", "W_K": "adh", "W_V": "adh", "W_O": "ahd", "b_Q": "ah", "b_K": "ah", "b_V": "ah",
    "b_O": "d", "W_in": "dm", "b_in": "m", "W_out": "md", "b_out": "d",
}  # fmt: skip
_MLP = ("W_in", "b_in", "W_out", "b_out")
_BUFFERS = ("mask", "IGNORE")


def tensor_shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """The TransformerLens 3 name and shape of every tensor of a model with this config."""
    out, m = config.get("d_vocab_out", -1), mlp_width(config)
    sizes = {
        "a": config["n_heads"],
        "d": config["d_model"],
        "h": config["d_head"],
        "k": config["n_ctx"],
        "m": m,
        "v": config["d_vocab"],
        "x": config["d_vocab"] if out == -1 else out,
    }
    named = {"embed.W_E": "vd", "pos_embed.W_pos": "kd", "unembed.W_U": "dx", "unembed.b_U": "x"}
    for number in range(config["n_layers"]):
        for name, axes in _BLOCK_AXES.items():
            if name not in _MLP or m:
                part = "mlp" if name in _MLP else "attn"
                named[f"blocks.{number}.{part}.{name}"] = axes
    return {name: tuple(sizes[axis] for axis in axes) for name, axes in named.items()}


def mlp_width(config: Mapping[str, Any]) -> int:
    """Neurons of each layer's MLP; 0 for a model of attention only."""
    if config["attn_only"]:
        return 0
    width = config.get("d_mlp")
    return 4 * config["d_model"] if width is None else width


def assemble_transformer(
    config: Mapping[str, Any],
    stored: Mapping[str, RawTensor],
    divisor_squared: Fraction,
    ignored: tuple[str, ...],
    path: object,
) -> Transformer:
    """The transformer of a config and its tensors; raises ``ModelError`` that names ``path``."""
    if "embed.weight" in stored:
        raise ModelError(
            f"{path}: TransformerLens 4 names are read for one attention-only layer of one head; "
            "write this model with TransformerLens 3 names (blocks.0.attn.W_Q, blocks.0.mlp.W_in)"
        )
    shapes = tensor_shapes(config)
    layers = range(config["n_layers"])
    buffers = {f"blocks.{number}.attn.{name}" for number in layers for name in _BUFFERS}
    strangers = set(stored) - set(shapes) - buffers
    if strangers:
        raise ModelError(
            f"{path}: unexpected tensor {min(strangers)!r}; this config has {', '.join(shapes)}"
        )
    tensors: dict[str, Float64[np.ndarray, "..."]] = {}
    for name, shape in shapes.items():
        if name not in stored:
            if ".b_" not in name:
                raise ModelError(f"{path}: the tensor {name!r} is missing")
            tensors[name] = np.zeros(shape)
            continue
        if stored[name].shape != shape:
            raise ModelError(
                f"{path}: tensor {name!r} has shape {stored[name].shape}, but config.json makes "
                f"it {shape}"
            )
        try:
            tensors[name] = decode_floats(stored[name])
        except DamagedError as error:
            raise ModelError(f"{path}: tensor {name!r}: {error}") from None
    d = config["d_model"]
    without_mlp = {
        "W_in": np.zeros((d, 0)), "b_in": np.zeros(0), "W_out": np.zeros((0, d)),
        "b_out": np.zeros(d),
    }  # fmt: skip
    blocks = tuple(
        Block(
            **(without_mlp if not mlp_width(config) else {}),
            **{
                name.rpartition(".")[2]: values
                for name, values in tensors.items()
                if name.startswith(f"blocks.{number}.")
            },
        )
        for number in layers
    )
    return Transformer(
        score_divisor_squared=divisor_squared,
        W_E=tensors["embed.W_E"],
        W_pos=tensors["pos_embed.W_pos"],
        blocks=blocks,
        W_U=tensors["unembed.W_U"],
        b_U=tensors["unembed.b_U"],
        attention_dir=config.get("attention_dir", "causal"),
        ignored=tuple(ignored) + tuple(sorted(set(stored) & buffers)),
    )
