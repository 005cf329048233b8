"""The ledger as a chain of lines, and what its order alone decides.

A line's id is the SHA-256 of its entry and of the id of the line before: no line can be changed,
dropped, or moved without changing every id after it. Lines cut off at the end leave no trace: who
fears that keeps the last id elsewhere. Order decides when a proposal was born (how
long the stream was), what was retracted and what falls with it, and what was spent of alpha.
"""

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Final, NamedTuple, TypeVar

from .._errors import UserError
from .._safetensors import DamagedError, read_json
from ._entries import (
    BAD,
    CalibrationEntry,
    CellEntry,
    ClosedEntry,
    CountEntry,
    Entry,
    FamilyEntry,
    NoteEntry,
    Opened,
    RefusedEntry,
    RegionEntry,
    RetractEntry,
    RuleEntry,
    StreamEntry,
    canonical_json,
    entry_from_json,
    entry_to_json,
    require_sense,
)

_Entry = TypeVar("_Entry")

START: Final = "0" * 64
"""What the first line names as the line before it."""


class UnusableError(Exception):
    """A ledger that does not hold together: the gate is closed, and the message says why."""


class Line(NamedTuple):
    """An entry at its place in the chain."""

    id: str
    prev: str
    entry: Entry

    @classmethod
    def after(cls, prev: str, entry: Entry) -> "Line":
        """The line of ``entry`` behind the line ``prev``."""
        text = canonical_json({"body": entry_to_json(entry), "prev": prev})
        return cls(hashlib.sha256(text.encode()).hexdigest(), prev, entry)

    def to_json(self) -> bytes:
        """The line of ``ledger.jsonl``, newline included."""
        fields = {"body": entry_to_json(self.entry), "id": self.id, "prev": self.prev}
        return canonical_json(fields).encode() + b"\n"

    @classmethod
    def from_json(cls, text: bytes) -> "Line":
        """The line that ``to_json`` wrote, byte for byte; raises DamagedError for anything else."""
        fields = read_json(text)
        if not isinstance(fields, dict) or set(fields) != {"body", "id", "prev"}:
            raise DamagedError("it is no object of body, id and prev")
        if type(fields["prev"]) is not str:
            raise DamagedError("prev is no text")
        line = cls.after(fields["prev"], entry_from_json(fields["body"]))
        if line.to_json() != text:
            raise DamagedError("its id is not that of its content, or its form is not canonical")
        return line


class Batch(NamedTuple):
    """Data of the stream with the indices ``start .. stop - 1``."""

    number: int
    start: int
    stop: int


class History:
    """What the order of the lines decides; raises UnusableError if it decides nothing.

    Lines are known here by their number in the chain, from 0.
    """

    def __init__(self, lines: Iterable[Line]) -> None:
        """One pass over the chain. Cost: O(lines + references), and a hash of each line."""
        self.lines: Final[list[Line]] = []
        self.alive: Final[list[bool]] = []
        self.spent = Fraction(0)
        """Of alpha, by every proposal ever made, retracted or not."""
        self.proposals = 0
        """How many there ever were."""
        self.closed: str | None = None
        self.batches: Final[list[Batch]] = []
        self._dependents: Final[list[list[int]]] = []
        self._numbers: Final[dict[str, int]] = {}
        self._cells: Final[dict[str, int]] = {}
        self._looks: Final[dict[str, list[int]]] = {}
        self._streamed: Final[set[str]] = set()
        for line in lines:
            self.add(line)
        if not self.lines:
            raise UnusableError("the ledger is empty: it does not say what it is about")

    def add(self, line: Line) -> None:
        """The next line; raises UnusableError, and is not to be used then. Cost: a hash."""
        number, prev = len(self.lines), self.lines[-1].id if self.lines else START
        self.lines.append(line)
        if line.prev != prev or Line.after(prev, line.entry).id != line.id:
            raise UnusableError(f"{self.name(number)} is not chained to the one before it")
        if isinstance(line.entry, Opened) != (number == 0):
            raise UnusableError(
                f"{self.name(number)}: a ledger says what it is about in its first entry, and once"
            )
        try:
            require_sense(line.entry)
        except DamagedError as error:
            raise UnusableError(f"{self.name(number)}: {error}") from None
        self._add(number, line)

    @property
    def opened(self) -> Opened:
        """What the first line says."""
        first = self.lines[0].entry
        if not isinstance(first, Opened):
            raise UnusableError("the ledger does not begin by saying what it is about")
        return first

    def cell_number(self, cell: str) -> int | None:
        """The line that brought a cell, if it was not retracted."""
        number = self._cells.get(cell)
        return number if number is not None and self.alive[number] else None

    @property
    def length(self) -> int:
        """Data in the stream, retracted ones included."""
        return self.batches[-1].stop if self.batches else 0

    def name(self, number: int) -> str:
        """Of a line, for messages."""
        line = self.lines[number]
        kind = type(line.entry).__name__.removesuffix("Entry").lower()
        return f"entry {number} ({kind} {line.id[:8]})"

    def living(self, kind: type[_Entry]) -> Iterator[tuple[int, _Entry]]:
        """The entries of one type that were not retracted, with their numbers."""
        for number, line in enumerate(self.lines):
            if self.alive[number] and isinstance(line.entry, kind):
                yield number, line.entry

    @contextmanager
    def naming(self, number: int) -> Iterator[None]:
        """What goes wrong inside is the fault of this line."""
        try:
            yield
        except UserError as error:
            raise UnusableError(f"{self.name(number)}: {error}") from None

    def span(self, start: int, stop: int) -> Iterator[Batch]:
        """The batches that hold data of ``start .. stop - 1``."""
        return (b for b in self.batches if b.start < stop and start < b.stop)

    def number(self, reference: str) -> int | None:
        """The number of the line with this id."""
        return self._numbers.get(reference)

    def entry_number(self, of: int, reference: str) -> int:
        """The number of the line with this id, which must be before line ``of``."""
        found = self._numbers.get(reference)
        if found is None or found >= of:
            raise UnusableError(f"{self.name(of)} refers to {reference[:12]!r}, no earlier entry")
        return found

    def _add(self, number: int, line: Line) -> None:
        needs = set(self._needs(number, line.entry))
        alive = all(self.alive[need] for need in needs)
        self.alive.append(alive)
        self._dependents.append([])
        self._numbers[line.id] = number
        for need in needs:
            self._dependents[need].append(number)
        match line.entry:
            case CellEntry(cell=cell):
                if self.cell_number(cell) is not None:
                    raise UnusableError(f"{self.name(number)} adds a cell that is there already")
                self._cells[cell] = number
            case RuleEntry(alpha=alpha, born=born) | FamilyEntry(alpha=alpha, born=born):
                self.spent += alpha
                self.proposals += 1
                if born != self.length:
                    raise UnusableError(
                        f"{self.name(number)} says that it was born at stream index {born}, but "
                        f"{self.length} data had arrived"
                    )
            case CountEntry(rule=reference):
                self._looks.setdefault(reference, []).append(number)
            case StreamEntry(shard=shard, start=start, rows=rows):
                if start != self.length:
                    raise UnusableError(
                        f"{self.name(number)} starts at stream index {start}, not {self.length}"
                    )
                if shard in self._streamed:
                    raise UnusableError(f"{self.name(number)}: the stream has these data already")
                self._streamed.add(shard)
                self.batches.append(Batch(number, start, start + rows))
            case RefusedEntry(rule=reference) | RetractEntry(entry=reference):
                self._retract(number, self.entry_number(number, reference))
            case ClosedEntry(reason=reason):
                self.closed = self.closed or reason

    def _needs(self, number: int, entry: Entry) -> Iterator[int]:
        """What an entry rests on: without it, it says nothing."""
        cells: tuple[str, ...] = ()
        references: tuple[str, ...] = ()
        match entry:
            case CellEntry(cell=cell, parts=parts) if parts != (cell,):
                cells = parts
            case RegionEntry(cell=cell):
                cells = (cell,)
            case RuleEntry():
                cells = entry.antecedent + tuple(c for c in entry.consequent if c != BAD)
                references = entry.depends_on
            case FamilyEntry(groups=groups):
                cells = tuple(cell for group in groups for cell in group)
            case CountEntry(rule=rule):
                references = (rule,)
                # The interval of a look is cut by those of the looks before it.
                yield from (look for look in self._looks.get(rule, ()) if self.alive[look])
            case CalibrationEntry(family=family):
                references = (family,)
            case NoteEntry():
                references = entry.depends_on
        for cell in cells:
            if cell not in self._cells:
                raise UnusableError(f"{self.name(number)} refers to no earlier cell {cell[:12]!r}")
            yield self._cells[cell]
        for reference in references:
            yield self.entry_number(number, reference)
        if isinstance(entry, CountEntry | CalibrationEntry):
            proposal = self.proposal(number)
            stop = entry.stop if isinstance(entry, CountEntry) else self.length
            if isinstance(proposal, FamilyEntry):
                stop = proposal.born + proposal.take
            if stop > self.length:
                raise UnusableError(
                    f"{self.name(number)} counts data up to {stop}, but {self.length} had arrived"
                )
            yield from (batch.number for batch in self.span(proposal.born, stop))

    def proposal(self, number: int) -> RuleEntry | FamilyEntry:
        """What was frozen before the data that this line counts."""
        entry = self.lines[number].entry
        match entry:
            case CountEntry(rule=reference):
                proposal = self.lines[self.entry_number(number, reference)].entry
                if isinstance(proposal, RuleEntry):
                    return proposal
            case CalibrationEntry(family=reference):
                proposal = self.lines[self.entry_number(number, reference)].entry
                if isinstance(proposal, FamilyEntry):
                    return proposal
        raise UnusableError(f"{self.name(number)} counts no proposal")

    def _retract(self, by: int, number: int) -> None:
        entry = self.lines[number].entry
        if isinstance(entry, Opened | ClosedEntry | RetractEntry | RefusedEntry):
            raise UnusableError(f"{self.name(by)} retracts {self.name(number)}, which is final")
        falling = [number]
        while falling:
            number = falling.pop()
            if self.alive[number]:
                self.alive[number] = False
                falling.extend(self._dependents[number])
