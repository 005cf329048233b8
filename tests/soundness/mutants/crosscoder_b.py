"""Of theorem B, and of the codes that theorems B and C share.

Left out: whatever number stands for no atom (its vector is the same in every table, and any vector
is sound), and any slopes of theorem C (all are sound).
"""

from ..copies import Edit
from .form import Mutant, edits_of

_MID_TABLES = edits_of(
    "_mid_tables.py",
    (
        "positions left out",
        "positions[:, None] + tokens",
        "(positions - positions)[:, None] + tokens",
    ),
    ("query at the first position", "asking = residual[k - 1]", "asking = residual[0]"),
    ("b_O left out", "asking + Ball.exact(block.b_O, ledger)", "asking"),
    ("scores not divided", "block.b_Q[head]) * scale", "block.b_Q[head])"),
    (
        "scores of the mirrored position",
        "places[None, :], tokens]\n",
        "places[None, ::-1], tokens]\n",
    ),
    (
        "values of the mirrored position",
        "head.value[places[None, :]",
        "head.value[places[None, ::-1]",
    ),
    ("the last head alone", "mid = mid + mix(", "mid = self._own[query] + mix("),
    ("the second layer skipped", "if deeper:", "if len(deeper) > 1:"),
)

_CODES = [
    *edits_of(
        "_codes.py",
        ("labels of a cell mixed", " | (np.diff(label[order]) != 0)", ""),
        ("base points of cells mixed", "(np.diff(cell[order]) != 0) | ", ""),
        ("rho forgotten", "norm_upper(mids(codes.tokens[some]) - decoded)", "0.0"),
        ("rho without the base point", "bias[codes.cell[some]] + atoms", "atoms"),
        (
            "rho of what is claimed by residual forgotten",
            "np.isin(codes.claimed, (BY_CODE, BY_RESIDUAL))",
            "codes.claimed == BY_CODE",
        ),
        (
            "two atoms of one feature",
            "if (own[:, 1:] == own[:, :-1]).any():",
            "if (own[:, 1:] == own[:, :-1]).any() and False:",
        ),
    ),
    Mutant(
        "guess of a root believed",
        (
            Edit("_codes.py", "np.sqrt(squares) * (1.0 + 2.0**-49)", "np.sqrt(squares) * 0.5"),
            Edit(
                "_codes.py",
                "if not (root * root * (1.0 - 2.0**-51) >= squares).all():",
                "if False:",
            ),
        ),
    ),
]

_RANGES = edits_of(
    "_code_ranges.py",
    ("one optional feature too few", "[::-1][:most]", "[::-1][: most - 1]"),
    ("the smallest optional features", "axis=0)[::-1][:most]", "axis=0)[:most]"),
    ("fewest optional features", "optional.sum(axis=1).max()", "optional.sum(axis=1).min()"),
    ("every feature in every sequence", "times == len(used)", "times <= len(used)"),
    ("an absent feature adds its most", "np.maximum(largest[~always], 0.0)", "largest[~always]"),
    ("features of all left out", "[largest[always], others]", "[others]"),
    ("largest of the least", "np.minimum.reduceat(low, first", "np.maximum.reduceat(low, first"),
    ("least of the largest", "np.maximum.reduceat(high, first", "np.minimum.reduceat(high, first"),
    ("lower end without rho", "Ball.exact(low, ledger) - room", "Ball.exact(low, ledger)"),
    ("upper end without rho", "Ball.exact(high, ledger) + room", "Ball.exact(high, ledger)"),
    (
        "the last block of sequences alone",
        "low = np.minimum(low, sums.lower().min(axis=0))",
        "low = sums.lower().min(axis=0)",
    ),
    ("the largest low sum", "sums.lower().min(axis=0)", "sums.lower().max(axis=0)"),
)

_CODED = edits_of(
    "theorems/_coded.py",
    ("claims believed", "if not verified.all():", "if False:"),
    ("nearly right is enough", "worst(lower) > 0", "worst(lower) > -0.1"),
    (
        "right against one output is enough",
        "bounds.min(axis=1, initial=np.inf)",
        "bounds.max(axis=1, initial=-np.inf)",
    ),
    ("undecided called right", "codes.label[some])[0]", "codes.label[some])[1] < 1"),
    ("b_out left out", "after[:, 0] + (bias", "(bias"),
    ("b_U left out", "after[:, 0] + (bias[label][None] - bias[others])", "after[:, 0]"),
    (
        "margins reversed",
        "direction = rows[label][None] - rows[others]",
        "direction = rows[others] - rows[label][None]",
    ),
)

_THEOREM = edits_of(
    "theorems/crosscoder_b.py",
    (
        "signs of the slack swapped",
        "product(above, a.relu().T) + product(below, negative(a).relu().T)",
        "product(below, a.relu().T) + product(above, negative(a).relu().T)",
    ),
    ("slack of positive neurons alone", " + product(below, negative(a).relu().T)", ""),
    (
        "strongest feature forgiven twice",
        "Ball.exact(strongest, ledger)",
        "Ball.exact(2 * strongest, ledger)",
    ),
    ("every slack forgiven", "slack.max(axis=1)", "slack.sum(axis=1)"),
    ("slack not subtracted", "(gain - Ball.exact(slack, ledger)).lower()", "gain.lower()"),
    ("rho not subtracted", "tables.base[None] - missed", "tables.base[None]"),
    ("rho of the closest member", "rho[group.members].max()", "rho[group.members].min()"),
    (
        "R without what is not known",
        "(Ball.exact(centre, ledger) + half * Ball.exact(spread, ledger))",
        "Ball.exact(centre, ledger)",
    ),
    (
        "R without the mean slopes",
        "norm_upper(direction + half * product(a, weight.T))",
        "norm_upper(direction)",
    ),
    (
        "R from neurons that cancel",
        "product(weights.T, weights).absolute()",
        "product(weights.T, weights)",
    ),
    ("signs believed", "if false.any():", "if False:"),
    ("signs verified at the wrong end", "low < 0, high > 0)", "high < 0, low > 0)"),
    ("signs of the first cell verified", "group, sign[group.cell], rule", "group, sign[0], rule"),
    (
        "off neurons called on",
        "np.nonzero(sign > 0), np.nonzero",
        "np.nonzero(sign != 0), np.nonzero",
    ),
    (
        "b_in of neurons that are on left out",
        "direction @ bias + shifts + product",
        "direction @ bias + product",
    ),
    ("neurons at the base point left out", " + product(a, at_base[:, None]))[:, 0]", ")[:, 0]"),
    ("a response from 0", "(beta + reach).relu() - at_base", "(beta + reach).relu()"),
    (
        "a response without the base point",
        "change = (beta + reach).relu()",
        "change = reach.relu()",
    ),
    ("constants left out", "[:, 0] + rivals.constant", "[:, 0]"),
)

CROSSCODER_B = (*_MID_TABLES, *_CODES, *_RANGES, *_CODED, *_THEOREM)
