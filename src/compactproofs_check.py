#!/usr/bin/env python3
"""An independent checker of compactproofs certificates: one file, standard library only.

It shares no code with the package. It reads the model and the certificate byte by byte, proves
with whole numbers that the certificate's integer tables enclose the model's real numbers, counts
again from the tables as ``docs/certificate.md`` says, and demands that the claim comes out the
same. ``docs/theory.md`` has the theorems (T4 to T9). Read from top to bottom:

    bytes -> model -> task -> certificate -> exact arithmetic -> tables enclosed -> counts -> claim

Notation: query ``q``, label ``m``, output ``x``, token ``t``, position ``i``, ``k`` positions,
``v`` tokens. A class ``(q, m)`` holds the sequences with last token ``q`` and largest token ``m``.
Exit status: 0 the claim holds, 1 it does not, 2 the files cannot be judged, 130 interrupted.
"""
# ruff: noqa: B905  (zip: shapes are checked once, where tensors are read)

import argparse
import hashlib
import json
import math
import os
import re
import stat
import struct
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import accumulate, groupby
from operator import add, itemgetter, mul, sub
from types import SimpleNamespace
from typing import Any, NamedTuple

FORMAT, KERNEL = 1, "0.1.0"  # the layout, and whose counting rules these are
MAX_FILE, MAX_HEADER, MAX_DEPTH = 1 << 30, 10_000_000, 20  # bytes, bytes, levels of JSON
MAX_ENTRIES = 1 << 22  # of a matrix of weights, and of a table
MAX_BITS = 1 << 32  # of a matrix of weights in whole numbers
MAX_WORK = 1 << 37  # products of two whole numbers, roughly
MAX_DECIDED = 1 << 32  # sequences times outputs of brute force


class Refusal(Exception):
    """Why a claim was not confirmed; ends the check."""

    def __init__(self, outcome: str, reason: str) -> None:
        """``outcome``: REJECTED, MALFORMED, MISMATCH or UNSUPPORTED."""
        super().__init__(reason)
        self.outcome = outcome


def need(condition: object, reason: str, outcome: str = "MALFORMED") -> None:
    """Go on only if ``condition`` holds."""
    if not condition:
        raise Refusal(outcome, reason)


# ------------------------------------------------------------------------------------------ bytes


def read_file(path: str) -> bytes:
    """The bytes of a regular file; never waits for a pipe."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as file:
            found = os.fstat(file.fileno())
            need(stat.S_ISREG(found.st_mode), f"{path}: not a regular file")
            need(found.st_size <= MAX_FILE, f"{path}: larger than {MAX_FILE} bytes")
            return file.read(MAX_FILE)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        reason = getattr(error, "strerror", None) or str(error)
        raise Refusal("MALFORMED", f"{path}: cannot be read ({reason})") from None


def read_json(data: bytes) -> Any:
    """JSON of bounded depth, without duplicate keys, NaN or infinity."""

    def no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        need(len(dict(pairs)) == len(pairs), "a JSON key occurs twice")
        return dict(pairs)

    def no_constant(name: str) -> Any:
        raise Refusal("MALFORMED", f"{name} is not a JSON number")

    try:
        text = data.decode("utf-8")
        outside_strings = "".join(re.sub(r"\\.", "", text).split('"')[::2])
        steps = [1 if mark in "[{" else -1 for mark in re.findall(r"[][{}]", outside_strings)]
        need(max(accumulate(steps), default=0) <= MAX_DEPTH, "JSON nested too deeply")
        return json.loads(text, object_pairs_hook=no_duplicates, parse_constant=no_constant)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError and JSONDecodeError too
        raise Refusal("MALFORMED", f"not valid JSON ({error})") from None


def canonical(fields: dict[str, Any]) -> str:
    """JSON with sorted keys, no spaces, ASCII."""
    return json.dumps(fields, sort_keys=True, separators=(",", ":"))


SIZES = {"BOOL": 1, "U8": 1, "F16": 2, "BF16": 2, "I32": 4, "F32": 4, "I64": 8, "F64": 8}


class Tensor(NamedTuple):
    """A tensor as stored: little-endian bytes, row by row."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes

    def numbers(self) -> list[Any]:
        """Exact numbers, those of every float format as Python floats; no NaN, no infinity."""
        count, codes = math.prod(self.shape), {"F16": "e", "F32": "f", "F64": "d"}
        if self.dtype == "BF16":  # the upper half of a float32
            halves = struct.unpack(f"<{count}H", self.data)
            raw = struct.pack(f"<{count}I", *(half << 16 for half in halves))
            return Tensor("F32", self.shape, raw).numbers()
        codes |= {"I32": "i", "I64": "q"}
        need(self.dtype in codes, f"type {self.dtype} is not one of numbers read here")
        found = list(struct.unpack(f"<{count}{codes[self.dtype]}", self.data))
        need(all(map(math.isfinite, found)), "a tensor holds NaN or infinity")
        return found

    def nested(self) -> Any:
        """The numbers as nested lists, one level for each axis."""
        rows: Any = self.numbers()
        for size in self.shape[:0:-1]:
            rows = [rows[at : at + size] for at in range(0, len(rows), size)]
        return rows


def is_count(value: object) -> bool:
    """A whole number from 0 to 2^31 - 1, not a truth value."""
    return type(value) is int and 0 <= value < 1 << 31


def read_tensors(data: bytes) -> tuple[dict[str, Tensor], Any, bytes]:
    """The tensors of a safetensors file, its metadata and its header; every byte accounted for."""
    length = int.from_bytes(data[:8], "little")
    need(len(data) >= 8 and length <= min(len(data) - 8, MAX_HEADER), "the header is cut or huge")
    text, body = data[8 : 8 + length], data[8 + length :]
    header = read_json(text)
    need(type(header) is dict, "the header is not a JSON object")
    metadata = header.pop("__metadata__", {})
    tensors: dict[str, Tensor] = {}
    spans: list[list[int]] = []
    for name, entry in header.items():
        good = type(entry) is dict and set(entry) == {"dtype", "shape", "data_offsets"}
        need(good, f"the header entry {name!r} is not a tensor's")
        kind, shape, span = entry["dtype"], entry["shape"], entry["data_offsets"]
        need(type(kind) is str and kind in SIZES, f"tensor {name!r} has type {kind!r}")
        good = all(type(row) is list and all(map(is_count, row)) for row in (shape, span))
        need(good and len(shape) <= 8 and len(span) == 2, f"tensor {name!r} is out of range")
        size = math.prod(shape) * SIZES[kind]
        need(size == span[1] - span[0], f"tensor {name!r} does not have the size of its shape")
        tensors[name] = Tensor(kind, tuple(shape), body[span[0] : span[1]])
        spans.append(span)
    end = 0
    for span in sorted(spans):
        need(span[0] == end, "tensors overlap, or leave a gap")
        end = span[1]
    need(end == len(body), f"{len(body)} bytes of tensors, but the header places {end}")
    return tensors, metadata, text


# ------------------------------------------------------------------------------------------ model

Rows = list[list[Any]]

AXES = dict(W_E="vd", W_pos="kd", W_Q="dh", W_K="dh", W_V="dh", W_O="hd", W_U="dx")
AXES |= dict(b_Q="h", b_K="h", b_V="h", b_O="d", b_U="x")
KEYS = {  # in TransformerLens 3 and 4
    "W_E": ("embed.W_E", "embed.weight"),
    "W_pos": ("pos_embed.W_pos", "pos_embed.weight"),
    "W_U": ("unembed.W_U", "unembed.weight"),
    "b_U": ("unembed.b_U", "unembed.bias"),
}
for letter in "QKVO":
    for kind, word in (("W", "weight"), ("b", "bias")):
        key = f"blocks.0.attn.{kind}_{letter}", f"blocks.0.attn.{letter.lower()}.{word}"
        KEYS[f"{kind}_{letter}"] = key
OUT_BY_IN = ("W_Q", "W_K", "W_V", "W_O", "W_U")  # how TransformerLens 4 stores them
HEADED = ("W_Q", "W_K", "W_V", "W_O", "b_Q", "b_K", "b_V")  # one head in front in 3
BUFFERS = {"blocks.0.attn.mask", "blocks.0.attn.IGNORE"}
REQUIRED = "n_layers n_heads d_model d_head d_vocab n_ctx attn_only normalization_type".split()
OPTIONAL = """d_mlp d_vocab_out act_fn eps attn_scale use_attn_scale attention_dir
    positional_embedding_type""".split()
NEUTRAL: tuple[tuple[str, tuple[object, ...]], ...] = (  # fields, values that change nothing
    ("architecture", (None, "TransformerLensNative")),
    ("attn_scores_soft_cap output_logits_soft_cap", (None, 0, -1)),
    (
        """clip_qkv n_key_value_heads original_architecture per_layer_head_dim
        per_layer_num_key_value_heads""",
        (None,),
    ),
    (
        """final_rms is_audio_model is_multimodal is_stateful is_visual_model load_in_4bit
        parallel_attn_mlp post_embedding_ln scale_embedding use_attention_sinks use_local_attn
        use_logn_attn use_normalization_before_and_after use_qk_norm""",
        (None, False),
    ),
)
IGNORED = """attn_implementation attn_types checkpoint_index checkpoint_label_type checkpoint_value
    decoder_start_token_id default_padding_side default_prepend_bos device dtype experts_per_token
    from_checkpoint gated_mlp init_mode init_weights initializer_range layer_norm_folding
    mm_tokens_per_image model_name n_devices n_params norm_topk_prob num_experts
    NTK_by_parts_factor NTK_by_parts_high_freq_factor NTK_by_parts_low_freq_factor
    NTK_original_ctx_len qk_norm_after_rope quantization_method relative_attention_max_distance
    relative_attention_num_buckets rmsnorm_uses_offset rotary_adjacent_pairs rotary_base
    rotary_base_local rotary_dim rotary_interleaved_cos_sin rotary_scaling_factor
    scale_attn_by_inverse_layer_idx seed split_attention_weights tie_word_embeddings
    tokenizer_appends_eos tokenizer_name tokenizer_prepends_bos train_seq_length trust_remote_code
    ungroup_grouped_query_attention use_attn_in use_attn_result use_dynamic_ntk_rope
    use_hook_mlp_in use_hook_tokens use_NTK_by_parts_rope use_split_qkv_input use_yarn_rope
    uses_rms_norm vision_hidden_size vision_num_heads vision_num_layers window_size
    yarn_attention_factor yarn_beta_fast yarn_beta_slow yarn_factor yarn_global_attn_only
    yarn_original_max_position_embeddings yarn_truncate""".split()
"""Without effect in an attention-only model with standard positions."""


class Model(NamedTuple):
    """A one-layer, one-head, attention-only transformer: row vectors, scores over a root."""

    divisor_squared: Fraction
    weights: dict[str, Rows]
    """Exact floats by name, as in ``AXES``; a bias is a matrix of one row."""
    direction: str = "causal"

    @property
    def sizes(self) -> dict[str, int]:
        """The length of each axis."""
        W_E, W_Q, W_U = (self.weights[name] for name in ("W_E", "W_Q", "W_U"))
        ends = {"d": len(W_E[0]), "h": len(W_Q[0]), "x": len(W_U[0])}
        return ends | {"v": len(W_E), "k": len(self.weights["W_pos"]), "1": 1}

    def digest(self) -> str:
        """SHA-256 (hex) of the function: sizes, score divisor and exact values."""
        sizes = self.sizes
        function = {"attention_dir": self.direction, "attn_only": True, "n_heads": 1}
        function |= {"n_layers": 1, "d_head": sizes["h"], "d_model": sizes["d"]}
        function |= {"d_vocab": sizes["v"], "d_vocab_out": sizes["x"], "n_ctx": sizes["k"]}
        function |= {"normalization_type": None, "positional_embedding_type": "standard"}
        function |= {"score_divisor_squared": str(self.divisor_squared)}
        result = hashlib.sha256(b"compactproofs model 1\n" + canonical(function).encode())
        for name, axes in AXES.items():
            shape = [sizes[axis] for axis in axes]
            result.update(f"\n{KEYS[name][0]} {shape}\n".encode())
            for row in self.weights[name]:  # -0.0 is the number 0.0
                result.update(struct.pack(f"<{len(row)}d", *(value + 0.0 for value in row)))
        return result.hexdigest()


def load_model(directory: str) -> Model:
    """Read ``config.json`` and ``model.safetensors``; what is not understood is refused."""
    config = read_json(read_file(os.path.join(directory, "config.json")))
    stored, _, _ = read_tensors(read_file(os.path.join(directory, "model.safetensors")))
    check_config(config)
    family = 1 if "embed.weight" in stored else 0
    x = config["d_vocab"] if config.get("d_vocab_out", -1) == -1 else config["d_vocab_out"]
    sizes = {"d": config["d_model"], "h": config["d_head"], "x": x}
    sizes |= {"k": config["n_ctx"], "v": config["d_vocab"]}
    strange = (
        set(stored) - {keys[family] for keys in KEYS.values()} - (set() if family else BUFFERS)
    )
    need(not strange, f"model: unexpected tensor {min(strange, default='')!r}")
    weights: dict[str, Rows] = {}
    for name, axes in AXES.items():
        shape = tuple(sizes[axis] for axis in axes)
        turned = family == 1 and name in OUT_BY_IN
        placed = (1, *shape) if family == 0 and name in HEADED else shape[:: -1 if turned else 1]
        tensor = stored.get(KEYS[name][family])
        if tensor is None:
            need(name[0] == "b", f"model: the tensor {KEYS[name][family]!r} is missing")
            weights[name] = [[0.0] * shape[0]]  # no longer than a matrix that was read
            continue
        need(tensor.shape == placed, f"model: {name} has shape {tensor.shape}, not {placed}")
        need(tensor.dtype in ("F16", "BF16", "F32", "F64"), f"model: {name} is {tensor.dtype}")
        need(math.prod(shape) <= MAX_ENTRIES, f"model: {name} is too large", "UNSUPPORTED")
        flat = tensor._replace(shape=placed[-2:] if len(axes) == 2 else (1, *shape)).nested()
        weights[name] = list(map(list, zip(*flat))) if turned else flat
    direction = config.get("attention_dir", "causal")
    return Model(score_divisor_squared(config, family), weights, direction)


def check_config(config: Any) -> None:
    """Refuse a config with a field unknown, missing, or of an effect that is not modelled."""
    need(type(config) is dict, "config.json: not an object")
    neutral = {name: values for names, values in NEUTRAL for name in names.split()}
    for name, value in config.items():
        known = name in neutral or name in {*REQUIRED, *OPTIONAL, *IGNORED}
        need(known, f"config.json: unknown field {name!r}")
        # True == 1 and False == 0 in Python, but not in a config.
        allowed = [(a, type(a) is bool) for a in neutral.get(name, (value,))]
        same = (value, type(value) is bool) in allowed
        need(same, f"config.json: {name} = {value!r} is not supported")
    for name in REQUIRED:
        need(name in config, f"config.json: the field {name!r} is missing")
    sizes = [config[name] for name in REQUIRED[:6]]
    sizes += [config["d_vocab_out"]] if config.get("d_vocab_out", -1) != -1 else []
    need(all(is_count(size) and size > 0 for size in sizes), "config.json: a size is no size")
    one = config["n_layers"] == 1 and config["n_heads"] == 1 and config["attn_only"] is True
    beyond = "a model of several layers or heads, or with an MLP: this checks one attention alone"
    need(one or type(config["attn_only"]) is not bool, beyond, "UNSUPPORTED")
    need(one, "config.json: not one layer of one head, attention only")
    need(config["normalization_type"] is None, "config.json: LayerNorm is not supported")
    standard = config.get("positional_embedding_type") in (None, "standard")
    need(standard, "config.json: positions are not standard ones")
    known = config.get("attention_dir", "causal") in ("causal", "bidirectional")
    need(known, "config.json: attention_dir is not known")


def score_divisor_squared(config: dict[str, Any], family: int) -> Fraction:
    """What scores are divided by, squared: ``d_head`` or the square of ``attn_scale``."""
    use, scale = config.get("use_attn_scale", True), config.get("attn_scale", -1.0)
    need(type(use) is bool, "config.json: use_attn_scale must be true or false")
    need(use or family == 0, "config.json: use_attn_scale = false is ambiguous here")
    if not use or scale is None or (scale == -1 and type(scale) is not bool):
        return Fraction(config["d_head"] if use else 1)
    good = type(scale) in (int, float) and 2.0**-500 < scale < 2.0**500
    need(good, "config.json: attn_scale is out of range")
    return Fraction(scale) ** 2


# ------------------------------------------------------------------------------------------- task


class Task(NamedTuple):
    """Max-of-k over sequences of ``k`` tokens below ``v`` whose last lies in ``low .. high``."""

    k: int
    v: int
    low: int
    high: int

    @property
    def total(self) -> int:
        """The number of sequences."""
        return (self.high - self.low + 1) * self.v ** (self.k - 1)

    @property
    def whole(self) -> bool:
        """Whether every token may come last."""
        return self.high - self.low + 1 == self.v

    def digest(self) -> str:
        """SHA-256 (hex) of ``k``, ``v`` and the automaton: the meaning, not the name."""
        tokens = range(self.v)
        step = [[max(state, token) for token in tokens] for state in tokens]
        meaning: dict[str, Any] = {"distribution": "uniform", "label": list(tokens), "step": step}
        meaning |= {"k": self.k, "v": self.v}
        meaning |= {} if self.whole else {"queries": [self.low, self.high]}
        return hashlib.sha256(b"compactproofs task 1\n" + canonical(meaning).encode()).hexdigest()

    def classes(self) -> Iterator[tuple[int, int, int]]:
        """Every ``(q, m, size)`` that is not empty, by label: a disjoint cover."""
        for m in range(self.v):
            for q in range(self.low, min(self.high, m) + 1):
                if size := word_count(m + 1, self.k - 1, q < m):
                    yield q, m, size


def word_count(tokens: int, length: int, marked: bool) -> int:
    """Words of a length over so many tokens; marked: that hold the last of them."""
    return tokens**length - ((tokens - 1) ** length if marked else 0)


def parse_task(text: str) -> Task:
    """Read a task in its canonical spelling, ``max:k=4,v=64`` or ``max:k=4,v=64,q=0-31``."""
    number = "(0|[1-9][0-9]{0,5})"
    match = re.fullmatch(f"max:k={number},v={number}(?:,q={number}-{number})?", text)
    if match is None:
        beyond = f"the task {text!r} is not max-of-k, the only one that this checks"
        need(text.split(":")[0] not in {"second", "sum", "fetch"}, beyond, "UNSUPPORTED")
        raise Refusal("REJECTED", f"unknown task {text!r}: write it as max:k=4,v=64")
    k, v = int(match[1]), int(match[2])
    fits = k > 0 and 0 < v <= 2048 and k * v.bit_length() <= 12_000
    need(fits, f"the task {text} is too large, or empty", "REJECTED")
    task = Task(k, v, int(match[3] or 0), v - 1 if match[4] is None else int(match[4]))
    good = task.low <= task.high < v and (match[3] is None or not task.whole)
    need(good, f"the queries of {text} are no proper part of 0-{v - 1}", "REJECTED")
    return task


# ------------------------------------------------------------------------------------ certificate

TEXTS = "distribution kernel metric model_sha256 semantics task task_sha256 theorem".split()
NUMBERS = "correct flops radius_flops total undecided unexplained_dimension".split()
TABLES = dict.fromkeys(("weight_low", "weight_high", "weight_exponent"), ("I32", "kvv"))
TABLES |= dict.fromkeys(("value_low", "value_high"), ("I32", "kvx"))
TABLES |= dict.fromkeys(("direct_low", "direct_high"), ("I32", "vx"))
TABLES |= {"shift": ("F64", "v"), "grid": ("I64", "1")}
LIMITS = {"weight_exponent": 1 << 22, "grid": 900, "shift": math.inf}  # others: 2^30


class Certificate(NamedTuple):
    """What a file says; nothing of it is believed."""

    claim: dict[str, Any]
    """Its fields, those that are numbers as whole numbers."""
    tensors: dict[str, Tensor]


def whole(text: object) -> int:
    """A whole number in decimal, in its one spelling."""
    if type(text) is str and re.fullmatch("0|[1-9][0-9]{0,3999}", text):
        return int(text)
    raise Refusal("MALFORMED", f"{str(text)[:40]!r} is not a whole number in decimal")


def bound_of(claim: dict[str, Any]) -> str:
    """The proved fraction, in lowest terms."""
    bound = Fraction(claim["correct"], claim["total"])
    return f"{bound.numerator}/{bound.denominator}"


def read_certificate(data: bytes) -> Certificate:
    """Read a certificate strictly: its form, and the digest over all it says."""
    tensors, metadata, header = read_tensors(data)
    compact = json.dumps(read_json(header), separators=(",", ":")).encode()
    stray = header[len(compact) :].strip(b" ") or len(header) - len(compact) > 7
    need(header.startswith(compact) and not stray, "the header holds stray bytes")
    good = type(metadata) is dict and set(metadata) == {"claim"}
    need(good and type(metadata["claim"]) is str, "its metadata is not the single key 'claim'")
    claim: Any = read_json(metadata["claim"].encode("utf-8", "surrogatepass"))
    good = type(claim) is dict and canonical(claim) == metadata["claim"]
    need(good, "its claim is not canonical JSON")
    known = {*TEXTS, *NUMBERS, "bound", "digest", "format", "options"}
    good = type(claim.get("format")) is int and claim["format"] == FORMAT
    need(good, f"its format is not {FORMAT}")
    need(set(claim) == known, f"the field {min(set(claim) ^ known, default='')!r} is odd")
    for name in TEXTS:
        pattern = "[0-9a-f]{64}" if name.endswith("sha256") else "[!-~]{1,200}"
        good = type(claim[name]) is str and re.fullmatch(pattern, claim[name])
        need(good, f"the claim's {name} is not what such a field can be")
    plain = canonical({name: value for name, value in claim.items() if name != "digest"})
    digest = hashlib.sha256(f"compactproofs certificate {FORMAT}\n{plain}".encode())
    for name in sorted(tensors):
        need(name.isascii(), "a tensor has a name that no tensor has")
        digest.update(f"\n{name} {tensors[name].dtype} {list(tensors[name].shape)}\n".encode())
        digest.update(tensors[name].data)
    need(digest.hexdigest() == claim["digest"], "its digest does not match: damaged or edited")
    claim |= {name: whole(claim[name]) for name in NUMBERS}
    sane = claim["correct"] <= claim["total"] and claim["total"] > 0
    need(sane, "it claims more right sequences than there are")
    need(claim["bound"] == bound_of(claim), "its bound is not correct/total in lowest terms")
    options = claim["options"]
    good = type(options) is dict and all(re.fullmatch("[a-z_]{1,40}", name) for name in options)
    need(good, "the claim's options are not an object of options")
    check_tensors(claim["theorem"], tensors)
    return Certificate(claim, tensors)


def check_tensors(theorem: str, tensors: dict[str, Tensor]) -> None:
    """Refuse tensors that are missing, unknown or of another type than they have."""
    refused = "the theorem subcubic is not supported by this checker"
    need(theorem != "subcubic", refused, "UNSUPPORTED")
    expected = {name: kind for name, (kind, _) in TABLES.items()}
    if theorem == "composed":
        expected = {f"part.{number}": "U8" for number in range(len(tensors))}
    elif theorem in THEOREMS and set(THEOREMS[theorem][2]) & set(tensors):
        expected |= dict.fromkeys(THEOREMS[theorem][2], "I32")
    odd = set(expected) ^ set(tensors)
    need(not odd, f"the tensor {min(odd, default='')!r} is missing or unknown")
    for name, kind in expected.items():
        need(tensors[name].dtype == kind, f"tensor {name} has type {tensors[name].dtype}")


def read_tables(tensors: dict[str, Tensor], sizes: dict[str, int]) -> Any:
    """The tables as nested lists, of the shapes that the model needs and within the limits."""
    largest = sizes["k"] * sizes["v"] * max(sizes["v"], sizes["x"])
    need(largest <= MAX_ENTRIES, f"tables of {largest} numbers are too large", "UNSUPPORTED")
    found: dict[str, Any] = {}
    for name, (_, axes) in TABLES.items():
        shape = tuple(sizes[axis] for axis in axes)
        need(tensors[name].shape == shape, f"tensor {name} has another shape than {shape}")
        numbers, limit = tensors[name].numbers(), LIMITS.get(name, 1 << 30)
        least = 0 if name == "weight_low" else -limit
        need(least <= min(numbers) and max(numbers) <= limit, f"tensor {name} is out of range")
        found[name] = tensors[name].nested()
    return SimpleNamespace(**found)


# ------------------------------------------------------------------------------- exact arithmetic


class Exact(NamedTuple):
    """A matrix of the numbers ``rows[r][c] 2^-e``."""

    rows: Rows
    e: int

    @staticmethod
    def of(floats: Rows) -> "Exact":
        """Exactly these floats, at the exponent that the finest of them needs."""
        ratios = [[value.as_integer_ratio() for value in row] for row in floats]
        e = max(below.bit_length() for row in ratios for _, below in row) - 1
        span = "the weights span too many orders of magnitude"
        need(len(floats) * len(floats[0]) * e <= MAX_BITS, span, "UNSUPPORTED")
        return Exact([[n << (e + 1 - d.bit_length()) for n, d in row] for row in ratios], e)

    def at(self, e: int) -> Rows:
        """The rows at a finer exponent."""
        return [[n << (e - self.e) for n in row] for row in self.rows] if e > self.e else self.rows

    def __matmul__(self, other: "Exact") -> "Exact":
        """The matrix product."""
        return Exact(multiply(self.rows, other.rows), self.e + other.e)

    def __add__(self, other: Any) -> "Exact":
        """Entry by entry; one row is added to every row."""
        e = max(self.e, other.e)
        mine, theirs = self.at(e), other.at(e)
        theirs = theirs * len(mine) if len(theirs) == 1 else theirs
        return Exact([list(map(add, a, b)) for a, b in zip(mine, theirs)], e)

    def times(self, number: int, e: int = 0) -> "Exact":
        """Every entry times ``number 2^-e``."""
        return Exact([[number * n for n in row] for row in self.rows], self.e + e)

    def absolute(self) -> "Exact":
        """The sizes of the entries."""
        return Exact([list(map(abs, row)) for row in self.rows], self.e)

    def transposed(self) -> "Exact":
        """Rows become columns."""
        return Exact(list(map(list, zip(*self.rows))), self.e)


def multiply(a: Rows, b: Rows) -> Rows:
    """The product of two matrices of whole numbers (``--fast`` puts FLINT's in its place)."""
    columns = list(zip(*b))
    return [[sum(map(mul, row, column)) for column in columns] for row in a]


def use_flint() -> None:
    """Multiply matrices of whole numbers by FLINT; the results are the same."""
    try:
        from flint import fmpz_mat
    except ImportError:
        raise Refusal("UNSUPPORTED", "--fast needs python-flint: pip install it") from None

    def by_flint(a: Rows, b: Rows) -> Rows:
        return [list(map(int, row)) for row in (fmpz_mat(a) * fmpz_mat(b)).table()]

    globals()["multiply"] = by_flint


def quotient(n: int, e: int, square: Fraction, p: int) -> tuple[int, int]:
    """Floor and ceiling of ``n 2^-e / sqrt(square)`` in units of ``2^-p``.

    For whole ``r``, ``r <= sqrt(y)`` if and only if ``r <= isqrt(floor(y))``.
    """
    above, below = n * n * square.denominator << 2 * p, square.numerator << 2 * e
    root = math.isqrt(above // below)
    over = root if root * root * below == above else root + 1
    return (root, over) if n >= 0 else (-over, -root)


LN2: dict[int, tuple[int, int]] = {}


def ln2(p: int) -> tuple[int, int]:
    """Bounds on ``ln 2 = sum 1 / (j 2^j)`` in units of ``2^-p``.

    Each of ``p`` terms rounded down loses less than a unit, and all terms after them together.
    """
    if p not in LN2:
        low = sum((1 << p) // (j << j) for j in range(1, p + 1))
        LN2[p] = low, low + p + 1
    return LN2[p]


HIGHEST = 10**6
"""A score may exceed its query's shift by so much, in nats."""
CLAMP = 1 << 23
"""``exp(-CLAMP)`` is below every positive number that a table can hold."""


def exp(x: int, p: int, up: bool) -> tuple[int, int]:
    """``(a, n)``: ``a 2^n`` is at most (``up``: at least) ``exp(x 2^-p)``, and close to it.

    From ``exp(x) = 2^n exp(rest)``, ``0 <= rest = x - n ln 2 < 1``: no term of the series is
    negative, and those left out are less than halves, quarters, ... of the last one.
    """
    if x < -CLAMP << p and not up:
        return 0, 0
    x = max(x, -CLAMP << p)
    low, high = ln2(p)
    n, rest = x // high + 1, -1
    while rest < 0:
        n -= 1
        rest = x - (min if up else max)(n * low, n * high)
    total = term = 1 << p
    j = 1
    while term > (1 if up else 0):
        term = -(-term * rest // (j << p)) if up else term * rest // (j << p)
        total += term
        j += 1
    return total + (term if up else 0), n - p


# --------------------------------------------------------------------- tables enclose the numbers


def prove_enclosed(model: Model, T: Any, semantics: str) -> None:
    """Prove that the tables enclose the numbers of ``model`` (docs/theory.md sections 2 and 5).

    Weights are dyadic, so scores before their division and all logits are exact here.
    """
    W = {name: Exact.of(rows) for name, rows in model.weights.items()}
    own, v = W["W_E"] + Exact(W["W_pos"].rows[-1:], W["W_pos"].e), len(W["W_E"].rows)
    query = own @ W["W_Q"] + W["b_Q"]
    by_token = query @ (W["W_E"] @ W["W_K"] + W["b_K"]).transposed()
    by_position = query @ (W["W_pos"] @ W["W_K"]).transposed()
    unembed, around = W["W_O"] @ W["W_U"], None
    F = (W["W_E"] @ W["W_V"] + W["b_V"]) @ unembed
    G = W["W_pos"] @ W["W_V"] @ unembed
    H = (own + W["b_O"]) @ W["W_U"] + W["b_U"]
    if semantics == "float32":
        require_float32(model)
        around = envelope(W, own, model.divisor_squared)
    for i, row in enumerate(G.rows):
        error = around and Exact(around[1].rows[i * v : i * v + v], around[1].e)
        values, ends = F + Exact([row], G.e), (T.value_low[i], T.value_high[i])
        prove_on_grid(f"value [{i}, ", *ends, values, error, T.grid[0])
    prove_on_grid("direct [", T.direct_low, T.direct_high, H, around and around[2], T.grid[0])
    e = max(by_token.e, by_position.e)
    tokens, positions = by_token.at(e), by_position.at(e)
    for q, i in ((q, i) for q in range(v) for i in range(len(T.weight_low))):
        ends = zip(T.weight_low[i][q], T.weight_high[i][q], T.weight_exponent[i][q])
        for t, entry in enumerate(ends):
            n = tokens[q][t] + positions[q][i]
            wide = around and (around[0].rows[q][t], around[0].e)
            # First with 96 bits; then with so many that a number 1 is exactly 1.
            known = (*entry, n, e, model.divisor_squared, T.shift[q], wide)
            if not weight_fits(*known, 96) and not weight_fits(*known, 1100):
                raise Refusal("REJECTED", f"weight [{i}, {q}, {t}] {OUTSIDE}")


OUTSIDE = "does not enclose the model's number"


def prove_on_grid(
    name: str, low: Rows, high: Rows, numbers: Exact, error: Exact | None, grid: int
) -> None:
    """Prove ``low 2^-grid <= numbers - error`` and ``numbers + error <= high 2^-grid``."""
    below = numbers if error is None else numbers + error.times(-1)
    above = numbers if error is None else numbers + error
    e = max(below.e, grid)
    for r, (lower, upper) in enumerate(zip(below.at(e), above.at(e))):
        good = all(a <= n >> (e - grid) for a, n in zip(low[r], lower))
        good = good and all(-(-n >> (e - grid)) <= a for a, n in zip(high[r], upper))
        need(good, f"{name}{r}] {OUTSIDE}", "REJECTED")


def weight_fits(
    low: int, high: int, exponent: int, n: int, e: int, square: Fraction, shift: float,
    wide: tuple[int, int] | None, p: int,
) -> bool:  # fmt: skip
    """Whether the weight encloses ``exp(n 2^-e / sigma - shift)``, and all that float32 makes it.

    The upper end computed exceeds every mantissa, so one with a larger exponent fits nowhere.
    """
    least, most = quotient(n, e, square, p)
    above, below = shift.as_integer_ratio()
    least, most = least + (-above << p) // below, most - (above << p) // below
    if wide is not None:
        by = quotient(*wide, square, p)[1] + (1 << (p - 15))
        least, most = least - by, most + by
    if most > HIGHEST << p:
        return False
    (a, r), (b, s) = exp(least, p, up=False), exp(most, p, up=True)
    return low <= a >> max(0, exponent - r) and s <= exponent and -(-b >> (exponent - s)) <= high


def require_float32(model: Model) -> None:
    """Refuse weights that are not float32 numbers, and divisors out of range."""
    for name, rows in model.weights.items():
        for value in (value for row in rows for value in row):
            try:
                same = struct.unpack("<f", struct.pack("<f", value))[0] == value
            except OverflowError:
                same = False
            need(same, f"float32: {name} holds {value!r}, not a float32 number", "REJECTED")
    fits = Fraction(1, 1 << 48) <= model.divisor_squared <= 1 << 48
    need(fits, "float32: the score divisor is out of range", "REJECTED")


def envelope(W: dict[str, Exact], own: Exact, square: Fraction) -> tuple[Exact, Exact, Exact]:
    """What float32 adds (T9): to scores, without ``2^-15`` and sigma; to values; to direct logits.

    ``[q][t]``, ``[i v + t][x]`` and ``[q][x]``. Refuses a model that could overflow.
    """
    h, d = len(W["W_O"].rows), len(W["W_U"].rows)
    v, k = len(W["W_E"].rows), len(W["W_pos"].rows)

    def g(a: Exact, n: int, one: int = 0) -> Exact:
        """``a (one + g(n))``."""
        need(n <= 4096, f"float32: {n} roundings in a row are too many", "REJECTED")
        return a.times((one << 34) + 1025 * n, 34)

    def sized(a: Exact) -> Exact:
        """``|a|'``."""
        return a.absolute() + Exact([[1] * len(a.rows[0])], 50)

    def in_range(a: Exact, square: Fraction = Fraction(1)) -> Exact:
        """Refuse numbers above 2^120, after division by the root of ``square``."""
        top = max(map(max, a.rows))
        good = top * top * square.denominator <= square.numerator << (240 + 2 * a.e)
        need(good, "float32: an evaluation may overflow", "REJECTED")
        return a

    def projected(rows: Exact, w: Exact, b: Exact) -> tuple[Exact, Exact]:
        """``y = rows w + b`` and ``|y|' + e_y``."""
        y, sums = rows @ w + b, in_range(sized(rows) @ sized(w) + sized(b))
        return y, sized(y) + g(sums, d + 2)

    parts = [W["W_E"] + Exact([row], W["W_pos"].e) for row in W["W_pos"].rows]
    residual = Exact([row for part in parts for row in part.rows], parts[0].e)
    in_range(sized(residual))
    query, query_size = projected(own, W["W_Q"], W["b_Q"])
    key, key_size = projected(residual, W["W_K"], W["b_K"])
    in_range(query_size, square)
    in_range(key_size, square)
    sums = in_range(in_range(g(query_size @ key_size.transposed(), h + 4, 1)), square)
    distance = sums + (query.absolute() @ key.absolute().transposed()).times(-1)
    scores = [[max(row[t::v]) for t in range(v)] for row in distance.rows]

    value, value_size = projected(residual, W["W_V"], W["b_V"])
    in_range(value_size.times(k))
    head = value @ W["W_O"]
    sums = in_range(g(value_size @ sized(W["W_O"]), 2 * k + h + 6, 1))
    head_size = sized(head) + sums + (value.absolute() @ W["W_O"].absolute()).times(-1)
    most = in_range(g(head_size @ sized(W["W_U"]), d + 1, 1))
    values = most + (head.absolute() @ W["W_U"].absolute()).times(-1)

    c, bias = own + W["b_O"], sized(W["b_U"])
    c_size = sized(c) + g(in_range(sized(own) + sized(W["b_O"])), h + 3)
    sums = g(c_size @ sized(W["W_U"]), d + 1, 1)
    in_range(sums + bias)
    underflow = Exact([[k * max(column) for column in zip(*most.rows)]], most.e + 36)
    direct = sums + (c.absolute() @ W["W_U"].absolute()).times(-1) + g(bias, d + 1) + underflow
    return Exact(scores, distance.e), values, direct


# ----------------------------------------------------------------------------- counting (T4, T5)

MAX_BINS, MAX_SLOTS = 65536, 1 << 24
Column = list[int]
"""The bounds ``y_i(t)`` of one token or group of tokens, one for each wrong output."""


def without(row: Sequence[Any], m: int) -> list[Any]:
    """All entries but that of the label."""
    return [*row[:m], *row[m + 1 :]]


def term(T: Any, i: int, q: int, t: int, brackets: Sequence[int], unit: int) -> Column:
    """``ceil(w b 2^(exponent - unit))``, with the end of the weight that makes it largest."""
    low, high = -T.weight_low[i][q][t], -T.weight_high[i][q][t]
    by = unit - T.weight_exponent[i][q][t]
    return [-((high if b >= 0 else low) * b >> by) for b in brackets]


def unit_of(T: Any, q: int, m: int) -> int:
    """The unit of a class: above every weight exponent in use."""
    *before, last = [rows[q] for rows in T.weight_exponent]
    return max([last[q], *(max(row[: m + 1]) for row in before)]) + headroom(T)


def headroom(T: Any) -> int:
    """Bits by which a unit lies above the exponents of ``k`` weights."""
    return len(T.weight_low).bit_length() + 2


def wrong_words(
    base: Column, rows: list[list[Column]], many: list[int], marked: bool, bins: int
) -> int:
    """T5: an upper bound on the words of a class that are wrong.

    ``rows[i][c]`` belongs to the ``many[c]`` tokens of column ``c``, the label's token in the last
    one; marked: words must hold it. ``bins`` 0: the worst case only.
    """
    size = word_count(sum(many), len(rows), marked)
    peaks = [list(map(max, columns[0], *columns)) for columns in rows]
    worst = list(map(sum, zip(base, *peaks)))
    if marked:  # the position that loses least by holding the label
        losses = zip(*(map(sub, peak, columns[-1]) for peak, columns in zip(peaks, rows)))
        worst = [total - min(loss) for total, loss in zip(worst, losses)]
    at_risk = sorted((x for x, w in enumerate(worst) if w >= 0), key=lambda x: -worst[x])
    if not at_risk:
        return 0
    if not rows or not bins:
        return size

    def close(outputs: list[int]) -> int:
        """Words within the slack of the joint bounds of these outputs."""
        joint = [[max([c[x] for x in outputs]) for c in columns] for columns in rows]
        return within(max(base[x] for x in outputs), joint, many, marked, bins)

    jointly, one_by_one = close(at_risk), 0
    for x in at_risk if len(at_risk) > 1 else []:
        one_by_one += close([x])
        if one_by_one >= jointly:
            return jointly
    return one_by_one if len(at_risk) > 1 else jointly


def within(base: int, rows: list[Column], many: list[int], marked: bool, bins: int) -> int:
    """How many words have a binned slack within the budget ``base + sum of maxima``."""
    peaks = list(map(max, rows))
    budget = base + sum(peaks)
    width = max(1, -(-budget // bins))
    slack = [[peak - y for y in row] for peak, row in zip(peaks, rows)]
    offsets = [offset(row, many, width, budget) for row in slack]
    limit = (budget + sum(offsets)) // width
    binned = [[(s + e) // width for s in row] for row, e in zip(slack, offsets)]
    inside = [sum(n for b, n in zip(row, many) if b <= limit) for row in binned]
    slot = max(4, (math.prod(max(1, n) for n in inside).bit_length() + 8) // 8)
    fits = (limit + 1) * slot <= MAX_SLOTS
    need(fits, f"{bins} bins are too many for these counts", "REJECTED")
    # One whole number for a polynomial: the coefficient of z^b in bits 8 slot b and up.
    mask, words, unmarked = (1 << 8 * slot * (limit + 1)) - 1, 1, 1
    for row in binned:
        terms: dict[int, int] = {}
        for b, n in zip(row[:-1], many):
            terms[b] = terms.get(b, 0) + n
        unmarked = product(unmarked, terms, limit, slot) & mask if marked else 0
        terms[row[-1]] = terms.get(row[-1], 0) + many[-1]
        words = product(words, terms, limit, slot) & mask
    ones = (1 << 8 * slot) - 1  # the digits of a number in base b add up to it modulo b - 1
    return words % ones - unmarked % ones


def product(polynomial: int, terms: dict[int, int], limit: int, slot: int) -> int:
    """``polynomial`` times the sum of ``n z^b`` over ``terms``."""
    return sum([polynomial * n << 8 * slot * b for b, n in terms.items() if b <= limit])


def offset(slack: Column, many: list[int], width: int, budget: int) -> int:
    """The offset at which the tokens of a position lose least by rounding to bins."""
    if width == 1:
        return 0
    counted = [n if s <= budget else 0 for s, n in zip(slack, many)]
    ascending = sorted(zip([s % width for s in slack], counted))
    cut = max(0, width.bit_length() - 40)
    step, total, before, losses = width >> cut, sum(counted), 0, []
    for residue, n in ascending:
        losses.append(before * step - (residue >> cut) * total)
        before += n
    return -ascending[losses.index(min(losses))][0] % width


# -------------------------------------------------------------------------- additive, brute force

Counts = Iterator[tuple[int, int, int, int]]
"""For each class: label, size, sequences not proved right, sequences undecided.

The theorems are generators of these: ``(tables, task, options, tensors)``, tensors for witnesses.
"""
SKIP, ENUMERATE, OPEN_PREFIXES = 0, -2, 1 << 19
SPARE, MAX_EIGHTHS = 8, 248


def additive_terms(T: Any, q: int, m: int, values: list[Rows], unit: int) -> tuple[Any, Any]:
    """``base`` and ``y_i(t)`` for tokens up to ``m``; ``values`` from ``differences``."""
    direct = [a - T.direct_low[q][m] for a in without(T.direct_high[q], m)]

    def y(i: int, t: int) -> Column:
        return term(T, i, q, t, list(map(add, values[i][t], direct)), unit)

    last = len(values) - 1
    return y(last, q), [[y(i, t) for t in range(m + 1)] for i in range(last)]


def differences(T: Any, m: int) -> list[Rows]:
    """``o(t,i,x) - o(t,i,m)``, rounded up, for tokens up to ``m``."""
    ends = [zip(low[: m + 1], high) for low, high in zip(T.value_low, T.value_high)]
    return [[[a - low[m] for a in without(high, m)] for low, high in rows] for rows in ends]


def additive(T: Any, task: Task, options: dict[str, int], tensors: dict[str, Tensor]) -> Counts:
    """T5 for each class, with the effort that the witness asks for."""
    effort, orders = efforts(tensors, task.v, len(T.direct_low[0]), options["bins"])
    for m, classes in groupby(task.classes(), itemgetter(1)):
        values = differences(T, m)
        for q, _, size in classes:
            spent, order, wrong = effort[q][m], orders.get((q, m), []), size
            if spent != SKIP:
                unit = unit_of(T, q, m) + (SPARE if order else 0)
                base, rows = additive_terms(T, q, m, values, unit)
                if order:
                    wrong = min(size, by_first_rival(base, rows, m, q < m, order, spent))
                elif spent == ENUMERATE:
                    found = open_words(base, rows, q < m, OPEN_PREFIXES)
                    wrong = min(size, sum(size if word is None else 1 for word in found))
                else:
                    wrong = wrong_words(base, rows, [1] * (m + 1), q < m, max(spent, 0))
            yield m, size, wrong, wrong


Rival = tuple[int, int, int, int]
"""Output, group, pivot (-1: none), multiplier in eighths."""


def efforts(
    tensors: dict[str, Tensor], v: int, outputs: int, bins: int
) -> tuple[Rows, dict[tuple[int, int], list[Rival]]]:
    """The witness: bins or a code for each class, and orders of outputs by class."""
    orders: dict[tuple[int, int], list[Rival]] = {}
    if "effort" not in tensors:
        return [[bins] * outputs] * v, orders
    need(tensors["effort"].shape == (v, outputs), "tensor effort has another shape")
    effort, shape = tensors["effort"].nested(), tensors["order"].shape
    good = all(ENUMERATE <= spent <= MAX_BINS for row in effort for spent in row)
    need(good, "tensor effort holds a number out of range")
    need(len(shape) == 2 and shape[1] == 6, "tensor order does not have rows of six")
    for row in tensors["order"].nested():
        q, m, output, group, pivot, eighths = row
        order = orders.setdefault((q, m), [])
        earlier = {rival[0] for rival in order}
        good = 0 <= q < v and 0 <= m < outputs and effort[q][m] > 0
        good = good and 0 <= output < outputs and output != m and output not in earlier
        good = good and group >= 0 and 0 <= eighths <= MAX_EIGHTHS
        good = good and (pivot in earlier if eighths else pivot == -1)
        need(good, f"the row {row} of the tensor order names what it may not")
        order.append((output, group, pivot, eighths))
    return effort, orders


def by_first_rival(
    base: Column, rows: list[list[Column]], m: int, marked: bool, order: list[Rival], bins: int
) -> int:
    """Wrong words, counted at the first output of ``order`` that they are wrong against."""

    def at(x: int) -> int:
        return x - (x > m)

    def count(turn: Callable[[Column], Column]) -> int:
        turned = [list(map(turn, columns)) for columns in rows]
        return wrong_words(turn(base), turned, [1] * (m + 1), marked, bins)

    rest = [x for x in range(len(base)) if x not in {at(rival[0]) for rival in order}]
    wrong = count(lambda y: [y[x] for x in rest]) if rest else 0
    for group in {rival[1] for rival in order}:
        some = [(at(x), at(p), e) for x, g, p, e in order if g == group]
        wrong += count(lambda y, some=some: [max(8 * y[x] - e * y[p] for x, p, e in some)])
    return wrong


def open_words(
    base: Column, rows: list[list[Column]], marked: bool, limit: int | None
) -> Iterator[tuple[int, ...] | None]:
    """The words whose sum is not negative for some output; None: given up at ``limit`` prefixes.

    A prefix is dropped when its largest completion is negative for all outputs. The sums for all
    outputs are one whole number with 64 bits each: plus ``2^63`` in each, bit 63 says ``>= 0``.
    """
    signs = sum(1 << 64 * x + 63 for x in range(len(base)))

    def packed(column: Iterable[int]) -> int:
        return sum([y << 64 * x for x, y in enumerate(column)])

    free: list[Column] = [[0] * len(base)]  # largest completions from a position on
    must: list[Column | None] = [None]  # and such that hold the label
    for *others, label in reversed(rows):
        last = list(map(add, label, free[-1]))
        below = list(map(max, others[0], *others)) if others else None
        most = list(map(add, below, must[-1])) if below and must[-1] else last
        must.append(list(map(max, last, most)))
        most = list(map(add, below, free[-1])) if below else last
        free.append(list(map(max, last, most)))
    room = [[None if c is None else packed(c) + signs for c in s[::-1]] for s in (free, must)]
    steps = [list(map(packed, columns)) for columns in rows]
    kept, start = [0] * len(rows), packed(base)
    stack: list[tuple[int, tuple[int, ...], bool]] = [(start, (), marked)]
    if not (room[marked][0] or 0) + start & signs:
        return
    while stack:
        total, prefix, needs = stack.pop()
        i = len(prefix)
        if i == len(rows):
            yield prefix
            continue
        last = len(steps[i]) - 1
        for tokens, still in ((range(last), needs), (range(last, last + 1), False)):
            after = room[still][i + 1]
            if after is None:
                continue
            bound = total + after
            found = [t for t in tokens if bound + steps[i][t] & signs]
            kept[i] += len(found)
            if limit is not None and kept[i] > limit:
                yield None
                return
            stack += [(total + steps[i][t], (*prefix, t), still) for t in found]


def brute_force(T: Any, task: Task, options: Any, tensors: Any) -> Counts:
    """Every sequence by itself: those that the class's unit leaves open in one of their own."""
    outputs = len(T.direct_low[0])
    need(task.k <= 100 and task.total <= 1 << 32, "brute force would not end", "REJECTED")
    work = f"brute force over {task.total} sequences and {outputs} outputs is too long"
    need(task.total * outputs <= MAX_DECIDED, work, "UNSUPPORTED")
    for m, classes in groupby(task.classes(), itemgetter(1)):
        values = differences(T, m)
        for q, _, size in classes:
            base, rows = additive_terms(T, q, m, values, unit_of(T, q, m))
            words = open_words(base, rows, q < m, None)
            verdicts = [decide_sequence(T, (*word, q), m) for word in words if word is not None]
            yield m, size, sum(one >= 0 for one in verdicts), verdicts.count(0)


def decide_sequence(T: Any, tokens: tuple[int, ...], m: int) -> int:
    """-1: right whatever the numbers in the tables are; 1: wrong; 0: neither."""
    q = tokens[-1]
    unit = max(T.weight_exponent[i][q][t] for i, t in enumerate(tokens)) + headroom(T)
    above, below = [0] * (len(T.direct_low[0]) - 1), [0] * (len(T.direct_low[0]) - 1)
    for i, t in enumerate(tokens):
        known = T.value_low[i][t][m] + T.direct_low[q][m]
        most = map(add, T.value_high[i][t], T.direct_high[q])
        y = term(T, i, q, t, without([b - known for b in most], m), unit)
        above = list(map(add, above, y))
        known = T.value_high[i][t][m] + T.direct_high[q][m]
        least = map(add, T.value_low[i][t], T.direct_low[q])
        y = term(T, i, q, t, without([known - b for b in least], m), unit)  # of -f
        below = list(map(add, below, y))
    if all(y < 0 for y in above):
        return -1
    return 1 if any(y <= 0 for y in below) else 0


# ------------------------------------------------------------------- windowed, collapsed (T6, T7)

DEEPEST, NONE_BELOW = -900, -(1 << 31)


def scaled_up(product: int, by: int) -> float:
    """A float64 number ``>= product 2^by``, by the rule of docs/certificate.md."""
    above = math.nextafter(float(product), math.inf)
    above = 0.0 if by < DEEPEST and above < 0 else above
    return math.ldexp(above, max(by, DEEPEST))


def units_up(number: float, unit: int) -> int:
    """``number 2^-unit`` rounded up."""
    return math.ceil(math.ldexp(number, -unit))


def windows(tensors: dict[str, Tensor], v: int, outputs: int, window: int) -> Rows:
    """The window of each class."""
    if "window" not in tensors:
        return [[window] * outputs] * v
    need(tensors["window"].shape == (v, outputs), "tensor window has another shape")
    found = tensors["window"].nested()
    need(min(map(min, found)) >= 1, "tensor window holds a number below 1")
    return found


def columns_of(far: int, m: int) -> list[int]:
    """How many tokens share each column: those up to ``far`` one, if any; the others none."""
    return [far + 1] * (far >= 0) + [1] * (m - max(far, -1))


Ends = list[list[float]]
"""``T_i(q,t,x)`` from above, and from below with its sign turned; by output."""


def windowed(T: Any, task: Task, options: dict[str, int], tensors: dict[str, Tensor]) -> Counts:
    """T6: tokens above ``far = m - window`` as they are, the others by prefix extremes."""
    last, outputs = task.k - 1, len(T.direct_low[0])
    window = windows(tensors, task.v, outputs, options["window"])

    def centred(low: Rows, high: Rows) -> list[Rows]:
        centre = [sum(row) // outputs for row in high]
        return [[[a - c for a in row] for row, c in zip(rows, centre)] for rows in (high, low)]

    values = [centred(low, high) for low, high in zip(T.value_low, T.value_high)]
    direct = centred(T.direct_low, T.direct_high)

    def products(q: int, i: int, t: int, top: int) -> Ends:
        least, most = T.weight_low[i][q][t], T.weight_high[i][q][t]
        by, ends = T.weight_exponent[i][q][t] - top, []
        for side, sign in ((0, 1), (1, -1)):
            brackets = [sign * a for a in map(add, values[i][side][t], direct[side][q])]
            ends.append([scaled_up((most if b >= 0 else least) * b, by) for b in brackets])
        return ends

    for q, classes in groupby(sorted(task.classes()), itemgetter(0)):
        *before, own = [rows[q] for rows in T.weight_exponent]
        top = max([own[q], *map(max, before)])
        at_query = products(q, last, q, top)
        near = [[products(q, i, t, top) for t in range(task.v)] for i in range(last)]
        upto = [list(accumulate(row, larger)) for row in near]
        for _, m, size in classes:
            far, unit = m - window[q][m], unit_of(T, q, m) - top
            unit = max(unit, DEEPEST + headroom(T))

            def y(ends: Ends, m: int = m, unit: int = unit) -> Column:
                label = units_up(ends[1][m], unit)
                return [units_up(a, unit) + label for a in without(ends[0], m)]

            first = max(far + 1, 0)
            rows = [[y(row[t]) for t in range(first, m + 1)] for row in near]
            if far >= 0:
                rows = [[y(row[far]), *columns] for row, columns in zip(upto, rows)]
            wrong = wrong_words(y(at_query), rows, columns_of(far, m), q < m, options["bins"])
            yield m, size, wrong, wrong


def larger(a: Ends, b: Ends) -> Ends:
    """The larger of two numbers, one by one."""
    return [list(map(max, *rows)) for rows in zip(a, b)]


class Split:
    """``o(t,i,x)`` in parts ``F[t][x] + G[i][x]``, and ``H``, in units of four, rounded outward."""

    def __init__(self, T: Any) -> None:
        """``G`` is the hull over tokens of ``o(t,i,x) - o(t,0,x)``."""
        low = [[[a >> 2 for a in row] for row in rows] for rows in T.value_low]
        high = [[[-(-a >> 2) for a in row] for row in rows] for rows in T.value_high]
        self.F_low, self.F_high = low[0], high[0]
        self.H_low = [[a >> 2 for a in row] for row in T.direct_low]
        self.H_high = [[-(-a >> 2) for a in row] for row in T.direct_high]

        def hull(best: Callable[..., int], table: list[Rows], first: Rows) -> Rows:
            moved = ([map(sub, a, b) for a, b in zip(rows, first)] for rows in table)
            return [list(map(best, zip(*rows))) for rows in moved]

        G_low, G_high = hull(min, low, high[0]), hull(max, high, low[0])
        outputs, labels = range(len(self.H_low[0])), range(len(self.F_low))
        pairs = [[(a[x], b) for a, b in zip(G_high, G_low)] for x in outputs]
        self.path = [[max(a - b[m] for a, b in pairs[x]) for x in outputs] for m in labels]
        """``pi_m[x]`` [m][x]"""
        H = zip(self.H_high, self.H_low)
        self.dH = [[others([a - low[m] for a in high], m) for m in labels] for high, low in H]
        """``dH(q,m)`` [q][m]"""
        self.rho = [[others(self.brackets(t, m), m) for t in labels] for m in labels]
        """``rho_m(t)`` [m][t]"""

    def brackets(self, t: int, m: int, q: int | None = None) -> list[int]:
        """``F[t,x] - F[t,m] + pi_m[x]``, and ``H[q,x] - H[q,m]`` besides if there is a query."""
        rows = map(add, self.F_high[t], self.path[m])
        known = self.F_low[t][m] + (0 if q is None else self.H_low[q][m])
        return [a - known for a in (rows if q is None else map(add, rows, self.H_high[q]))]


def others(row: list[int], m: int) -> int:
    """The maximum but for the label; below every number in use if there is no other output."""
    return max(without(row, m), default=NONE_BELOW)


def collapsed_cubic(T: Any, task: Task, options: dict[str, int], tensors: Any) -> Counts:
    """T7: one bracket for all outputs, exact in F and in H."""
    split, last = Split(T), task.k - 1
    for q, m, size in task.classes():
        c = [rho + split.dH[q][m] for rho in split.rho[m]]
        c[m] = others(split.brackets(m, m, q), m)
        unit, tokens = unit_of(T, q, m), range(m + 1)
        rows = [[term(T, i, q, t, [c[t]], unit) for t in tokens] for i in range(last)]
        base = term(T, last, q, q, [c[q]], unit)
        wrong = wrong_words(base, rows, columns_of(-1, m), q < m, options["bins"])
        yield m, size, wrong, wrong


def collapsed_subcubic(T: Any, task: Task, options: dict[str, int], tensors: Any) -> Counts:
    """T7: spreads in place of F and H, and far tokens by prefix extremes."""
    last, v, split = task.k - 1, task.v, Split(T)
    window = windows(tensors, v, len(T.direct_low[0]), options["window"])
    mu = [sum(column) // v for column in zip(*split.H_high)]
    H, F = zip(split.H_high, split.H_low), zip(split.F_high, split.F_low)
    dH = [max(map(sub, high, mu)) - min(map(sub, low, mu)) for high, low in H]
    D = [max(high) - min(low) for high, low in F]
    paths = [[a - mu[m] + b for a, b in zip(mu, split.path[m])] for m in range(v)]
    r0 = [others(row, m) for m, row in enumerate(paths)]
    with_F = [list(map(add, row, split.F_high[m])) for m, row in enumerate(paths)]
    rm = [others(row, m) - split.F_low[m][m] for m, row in enumerate(with_F)]
    for q, classes in groupby(sorted(task.classes()), itemgetter(0)):
        spread = [d + dH[q] for d in D]
        exponents = [rows[q] for rows in T.weight_exponent[:last]]
        top, upto = max(map(max, exponents), default=0), []
        for i, row in enumerate(exponents):
            entries = list(zip(T.weight_low[i][q], T.weight_high[i][q], spread, row))
            products = [
                [scaled_up(high * d, e - top) for _, high, d, e in entries],
                [scaled_up(high, e - top) for _, high, _, e in entries],
                [scaled_up(-low, e - top) for low, _, _, e in entries],  # of the sign turned
            ]
            upto.append([list(accumulate(numbers, max)) for numbers in products])
        for _, m, size in classes:
            far, unit = m - window[q][m] if last else -1, unit_of(T, q, m)
            if far >= 0:
                unit = max(unit, top + DEEPEST + headroom(T))
            c = [d + r0[m] for d in spread]
            c[m] = dH[q] + rm[m]
            tokens = range(max(far + 1, 0), m + 1)
            rows = [[term(T, i, q, t, [c[t]], unit) for t in tokens] for i in range(last)]
            for row, (spreads, largest, smallest) in zip(rows, upto if far >= 0 else []):
                weight = largest[far] if r0[m] > 0 else -smallest[far]
                shared = math.nextafter(weight * float(r0[m]), math.inf)
                row.insert(0, [units_up(spreads[far], unit - top) + units_up(shared, unit - top)])
            base = term(T, last, q, q, [c[q]], unit)
            wrong = wrong_words(base, rows, columns_of(far, m), q < m, options["bins"])
            yield m, size, wrong, wrong


# ------------------------------------------------------------------------------------------ cubic


def cubic(T: Any, task: Task, options: Any, tensors: Any) -> Counts:
    """The cubic theorem: all fillings of any ``n`` positions by the tokens that do for each."""
    split, last = Split(T), task.k - 1
    for q, m, size in task.classes():
        right = int(constant_is_right(T, split, q, m))
        for n, tokens in enumerate(fillings(T, split, q, m), 1):
            right += math.comb(last, n) * tokens**n if q == m or n < last else 0
        yield m, size, size - right, size - right


def fillings(T: Any, split: Split, q: int, m: int) -> list[int]:
    """For each ``n >= 1`` how many tokens ``z < m`` may fill any ``n`` positions."""
    *before, own = [rows[q] for rows in T.weight_exponent]
    c, last = [rho + split.dH[q][m] for rho in split.rho[m]], len(before)
    counts = [0] * last
    for z in range(m if last else 0):
        unit = max([own[q], *(max(row[m], row[z]) for row in before)]) + headroom(T)
        at_label = [term(T, i, q, m, [c[m]], unit)[0] for i in range(last)]
        more = [term(T, i, q, z, [c[z]], unit)[0] - at_label[i] for i in range(last)]
        worst = term(T, last, q, q, [c[q]], unit)[0] + sum(at_label)
        for n, difference in enumerate(sorted(more, reverse=True)):
            worst += difference
            counts[n] += worst < 0
    return counts


def constant_is_right(T: Any, split: Split, q: int, m: int) -> bool:
    """Whether the sequence ``m ... m q`` is right (n = 0)."""
    at_label, at_query = (without(split.brackets(t, m, q), m) for t in (m, q))
    if q == m:  # all tokens equal: the weights add up to 1
        return all(b < 0 for b in at_label)
    places = [(i, m) for i in range(len(T.weight_low) - 1)] + [(len(T.weight_low) - 1, q)]
    exponents = [T.weight_exponent[i][q][t] for i, t in places]
    unit = max(exponents) + len(places).bit_length()
    *low, own_low = [T.weight_low[i][q][t] >> unit - e for (i, t), e in zip(places, exponents)]
    ends = [-T.weight_high[i][q][t] >> unit - e for (i, t), e in zip(places, exponents)]
    *high, own_high = [-end for end in ends]
    label, query = (sum(low), sum(high)), (own_low, own_high)
    return all(label[a >= 0] * a + query[b >= 0] * b < 0 for a, b in zip(at_label, at_query))


# -------------------------------------------------------------------------------------- the claim

BOTH = ("bins", "window")
THEOREMS: dict[str, tuple[Callable[..., Counts], tuple[str, ...], tuple[str, ...]]] = {
    "additive": (additive, ("bins",), ("effort", "order")),
    "brute-force": (brute_force, (), ()),
    "collapsed-cubic": (collapsed_cubic, ("bins",), ()),
    "collapsed-subcubic": (collapsed_subcubic, BOTH, ("window",)),
    "cubic": (cubic, (), ()),
    "windowed": (windowed, BOTH, ("window",)),
}
"""Each with its options, all from 1 to 65536, and the tensors of its witness."""


class Verdict(NamedTuple):
    """How a check ended; the claim may be believed only if it is ``valid``."""

    outcome: str
    """PROVED, VACUOUS (a constant answer is as good), or why not: see ``Refusal``."""
    reason: str
    claim: dict[str, Any] | None

    @property
    def valid(self) -> bool:
        """Whether the claim holds."""
        return self.outcome in ("PROVED", "VACUOUS")


Numbers = dict[str, int]
Labels = dict[int, int]
"""How many sequences have each label."""


def add_up(rows: Iterable[dict[Any, int]]) -> dict[Any, int]:
    """The sums of the numbers under each key."""
    sums: dict[Any, int] = {}
    for row in rows:
        for key, number in row.items():
            sums[key] = sums.get(key, 0) + number
    return sums


def count(certificate: Certificate, task: Task, model: Model) -> tuple[Numbers, Labels]:
    """Prove the tables of a certificate of one theorem, and count from them."""
    (claim, tensors), sizes = certificate, model.sizes
    theorem, semantics = claim["theorem"], claim["semantics"]
    known = theorem in THEOREMS and semantics in ("real", "float32")
    need(known, f"unknown theorem {theorem} or semantics {semantics}", "REJECTED")
    run, names, _ = THEOREMS[theorem]
    need(set(claim["options"]) == set(names), f"its options are not {names}", "REJECTED")
    options = {name: whole(text) for name, text in claim["options"].items()}
    good = all(1 <= value <= MAX_BINS for value in options.values())
    need(good, "an option is out of range", "REJECTED")
    k, v, x, d, h = (sizes[axis] for axis in "kvxdh")
    work = (k if semantics == "float32" else 1) * v * (3 * d * h + v * h + d * x)
    work += v**3 * k * (x if theorem in ("additive", "windowed") else 1)
    need(work <= MAX_WORK, f"about {work} products are too many here", "UNSUPPORTED")
    T = read_tables(tensors, sizes)
    prove_enclosed(model, T, semantics)
    classes = list(run(T, task, options, tensors))
    labels = add_up({m: size} for m, size, _, _ in classes)
    need(sum(labels.values()) == task.total, "not all sequences are counted", "REJECTED")
    numbers = {"correct": task.total - sum(wrong for _, _, wrong, _ in classes)}
    numbers |= {"total": task.total, "undecided": sum(open for _, _, _, open in classes)}
    dimension = v * v + v * k + v * x + k * x + v * x
    if theorem == "brute-force":
        dimension = task.total * x
    if theorem == "collapsed-subcubic":
        dimension = v * v + v * k + (x + v) + (v + v * x) + k * x
    return numbers | {"unexplained_dimension": dimension}, labels


def compose(certificate: Certificate, task: Task, model: Model) -> tuple[Numbers, Labels]:
    """Add up the parts of a composed certificate, whose queries tile the whole task."""
    claim, tensors = certificate
    need(not claim["options"], "a composed certificate has no options", "REJECTED")
    need(len(tensors) <= task.v, "more parts than queries")
    found: list[tuple[Numbers, Labels]] = []
    following = 0
    for number in range(len(tensors)):
        raw = tensors[f"part.{number}"]
        need(len(raw.shape) == 1, f"part.{number} is not a row of bytes")
        part = read_certificate(raw.data)
        about, also = part.claim, parse_task(part.claim["task"])
        need(about["theorem"] != "composed", f"part.{number} is composed itself")
        same = all(about[name] == claim[name] for name in ("model_sha256", "semantics"))
        need(same, f"part.{number} is about another model or semantics", "REJECTED")
        tiles = (also.k, also.v, also.low) == (task.k, task.v, following) and not also.whole
        need(tiles, f"part.{number} leaves a gap, overlaps or is no part", "REJECTED")
        following = also.high + 1
        numbers, labels = judge(part, model, about["model_sha256"])
        stated = {name: about[name] for name in ("flops", "radius_flops")}
        found.append((numbers | stated, labels))
    need(task.whole and following == task.v, "the parts leave a gap", "REJECTED")
    return add_up(numbers for numbers, _ in found), add_up(labels for _, labels in found)


def judge(certificate: Certificate, model: Model, sha256: str) -> tuple[Numbers, Labels]:
    """Demand that everything that is computed here equals what the certificate says."""
    claim, sizes = certificate.claim, model.sizes
    need(claim["kernel"] == KERNEL, f"written by kernel {claim['kernel']}; this checks {KERNEL}")
    task = parse_task(claim["task"])
    fits = (task.k, task.v) == (sizes["k"], sizes["v"]) and task.v <= sizes["x"]
    need(fits, f"the task {claim['task']} does not fit the model", "REJECTED")
    way = compose if claim["theorem"] == "composed" else count
    numbers, labels = way(certificate, task, model)
    texts = {"distribution": "uniform", "metric": "accuracy", "model_sha256": sha256}
    for name, value in (numbers | texts | {"task_sha256": task.digest()}).items():
        need(claim[name] == value, f"{name} is {value}, not {claim[name]}", "REJECTED")
    return numbers, labels


def decide(data: bytes, model: Model, task: str | None = None) -> Verdict:
    """Whether a certificate proves its claim about ``model`` (and ``task``, if given)."""
    claim = None
    try:
        certificate = read_certificate(data)
        claim, sha256 = certificate.claim, model.digest()
        about = f"it is about the model {claim['model_sha256'][:16]}..., not {sha256[:16]}..."
        need(claim["model_sha256"] == sha256, about, "MISMATCH")
        same = task is None or claim["task_sha256"] == parse_task(task).digest()
        need(same, f"it is about the task {claim['task']}, not {task}", "MISMATCH")
        numbers, labels = judge(certificate, model, sha256)
    except Refusal as refusal:
        return Verdict(refusal.outcome, str(refusal), claim)
    if numbers["correct"] > max(labels.values()):
        return Verdict("PROVED", "the bound holds for exactly this model and task", claim)
    return Verdict("VACUOUS", "the bound holds, but a constant answer does as well", claim)


def report(verdict: Verdict, claim: dict[str, Any], as_json: bool) -> str:
    """What to print about a claim that holds."""
    if as_json:
        fields = {"outcome": verdict.outcome, "reason": verdict.reason, "valid": verdict.valid}
        exact = {name: str(v) if name in NUMBERS else v for name, v in claim.items()}
        return json.dumps(fields | {"claim": exact, "not_checked": ["flops", "radius_flops"]})
    correct, total = claim["correct"], claim["total"]
    decimal = f"0.{correct * 10**10 // total:010d}..." if correct < total else "1"
    options = [f"{name}={text}" for name, text in claim["options"].items()]
    rows = {
        "outcome": f"{verdict.outcome}: {verdict.reason}",
        "claim": f"accuracy >= {correct}/{total} = {decimal}",
        "theorem": " ".join([claim["theorem"], *options]),
    }
    rows |= {name: claim[name] for name in ("task", "semantics", "model_sha256", "undecided")}
    rows["not checked"] = f"flops {claim['flops']}, radius_flops {claim['radius_flops']}"
    return "\n".join(f"{name:<12} {value}" for name, value in rows.items())


def run(arguments: list[str]) -> int:
    """Run the command line and return its exit status."""
    about = "Decide whether a certificate proves its claim about a model."
    parser = argparse.ArgumentParser("compactproofs-check", description=about)
    parser.add_argument("certificate", help="a certificate file")
    parser.add_argument("model", help="the directory of the model that it is about")
    parser.add_argument("--task", help="refuse a certificate about another task, as max:k=4,v=64")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--quiet", action="store_true", help="print nothing if the claim holds")
    parser.add_argument("--fast", action="store_true", help="multiply matrices by python-flint")
    try:
        given = parser.parse_args(arguments)
        if given.fast:
            use_flint()
        verdict = decide(read_file(given.certificate), load_model(given.model), given.task)
        if verdict.valid and verdict.claim is not None:
            if not given.quiet:
                print(report(verdict, verdict.claim, given.json))
            return 0
        outcome, reason = verdict.outcome, verdict.reason
    except Refusal as refusal:
        outcome, reason = refusal.outcome, str(refusal)
    except SystemExit as end:  # argparse
        return end.code if type(end.code) is int else 2
    except KeyboardInterrupt:
        print("compactproofs-check: interrupted", file=sys.stderr)
        return 130
    except Exception as error:  # too large for this machine, or a defect: no claim either way
        outcome, reason = "UNSUPPORTED", f"{type(error).__name__}: {error}"
    line = re.sub(r"[^ -~]", "?", f"compactproofs-check: {outcome}: {reason}")
    print(line[:1000], file=sys.stderr)
    return 1 if outcome == "REJECTED" else 2


def main() -> None:
    """The command ``compactproofs-check``."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
