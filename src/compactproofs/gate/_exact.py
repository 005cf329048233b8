"""Numbers as a user writes them, exactly."""

from fractions import Fraction

from ..kernel import UserError

Exact = Fraction | str | int | float


def exact(value: Exact, name: str) -> Fraction:
    """The number as it was written: ``0.05`` and ``"1/20"`` are 1/20; raises UserError."""
    try:
        return Fraction(repr(float(value)) if isinstance(value, float) else value)
    except (ValueError, ZeroDivisionError, TypeError):
        raise UserError(f"{name} = {value!r} is no number: pass a text like '1/1000'") from None
