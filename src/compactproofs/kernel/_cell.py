"""One cell of theorem D: ranges of neurons that hold in it, and margins linear in the residual.

A cell has one label ``y`` and some queries, and for each of them words. ``low[n] <= z_n <=
high[n]`` is claimed for every sequence of the cell, ``z_n`` as in ``_front``.

*Ranges* (fractional programming). For words ``t`` before the query ``q``, as ``Z > 0``,

    z_n <= high[n]   if and only if   sum_i w_i(q,t_i) (z_n(t_i,i) - high[n]) <= 0,
    z_n(t,i) = h(q,n) + o(t,i,n),

over all positions, the query's own included. The sum is one function per position, so its largest
value over the words is ``worst_word``: one evaluation verifies the claim.

*Relaxation.* For another output ``x`` let ``c_n >= R[n,x] - R[n,y]``. As relu >= 0,

    logit(x) - logit(y) <= base(x) - base(y) + sum_n c_n relu(z_n).

For **any** slope ``g`` and every ``z`` in ``[low, high]``

    c relu(z) <= g z + tau,   tau = max(0, c relu(low) - g low, c relu(high) - g high),

because ``c relu(z) - g z`` is linear on either side of 0, where it is 0. So

    Z (logit(x) - logit(y)) <= sum_i w_i(q,t_i) [ D(t_i,i) + sum_n (g_n z_n(t_i,i) + tau_n) ]

with ``D`` the difference of the base logits: one function per position again, to which T5
(``_slack``) applies. Here ``g`` is the chord where ``c >= 0``, which no other line improves on, and
a share of ``c`` where ``c < 0``, chosen by the witness.

*Integers.* ``z``, ``D`` and ranges are in units ``2^-grid``, at most ``2^31`` (``D``: ``2^32``) in
size; ``c`` and ``g`` in units ``2^-bits``, at most ``2^size``; the bracket is summed in units
``2^-(grid + bits)``, where ``bits <= 28`` and ``m 2^(size + 33) <= 2^61`` (``coefficient_size``):

    |D| <= 2^60,   |g z| <= 2^(size + 31),   tau <= 2^(size + 31),   |g| spread <= 2^(size + 32),

together below ``2^62``. Then it is rounded up to a unit in which it is at most ``2^32``.
"""

from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Int, Int64, UInt8

from ._front import Front
from ._ledger import Counted, Ledger
from ._slack import Terms, worst_word
from ._tasks import ClassAutomaton

UNKNOWN_LOW: Final = -(1 << 31)
"""As the low end of a range: nothing is claimed, and nothing to verify."""
UNKNOWN_HIGH: Final = (1 << 31) - 1
"""As the high end of a range; it stands for ``2^31``, above every ``z``."""
WHOLE: Final = 128
"""A share of so many parts of ``c`` is ``c``."""


class Ranges(NamedTuple):
    """What is claimed of the neurons of a cell, in units of ``2^-grid``."""

    low: Int64[np.ndarray, " m"]
    high: Int64[np.ndarray, " m"]

    @classmethod
    def of(
        cls, low: Int[np.ndarray, " m"], high: Int[np.ndarray, " m"], ledger: Ledger
    ) -> "Ranges":
        """From 32-bit integers, in which an unknown end has a code."""
        top = np.where(high == UNKNOWN_HIGH, 1 << 31, high.astype(np.int64))
        return cls(Counted.of(low, ledger), Counted.of(top, ledger))


class Members(NamedTuple):
    """Queries of a cell, and the tokens that occur in its words before any of them; ascending."""

    queries: Int64[np.ndarray, " q"]
    tokens: Int64[np.ndarray, " t"]

    @classmethod
    def of(cls, words: dict[int, ClassAutomaton]) -> "Members":
        """From the words of each query."""
        used = {t for one in words.values() for letter in one.letters for t in letter}
        return cls(np.array(sorted(words), np.int64), np.array(sorted(used), np.int64))


class Functionals(NamedTuple):
    """Several brackets, each a function of one position: ``before[i,t] + direct[q]``.

    At the query's own position ``last[q] + direct[q]``. None exceeds ``2^32`` in size.
    """

    members: Members
    before: Int64[np.ndarray, "i t n"]
    last: Int64[np.ndarray, "q n"]
    direct: Int64[np.ndarray, "q n"]

    def terms(self, front: Front, query: int, words: ClassAutomaton) -> Terms:
        """The brackets times weights, rounded up: the bounds that ``_slack`` takes. O(k v n)."""
        tokens = np.array([t for letter in words.letters for t in letter], dtype=np.int64)
        letter_of = np.array([a for a, ts in enumerate(words.letters) for _ in ts], np.int64)
        row = int(np.searchsorted(self.members.queries, query))
        columns = np.searchsorted(self.members.tokens, tokens)
        scale = front.scale(query, tokens)
        before = self.before[:, columns] + self.direct[row]
        last = (self.last[row] + self.direct[row])[None, None]
        return Terms(
            front.weighted(last, query, slice(-1, None), np.array([query]), scale)[0, 0],
            front.weighted(before, query, slice(0, -1), tokens, scale),
            letter_of,
        )


def range_functionals(front: Front, members: Members, ranges: Ranges) -> Functionals:
    """The brackets of *Ranges* above, for each end that is claimed: high ends, then low ends."""
    neurons, (queries, tokens) = front.neurons, members
    low, high = np.asarray(ranges.low > UNKNOWN_LOW), np.asarray(ranges.high < 1 << 31)

    def both(
        above: Int64[np.ndarray, "*shape m"], below: Int64[np.ndarray, "*shape m"]
    ) -> Int64[np.ndarray, "*shape n"]:
        return Counted.joined([above[..., high], -below[..., low]], axis=-1)

    above, below = neurons.value_high, neurons.value_low
    direct = neurons.direct_high[queries] - ranges.high, neurons.direct_low[queries] - ranges.low
    return Functionals(
        members,
        both(above[:-1, tokens], below[:-1, tokens]),
        both(above[-1, queries], below[-1, queries]),
        both(*direct),
    )


def ranges_hold(front: Front, functionals: Functionals, query: int, words: ClassAutomaton) -> bool:
    """Whether none of the words leaves the ranges. Cost: O(k v m)."""
    return not (worst_word(functionals.terms(front, query, words), words) > 0).any()


def margin_functionals(
    front: Front,
    members: Members,
    label: int,
    ranges: Ranges,
    share: UInt8[np.ndarray, "x m"],
) -> Functionals:
    """The brackets of *Relaxation* above, one for each wrong output. Cost: O(m x (k v + v)).

    share: for each output the slope of an undecided neuron with ``c < 0``, in parts of ``c``.
    """
    queries, tokens = members
    logits, neurons = front.logits, front.neurons
    outputs = [x for x in range(front.x) if x != label]
    slope, tau = _lines(front, label, outputs, ranges, share[outputs].T)

    def bracket(
        high: Int64[np.ndarray, "*shape x"],
        low: Int64[np.ndarray, "*shape x"],
        z: Int64[np.ndarray, "*shape m"],
    ) -> Int64[np.ndarray, "*shape y"]:
        base = high[..., outputs] - low[..., label, None]
        return _scaled_up(base, front.coefficients.bits) + _product(z, slope, front.ledger)

    before = bracket(
        logits.value_high[:-1, tokens],
        logits.value_low[:-1, tokens],
        neurons.value_high[:-1, tokens],
    )
    last = bracket(
        logits.value_high[-1, queries],
        logits.value_low[-1, queries],
        neurons.value_high[-1, queries],
    )
    direct = bracket(
        logits.direct_high[queries], logits.direct_low[queries], neurons.direct_high[queries]
    )
    # Where a slope is negative, the low end of z is what bounds g z: it is this far below.
    below = np.maximum(-slope, 0)
    constant = tau + below * _spread(front, members)[:, None]
    direct = direct + constant.sum(axis=0)
    sizes = (int(np.abs(part).max(initial=0)) for part in (before, last, direct))
    largest = max(next(sizes), next(sizes)) + next(sizes)
    by = max(0, largest.bit_length() - 31)
    return Functionals(members, *(_scaled_up(part, -by) for part in (before, last, direct)))


def _lines(
    front: Front,
    label: int,
    outputs: list[int],
    ranges: Ranges,
    share: UInt8[np.ndarray, "m y"],
) -> tuple[Int64[np.ndarray, "m y"], Int64[np.ndarray, "m y"]]:
    """Slope and constant of the line above ``c relu(z)``, for each neuron and wrong output."""
    R, low, high = front.coefficients, ranges.low[:, None], ranges.high[:, None]
    c = R.high[:, outputs] - R.low[:, label, None]
    undecided = (low < 0) & (high > 0)
    chord = c * high // np.where(undecided, high - low, 1)
    bent = np.where(c >= 0, chord, -(-c * share // WHOLE))
    slope = np.where(undecided, bent, np.where(low >= 0, c, 0))
    at_low = c * np.maximum(low, 0) - slope * low
    at_high = c * np.maximum(high, 0) - slope * high
    return slope, np.maximum(np.maximum(at_low, at_high), 0)


def _spread(front: Front, members: Members) -> Int64[np.ndarray, " m"]:
    """How far apart the two ends of a neuron's input are at most."""
    (queries, tokens), neurons = members, front.neurons

    def widest(
        low: Int64[np.ndarray, "*shape m"], high: Int64[np.ndarray, "*shape m"]
    ) -> Int64[np.ndarray, " m"]:
        return (high - low).max(axis=tuple(range(high.ndim - 1)), initial=0)

    last = widest(neurons.value_low[-1, queries], neurons.value_high[-1, queries])
    before = widest(neurons.value_low[:-1, tokens], neurons.value_high[:-1, tokens])
    direct = widest(neurons.direct_low[queries], neurons.direct_high[queries])
    return np.maximum(before, last) + direct


def _scaled_up(number: Int64[np.ndarray, "*shape"], by: int) -> Int64[np.ndarray, "*shape"]:
    """``ceil(number 2^by)``; sizes up to 2^62, before and after."""
    return number << by if by >= 0 else -(-number >> min(-by, 63))


def _product(
    z: Int64[np.ndarray, "*shape m"], slope: Int64[np.ndarray, "m y"], ledger: Ledger
) -> Int64[np.ndarray, "*shape y"]:
    """The exact matrix product along the last axis."""
    result = np.matmul(np.asarray(z), np.asarray(slope))
    ledger.point(result.size * max(0, 2 * len(slope) - 1))
    return Counted.of(result, ledger)
