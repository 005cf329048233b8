"""Of margins, slack and counting: what the theorems of section 4 share."""

from ..copies import Edit
from .form import Mutant, edits_of

_MARGINS = edits_of(
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

_ADDITIVE = edits_of(
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

_SLACK = edits_of(
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

_REMAINDER = edits_of(
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

_FIRST_RIVAL = [
    *edits_of(
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
    *edits_of(
        "theorems/additive.py",
        ("pivot later in the order", "(pivot in known if eighths else pivot == -1)", "True"),
        ("no bits to spare", "scale(query, tokens) + spare", "scale(query, tokens)"),
    ),
]

_COUNTING = [
    *edits_of(
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

COUNTING = (
    *_MARGINS,
    *_ADDITIVE,
    *_SLACK,
    *_REMAINDER,
    *_FIRST_RIVAL,
    *_COUNTING,
)
