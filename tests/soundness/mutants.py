"""Unsound kernels, one small edit each: a suite that cannot tell them from the kernel is blind.

An edit replaces a snippet that occurs exactly once in its file. Left out, because no test can or
should catch them alone (each was tried or argued through):

* ``b_K`` dropped, or any shift of the scores common to a query (the sign of ``shift`` in
  ``integer_tables`` and ``verify_tables`` together): a softmax does not change.
* ``_counting``: bin width ``floor(W/B)``: the limit is computed from the width, so every width is
  sound; the unsound form, with the limit ``B``, is listed as a pair of edits.
* ``weight_low < 0`` accepted by ``_check_form``: looser, and still encloses.
* ``Ball.__matmul__`` without ``8 n rho``: where subnormals are kept (``check_arithmetic`` asks),
  ``_outward`` adds more than a product of fewer than 2^57 terms can lose. It matters to threads
  that flush to zero, which tests/kernel makes in a process of their own.
* ``reciprocal_sqrt`` with a bad guess: its exact check refuses it (the pair that also removes the
  check is listed).
* ``conclude`` without its cover check: it guards against defects elsewhere, which are listed.
* the mean position dropped from the keys of ``qk_factors``: it adds one number to a row of scores.
* ``moves`` that keep useless targets, ``_trim`` that keeps dead states: the same words, more work.
"""

from typing import NamedTuple

from .copies import Edit


class Mutant(NamedTuple):
    """An unsound kernel."""

    breaks: str
    edits: tuple[Edit, ...]


def _in(file: str, *rows: tuple[str, str, str]) -> list[Mutant]:
    return [Mutant(breaks, (Edit(file, old, new),)) for breaks, old, new in rows]


_MARGINS = _in(
    "_margins.py",
    (
        "sign of the direct term",
        "self._value_high[positions][:, tokens] + self._direct_high[query]",
        "self._value_high[positions][:, tokens] - self._direct_high[query]",
    ),
    (
        "label and other output swapped",
        "return wrong - b[..., label, None].astype(np.int64)",
        "return b[..., label, None].astype(np.int64) - wrong",
    ),
    (
        "value of the label from its upper end",
        "difference(claimed.value_high, claimed.value_low)",
        "difference(claimed.value_high, claimed.value_high)",
    ),
    (
        "direct logit of the other output from its lower end",
        "difference(claimed.direct_high, claimed.direct_low)",
        "difference(claimed.direct_low, claimed.direct_low)",
    ),
    (
        "weights of positive and negative brackets swapped",
        "np.where(bracket >= 0, high, low) * bracket",
        "np.where(bracket >= 0, low, high) * bracket",
    ),
    (
        "upper weight for negative brackets too",
        "np.where(bracket >= 0, high, low) * bracket",
        "high * bracket",
    ),
    ("upper bounds rounded down", "return -((-product) >> ", "return ((product) >> "),
    (
        "large negative products shifted too little",
        "-((-product) >> np.minimum(by, 63))",
        "-((-product) >> np.minimum(by, 62))",
    ),
    ("lower bounds rounded up", "lower = _shift_down(", "lower = _shift_up("),
    ("sums overflow: no headroom", "tables.n_ctx.bit_length() + 2", "0"),
    (
        "class unit from the wrong query slot",
        "top = int(self._exponent[-1, query, query])",
        "top = int(self._exponent[0, query, query])",
    ),
    (
        "class unit from the query slot alone",
        "if len(self._exponent) > 1 and tokens.size:",
        "if False:",
    ),
    (
        "weights shifted by a position",
        "high = self._weight_high[positions, query][:, tokens, None]",
        "high = np.roll(self._weight_high, 1, axis=0)[positions, query][:, tokens, None]",
    ),
    (
        "values of the mirrored position",
        "self._value_high[positions][:, tokens]",
        "self._value_high[::-1][positions][:, tokens]",
    ),
    (
        "one exponent for all tokens of a position",
        "by = scale - self._exponent[positions, query][:, tokens, None]",
        "by = scale - self._exponent[positions, query].max(axis=1)[:, None, None]",
    ),
    (
        "sequence without its query slot",
        "np.where(above >= 0, high, low) * above, by).sum(axis=1)",
        "np.where(above >= 0, high, low) * above, by)[:, :-1].sum(axis=1)",
    ),
    (
        "sequence with the lower direct end",
        "above = self._value_high[positions, tokens] + self._direct_high[query][:, None]",
        "above = self._value_high[positions, tokens] + self._direct_low[query][:, None]",
    ),
)

_ADDITIVE = _in(
    "theorems/additive.py",
    (
        "query slot at the first position",
        "last = slice(words.length, words.length + 1)",
        "last = slice(0, 1)",
    ),
    ("letters mixed up", "for _ in letter], np.int64)", "for _ in letter][::-1], np.int64)"),
    ("skipped classes called right", "wrong = size\n", "wrong = 0\n"),
    (
        "enumeration against one output",
        "at_risk = np.flatnonzero(worst >= 0)",
        "at_risk = np.flatnonzero(worst >= 0)[:1]",
    ),
)

_SLACK = _in(
    "_slack.py",
    (
        "base missing from the budget",
        "budgets = (at_query + highest.sum(axis=0)).tolist()",
        "budgets = np.maximum(highest.sum(axis=0), 0).tolist()",
    ),
    (
        "positive base missing from the worst word",
        "best = {0: terms.at_query}",
        "best = {0: np.minimum(terms.at_query, 0)}",
    ),
    ("ties called right", "np.asarray(worst >= 0)", "np.asarray(worst > 0)"),
    (
        "union over outputs as a maximum",
        "wrong_by_output += wrong",
        "wrong_by_output = max(wrong_by_output, wrong)",
    ),
    (
        "joint row of the first output only",
        "joint = rows.max(axis=-1, keepdims=True)",
        "joint = rows[..., :1]",
    ),
    (
        "joint row as a minimum",
        "joint = rows.max(axis=-1, keepdims=True)",
        "joint = rows.min(axis=-1, keepdims=True)",
    ),
    (
        "slack counted twice",
        "slack = np.moveaxis(highest[:, None, :] - before, 2, 0)",
        "slack = 2 * np.moveaxis(highest[:, None, :] - before, 2, 0)",
    ),
    (
        "worst word as the best",
        "np.maximum(following[target], candidate)",
        "np.minimum(following[target], candidate)",
    ),
    (
        "best token of a letter instead of the worst",
        "terms.before[:, terms.letter_of == letter].max(axis=1)",
        "terms.before[:, terms.letter_of == letter].min(axis=1)",
    ),
    ("a single open output ignored", "if not open_outputs.size:", "if open_outputs.size < 2:"),
    ("shared columns counted once", "ledger, terms.multiplicity", "ledger, None"),
    ("no bins prove everything", "return words.size", "return 0"),
)

_REMAINDER = _in(
    "_remainder.py",
    ("ties dropped", "(sums + bound) >= 0", "(sums + bound) > 0"),
    ("open against all outputs", ".any(axis=-1)", ".all(axis=-1)"),
    (
        "only one letter of a move",
        "np.isin(terms.letter_of, letters)",
        "terms.letter_of == letters[0]",
    ),
    ("a prefix lost at the end of a block", "len(prefixes), rows)", "len(prefixes), rows + 1)"),
    ("worst completion as the best", "np.maximum(largest, way)", "np.minimum(largest, way)"),
    (
        "best token of a letter instead of the worst",
        "terms.letter_of == letter].max(axis=0)",
        "terms.letter_of == letter].min(axis=0)",
    ),
    (
        "base forgotten",
        "reached = {0: terms.at_query[None, :]}",
        "reached = {0: 0 * terms.at_query[None, :]}",
    ),
    (
        "one state's words counted",
        "for prefixes in reached.values())",
        "for prefixes in list(reached.values())[:1])",
    ),
)

_COLUMNS = _in(
    "_columns.py",
    ("far tokens counted once", "shared.append(len(tokens) - len(beyond))", "shared.append(1)"),
)

_SCALED = _in(
    "_scaled.py",
    (
        "large negative numbers scaled too little",
        "np.where((by < DEEPEST) & (above < 0), 0.0, above)",
        "above",
    ),
    (
        "upper integers rounded down",
        "np.ceil(np.ldexp(number, -unit))",
        "np.floor(np.ldexp(number, -unit))",
    ),
    (
        "lower integers rounded up",
        "np.floor(np.ldexp(number, -unit))",
        "np.ceil(np.ldexp(number, -unit))",
    ),
    (
        "lower numbers as upper ones",
        "return -scaled_up(-product, by)",
        "return scaled_up(product, by - 1)",
    ),
)

_SPLIT = _in(
    "_split.py",
    (
        "upper ends rounded down",
        "-(Counted.of(-table.astype(np.int64), ledger) >> 2)",
        "Counted.of(table.astype(np.int64), ledger) >> 2",
    ),
    (
        "least position value",
        "(value_high - value_low[0]).max(axis=1)",
        "(value_high - value_low[0]).min(axis=1)",
    ),
    (
        "best position instead of the worst",
        "self.G_low[:, label, None]).max(axis=0)",
        "self.G_low[:, label, None]).min(axis=0)",
    ),
    (
        "second largest everywhere",
        "np.where(here, rest.max(axis=1)",
        "np.where(here | True, rest.max(axis=1)",
    ),
    (
        "direct logits of the wrong end",
        "self.H_high = _up(claimed.direct_high, ledger)",
        "self.H_high = _down(claimed.direct_low, ledger)",
    ),
)

_WINDOWED = _in(
    "theorems/windowed.py",
    (
        "weights of positive and negative products swapped",
        "np.where(high >= 0, w_high, w_low)",
        "np.where(high >= 0, w_low, w_high)",
    ),
    (
        "weights of the label's products swapped",
        "np.where(low >= 0, w_low, w_high)",
        "np.where(low >= 0, w_high, w_low)",
    ),
    (
        "best far token instead of the worst",
        "np.maximum.accumulate(high, axis=1)",
        "np.minimum.accumulate(high, axis=1)",
    ),
    (
        "label's best far token",
        "np.minimum.accumulate(low, axis=1)",
        "np.maximum.accumulate(low, axis=1)",
    ),
    ("far bound of the first token", "self.prefix_high[:, at]", "self.prefix_high[:, :1]"),
    (
        "only the upper ends centred",
        "return lower - centre, upper - centre",
        "return lower, upper - centre",
    ),
    (
        "query slot of the first token",
        "products(slice(last, last + 1), np.array([query]))",
        "products(slice(last, last + 1), np.array([0]))",
    ),
    (
        "query slot at the first position",
        "products(slice(last, last + 1), np",
        "products(slice(0, 1), np",
    ),
    (
        "one exponent for all tokens",
        "by = exponent[at][:, tokens, None] - top",
        "by = exponent[at][:, :1, None] - top",
    ),
)

_COLLAPSED = _in(
    "theorems/collapsed.py",
    ("value of the label token dropped", "_largest(direct + rows[label])", "_largest(direct)"),
    (
        "direct path subtracted",
        "own = bracket + rest[query, label]",
        "own = bracket - rest[query, label]",
    ),
    (
        "position path dropped",
        "split.F_low[:, label, None] + path  #",
        "split.F_low[:, label, None]  #",
    ),
    (
        "position path dropped from the shared row",
        "rows = mu - mu[:, None] + path",
        "rows = mu - mu[:, None] + 0 * path",
    ),
    ("far weight of the wrong end", "self.largest if shared > 0", "self.largest if shared < 0"),
    (
        "spread of F from its largest entries",
        "D=split.F_high.max(axis=1) - split.F_low.min(axis=1)",
        "D=split.F_high.max(axis=1) - split.F_low.max(axis=1)",
    ),
    (
        "spread of H from its largest entries",
        "(split.H_low - mu).min(axis=1)",
        "(split.H_low - mu).max(axis=1)",
    ),
    (
        "label's own value added",
        "rm=_off_diagonal(with_F) - diagonal",
        "rm=_off_diagonal(with_F) + diagonal",
    ),
    (
        "weights of positive and negative brackets swapped",
        "np.where(bracket >= 0, high, low)",
        "np.where(bracket >= 0, low, high)",
    ),
    (
        "bounds rounded down",
        "-((-(weight * bracket)) >> np.minimum(by, 63))",
        "((weight * bracket) >> np.minimum(by, 63))",
    ),
    (
        "far spread dropped",
        "in_units_up(self.spread[:, far], down) + in_units_up(product, down)",
        "in_units_up(product, down)",
    ),
    (
        "shared part of far tokens dropped",
        "in_units_up(self.spread[:, far], down) + in_units_up(product, down)",
        "in_units_up(self.spread[:, far], down)",
    ),
    ("no headroom", "return top + self._headroom", "return top"),
    ("label bracket for every token", "at[tokens == label] =", "at[tokens <= label] ="),
    (
        "prefix of the wrong query",
        "spread = parts.D + parts.dH[query]",
        "spread = parts.D + 0 * parts.dH[query]",
    ),
    (
        "far weights by the smallest",
        "np.maximum.accumulate(scaled_up(high, by), axis=1)",
        "np.minimum.accumulate(scaled_up(high, by), axis=1)",
    ),
)

_CUBIC = _in(
    "theorems/cubic.py",
    ("ties called right", "(worst < 0) & below", "(worst <= 0) & below"),
    (
        "weights of positive and negative brackets swapped",
        "np.where(bracket >= 0, weight_high, weight_low)",
        "np.where(bracket >= 0, weight_low, weight_high)",
    ),
    (
        "the mildest positions",
        "descending = -np.sort(-np.asarray(difference), axis=-1)",
        "descending = np.sort(np.asarray(difference), axis=-1)",
    ),
    (
        "query as if it were the label",
        "c[:, query, None], by_query",
        "c[:, query, None] - abs(c[:, query, None]), by_query",
    ),
    ("one sequence too many positions", "comb(k - 1, n)", "comb(k, n)"),
    (
        "larger tokens filled in",
        "below = np.arange(v)[None, :] < labels[:, None]",
        "below = np.arange(v)[None, :] <= labels[:, None]",
    ),
    (
        "direct path dropped",
        "brackets.rest[query, query:, None]  #",
        "0 * brackets.rest[query, query:, None]  #",
    ),
    ("no headroom", "+ k.bit_length() + 2", ""),
    ("position path dropped", "(split.F_high + self.path[m])", "(split.F_high)"),
    ("constant sequences called right", "right[0] = bool(", "right[0] = True or bool("),
    (
        "query's own value dropped",
        "path + (split.F_high[query] - split.F_low[query, labels, None])",
        "path",
    ),
    (
        "labels' positions dropped",
        "margin = np.asarray(labels_part + query_part)",
        "margin = np.asarray(query_part)",
    ),
    ("sequences without the maximum counted", "label == query or n < k - 1", "True"),
)

_SUBCUBIC = [
    *_in(
        "theorems/subcubic.py",
        (
            "one token too many below the gap",
            "- int(gap[query, label, n]) + 1",
            "- int(gap[query, label, n]) + 2",
        ),
        ("query counted as free", "free = n - (query != label)", "free = n"),
        (
            "W of the nearest token alone",
            "prefix = np.maximum.accumulate(parts.wrong, axis=0)",
            "prefix = parts.wrong",
        ),
        (
            "W from the largest gap",
            "np.where(claimed & (n > 0), far, -1).max(axis=0)",
            "np.where(claimed & (n > 0), far, v).min(axis=0) % v",
        ),
        (
            "smallest and largest R swapped",
            "np.where(above, R_high[:, None], R_low[:, None])",
            "np.where(above, R_low[:, None], R_high[:, None])",
        ),
        (
            "largest R on both sides",
            "np.where(above, R_high[:, None], R_low[:, None])",
            "np.where(above | True, R_high[:, None], R_low[:, None])",
        ),
        ("the other end where either may be worst", "(at_low < 0) & (at_high < 0)", "(at_low < 0)"),
        (
            "direct path dropped",
            "base[None] + exact(parts.dH)[:, None, None] + change",
            "base[None] + change",
        ),
        (
            "attention left out",
            "base[None] + exact(parts.dH)[:, None, None] + change",
            "base[None] + exact(parts.dH)[:, None, None]",
        ),
        (
            "direct path of the first position",
            "exact(model.W_pos[-1:]) + exact(model.b_O",
            "exact(model.W_pos[:1]) + exact(model.b_O",
        ),
        (
            "b_O dropped",
            "exact(model.W_pos[-1:]) + exact(model.b_O[None, :])",
            "exact(model.W_pos[-1:])",
        ),
        ("b_V dropped", " + exact(model.b_V[None, :])) @ circuit", ") @ circuit"),
        (
            "position path of the best position",
            "G.T[:v].T[:, :, None]).max(axis=0)",
            "G.T[:v].T[:, :, None]).min(axis=0)",
        ),
        (
            "position path dropped",
            "shared = mu - mu.T[:v] + path",
            "shared = mu - mu.T[:v] + path - path",
        ),
        ("shared row dropped", "shared = mu - mu.T[:v] + path", "shared = path"),
        (
            "constant sequences called right",
            ") < 0).all(axis=1)\n    right[",
            ") < 0).any(axis=1)\n    right[",
        ),
        (
            "unclaimed gaps of other queries",
            "& np.where(q == m, (n == 0) | (far >= 0), (n > 0) & (q <= far))",
            "& np.where(q == m, (n == 0) | (far >= 0), n > 0)",
        ),
        (
            "wrong logits from the lower end",
            "np.nextafter(best - lower, np.inf)",
            "np.nextafter(lower - best, np.inf)",
        ),
        ("b_Q dropped", "model.b_Q) * scale", "0 * model.b_Q) * scale"),
        (
            "query of the first position",
            "(tokens + positions[-1:]).T, ones",
            "(tokens + positions[:1]).T, ones",
        ),
    ),
    *_in(
        "theorems/_position_mass.py",
        ("error inward", "most[q, far]) - width)", "most[q, far]) + width)"),
        (
            "rivals' best for their worst",
            "lower[:, :, None] - most[q, far]",
            "lower[:, :, None] - least[q, far]",
        ),
        (
            "largest mass of the maximum",
            "M_low = _down(mass.smallest[q, copies]",
            "M_low = _down(mass.largest[q, copies]",
        ),
        (
            "smallest mass of the rivals",
            "R_high = _up(mass.largest[q, others]",
            "R_high = _up(mass.smallest[q, others]",
        ),
        (
            "own position with the maximum",
            "mass.largest[q, others] + np.where(is_maximum, zero, own_high)",
            "mass.largest[q, others] + zero",
        ),
        (
            "own position with the maximum, M",
            "mass.smallest[q, copies] + np.where(is_maximum, own_low, zero)",
            "mass.smallest[q, copies] + own_low",
        ),
        (
            "largest positions summed as smallest",
            "_sums(np.sort(low[:, :-1], axis=1), -1)",
            "_sums(np.sort(low[:, :-1], axis=1)[:, ::-1], -1)",
        ),
    ),
    *_in(
        "theorems/_row_spread.py",
        (
            "signs kept",
            "size = np.maximum(np.abs(matrix.lower()), np.abs(matrix.upper()))",
            "size = matrix.upper()",
        ),
        (
            "spread from the largest alone",
            "matrix.upper().max(axis=1) - matrix.lower().min(axis=1)",
            "matrix.upper().max(axis=1) - matrix.lower().max(axis=1)",
        ),
        (
            "mean row forgotten",
            "return _sum(spread(row @ right), weighted(left - row, spreads))",
            "return weighted(left - row, spreads)",
        ),
        (
            "mean row of a chain forgotten",
            "return _sum(spread(product), weighted(first - row, spreads))",
            "return weighted(first - row, spreads)",
        ),
        (
            "half the norm",
            "np.nextafter(np.ldexp(root, whole // 2), np.inf)",
            "np.nextafter(np.ldexp(root, whole // 2 - 1), np.inf)",
        ),
        (
            "powers of two forgotten",
            "exponent = 2 * (exponent + shifted)",
            "exponent = 2 * exponent",
        ),
    ),
    *_in(
        "theorems/_direct_path.py",
        (
            "b_U dropped",
            "return DirectBound(_zero(bias), spread(rows @ unembed + bias))",
            "return DirectBound(_zero(bias), spread(rows @ unembed))",
        ),
        (
            "mean row not subtracted from mu",
            "row @ unembed + bias, weighted(rows - row, spread(unembed))",
            "bias, weighted(rows - row, spread(unembed))",
        ),
        (
            "projections' deviation dropped",
            "both = weighted(off, spread(along)) + weighted(rest, spread(unembed))",
            "both = weighted(rest, spread(unembed))",
        ),
        (
            "rest of a projection dropped",
            "both = weighted(off, spread(along)) + weighted(rest, spread(unembed))",
            "both = weighted(off, spread(along))",
        ),
        (
            "b_U dropped from the rest",
            "return DirectBound(bias, weighted(rows, spread(unembed)))",
            "return DirectBound(_zero(bias), weighted(rows, spread(unembed)))",
        ),
    ),
    *_in(
        "theorems/_attention_error.py",
        (
            "residual forgotten",
            "AttentionBound(approximation, spread(left @ right))",
            "AttentionBound(approximation, 0 * spread(left @ right))",
        ),
        (
            "cross term dropped",
            "[u, rest_left @ eta.T], [xi @ right, w.T]",
            "[u, rest_left @ eta.T - rest_left @ eta.T], [xi @ right, w.T]",
        ),
        (
            "largest of the three splits' rivals",
            "np.minimum(np.minimum(*bounds[:2]), bounds[2])",
            "np.minimum(np.minimum(*bounds[:2]), bounds[2]) * 0.2",
        ),
        (
            "residual of the wrong sign",
            "return column, row, matrix - column @ row",
            "return column, row, matrix + column @ row",
        ),
        (
            "term of W_Q dropped",
            "rows.append((y @ factors.W_K.T) @ factors.key.T)",
            "rows.append((y - y) @ factors.W_K.T @ factors.key.T)",
        ),
        (
            "term of W_K dropped",
            "rows.append(f.T @ factors.key.T)",
            "rows.append((f - f).T @ factors.key.T)",
        ),
        ("term of the keys dropped", "rows.append(column.T)", "rows.append((column - column).T)"),
    ),
]

_FIRST_RIVAL = [
    *_in(
        "_first_rival.py",
        ("pivot added", "- (rival.eighths * bounds", "+ (rival.eighths * bounds"),
        ("smallest of a group", "reduce(np.maximum, conditions)", "reduce(np.minimum, conditions)"),
        (
            "outputs left out forgotten",
            "words, bins, ledger) if rest else 0",
            "words, 0, ledger) * 0",
        ),
        ("last group alone", "wrong += wrong_words", "wrong = wrong_words"),
        (
            "pivot's place for the output's",
            "8 * bounds[..., rival.output",
            "8 * bounds[..., rival.pivot",
        ),
    ),
    *_in(
        "theorems/additive.py",
        ("pivot later in the order", "(pivot in known if eighths else pivot == -1)", "True"),
        ("no bits to spare", "scale(query, tokens) + spare", "scale(query, tokens)"),
    ),
]

_COUNTING = [
    *_in(
        "_counting.py",
        (
            "limit one too low",
            "limit = (budget + int(offset.sum())) // width",
            "limit = max(0, (budget + int(offset.sum())) // width - 1)",
        ),
        ("limit exclusive", "inside = binned <= ", "inside = binned < "),
        (
            "slack rounded up",
            "binned = (row + offset[:, None]) // width",
            "binned = -(-(row + offset[:, None]) // width)",
        ),
        (
            "offsets forgotten in the limit",
            "limit = (budget + int(offset.sum())) // width",
            "limit = budget // width",
        ),
        (
            "tokens that share a column counted once",
            "np.add.at(counts, at[inside], np.broadcast_to(multiplicity, inside.shape)[inside])",
            "np.add.at(counts, at[inside], 1)",
        ),
        (
            "positions share their bins",
            "at = binned + (limit + 1) * np.arange(positions)[:, None]",
            "at = binned + limit * np.arange(positions)[:, None]",
        ),
        ("multiplicity of a term forgotten", "term *= count", "term *= 1"),
        ("shared tokens not in the slots", "(inside @ sharing)", "inside.sum(axis=1)"),
        ("mask one slot short", "(8 * slot * (limit + 1))", "(8 * slot * max(1, limit))"),
        ("slots of 4 bytes for any count", "max(4, (most.bit_length() + 8) // 8)", "4"),
        ("no spare bit in a slot", "(most.bit_length() + 8) // 8", "(most.bit_length() + 7) // 8"),
        (
            "words through other letters forgotten",
            "for letter in by_letter:",
            "for letter in by_letter[:1]:",
        ),
        (
            "words through other states forgotten",
            "following[target] = following.get(target, 0) + product",
            "following[target] = product",
        ),
    ),
    Mutant(
        "bin width rounded down under a limit of B",
        (
            Edit("_counting.py", "max(1, -(-budget // bins))", "max(1, budget // bins)"),
            Edit(
                "_counting.py",
                "limit = (budget + int(offset.sum())) // width",
                "limit = min(bins, (budget + int(offset.sum())) // width)",
            ),
        ),
    ),
]

_TASKS = _in(
    "_tasks.py",
    (
        "class size one token too many",
        "sum(len(self.letters[letter]) for letter in letters)",
        "sum(len(self.letters[letter]) for letter in letters) + 1",
    ),
    ("every word accepted", "if self.accepting[s]}", "}"),
    ("last letter forgotten", "enumerate(self.step[state]):", "enumerate(self.step[state][:-1]):"),
    ("query not read", "accepts = labels[step[:, query]] == label", "accepts = labels == label"),
    (
        "states told apart by token 0 alone",
        "np.column_stack([block, block[step]])",
        "np.column_stack([block, block[step[:, 0]]])",
    ),
    (
        "words of the maximum alone",
        "((0, 1), (1, 1)), (False, True)",
        "((0, 1), (1, 1)), (True, True)",
    ),
    ("one token too few", "tuple(range(m + 1))", "tuple(range(max(1, m)))"),
)

_BRUTE_FORCE = _in(
    "theorems/brute_force.py",
    ("ties called right in the first pass", "sums.max(axis=0) >= 0", "sums.max(axis=0) > 0"),
    ("ties called right in the second pass", "(upper < 0).all(axis=1)", "(upper <= 0).all(axis=1)"),
    ("right against one output is enough", "(upper < 0).all(axis=1)", "(upper < 0).any(axis=1)"),
    ("doubtful sequences called right", "several - len(doubtful)", "several"),
    (
        "a sequence lost at the end of a block",
        "range(0, len(prefix), rows)",
        "range(0, len(prefix), rows + 1)",
    ),
    ("only the best output looked at", "sums.max(axis=0) >= 0", "sums.min(axis=0) >= 0"),
    (
        "query slot at the first position",
        "last = slice(words.length, words.length + 1)",
        "last = slice(0, 1)",
    ),
    ("undecided called wrong", "(lower >= 0).any(axis=1)", "(upper >= 0).any(axis=1)"),
    ("terms of the first position", "terms[letter][position]", "terms[letter][0]"),
    ("only the first letter of a move", "for letter in by_letter:", "for letter in by_letter[:1]:"),
)

_TABLES = _in(
    "_tables.py",
    ("query at the first position", "tokens + positions[-1:]", "tokens + positions[:1]"),
    (
        "b_V dropped",
        "(tokens @ exact(model.W_V) + exact(model.b_V))",
        "(tokens @ exact(model.W_V))",
    ),
    ("b_O dropped", "(at_query + exact(model.b_O)) @ unembed", "at_query @ unembed"),
    (
        "b_Q dropped",
        "(at_query @ exact(model.W_Q) + exact(model.b_Q))",
        "(at_query @ exact(model.W_Q))",
    ),
    ("b_U dropped", " @ unembed + exact(model.b_U)", " @ unembed"),
    (
        "scores of the mirrored position",
        "qk_position.T[:, :, None]",
        "qk_position.T[::-1, :, None]",
    ),
    ("values of the mirrored position", "ov_position[:, None, :]", "ov_position[::-1, None, :]"),
    ("scores divided twice", "+ exact(model.b_Q)) * scale", "+ exact(model.b_Q)) * scale * scale"),
    (
        "queries and keys swapped",
        "qk_token = query @ key_token.T",
        "qk_token = key_token @ query.T",
    ),
) + _in(
    "_tables_arb.py",
    ("query at the first position", "last = embedded[-1]", "last = embedded[0]"),
    (
        "b_V dropped",
        "value = _plus_row(residual * _exact(model.W_V), model.b_V)",
        "value = residual * _exact(model.W_V)",
    ),
    ("scores not divided by the root", ".as_integer_ratio())).sqrt()", ".as_integer_ratio()))"),
)

_INTEGERS = _in(
    "_integers.py",
    ("lower ends rounded up", "np.floor(x - _MARGIN)", "np.ceil(x + _MARGIN)"),
    ("upper ends rounded down", "np.ceil(x + _MARGIN)", "np.floor(x - _MARGIN)"),
    ("margin inward", "np.ceil(x + _MARGIN)", "np.ceil(x - 8 * _MARGIN)"),
    (
        "any lower weight accepted",
        "weight.lower_exponent) > weight.lower",
        "weight.lower_exponent) < weight.lower",
    ),
    (
        "any upper weight accepted",
        "weight.upper_exponent) < weight.upper",
        "weight.upper_exponent) > weight.upper",
    ),
    ("any lower value accepted", "> tables.values.lower()", "< tables.values.lower()"),
    ("any upper value accepted", "< tables.values.upper()", "> tables.values.upper()"),
    ("any lower direct logit accepted", "> tables.direct.lower()", "< tables.direct.lower()"),
    ("any upper direct logit accepted", "< tables.direct.upper()", "> tables.direct.upper()"),
    ("one end is enough for Arb", "<= number) and bool(number <=", "<= number) or bool(number <="),
    (
        "doubts forgotten",
        "doubtful = _not_enclosed_by_arb(model, claimed, doubtful, bits)",
        "doubtful = {}",
    ),
)

_ENCLOSURE = [
    *_in(
        "_enclosure.py",
        (
            "product without rounding errors",
            "((inner + 4) * _U2) * (a @ b)",
            "(0.0 * _U2) * (a @ b)",
        ),
        ("product of radii dropped in @", "self.rad @ (b + other.rad)", "self.rad @ b"),
        (
            "product of radii dropped in *",
            "self.rad * (np.abs(other.mid) + other.rad)",
            "self.rad * np.abs(other.mid)",
        ),
        ("underflow forgotten", "(1.0 + 16.0 * _U2) + 2.0**-1018", "(1.0 + 16.0 * _U2)"),
        ("rounding of one operation forgotten", "carried + np.abs(mid) * _U2", "carried"),
        ("subnormal numbers read as 0", "(rad + _RHO) * (1.0 + 4 * _U2)", "rad"),
        ("subnormal numbers lost in a radius", "(rad + _RHO) * (1.0 + 4 * _U2)", "rad + _RHO"),
        (
            "lower ends not outward",
            "end = end - (np.abs(end) * (2 * _U2) + 2 * _RHO)",
            "end = end - 0.0",
        ),
        (
            "upper ends not outward",
            "end = end + (np.abs(end) * (2 * _U2) + 2 * _RHO)",
            "end = end + 0.0",
        ),
        ("ln 2 too short", "0x1.a39ef35793c76p-33", "0x1.a39ef30000000p-33"),
        ("Taylor coefficients missing", "reversed(_TAYLOR[:13])", "reversed(_TAYLOR[:9])"),
        ("exp's error inward", "lower * (1.0 - 2 * _EXP_ERROR)", "lower * (1.0 + 2 * _EXP_ERROR)"),
        (
            "very small exp not 0 below",
            "np.where(low < -EXP_LIMIT, 0.0",
            "np.where(low < -10 * EXP_LIMIT, 0.0",
        ),
    ),
    Mutant(
        "guess of the root believed",
        (
            Edit("_enclosure.py", "float(square) ** 0.5", "float(square) ** 0.4999"),
            Edit(
                "_enclosure.py",
                "if not (0 < low and low * low * square <= 1 <= high * high * square):",
                "if not 0 < low:",
            ),
        ),
    ),
]

_CLAIM = _in(
    "_claim.py",
    (
        "all sequences claimed",
        "correct = sum(part.correct for part in by_class)",
        "correct = sum(part.size for part in by_class)",
    ),
)

MUTANTS = (
    *_MARGINS, *_ADDITIVE, *_SLACK, *_REMAINDER, *_COLUMNS, *_SCALED, *_SPLIT, *_WINDOWED,
    *_COLLAPSED, *_CUBIC, *_SUBCUBIC, *_FIRST_RIVAL, *_COUNTING, *_TASKS, *_BRUTE_FORCE, *_TABLES,
    *_INTEGERS, *_ENCLOSURE, *_CLAIM,
)  # fmt: skip
