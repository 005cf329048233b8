"""Of certificates that features do not interact."""

from .form import edits_of

INDEPENDENCE = edits_of(
    "_independence.py",
    ("pulls of the other sign", "down = Ball(-pull.mid", "down = Ball(pull.mid"),
    ("low ends above", "low, high = beta - down.sum(1)", "low, high = beta + down.sum(1)"),
    ("high without pulls", "beta + up.sum(1)\n", "beta + up.max(1)\n"),
    ("on at the upper end", "low.lower() >= 0, high", "low.upper() >= 0, high"),
    ("off at the lower end", "high.upper() <= 0\n", "high.lower() <= 0\n"),
    ("two features called alone", "here.sum(axis=1) <= 1", "here.sum(axis=1) <= 2"),
    ("dominated by several", "(low + up.max(1)).lower()", "(low + up.sum(1)).lower()"),
    ("dominated from below by several", "(high - down.max(1))", "(high - down.sum(1))"),
    ("dominated at the upper end", "+ up.max(1)).lower() >= 0", "+ up.max(1)).upper() >= 0"),
    ("dominated at the lower end", "down.max(1)).upper() <= 0", "down.max(1)).lower() <= 0"),
    ("both signs are one", "(low + up.max(1)).lower() >= 0", "(high + up.max(1)).lower() >= 0"),
    ("negative directions do not reach", "(subject.decoder != 0)", "(subject.decoder > 0)"),
    ("negative weights are not reached", "(block.W_in != 0)", "(block.W_in > 0)"),
    (
        "negative coefficients are absent",
        "return feature, value, value != 0",
        "return feature, value, value > 0",
    ),
    (
        "levels by feature",
        "np.divmod(np.maximum(atoms, 0), levels.shape[1])",
        "np.divmod(np.maximum(atoms, 0), levels.shape[1])[0], 0 * atoms",
    ),
    ("bias of the neurons forgotten", "[0] + Ball.exact(block.b_in, ledger)", "[0]"),
    (
        "bias of the decoder forgotten",
        "Ball.exact(subject.bias[None], ledger)",
        "Ball.exact(subject.bias[None] * 0, ledger)",
    ),
    ("the first layer alone", "    return net.blocks[layer]\n", "    return net.blocks[0]\n"),
    (
        "repeated codes counted once",
        "np.tensordot(kinds, times[start:stop], (1, 0))",
        "kinds.sum(axis=1)",
    ),
    (
        "limit at the inner end",
        "np.minimum(high.upper(), -low.lower())",
        "np.minimum(high.lower(), -low.upper())",
    ),
    ("limit of low alone halved", "-low.lower()), 0.0)", "-0.5 * low.lower()), 0.0)"),
    ("sizes at the lower end", "size = pull.absolute().upper()", "size = pull.absolute().lower()"),
    (
        "third largest of the pulls",
        "np.partition(size, -2, axis=1)[:, -2]",
        "np.sort(size, axis=1)[:, -3 % size.shape[1]]",
    ),
    (
        "interaction at the lower end",
        "pull, here).absolute().upper())",
        "pull, here).absolute().lower())",
    ),
    ("singles without the rest", "(beta + pull).relu() - rest)", "(beta + pull).relu())"),
    ("additive at one neuron is enough", "apart.all(axis=-1))", "apart.any(axis=-1))"),
    ("dominated taken for apart", "kinds[:3].any(axis=0)", "kinds[:4].any(axis=0)"),
    (
        "the last bound of a pair kept",
        "np.maximum(table[which], np.maximum.reduceat(values[order], begins, axis=0))",
        "values[order][begins]",
    ),
    (
        "features kept in any order",
        "np.unique(np.sort(subject.codes, axis=1)",
        "np.unique(subject.codes",
    ),
    ("any code is enough", "tally.sum(axis=0)]) == n_codes", "tally.sum(axis=0)]) > 0"),
    (
        "dominated counted as apart",
        "apart = on + off + alone\n",
        "apart = on + off + alone + dominated\n",
    ),
)
