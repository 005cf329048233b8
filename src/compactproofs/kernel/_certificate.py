"""A certificate: one ``.safetensors`` file with the claim and the tables it was counted from.

Metadata has the single key ``claim``: canonical JSON (sorted keys, no spaces, ASCII, whole numbers
as decimal strings) with a digest over itself and the tensors. The tensors are the integer tables.
``check`` proves that they enclose the model's numbers, runs the theorem again from them, and
demands that every number of the claim comes out the same. Nothing in the file is executed.
A composed certificate holds those of its parts, each whole, as tensors of bytes.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np
from safetensors.numpy import save

from ._claim import Claim, Outcome, Proved, require_fit
from ._composition import COMPOSED, compose
from ._errors import (
    KernelDefectError,
    MalformedError,
    OptionError,
    RejectedError,
    SemanticsError,
    TaskError,
)
from ._integers import IntegerTables, verify_tables
from ._model import Model
from ._safetensors import (
    DamagedError,
    decode_floats,
    decode_integers,
    read_json,
    read_tensors,
    require_compact_header,
)
from ._tasks import Task, parse_task
from ._tick import Tick, no_tick
from ._transformer import Transformer
from ._version import __version__
from ._witness import Witness, witness_from
from .theorems import THEOREMS, Theorem

FORMAT: Final = 1
_TEXTS = "distribution kernel metric model_sha256 semantics task task_sha256 theorem".split()
_NUMBERS = "correct flops radius_flops total undecided unexplained_dimension".split()
_FIELDS = {*_TEXTS, *_NUMBERS, "bound", "digest", "format", "options"}
_DTYPES = dict.fromkeys(IntegerTables._fields, "I32") | {"shift": "F64", "grid": "I64"}
_NAMES = {"int32": "I32", "int64": "I64", "float64": "F64", "uint8": "U8"}
_AXES = dict.fromkeys(IntegerTables._fields, "iqt") | {
    "direct_low": "qx",
    "direct_high": "qx",
    "shift": "q",
    "grid": "1",
}


class Certificate(NamedTuple):
    """What a file says; nothing of it is believed before ``check``."""

    claim: Claim
    tables: IntegerTables | None
    """None if the theorem goes back to the weights."""
    witness: Witness | None
    """The theorem's own tensors, if the file has any."""
    parts: tuple[bytes, ...] = ()
    """The certificates that a composed one is made of."""


class Verdict(NamedTuple):
    """How a check ended. A bound may be quoted only if the outcome is PROVED or VACUOUS."""

    outcome: Outcome
    reason: str
    claim: Claim | None
    """What the file claims, if it could be read; proved only if ``outcome`` says so."""

    @property
    def valid(self) -> bool:
        """Whether the claim holds."""
        return self.outcome in (Outcome.PROVED, Outcome.VACUOUS)


def encode_certificate(proved: Proved) -> bytes:
    """The bytes of the certificate; equal proofs give equal bytes."""
    fields = claim_fields(proved.claim)
    arrays = {} if proved.tables is None else proved.tables._asdict()
    if proved.witness is not None:
        arrays |= proved.witness._asdict()
    arrays |= {
        f"part.{n}": np.frombuffer(encode_certificate(part), dtype=np.uint8)
        for n, part in enumerate(proved.parts)
    }
    tensors = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    fields["digest"] = _digest(fields, tensors)
    return save(tensors, metadata={"claim": _canonical(fields)})


def claim_fields(claim: Claim) -> dict[str, Any]:
    """The claim as JSON fields: numbers exact, as decimal strings; no digest yet."""
    texts = {name: getattr(claim, name) for name in _TEXTS}
    numbers = {name: str(getattr(claim, name)) for name in _NUMBERS}
    bound = f"{claim.bound.numerator}/{claim.bound.denominator}"
    return {
        **texts,
        **numbers,
        "bound": bound,
        "format": FORMAT,
        "options": {name: str(value) for name, value in claim.options},
    }


def _canonical(fields: Mapping[str, Any]) -> str:
    return json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def _digest(fields: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> str:
    text = _canonical({name: value for name, value in fields.items() if name != "digest"})
    digest = hashlib.sha256(f"compactproofs certificate {FORMAT}\n{text}".encode())
    for name in sorted(tensors):
        array = tensors[name]
        kind = _NAMES[array.dtype.name]
        digest.update(f"\n{name} {kind} {list(array.shape)}\n".encode())
        digest.update(array.astype(array.dtype.newbyteorder("<")).tobytes())
    return digest.hexdigest()


def decode_certificate(data: bytes) -> Certificate:
    """Read a certificate strictly; raises ``MalformedError`` with what is wrong."""
    try:
        stored, metadata = read_tensors(data)
        require_compact_header(data)
        if set(metadata) != {"claim"}:
            raise DamagedError("its metadata is not the single key 'claim'")
        fields = read_json(metadata["claim"])
        if not isinstance(fields, dict) or _canonical(fields) != metadata["claim"]:
            raise DamagedError("its claim is not canonical JSON")
        if fields.get("format") != FORMAT or type(fields["format"]) is not int:
            raise DamagedError(f"format {fields.get('format')!r} is not {FORMAT}")
        if set(fields) != _FIELDS:
            strange = min(set(fields) ^ _FIELDS)
            raise DamagedError(f"the claim's field {strange!r} is missing or unknown")
        claim = _claim_of(fields)
        theorem = THEOREMS.get(claim.theorem)
        if claim.theorem == COMPOSED:
            dtypes = {f"part.{n}": "U8" for n in range(len(stored))}
        else:
            dtypes = _expected_tensors(theorem, set(stored))
        if set(dtypes) != set(stored):
            raise DamagedError(
                f"the tensor {min(set(dtypes) ^ set(stored))!r} is missing or unknown"
            )
        tensors: dict[str, np.ndarray] = {}
        for name, dtype in dtypes.items():
            if stored[name].dtype != dtype:
                raise DamagedError(f"tensor {name} has type {stored[name].dtype}, not {dtype}")
            raw = stored[name]
            tensors[name] = decode_floats(raw) if dtype == "F64" else decode_integers(raw, dtype)
            if dtype == "U8" and raw.dtype == "U8" and len(raw.shape) != 1:
                raise DamagedError(f"tensor {name} has shape {raw.shape}")
        if _digest(fields, tensors) != fields["digest"]:
            raise DamagedError("its digest does not match its content: it was damaged or edited")
        if claim.theorem == COMPOSED:
            return Certificate(claim, None, None, tuple(tensors[n].tobytes() for n in dtypes))
        own = {name: tensors.pop(name) for name in list(tensors) if name not in _DTYPES}
        return Certificate(
            claim,
            _tables_of(tensors) if tensors else None,
            witness_from(theorem.witness, own) if own and theorem and theorem.witness else None,
        )
    except DamagedError as error:
        raise MalformedError(str(error)) from None


def _expected_tensors(theorem: Theorem | None, stored: set[str]) -> dict[str, str]:
    """The tensors of a certificate of this theorem, with their types.

    A theorem unknown to this version is read as if it had the tables alone.
    """
    if theorem is not None and theorem.on_transformer and theorem.from_tables and not stored:
        return {}  # of a transformer, which has no such tables
    expected = dict(_DTYPES) if theorem is None or theorem.from_tables else {}
    if theorem is not None and theorem.witness is not None:
        own = theorem.witness_types
        if not theorem.from_tables or stored & set(own):
            expected |= own
    return expected


def _claim_of(fields: Mapping[str, Any]) -> Claim:
    values: dict[str, Any] = {name: fields[name] for name in _TEXTS}
    for name, text in values.items():
        # What a file says is printed: no control characters, nothing that reads as something else.
        pattern = "[0-9a-f]{64}" if name.endswith("sha256") else "[!-~]{1,200}"
        if type(text) is not str or not re.fullmatch(pattern, text):
            raise DamagedError(f"the claim's {name} is not what such a field can be")
    values |= {name: _whole(name, fields[name]) for name in _NUMBERS}
    options = fields["options"]
    if type(options) is not dict or not all(re.fullmatch("[a-z_]{1,40}", o) for o in options):
        raise DamagedError("the claim's options are not an object of options")
    claim = Claim(
        **values,
        options=tuple((name, _option(name, options[name])) for name in sorted(options)),
    )
    if not 0 <= claim.correct <= claim.total or claim.total < 1:
        raise DamagedError(f"it claims {claim.correct} right of {claim.total} sequences")
    if fields["bound"] != f"{claim.bound.numerator}/{claim.bound.denominator}":
        raise DamagedError(f"its bound {fields['bound']!r} is not correct/total in lowest terms")
    return claim


def _option(name: str, text: object) -> int | str:
    """An option's value: a whole number, or the name of a part."""
    if type(text) is str and re.fullmatch("[A-Za-z][A-Za-z0-9_+-]{0,80}", text):
        return text
    return _whole(name, text)


def _whole(name: str, text: object) -> int:
    """A whole number in decimal without leading zeros; at most 4000 digits, so never slow."""
    if type(text) is str and text.isascii() and text.isdigit() and len(text) <= 4000:
        number = int(text)
        if str(number) == text:
            return number
    raise DamagedError(f"{name} = {str(text)[:40]!r} is not a whole number in decimal")


def _tables_of(tensors: Mapping[str, np.ndarray]) -> IntegerTables:
    for name, array in tensors.items():
        if array.ndim != len(_AXES[name]):
            raise DamagedError(f"tensor {name} has shape {array.shape}")
    return IntegerTables(**tensors)


def check(
    certificate: bytes, model: Model | Transformer, task: Task | None = None, tick: Tick = no_tick
) -> Verdict:
    """Decide whether a certificate proves its claim about ``model`` (and ``task``, if given).

    Cost: that of the theorem. Raises only for misuse that is no fault of the certificate.
    """
    return verify_certificate(certificate, model, task, tick)[0]


def verify_certificate(
    certificate: bytes, model: Model | Transformer, task: Task | None = None, tick: Tick = no_tick
) -> tuple[Verdict, Proved | None]:
    """``check``, and the proof that it ran again if the certificate holds."""
    try:
        read = decode_certificate(certificate)
    except MalformedError as error:
        return Verdict(Outcome.MALFORMED, str(error), None), None
    claim = read.claim

    def no(outcome: Outcome, reason: str) -> tuple[Verdict, None]:
        return Verdict(outcome, reason, claim), None

    if claim.kernel != __version__:
        return no(
            Outcome.MALFORMED, f"written by kernel {claim.kernel}; this is kernel {__version__}"
        )
    if claim.model_sha256 != model.sha256:
        return no(
            Outcome.MISMATCH,
            f"it is about the model {claim.model_sha256[:16]}..., not {model.sha256[:16]}...",
        )
    if task is not None and task.digest != claim.task_sha256:
        return no(
            Outcome.MISMATCH,
            f"it is about the task {claim.task} with digest {claim.task_sha256[:16]}..., not "
            f"{task.name} with {task.digest[:16]}...",
        )
    try:
        own_task = parse_task(claim.task, parts=True)
        if own_task.name != claim.task:
            raise OptionError(f"unknown task {claim.task!r}")
        require_fit(own_task, model)
        again = (
            _compose_again(read.parts, model, tick)
            if claim.theorem == COMPOSED
            else _prove_again(read, model, own_task, tick)
        )
    except MalformedError as error:
        return no(Outcome.MALFORMED, str(error))
    except (RejectedError, OptionError, SemanticsError, TaskError) as error:
        return no(Outcome.REJECTED, str(error))
    different = _differences(claim, again.claim)
    if different:
        return no(Outcome.REJECTED, "the theorem does not give its numbers: " + different)
    return Verdict(again.outcome, again.outcome.value, claim), again


def _prove_again(read: Certificate, model: Model | Transformer, task: Task, tick: Tick) -> Proved:
    claim = read.claim
    theorem = THEOREMS.get(claim.theorem)
    if theorem is None:
        raise OptionError(f"unknown theorem {claim.theorem!r}")
    options = theorem.parse_options(dict(claim.options))
    proof, net = theorem.about(claim.theorem, model)
    if theorem.from_tables and (read.tables is None) != (net is not None):
        raise MalformedError(
            "it has tables of one attention, which this model is not"
            if net is not None
            else "it lacks the tables of this model"
        )
    if net is not None:
        return proof(net, task, options, tick, read.witness)
    if isinstance(model, Transformer):
        raise KernelDefectError("a theorem about one attention was given a transformer")
    subject = model if read.tables is None else verify_tables(model, read.tables, claim.semantics)
    return theorem.prove(subject, task, options, tick, read.witness)


def _compose_again(parts: tuple[bytes, ...], model: Model | Transformer, tick: Tick) -> Proved:
    """Check each part by itself, then put them together; their order in the file counts."""
    if len(parts) > model.d_vocab:
        raise MalformedError(f"{len(parts)} parts, but only {model.d_vocab} queries")
    proved: list[Proved] = []
    for n, part in enumerate(parts):
        tick(n, len(parts))
        if decode_certificate(part).claim.theorem == COMPOSED:
            raise MalformedError(f"part {n} is composed itself")
        verdict, again = verify_certificate(part, model)
        if again is None:
            error = MalformedError if verdict.outcome is Outcome.MALFORMED else RejectedError
            raise error(f"part {n} does not hold: {verdict.reason}")
        proved.append(again)
    composed = compose(proved)
    if [part.claim for part in composed.parts] != [part.claim for part in proved]:
        raise MalformedError("its parts are not in the order of their queries")
    return composed


def _differences(claimed: Claim, computed: Claim) -> str:
    ours, theirs = claim_fields(computed), claim_fields(claimed)
    return "; ".join(
        f"{name} is {ours[name]}, not {theirs[name]}" for name in ours if ours[name] != theirs[name]
    )
