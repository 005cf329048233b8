"""Which inputs a ledger admits: the gate's conditions, in order, on verified entries alone.

An input with activations ``h`` at all sites and the model's ``outputs`` is admitted if and only if
a signed record has its fingerprint and the model's answer is the label signed, or some cell R has

1. everything within ``eps_act`` of ``h`` in R and in all of R's parts;
2. a replayed certificate of its property;
3. a lower probability of the conjunction of its parts of at least ``tau``;
4. an upper risk (bad, given the cell) of at most ``rho``, or a place in the chosen groups of a
   family calibrated to ``delta``;
5. a label that is the model's answer on this input, too;

and, of all inputs, 6: finite values, the network and sites that the ledger is about, an account of
alpha that is not overdrawn, a consistent ledger that verifies to the last entry and is not closed.

Laws, proved in docs/theory.md section 8. **G0**: with no entries nothing is admitted; with records
alone exactly the vectors recorded with the model's answer. **G1**: without an entry, with a wider
interval, or with a larger ``eps_act`` no further input is admitted, if the larger ledger is
consistent. **G2a**: the label strictly wins in every point of the admitting cell. **G2b**: with
the stated confidence an admission by a calibrated family is bad with probability at most delta.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, final, overload

import numpy as np
from jaxtyping import Bool, Float64, Int64

from .._errors import MalformedError, UserError
from .._frozen import Immutable
from ._cell_table import CellTable
from ._chain import History, Line, UnusableError
from ._conditions import Conditions, Standing
from ._entries import Opened
from ._evidence import NO_ANSWER, Shards, answers
from ._fingerprints import fingerprints
from ._obligations import Obligations, verify
from ._refusals import Refusals
from ._regions import Certified
from ._relu_network import ReluNetwork
from ._sites import Sites
from ._verdict import Verdict
from ._warrants import Signed


class _Found(NamedTuple):
    """Of each input: the answer, the record that admits it, the first cell that does (or -1)."""

    answer: Int64[np.ndarray, " n"]
    record: list[Signed | None]
    cell: Int64[np.ndarray, " n"]


class _Usable(NamedTuple):
    """A ledger that holds together."""

    obligations: Obligations
    standing: Mapping[str, Standing]
    """Of every cell, whether it fulfils conditions 2 to 4."""
    eligible: tuple[str, ...]
    labels: Int64[np.ndarray, " c"]
    composite: tuple[tuple[int, list[int]], ...]
    """Of eligible cells with parts, where these are in the table; cell i itself is column i."""
    table: CellTable
    refusals: Refusals


@final
class Admission(Immutable):
    """A ledger, verified at construction, that admits inputs; see the top of this file."""

    __slots__ = ("_usable", "closed", "history", "network", "opened", "sites")

    closed: str | None
    """Why nothing is admitted; None if something may be."""
    history: History | None
    """The chain in its order; None if it is broken."""
    opened: Opened | None
    """What the ledger asks for; None if the chain is broken."""
    network: ReluNetwork
    sites: Sites

    def __init__(
        self,
        network: ReluNetwork,
        sites: Sites,
        lines: Sequence[Line],
        shards: Shards,
        known: Mapping[str, Certified] | None = None,
    ) -> None:
        """Verify everything; an unusable ledger raises nothing and is ``closed``.

        shards: by SHA-256, those that living entries name. known: replayed certificates by entry
        id, the ``certificates`` of an earlier Admission. Cost: that of all replays and of one pass
        over the stream.
        """
        history = usable = closed = None
        try:
            history = History(lines)
            _require_open(history, network, sites)
            usable = _use(network, sites, history, shards, known or {})
        except UnusableError as error:
            closed = str(error)
        self._assign(
            network=network,
            sites=sites,
            closed=closed,
            history=history,
            opened=None if history is None else history.opened,
            _usable=usable,
        )

    @property
    def certificates(self) -> dict[str, Certified]:
        """Replayed certificates by entry id, for the ``known`` of a later Admission."""
        found = {} if self._usable is None else self._usable.obligations.certificates
        return {one.entry: one.certified for one in found.values()}

    @property
    def obligations(self) -> Obligations:
        """What the living entries amount to; raises UserError if the gate is closed."""
        return self._open.obligations

    @property
    def standing(self) -> Mapping[str, Standing]:
        """Of every cell, its warrants or what it lacks; raises UserError if the gate is closed."""
        return self._open.standing

    @property
    def _open(self) -> _Usable:
        if self._usable is None:
            raise UserError(f"the gate is closed: {self.closed}")
        return self._usable

    def admitted(
        self, h: Float64[np.ndarray, "n s"], outputs: Float64[np.ndarray, "n x"] | None
    ) -> Bool[np.ndarray, " n"]:
        """Which inputs are admitted; none without the outputs, which condition 5 is about.

        h: activations at all sites; outputs: what the model gave. Raises MalformedError for other
        shapes. Cost: O(n s c) for c eligible cells, and a hash of each input if there are records.
        """
        found = self._find(h, outputs)
        recorded = np.array([one is not None for one in found.record], dtype=bool)
        return recorded | (found.cell >= 0)

    def admit(
        self, h: Float64[np.ndarray, "n s"], outputs: Float64[np.ndarray, "n x"] | None
    ) -> "Verdicts":
        """The verdicts, made one by one as they are looked at; raises and costs as ``admitted``."""
        return Verdicts(self, np.array(h), outputs is not None, self._find(h, outputs))

    def _find(
        self, h: Float64[np.ndarray, "n s"], outputs: Float64[np.ndarray, "n x"] | None
    ) -> _Found:
        wanted = (self.sites.size, self.network.outputs)
        shapes = [("activations", h)] + ([] if outputs is None else [("outputs", outputs)])
        for (name, values), width in zip(shapes, wanted, strict=False):
            if values.dtype != np.float64 or values.shape != (len(h), width):
                raise MalformedError(
                    f"{name} are {values.dtype} {values.shape}: pass float64 {(len(h), width)}"
                )
        nothing = np.full(len(h), NO_ANSWER)
        answer = nothing if outputs is None else answers(outputs)
        usable = self._usable
        if usable is None:
            return _Found(answer, [None] * len(h), nothing)
        records = usable.obligations.records
        signed: list[Signed | None] = [None] * len(h)
        if records:
            prints = fingerprints(self.network.sha256, self.sites.sha256, h)
            for number, (key, label) in enumerate(zip(prints, answer.tolist(), strict=True)):
                fitting = [one for one in records.get(key, ()) if one.label == label]
                signed[number] = fitting[0] if fitting else None
        cell = nothing
        if usable.eligible:
            inside = usable.table.inside(h)
            admits = inside[:, : len(usable.eligible)]
            for number, parts in usable.composite:
                admits[:, number] &= inside[:, parts].all(axis=1)
            admits &= answer[:, None] == usable.labels
            cell = np.where(admits.any(axis=1), admits.argmax(axis=1), nothing)
        return _Found(answer, signed, cell)

    def _verdict(
        self, h: Float64[np.ndarray, " s"], given: bool, answer: int, by: Signed | None, cell: int
    ) -> Verdict:
        if by is not None:
            return Verdict(None, {"record": by}, ())
        if self._usable is None:
            return Verdict(None, {}, (f"(6) the gate is closed: {self.closed}",))
        if cell >= 0:
            name = self._usable.eligible[cell]
            return Verdict(name, self._usable.standing[name].warrants, ())
        return self._usable.refusals.of(h, answer, given)


@final
class Verdicts(Sequence[Verdict]):
    """One verdict an input; what is not looked at is not made."""

    def __init__(
        self, admission: Admission, h: Float64[np.ndarray, "n s"], given: bool, found: _Found
    ) -> None:
        """Of ``Admission.admit``. given: whether the model's outputs were."""
        self._admission, self._h, self._given, self._found = admission, h, given, found

    def __len__(self) -> int:
        """Inputs."""
        return len(self._h)

    @overload
    def __getitem__(self, index: int) -> Verdict: ...
    @overload
    def __getitem__(self, index: slice) -> list[Verdict]: ...
    def __getitem__(self, index: int | slice) -> Verdict | list[Verdict]:
        """The verdict on one input, or on several."""
        if isinstance(index, slice):
            return [self[number] for number in range(len(self))[index]]
        answer, record, cell = self._found
        return self._admission._verdict(
            self._h[index], self._given, int(answer[index]), record[index], int(cell[index])
        )

    def __iter__(self) -> Iterator[Verdict]:
        """In the order of the inputs."""
        return (self[number] for number in range(len(self)))


def _require_open(history: History, network: ReluNetwork, sites: Sites) -> None:
    """Of condition 6, what needs no entry verified."""
    opened = history.opened
    if history.closed is not None:
        raise UnusableError(history.closed)
    if opened.model != network.sha256:
        raise UnusableError(
            f"the ledger is about the network {opened.model[:12]}, not {network.sha256[:12]}: its "
            "certificates and records say nothing of other weights"
        )
    if opened.sites.sha256 != sites.sha256:
        raise UnusableError(
            f"the ledger is about the sites {[g.name for g in opened.sites.groups]} cut at "
            f"{opened.sites.cut}, not these"
        )
    if history.spent > opened.alpha:
        raise UnusableError(
            f"the account of alpha is overdrawn: {float(history.spent):.4g} of "
            f"{float(opened.alpha):.4g} is spent"
        )
    with history.naming(0):
        sites.require_fit(network)


def _use(
    network: ReluNetwork,
    sites: Sites,
    history: History,
    shards: Shards,
    known: Mapping[str, Certified],
) -> _Usable:
    obligations = verify(network, sites, history, shards, known)
    within = float(history.opened.eps_act)
    try:
        conditions = Conditions(history.opened, obligations)
        standing = {cell: conditions.of(cell) for cell in obligations.cells}
        eligible = tuple(cell for cell, one in standing.items() if one.warrants)
        parts = {cell: obligations.parts[cell] for cell in eligible}
        columns = dict.fromkeys((*eligible, *(part for own in parts.values() for part in own)))
        place = {name: number for number, name in enumerate(columns)}
        return _Usable(
            obligations,
            standing,
            eligible,
            np.array([obligations.cells[cell].label for cell in eligible], dtype=np.int64),
            tuple((place[c], [place[p] for p in own]) for c, own in parts.items() if own != (c,)),
            CellTable(network, sites, [obligations.cells[name] for name in place], within),
            Refusals(network, sites, obligations, standing, within),
        )
    except UserError as error:
        raise UnusableError(str(error)) from None
