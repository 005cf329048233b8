"""On what an admission may rest: three final kinds of warrant, and one that is none.

``SIGNED``, ``PROVED`` and ``MEASURED`` are warrants. A presumption (a heuristic estimate) may rank
what to explain next; ``Presumed`` is no ``Warrant``, and a ``Verdict`` refuses to be built on it.
"""

from abc import ABC, abstractmethod
from fractions import Fraction
from typing import final

from .._frozen import Immutable


class Warrant(Immutable, ABC):
    """What a person signed, a certificate proves, or fresh data show with stated confidence."""

    __slots__ = ("entries",)

    kind: str
    """SIGNED, PROVED or MEASURED."""
    entries: tuple[str, ...]
    """The ledger's entries that it rests on, by id."""

    @property
    def _rests_on(self) -> str:
        return ", ".join(entry[:8] for entry in self.entries)

    @abstractmethod
    def __str__(self) -> str:
        """One line for a report."""


@final
class Signed(Warrant):
    """A person vouches for this activation vector and this label."""

    __slots__ = ("label", "signer")

    kind = "SIGNED"
    signer: str
    label: int

    def __init__(self, entries: tuple[str, ...], signer: str, label: int) -> None:
        """Keep who signed what."""
        self._assign(entries=entries, signer=signer, label=label)

    def __str__(self) -> str:
        """One line for a report."""
        return f"SIGNED by {self.signer} as label {self.label} ({self._rests_on})"


@final
class Proven(Warrant):
    """A replayed certificate: on the whole cell every margin exceeds what float32 may err by."""

    __slots__ = ("cell", "envelope", "margin", "model")

    kind = "PROVED"
    cell: str
    margin: float
    """Lower bound of the label's margin over all points of the cell."""
    envelope: float
    """Half of what a float32 evaluation may change a margin by."""
    model: str
    """SHA-256 of the network that it is about."""

    def __init__(
        self, entries: tuple[str, ...], cell: str, margin: float, envelope: float, model: str
    ) -> None:
        """Keep what was replayed."""
        self._assign(entries=entries, cell=cell, margin=margin, envelope=envelope, model=model)

    def __str__(self) -> str:
        """One line for a report."""
        return (
            f"PROVED on all of cell {self.cell[:8]}: margin at least {self.margin:.4g} "
            f"({self._rests_on})"
        )


@final
class Measured(Warrant):
    """An exact bound on a probability, from counts of data that are fresh with respect to it."""

    __slots__ = ("bound", "limit", "quantity")

    kind = "MEASURED"
    quantity: str
    """What is bounded, in words."""
    bound: Fraction
    limit: Fraction
    """What the bound was compared with."""

    def __init__(
        self, entries: tuple[str, ...], quantity: str, bound: Fraction, limit: Fraction
    ) -> None:
        """Keep the bound and its limit."""
        self._assign(entries=entries, quantity=quantity, bound=bound, limit=limit)

    def __str__(self) -> str:
        """One line for a report."""
        return (
            f"MEASURED {self.quantity}: {float(self.bound):.3g} against {float(self.limit):.3g} "
            f"({self._rests_on})"
        )


@final
class Presumed(Immutable):
    """A heuristic estimate and where it comes from: no warrant, whatever it says."""

    __slots__ = ("estimate", "quantity", "source")

    quantity: str
    estimate: float
    source: str

    def __init__(self, quantity: str, estimate: float, source: str) -> None:
        """Keep the estimate."""
        self._assign(quantity=quantity, estimate=estimate, source=source)

    def __str__(self) -> str:
        """One line for a report."""
        return f"PRESUMED {self.quantity}: {self.estimate:.3g} ({self.source}); admits nothing"
