"""A gate as the rule book of the discovery loop: events become cells, rules become entries."""

from fractions import Fraction
from typing import Final

import numpy as np

from ..kernel.gate import CountEntry, RuleEntry
from ..kernel.gate._credal import Statement
from ..kernel.gate._proportions import Interval
from ._events import Event, cell_of
from ._forward import Activations
from ._gate import Gate
from ._rule_book import Frozen, RuleBookError
from ._source import Batch
from .propose._proposal import Proposal

_WIDEST: Final = float(np.finfo(np.float32).max)
"""A cell has a finite range at the cut: this one holds every finite float32 number."""


class GateBook:
    """The ledger of ``gate``, which must be open for writing; see `RuleBook`."""

    def __init__(self, gate: Gate) -> None:
        """Of a gate, whatever is in it already."""
        self.gate = gate
        self._cells: dict[Event, str] = {}

    @property
    def position(self) -> int:
        """See `RuleBook`."""
        return self.gate.position

    @property
    def spent(self) -> Fraction:
        """See `RuleBook`."""
        return self.gate.history.spent

    def freeze(self, proposal: Proposal, take: int | None) -> Frozen:
        """See `RuleBook`. Raises UserError for an overdrawn account."""
        antecedent = [self.name_of(event) for event in proposal.given]
        consequent = [self.name_of(event) for event in proposal.then]
        rule = self.gate.add_rule(
            proposal.kind,
            antecedent,
            consequent,
            take=take,
            predicted=proposal.predicted,
            bits=round(max(proposal.bits, 0.0), 3),
            proposer=f"propose/{proposal.kind}",
        )
        entry = self._rules()[rule]
        return Frozen(rule, proposal, entry.alpha, entry.born, take)

    def observe(self, batch: Batch) -> None:
        """See `RuleBook`. Raises UserError for a batch that is in the stream already."""
        # A source hands out each datum once: an equal row is another one.
        self.gate.observe(Activations(batch.h, batch.outputs), batch.labels, repeats=True)

    def count(self, frozen: Frozen) -> Interval | None:
        """See `RuleBook`. Raises UserError for a rule that was counted for good."""
        return self.gate.count(frozen.id)

    def refuse(self, frozen: Frozen, reason: str) -> None:
        """See `RuleBook`."""
        self.gate.refuse(frozen.id, reason)

    def retract(self, rule: str, reason: str) -> None:
        """See `RuleBook`."""
        self.gate.retract(rule, reason)

    def certify(self, proposal: Proposal) -> str:
        """See `RuleBook`; the proposal's ``certify`` is called with the gate."""
        if proposal.certify is None:
            raise RuleBookError(f"a {proposal.kind} proposal has no certificate: freeze it instead")
        return proposal.certify(self.gate)

    def name_of(self, event: Event) -> str:
        """The id of the event's cell, which is added to the ledger if it is not there."""
        if event not in self._cells:
            sites, network = self.gate.sites, self.gate.network
            cell = cell_of((event,), sites.size, sites.pattern_size(network), 0)
            low, high = cell.low.copy(), cell.high.copy()
            cut = sites.cut_slice
            low[cut], high[cut] = np.maximum(low[cut], -_WIDEST), np.minimum(high[cut], _WIDEST)
            fields = cell.to_arrays() | {"low": low, "high": high}
            self._cells[event] = self.gate.add_cell(type(cell).from_arrays(fields))
        return self._cells[event]

    def statements(self) -> list[Statement]:
        """See `RuleBook`."""
        rules = self._rules()
        latest = {entry.rule: entry for _, entry in self.gate.history.living(CountEntry)}
        return [
            Statement(
                frozenset(rules[rule].antecedent),
                frozenset(rules[rule].consequent),
                count.low,
                count.high,
            )
            for rule, count in latest.items()
        ]

    def _rules(self) -> dict[str, RuleEntry]:
        history = self.gate.history
        return {history.lines[number].id: entry for number, entry in history.living(RuleEntry)}
