"""Numbers that are not proofs: each is an estimate and carries its error bar."""

from ._binomial import Interval as Interval
from ._binomial import clopper_pearson as clopper_pearson
from ._sampling import AccuracyEstimate as AccuracyEstimate
from ._sampling import LabelledSequences as LabelledSequences
from ._sampling import OneHeadWeights as OneHeadWeights
from ._sampling import last_position_logits as last_position_logits
from ._sampling import sample_accuracy as sample_accuracy
