"""Of norm-ball telescoping.

Left out, because they are sound: any other vector taken off the keys, any other code of an input;
and ``slack >= 0``, for an enclosure always has a radius.
"""

from .form import edits_of

CROSSCODER_A = [
    *edits_of(
        "_norm_balls.py",
        (
            "norm of the values of a square root",
            "spectral_norm_upper(exact(block.W_V[h]) @ exact(block.W_O[h]))",
            "spectral_norm_upper(exact(block.W_V[h]))",
        ),
        (
            "score matrix divided twice",
            "(exact(block.W_Q[h]) * scale) @",
            "(exact(block.W_Q[h]) * scale * scale * scale * scale) @",
        ),
        (
            "MLP without its own part",
            "gain = exact(np.array([centre])) + product * half",
            "gain = exact(np.array([centre]))",
        ),
        ("MLP without the residual", "exact(np.eye(len(block.b_out))) + (W_in", "(W_in"),
        ("MLP of half the neurons", "product * half", "product * half * half"),
        ("its own error forgotten", "    grown = r_here\n", "    grown = r_here - r_here\n"),
        (
            "nearest key's radius",
            "np.where(seen, radius[:, None, :], 0.0).max(axis=2)",
            "np.where(seen, radius[:, None, :], np.inf).min(axis=2)",
        ),
        (
            "query's error not scored",
            "moves = Ball.exact(apart, ledger) * r_here[:, :, None]",
            "moves = Ball.exact(0 * apart, ledger) * r_here[:, :, None]",
        ),
        (
            "key's error not scored",
            "Ball.exact(norm_upper(Q), ledger)[:, :, None] * r[:, None]",
            "Ball.exact(0 * norm_upper(Q), ledger)[:, :, None] * r[:, None]",
        ),
        ("errors of both not scored", "moves + crossed[:, :, None] * r[:, None]", "moves"),
        (
            "sign in Gamma",
            "moves = moves + Ball.exact(norm_upper(Q)",
            "moves = moves - Ball.exact(norm_upper(Q)",
        ),
        (
            "half of the total variation",
            "Ball.exact(2.0 * variation, ledger)",
            "Ball.exact(variation, ledger)",
        ),
        (
            "nearest value",
            "np.where(seen, away, 0.0).max(axis=2)",
            "np.where(seen, away, np.inf).min(axis=2)",
        ),
        ("values do not move", "grown + carried + twice", "grown + twice"),
        ("weights do not move", "grown + carried + twice", "grown + carried"),
        (
            "keys not divided",
            "block.W_Q[head].T, nothing) * scale",
            "block.W_Q[head].T, nothing) * scale * scale",
        ),
        (
            "query of the first head",
            "query = project(here, block.W_Q[head], block.b_Q[head])",
            "query = project(here, block.W_Q[0], block.b_Q[0])",
        ),
        ("b_O left out", "mid = here + Ball.exact(block.b_O, ledger)", "mid = here"),
        (
            "tanh of a quarter",
            "exp_ball(Ball.exact(-D.max(axis=2), ledger))",
            "exp_ball(Ball.exact(-0.5 * D.max(axis=2), ledger))",
        ),
        (
            "least move decides",
            "Ball.exact(-D.max(axis=2), ledger)",
            "Ball.exact(-D.min(axis=2), ledger)",
        ),
        ("a weight against itself", "1.0 - np.eye(k), ledger", "np.ones((k, k)), ledger"),
        (
            "own move not counted",
            "(others.reshape(*D.shape) * shrunk).lower()",
            "others.reshape(*D.shape).lower()",
        ),
        ("others' moves not counted", "(weight * shrunk).reshape", "weight.reshape"),
        (
            "one gain for all",
            "Ball.exact(gains, ledger).sum(2).upper()",
            "Ball.exact(gains, ledger).max(2).upper()",
        ),
        (
            "neurons off at the centre",
            "neurons(block, mid) + r[:, :, None] * Ball.exact(reads, ledger)",
            "neurons(block, mid)",
        ),
        (
            "neurons that are on left out",
            "np.where(z.upper() > 0, 1.0, 0.0)",
            "np.where(z.upper() > 0, 0.0, 1.0)",
        ),
        (
            "half of the Frobenius norms",
            "gain = Ball.exact(parts[0], ledger) * Ball.exact(parts[1], ledger)",
            "gain = Ball.exact(parts[0], ledger) * Ball.exact(0.5 * parts[1], ledger)",
        ),
        (
            "residual does not pass the MLP",
            "Ball.exact(np.ones(gain.shape), ledger)).upper()",
            "Ball.exact(np.zeros(gain.shape), ledger)).upper()",
        ),
        (
            "balls do not grow in MLPs",
            "(r * Ball.exact(np.minimum(gain, norms.mlp), ledger)).upper()",
            "r.upper()",
        ),
    ),
    *edits_of(
        "theorems/crosscoder_a.py",
        (
            "first radius forgotten",
            "radius = norm_upper(true - center)",
            "radius = 0 * norm_upper(true - center)",
        ),
        (
            "first radius of one position forgotten",
            "radius[:, -1] = norm_upper(true[:, -1:] - center)[:, 0]",
            "radius[:, -1] = 0",
        ),
        (
            "transition error forgotten",
            "(Ball.exact(radius, self._ledger) + step).upper()",
            "radius",
        ),
        (
            "radius forgotten at each site",
            "(Ball.exact(radius, self._ledger) + step).upper()",
            "step.upper()",
        ),
        (
            "last MLP not passed",
            "center, radius = through_mlp(block, norms, center, radius)",
            "center, radius = center, radius",
        ),
        (
            "directions of the first output alone",
            "unembed[:, :, None] - unembed[:, None, :]",
            "unembed[:, :, None] - unembed[:, :, None]",
        ),
        ("last ball takes nothing", "- answers - taken).lower()", "- answers).lower()"),
        ("margin from above", "- answers - taken).lower()", "- answers - taken).upper()"),
        ("first of a block decides", "if not right.all():", "if not right[0]:"),
        (
            "last block not looked at",
            "range(0, len(claimed), balls.at_once)",
            "range(0, len(claimed) - 1, balls.at_once)",
        ),
        (
            "what is not claimed is counted",
            "labels, book.claimed == 1)",
            "labels, book.claimed >= 0)",
        ),
        (
            "label 0 is the label",
            "answers[rows, labels][:, None] - answers",
            "answers[rows, 0 * labels][:, None] - answers",
        ),
    ),
]
