"""Of single edits and of facts about structure.

Left out: a unit that is 0 with derivative 0 taken for on, as either is right; a line with another
slope than the one asked for, which is as true; ends a rounding too near.
"""

from .form import edits_of

_SINGLE_SITE = [
    *edits_of(
        "gate/_exact_suffix.py",
        (
            "the bias is not scaled",
            "z = active @ layer.W + one * layer.b",
            "z = active @ layer.W + layer.b",
        ),
        ("the skip connection is forgotten", "z = z + start @ suffix.skip", "pass"),
        (
            "all denominators are the first",
            "lcm(*(value.denominator for value in point))",
            "point[0].denominator",
        ),
        (
            "a cut behind a ReLU meets it again",
            "relu = layer.relu and not (after_relu and number == first)",
            "relu = layer.relu",
        ),
    ),
    *edits_of(
        "gate/_single_site.py",
        (
            "a tie is a win",
            "any(value <= 0 for value, _ in margins)",
            "any(value < 0 for value, _ in margins)",
        ),
        ("the tie is inside", "return tie, True, kinks", "return tie, False, kinks"),
        (
            "ties behind are met",
            "for value, grows in margins if grows < 0)",
            "for value, grows in margins if grows != 0)",
        ),
        ("units switch off alone", "np.where(on, slope < 0, slope > 0)", "on & (slope < 0)"),
        ("a unit at 0 stays as it was", "(there > 0) | ((there == 0) & (slope > 0))", "there > 0"),
        (
            "a unit that falls from 0 is on",
            "((there == 0) & (slope > 0))",
            "((there == 0) & (slope < 0))",
        ),
        (
            "the piece at the start",
            "value * at.denominator + slope * at.numerator",
            "value * at.denominator",
        ),
        (
            "the last of the layers is walked on from",
            "0 if nearest is None else layers[0]",
            "0 if nearest is None else layers[-1]",
        ),
        ("one direction", "slope[index] = direction * one", "slope[index] = one"),
        (
            "the skip connection does not move",
            "slope = slope + lines[0].slope @ suffix.skip",
            "pass",
        ),
        ("negative denominators", "        if down < 0:\n            up, down = -up, -down\n", ""),
        ("the farthest zero", "up * best[1] < best[0] * down", "up * best[1] > best[0] * down"),
        ("an open end is covered", "low == self.low and not self.open_low", "low == self.low"),
        (
            "an open high end is covered",
            "high == self.high and not self.open_high",
            "high == self.high",
        ),
        ("infinity is covered", "abs(high) < np.inf and low <= high", "low <= high"),
        (
            "the first rival alone",
            "return [(value[label] - value[k], slope[label] - slope[k]) for k in rivals]",
            "return [(value[label] - value[k], slope[label] - slope[k]) for k in rivals[:1]]",
        ),
    ),
]

_STRUCTURE = [
    *edits_of(
        "gate/_structure_units.py",
        ("whatever looks like a fact is one", "if type(fact) is not kind:", "if not kind:"),
        (
            "dead at the lower end",
            "dead.append(unit.high[0] <= 0)",
            "dead.append(unit.low[0] <= 0)",
        ),
        (
            "stable at the upper end",
            "stable.append(unit.low[0] >= 0)",
            "stable.append(unit.high[0] >= 0)",
        ),
        (
            "unused where one weight is 0",
            "~network.layers[number].W.any(axis=1)",
            "~network.layers[number].W.all(axis=1)",
        ),
        (
            "unused in a linear layer where one weight is 0",
            "else ~layer.W.any(axis=1)",
            "else ~layer.W.all(axis=1)",
        ),
        (
            "a layer is linear if one unit is",
            "not facts.stable[units][kept].all()",
            "not facts.stable[units][kept].any()",
        ),
        (
            "signs of the units left out",
            "pattern.append(cell.pattern[units][kept])",
            "pattern.append(cell.pattern[units][: kept.sum()])",
        ),
        (
            "the skip connection is folded away",
            "ReluNetwork(tuple(layers), network.skip)",
            "ReluNetwork(tuple(layers), None)",
        ),
        (
            "facts outlive a change of the network",
            "!= (network.sha256, sites.sha256, cell.id)",
            "!= (about[0], sites.sha256, cell.id)",
        ),
        (
            "facts are of any cell",
            "!= (network.sha256, sites.sha256, cell.id)",
            "!= (network.sha256, sites.sha256, about[2])",
        ),
    ),
    *edits_of(
        "gate/_structure_paths.py",
        (
            "several undecided units add up",
            "if len(others) > 1 or coefficients[0] < 0:",
            "if coefficients[0] < 0:",
        ),
        (
            "a ReLU of negative multiples",
            "if len(others) > 1 or coefficients[0] < 0:",
            "if len(others) > 1:",
        ),
        (
            "the rest is not clipped from below",
            "low, high = min(low, 0.0), max(high, 0.0)\n    return",
            "low, high = low, max(high, 0.0)\n    return",
        ),
        (
            "the rest is not clipped from above",
            "low, high = min(low, 0.0), max(high, 0.0)\n    return",
            "low, high = min(low, 0.0), high\n    return",
        ),
        ("a constant before the ReLU", "low, high = max(low, 0.0), max(high, 0.0)", "pass"),
        ("the unit alone is stable", "involved = [unit, *others]", "involved = [unit]"),
        ("sums for differences", "f[list(others)] = -np.asarray(", "f[list(others)] = np.asarray("),
        ("the lower end twice", "return low, -negative", "return low, low"),
        (
            "margins grow by what is lost",
            "Ball.exact(margins, ledger) - Ball.exact(difference, ledger)",
            "Ball.exact(margins, ledger) + Ball.exact(difference, ledger)",
        ),
        ("nothing need remain", "if not (remaining > 0).all():", "if not (remaining > 0).any():"),
        ("signs hold after a change", "            if same:\n", "            if True:\n"),
        (
            "on in one run",
            "both_on = (z.lower() >= 0) & (other.lower() >= 0)",
            "both_on = z.lower() >= 0",
        ),
        (
            "off in one run",
            "both_off = (z.upper() <= 0) & (other.upper() <= 0)",
            "both_off = z.upper() <= 0",
        ),
        (
            "a ReLU does not clip from below",
            "np.where(both_off, 0.0, np.minimum(low, 0.0))",
            "np.where(both_off, 0.0, low)",
        ),
        (
            "a ReLU does not clip from above",
            "np.where(both_off, 0.0, np.maximum(high, 0.0))",
            "np.where(both_off, 0.0, high)",
        ),
        ("the other run moves the other way", "    other = z - d\n", "    other = z + d\n"),
        ("biases are the same", "+ (b - c) + extra", "+ extra"),
        ("differences do not go on", "d = d @ V + z @ R", "d = z @ R"),
        ("weights of the first network", "d = d @ V + z @ R", "d = d @ W + z @ R"),
        ("what relations leave is nothing", "+ (b - c) + extra", "+ (b - c)"),
        ("a moved row is gone", "R = kept + Ball.exact(taken, ledger) * row", "R = kept"),
        ("a moved row stays", "keep[relation.unit] = 0.0", "keep[relation.unit] = 1.0"),
        ("the lower end of the difference", "return d.upper()[0]", "return d.lower()[0]"),
        (
            "ranges before the ReLU",
            "z = Ball.between(np.maximum(z.lower(), 0.0), np.maximum(z.upper(), 0.0), ledger)",
            "z = Ball.between(np.minimum(z.lower(), 0.0), np.minimum(z.upper(), 0.0), ledger)",
        ),
    ),
    *edits_of(
        "gate/_structure_irrelevance.py",
        ("the pattern is kept", "pattern=np.zeros_like(cell.pattern),", "pattern=cell.pattern,"),
        ("events of free sites are kept", "    changed[chosen] = True\n", ""),
        ("ranges are not widened", "wide_low[chosen], wide_high[chosen] = low, high", "pass"),
        ("values below 0 behind a ReLU", "if sites.after_relu and (low < 0).any():", "if False:"),
        (
            "the first free site alone",
            "wide_low[chosen], wide_high[chosen] = low, high",
            "wide_low[chosen[0]], wide_high[chosen[0]] = low[0], high[0]",
        ),
    ),
    *edits_of(
        "gate/_structure_lines.py",
        (
            "the line is what was asked for",
            "line = Ball.exact(after[:, rivals], ledger) - Ball.exact(before[:, rivals], ledger)",
            "line = Ball.exact(-A, ledger)",
        ),
        ("the skip connection is left out", "        before = network.skip\n", "        pass\n"),
        ("the residual is free", "@ A - loss + exact", "@ A + exact"),
        ("the residual helps", "@ A - loss + exact", "@ A + loss + exact"),
        (
            "the bias is forgotten",
            "(exact(bias[None]) @ A - loss",
            "(exact(0 * bias[None]) @ A - loss",
        ),
    ),
    *edits_of(
        "gate/_structure_merge.py",
        ("lower ends do not matter", "(outer.low <= inner.low).all() and ", ""),
        ("upper ends do not matter", " and (outer.high >= inner.high).all()", ""),
        ("signs do not matter", "return bool(box and signs) and all(", "return bool(box) and all("),
        (
            "the same event is enough",
            "if (same & (inner.row_low >= low) & (inner.row_high <= high)).any():",
            "if same.any():",
        ),
        (
            "events above do not matter",
            "same & (inner.row_low >= low) & (inner.row_high <= high)",
            "same & (inner.row_low >= low)",
        ),
        ("any event will do", "(inner.rows == row).all(axis=1)", "(inner.rows == row).any(axis=1)"),
        (
            "open ranges are finite",
            "        return False\n    ledger",
            "        return True\n    ledger",
        ),
        ("the near end of an event", "value.upper()[0, 0] <= high", "value.lower()[0, 0] <= high"),
        (
            "any label",
            "(len(outer.low), len(outer.pattern), outer.label) != (",
            "(len(outer.low), len(outer.pattern), inner.label) != (",
        ),
    ),
]

GATE_STRUCTURE = [*_SINGLE_SITE, *_STRUCTURE]
