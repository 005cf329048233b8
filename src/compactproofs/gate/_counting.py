"""Counting what was frozen on what arrived later, as the kernel will count it again."""

from fractions import Fraction
from typing import TypeVar

from ..kernel import UserError
from ..kernel.gate import (
    CalibrationEntry,
    CountEntry,
    FamilyEntry,
    History,
    ReluNetwork,
    RuleEntry,
    Sites,
    UnusableError,
)
from ..kernel.gate._calibration import fixed_sequence
from ..kernel.gate._confidence_sequences import confidence_sequence_over
from ..kernel.gate._evidence import Evidence, Shards
from ..kernel.gate._obligations import living_cells
from ..kernel.gate._proportions import Interval, clopper_pearson

_Frozen = TypeVar("_Frozen", RuleEntry, FamilyEntry)


class Counting:
    """The stream of a ledger, for counting on it; of the cells and data that it holds now."""

    def __init__(
        self, network: ReluNetwork, sites: Sites, history: History, shards: Shards
    ) -> None:
        """Raises UserError if a cell does not verify. Cost: reads all cells."""
        self._history = history
        try:
            cells, parts = living_cells(network, sites, history, shards)
            self._evidence = Evidence(network, sites, history, shards, cells, parts)
        except UnusableError as error:
            raise UserError(f"nothing can be counted: {error}") from None

    def count(self, rule: str) -> tuple[CountEntry, Interval] | None:
        """The next count of a rule and its interval; None if there is nothing to count.

        Raises UserError for a rule that is none, and for counts that contradict earlier ones.
        """
        frozen = living(self._history, rule, RuleEntry)
        looks = [e for _, e in self._history.living(CountEntry) if e.rule == rule]
        ready = self._history.length
        stop = ready if frozen.take is None else frozen.born + frozen.take
        if stop > ready or stop == (looks[-1].stop if looks else frozen.born):
            return None
        try:
            given = self._evidence.events(frozen.antecedent)
            then = self._evidence.events(frozen.consequent)
            self._require_data(frozen.born, stop)
            k, n = self._evidence.count(given, then, frozen.born, stop)
        except UnusableError as error:
            raise UserError(f"rule {rule[:12]} cannot be counted: {error}") from None
        if frozen.take is None:
            counts = [(look.k, look.n) for look in looks]
            interval = confidence_sequence_over([*counts, (k, n)], frozen.alpha)
        else:
            interval = clopper_pearson(k, n, frozen.alpha)
        if interval.empty:
            raise UserError(
                f"rule {rule[:12]}: {k} of {n} contradict its earlier counts, the data have "
                "drifted: close the gate, or retract the rule"
            )
        return CountEntry(rule, stop, k, n, interval.low, interval.high), interval

    def calibrate(self, family: str, delta: Fraction) -> CalibrationEntry:
        """The calibration of a family; raises UserError if data are missing, or it has one."""
        frozen = living(self._history, family, FamilyEntry)
        if any(e.family == family for _, e in self._history.living(CalibrationEntry)):
            raise UserError(f"family {family[:12]} is calibrated: freeze another for other data")
        stop = frozen.born + frozen.take
        try:
            self._require_data(frozen.born, stop)
            bad = self._evidence.bad_in_any(frozen.groups, frozen.born, stop)
        except UnusableError as error:
            raise UserError(f"family {family[:12]} cannot be calibrated: {error}") from None
        chosen = fixed_sequence(bad, frozen.take, delta, frozen.alpha) + 1
        return CalibrationEntry(family, tuple(bad), chosen)

    def _require_data(self, start: int, stop: int) -> None:
        for batch in self._history.span(start, stop):
            if not self._history.alive[batch.number]:
                raise UnusableError(
                    f"{self._history.name(batch.number)} was retracted: freeze a new proposal"
                )


def living(history: History, reference: str, kind: type[_Frozen]) -> _Frozen:
    """The entry of an id, if it is of this type and not retracted; raises UserError."""
    number = history.number(reference)
    entry = None if number is None else history.lines[number].entry
    if number is None or not isinstance(entry, kind) or not history.alive[number]:
        raise UserError(f"{reference[:12]!r} is no {kind.__name__} of the ledger, or retracted")
    return entry
