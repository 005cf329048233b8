"""What the gate says of one input: admitted on named warrants, or refused with reasons."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import final

from .._errors import KernelDefectError
from .._frozen import Immutable
from ._warrants import Measured, Proven, Signed, Warrant


@final
class Verdict(Immutable):
    """Admitted exactly if there are warrants: of a record, or of all a cell's obligations.

    An admission has one ``Signed`` under "record", or ``Proven`` under "certificate" and
    ``Measured`` under "mass" and "risk"; anything else raises KernelDefectError, so that no
    presumption can stand in for a warrant. A refusal has at least one reason and no warrant.
    """

    __slots__ = ("admitted", "cell", "nearest", "reasons", "warrants")

    admitted: bool
    cell: str | None
    """The cell that admits it, by id; None if a record does or nothing does."""
    warrants: Mapping[str, Warrant]
    reasons: tuple[str, ...]
    """Of a refusal: the obligations that fail, in the order of the gate's conditions."""
    nearest: str | None
    """Of a refusal: the cell that those reasons are about, if there is any."""

    def __init__(
        self,
        cell: str | None,
        warrants: Mapping[str, Warrant],
        reasons: tuple[str, ...],
        nearest: str | None = None,
    ) -> None:
        """``admitted`` follows from the warrants; see the class."""
        self._assign(
            admitted=bool(warrants),
            cell=cell,
            warrants=MappingProxyType(dict(warrants)),
            reasons=reasons,
            nearest=nearest,
        )
        kinds = {name: type(warrant) for name, warrant in warrants.items()}
        by_record = kinds == {"record": Signed} and cell is None
        by_cell = (
            kinds == {"certificate": Proven, "mass": Measured, "risk": Measured}
            and cell is not None
        )
        refusal = not kinds and cell is None and bool(reasons)
        if not (by_record or by_cell or refusal) or (kinds and reasons):
            raise KernelDefectError(f"no verdict rests on {kinds}, cell {cell}, reasons {reasons}")

    def __bool__(self) -> bool:
        """Whether the input is admitted."""
        return self.admitted

    def __str__(self) -> str:
        """One line a reason or warrant."""
        if self.admitted:
            by = "a record" if self.cell is None else f"cell {self.cell[:8]}"
            return "\n".join([f"ADMITTED by {by}", *map(str, self.warrants.values())])
        return "\n".join(["REFUSED", *self.reasons])
