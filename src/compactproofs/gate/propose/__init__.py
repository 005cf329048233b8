"""Proposers: what could explain a surprising pattern. One kind of explanation a file.

A proposer looks at the mine data, the weights and the rules so far, and answers with proposals: a
prediction made in advance, its price in bits, and what it adds to the presumption. Nothing that a
proposer says is believed; see `Proposer` for how to add one.
"""

from ._common_cause import CommonCause
from ._constant import Constant
from ._feature_sum import FeatureSum
from ._joint import Joint
from ._linear import Linear
from ._merge import Merge
from ._proposal import Accepted, Decoded, LayerBelow, Proposal, Proposer, State
from ._weights_derived import WeightsDerived

__all__ = [
    "Accepted",
    "CommonCause",
    "Constant",
    "Decoded",
    "FeatureSum",
    "Joint",
    "LayerBelow",
    "Linear",
    "Merge",
    "Proposal",
    "Proposer",
    "State",
    "WeightsDerived",
    "measured_proposers",
]


def measured_proposers() -> list[Proposer]:
    """One of each kind whose rules are counted, the cheapest to state first."""
    return [
        WeightsDerived(),
        FeatureSum(),
        CommonCause(),
        Linear(),
        Constant(),
        Joint(),
        Merge(),
    ]
