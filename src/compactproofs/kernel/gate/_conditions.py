"""Conditions 2 to 4 of an admission, which a cell fulfils or not whatever the input is."""

from fractions import Fraction
from typing import Final, NamedTuple

from ._chain import UnusableError
from ._credal import consistent, lower_probability, upper_probability
from ._entries import BAD, Opened
from ._obligations import Obligations
from ._warrants import Measured, Proven, Warrant


class Standing(NamedTuple):
    """Warrants of a cell that fulfils all three conditions, else the reasons why it does not."""

    warrants: dict[str, Warrant]
    reasons: tuple[str, ...]


class Conditions:
    """What the ledger says of its cells, in the worst case over all that it leaves open."""

    def __init__(self, opened: Opened, obligations: Obligations) -> None:
        """Raises UnusableError if the statements contradict each other.

        Cost: of deciding whether they are consistent.
        """
        self._opened, self._obligations = opened, obligations
        self._statements: Final = tuple(m.statement for m in obligations.measurements)
        if not consistent(self._statements):
            raise UnusableError(
                "the intervals of the ledger contradict each other: no distribution has them all; "
                "retract what no longer holds"
            )

    def of(self, cell: str) -> Standing:
        """Certificate, mass and risk of a cell, in this order."""
        found = {
            "certificate": self._certificate(cell),
            "mass": self._mass(cell),
            "risk": self._risk(cell),
        }
        reasons = tuple(one for one in found.values() if isinstance(one, str))
        warrants = {name: one for name, one in found.items() if isinstance(one, Warrant)}
        return Standing({} if reasons else warrants, reasons)

    def lower_mass(self, cell: str) -> Fraction:
        """At most the probability of the cell, by every distribution that the ledger allows."""
        return lower_probability(frozenset(self._obligations.parts[cell]), self._statements)

    def upper_risk(self, cell: str) -> Fraction:
        """At least P(bad given the cell), by every distribution that the ledger allows.

        The least of what was counted of exactly this condition, and of
        ``UP(cell and bad) / LP(cell)``; 1 if nothing is known.
        """
        events = frozenset(self._obligations.parts[cell])
        known = [Fraction(1)] + [
            s.high
            for s in self._statements
            if s.antecedent == events and s.consequent - events == {BAD}
        ]
        mass = self.lower_mass(cell)
        if mass > 0:
            known.append(upper_probability(events | {BAD}, self._statements) / mass)
        return min(known)

    def _certificate(self, cell: str) -> Warrant | str:
        found = self._obligations.certificates.get(cell)
        if found is None:
            return "(2) no certificate of its property"
        proof = found.certified
        return Proven((found.entry,), cell, proof.margin, proof.envelope, proof.network_sha256)

    def _mass(self, cell: str) -> Warrant | str:
        mass, tau = self.lower_mass(cell), self._opened.tau
        if mass < tau:
            return f"(3) lower probability {float(mass):.3g} below tau = {float(tau):.3g}"
        return Measured(self._counts(cell), "lower probability of the cell", mass, tau)

    def _risk(self, cell: str) -> Warrant | str:
        rho, delta = self._opened.rho, self._opened.delta
        reasons = []
        if rho is not None:
            risk = self.upper_risk(cell)
            if risk <= rho:
                return Measured(self._counts(cell), "upper risk in the cell", risk, rho)
            reasons.append(f"upper risk {float(risk):.3g} above rho = {float(rho):.3g}")
        if delta is not None:
            calibration = self._obligations.calibrated.get(cell)
            if calibration is not None:
                return Measured((calibration,), "admitted and bad, all of the family", delta, delta)
            reasons.append(f"in no family calibrated to delta = {float(delta):.3g}")
        return f"(4) {' and '.join(reasons) or 'neither rho nor delta is set'}"

    def _counts(self, cell: str) -> tuple[str, ...]:
        """The counts that say something of the cell's events."""
        events = frozenset(self._obligations.parts[cell])
        return tuple(
            m.entry
            for m in self._obligations.measurements
            if events & (m.statement.antecedent | m.statement.consequent)
        )
