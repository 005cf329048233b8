"""The risk of what is admitted: calibrated on fresh labelled data (G2b), and under shift (G2c)."""

from collections.abc import Sequence
from fractions import Fraction

from .._errors import OptionError
from ._proportions import check_alpha, check_counts, upper_risk


def fixed_sequence(bad: Sequence[int], n: int, delta: Fraction, alpha: Fraction) -> int:
    """The last of a family of admission sets whose risk is certainly small; -1 if none is.

    The family is A_0 within A_1 within ..., fixed before the n labelled points were seen;
    ``bad[i]`` counts the points that A_i admits and that are bad. Returns the largest j such that
    ``upper_risk(bad[i], n, alpha) <= delta`` for all i <= j.

    Law (G2b): with probability at least 1 - alpha over the points, drawn independently from D,
    ``P_D(admitted by A_j and bad) <= delta``. Proof: let s be the first set whose true risk exceeds
    delta. j >= s needs the bound at s, one fixed set, to err: probability at most alpha. So no
    share of alpha is paid for the length of the family. Fixed-sequence testing, as in Learn then
    Test (Angelopoulos et al. 2021); the bound for one set is Geifman and El-Yaniv's (2017).

    Raises OptionError for counts that are none or that fall along the family, and for delta or
    alpha outside (0, 1). Cost: a Clopper-Pearson end a set.
    """
    return fixed_sequence_given(bad, [n] * len(bad), delta, alpha)


def fixed_sequence_given(
    bad: Sequence[int], admitted: Sequence[int], delta: Fraction, alpha: Fraction
) -> int:
    """The same for the risk *given* admission: ``P_D(bad given admitted by A_j) <= delta``.

    ``admitted[i]`` counts the points that A_i admits. Given that number, the bad among them are
    binomial, so the same proof holds. A set that admitted nothing is not certain of anything, and
    ends the sequence.

    Raises and costs as ``fixed_sequence``.
    """
    _check_delta(delta)
    check_alpha(alpha)
    if len(bad) != len(admitted):
        raise OptionError(f"{len(bad)} counts of bad, {len(admitted)} of admitted: give one a set")
    for k, n in zip(bad, admitted, strict=True):
        check_counts(k, n)
    for name, counts in (("bad", bad), ("admitted", admitted)):
        for i in range(1, len(counts)):
            if counts[i] < counts[i - 1]:
                raise OptionError(
                    f"{name}[{i}]={counts[i]} is below {name}[{i - 1}]={counts[i - 1]}: the sets "
                    "are not nested, so they are no family to choose from"
                )
    for i, (k, n) in enumerate(zip(bad, admitted, strict=True)):
        if upper_risk(k, n, alpha) > delta:
            return i - 1
    return len(bad) - 1


def shifted(
    delta: Fraction,
    *,
    ratio: Fraction | None = None,
    tv: Fraction | None = None,
    mixture: tuple[Fraction, Fraction] | None = None,
) -> Fraction:
    """The risk under Q of what has risk at most delta under D; exactly one kind of shift.

    ratio: B with dQ/dD <= B on the admitted set: B delta. tv: the total variation of Q and D is at
    most t: delta + t. mixture: (e, z), Q = (1 - e) D + e Z, and Z has risk at most z, for example
    because it admits no more: delta + e z. Each at most 1 (G2c).

    Law: admitted and bad is an event W with D(W) <= delta; Q(W) is the integral of dQ/dD over W;
    or at most D(W) + t; or (1 - e) D(W) + e Z(W). Of an arbitrary Q nothing follows.

    Raises OptionError for none or several kinds, and for numbers out of range.
    """
    _check_delta(delta)
    kinds = {"ratio": ratio, "tv": tv, "mixture": mixture}
    given = [name for name, value in kinds.items() if value is not None]
    if len(given) != 1:
        raise OptionError(f"kinds of shift: {given}, but give exactly one of {list(kinds)}")
    if ratio is not None:
        bound = _number("ratio", ratio, None) * delta
    elif tv is not None:
        bound = delta + _number("tv", tv, 1)
    else:
        weight, risk = mixture or (Fraction(0), Fraction(0))
        bound = delta + _number("mixture weight", weight, 1) * _number("mixture risk", risk, 1)
    return min(bound, Fraction(1))


def _check_delta(delta: Fraction) -> None:
    if type(delta) is not Fraction or not 0 < delta < 1:
        raise OptionError(f"delta={delta!r} is not a risk: give a Fraction with 0 < delta < 1")


def _number(name: str, value: Fraction, most: int | None) -> Fraction:
    if type(value) is not Fraction or value < 0 or (most is not None and value > most):
        ranges = "at least 0" if most is None else f"within [0, {most}]"
        raise OptionError(f"{name}={value!r}: give a Fraction {ranges}")
    return value
