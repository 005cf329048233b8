"""The exact confidence interval for a proportion, without scipy."""

import math
from typing import NamedTuple


class Interval(NamedTuple):
    """Ends of a confidence interval for a probability, 0 <= low <= high <= 1."""

    low: float
    high: float


def clopper_pearson(correct: int, samples: int, confidence: float) -> Interval:
    """Clopper-Pearson interval: it covers the truth with probability at least `confidence`.

    With a = (1 - confidence) / 2 the ends solve P(X >= correct; low) = a and
    P(X <= correct; high) = a for X binomial(samples, p), low being 0 when nothing was correct and
    high being 1 when everything was. The ends are floats, good to a millionth of the interval's
    width at a million samples: they are statistics, not bounds that a proof may use.

    Raises ValueError unless 0 <= correct <= samples, samples >= 1 and 0 < confidence < 1.
    Cost: about 60 tail sums of O(sqrt(samples)) terms for each end.
    """
    if samples < 1 or not 0 <= correct <= samples:
        raise ValueError(
            f"clopper_pearson: correct={correct}, samples={samples}, but 0 <= correct <= samples "
            "and samples >= 1 are needed"
        )
    if not 0 < confidence < 1:
        raise ValueError(
            f"clopper_pearson: confidence={confidence}, but it must lie strictly between 0 and 1"
        )
    tail = (1 - confidence) / 2
    low = _lower_end(correct, samples, tail)
    high = 1 - _lower_end(samples - correct, samples, tail)
    return Interval(low, high)


def _lower_end(successes: int, samples: int, tail: float) -> float:
    """The p at which P(X >= successes) = tail, rounded towards 0."""
    if successes == 0:
        return 0.0
    # The median of a binomial with whole mean is its mean, so at p = successes / samples the
    # tail is at least 1/2: the root lies below.
    low, high = 0.0, successes / samples
    while True:
        middle = (low + high) / 2
        if not low < middle < high:
            return low
        if _upper_tail_exceeds(successes, samples, middle, tail):
            high = middle
        else:
            low = middle


def _upper_tail_exceeds(successes: int, samples: int, p: float, limit: float) -> bool:
    """Whether P(X >= successes) > limit, for 0 < p < successes / samples."""
    # Beyond the mean the terms fall, and ever faster, so the sum may stop at the first one that
    # no longer counts.
    term = math.exp(
        math.lgamma(samples + 1)
        - math.lgamma(successes + 1)
        - math.lgamma(samples - successes + 1)
        + successes * math.log(p)
        + (samples - successes) * math.log1p(-p)
    )
    odds = p / (1 - p)
    total = term
    for count in range(successes, samples):
        if total > limit:
            return True
        term *= (samples - count) / (count + 1) * odds
        if term <= total * 1e-18:
            break
        total += term
    return total > limit
