"""Region certificates of the gate, their float32 semantics, networks, and membership in cells.

Left out: a split of a unit that the pattern has decided, or of one unit twice, whose leaves still
cover the cell; betas of units without a sign, which have no effect.
"""

from .form import edits_of

GATE_REGIONS = [
    *edits_of(
        "gate/_region_bounds.py",
        (
            "wrong guesses of lines for free",
            "(A * Ball.exact(lift, ledger) - slip)",
            "(A * Ball.exact(lift, ledger))",
        ),
        ("wrong guesses of ends for free", "(A * end - slip)", "(A * end)"),
        (
            "signs used the wrong way",
            "through = through - Ball.exact(signed",
            "through = through + Ball.exact(signed",
        ),
        (
            "line below for both signs",
            "lift = np.where(negative, unit.lift[:, None], 0.0)",
            "lift = np.where(negative, 0.0 * unit.lift[:, None], 0.0)",
        ),
        (
            "one end of the chord",
            "np.maximum(np.maximum(at_low, at_high), 0.0)",
            "np.maximum(np.minimum(at_low, 0.5 * at_high), 0.0)",
        ),
        (
            "the chord's far end, which rounding may leave above the line",
            "np.maximum(np.maximum(at_low, at_high), 0.0)",
            "np.maximum(at_low, 0.0)",
        ),
        (
            "every cut clipped at 0",
            "np.maximum(low, 0.0) if sites.after_relu else low",
            "np.maximum(low, 0.0)",
        ),
        (
            "ends of events swapped",
            "np.where(m > 0, choices.row_low, np.where(m < 0, choices.row_high, 0.0))",
            "np.where(m < 0, choices.row_low, np.where(m > 0, choices.row_high, 0.0))",
        ),
        ("events added twice", "A = form.A - taken", "A = form.A + taken"),
        (
            "ends of events left out",
            "form.k + (used * Ball.exact(ends",
            "form.k + (used * Ball.exact(0 * ends",
        ),
        (
            "units on taken for off",
            "np.where(sign > 0, np.maximum(here_low",
            "np.where(sign < 0, np.maximum(here_low",
        ),
        (
            "units off taken for on",
            "np.where(sign < 0, np.minimum(here_high",
            "np.where(sign > 0, np.minimum(here_high",
        ),
        ("signs of the first layer for all", "        offset += width\n", ""),
        ("skip connection left out", "if network.skip is not None:", "if False:"),
        (
            "upper ends from lower ends",
            "np.minimum(here_high, -passed[:, width:])",
            "np.minimum(here_high, passed[:, :width])",
        ),
        (
            "no ReLU between ranges",
            "here_low, here_high = np.maximum(here_low, 0.0), np.maximum(here_high, 0.0)",
            "here_low, here_high = here_low + 0.0, here_high + 0.0",
        ),
        ("undecided units called on", "on, off = low >= 0", "on, off = high >= 0"),
        ("undecided units called off", "high <= 0\n", "low <= 0\n"),
        (
            "biases left out",
            "form.k + passed[:, :, -1]",
            "form.k + passed[:, :, -1] * Ball.exact(np.zeros(1), ledger)",
        ),
        (
            "biases of the logits left out",
            "differences(last.b[None])[..., 0]",
            "differences(0 * last.b[None])[..., 0]",
        ),
        (
            "rivals and label swapped",
            "(all_outputs[:, label, None] - all_outputs[:, rivals])",
            "(all_outputs[:, rivals] - all_outputs[:, label, None])",
        ),
        (
            "points called empty leaves",
            "empty |= (here_low > here_high).any(axis=1)",
            "empty |= (here_low >= here_high).any(axis=1)",
        ),
        (
            "the better end of the box",
            "end = Ball.exact(np.where(negative, high, low), ledger)",
            "end = Ball.exact(np.where(negative, low, high), ledger)",
        ),
        (
            "the middle of the box",
            "end = Ball.exact(np.where(negative, high, low), ledger)",
            "end = Ball.exact(0.5 * (low + high), ledger)",
        ),
        (
            "biases of units of one sign",
            "np.concatenate([before.b, -before.b])",
            "np.concatenate([before.b, before.b])",
        ),
        (
            "bounds from above",
            "(A * end - slip).sum(2)).lower()",
            "(A * end - slip).sum(2)).upper()",
        ),
        (
            "steep lines below",
            "else choices.slopes[:, :, units]",
            "else 1.5 * choices.slopes[:, :, units]",
        ),
    ),
    *edits_of(
        "gate/_regions.py",
        (
            "one rival beaten is enough",
            "region_bounds(network, sites, cell, witness).min())",
            "region_bounds(network, sites, cell, witness).max())",
        ),
        ("float32 forgotten", "if not margin > 2 * envelope:", "if not margin > 0:"),
        (
            "errors of the rivals alone",
            "(error[rivals] + error[cell.label, None])",
            "error[rivals]",
        ),
        (
            "first block of leaves alone",
            "cell, signs[leaves], ledger)",
            "cell, signs[:step], ledger)",
        ),
        (
            "first leaf alone",
            "np.minimum(bounds, found.min(axis=0))",
            "np.minimum(bounds, found[0])",
        ),
        (
            "last leaf alone",
            "np.minimum(bounds, found.min(axis=0))",
            "np.minimum(bounds, found[-1])",
        ),
        (
            "leaves with all or no units on",
            "np.where(leaves >> bit & 1, 1, -1)",
            "np.where(leaves & 1, 1, -1)",
        ),
        (
            "pattern of other units",
            "pattern[size - len(cell.pattern) :] = cell.pattern",
            "pattern[: len(cell.pattern)] = cell.pattern",
        ),
        ("slopes above 1", "(slopes < 0).any() or (slopes > 1).any()", "(slopes < 0).any()"),
        ("slopes below 0", "(slopes < 0).any() or (slopes > 1).any()", "(slopes > 1).any()"),
        ("negative betas", "(betas < 0).any()", "False"),
        (
            "events of other sites",
            "used & (elsewhere | ~np.isfinite(open_ended))",
            "used & ~np.isfinite(open_ended)",
        ),
    ),
    *edits_of(
        "gate/_evaluations.py",
        ("roundings forgotten", "np.array([roundings(terms + 6)])", "np.array([0.0])"),
        (
            "errors of earlier layers forgotten",
            "error = error @ weight.absolute()",
            "error = error @ weight.absolute() * exact(np.zeros(1))",
        ),
        (
            "roundings of one term",
            "np.array([roundings(terms + 6)])",
            "np.array([roundings(terms + 6) / 64])",
        ),
        (
            "errors that cancel",
            "error = error @ weight.absolute()",
            "error = (error @ weight).absolute()",
        ),
        (
            "an infinite activation times 0",
            "_require_range(sums, size(values), size(weight))",
            "_require_range(sums, size(weight))",
        ),
        (
            "0 times an infinite weight of the skip connection",
            "_require_range(sums, size(box), size(skip))",
            "_require_range(sums, size(box))",
        ),
        ("skip connection without errors", "if network.skip is not None and", "if False and"),
    ),
    *edits_of(
        "gate/_relu_network.py",
        ("no ReLU after a cut after one", "(after_relu and number == layer):", "after_relu:"),
        ("no ReLU", "active = active.relu()", "active = active"),
        (
            "skip connection not in the logits",
            "seen[-1] = seen[-1] + x @ Ball",
            "seen[-1] = seen[-1] + x @ Ball.exact(0 * self.skip, x.ledger) if True else Ball",
        ),
        (
            "biases not in the digest",
            "for v in (layer.W, layer.b)):",
            "for v in (layer.W, layer.W)):",
        ),
        (
            "ReLUs not in the digest",
            "[layer.relu for layer in self.layers]",
            "[True for layer in self.layers]",
        ),
        ("skip connection not in the digest", "digest.update(_canonical(self.skip))", "pass"),
    ),
    *edits_of(
        "gate/_cell.py",
        (
            "pattern not in the digest",
            "for name in _FIELDS:\n            values = getattr(self, name)\n            dig",
            "for name in _FIELDS[:-1]:\n            values = getattr(self, name)\n            dig",
        ),
        (
            "label not in the digest",
            "{len(self.pattern)} {self.label}\\n",
            "{len(self.pattern)}\\n",
        ),
    ),
    *edits_of(
        "gate/_cell_table.py",
        (
            "a subnormal eps reaches further than a normal one",
            "normal = Ball.exact(np.maximum(by, _LEAST_NORMAL), ledger)",
            "normal = Ball.exact(by, ledger)",
        ),
        ("ends moved outwards", "moved = values + sign * by", "moved = values - sign * by"),
        (
            "ends rounded outwards",
            "np.nextafter(moved, sign * np.inf), sign * np.inf)",
            "np.nextafter(moved, -sign * np.inf), -sign * np.inf)",
        ),
        (
            "eps not added to events",
            "shift = np.where(by == 0, 0.0, moves.upper())",
            "shift = 0 * moves.upper()",
        ),
        (
            "eps not added to units",
            "if self._reach:\n                z = z.widened",
            "if False:\n                z = z.widened",
        ),
        (
            "units on taken for off",
            "np.where(signs > 0, below >= 0, np.where(signs < 0, above",
            "np.where(signs < 0, below >= 0, np.where(signs > 0, above",
        ),
        ("units partly on", "np.where(signs > 0, below >= 0,", "np.where(signs > 0, above >= 0,"),
        (
            "events partly inside",
            "(below >= self._row_low[rows]) & (above <= self._row_high[rows])",
            "(above >= self._row_low[rows]) & (below <= self._row_high[rows])",
        ),
        ("events from above alone", "(below >= self._row_low[rows]) & (above", "(above"),
        ("one event is enough", "lost = pairs[~fits]", "lost = pairs[~fits][1:]"),
        ("one unit is enough", "fits.all(axis=1)", "fits.any(axis=1)"),
        (
            "low ends of post sites forgotten",
            "bounded = np.array([c.low > 0",
            "bounded = np.array([c.low > 1",
        ),
        (
            "infinity is a number",
            "finite = np.isfinite(h).all(axis=1, keepdims=True)",
            "finite = np.ones((len(h), 1), dtype=bool)",
        ),
        ("no ReLU before units", "z = z.relu()", "z = z"),
        ("biases of units left out", "* weight).sum(2) + bias", "* weight).sum(2)"),
        (
            "box from above alone",
            "(h[:, None] >= self._low) & (h[:, None] <= self._high)",
            "(h[:, None] <= self._high)",
        ),
        ("eps makes events wider", "_inner(ends[0], shift, 1.0)", "_inner(ends[0], shift, -1.0)"),
    ),
]
