"""Where a bound of theorem B or C falls short: for each sequence, in total, and by feature pairs.

Of a sequence and the output that its bound is worst against:

    bound = true margin - claim - own loss - residual loss,

``claim`` what the margin loses when the decode takes the residual's place (it may gain); the *own*
loss of the theorem, interaction of features in B and relaxation of neurons in C; and what the
residual radius costs. Estimates in float64, not proofs.

A *pair* of features shares in the own loss of a sequence in proportion to ``sum_n |a_n| min(|p_n|,
|q_n|)`` over the neurons whose sign is not settled, which no second difference of the MLP exceeds.

Notation: N sequences, r other outputs.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, final

import numpy as np
from jaxtyping import Bool, Float64, Int64

from ..kernel._codes import BY_CODE, NOT_CLAIMED
from ._claiming import true_margins
from ._proof_margins import Search, least
from .proofs import Found


class Cause(Enum):
    """Why a sequence is not proved."""

    WRONG = "the model answers wrongly"
    CLAIM = "the decode answers wrongly"
    OWN = "interaction (B) or relaxation (C) alone is too large"
    RESIDUAL = "the residual radius alone costs too much"
    BOTH = "the two together cost too much"


class PairCost(NamedTuple):
    """Two features that meet in sequences that are not proved."""

    first: tuple[int, ...]
    """The crosscoder's number of the feature; several if the decoder's row is compound."""
    second: tuple[int, ...]
    sequences: int
    """Sequences not proved in which both are active."""
    loss: float
    """What the pair takes from their bounds, in total."""
    costs: int
    """Sequences that would be proved if the pair took nothing."""


@final
@dataclass(frozen=True, eq=False)
class Slack:
    """See the top of this file."""

    proved: Bool[np.ndarray, " N"]
    """By the theorem's own tests."""
    rival: Int64[np.ndarray, " N"]
    bound: Float64[np.ndarray, " N"]
    margin: Float64[np.ndarray, " N"]
    claim: Float64[np.ndarray, " N"]
    own: Float64[np.ndarray, " N"]
    residual: Float64[np.ndarray, " N"]
    cause: tuple[Cause | None, ...]
    """None of what is proved."""
    pairs: tuple[PairCost, ...]
    """Those that cost most first."""

    @property
    def causes(self) -> dict[Cause, int]:
        """How many sequences each cause keeps from being proved."""
        return {cause: self.cause.count(cause) for cause in Cause}

    @property
    def means(self) -> dict[str, float]:
        """Mean losses over all sequences, and the mean margin."""
        names = ("margin", "claim", "own", "residual", "bound")
        return {name: float(getattr(self, name).mean()) for name in names}


def slack_of(found: Found, most_pairs: int = 50) -> Slack:
    """The breakdown of a witness's bounds. Cost: four evaluations of the theorem.

    A sequence that is not claimed by the theorem is looked at as if it were, with all others.
    """
    search, claimed = found.search, found.claims.claimed
    proved = (claimed != NOT_CLAIMED) & (claimed != 2)
    everything = np.full(len(claimed), BY_CODE)
    bounds, without_rho = _bounds(found, everything)
    if proved.any():
        own = np.where(proved, claimed, NOT_CLAIMED)
        for mine, all_of_them in zip(_bounds(found, own), (bounds, without_rho), strict=True):
            all_of_them[proved] = mine[proved]
    place = bounds.argmin(axis=1) if bounds.shape[1] else np.zeros(len(claimed), dtype=np.int64)
    label = search.codes.label
    true = true_margins(search.net, search.target, label)
    decoded = true_margins(search.net, search.placed.decoded(), label)

    def there(margins: Float64[np.ndarray, "N r"]) -> Float64[np.ndarray, " N"]:
        if not margins.shape[1]:
            return np.full(len(margins), np.inf)
        return np.take_along_axis(margins, place[:, None], axis=1)[:, 0]

    margin, at_decode, at_zero, bound = map(there, (true, decoded, without_rho, bounds))
    with np.errstate(invalid="ignore"):
        losses = margin - at_decode, at_decode - at_zero, at_zero - bound
    claim, own_loss, residual = (np.nan_to_num(loss, nan=0.0) for loss in losses)
    right, answers = least(true) > 0, least(decoded) > 0
    cause = tuple(
        None
        if proved[n]
        else Cause.WRONG
        if not right[n]
        else Cause.CLAIM
        if not answers[n]
        else Cause.OWN
        if at_decode[n] <= own_loss[n]
        else Cause.RESIDUAL
        if at_decode[n] <= residual[n]
        else Cause.BOTH
        for n in range(len(claimed))
    )
    rival = place + (place >= label)
    failing = np.flatnonzero(~proved & right & answers & (own_loss > 0))
    pairs = _pair_costs(search, found, failing, rival, own_loss, bound)[:most_pairs]
    return Slack(proved, rival, bound, margin, claim, own_loss, residual, cause, tuple(pairs))


def _bounds(
    found: Found, claimed: Int64[np.ndarray, " N"]
) -> tuple[Float64[np.ndarray, "N r"], Float64[np.ndarray, "N r"]]:
    """The theorem's bounds, and what they would be if every decode were exact."""
    search, nothing = found.search, np.zeros(len(claimed))
    if found.theorem == "crosscoder-c":
        return search.cell_margins(claimed)[0], search.cell_margins(claimed, rho=nothing)[0]
    sign = found.claims.sign
    if (claimed == BY_CODE).all():
        sign = search.signs(claimed) if sign.any() else sign
    with_rho = search.additive_margins(claimed, sign)[0]
    return with_rho, search.additive_margins(claimed, sign, rho=nothing)[0]


def _pair_costs(
    search: Search,
    found: Found,
    failing: Int64[np.ndarray, " n"],
    rival: Int64[np.ndarray, " N"],
    own_loss: Float64[np.ndarray, " N"],
    bound: Float64[np.ndarray, " N"],
) -> list[PairCost]:
    """Every pair of decoder rows that is active in a failing sequence."""
    totals: dict[tuple[tuple[int, ...], tuple[int, ...]], list[float]] = {}
    for n, (rows, weights) in zip(
        failing.tolist(), _pair_weights(search, found, failing, rival), strict=True
    ):
        whole = weights.sum() / 2
        if whole <= 0:
            continue
        origins = [tuple(i for i in row if i >= 0) for row in search.placed.origin[rows].tolist()]
        for i, j in zip(*np.triu_indices(len(rows), 1), strict=True):
            pair = min(origins[i], origins[j]), max(origins[i], origins[j])
            loss = own_loss[n] * weights[i, j] / whole
            if loss > 0 and pair[0] != pair[1]:
                entry = totals.setdefault(pair, [0, 0.0, 0])
                entry[0] += 1
                entry[1] += float(loss)
                entry[2] += bool(bound[n] + loss > 0)
    costs = [PairCost(*pair, int(n), loss, int(c)) for pair, (n, loss, c) in totals.items()]
    return sorted(costs, key=lambda cost: (-cost.costs, -cost.loss, cost.first, cost.second))


def _pair_weights(
    search: Search, found: Found, failing: Int64[np.ndarray, " n"], rival: Int64[np.ndarray, " N"]
) -> Iterator[tuple[Int64[np.ndarray, " k"], Float64[np.ndarray, "k k"]]]:
    """The active rows of each failing sequence, and how much each two of them can interact."""
    net, placed = search.net, search.placed
    block, sign = net.blocks[-1], found.claims.sign
    reach = placed.decoder @ block.W_in
    for n in failing.tolist():
        here = placed.feature[n] >= 0
        rows, value = placed.feature[n][here], placed.value[n][here]
        size = np.abs(value[:, None] * reach[rows])
        direction = net.W_U[:, search.codes.label[n]] - net.W_U[:, rival[n]]
        a = np.abs(block.W_out @ direction)
        if sign.shape[1]:
            a = np.where(sign[placed.cell[n]] == 0, a, 0.0)
        weights = (np.minimum(size[:, None], size[None]) * a).sum(axis=2)
        np.fill_diagonal(weights, 0.0)
        yield rows, weights
