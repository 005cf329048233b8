"""Of theorem C."""

from .form import edits_of

CROSSCODER_C = edits_of(
    "theorems/crosscoder_c.py",
    ("the kink forgotten", "0.0, -np.inf)", "-np.inf, -np.inf)"),
    ("the low end alone", "np.maximum(excess(low), excess(high))", "excess(low)"),
    ("the high end alone", "np.maximum(excess(low), excess(high))", "excess(high)"),
    ("lines from above", "slope * point - a * point.relu()", "a * point.relu() - slope * point"),
    ("lines through the neurons", " - Ball.exact(tau, ledger)", ""),
    ("b_in left out", "Ball.exact(block.b_in[None], ledger) - ", "Ball.exact(0 * tau, ledger) - "),
    ("ranges without b_in", " + Ball.exact(block.b_in, ledger)", ""),
    ("rho not subtracted", "sums + base[None] - missed", "sums + base[None]"),
    (
        "half of rho",
        "Ball.exact(rho[some][:, None], ledger)",
        "Ball.exact(rho[some][:, None] / 2, ledger)",
    ),
    ("rho of the closest member", "rho[group.members].max()", "rho[group.members].min()"),
    (
        "the base point left out",
        "base = (lines.direction @ bias)[:, 0] + lines.constant",
        "base = lines.constant",
    ),
    ("constants left out", "lines.direction.T + lines.constant[None]", "lines.direction.T"),
    ("neurons left out", "rivals.direction + product(slope, weight.T)", "rivals.direction"),
)
