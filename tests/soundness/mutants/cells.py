"""Of cells through depth: norms, shared prefixes, clouds, lines and the theorem.

Left out, because they are sound: any slope of a line whose error is bounded for it (the lower one,
or the chord's, with another ``t``); lines of the wrong kind for a coefficient, which ``slip`` pays
for; ``at_high`` left out, which a chord makes equal to ``at_low`` up to rounding; ``bounds >= 0``,
for an enclosure always has a radius. And ``zeta`` without its quadratic term, far below the room
that the other terms leave.
"""

from .form import edits_of

CELLS = [
    *edits_of(
        "_norms.py",
        (
            "root of the square forgotten",
            "range(_SQUARINGS + 1):\n        if",
            "range(_SQUARINGS):\n        if",
        ),
        (
            "half of the exponent lost",
            "exponent = 2 * (exponent + shift)",
            "exponent = exponent + shift",
        ),
        ("one entry for the trace", "[None].sum(1)", "[None].min(1)"),
    ),
    *edits_of(
        "_shared_prefix.py",
        ("embedding of position 0", "net.W_pos[position]", "net.W_pos[0]"),
        (
            "b_O of the first layer left out",
            "begin = token + Ball.exact(block.b_O, self._ledger)",
            "begin = token",
        ),
        ("b_O of later layers left out", "here + Ball.exact(block.b_O, self._ledger)", "here"),
        (
            "own position not attended to",
            "seen.append(own[-1])",
            "seen.append(seen[0] if seen else own[-1])",
        ),
        (
            "prefix read backwards",
            "number = number * self._net.d_vocab + tokens[:, i]",
            "number = number + tokens[:, i] * self._net.d_vocab**i",
        ),
        ("keys of the first head", "keys.score[head]).sum(1)", "keys.score[0]).sum(1)"),
        ("values of the first head", "* keys.value[head]", "* keys.value[0]"),
        ("scores not divided", "block.b_Q[head]]), ledger) * scale", "block.b_Q[head]]), ledger)"),
        ("queries and keys swapped", "score.append(query @ key.T)", "score.append(key @ query.T)"),
        ("b_V left out", "residual @ value + bias for", "residual @ value + bias - bias for"),
        ("no ReLU", "project(z.relu(), block.W_out", "project(z, block.W_out"),
        ("b_out left out", "after = mid + Ball.exact(block.b_out, mid.ledger)", "after = mid"),
        (
            "bidirectional models share prefixes",
            'or self._net.attention_dir == "causal"',
            "or True",
        ),
        (
            "last block of prefixes twice",
            "parts.append(own)",
            "parts = [*parts[:-1], own, own] if parts else [own]",
        ),
    ),
    *edits_of(
        "_cloud.py",
        (
            "spread not read",
            "if self.spread is not None:\n            known",
            "if False:\n            known",
        ),
        ("spread of one sign", ".absolute().sum(0).upper())", ".sum(0).absolute().upper())"),
        (
            "radius not read",
            "if self.radius is not None:\n            norms",
            "if False:\n            norms",
        ),
        ("undecided neurons called on", "(low < 0) & (high > 0)", "(low < -0.5) & (high > 0)"),
        (
            "undecided neurons called off",
            "np.where(low >= 0, 1.0, 0.0)",
            "np.where(low >= 0, 0.0, 0.0)",
        ),
        (
            "errors of neurons one-sided",
            "half = exact(t) * exact(np.full_like(t, 0.5))",
            "half = exact(t) * exact(np.full_like(t, 0.25))",
        ),
        ("new errors forgotten", "_stacked(cloud.spread @ A, own)", "cloud.spread @ A"),
        (
            "old errors not carried through",
            "_stacked(cloud.spread @ A, own)",
            "_stacked(cloud.spread, own)",
        ),
        (
            "middle of the lines forgotten",
            "* exact(block.b_in) + half)[None]",
            "* exact(block.b_in))[None]",
        ),
        (
            "radius not grown by an MLP",
            "exact(np.array(spectral_norm_upper(A)))).upper()",
            "exact(np.array(1.0))).upper()",
        ),
        ("residual does not pass the MLP", "exact(np.eye(len(block.b_out))) + W_in", "W_in"),
        ("b_out left out", "W_out + exact(block.b_out)", "W_out"),
        (
            "error of the output dropped",
            "grown = grown + error *",
            "grown = grown + error - error *",
        ),
        (
            "weights of the middle for all",
            "grown + (a_own - middle).absolute() * Y_spread",
            "grown",
        ),
        ("spread not turned by its own value", "turned = turned + VO * middle", "turned = turned"),
        ("radius not grown by its own value", "grown + a_own * Y_ball", "grown"),
        (
            "moves of weights by one value alone",
            "(a * xi * away).sum(1) +",
            "(a * xi * away).min(1) +",
        ),
        ("scores of one query", "both = M[:, :d] + M.T[:, :d]", "both = M[:, :d] - M.T[:, :d]"),
        (
            "moves of scores one-sided",
            "side_by_side(moved)).absolute().sum(2)",
            "side_by_side(moved)).sum(2).absolute()",
        ),
        ("quadratic term forgotten", "(sigma + at_own).upper()", "sigma.upper()"),
        (
            "half of the quadratic term",
            "Q = twice * Ball.exact(np.array([0.5]), ledger)",
            "Q = twice * Ball.exact(np.array([0.25]), ledger)",
        ),
        ("radius not scored", "sigma = sigma + radius[:, None] * apart", "sigma = sigma"),
        ("b_O left out", "cloud.center + Ball.exact(block.b_O, ledger)", "cloud.center"),
        ("keys of the first head", "_rows(keys.score[head], row", "_rows(keys.score[0], row"),
        (
            "rows in the order of their numbers",
            "@ weight)[which.reshape(-1)]",
            "@ weight)[np.sort(which.reshape(-1))]",
        ),
    ),
    *edits_of(
        "_lines.py",
        ("line below for both signs", "t = np.where(negative,", "t = 0 * np.where(negative,"),
        (
            "one end of the chord",
            "np.maximum(at_low, at_high)",
            "np.minimum(0.5 * at_low, at_high)",
        ),
        (
            "undecided neurons called on",
            "on, off = (low >= 0)[:, None]",
            "on, off = (high >= 0)[:, None]",
        ),
        ("undecided neurons called off", "(high <= 0)[:, None]", "(low <= 0)[:, None]"),
        (
            "b_out left out",
            "(exact(block.b_out[None]) @ c)[0] +",
            "(exact(0 * block.b_out[None]) @ c)[0] +",
        ),
        (
            "b_U of the label alone",
            "(b_U[label, None] - b_U)",
            "(b_U[label, None] + exact(np.zeros(len(net.b_U))))",
        ),
        (
            "b_in left out",
            "(scaled * exact(block.b_in[:, None]) +",
            "(scaled * exact(0 * block.b_in[:, None]) +",
        ),
        (
            "bounds from above",
            "read(self.slope, self.start).lower()",
            "read(self.slope, self.start).upper()",
        ),
    ),
    *edits_of(
        "theorems/cells.py",
        ("labels of a cell not told apart", "| (np.diff(labels[order]) != 0)", "| False"),
        (
            "one rival beaten is enough",
            "np.asarray(above.all(axis=1))",
            "np.asarray(above.any(axis=1))",
        ),
        ("what is not claimed is counted", "right = cell >= 0\n", "right = cell >= -1\n"),
        ("first of a cell decides", "if not right.all():", "if not right[0]:"),
        (
            "range of one sequence",
            "z.lower().min(axis=0), z.upper()",
            "z.lower().max(axis=0), z.upper()",
        ),
        ("ends of a range swapped", "z.upper().max(axis=0), mid)", "z.upper().min(axis=0), mid)"),
        (
            "last batch forgotten",
            "    if batch:\n        yield batch",
            "    if batch and held >= size:\n        yield batch",
        ),
        (
            "errors forgotten before the last lines",
            "return lines.bounds(cloud)",
            "return lines.bounds(Cloud(cloud.center, None, None))",
        ),
    ),
]
