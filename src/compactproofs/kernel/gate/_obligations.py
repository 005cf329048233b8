"""What the living entries of a ledger amount to, every one of them verified.

Nothing is believed: certificates are replayed, intervals recomputed from counts, counts from the
stream, fingerprints from the activations. Whatever does not verify raises UnusableError.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

from ._calibration import fixed_sequence
from ._cell import Cell
from ._chain import History, UnusableError
from ._confidence_sequences import confidence_sequence
from ._credal import Statement
from ._entries import (
    CalibrationEntry,
    CellEntry,
    CountEntry,
    FamilyEntry,
    RecordEntry,
    RegionEntry,
    RuleEntry,
    StreamEntry,
)
from ._evidence import Evidence, Shards, stored_arrays, stored_rows
from ._fingerprints import digest_of, fingerprints
from ._proportions import Interval, check_alpha, clopper_pearson
from ._regions import Certified, RegionWitness, certify_region
from ._relu_network import ReluNetwork
from ._sites import Sites
from ._warrants import Signed


class Measurement(NamedTuple):
    """A statement about probabilities, and the count that it comes from."""

    entry: str
    statement: Statement


class Certificate(NamedTuple):
    """A replayed certificate, and the entry that brought it."""

    entry: str
    certified: Certified


class Obligations(NamedTuple):
    """Everything that an admission may rest on."""

    cells: Mapping[str, Cell]
    """By id, in the order of the ledger."""
    parts: Mapping[str, tuple[str, ...]]
    """Of each cell; itself, if it is an event."""
    certificates: Mapping[str, Certificate]
    measurements: tuple[Measurement, ...]
    calibrated: Mapping[str, str]
    """Cells of a family's chosen groups, with the calibration's entry."""
    records: Mapping[bytes, tuple[Signed, ...]]
    """By fingerprint."""
    evidence: Evidence


def verify(
    network: ReluNetwork,
    sites: Sites,
    history: History,
    shards: Shards,
    known: Mapping[str, Certified],
) -> Obligations:
    """Verify every living entry; raises UnusableError naming the first that does not hold.

    known: certificates replayed before, by the id of their entry; used if they are about the same
    cell, network and sites. Cost: that of all replays and of one pass over the stream.
    """
    cells, parts = living_cells(network, sites, history, shards)
    certificates = _certificates(network, sites, history, shards, cells, known)
    evidence = Evidence(network, sites, history, shards, cells, parts)
    for number, _ in history.living(StreamEntry):
        stored_rows(history, shards, number, sites, network.outputs)
    return Obligations(
        cells,
        parts,
        certificates,
        tuple(_measurements(history, evidence)),
        _calibrated(history, evidence),
        _records(network, sites, history, shards),
        evidence,
    )


def living_cells(
    network: ReluNetwork, sites: Sites, history: History, shards: Shards
) -> tuple[dict[str, Cell], dict[str, tuple[str, ...]]]:
    """The cells that were not retracted, by id, and their parts; raises UnusableError."""
    cells: dict[str, Cell] = {}
    parts: dict[str, tuple[str, ...]] = {}
    for number, entry in history.living(CellEntry):
        with history.naming(number):
            cell = Cell.from_arrays(stored_arrays(history, shards, number, entry.shard))
        sizes = len(cell.low), len(cell.pattern)
        if cell.id != entry.cell or sizes != (sites.size, sites.pattern_size(network)):
            raise UnusableError(f"{history.name(number)}: its shard holds another cell")
        if entry.parts != (cell.id,) and _intersection(entry, cell, cells, parts) != cell.id:
            raise UnusableError(
                f"{history.name(number)}: the cell is not the intersection of its parts"
            )
        cells[cell.id], parts[cell.id] = cell, entry.parts
    return cells, parts


def _intersection(
    entry: CellEntry,
    cell: Cell,
    cells: Mapping[str, Cell],
    parts: Mapping[str, tuple[str, ...]],
) -> str | None:
    """The id of what all parts share; an event's own label is not looked at."""
    found: Cell | None = None
    for part in entry.parts:
        if parts.get(part) != (part,):
            return None
        event = replace(cells[part], label=cell.label)
        found = event if found is None else found.intersect(event)
        if found is None:
            return None
    return None if found is None else found.id


def _certificates(
    network: ReluNetwork,
    sites: Sites,
    history: History,
    shards: Shards,
    cells: Mapping[str, Cell],
    known: Mapping[str, Certified],
) -> dict[str, Certificate]:
    certificates: dict[str, Certificate] = {}
    wanted = network.sha256, sites.sha256
    for number, entry in history.living(RegionEntry):
        name = history.lines[number].id
        found = known.get(name)
        if (
            type(found) is not Certified
            or (found.network_sha256, found.sites_sha256) != wanted
            or found.cell_id != entry.cell
        ):
            witness = None
            if entry.shard is not None:
                arrays = stored_arrays(history, shards, number, entry.shard)
                if set(arrays) != set(RegionWitness._fields):
                    raise UnusableError(f"{history.name(number)}: its shard holds no witness")
                witness = RegionWitness(**arrays)
            with history.naming(number):
                found = certify_region(network, sites, cells[entry.cell], witness)
        certificates.setdefault(entry.cell, Certificate(name, found))
    return certificates


def _measurements(history: History, evidence: Evidence) -> Iterator[Measurement]:
    """The statements of all counts; each interval encloses what its counts give."""
    for number, rule in history.living(RuleEntry):
        with history.naming(number):
            check_alpha(rule.alpha)
    looks: dict[str, Interval] = {}
    for number, entry in history.living(CountEntry):
        rule = history.proposal(number)
        if not isinstance(rule, RuleEntry):
            raise UnusableError(f"{history.name(number)} counts no rule")
        antecedent = evidence.events(rule.antecedent)
        consequent = evidence.events(rule.consequent)
        before = looks.get(entry.rule)
        if rule.take is not None and (before or entry.stop != rule.born + rule.take):
            raise UnusableError(
                f"{history.name(number)} counts up to {entry.stop}, but its rule is counted once, "
                f"at {rule.born + rule.take}"
            )
        counted = evidence.count(antecedent, consequent, rule.born, entry.stop)
        if counted != (entry.k, entry.n):
            raise UnusableError(
                f"{history.name(number)} says {entry.k} of {entry.n}, the stream {counted[0]} of "
                f"{counted[1]}"
            )
        with history.naming(number):
            if rule.take is None:
                interval = confidence_sequence(entry.k, entry.n, rule.alpha, before)
            else:
                interval = clopper_pearson(entry.k, entry.n, rule.alpha)
        if interval.empty:
            raise UnusableError(
                f"{history.name(number)}: {entry.k} of {entry.n} contradict earlier counts of the "
                "same rule: the data have drifted"
            )
        if entry.low > interval.low or entry.high < interval.high:
            raise UnusableError(
                f"{history.name(number)} states an interval narrower than {entry.k} of "
                f"{entry.n} allow"
            )
        looks[entry.rule] = interval
        statement = Statement(antecedent, consequent, entry.low, entry.high)
        yield Measurement(history.lines[number].id, statement)


def _calibrated(history: History, evidence: Evidence) -> dict[str, str]:
    """The cells of the chosen groups of the one calibrated family."""
    calibrated: dict[str, str] | None = None
    delta = history.opened.delta
    for number, entry in history.living(CalibrationEntry):
        family = history.proposal(number)
        if not isinstance(family, FamilyEntry) or calibrated is not None or delta is None:
            raise UnusableError(
                f"{history.name(number)} calibrates no family, a second one, or without a delta to "
                "meet; two families together may be bad more often: retract one"
            )
        calibrated = {}
        bad = evidence.bad_in_any(family.groups, family.born, family.born + family.take)
        with history.naming(number):
            chosen = fixed_sequence(bad, family.take, delta, family.alpha) + 1
        if (*bad,) != entry.bad or entry.chosen > chosen:
            raise UnusableError(
                f"{history.name(number)} chooses {entry.chosen} groups with {list(entry.bad)} bad, "
                f"the stream {chosen} with {bad}"
            )
        for group in family.groups[: entry.chosen]:
            for cell in group:
                calibrated[cell] = history.lines[number].id
    return calibrated or {}


def _records(
    network: ReluNetwork, sites: Sites, history: History, shards: Shards
) -> dict[bytes, tuple[Signed, ...]]:
    records: dict[bytes, tuple[Signed, ...]] = {}
    for number, entry in history.living(RecordEntry):
        arrays = stored_rows(history, shards, number, sites, network.outputs)
        prints = fingerprints(network.sha256, sites.sha256, arrays["h"])
        if digest_of(prints) != entry.digest or b"" in prints:
            raise UnusableError(
                f"{history.name(number)} is of another network or list of sites, or its "
                "activations are not finite"
            )
        name = history.lines[number].id
        for key, label in zip(prints, arrays["labels"].tolist(), strict=True):
            records[key] = (*records.get(key, ()), Signed((name,), entry.signer, label))
    return records
