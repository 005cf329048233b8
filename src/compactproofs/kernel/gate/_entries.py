"""What a ledger may say: typed entries, each with one canonical JSON text.

Arrays are not in an entry but in a shard that it names by SHA-256. Cells are named by ``Cell.id``,
entries by the id of their line (see ``_chain``), exact numbers are texts ``"p/q"``.

A rule and a family are *frozen proposals*: they say what will be counted, on which later data, and
what it costs of alpha, before these data arrive. ``CountEntry`` and ``CalibrationEntry`` then say
what was counted.
"""

import json
import re
from collections.abc import Callable, Mapping
from fractions import Fraction
from types import MappingProxyType
from typing import Any, Final, NamedTuple, get_type_hints

from .._errors import UserError
from .._safetensors import DamagedError
from ._sites import SiteGroup, Sites

BAD: Final = "bad"
"""The event that a labelled input's answer is not its label; a tie is no answer."""
_FORMAT: Final = "compactproofs-gate-1"


class Opened(NamedTuple):
    """The first entry: what the gate is about and what it asks for. Never changed."""

    model: str
    """SHA-256 of the network."""
    sites: Sites
    alpha: Fraction
    """All statistical entries together may be wrong with at most this probability."""
    tau: Fraction
    """A cell needs at least this lower probability."""
    rho: Fraction | None
    """A cell needs at most this upper risk, unless a calibrated family holds it."""
    delta: Fraction | None
    """A calibrated family is admitted up to this probability of admitted and bad."""
    eps_act: Fraction
    """Every activation may be off by this much; a float64 number."""
    format: str = _FORMAT


class RecordEntry(NamedTuple):
    """A signer inspected these activation vectors and vouches for their labels.

    Shard: ``h`` float64 [n s], ``labels`` int64 [n].
    """

    shard: str
    rows: int
    digest: str
    """Of the rows' fingerprints, so that a record is of one model and list of sites alone."""
    signer: str


class CellEntry(NamedTuple):
    """A cell, the intersection of its parts; an event by itself if it is its only part.

    Shard: ``Cell.to_arrays``.
    """

    cell: str
    shard: str
    parts: tuple[str, ...]


class RegionEntry(NamedTuple):
    """A certificate of the cell's property. Shard: the fields of ``RegionWitness``, or none."""

    cell: str
    shard: str | None


class StreamEntry(NamedTuple):
    """The next ``rows`` data of the stream, from index ``start``.

    Shard: ``h`` float64 [n s], ``outputs`` float64 [n x], ``labels`` int64 [n] (-1: unlabelled).
    """

    shard: str
    start: int
    rows: int


class RuleEntry(NamedTuple):
    """A frozen proposal: ``low P(A) <= P(A and B) <= high P(A)`` with ends that will be counted.

    ``A`` is the conjunction of ``antecedent`` (everything if it is empty), ``B`` of
    ``consequent``: cells, or "bad". Counted from stream index ``born`` on: after exactly ``take``
    data, once (Clopper-Pearson), or if that is null at any times (a confidence sequence).
    """

    kind: str
    """Of explanation: "joint", "constant", "mass", "risk", ...; admission does not look at it."""
    antecedent: tuple[str, ...]
    consequent: tuple[str, ...]
    alpha: Fraction
    born: int
    take: int | None
    predicted_low: Fraction | None
    predicted_high: Fraction | None
    bits: Fraction
    """What it costs to state the rule, in bits; for the discovery loop."""
    proposer: str
    depends_on: tuple[str, ...]


class CountEntry(NamedTuple):
    """``k`` of ``n`` hits of a rule on the stream from its birth up to index ``stop``."""

    rule: str
    stop: int
    k: int
    n: int
    low: Fraction
    high: Fraction


class FamilyEntry(NamedTuple):
    """A frozen proposal: admission sets ``A_1`` in ``A_2`` in ..., for calibration.

    ``A_i`` is the union of the cells of the first ``i`` groups. It will be calibrated on the
    ``take`` data of the stream from index ``born`` on, once.
    """

    groups: tuple[tuple[str, ...], ...]
    alpha: Fraction
    born: int
    take: int


class CalibrationEntry(NamedTuple):
    """Of each ``A_i``, how many data are in it and bad; ``chosen`` groups meet delta."""

    family: str
    bad: tuple[int, ...]
    chosen: int


class RefusedEntry(NamedTuple):
    """A rule that fresh data contradicted: it is not used, and its alpha stays spent."""

    rule: str
    reason: str


class RetractEntry(NamedTuple):
    """From here on an entry, and all that depends on it, is not used; its alpha stays spent."""

    entry: str
    reason: str


class ClosedEntry(NamedTuple):
    """From here on nothing is admitted: drift, a fired test, somebody's decision. Final."""

    reason: str


class NoteEntry(NamedTuple):
    """Something worth keeping that admits nothing."""

    topic: str
    text: str
    depends_on: tuple[str, ...]


Entry = (
    Opened
    | RecordEntry
    | CellEntry
    | RegionEntry
    | StreamEntry
    | RuleEntry
    | CountEntry
    | FamilyEntry
    | CalibrationEntry
    | RefusedEntry
    | RetractEntry
    | ClosedEntry
    | NoteEntry
)

ENTRIES: Final[Mapping[str, type[Any]]] = MappingProxyType(
    {
        "opened": Opened,
        "record": RecordEntry,
        "cell": CellEntry,
        "region": RegionEntry,
        "stream": StreamEntry,
        "rule": RuleEntry,
        "count": CountEntry,
        "family": FamilyEntry,
        "calibration": CalibrationEntry,
        "refused": RefusedEntry,
        "retract": RetractEntry,
        "closed": ClosedEntry,
        "note": NoteEntry,
    }
)
_NAMES: Final = {kind: name for name, kind in ENTRIES.items()}


def canonical_json(value: object) -> str:
    """One text for one value: keys sorted, no spaces, ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def entry_to_json(entry: Entry) -> dict[str, Any]:
    """The entry as what JSON can hold; ``entry_from_json`` is its inverse."""
    fields = {name: _plain(value) for name, value in zip(entry._fields, entry, strict=True)}
    return {"type": _NAMES[type(entry)]} | fields


def entry_from_json(body: object) -> Entry:
    """The entry of a JSON object, nothing missing, nothing more; raises DamagedError."""
    if not isinstance(body, dict) or not isinstance(body.get("type"), str):
        raise DamagedError('it is no object with a text "type"')
    kind = ENTRIES.get(body["type"])
    if kind is None:
        raise DamagedError(f"an entry of type {body['type']!r} is none of {', '.join(ENTRIES)}")
    if set(body) != {"type", *kind._fields}:
        raise DamagedError(f"an entry of type {body['type']} has the fields {sorted(body)}")
    entry = kind(**{name: _typed(name, body[name], kind) for name in kind._fields})
    require_sense(entry)
    return entry


def _plain(value: object) -> Any:
    if isinstance(value, Fraction):
        return str(value)
    if isinstance(value, Sites):
        groups = [[group.name, group.kind, group.size] for group in value.groups]
        return {"cut": value.cut, "groups": groups, "layer": value.layer}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value


def _text(value: Any) -> str:
    if type(value) is not str:
        raise TypeError
    return value


def _natural(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 53:
        raise TypeError
    return value


def _fraction(value: Any) -> Fraction:
    if not re.fullmatch(r"-?[0-9]{1,4000}(/[0-9]{1,4000})?", _text(value)):
        raise TypeError
    if str(Fraction(value)) != value:
        raise TypeError
    return Fraction(value)


def _sites(value: Any) -> Sites:
    groups = tuple(SiteGroup(*group) for group in value["groups"])
    if len(value) != 3:
        raise TypeError
    return Sites(groups, value["cut"], value["layer"])


def _several(item: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        if type(value) is not list:
            raise TypeError
        return tuple(item(each) for each in value)

    return read


def _or_none(item: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else item(value)


_READERS: Final[Mapping[Any, Callable[[Any], Any]]] = {
    str: _text,
    str | None: _or_none(_text),
    int: _natural,
    int | None: _or_none(_natural),
    Fraction: _fraction,
    Fraction | None: _or_none(_fraction),
    Sites: _sites,
    tuple[str, ...]: _several(_text),
    tuple[int, ...]: _several(_natural),
    tuple[tuple[str, ...], ...]: _several(_several(_text)),
}


def _typed(name: str, value: Any, kind: type[Any]) -> Any:
    try:
        return _READERS[_HINTS[kind][name]](value)
    except (TypeError, ValueError, KeyError, ZeroDivisionError, UserError):
        raise DamagedError(f"{name} of an entry of type {_NAMES[kind]} is {value!r}") from None


_HINTS: Final = {kind: get_type_hints(kind) for kind in ENTRIES.values()}


def require_sense(entry: Entry) -> None:
    """Refuse numbers out of range; raises DamagedError."""
    match entry:
        case Opened():
            if entry.format != _FORMAT:
                raise DamagedError(f"the format is {entry.format!r}, not {_FORMAT}")
            if not 0 < entry.alpha < 1 or not 0 < entry.tau <= 1:
                raise DamagedError(f"alpha {entry.alpha} or tau {entry.tau} is not in (0, 1)")
            for limit in (entry.rho, entry.delta):
                if limit is not None and not 0 <= limit < 1:
                    raise DamagedError(f"rho or delta is {limit}, not in [0, 1)")
            if not 0 <= entry.eps_act < 1 << 1000 or float(entry.eps_act) != entry.eps_act:
                raise DamagedError(f"eps_act is {entry.eps_act}, no float64 number from 0 on")
        case RuleEntry() | FamilyEntry() if not 0 < entry.alpha < 1:
            raise DamagedError(f"alpha is {entry.alpha}, not in (0, 1)")
        case RuleEntry() if not entry.consequent:
            raise DamagedError("the rule has no consequent")
        case CountEntry() if not 0 <= entry.low <= 1 or not 0 <= entry.high <= 1:
            raise DamagedError(f"the interval {entry.low} .. {entry.high} is not in [0, 1]")
