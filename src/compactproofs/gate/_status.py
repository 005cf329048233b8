"""Where a gate stands, in numbers."""

from fractions import Fraction
from typing import NamedTuple

from ..kernel.gate import (
    Admission,
    CalibrationEntry,
    CellEntry,
    CountEntry,
    FamilyEntry,
    History,
    RecordEntry,
    RefusedEntry,
    RegionEntry,
    RuleEntry,
)


class GateStatus(NamedTuple):
    """What a ledger holds and whether anything can be admitted by it."""

    closed: str | None
    """Why nothing is admitted; None if the gate is open."""
    entries: int
    warrants: dict[str, int]
    """Living entries that give a warrant: SIGNED inputs, PROVED regions, MEASURED counts."""
    cells: int
    admitting: int
    """Cells that have all their warrants: those that admit inputs."""
    rules: int
    pending: int
    """Rules that were never counted."""
    families: int
    refused: int
    retracted: int
    """Entries that are not used any more, refused rules and all dependents included."""
    stream: int
    """Data observed."""
    alpha: Fraction
    spent: Fraction


def status_of(admission: Admission, entries: int) -> GateStatus:
    """Of a ledger of so many entries and what the kernel makes of it. Cost: O(entries)."""
    history = admission.history
    if history is None:
        none = {"SIGNED": 0, "PROVED": 0, "MEASURED": 0}
        nothing = Fraction(0)
        return GateStatus(admission.closed, entries, none, 0, 0, 0, 0, 0, 0, 0, 0, nothing, nothing)
    counted = {entry.rule for _, entry in history.living(CountEntry)}
    rules = [history.lines[number].id for number, _ in history.living(RuleEntry)]
    standing = {} if admission.closed else admission.standing
    return GateStatus(
        closed=admission.closed,
        entries=entries,
        warrants={
            "SIGNED": sum(entry.rows for _, entry in history.living(RecordEntry)),
            "PROVED": _count(history, RegionEntry),
            "MEASURED": _count(history, CountEntry) + _count(history, CalibrationEntry),
        },
        cells=_count(history, CellEntry),
        admitting=sum(bool(one.warrants) for one in standing.values()),
        rules=len(rules),
        pending=sum(rule not in counted for rule in rules),
        families=_count(history, FamilyEntry),
        refused=sum(isinstance(line.entry, RefusedEntry) for line in history.lines),
        retracted=len(history.lines) - sum(history.alive),
        stream=history.length,
        alpha=history.opened.alpha,
        spent=history.spent,
    )


def _count(history: History, kind: type) -> int:
    return sum(1 for _ in history.living(kind))
