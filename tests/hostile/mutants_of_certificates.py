"""Mutants of a certificate by the thousand, each with the digest that its content asks for.

A mutant is made only when it is asked for, so that a subset costs what a subset costs. Kinds:

* ``number``, ``bound``, ``text``, ``option``, ``field``, ``form``: the claim changed;
* ``json``: the claim or the header written otherwise than in the canonical way;
* ``entry``, ``array``, ``type``, ``shape``, ``name``: tensors changed, the claim kept;
* ``splice``: the claim of one certificate on the tensors of another;
* ``coherent``: tables made false *and* the claim that the theorem gives from them: a perfect lie,
  but for the enclosure; ``relabelled``: a true proof of another model, with this model's name;
* ``composition``: parts that do not tile, or of which one is such a mutant;
* ``control``: tables made wider and another witness, with the claim that follows: must hold.

``structure`` and ``byte`` are about bytes alone; see ``of_structure`` and ``of_bytes``.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from fractions import Fraction
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from flint import arb, ctx
from safetensors.numpy import load

from certificates import claim_of
from random_models import float32
from soundness.witnesses import LIMIT, drawn_order, widened
from subcubic_witnesses import random_subcubic_witness

from .files import (
    Entry,
    digest,
    entries,
    entry,
    header_of,
    laid_out,
    resigned,
    signed,
    signed_text,
    with_header,
)
from .judge import BITS, Subject, numbers_of
from .subjects import part_proof, proof


class Mutant(NamedTuple):
    """Bytes to be made, and what they are."""

    kind: str
    make: Callable[[], bytes | None]
    """None: nothing could be made, for instance because the theorem refuses such tables."""
    must_hold: bool = False

    def made_of(self, s: Subject) -> bytes | None:
        """The bytes; None also if nothing changed that should have."""
        data = self.make()
        return None if data == s.data and not self.must_hold else data


NUMBERS = "correct flops radius_flops total undecided unexplained_dimension".split()
TEXTS = "distribution kernel metric model_sha256 semantics task task_sha256 theorem".split()
DECEPTIVE = (
    "", " ", "\0", "\n", "\x1b[2J", "\u202e", "\ud800", "\U0001f600", "../../etc/passwd", "x" * 201,
    "x" * 100_000,
)  # fmt: skip


def of_claim(s: Subject) -> Iterator[Mutant]:
    """Every field changed, one at a time or together with what depends on it."""
    fields, tensors = s.claim, s.entries

    def sign(kind: str, **changes: Any) -> Mutant:
        return Mutant(kind, lambda: signed(fields | changes, tensors))

    total = int(fields["total"])
    for name in NUMBERS:
        for value in strange_numbers(int(fields[name])):
            if value != fields[name]:
                yield sign("number", **{name: value})
        for other in NUMBERS:
            if name < other and fields[name] != fields[other]:
                yield sign("number", **{name: fields[other], other: fields[name]})
    counts = {int(fields["correct"]) + by for by in (-2, -1, 1, 2)} | {0, 1, s.right, total}
    for count in sorted(counts - {int(fields["correct"])}):
        if 0 <= count <= total:
            bound = reduced(count, total)
            yield sign("bound", correct=str(count), bound=bound)
            yield sign("bound", correct=str(count), bound=bound, undecided=str(total - count))
            yield sign("bound", bound=bound)
    for factor in (2, 10**40):
        more = str(int(fields["correct"]) * factor), str(total * factor)
        yield sign("bound", correct=more[0], total=more[1])
        yield sign("bound", correct=more[0], total=more[1], bound="/".join(more))
    for text in ("0.9", "1", " 1/1", "-1/-1", "1/0", "2/2", "１/１", "1e0/1", "9" * 5000 + "/1"):
        yield sign("bound", bound=text)
    yield from of_texts(s, sign)
    for name in (*fields, "surprise"):
        rest = {key: value for key, value in fields.items() if key != name}
        if name in fields and name != "digest":
            yield Mutant("field", lambda rest=rest: signed(rest, tensors))
        for value in (None, True, 0, 1, -1, 1.5, 10**400, [], {}, [fields], {"a": 1}, "1"):
            if name != "digest" and value != fields.get(name):
                yield sign("form", **{name: value})
    for name in DECEPTIVE:
        yield sign("field", **{name: "1"})


def of_texts(s: Subject, sign: Callable[..., Mutant]) -> Iterator[Mutant]:
    """Names, versions, digests and options other than the claim's."""
    fields = s.claim
    k, v = s.task.k, s.task.v
    others = {
        "theorem": [*s.kernel.THEOREMS, "Additive", "addit\u0456ve", "composed", "none", "max"],
        "task": [
            f"max:k={k},v={v + 1}", f"max:k={k + 1},v={v}", f"max:v={v},k={k}", f"max:k={k}",
            f"max:k=0{k},v={v}", f"max:k={k},v={v},", f"max:k={k},v={v},q=0-0", f"MAX:k={k},v={v}",
            f"max:k={k},v={v},v={v}", f"min:k={k},v={v}", f"max :k={k},v={v}", "max:k=99999,v=1",
            f"max:k=\uff11,v={v}", f"max:k={k},v=2048", "max:k=-1,v=-1", f"max:k={k};v={v}",
        ],
        "metric": ["loss", "Accuracy", "accuracy ", "1-accuracy"],
        "distribution": ["zipf", "uniform ", "Uniform", "normal"],
        "semantics": ["float32", "float64", "Real", "real ", "reals"],
        "kernel": ["0.0.0", "99.0.0", fields["kernel"] + ".0", " " + fields["kernel"], "v1"],
        "model_sha256": ["f" * 64, "0" * 64, fields["model_sha256"].upper(), fields["task_sha256"]],
        "task_sha256": ["f" * 64, "0" * 64, fields["task_sha256"].upper(), fields["model_sha256"]],
    }  # fmt: skip
    for name, values in others.items():
        for value in (*values, *DECEPTIVE):
            if value != fields[name]:
                yield sign("text", **{name: value})
    options: dict[str, Any] = fields["options"]
    numbers = ("0", "1", "2", "7", "127", "129", "256", "65537", "9" * 300, "-1", "01", "1.0", "x")
    for name in {"bins", "window", "direct", "averaging", "attention_error", "speed", *options}:
        rest = {key: value for key, value in options.items() if key != name}
        for value in (*numbers, "svd", "max_diff", "drop_average", None, 128, ["1"], *DECEPTIVE):
            if value != options.get(name):
                yield sign("option", options=rest | {name: value})
        if name in options:
            yield sign("option", options=rest)
    for name in DECEPTIVE:
        yield sign("option", options=options | {name: "1"})


def strange_numbers(number: int) -> list[str]:
    """Texts that are another number, or the same number not in its canonical spelling."""
    digits = str(number)
    wide = "".join(chr(0xFF10 + int(d)) for d in digits)
    arabic = "".join(chr(0x0660 + int(d)) for d in digits)
    return [
        str(number - 1), str(number + 1), str(number * 2), str(number // 2), str(-number), "0", "1",
        str(2**31), str(2**63), str(2**64), str(number + 2**32), str(number + 2**64), "9" * 3999,
        "9" * 4001, "9" * 5000, f"0{digits}", f"+{digits}", f" {digits}", f"{digits} ",
        f"{digits}\n", f"{digits}.0", f"{digits}e0", f"{digits}L", f"0x{number:x}", f"{digits}_0",
        f"{digits[:1]}_{digits[1:]}", wide, arabic, f"{digits}\u00b2", "NaN", "inf", "",
    ]  # fmt: skip


def reduced(count: int, total: int) -> str:
    bound = Fraction(count, total)
    return f"{bound.numerator}/{bound.denominator}"


def of_json(s: Subject) -> Iterator[Mutant]:
    """The same claim in other words: none of them is canonical."""
    fields, tensors = s.claim, s.entries
    first = '{"bound":'
    deep = [depth for base in (1, 100, 500, 900, 950, 990, 5000) for depth in (base, base + 1)]
    edits: list[Callable[[str], str]] = [
        lambda t: t.replace(",", ", ", 1),
        lambda t: t.replace(":", ": ", 1),
        lambda t: " " + t,
        lambda t: t + " ",
        lambda t: t + "\n",
        lambda t: t + "\0",
        lambda t: "\ufeff" + t,
        lambda t: t + t,
        lambda t: t + "x",
        lambda t: t[:-1],
        lambda t: t[1:],
        lambda t: t[:-1] + ",}",
        lambda t: t.replace("a", "\\u0061", 1),
        lambda t: t.replace("/", "\\/", 1),
        lambda t: t.replace("\\", "/"),
        lambda t: t.replace('"', "'"),
        lambda t: t.replace(first, '{"bound":"1/1","bound":'),
        lambda t: t.replace(first, first + '"1/1","bound":'),
        lambda t: t[:-1] + ',"correct":"1"}',
        lambda t: t[:-1] + ',"correct":' + json.dumps(fields["total"]) + "}",
        lambda t: t[:-1] + ',"theorem":"additive"}',
        lambda t: t[:-1] + ',"\\u0063orrect":"1"}',
        lambda t: t.replace(first, '{"a":NaN,"bound":'),
        lambda t: t.replace(first, '{"a":-Infinity,"bound":'),
        lambda t: t.replace(first, '{"a":1e999,"bound":'),
        lambda t: t.replace(first, '{"a":' + "9" * 5000 + ',"bound":'),
        lambda t: t.replace('"format":1', '"format":1.0'),
        lambda t: t.replace('"format":1', '"format":1e0'),
        lambda t: t.replace('"format":1', '"format":01'),
        lambda t: t.replace('"format":1', '"format":-1'),
        lambda t: t.replace('"format":1', '"format":true'),
        lambda t: t.replace('"format":1', '"format":' + "1" * 4000),
        lambda t: json.dumps(t),
        lambda t: json.dumps([json.loads(t)]),
        lambda t: json.dumps(dict(reversed(json.loads(t).items())), separators=(",", ":")),
        lambda t: json.dumps(json.loads(t), indent=1, sort_keys=True),
        lambda t: "",
        lambda t: "null",
        lambda t: "[]",
        lambda t: "{}",
        lambda t: "1" * 4000,
        *(
            lambda t, d=d, name=name: t.replace(
                f'"{name}":{json.dumps(fields[name], separators=(",", ":"), sort_keys=True)}',
                f'"{name}":{"[" * d}{"]" * d}',
            )
            for d in deep
            for name in ("format", "bound", "options", "correct")
        ),
        *(lambda t, d=d: t.replace(first, '{"a":' * d + "1" + "}" * d) for d in deep),
    ]
    for edit in edits:
        yield Mutant("json", lambda edit=edit: signed_text(edit, fields, tensors))


def of_tensors(s: Subject, rng: np.random.Generator, per_tensor: int = 24) -> Iterator[Mutant]:
    """Each tensor changed in its numbers, type, shape or name; the claim kept."""
    fields, arrays, plain = s.claim, s.tensors, s.entries

    def put(kind: str, name: str, value: np.ndarray | Entry) -> Mutant:
        def make() -> bytes:
            new = value if isinstance(value, Entry) else entry(value)
            return signed(fields, plain | {name: new})

        return Mutant(kind, make)

    for name, array in arrays.items():
        for changed in changed_entries(array, rng, per_tensor):
            yield put("entry", name, changed)
        for changed in changed_arrays(array):
            yield put("array", name, changed)
        for other, values in arrays.items():
            if other != name and values.shape == array.shape and values.dtype == array.dtype:
                yield put("array", name, values)
        for changed in other_types(array, plain[name]):
            yield put("type", name, changed)
        for changed in other_shapes(array, plain[name]):
            yield put("shape", name, changed)
        rest = {key: value for key, value in plain.items() if key != name}
        yield Mutant("name", lambda rest=rest: signed(fields, rest))
        for other in strange_names(name):
            added = rest | {other: plain[name]}
            yield Mutant("name", lambda a=added: signed(fields, a))
            yield Mutant("name", lambda a=added, n=name: signed(fields, a | {n: plain[n]}))
        yield Mutant("name", lambda name=name: twice(s, name))
        yield Mutant("name", lambda name=name: twice(s, name, first=True))
    for name in ("effort", "order", "window", "gap", "average", "part.0", "extra", "grid", "shift"):
        for array in (np.zeros((1, 1), np.int32), np.zeros(0), np.ones((2, 6), np.int32)):
            if name not in plain:
                yield put("name", name, array)
    yield Mutant("name", lambda: signed(fields, {}))


def changed_entries(
    array: np.ndarray, rng: np.random.Generator, count: int
) -> Iterator[np.ndarray]:
    """``array`` with one or two numbers changed, by little or to an extreme."""
    if not array.size:
        return
    limits: list[Any]
    if array.dtype.kind == "f":
        limits = [np.nan, np.inf, -np.inf, 1e308, -1e308, 5e-324, 1e6, -1e6, 0.5]
    else:
        info = np.iinfo(array.dtype)
        limits = [info.min, info.max, 0, -1, 1, LIMIT, -LIMIT, LIMIT + 1, -LIMIT - 1, 1 << 22]
        limits += [(1 << 22) + 1, 900, 901, -900, -901]
        limits = [n for n in limits if info.min <= n <= info.max]
    for _ in range(count):
        changed = array.copy()
        flat = changed.reshape(-1)
        at = int(rng.integers(array.size))
        how = rng.integers(6)
        old: Any = flat[at].item()
        if how == 0:
            new: Any = limits[rng.integers(len(limits))]
        elif how == 1:
            other = int(rng.integers(array.size))
            flat[at], new = flat[other], old
            at = other
        elif array.dtype.kind == "f":
            steps = [np.nextafter(old, np.inf), np.nextafter(old, -np.inf), old + 1, old - 1, -old]
            new = steps[rng.integers(len(steps))]
        else:
            size = 1 if how == 2 else 1 << int(rng.integers(31))
            moved = (-old) if how == 5 else old + size * int(rng.choice([-1, 1]))
            new = min(max(moved, np.iinfo(array.dtype).min), np.iinfo(array.dtype).max)
        flat[at] = new
        if not np.array_equal(changed, array):
            yield changed


def changed_arrays(array: np.ndarray) -> Iterator[np.ndarray]:
    """The whole array moved about or made constant."""
    whole = array.dtype.kind != "f"
    bottom, top = (
        (np.iinfo(array.dtype).min, np.iinfo(array.dtype).max) if whole else (-LIMIT, LIMIT)
    )
    with np.errstate(over="ignore", invalid="ignore"):
        variants = [
            array + 1, array - 1, -array, array * 2, array * 0, array * 0 + 1, array // 2,
            array[::-1], np.roll(array, 1), np.swapaxes(array, -1, 0) if array.ndim > 1 else array,
            np.swapaxes(array, -1, -2) if array.ndim > 1 else array, np.sort(array, axis=None),
            np.full_like(array, array.max() if array.size else 0),
            np.full_like(array, array.min() if array.size else 0),
            np.full_like(array, min(LIMIT, top)), np.full_like(array, max(-LIMIT, bottom)),
        ]  # fmt: skip
    for changed in variants:
        changed = changed.astype(array.dtype)
        if changed.shape != array.shape and changed.size == array.size:
            changed = changed.reshape(array.shape)
        if not np.array_equal(changed, array):
            yield changed


def other_types(array: np.ndarray, stored: Entry) -> Iterator[np.ndarray | Entry]:
    """The same numbers in other types, and the same bytes under other names of types."""
    for kind in (np.int8, np.int16, np.int32, np.int64, np.uint32, np.uint64, np.bool_):
        if array.dtype != kind:
            with np.errstate(invalid="ignore"):
                yield array.astype(kind)
    for kind in (np.float16, np.float32, np.float64):
        if array.dtype != kind:
            with np.errstate(over="ignore"):
                yield array.astype(kind)
    for kind in ("I32", "I64", "U32", "U64", "F32", "F64", "BF16", "C64", "F8_E4M3", "F4", "i32",
                 "I32 ", "", "\u0406\u0033\u0032", "Q", None, 3, ["I32"]):  # fmt: skip
        if kind != stored.kind:
            yield stored._replace(kind=kind)
    yield stored._replace(data=array.astype(array.dtype.newbyteorder(">")).tobytes())


def other_shapes(array: np.ndarray, stored: Entry) -> Iterator[np.ndarray | Entry]:
    """Other shapes of the same bytes, shapes that lie, and fewer or more bytes."""
    size, shape = array.size, list(array.shape)
    for declared in (
        [size], [], [1, *shape], [*shape, 1], [size, 1], shape[::-1], [1] * 6 + shape,
        [1] * 9 + shape, [1] * 70 + shape, [0, *shape], [2**31 - 1, *shape], [2**31, 0], [2**40],
        [2**62, 4], [2**63, 2], [2**64], [2**200], [-1], [-size], [float(size)], [str(size)],
        [True] * len(shape), [None], size, "x", {}, [[size]], [size + 1], [size // 2 + 1],
    ):  # fmt: skip
        if declared != shape:
            yield stored._replace(shape=declared)
    for gone in ([0], [0, 2**31 - 1], [0] * 3, [0, 2**62], [2**31, 0]):
        yield stored._replace(shape=gone, data=b"")
    yield array[:0]
    yield array.ravel()
    yield np.concatenate([array, array])
    yield array[None]
    if len(array) > 1:
        yield array[1:]
        yield array[:-1]


def strange_names(name: str) -> Iterator[str]:
    for other in (
        name.upper(), name.capitalize(), name + " ", " " + name, name + "\0", name + "\n",
        f"./{name}", f"../../{name}", f"/{name}", f"{name}/x", name + "\u200b", name + "\u0301",
        name.replace("e", "\u0435"), name.replace("_", "-"), "__metadata__", "", "claim",
        "\x1b[2J" + name, "\u202e" + name, "\ud800" + name, name * 20_000,
    ):  # fmt: skip
        if other != name:
            yield other


def twice(s: Subject, name: str, *, first: bool = False) -> bytes:
    """A file with two tensors of one name, the second of zeros; the digest is that of the last."""
    plain = s.entries
    zero = plain[name]._replace(data=bytes(len(plain[name].data)))
    items = [*plain.items()]
    items = [(name, zero), *items] if first else [*items, (name, zero)]
    fields = s.claim
    fields["digest"] = digest(fields, plain if first else plain | {name: zero})
    text = json.dumps(json.dumps(fields, sort_keys=True, separators=(",", ":")))
    parts, body = laid_out(items)
    return with_header("{" + ",".join([f'"__metadata__":{{"claim":{text}}}', *parts]) + "}", body)


# Perfect lies: the claim is what the theorem gives from tables that are not the model's.


def sealed(subject: Any, kernel: Any, changed: Any, semantics: str = "real") -> Any:
    """``VerifiedTables`` that nobody verified, with the cost of honest ones."""
    tables = kernel.integer_tables(subject, semantics)
    honest = kernel.verify_tables(subject, tables, semantics)
    slots = {name: getattr(honest, name) for name in type(honest).__slots__}
    return kernel.VerifiedTables(**slots | {"claimed": changed}, seal=kernel._integers._SEAL)


def own_witness(s: Subject) -> dict[str, np.ndarray] | None:
    """The certificate's own tensors that are no tables."""
    names = s.kernel.IntegerTables._fields
    return {name: a for name, a in s.tensors.items() if name not in names} or None


def options_of(s: Subject) -> Any:
    values = {n: int(t) if t.isdigit() else t for n, t in s.claim["options"].items()}
    return s.kernel.THEOREMS[s.theorem].parse_options(values)


def proved_from(s: Subject, of: Any, witness: dict[str, np.ndarray] | None) -> bytes | None:
    """The certificate that the theorem gives, or None if it refuses or breaks down."""
    try:
        made = proof(s.kernel, of, s.task, s.theorem, options_of(s), witness)
    except Exception:  # of false tables anything may follow
        return None
    return s.kernel.encode_certificate(made)


def of_lies(s: Subject, rng: np.random.Generator, count: int = 60) -> Iterator[Mutant]:
    """Tables that are false, with the claim that follows; each may also turn out still true."""
    kernel = s.kernel
    if s.theorem == "composed" or not kernel.THEOREMS[s.theorem].from_tables:
        return
    honest = kernel.IntegerTables(**{n: s.tensors[n] for n in kernel.IntegerTables._fields})
    seeds = rng.integers(1 << 32, size=count).tolist()

    def lie(tell: Callable[[], Any]) -> Mutant:
        return Mutant(
            "coherent",
            lambda: proved_from(s, sealed(s.model, kernel, tell(), s.semantics), own_witness(s)),
        )

    for seed in seeds:
        yield lie(lambda seed=seed: tightened(np.random.default_rng(seed), honest))
    for tell in GREAT_LIES:
        yield lie(lambda tell=tell: tell(honest))
    yield lie(lambda: kernel.integer_tables(s.model, "real"))
    for semantics in kernel.SEMANTICS:  # the tables as they are, under another semantics
        yield Mutant(
            "coherent",
            lambda c=semantics: proved_from(s, sealed(s.model, kernel, honest, c), own_witness(s)),
        )
    for seed in seeds[: count // 3]:
        yield lie(lambda seed=seed: just_outside(np.random.default_rng(seed), s, honest))


def _clipped(array: np.ndarray, floor: int = -LIMIT) -> np.ndarray:
    return np.clip(array, floor, LIMIT).astype(np.int32)


def tightened(rng: np.random.Generator, tables: Any) -> Any:
    """One table's ends moved inward: a single entry or many, by one unit up to all the way."""
    name = str(rng.choice(["weight", "value", "direct"]))
    low, high = getattr(tables, f"{name}_low"), getattr(tables, f"{name}_high")
    low, high = low.astype(np.int64), high.astype(np.int64)
    chosen = rng.random(low.shape) < rng.choice([0.02, 0.3, 1.0])
    chosen.flat[rng.integers(chosen.size)] = True
    by = int(rng.choice([1, 2, 3, 9, 1000, 1 << 20, 1 << 28]))
    floor = 0 if name == "weight" else -LIMIT
    ends = {
        f"{name}_low": _clipped(np.where(chosen, low + by, low), floor),
        f"{name}_high": _clipped(np.where(chosen, high - by, high), floor),
    }
    which = rng.integers(3)
    if which < 2:
        ends.pop(list(ends)[which])
    elif by < 10:
        # Both ends on the same side of the truth: narrow, in order, and false.
        ends = {key: _clipped(np.where(chosen, low + by, low), floor) for key in ends}
    return tables._replace(**ends)


def just_outside(rng: np.random.Generator, s: Subject, tables: Any) -> Any:
    """One end of one interval moved to the first integer that does not enclose."""
    numbers = numbers_of(s.model)
    name = str(rng.choice(["weight", "value", "direct"]))
    low, high = getattr(tables, f"{name}_low").copy(), getattr(tables, f"{name}_high").copy()
    at = tuple(int(rng.integers(size)) for size in low.shape)
    before, ctx.prec = ctx.prec, BITS
    try:
        exponent = -int(tables.grid[0])
        if name == "weight":
            i, q, t = at
            number = (numbers.scores[i][q][t] - arb(float(tables.shift[q]))).exp()
            exponent = int(tables.weight_exponent[at])
        else:
            number: Any = numbers.values if name == "value" else numbers.rest
            for index in at:
                number = number[index]
        mantissa = number * arb((1, -exponent))
        try:
            below = int(mantissa.floor().unique_fmpz())
        except (TypeError, ValueError):  # an integer, not to be told from its neighbours
            below = round(float(mantissa.mid()))
    finally:
        ctx.prec = before
    if rng.random() < 0.5:
        low[at] = below + 1
        high[at] = max(high[at], below + 1)
    else:
        above = below if float(mantissa.mid()) != below else below - 1
        high[at] = above
        low[at] = min(low[at], above)
    return tables._replace(**{f"{name}_low": low, f"{name}_high": high})


def _middle(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    return ((low.astype(np.int64) + high) // 2).astype(np.int32)


def _pairs(tables: Any, change: Callable[[str, np.ndarray, np.ndarray], Any]) -> Any:
    result = tables
    for name in ("weight", "value", "direct"):
        low, high = getattr(tables, f"{name}_low"), getattr(tables, f"{name}_high")
        low, high = change(name, low, high)
        result = result._replace(**{f"{name}_low": low, f"{name}_high": high})
    return result


def _favour(tables: Any, names: tuple[str, ...], by: int) -> Any:
    """The right answer's logit raised, in the value of its token and in the direct path."""
    for name in names:
        for end in ("low", "high"):
            array = getattr(tables, f"{name}_{end}").astype(np.int64)
            n = min(array.shape[-2:])
            array[..., np.arange(n), np.arange(n)] += by
            tables = tables._replace(**{f"{name}_{end}": _clipped(array)})
    return tables


def _only_largest(tables: Any) -> Any:
    """Attention on the larger tokens alone."""
    rank = np.arange(tables.weight_low.shape[2])[None, None, :]
    by = 4 * (rank[..., ::-1])
    return tables._replace(
        weight_low=(tables.weight_low >> np.minimum(by, 31)).astype(np.int32),
        weight_high=(tables.weight_high >> np.minimum(by, 31)).astype(np.int32),
    )


def _bumped(tables: Any, name: str, by: float, *, first: bool) -> Any:
    array = getattr(tables, name).copy()
    if first:
        array[(0,) * (array.ndim - 1)] += by
    else:
        array += by
    return tables._replace(**{name: array})


GREAT_LIES: list[Callable[[Any], Any]] = [
    lambda t: _pairs(t, lambda n, low, high: (_middle(low, high), _middle(low, high))),
    lambda t: _pairs(t, lambda n, low, high: (high, low)),
    lambda t: _pairs(t, lambda n, low, high: (low, low)),
    lambda t: _pairs(t, lambda n, low, high: (high, high)),
    lambda t: _pairs(t, lambda n, low, high: (0 * low, 0 * high)),
    lambda t: _pairs(t, lambda n, low, high: (low[::-1], high[::-1])),
    lambda t: _pairs(t, lambda n, low, high: (low[..., ::-1], high[..., ::-1])),
    lambda t: _favour(t, ("direct",), LIMIT >> 1),
    lambda t: _favour(t, ("value",), LIMIT >> 1),
    lambda t: _favour(t, ("value", "direct"), LIMIT >> 2),
    lambda t: _favour(t, ("value", "direct"), 5),
    lambda t: _favour(_pairs(t, lambda n, low, high: (low, high)), ("value",), 1 << 24),
    _only_largest,
    lambda t: t._replace(weight_high=t.weight_low, value_high=t.value_low),
    lambda t: t._replace(weight_high=0 * t.weight_high),
    lambda t: t._replace(weight_low=t.weight_high),
    lambda t: t._replace(value_high=t.value_low, value_low=t.value_low),
    lambda t: t._replace(value_low=_clipped(t.value_low.astype(np.int64) * 2)),
    lambda t: t._replace(value_high=_clipped(t.value_high.astype(np.int64) // 2)),
    lambda t: t._replace(direct_low=t.direct_high, direct_high=t.direct_low),
    *(
        lambda t, name=name, by=by, first=first: _bumped(t, name, by, first=first)
        for name, amounts in (
            ("weight_exponent", (-40, -2, -1, 1, 2, 40)),
            ("shift", (-1.0, 1.0, 2.0**-30, -(2.0**-30), 30.0)),
            ("grid", (-2, -1, 1, 2)),
        )
        for by in amounts
        for first in (False, True)
    ),
]
"""Each makes false tables of true ones; whatever the theorem says of them is then claimed."""


def of_other_models(s: Subject, rng: np.random.Generator, count: int = 24) -> Iterator[Mutant]:
    """True proofs of other models, from one unit in the last place to far, renamed to this one."""
    if s.theorem == "composed":
        return
    seeds = rng.integers(1 << 32, size=count).tolist()

    def other(seed: int) -> bytes | None:
        draw = np.random.default_rng(seed)
        model: Any = s.model
        name = str(draw.choice([f for f in vars(model) if f[:2] in ("W_", "b_")]))
        array = getattr(model, name).copy()
        at = tuple(int(draw.integers(n)) for n in array.shape)
        old = np.float32(array[at])
        by = int(draw.integers(5))
        steps = (np.nextafter(old, np.float32(np.inf)), old + 2.0**-40, old + 2.0**-12, old + 1)
        array[at] = -old if by == 4 else steps[by]
        changed = float32(array)
        if np.array_equal(changed, getattr(model, name)):
            return None
        return renamed(s, replace(model, **{name: changed}))

    for seed in seeds:
        yield Mutant("relabelled", lambda seed=seed: other(seed))
    permutation = np.arange(s.model.d_vocab)[::-1]
    yield Mutant("relabelled", lambda: renamed(s, replace(s.model, W_E=s.model.W_E[permutation])))
    yield Mutant(
        "relabelled", lambda: renamed(s, replace(s.model, W_pos=s.model.W_pos[::-1].copy()))
    )
    for factor in (Fraction(1, 4), Fraction(4), Fraction(1 + 2**40, 2**40)):
        divisor = s.model.score_divisor_squared * factor
        yield Mutant(
            "relabelled",
            lambda d=divisor: renamed(s, replace(s.model, score_divisor_squared=d)),
        )


def renamed(s: Subject, other: Any) -> bytes | None:
    """A true proof of another model under this model's digest."""
    of = other
    if s.kernel.THEOREMS[s.theorem].from_tables:
        tables = s.kernel.integer_tables(other, s.semantics)
        of = s.kernel.verify_tables(other, tables, s.semantics)
    data = proved_from(s, of, own_witness(s))
    if data is None:
        return None
    again = s._replace(data=data)
    return signed(again.claim | {"model_sha256": s.model.sha256}, again.entries)


def of_controls(s: Subject, rng: np.random.Generator, count: int = 8) -> Iterator[Mutant]:
    """Other tables and witnesses that are as good: a judge that refuses these is no judge."""
    kernel = s.kernel
    if s.theorem == "composed":
        return
    from_tables = kernel.THEOREMS[s.theorem].from_tables
    for seed in rng.integers(1 << 32, size=count).tolist():

        def wider(seed: int = seed) -> bytes | None:
            draw = np.random.default_rng(seed)
            witness, of = own_witness(s), s.model
            if witness is not None and draw.random() < 0.7:
                witness = another_witness(s, draw)
            if from_tables:
                honest = kernel.integer_tables(s.model, s.semantics)
                amount = float(draw.choice([0.0, 0.1, 1.0]))
                loose = widened(draw, honest, amount)
                limit = draw.random() < 0.2
                of = sealed(s.model, kernel, nothing_known(loose) if limit else loose, s.semantics)
            return proved_from(s, of, witness)

        yield Mutant("control", wider, must_hold=True)
    yield Mutant("control", lambda: signed(s.claim, s.entries), must_hold=True)
    backwards = sorted(s.entries, reverse=True)
    yield Mutant("control", lambda: signed(s.claim, s.entries, order=backwards), must_hold=True)


def nothing_known(tables: Any) -> Any:
    """The widest intervals that the form allows."""
    return tables._replace(
        weight_low=0 * tables.weight_low,
        weight_high=np.full_like(tables.weight_high, LIMIT),
        value_low=np.full_like(tables.value_low, -LIMIT),
        value_high=np.full_like(tables.value_high, LIMIT),
        direct_low=np.full_like(tables.direct_low, -LIMIT),
        direct_high=np.full_like(tables.direct_high, LIMIT),
    )


def another_witness(s: Subject, rng: np.random.Generator) -> dict[str, np.ndarray]:
    v, x = s.model.d_vocab, s.model.d_vocab_out
    if s.theorem == "additive":
        effort = rng.choice([-2, -1, 0, 1, 7, 300], (v, x)).astype(np.int32)
        return {"effort": effort, "order": drawn_order(rng, effort)}
    if s.theorem == "subcubic":
        return dict(random_subcubic_witness(rng, s.model)._asdict())
    return {"window": rng.integers(1, 2 * v + 2, (v, x)).astype(np.int32)}


def of_splices(s: Subject, others: Mapping[str, Subject]) -> Iterator[Mutant]:
    """The claim of one certificate on tensors of another."""
    for t in others.values():
        if t.name == s.name:
            continue
        claim, theirs, ours = s.claim, t.entries, s.entries
        named = {key: claim[key] for key in ("model_sha256", "task", "task_sha256", "kernel")}
        yield Mutant("splice", lambda t=t, n=named: signed(t.claim | n, t.entries))
        yield Mutant("splice", lambda c=claim, e=theirs: signed(c, e))
        yield Mutant("splice", lambda t=t, e=ours: signed(t.claim, e))
        yield Mutant("splice", lambda t=t, e=ours: signed(s.claim | {"theorem": t.theorem}, e))
        yield Mutant(
            "splice",
            lambda t=t, e=ours: signed(s.claim | {"options": t.claim["options"]}, e),
        )
        for name in sorted(set(ours) & set(theirs)):
            if ours[name] != theirs[name]:
                mixed = ours | {name: theirs[name]}
                yield Mutant("splice", lambda m=mixed: signed(s.claim, m))


# Composition.


def joined(s: Subject, parts: Mapping[str, bytes | np.ndarray], **changes: Any) -> bytes | None:
    """A composed certificate of these parts with the sum of what they claim, tiling or not."""
    held = {
        name: Entry("U8", [len(part)], part) if isinstance(part, bytes) else entry(part)
        for name, part in parts.items()
    }
    sums = dict.fromkeys(NUMBERS, 0)
    for part in held.values():
        try:
            claim = claim_of(part.data)
            sums = {name: n + int(claim[name]) for name, n in sums.items()}
        except (ValueError, KeyError, TypeError, RecursionError):
            continue  # no certificate: claims nothing
    sums["total"] = s.task.total
    sums["correct"] = min(sums["correct"], s.task.total)
    numbers: dict[str, Any] = {name: str(n)[:4000] for name, n in sums.items()}
    fields = s.claim | numbers | {"bound": reduced(sums["correct"], s.task.total)}
    return signed(fields | {"theorem": "composed", "options": {}} | changes, held)


def of_composition(s: Subject, rng: np.random.Generator) -> Iterator[Mutant]:
    """Parts with gaps, overlaps, in disorder, nested, of other models, or false themselves."""
    kernel, v = s.kernel, s.task.v
    if s.theorem != "composed" or v < 2:
        return

    def proved(first: int, last: int, theorem: str = "additive", semantics: str = "real") -> bytes:
        queries = range(first, last + 1)
        made = part_proof(kernel, s.model, s.task, queries, theorem, semantics)
        return kernel.encode_certificate(made)

    low, high = range(v // 2), range(v // 2, v)
    first, second = proved(low[0], low[-1]), proved(high[0], high[-1], "cubic")
    single = [proved(q, q, "windowed") for q in range(v)]
    whole = proved(0, v - 1)
    wrong_model = replace(s.model, b_U=float32(s.model.b_U + np.arange(s.model.d_vocab_out)))
    theirs = kernel.encode_certificate(part_proof(kernel, wrong_model, s.task, low, "additive"))
    theirs = signed(claim_of(theirs) | {"model_sha256": s.model.sha256}, entries(load(theirs)))
    best = signed(
        claim_of(first) | {"correct": claim_of(first)["total"], "undecided": "0", "bound": "1/1"},
        entries(load(first)),
    )
    lists: list[list[bytes]] = [
        [], [first], [second], [second, first], [first, first], [first, second, second],
        [first, second, first], [first, *single[v // 2 + 1:]], [first, single[-1]], single[:-1],
        single[1:], single[::-1], [*single, single[0]], [*single, first], [single[0], *single],
        [whole], [whole, first], [first, second, whole], [s.data], [s.data, s.data],
        [first, s.data], [joined(s, {"part.0": s.data}) or b""], [theirs, second], [best, second],
        [first, second[:-1]], [first, second + b"\0"], [first, b""], [b"", first, second],
        [first, second[8:]], [first] * 300, [first, proved(high[0], v - 1, "cubic", "float32")],
        [proved(low[0], low[-1], "additive", "float32"), second], [proved(0, 0)] * v,
    ]  # fmt: skip
    for parts in lists:
        named = {f"part.{n}": data for n, data in enumerate(parts)}
        yield Mutant("composition", lambda named=named: joined(s, named))
        yield Mutant("composition", lambda named=named: signed(s.claim, _bytes(named)))
        yield Mutant("composition", lambda named=named: joined(s, named, semantics="float32"))
    good = {"part.0": first, "part.1": second}
    for name in ("part.2", "part.-1", "part.01", "part.1 ", "Part.1", "part.\u0661", "part", ""):
        yield Mutant("composition", lambda n=name: joined(s, {"part.0": first, n: second}))
        yield Mutant("composition", lambda n=name: joined(s, good | {n: second}))
    square = np.frombuffer(second, np.uint8)
    for array in (square[None], square[:, None], square.astype(np.int32), square.astype(np.int8)):
        yield Mutant("composition", lambda a=array: joined(s, good | {"part.1": a}))
    for data in ([first, second], single):
        named = {f"part.{n}": one for n, one in enumerate(data)}
        yield Mutant("control", lambda named=named: joined(s, named), must_hold=True)
    # A spoilt part, and the sum that follows from what it says.
    halves: list[tuple[bytes, range, str]] = [(first, low, "additive"), (second, high, "cubic")]
    for n, (data, queries, theorem) in enumerate(halves):
        right = sum(s.right_by_query[q] for q in queries)
        task = kernel.parse_task(claim_of(data)["task"], parts=True)
        spoiling = s._replace(data=data, task=task, theorem=theorem, right=right)
        for mutant in islice(of_all(spoiling, {}, int(rng.integers(100))), n, None, 5):

            def inside(mutant: Mutant = mutant, n: int = n) -> bytes | None:
                spoilt = mutant.make()
                return None if spoilt is None else joined(s, good | {f"part.{n}": spoilt})

            yield Mutant(f"composition, {mutant.kind}", inside, mutant.must_hold)


def _bytes(parts: Mapping[str, bytes]) -> dict[str, Entry]:
    return {name: Entry("U8", [len(data)], data) for name, data in parts.items()}


# Bytes.


def of_structure(s: Subject) -> Iterator[Mutant]:
    """Truncations at every length, stray bytes, and headers that say it otherwise."""
    data = s.data
    for length in range(len(data)):
        yield Mutant("truncated", lambda n=length: data[:n])
    for tail in (b"\0", b" ", b"\n", b"}", data[-1:], data, b"\0" * 4096):
        yield Mutant("structure", lambda tail=tail: data + tail)
        yield Mutant("structure", lambda tail=tail: tail + data)
    header, body = header_of(data)
    for edit in header_edits(header):
        yield Mutant("structure", lambda h=edit: with_header(h, body))
        yield Mutant("structure", lambda h=edit: with_header(h, body, align=False))
    length = int.from_bytes(data[:8], "little")
    near = [length - 8, length - 1, length + 1, length + 8, len(data) - 8, len(data)]
    far = [10_000_000, 10_000_001, 2**31, 2**32 + length, 2**63 + length, 2**64 - 1]
    for other in (0, 1, *near, *far):
        yield Mutant("structure", lambda n=other: n.to_bytes(8, "little") + data[8:])
    yield Mutant("structure", lambda: data[:8][::-1] + data[8:])
    yield Mutant("structure", lambda: data[8:])


def header_edits(header: bytes) -> Iterator[bytes]:
    inner = header[1:-1]
    for pad in (b" ", b"\t", b"\n", b"\r", b"\0", b" " * 7, b" " * 8, b" " * 100):
        yield header + pad
        yield pad + header
        yield b"{" + pad + inner + b"}"
        yield header.replace(b":", b":" + pad, 1)
    for more in (
        b'"x":1', b'"x":null', b'"x":{}', b'"x":[]', b'"":{}', b'"__metadata__":{}',
        b'"__metadata__":{"claim":"{}"}', b'"__metadata__":null', b'"grid":null',
        b'"x":{"dtype":"I64","shape":[0],"data_offsets":[0,0]}',
        b'"x":{"dtype":"I64","shape":[0,2147483647],"data_offsets":[0,0]}',
        b'"x":{"dtype":"I64","shape":[4611686018427387904],"data_offsets":[0,0]}',
        b'"x":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}',
        b'"x":{"dtype":"U8","shape":[1],"data_offsets":[-1,0]}',
        b'"x":{"dtype":"U8","shape":[18446744073709551615],"data_offsets":[0,18446744073709551615]}',
        b'"x":{"dtype":"U8","shape":[1],"data_offsets":[18446744073709551615,0]}',
        b'"\\ud800":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}', b'"\xff":{}',
        b'"x":' + b"[" * 200 + b"]" * 200, b'"x":' + b"[" * 100_000, b'"x":' + b'{"x":' * 100_000,
    ):  # fmt: skip
        yield b"{" + inner + b"," + more + b"}"
        yield b"{" + more + b"," + inner + b"}"
    yield header.replace(b'{"claim":', b'{"note":"x","claim":', 1)
    yield header.replace(b'{"claim":', b'{"claim":"x","claim":', 1)
    yield header.replace(b'{"claim":', b'{"Claim":', 1)
    yield header.replace(b'{"claim":', b'{"":', 1)
    yield header.replace(b"__metadata__", b"__metadata", 1)
    yield header.replace(b'"dtype"', b'"dtype":"I32","dtype"', 1)
    yield header.replace(b'"dtype"', b'"\\u0064type"', 1)
    yield header.replace(b'"shape":[', b'"shape":[1,', 1)
    yield header.replace(b'"data_offsets":[0,', b'"data_offsets":[00,', 1)
    yield header.replace(b'"data_offsets":[0,', b'"data_offsets":[-0,', 1)
    yield header.replace(b'"data_offsets":[0,', b'"data_offsets":[0.0,', 1)
    yield header.replace(b'"data_offsets":[0,', b'"data_offsets":[1,', 1)
    yield header.decode().encode("utf-16")
    yield header.decode().encode("utf-32")
    yield b"\xef\xbb\xbf" + header
    yield b"[" + header + b"]"
    yield header + header
    yield header.replace(b'"', b"'")


def of_bytes(s: Subject, values: int = 8) -> Iterator[Mutant]:
    """Every single byte changed, with the digest made right wherever the file can still be read.

    values: 8 for each bit flipped, 255 for every other byte.
    """
    data = s.data
    at = data.index(s.claim["digest"].encode())
    for position in range(len(data)):
        inside = at <= position < at + 64
        for n in range(values):
            changed = data[position] ^ (1 << n if values == 8 else n + 1)

            def make(p: int = position, c: int = changed, inside: bool = inside) -> bytes:
                spoilt = data[:p] + bytes([c]) + data[p + 1 :]
                return spoilt if inside else resigned(spoilt, at)

            yield Mutant("byte of the digest" if inside else "byte", make)


def of_all(s: Subject, others: Mapping[str, Subject], seed: int) -> Iterator[Mutant]:
    """Every mutant of ``s`` whose digest is that of its content, but single bytes."""
    rng = np.random.default_rng(seed)
    yield from of_composition(s, rng)
    yield from of_lies(s, rng)
    yield from of_other_models(s, rng)
    yield from of_controls(s, rng)
    yield from of_claim(s)
    yield from of_json(s)
    yield from of_tensors(s, rng)
    yield from of_splices(s, others)
