"""Of the gate's statistics: intervals, the account of errors, credal sets, calibration, drift.

Left out, because they are sound: what is left of a tail dropped or bounded otherwise where the sum
stops, 2^-64 of the whole; any search of an end, which is verified; any entering column of the
simplex method, or an end as soon as its artificial variable is below 1, for rows are homogeneous;
a bound of a known conjunction that is never improved.
"""

from ..copies import Edit
from .form import Mutant, edits_of

GATE_STATISTICS = [
    *edits_of(
        "gate/_tails.py",
        (
            "largest term for the tail",
            "total += term\n    return",
            "total = max(total, term)\n    return",
        ),
        ("terms fall too fast", "(j + 1) * q_part", "(j + 2) * q_part"),
        ("low end rounded up", "_grid(found) if", "_grid(found + 16) if"),
        ("high end rounded down", "return _grid(-found)", "return _grid(-found - 16)"),
        ("a trial too many", "(n - k) * (-exact)", "(n - k + 1) * (-exact)"),
        ("binomial coefficient", "arb(k + 1).lgamma()", "arb(k + 2).lgamma()"),
    ),
    *edits_of(
        "gate/_proportions.py",
        ("alpha spent on each side", "check_alpha(alpha) / 2", "check_alpha(alpha)"),
        ("interval symmetric", "upper_end(k, n, half)", "(2 * Fraction(k, max(n, 1)))"),
        ("a failure not counted", "return upper_end(k,", "return upper_end(max(k - 1, 0),"),
        ("a hit too many", "return lower_end(k,", "return lower_end(min(k + 1, n),"),
        ("truth for a count", "type(value) is not int", "not isinstance(value, int)"),
    ),
    *edits_of(
        "gate/_confidence_sequences.py",
        ("evidence of half", "-log_of(alpha)", "-log_of(2 * alpha)"),
        ("mixture without its norm", "log_beta - arb.pi().log()", "log_beta"),
        (
            "union for intersection",
            "max(low, before.low), min(high, before.high)",
            "min(low, before.low), max(high, before.high)",
        ),
        (
            "empty intersection closed",
            "high = max(low, before.low), min(high, before.high)",
            "high = sorted((max(low, before.low), min(high, before.high)))",
        ),
        ("another alpha continued", " or before.alpha != alpha", ""),
        ("misses forgotten", "before.n - before.k <= n - k", "before.n <= n"),
    ),
    *edits_of(
        "gate/_alpha.py",
        ("too large a share", "Fraction(113, 355)", "Fraction(106, 333)"),
        ("harmonic shares", "/ (j * j)", "/ j"),
        ("never overdrawn", "self._sum > self.total", "self._sum > 1"),
        ("spent twice", "if name in self._spent:", "if name in () and self._spent:"),
        ("place not advanced", "self._next += 1", "pass"),
    ),
    *edits_of(
        "gate/_credal.py",
        (
            "infimum over the empty set",
            "not known.consistent or not event",
            "not event",
        ),
        ("empty interval", "all(s.low <= s.high for s in statements)", "True"),
        ("few events decided", "EXACT_EVENTS: Final = 12", "EXACT_EVENTS: Final = 2"),
        (
            "many events not decided at all",
            "return all(_has_member(*part) for part in _components(rest))",
            "return True",
        ),
        ("upper ends not checked", "unit * ab - high * a", "unit * ab - unit * a"),
        ("lower ends not checked", "low * a - unit * ab", "0 * a - unit * ab"),
        ("components not joined", "if part[0] & events:", "if part[0] == events:"),
        ("given nothing", "Rule(mask(s.antecedent),", "Rule(mask(frozenset()),"),
    ),
    Mutant(
        "what nobody names is sure",
        (
            Edit("gate/_credal.py", " or not event <= known.place.keys()", ""),
            Edit(
                "gate/_credal.py",
                "known.bounds.lower(known.mask(event))",
                "known.bounds.lower(known.mask(frozenset(event & known.place.keys())))",
            ),
        ),
    ),
    *edits_of(
        "gate/_conjunctions.py",
        ("independent conjunctions", "max(gap, _NONE))", "max(gap, _NONE) * self._lower[base])"),
        ("independence of a rule", "else self._upper[rule.given]", "else self._lower[base]"),
        ("rule without its antecedent", "if rule.given & ~base == 0:", "if True:"),
        ("what is common, from below", "self._at_most(side & base)", "self._at_least(side & base)"),
        ("nothing in common", "self._at_most(side & base) - ", "self._upper[side] - "),
        ("one piece pays for all", "best = cost + more", "best = max(cost, more)"),
        ("one of many pays for all", "sum(paid, _NONE)", "max(paid)"),
        ("one of many is enough", "if len(paid) == len(bits)", "if paid"),
        ("less likely, so more", "if side & ~event == 0", "if event & ~side == 0"),
        ("upper of a chain", "rule.high * self._upper[rule.given]", "rule.high * rule.high"),
        ("high for low", "(1 - rule.low) * share", "(1 - rule.high) * share"),
        (
            "contradiction of closed forms",
            "self._lower[side] > self._upper[side]",
            "self._lower[side] > 1",
        ),
    ),
    *edits_of(
        "gate/_feasibility.py",
        ("first row not checked", "if worst < 0:", "if worst < 1:"),
        ("anything feasible", "at[place] == 0", "at[place] <= 1"),
        ("nearly infeasible", "if best > 0 else -1", "if best > 8 else -1"),
    ),
    *edits_of(
        "gate/_calibration.py",
        ("first that fails", "return i - 1", "return i"),
        ("plug-in", "upper_risk(k, n, alpha) > delta", "k > delta * n"),
        (
            "last that passes",
            "            return i - 1\n    return len(bad) - 1",
            "            continue\n        last = i\n    return locals().get('last', -1)",
        ),
        ("of none, all", "[n] * len(bad), delta", "[max(n, 999)] * len(bad), delta"),
        ("family not nested", "if counts[i] < counts[i - 1]:", "if False:"),
        ("ratio forgotten", 'bound = _number("ratio", ratio, None) * delta', "bound = delta"),
        (
            "larger of risk and distance",
            'delta + _number("tv", tv, 1)',
            'max(delta, _number("tv", tv, 1))',
        ),
        (
            "mixture of weights alone",
            'delta + _number("mixture weight", weight, 1) *',
            'delta + _number("mixture weight", weight, 1) ** 2 *',
        ),
    ),
    *edits_of(
        "gate/_exchangeability.py",
        ("ties not counted", "p = Fraction(total - at, total)", "p = Fraction(total - at - "
         "self._scores[at:].count(score), total)"),
        (
            "itself not counted",
            "p = Fraction(total - at, total)",
            "p = Fraction(max(total - at - 1, 1), total)",
        ),
        ("small for large", "p = Fraction(total - at, total)", "p = Fraction(at + 1, total)"),
        ("bets above fair", "return e * root // 8", "return (e + 1) * root // 8"),
        ("a root too few", "for _ in range(3):", "for _ in range(2):"),
        ("stakes from nowhere", "self.seen * (self.seen + 1)", "(self.seen + 1)"),
        ("reserve not spent", "_UNIT // (self.seen + 1)", "_UNIT // 1"),
        ("alarm forgotten when stored", "= reference, wealth, fired", "= reference, wealth, False"),
        (
            "fresh scores stored as reference",
            '"reference": self._reference',
            '"reference": len(self._scores)',
        ),
    ),
]  # fmt: skip
