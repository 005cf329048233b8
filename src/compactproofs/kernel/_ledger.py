"""Counting operations while the kernel runs: the length of a proof in FLOPs.

Conventions (docs/theory.md section 6): one per scalar operation of the point computation, one per
64-bit limb of an integer operation, ``a c (2 b - 1)`` for a matrix product ``a x b`` by ``b x c``,
``n - 1`` for a reduction of ``n`` numbers; the radius half of an enclosure is counted apart;
indexing, reshaping and choosing between computed values are free.
"""

from typing import Any, final

import numpy as np
from jaxtyping import Float64, Int

from ._errors import KernelDefectError


@final
class Ledger:
    """The running totals of one proof. Untrusted by the bound: it never influences a result."""

    __slots__ = ("flops", "radius_flops")

    def __init__(self) -> None:
        """Start at zero."""
        self.flops = 0
        self.radius_flops = 0

    def point(self, operations: int) -> None:
        """Add scalar operations of the point computation."""
        self.flops += int(operations)

    def radius(self, operations: int) -> None:
        """Add scalar operations that only carry the error bound along."""
        self.radius_flops += int(operations)

    def integer_product(self, a: int, b: int) -> None:
        """Add one product of Python integers: limbs of ``a`` times limbs of ``b`` (schoolbook)."""
        self.flops += _limbs(a) * _limbs(b)

    def integer_sum(self, a: int) -> None:
        """Add one sum, mask or shift of Python integers whose larger operand is ``a``."""
        self.flops += _limbs(a)


def _limbs(a: int) -> int:
    return -(-a.bit_length() // 64) or 1


class Counted(np.ndarray):
    """An int64 or float64 array that enters every ufunc applied to it into its ledger.

    Results of ufuncs are counted arrays of the same ledger, so a chain of array arithmetic is
    counted without a word at the call site. Sums of int64 never wrap here by construction: each
    theorem states the bound that keeps it inside 2^63.
    """

    ledger: Ledger | None

    @classmethod
    def of(cls, values: Int[np.ndarray, "..."], ledger: Ledger) -> "Counted":
        """View ``values`` as int64 whose arithmetic is entered into ``ledger``."""
        counted = np.asarray(values, dtype=np.int64).view(cls)
        counted.ledger = ledger
        return counted

    @classmethod
    def of_floats(cls, values: Float64[np.ndarray, "..."], ledger: Ledger) -> "Counted":
        """View float64 ``values`` likewise; which way they are rounded is the caller's business."""
        counted = np.asarray(values, dtype=np.float64).view(cls)
        counted.ledger = ledger
        return counted

    @classmethod
    def joined(cls, parts: "list[np.ndarray]", axis: int) -> "Counted":
        """Concatenate int64 arrays, the first of which says whose ledger the result has."""
        first = parts[0]
        if not isinstance(first, Counted) or first.ledger is None:
            raise KernelDefectError("joining arrays that lost their ledger")
        return cls.of(np.concatenate(parts, axis=axis), first.ledger)

    def __array_finalize__(self, source: Any) -> None:
        """Views and slices share the ledger of the array they come from."""
        self.ledger = getattr(source, "ledger", None)

    def __array_ufunc__(
        self, ufunc: np.ufunc, method: str, *inputs: Any, out: Any = None, **kwargs: Any
    ) -> Any:
        """Apply ``ufunc`` to the plain arrays and count one operation per scalar result."""
        ledger = next((x.ledger for x in inputs if isinstance(x, Counted) and x.ledger), None)
        if ledger is None:
            raise KernelDefectError(f"{ufunc.__name__} of arrays that lost their ledger")
        plain = tuple(np.asarray(x) if isinstance(x, Counted) else x for x in inputs)
        if out is not None:
            kwargs["out"] = tuple(np.asarray(x) if isinstance(x, Counted) else x for x in out)
        result = getattr(ufunc, method)(*plain, **kwargs)
        size = np.size(result)
        ledger.point(np.size(plain[0]) - size if method == "reduce" else size)
        if out is not None:
            return out[0]
        if isinstance(result, np.ndarray) and result.dtype == np.int64:
            return Counted.of(result, ledger)
        if isinstance(result, np.ndarray) and result.dtype == np.float64:
            return Counted.of_floats(result, ledger)
        return result
