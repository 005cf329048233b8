"""The gate: a ledger, the network it is about, and what the two admit.

Everything that a ``Gate`` adds is an entry, and ``append`` alone can add every entry; the other
methods build entries. Deciding is the kernel's ``Admission``, which verifies the whole ledger again
after it has grown; only certificates that were replayed in this process are not replayed.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
from jaxtyping import Float, Float64

from ..kernel import UserError
from ..kernel.gate import (
    BAD,
    Admission,
    CalibrationEntry,
    Cell,
    CellEntry,
    Certified,
    ClosedEntry,
    Entry,
    FamilyEntry,
    History,
    Line,
    NoteEntry,
    Opened,
    RefusedEntry,
    RegionWitness,
    ReluNetwork,
    RetractEntry,
    RuleEntry,
    Sites,
    UnusableError,
    Verdict,
    Verdicts,
    certify_region,
)
from ..kernel.gate._obligations import living_cells
from ..kernel.gate._proportions import Interval
from . import _items
from ._arrived import Arrived
from ._counting import Counting, living
from ._exact import Exact
from ._forward import Activations, activations
from ._items import Labels
from ._ledger import Arrays, Ledger
from ._status import GateStatus, status_of

Inputs = Activations | Float[np.ndarray, "n a"]


class Gate:
    """A ledger that starts knowing nothing, open on one network.

    Inputs are float arrays ``[n, a]`` of the network, or ``Activations(h, outputs)`` if the
    caller ran it. A context manager: leaving it releases the lock.
    """

    def __init__(self, ledger: Ledger, network: ReluNetwork) -> None:
        """Use ``create`` or ``open``."""
        self.ledger = ledger
        self.network = network
        first = ledger.lines[0].entry
        if not isinstance(first, Opened):
            raise UserError(f"{ledger.path} does not begin by saying what it is about")
        self.opened: Opened = first
        self.sites: Sites = first.sites
        self._known: dict[str, Certified] = {}
        self._admission: Admission | None = None
        self._history: History | None = None
        self._counted: Counting | None = None
        self._arrived = Arrived(network.sha256, first.sites.sha256)

    @classmethod
    def create(
        cls,
        path: Path | str,
        network: ReluNetwork,
        sites: Sites,
        *,
        alpha: Exact = "1/1000",
        tau: Exact = "1/100000",
        rho: Exact | None = None,
        delta: Exact | None = None,
        eps_act: float = 0.0,
    ) -> "Gate":
        """A new gate in a new directory, open for writing; its ledger is empty and admits nothing.

        alpha: what all statistics together may err with; tau: least lower probability of a cell;
        rho: largest upper risk of a cell, delta: largest calibrated risk of a family (without
        both only records are admitted); eps_act: how far a site may be from what is measured.
        Raises UserError for numbers out of range and a directory that is not new, ModelError for
        sites that do not fit the network.
        """
        first = _items.opened(network, sites, alpha, tau, rho, delta, eps_act)
        return cls(Ledger.create(path, first), network)

    @classmethod
    def open(cls, path: Path | str, network: ReluNetwork, *, write: bool = False) -> "Gate":
        """The gate of a directory; with another network than its own it is closed.

        Raises as ``Ledger.open``. Entries are verified when they are first needed.
        """
        return cls(Ledger.open(path, write=write), network)

    def __enter__(self) -> "Gate":
        """Nothing to do."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Release the lock."""
        self.ledger.release()

    @property
    def admission(self) -> Admission:
        """The kernel's view of the ledger as it is now; its cost is paid once for each growth."""
        if self._admission is None:
            self._admission = Admission(
                self.network, self.sites, self.ledger.lines, self.ledger.shards, self._known
            )
            self._known.update(self._admission.certificates)
        return self._admission

    @property
    def closed(self) -> str | None:
        """Why nothing is admitted, if that is so."""
        return self.admission.closed

    @property
    def history(self) -> History:
        """The entries in order, and which of them are retracted; UserError for a broken ledger."""
        if self._history is None:
            try:
                self._history = History(self.ledger.lines)
            except UnusableError as error:
                raise UserError(f"{self.ledger.path}: the gate is closed: {error}") from None
        return self._history

    @property
    def position(self) -> int:
        """Data in the stream: what is frozen now is counted from here on."""
        return self.history.length

    @property
    def cells(self) -> Mapping[str, Cell]:
        """The cells that were not retracted, by id. Cost: reads them all."""
        try:
            cells, _ = living_cells(self.network, self.sites, self.history, self.ledger.shards)
        except UnusableError as error:
            raise UserError(f"{self.ledger.path}: the gate is closed: {error}") from None
        return cells

    def activations(self, inputs: Inputs) -> Activations:
        """The values at all sites and the outputs, by a float32 forward pass if need be."""
        if isinstance(inputs, Activations):
            return inputs
        return activations(self.network, self.sites, np.asarray(inputs))

    def admit(self, x: Float[np.ndarray, " a"]) -> Verdict:
        """The verdict on one input of the network."""
        return self.admit_batch(np.asarray(x)[None])[0]

    def admit_batch(self, inputs: Inputs) -> Verdicts:
        """The verdicts on several inputs, in order, each made when it is looked at."""
        return self.admit_activations(*self.activations(inputs))

    def admit_activations(
        self, h: Float64[np.ndarray, "n s"], outputs: Float64[np.ndarray, "n x"] | None
    ) -> Verdicts:
        """The verdicts on inputs that somebody else ran. ``.admission.admitted`` is faster."""
        return self.admission.admit(h, outputs)

    def status(self) -> GateStatus:
        """What the ledger holds, what is spent of alpha, and why the gate is closed if it is."""
        return status_of(self.admission, len(self.ledger.lines))

    def require_own_network(self) -> None:
        """Raise UserError unless the gate is open on the network that its ledger is about."""
        _items.require_own(self.ledger.path, self.opened, self.network)

    def require_new(self, h: Float64[np.ndarray, "n s"], what: str = "data") -> None:
        """Raise UserError for rows that are in the stream. Cost: a hash of each row."""
        self._arrived.require_new(self.history, self.ledger.shards, h, what)

    def append(self, entry: Entry, arrays: Arrays | None = None) -> str:
        """Add one entry, with the arrays that its ``shard`` names; its id. See ``extend``."""
        return self.extend([(entry, arrays)])[0]

    def extend(self, items: Iterable[_items.Item]) -> list[str]:
        """Add entries with their arrays; their ids. On disk when it returns.

        ``shard_name(arrays)`` is what an entry calls its arrays. An entry out of order (an unknown
        reference, a false birth) is refused with UserError. One that turns out not to hold (a
        certificate, a count) closes the gate until it is retracted; only this method adds such.
        Raises UserError on another network than the ledger's, as all that adds.
        """
        self.require_own_network()
        history = self.history

        def check(lines: list[Line]) -> None:
            try:
                for line in lines:
                    history.add(line)
            except UnusableError as error:
                raise UserError(f"nothing was added: {error}") from None

        try:
            added = self.ledger.append(items, check)
        except BaseException:
            self._history = self._counted = None  # they may know lines that were not written
            raise
        self._admission = None
        if any(isinstance(line.entry, CellEntry | RetractEntry) for line in added):
            self._counted = None
        return [line.id for line in added]

    def record(self, inputs: Inputs, labels: Labels = None, *, signer: str) -> str:
        """Sign inputs: their exact activations, and labels (by default the model's answers).

        A record admits as long as the model's answer is its label. Raises UserError for
        activations that are not finite, and for an input with neither an answer nor a label.
        """
        self.require_own_network()
        data = self.activations(inputs)
        return self.append(*_items.record_item(self.network, self.sites, data, labels, signer))

    def add_cell(self, cell: Cell, parts: Sequence[str] = ()) -> str:
        """Add a cell unless it is there: an event, or the intersection of events of the ledger.

        Returns its id. Raises MalformedError for a cell that does not fit.
        """
        self.require_own_network()
        cell.require_fit(self.network, self.sites)
        if self.history.cell_number(cell.id) is None:
            self.append(*_items.cell_item(cell, parts))
        return cell.id

    def add_region(self, cell: Cell, witness: RegionWitness | None = None) -> str:
        """Certify a cell and add it with its certificate; its id. See ``add_regions``."""
        return self.add_regions([(cell, witness)])[0]

    def add_regions(self, regions: Iterable[tuple[Cell, RegionWitness | None]]) -> list[str]:
        """Certify cells and add them, those that are new, with their certificates; their ids.

        Raises RejectedError if a certificate does not hold; nothing is added then.
        """
        self.require_own_network()
        items: list[_items.Item] = []
        proofs: dict[int, Certified] = {}
        names: list[str] = []
        for cell, witness in regions:
            proof = certify_region(self.network, self.sites, cell, witness)
            if self.history.cell_number(cell.id) is None and cell.id not in names:
                items.append(_items.cell_item(cell, ()))
            names.append(cell.id)
            proofs[len(items)] = proof
            items.append(_items.region_item(cell, witness))
        added = self.extend(items)
        self._known.update({added[place]: proof for place, proof in proofs.items()})
        return names

    def observe(self, inputs: Inputs, labels: Labels = None, *, repeats: bool = False) -> range:
        """Append data to the stream, each datum once; their indices.

        Rules and families that are frozen by now will be counted on them, later ones never.
        Without a label (-1) no risk can be counted. Raises UserError for rows that are there,
        unless ``repeats``: of data of few values an equal row is another datum.
        """
        self.require_own_network()
        data, start = self.activations(inputs), self.position
        if not repeats:
            self.require_new(data.h)
        self.append(*_items.stream_item(self.network, data, labels, start))
        return range(start, self.position)

    def add_rule(
        self,
        kind: str,
        antecedent: Iterable[str],
        consequent: Iterable[str],
        *,
        take: int | None = None,
        alpha: Exact | None = None,
        predicted: tuple[Exact | None, Exact | None] = (None, None),
        bits: Exact = 0,
        proposer: str = "",
        depends_on: Iterable[str] = (),
    ) -> str:
        """Freeze a rule about P(consequent given antecedent), to be counted on later data; its id.

        antecedent, consequent: ids of cells, or "bad" as consequent. take: count once, on exactly
        the next ``take`` data; None: at any times, by a confidence sequence. alpha: by default the
        next share of the account. Raises UserError for unknown cells and an overdrawn account.
        """
        share = _items.share_of(self.history, alpha)
        wanted = kind, tuple(antecedent), tuple(consequent), predicted, bits, proposer
        rests = tuple(depends_on)
        return self.append(_items.rule_entry(*wanted, rests, share, self.position, take))

    def add_mass(self, cell: str, *, take: int | None = None, alpha: Exact | None = None) -> str:
        """Freeze the rule how probable a cell is; its id. See ``add_rule``."""
        return self.add_rule("mass", (), (cell,), take=take, alpha=alpha)

    def add_risk(self, cell: str, *, take: int | None = None, alpha: Exact | None = None) -> str:
        """Freeze the rule how often a cell's inputs are bad; its id. See ``add_rule``."""
        return self.add_rule("risk", (cell,), (BAD,), take=take, alpha=alpha)

    def count(self, rule: str) -> Interval | None:
        """Count a rule on what arrived after it was frozen, and store the interval.

        None if there is nothing (more) to count, or less than its ``take``. Raises UserError for
        no living rule of that id, and if the counts contradict earlier ones: the data have
        drifted, and somebody has to close the gate or retract the rule.
        """
        found = self._counting.count(rule)
        if found is None:
            return None
        self.append(found[0])
        return found[1]

    def count_all(self) -> dict[str, Interval]:
        """Count every rule that can be, in one step; the intervals by rule. See ``count``."""
        rules = [self.history.lines[n].id for n, _ in self.history.living(RuleEntry)]
        found = {rule: one for rule in rules if (one := self._counting.count(rule)) is not None}
        self.extend([(entry, None) for entry, _ in found.values()])
        return {rule: interval for rule, (_, interval) in found.items()}

    def add_family(
        self, groups: Iterable[Iterable[str]], take: int, *, alpha: Exact | None = None
    ) -> str:
        """Freeze a family of admission sets, the most trusted group of cells first; its id.

        It will be calibrated on exactly the next ``take`` data. Raises UserError for unknown cells.
        """
        frozen = tuple(tuple(group) for group in groups)
        if take < 1 or not frozen:
            raise UserError(f"a family of {len(frozen)} groups on {take} data: give at least 1")
        return self.append(
            FamilyEntry(frozen, _items.share_of(self.history, alpha), self.position, take)
        )

    def calibrate(self, family: str) -> int:
        """Calibrate a family on its data, and store it; how many groups meet delta.

        An earlier calibration is retracted: two families together may exceed delta. Raises
        UserError if data are missing or retracted, and in a gate without delta.
        """
        if self.opened.delta is None:
            raise UserError("this gate has no delta to meet: create one with delta")
        entry = self._counting.calibrate(family, self.opened.delta)
        for number, _ in list(self.history.living(CalibrationEntry)):
            self.retract(self.history.lines[number].id, "another family takes its place")
        self.append(entry)
        return entry.chosen

    def add_calibration(
        self, groups: Iterable[Iterable[str]], inputs: Inputs, labels: Labels
    ) -> int:
        """Freeze a family, observe the calibration split, calibrate: how many groups meet delta.

        Nobody may have looked at the split before.
        """
        data = self.activations(inputs)
        family = self.add_family(groups, len(data.h))
        self.observe(data, labels)
        return self.calibrate(family)

    def refuse(self, rule: str, reason: str) -> str:
        """Store that the data spoke against a rule: it is not used, its alpha stays spent."""
        living(self.history, rule, RuleEntry)
        return self.append(RefusedEntry(rule, reason))

    def retract(self, entry: str, reason: str) -> str:
        """Take back an entry, or a cell by its id, with all that depends on it."""
        number = self.history.cell_number(entry)
        target = entry if number is None else self.history.lines[number].id
        return self.append(RetractEntry(target, reason))

    def note(self, topic: str, text: str, depends_on: Iterable[str] = ()) -> str:
        """Store something that is worth keeping and admits nothing."""
        return self.append(NoteEntry(topic, text, tuple(depends_on)))

    def close(self, reason: str) -> str:
        """Close the gate for good: from here on it admits nothing, for this reason."""
        return self.append(ClosedEntry(reason))

    @property
    def _counting(self) -> Counting:
        if self._counted is None:
            self._counted = Counting(self.network, self.sites, self.history, self.ledger.shards)
        return self._counted
