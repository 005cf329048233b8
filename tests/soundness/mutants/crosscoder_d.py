"""Of theorem D: the front, trees of cells, ranges and relaxations.

Left out, because they are sound: any other slope (chord for ``c < 0``, shares of ``c > 0``); the
constant without its low end, which the slopes in use never need; yes and no swapped throughout;
ranges of another cell, which are verified like its own.
"""

from .form import edits_of

_FRONT = edits_of(
    "_front.py",
    ("b_out left out", "np.broadcast_to(block.b_out, (v, d))", "np.zeros((v, d))"),
    ("b_out at every position and head", "np.zeros((h, d))", "np.ones((h, d))"),
    ("b_out reaches the neurons", "[net.W_U, np.zeros((d, m))]", "[net.W_U, block.W_in]"),
    ("b_in left out", "np.concatenate([net.b_U, block.b_in])", "np.pad(net.b_U, (0, m))"),
    ("b_O left out", "np.concatenate([block.b_O, np.zeros(d)])", "np.zeros(2 * d)"),
    (
        "neurons read the logits' tables",
        "_half(tables, slice(self.x, None), self.ledger)",
        "_half(tables, slice(0, self.m), self.ledger)",
    ),
    ("coefficients rounded inward", "sign = -1 if up else 1", "sign = 1 if up else -1"),
    ("coefficients rounded down", "sign = -1 if up else 1", "sign = 1"),
    (
        "trailing zeros forgotten",
        "exponent.astype(np.int64) - 53 + trailing",
        "exponent.astype(np.int64) - 53",
    ),
    ("mantissas of 52 bits", "np.ldexp(mantissa, 53)", "np.ldexp(mantissa, 23)"),
    (
        "unit of the coefficients mistaken",
        "_floor_scaled(sign * entry, exponent + bits)",
        "_floor_scaled(sign * entry, exponent + bits + 1)",
    ),
    (
        "coefficients too large for sums",
        "return 28 - m.bit_length()",
        "return 62",
    ),
    (
        "class unit from the query slot alone",
        "if self.k > 1 and tokens.size:",
        "if False:",
    ),
    ("sums overflow: no headroom", "return top + self.k.bit_length() + 2", "return top"),
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
    ("rounded down", "return -((-product) >> ", "return (product >> "),
    ("large shifts cut", "np.minimum(by, 63)", "np.minimum(by, 40)"),
    (
        "one exponent for all tokens of a position",
        "by = scale - self._exponent[positions, query][:, tokens, None]",
        "by = scale - self._exponent[positions, query].min(axis=1)[:, None, None]",
    ),
)

_CELL = edits_of(
    "_cell.py",
    ("kink dropped", "np.maximum(np.maximum(at_low, at_high), 0)", "np.maximum(at_low, at_high)"),
    (
        "high end dropped",
        "np.maximum(np.maximum(at_low, at_high), 0)",
        "np.maximum(at_low, 0)",
    ),
    ("c from its lower end", "R.high[:, outputs] - R.low", "R.low[:, outputs] - R.low"),
    (
        "c from the label's upper end",
        "R.high[:, outputs] - R.low[:, label, None]",
        "R.high[:, outputs] - R.high[:, label, None]",
    ),
    (
        "label and other output swapped in c",
        "R.high[:, outputs] - R.low[:, label, None]",
        "R.high[:, label, None] - R.low[:, outputs]",
    ),
    (
        "label and other output swapped in the logits",
        "base = high[..., outputs] - low[..., label, None]",
        "base = high[..., label, None] - low[..., outputs]",
    ),
    (
        "logit of the label from its upper end",
        "base = high[..., outputs] - low[..., label, None]",
        "base = high[..., outputs] - high[..., label, None]",
    ),
    ("low end of z forgotten", "constant = tau + below *", "constant = tau + 0 * below *"),
    ("low end of z of the wrong slopes", "np.maximum(-slope, 0)", "np.maximum(slope, 0)"),
    (
        "spread of the query's slot forgotten",
        "np.maximum(before, last) + direct",
        "before + direct",
    ),
    ("spread of the words forgotten", "np.maximum(before, last) + direct", "last + direct"),
    (
        "spread of the direct part forgotten",
        "np.maximum(before, last) + direct",
        "np.maximum(before, last)",
    ),
    ("constants left out", "direct = direct + constant.sum(axis=0)", "direct = direct + 0"),
    (
        "constants of one neuron",
        "direct = direct + constant.sum(axis=0)",
        "direct = direct + constant.max(axis=0, initial=0)",
    ),
    (
        "unknown high end taken at its word",
        "np.where(high == UNKNOWN_HIGH, 1 << 31, ",
        "np.where(False, 1 << 31, ",
    ),
    (
        "unknown low end is 0",
        "return cls(Counted.of(low, ledger)",
        "return cls(Counted.of(np.where(low == UNKNOWN_LOW, 0, low), ledger)",
    ),
    ("high ends not verified", "np.asarray(ranges.high < 1 << 31)", "np.asarray(ranges.high < 0)"),
    ("low ends not verified", "np.asarray(ranges.low > UNKNOWN_LOW)", "np.asarray(ranges.low > 0)"),
    (
        "ranges against lower ends of z",
        "above, below = neurons.value_high, neurons.value_low",
        "below, above = neurons.value_high, neurons.value_low",
    ),
    (
        "direct part of ranges from the lower end",
        "neurons.direct_high[queries] - ranges.high",
        "neurons.direct_low[queries] - ranges.high",
    ),
    (
        "direct part of ranges from the upper end",
        "neurons.direct_low[queries] - ranges.low",
        "neurons.direct_high[queries] - ranges.low",
    ),
    ("low ends with the wrong sign", "-below[..., low]", "below[..., low]"),
    (
        "ranges of words without the query's slot",
        "front.weighted(last, query,",
        "front.weighted(0 * last, query,",
    ),
    (
        "query's slot at the first position",
        "query, slice(-1, None), np",
        "query, slice(0, 1), np",
    ),
    (
        "direct part of the query's slot left out",
        "(self.last[row] + self.direct[row])",
        "(self.last[row])",
    ),
    (
        "direct part of another query",
        "row = int(np.searchsorted(self.members.queries, query))",
        "row = 0",
    ),
    (
        "columns of other tokens",
        "columns = np.searchsorted(self.members.tokens, tokens)",
        "columns = np.arange(len(tokens))",
    ),
    ("letters mixed up", "for _ in ts], np.int64)", "for _ in ts][::-1], np.int64)"),
    ("a little outside is inside", "words) > 0).any()", "words) > 1 << 40).any()"),
    ("some neurons inside", "words) > 0).any()", "words) > 0).all()"),
    ("slopes of another output", "share[outputs].T)", "share[outputs].T)[::-1]"),
    ("parts rounded up", "else -(-number >> min(-by, 63))", "else (number >> min(-by, 63))"),
    ("value and direct part in different units", "number << by if by >= 0", "number if by >= 0"),
    ("brackets beyond 2^32", "largest.bit_length() - 31)", "largest.bit_length() - 40)"),
    (
        "value table of the last position",
        "neurons.value_high[:-1, tokens],\n    )",
        "neurons.value_high[1:, tokens],\n    )",
    ),
    (
        "query's value at position 0",
        "neurons.value_high[-1, queries],\n    )",
        "neurons.value_high[0, queries],\n    )",
    ),
)

_CELLS = edits_of(
    "_cells.py",
    ("count one too many", "(0, number - 1)", "(0, number)"),
    ("count one too few", "(0, number - 1)", "(0, number - 2)"),
    ("both answers of a query", "kept = tuple(mark == yes for mark in of)", "kept = of"),
    ("last answer alone", "_both(self.query, kept)", "kept"),
    ("last answer about a token alone", "_both(token[number], kept)", "kept"),
    ("least counts forgotten", "n >= counter.least", "n >= 0"),
    ("most counts forgotten", "if any(n > c.most", "if any(n > c.most + 9"),
    ("counts cut too soon", "min(n, c.least) if", "min(n, c.least - 1) if"),
    (
        "counters of a set not merged",
        "max(one.least, other.least), min(one.most, other.most)",
        "one.least, one.most",
    ),
    ("letters not split by counters", "(*self.token, *(c.of for c in counters))", "self.token"),
    (
        "letters not split by positions",
        "(*self.token, *(c.of for c in counters))",
        "tuple(c.of for c in counters)",
    ),
    (
        "allowed tokens ignored",
        "position < words.length and self.token[position][token]",
        "position < words.length",
    ),
    ("ends of words ignored", "words.accepting[state]\n            and", "True\n            and"),
    (
        "letters in another order than their steps",
        "tuple(words.letters[letter] for letter in used)",
        "tuple(words.letters[letter] for letter in used[::-1])",
    ),
    ("no answers, no question", "if not self.counters and all(", "if all("),
)

_THEOREM = edits_of(
    "theorems/crosscoder_d.py",
    ("range check skipped", "if not ranges_hold(front, checks, query, words):", "if False:"),
    (
        "range check of the first query",
        "for query, words in inside.items():\n        if not",
        "for query, words in list(inside.items())[:1]:\n        if not",
    ),
    (
        "wrong words counted as right",
        "right[query] += inside[query].size - wrong",
        "right[query] += wrong",
    ),
    (
        "cells given up are right",
        "held[query] += one.size\n",
        "held[query] += one.size\n                right[query] += 0 if cell.proved else one.size\n",
    ),
    ("queries of other cells", "if path.query[query]:", "if True:"),
    (
        "words of the class instead of the cell",
        "known[id(one)] = path.within(one)",
        "known[id(one)] = one",
    ),
    (
        "counts of one word",
        "yield query, min(words.size, wrong_words(",
        "yield query, min(1, wrong_words(",
    ),
)

CROSSCODER_D = (*_FRONT, *_CELL, *_CELLS, *_THEOREM)
