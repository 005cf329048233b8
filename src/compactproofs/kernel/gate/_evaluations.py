"""How far a float32 evaluation of a network after a cut can be from the real function.

Covers every evaluation that starts from numbers ``a`` of a box at the cut (rounded to float32 or
not), in which each product and sum of ``act(z) W + b`` errs by a factor within ``1 +- 2^-24`` or
by what is flushed to zero, in any order, fused or not, with weights rounded to float32; and where
the network has a skip connection, both ``z W + b + x skip`` and, if ``skip`` is the last ``W``,
``(z + x) W + b``.

**Law.** Let ``|act(z)| <= M`` and the computed ``act(z)`` be within ``e`` of it. With
``|X|' = |X| + 2^-50`` for what is flushed, ``n`` terms to a sum and ``g(n)`` of ``_float32``, the
computed ``act(z) W + b`` is within

    e |W| + g(n + 6) ((M' + e) |W|' + |b|')

of the real one: ``sum (a^ - a) W`` is at most ``e |W|``, and each of the ``n`` terms of the
computed sum meets a rounding of ``a``, of ``W``, of the product and ``n`` of the sums. A ReLU
moves no two numbers apart.
"""

import numpy as np
from jaxtyping import Float64

from .._enclosure import Ball
from .._errors import SemanticsError
from .._float32 import FLUSHED, LARGEST, roundings
from .._ledger import Ledger
from ._relu_network import ReluNetwork
from ._sites import Sites


def evaluation_error(
    network: ReluNetwork,
    sites: Sites,
    low: Float64[np.ndarray, " a"],
    high: Float64[np.ndarray, " a"],
    ledger: Ledger,
) -> Float64[np.ndarray, " x"]:
    """Numbers not below the error of each logit, from any point of a box at the cut.

    Raises SemanticsError where a float32 evaluation could overflow. Cost: three interval passes.
    """

    def exact(values: Float64[np.ndarray, "..."]) -> Ball:
        return Ball.exact(values, ledger)

    def size(ball: Ball) -> Ball:
        reach = np.maximum(np.abs(ball.lower()), np.abs(ball.upper()))
        return exact(reach) + exact(np.array([FLUSHED]))

    box = Ball.between(low[None], high[None], ledger)
    exact_values = network.forward(box, sites.layer, sites.after_relu)
    error = exact(np.zeros_like(low)[None])
    for number, values in enumerate(exact_values[:-1], sites.layer):
        layer = network.layers[number]
        weight, terms = exact(layer.W), len(layer.W)
        # A ReLU makes no number larger in size.
        sums = (size(values) + error) @ size(weight) + size(exact(layer.b[None]))
        error = error @ weight.absolute()
        # Also of what is then multiplied by 0: infinity times 0 is no number.
        _require_range(sums, size(values), size(weight))
        if network.skip is not None and number == len(network.layers) - 1:
            skip = exact(network.skip)
            sums = sums + size(box) @ size(skip)
            terms += len(network.skip)
            _require_range(sums, size(box), size(skip))
        error = error + sums * exact(np.array([roundings(terms + 6)]))
    return error.upper()[0]


def _require_range(*sizes: Ball) -> None:
    largest = max(float(each.upper().max()) for each in sizes)
    if largest > LARGEST / 2:
        raise SemanticsError(
            f"a float32 evaluation may overflow in this cell: a weight, an activation or a sum of "
            f"absolute values reaches {largest:.3g}, more than 2^119; rescale the weights or "
            "narrow the cell"
        )
