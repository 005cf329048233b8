"""A model's ``config.json``: the fields that are understood, and the refusal of all others.

Fields that are not understood are refused, because ignoring one could ignore what the network does.
"""

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

from ._errors import ModelError
from ._files import read_regular_file
from ._safetensors import DamagedError, read_json

_MAX_CONFIG = 1 << 20  # bytes
_MAX_LAYERS = 1 << 10  # layers, and heads of each
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


def read_model_file(path: Path, limit: int) -> bytes:
    try:
        return read_regular_file(path, limit)
    except OSError as error:
        raise ModelError(
            f"{error}; a model is a directory with config.json and model.safetensors"
        ) from None


def load_config(path: Path) -> dict[str, Any]:
    try:
        config = read_json(read_model_file(path, _MAX_CONFIG))
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

    if type(config["attn_only"]) is not bool:
        refuse("attn_only", "models with attn_only true or false")
    if not config["attn_only"]:
        width = config.get("d_mlp")
        if width is not None and (type(width) is not int or width < 1):
            raise ModelError(f"{path}: d_mlp = {width!r} must be a positive integer")
        if config.get("act_fn") != "relu":
            raise ModelError(
                f"{path}: act_fn = {config.get('act_fn')!r} is not supported yet; this version "
                "proves MLPs of ReLU neurons (act_fn = relu)"
            )
    if max(config["n_layers"], config["n_heads"]) > _MAX_LAYERS:
        raise ModelError(
            f"{path}: n_layers = {config['n_layers']}, n_heads = {config['n_heads']}: this version "
            f"reads up to {_MAX_LAYERS} of each"
        )
    if config["normalization_type"] is not None:
        refuse("normalization_type", "models without LayerNorm (normalization_type = null)")
    if config.get("positional_embedding_type") not in (None, "standard"):
        refuse("positional_embedding_type", "standard (learned, added) position embeddings")
    if config.get("attention_dir", "causal") not in ("causal", "bidirectional"):
        refuse("attention_dir", "causal or bidirectional, which agree at the last position")
    out = config.get("d_vocab_out", -1)
    if type(out) is not int or (out < 1 and out != -1):
        raise ModelError(f"{path}: d_vocab_out = {out!r} must be a positive integer")


def score_divisor_squared(config: Mapping[str, Any], family: int, path: Path) -> Fraction:
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


def ignored_fields(config: Mapping[str, Any]) -> list[str]:
    """The fields that are present and do not change the function, sorted."""
    return sorted({*config} & {*_NEUTRAL, *_IGNORED})
