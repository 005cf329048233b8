"""Of the windowed, collapsed and cubic theorems."""

from .form import edits_of

_COLUMNS = edits_of(
    "_columns.py",
    ("far tokens counted once", "shared.append(len(tokens) - len(beyond))", "shared.append(1)"),
)

_SCALED = edits_of(
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

_SPLIT = edits_of(
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

_WINDOWED = edits_of(
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

_COLLAPSED = edits_of(
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

_CUBIC = edits_of(
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

SHARED_BOUNDS = (
    *_COLUMNS,
    *_SCALED,
    *_SPLIT,
    *_WINDOWED,
    *_COLLAPSED,
    *_CUBIC,
)
