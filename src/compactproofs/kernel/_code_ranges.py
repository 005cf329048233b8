"""Ranges of the neurons over the sequences of a group, from their codes.

For a sequence with atoms ``a`` (one of each of its features) let ``z_hat = beta + sum_a p_a . w``
be what its decode sends to a neuron, ``beta = b . w + b_in``. The exact residual sends ``z`` with
``|z - z_hat| <= rho |w|``. Over a group, with ``rho_C`` the largest ``rho``,

    z_hat, z  in  [low - rho_C |w|, high + rho_C |w|]

for either choice of ``low <= z_hat <= high``:

* *features*: every member has a feature of the set ``S``; what feature ``i`` adds lies between the
  least and the largest ``m_i`` and ``M_i`` of ``f . d_i w`` over the values ``f`` that occur. If no
  member has more than ``r`` features outside ``S``,

      high = beta + sum_{i in S} M_i + (sum of the r largest of max(0, M_i), i not in S)

  and likewise ``low``. Cost: O(m) for each atom that occurs and a sort of them, whatever the number
  of members.
* *sequences*: the least and the largest ``z_hat`` over the members. Cost: O(k m) for each.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple, final

import numpy as np
from jaxtyping import Bool, Float64, Int64

from ._codes import Codes, Group, in_blocks, total
from ._enclosure import Ball, norm_upper
from ._errors import OptionError
from ._ledger import Ledger

Ends = tuple[Float64[np.ndarray, " m"], Float64[np.ndarray, " m"]]
"""Numbers certainly not above, and certainly not below, what is enclosed."""


def by_features(codes: Codes, group: Group, reach: Ball, ledger: Ledger) -> Ends:
    """``low - beta`` and ``high - beta`` of the members' decodes by the first rule above."""
    code = codes.code[group.members]
    atoms = np.unique(code)
    atoms = atoms[codes.feature[atoms] >= 0]
    features, first = np.unique(codes.feature[atoms], return_index=True)
    used = codes.feature[code]
    always = _features_of_all(used, features)
    optional = (used >= 0) & ~np.isin(used, features[always])
    most = int(optional.sum(axis=1).max())
    low, high = reach[atoms].lower(), reach[atoms].upper()
    ledger.point(low.size + high.size)
    if not len(atoms):
        return np.zeros(low.shape[1]), np.zeros(low.shape[1])
    least = np.minimum.reduceat(low, first, axis=0)
    largest = np.maximum.reduceat(high, first, axis=0)
    return -_highest(-least, always, most, ledger), _highest(largest, always, most, ledger)


def _features_of_all(
    used: Int64[np.ndarray, "n k"], features: Int64[np.ndarray, " f"]
) -> Bool[np.ndarray, " f"]:
    """Which features every sequence has; no sequence has one twice."""
    times = np.array([(used == feature).sum() for feature in features])
    return times == len(used)


def _highest(
    largest: Float64[np.ndarray, "f m"], always: Bool[np.ndarray, " f"], most: int, ledger: Ledger
) -> Float64[np.ndarray, " m"]:
    """The sum over the features of all, and over the ``most`` largest of the others if positive."""
    others = np.sort(np.maximum(largest[~always], 0.0), axis=0)[::-1][:most]
    ledger.point(largest.size * max(1, len(largest)).bit_length())
    added = Ball.exact(np.concatenate([largest[always], others]), ledger)
    return total(added, 0).upper()


def by_sequences(codes: Codes, group: Group, reach: Ball, ledger: Ledger) -> Ends:
    """``low - beta`` and ``high - beta`` of the members' decodes by the second rule above."""
    m = reach.shape[1]
    low, high = np.full(m, np.inf), np.full(m, -np.inf)
    for some in in_blocks(group.members, m * codes.code.shape[1]):
        sums = reach[codes.code[some]].sum(1)
        low = np.minimum(low, sums.lower().min(axis=0))
        high = np.maximum(high, sums.upper().max(axis=0))
        ledger.point(2 * sums.mid.size)
    return low, high


class RangeRule(NamedTuple):
    """A choice of ``low`` and ``high`` above."""

    name: str
    ends: Callable[[Codes, Group, Ball, Ledger], Ends]


RANGE_RULES: Final = {
    rule.name: rule
    for rule in (RangeRule("features", by_features), RangeRule("sequences", by_sequences))
}


def range_rule(name: int | str) -> RangeRule:
    """The rule of this name; raises OptionError with the valid ones."""
    if name not in RANGE_RULES:
        raise OptionError(f"ranges = {name}: known are {', '.join(RANGE_RULES)}")
    return RANGE_RULES[str(name)]


@final
@dataclass(frozen=True)
class CodeOptions:
    """The options of theorems B and C: how ranges of neurons are found."""

    ranges: RangeRule = field(default_factory=lambda: RANGE_RULES["features"])

    @staticmethod
    def parse(values: Mapping[str, int | str]) -> "CodeOptions":
        """The rule of this name; raises OptionError with the valid ones."""
        return CodeOptions(**{name: range_rule(value) for name, value in values.items()})

    def as_claim(self) -> dict[str, int | str]:
        """The name of the rule."""
        return {"ranges": self.ranges.name}


def neuron_ranges(
    rule: RangeRule,
    codes: Codes,
    group: Group,
    reach: Ball,
    beta: Ball,
    weight: Ball,
    radius: float,
    ledger: Ledger,
) -> Ends:
    """The ranges of ``z_hat`` and ``z`` of the members at some neurons.

    reach: what atoms add before these neurons, ``[A, m]``; beta: ``[m]``; weight: their columns of
    W_in, ``[d, m]``; radius: ``rho_C``.
    """
    low, high = rule.ends(codes, group, reach, ledger)
    room = Ball.exact(norm_upper(weight, axis=0), ledger) * Ball.exact(np.array([radius]), ledger)
    lower = beta + Ball.exact(low, ledger) - room
    upper = beta + Ball.exact(high, ledger) + room
    return lower.lower(), upper.upper()
