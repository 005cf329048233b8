"""Of forward passes in enclosures and of brute force by them."""

from .form import edits_of

NETWORKS = [
    *edits_of(
        "_network.py",
        ("the last token varies slowest", "reversed(range(task.k - 1))", "range(task.k - 1)"),
        ("queries from 0", "task.queries.start + number % several", "number % several"),
        ("positions left out", "token[tokens] + position[None]", "token[tokens]"),
        (
            "the next token seen",
            "<= np.array(queries)[:, None]",
            "<= np.array(queries)[:, None] + 1",
        ),
        ("the future seen", "if net.attention_dir ==", "if net.attention_dir !="),
        ("scores not divided", "block.b_Q[head]) * scale", "block.b_Q[head])"),
        ("heads share their keys", "block.W_K[head], block", "block.W_K[0], block"),
        ("b_O left out", "mid = here + Ball.exact(block.b_O, residual.ledger)", "mid = here"),
        ("values of heads not added", "mid = mid + project(mixed", "mid = here + project(mixed"),
        ("weights not normalised", "masked * masked.sum(2).reciprocal()[:, :, None]", "masked"),
        ("weights without radius", "np.where(hidden, 0.0, weight.rad)", "0 * weight.rad"),
        (
            "hidden positions count",
            "np.where(hidden, 0.0, weight.mid), np",
            "weight.mid, np",
        ),
        ("b_out left out", "after = mid + Ball.exact(block.b_out, mid.ledger)", "after = mid"),
        ("no ReLU", "neurons(block, mid).relu()", "neurons(block, mid)"),
        ("residual does not pass the MLP", "return after + project(", "return project("),
        ("layers skipped", "for block in net.blocks[:-1]", "for block in net.blocks[:0]"),
        ("read at the first position", "range(net.n_ctx - 1, net.n_ctx)", "range(0, 1)"),
        ("biases left out", "weight.shape[1]) + Ball.exact(bias, x.ledger)", "weight.shape[1])"),
    ),
    *edits_of(
        "_enclosure.py",
        ("a sum is exact", "(n * _U2) + self.rad.sum(axis)", "(0 * _U2) + 0 * self.rad.sum(axis)"),
        (
            "ReLU of the radius",
            "Ball(np.maximum(self.mid, 0.0), self.rad, self.ledger)",
            "Ball(np.maximum(self.mid, 0.0), self.rad * (self.mid > 0), self.ledger)",
        ),
        (
            "reciprocal of the middle",
            "below = np.maximum((1.0 / high)",
            "below = np.maximum((1.0 / low)",
        ),
    ),
    *edits_of(
        "theorems/_brute_force_network.py",
        ("upper end decides", "(margin.lower() > 0) | own", "(margin.upper() > 0) | own"),
        ("one rival beaten is enough", "| own).all(axis=1)", "| own).any(axis=1)"),
        ("label 0 is the label", "own[rows, labels] = True", "own[rows, 0] = True"),
        ("right ones counted twice", "entry[1] += int(g)", "entry[1] += int(2 * g)"),
        ("wrong means undecided", "(margin.upper() <= 0)", "(margin.lower() <= 0)"),
    ),
]
