"""Of tasks, brute force, tables, integers, enclosures and claims."""

from ..copies import Edit
from .form import Mutant, edits_of

_TASKS = edits_of(
    "_automata.py",
    (
        "class size one token too many",
        "sum(len(self.letters[letter]) for letter in letters)",
        "sum(len(self.letters[letter]) for letter in letters) + 1",
    ),
    ("every word accepted", "if self.accepting[s]}", "}"),
    ("last letter forgotten", "enumerate(self.step[state]):", "enumerate(self.step[state][:-1]):"),
    ("query not read", "accepts = accepted[step[:, query]]", "accepts = accepted"),
    (
        "states told apart by token 0 alone",
        "np.column_stack([block, block[step]])",
        "np.column_stack([block, block[step[:, 0]]])",
    ),
) + edits_of(
    "_tasks.py",
    (
        "words of the maximum alone",
        "((0, 1), (1, 1)), (False, True)",
        "((0, 1), (1, 1)), (True, True)",
    ),
    ("one token too few", "tuple(range(m + 1))", "tuple(range(max(1, m)))"),
    ("the latest token as second", "np.minimum(a[:, None], tokens)", "tokens"),
    ("the label as above itself", "np.arange(self.v) - label)", "np.arange(self.v) - label + 1)"),
    ("sums without the query", "with_sum[(label - query) % self.v]", "with_sum[label]"),
    ("sums that do not wrap", "% self.v, tokens)", ".clip(0, self.v - 1), tokens)"),
    ("pointer not read", "words[query % (self.k - 1)]", "words[0]"),
    ("pointer one too far", "token[np.arange(v) % n]", "token[(np.arange(v) + 1) % n]"),
    ("word read backwards", "v ** (n - 1 - p)", "v**p"),
    ("token not mapped", "self.permutation == label", "np.arange(self.v) == label"),
)

_BRUTE_FORCE = edits_of(
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

_TABLES = edits_of(
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
) + edits_of(
    "_tables_arb.py",
    ("query at the first position", "last = embedded[-1]", "last = embedded[0]"),
    (
        "b_V dropped",
        "value = _plus_row(residual * _exact(model.W_V), model.b_V)",
        "value = residual * _exact(model.W_V)",
    ),
    ("scores not divided by the root", ".as_integer_ratio())).sqrt()", ".as_integer_ratio()))"),
)

_INTEGERS = edits_of(
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
        "doubtful = _not_enclosed_by_arb(model, claimed, semantics, doubtful, bits)",
        "doubtful = {}",
    ),
)

_ENCLOSURE = [
    *edits_of(
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

_CLAIM = edits_of(
    "_claim.py",
    (
        "all sequences claimed",
        "correct = sum(part.correct for part in by_class)",
        "correct = sum(part.size for part in by_class)",
    ),
)

FOUNDATIONS = (
    *_TASKS,
    *_BRUTE_FORCE,
    *_TABLES,
    *_INTEGERS,
    *_ENCLOSURE,
    *_CLAIM,
)
