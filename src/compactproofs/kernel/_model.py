"""A model directory, read exactly: ``config.json`` and ``model.safetensors`` to one function.

Reading is trusted: a transposed matrix would certify another network. Every stored number is a
dyadic rational and is kept as the float64 number of the same value. Fields and tensors that are
not understood are refused, because ignoring one could ignore what the network does.
"""

import hashlib
import json
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
from ._files import MAX_BYTES, read_regular_file
from ._frozen import frozen
from ._safetensors import DamagedError, RawTensor, decode_floats, read_json, read_tensors

_MAX_CONFIG = 1 << 20  # bytes
_MAX_WEIGHTS = 1 << 24
_MAX_HEADER = 1 << 24  # bytes; more than a header may have

_SIZES = ("n_layers", "n_heads", "d_model", "d_head", "d_vocab", "n_ctx")
_CHOICES = ("attn_only", "normalization_type")  # TransformerLens's defaults are not ours
_OPTIONAL = (
    "d_mlp d_vocab_out act_fn eps attn_scale use_attn_scale attention_dir positional_embedding_type"
).split()

# Fields that could change the function, with the values at which they do not.
_OFF: tuple[object, ...] = (None, False)
_NEUTRAL: dict[str, tuple[object, ...]] = {
    "architecture": (None, "TransformerLensNative"),
    "attn_scores_soft_cap": (None, 0, -1),
    "clip_qkv": (None,),
    "final_rms": _OFF,
    "is_audio_model": _OFF,
    "is_multimodal": _OFF,
    "is_stateful": _OFF,
    "is_visual_model": _OFF,
    "load_in_4bit": _OFF,
    "n_key_value_heads": (None,),
    "original_architecture": (None,),
    "output_logits_soft_cap": (None, 0, -1),
    "parallel_attn_mlp": _OFF,
    "per_layer_head_dim": (None,),
    "per_layer_num_key_value_heads": (None,),
    "post_embedding_ln": _OFF,
    "scale_embedding": _OFF,
    "use_attention_sinks": _OFF,
    "use_local_attn": _OFF,
    "use_logn_attn": _OFF,
    "use_normalization_before_and_after": _OFF,
    "use_qk_norm": _OFF,
}

# Fields that cannot change the function of an attention-only model with standard positions.
_IGNORED = frozenset(
    """
    attn_implementation attn_types checkpoint_index checkpoint_label_type checkpoint_value
    decoder_start_token_id default_padding_side default_prepend_bos device dtype
    experts_per_token from_checkpoint gated_mlp init_mode init_weights initializer_range
    layer_norm_folding mm_tokens_per_image model_name n_devices n_params norm_topk_prob
    num_experts NTK_by_parts_factor NTK_by_parts_high_freq_factor NTK_by_parts_low_freq_factor
    NTK_original_ctx_len qk_norm_after_rope quantization_method
    relative_attention_max_distance relative_attention_num_buckets rmsnorm_uses_offset
    rotary_adjacent_pairs rotary_base rotary_base_local rotary_dim rotary_interleaved_cos_sin
    rotary_scaling_factor scale_attn_by_inverse_layer_idx seed split_attention_weights
    tie_word_embeddings tokenizer_appends_eos tokenizer_name tokenizer_prepends_bos
    train_seq_length trust_remote_code ungroup_grouped_query_attention use_attn_in
    use_attn_result use_dynamic_ntk_rope use_hook_mlp_in use_hook_tokens use_NTK_by_parts_rope
    use_split_qkv_input use_yarn_rope uses_rms_norm vision_hidden_size vision_num_heads
    vision_num_layers window_size yarn_attention_factor yarn_beta_fast yarn_beta_slow yarn_factor
    yarn_global_attn_only yarn_original_max_position_embeddings yarn_truncate
    """.split()
)


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

    @property
    def sha256(self) -> str:
        """Digest (hex) of the function: function-changing config and exact values.

        Equal for every file format and key family of equal numbers. Cost: reads every weight.
        """
        function = {
            "attention_dir": self.attention_dir,
            "attn_only": True,
            "d_head": self.W_Q.shape[1],
            "d_model": self.W_Q.shape[0],
            "d_vocab": self.d_vocab,
            "d_vocab_out": self.d_vocab_out,
            "n_ctx": self.n_ctx,
            "n_heads": 1,
            "n_layers": 1,
            "normalization_type": None,
            "positional_embedding_type": "standard",
            "score_divisor_squared": str(self.score_divisor_squared),
        }
        text = json.dumps(function, sort_keys=True, separators=(",", ":"))
        digest = hashlib.sha256(b"compactproofs model 1\n" + text.encode())
        for ours, (name, _) in _TENSORS.items():
            values = getattr(self, ours)
            digest.update(f"\n{name} {list(values.shape)}\n".encode())
            # -0.0 is the number 0.0; float64 holds the exact value of every format read.
            digest.update(np.where(values == 0, 0.0, values).astype("<f8").tobytes())
        return digest.hexdigest()


def load_model(path: str | os.PathLike[str]) -> Model:
    """Read a model directory exactly; raises ``ModelError`` with one line that says what to do."""
    directory = Path(path)
    config = _load_config(directory / "config.json")
    file = directory / "model.safetensors"
    weights = sum(prod(shape) for shape in _shapes(config).values())
    if weights > _MAX_WEIGHTS:
        raise ModelError(
            f"{directory / 'config.json'}: a model of {weights} weights; this version reads up to "
            f"{_MAX_WEIGHTS}"
        )
    try:
        # At most 8 bytes a number; TransformerLens 3 stores a mask of n_ctx^2 besides.
        limit = 8 * (weights + config["n_ctx"] ** 2) + _MAX_HEADER
        stored, _ = read_tensors(_read(file, min(limit, MAX_BYTES)))
    except DamagedError as error:
        raise ModelError(f"{file}: {error}") from None
    return _assemble(config, stored, directory, file)


def _read(path: Path, limit: int) -> bytes:
    try:
        return read_regular_file(path, limit)
    except OSError as error:
        raise ModelError(
            f"{error}; a model is a directory with config.json and model.safetensors"
        ) from None


def _load_config(path: Path) -> dict[str, Any]:
    try:
        config = read_json(_read(path, _MAX_CONFIG))
    except DamagedError as error:
        raise ModelError(f"{path}: {error}") from None
    if not isinstance(config, dict):
        raise ModelError(f"{path}: must be a JSON object of TransformerLens config fields")
    known = {*_SIZES, *_CHOICES, *_OPTIONAL, *_NEUTRAL, *_IGNORED}
    for name, value in config.items():
        if name not in known:
            raise ModelError(
                f"{path}: unknown field {name!r} = {value!r}; remove it if the function does not "
                "depend on it"
            )
        neutral = _NEUTRAL.get(name, (value,))
        if not any(_same(value, allowed) for allowed in neutral):
            raise ModelError(
                f"{path}: {name} = {value!r} is not supported; only {neutral[-1]!r} is"
            )
    for name in (*_SIZES, *_CHOICES):
        if name not in config:
            raise ModelError(f"{path}: the field {name!r} is missing")
    for name in _SIZES:
        if type(config[name]) is not int or config[name] < 1:
            raise ModelError(f"{path}: {name} = {config[name]!r} must be a positive integer")
    _refuse_unsupported(config, path)
    return config


def _same(value: object, allowed: object) -> bool:
    # True == 1 and False == 0 in Python, but not in a config.
    return value == allowed and (type(value) is bool) == (type(allowed) is bool)


def _refuse_unsupported(config: Mapping[str, Any], path: Path) -> None:
    def refuse(name: str, supported: str) -> None:
        raise ModelError(
            f"{path}: {name} = {config[name]!r} is not supported yet; this version proves "
            f"{supported}"
        )

    if config["n_layers"] != 1:
        refuse("n_layers", "models of one layer")
    if config["n_heads"] != 1:
        refuse("n_heads", "models of one head")
    if config["attn_only"] is not True:
        refuse("attn_only", "attention-only models (attn_only = true)")
    if config["normalization_type"] is not None:
        refuse("normalization_type", "models without LayerNorm (normalization_type = null)")
    if config.get("positional_embedding_type") not in (None, "standard"):
        refuse("positional_embedding_type", "standard (learned, added) position embeddings")
    if config.get("attention_dir", "causal") not in ("causal", "bidirectional"):
        refuse("attention_dir", "causal or bidirectional, which agree at the last position")
    out = config.get("d_vocab_out", -1)
    if type(out) is not int or (out < 1 and out != -1):
        raise ModelError(f"{path}: d_vocab_out = {out!r} must be a positive integer")


def _score_divisor_squared(config: Mapping[str, Any], family: int, path: Path) -> Fraction:
    use, scale = config.get("use_attn_scale", True), config.get("attn_scale", -1.0)
    if type(use) is not bool:
        raise ModelError(f"{path}: use_attn_scale = {use!r} must be true or false")
    if not use and family == 4:
        raise ModelError(
            f"{path}: use_attn_scale = false means no scaling in TransformerLens 3 and "
            "sqrt(d_head) in 4: write use_attn_scale = true and the attn_scale that you mean"
        )
    if not use:
        return Fraction(1)
    if scale is None or _same(scale, -1):
        return Fraction(config["d_head"])
    if type(scale) not in (int, float) or not 2.0**-500 < scale < 2.0**500:
        raise ModelError(
            f"{path}: attn_scale = {repr(scale)[:40]} must be a positive number within 2^-500 .. "
            "2^500, or -1 for sqrt(d_head)"
        )
    return Fraction(scale) ** 2


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
    ignored = sorted({*config} & {*_NEUTRAL, *_IGNORED}) + sorted(set(stored) & set(_BUFFERS))
    divisor_squared = _score_divisor_squared(config, family, directory / "config.json")
    return Model(
        score_divisor_squared=divisor_squared,
        attention_dir=config.get("attention_dir", "causal"),
        ignored=tuple(ignored),
        **tensors,
    )
