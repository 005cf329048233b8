"""The same ledger at another confidence, or counted on fewer data: for pictures and for G1.

What is built here decides nothing: it is thrown away. Every living entry is copied, with the
shares of alpha scaled or the counts taken on the first data alone, and the kernel verifies the
copy as it verifies any ledger.
"""

from collections.abc import Mapping
from fractions import Fraction

from ..kernel import UserError
from ..kernel.gate import (
    START,
    Admission,
    CalibrationEntry,
    Certified,
    CountEntry,
    Entry,
    FamilyEntry,
    History,
    Line,
    NoteEntry,
    Opened,
    RefusedEntry,
    RetractEntry,
    RuleEntry,
    StreamEntry,
)
from ._counting import Counting
from ._gate import Gate


class WhatIfError(UserError):
    """A ledger that cannot be counted again as asked."""


def what_if(gate: Gate, *, factor: Fraction = Fraction(1), data: int | None = None) -> Admission:
    """The gate's admission, had every share of alpha been ``factor`` times as large.

    data: had no proposal been counted on more than so many data. Raises WhatIfError for a total of
    1 or more, for fewer than 1 data, and for a stream of which a part was retracted. Cost: that of
    verifying the ledger, but for the certificates, which are not replayed.
    """
    total = gate.opened.alpha * factor
    if not 0 < total < 1 or (data is not None and data < 1):
        raise WhatIfError(f"alpha = {float(total):.3g} on {data} data: pass 0 < alpha < 1, 1 datum")
    copy = _Copy(gate.history, gate.admission.certificates, factor, data)
    counting = Counting(gate.network, gate.sites, copy.history, gate.ledger.shards)
    for rule in copy.rules:
        found = counting.count(rule)
        if found is not None:
            copy.add(found[0])
    for family in copy.families if gate.opened.delta is not None else ():
        copy.add(counting.calibrate(family, gate.opened.delta or Fraction(0)))
    lines, shards = copy.history.lines, gate.ledger.shards
    return Admission(gate.network, gate.sites, lines, shards, copy.known)


class _Copy:
    """A chain of the living entries of another one, without what was counted."""

    def __init__(
        self,
        history: History,
        certificates: Mapping[str, Certified],
        factor: Fraction,
        data: int | None,
    ) -> None:
        self._names: dict[str, str] = {}
        self._factor, self._data = factor, data
        self._last = START
        self.known: dict[str, Certified] = {}
        self.rules: list[str] = []
        self.families: list[str] = []
        counted = {history.proposal(number) for number, _ in history.living(CountEntry)}
        counted |= {history.proposal(number) for number, _ in history.living(CalibrationEntry)}
        self.history = History([self._line(history.opened)])
        self._names[history.lines[0].id] = self._last
        for line, alive in list(zip(history.lines, history.alive, strict=True))[1:]:
            entry = line.entry
            if isinstance(entry, StreamEntry) and not alive:
                raise WhatIfError("a part of the stream was retracted: nothing is counted again")
            if not alive or isinstance(
                entry, CountEntry | CalibrationEntry | RefusedEntry | RetractEntry
            ):
                continue
            name = self.add(entry)
            self._names[line.id] = name
            if line.id in certificates:
                self.known[name] = certificates[line.id]
            if isinstance(entry, RuleEntry) and entry in counted:
                self.rules.append(name)
            elif isinstance(entry, FamilyEntry) and entry in counted:
                self.families.append(name)

    def add(self, entry: Entry) -> str:
        """Behind the others; its id."""
        self.history.add(self._line(entry))
        return self._last

    def _line(self, entry: Entry) -> Line:
        line = Line.after(self._last, self._changed(entry))
        self._last = line.id
        return line

    def _changed(self, entry: Entry) -> Entry:
        match entry:
            case Opened():
                return entry._replace(alpha=entry.alpha * self._factor)
            case RuleEntry():
                return entry._replace(
                    alpha=entry.alpha * self._factor,
                    take=self._fewer(entry.take),
                    depends_on=tuple(self._names[name] for name in entry.depends_on),
                )
            case FamilyEntry():
                take = self._fewer(entry.take) or entry.take
                return entry._replace(alpha=entry.alpha * self._factor, take=take)
            case NoteEntry():
                return entry._replace(
                    depends_on=tuple(self._names[name] for name in entry.depends_on)
                )
        return entry

    def _fewer(self, take: int | None) -> int | None:
        return take if self._data is None else min(take or self._data, self._data)
