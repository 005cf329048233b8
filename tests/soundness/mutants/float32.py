"""Of the envelope of float32 semantics, by both ways to compute it."""

from .form import edits_of

_ENVELOPE = edits_of(
    "_float32.py",
    ("roundings counted at half a unit", "n * (2.0**-24 + 2.0**-34)", "n * (2.0**-25 + 2.0**-34)"),
    ("no room for exp", "EXP_LOGARITHM: Final = 2.0**-15", "EXP_LOGARITHM: Final = 2.0**-17"),
    ("flushing forgotten", "FLUSHED: Final = 2.0**-50", "FLUSHED: Final = 0.0"),
    ("underflowing weights forgotten", "UNDERFLOW: Final = 2.0**-36", "UNDERFLOW: Final = 0.0"),
    ("the residual's rounding forgotten", "roundings(d + 2)", "roundings(d + 1)"),
    (
        "errors of projections dropped",
        "size(y) + _in_range(sums) *",
        "size(y) + sums * exact(np.array(0.0)) *",
    ),
    (
        "biases of projections forgotten",
        "size(rows) @ size(weight) + size(bias)",
        "size(rows) @ size(weight)",
    ),
    ("sums of signed numbers", "sums = size(rows) @ size(weight)", "sums = rows @ weight"),
    ("scaling is exact", "gain(h + 4)", "gain(h)"),
    ("errors of keys forgotten", "(query_size @ key_size.T)", "(query_size @ size(key).T)"),
    ("errors of queries forgotten", "(query_size @ key_size.T)", "(size(query) @ key_size.T)"),
    (
        "errors of scores not scaled",
        "key.absolute().T) * scale",
        "key.absolute().T) * scale * scale",
    ),
    (
        "the least position's error",
        ".reshape(v, k, v).max(axis=1)",
        ".reshape(v, k, v).min(axis=1)",
    ),
    (
        "errors of queries and of keys confused",
        ".reshape(v, k, v).max(axis=1)",
        ".reshape(v, k, v).max(axis=1).T",
    ),
    ("a short context assumed", "gain(2 * k + h + 6)", "gain(h + 8)"),
    ("errors of values forgotten", "(value_size @ size(W_O))", "(size(value) @ size(W_O))"),
    (
        "errors of the head's output forgotten",
        "(head_size @ size(W_U)) *",
        "(size(head) @ size(W_U)) *",
    ),
    (
        "the unembedding is exact",
        "(head_size @ size(W_U)) * gain(d + 1)",
        "(head_size @ size(W_U)) * gain(0)",
    ),
    ("b_O forgotten", "own = at_query + b_O", "own = at_query"),
    ("adding the head's output is exact", "roundings(h + 3)", "roundings(1)"),
    (
        "the direct path is exact",
        "(own_size @ size(W_U)) * gain(d + 1)",
        "(size(own) @ size(W_U)) * gain(0)",
    ),
    (
        "b_U is exact",
        "size(b_U) * exact(np.array(roundings(d + 1)))",
        "size(b_U) * exact(np.array(0.0))",
    ),
)

_WIDENING = [
    *edits_of(
        "_tables.py",
        ("tables not widened", "ball.widened(by) for", "ball for"),
        ("every semantics is real", 'if semantics == "real":', "if semantics:"),
    ),
    *edits_of(
        "_enclosure.py",
        ("widened inward", "_outward(self.rad + by)", "_outward(np.abs(self.rad - by))"),
        (
            "sizes are exact",
            "Ball(np.abs(self.mid), self.rad",
            "Ball(np.abs(self.mid), 0 * self.rad",
        ),
    ),
    *edits_of(
        "_integers.py",
        (
            "verified as real numbers",
            "tables = enclose_tables(model, ledger, semantics)",
            "tables = enclose_tables(model, ledger)",
        ),
    ),
]

_BY_ARB = edits_of(
    "_tables_arb.py",
    ("Arb: unit too small", "arb((1, -24)) + arb((1, -34))", "arb((1, -25))"),
    ("Arb: projections", "((d + 2) * unit)", "(d * unit)"),
    ("Arb: keys", "query_size * key_size.transpose()", "query_size * sizes(key).transpose()"),
    ("Arb: last position alone", "zip(logarithm or rows, rows,", "zip(rows, rows,"),
    ("Arb: exp", "entry + arb((1, -15))", "entry"),
    ("Arb: values", "value_size * sizes(W_O)", "sizes(value) * sizes(W_O)"),
    ("Arb: underflow", "e + a * k * arb((1, -36))", "e"),
    (
        "Arb: b_U",
        "sizes(bias(model.b_U)) * ((d + 1) * unit)",
        "sizes(bias(model.b_U)) * (d * unit)",
    ),
    ("Arb: not widened", "x + arb(0, r.abs_upper())", "x"),
)

FLOAT32 = (*_ENVELOPE, *_WIDENING, *_BY_ARB)
