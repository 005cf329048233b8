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
        "query slot at the first position",
        "last = slice(words.length, words.length + 1)",
        "last = slice(0, 1)",
    ),
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
    ("letters mixed up", "for _ in letter], np.int64)", "for _ in letter][::-1], np.int64)"),
    ("a single open output ignored", "if not open_outputs.size:", "if open_outputs.size < 2:"),
)

_COUNTING = [
    *_in(
        "_counting.py",
        (
            "limit one too low",
            "limit = budget // width",
            "limit = max(0, budget // width - 1)",
        ),
        ("limit exclusive", "inside = binned <= ", "inside = binned < "),
        (
            "slack rounded up",
            "binned = row // width",
            "binned = -(-row // width)",
        ),
        ("mask one slot short", "(8 * slot * (limit + 1))", "(8 * slot * max(1, limit))"),
        ("slots of 4 bytes for any count", "max(4, (most.bit_length() + 8) // 8)", "4"),
        ("no spare bit in a slot", "(most.bit_length() + 8) // 8", "(most.bit_length() + 7) // 8"),
        (
            "words through other letters forgotten",
            "for letter in by_letter)",
            "for letter in by_letter[:1])",
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
            Edit("_counting.py", "limit = budget // width", "limit = min(bins, budget // width)"),
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
    ("minimum instead of maximum", "np.maximum(tokens[:, None]", "np.minimum(tokens[:, None]"),
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
    *_MARGINS, *_ADDITIVE, *_COUNTING, *_TASKS, *_BRUTE_FORCE, *_TABLES, *_INTEGERS, *_ENCLOSURE,
    *_CLAIM,
)  # fmt: skip
