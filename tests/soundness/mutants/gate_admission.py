"""Ledgers and admission: conditions skipped, entries believed, retractions and births ignored.

Left out: an empty running intersection, which is inconsistent by itself; a birth after the data
that have arrived, which only waits longer; the name of the line before, which every id covers; a
retracted closing, for it is never undone; arrays of another cell, which then has no parts; words
of refusals, which decide nothing.
"""

from .form import edits_of

GATE_ADMISSION = [
    *edits_of(
        "gate/_admission.py",
        (
            "an overdrawn account is open",
            "if history.spent > opened.alpha:",
            "if history.spent > 2 * opened.alpha:",
        ),
        (
            "a closed gate is open",
            "if history.closed is not None:",
            "if history.closed is not None and not history.lines:",
        ),
        (
            "another network's ledger is used",
            "if opened.model != network.sha256:",
            "if opened.model == opened.sites.sha256:",
        ),
        (
            "another list's ledger is used",
            "if opened.sites.sha256 != sites.sha256:",
            "if opened.sites.size != sites.size:",
        ),
        (
            "eps_act forgotten",
            "within = float(history.opened.eps_act)",
            "within = 0.0 * float(history.opened.eps_act)",
        ),
        (
            "the model's answer is not looked at",
            "admits &= answer[:, None] == usable.labels",
            "admits &= answer[:, None] <= 9",
        ),
        (
            "any one answer will do",
            "admits &= answer[:, None] == usable.labels",
            "admits &= answer[:, None] >= 0",
        ),
        (
            "any answer will do for a record",
            "if one.label == label]",
            "if one.label >= label]",
        ),
        (
            "every cell is eligible",
            "if one.warrants)",
            "if one.warrants is not None)",
        ),
    ),
    *edits_of(
        "gate/_conditions.py",
        (
            "no certificate needed",
            "reasons = tuple(one for one in found.values() if isinstance(one, str))",
            "reasons = tuple(one for one in found.values() if str(one)[:2] in ('(3', '(4'))",
        ),
        ("tau compared the wrong way", "if mass < tau:", "if mass > tau:"),
        ("half of tau will do", "if mass < tau:", "if 2 * mass < tau:"),
        ("tau is not asked for", "if mass < tau:", "if mass < 0 * tau:"),
        ("rho compared the wrong way", "if risk <= rho:", "if risk >= rho:"),
        ("delta taken for rho", "if risk <= rho:", "if risk <= (delta or rho):"),
        (
            "a family of no group is enough",
            "if calibration is not None:",
            "if calibration is not None or self._obligations.calibrated:",
        ),
        (
            "contradictions are overlooked",
            "if not consistent(self._statements):",
            "if not consistent(self._statements[:1]):",
        ),
        (
            "any cell's risk",
            "if s.antecedent == events and",
            "if s.antecedent and",
        ),
        (
            "the mass of one part",
            "lower_probability(frozenset(self._obligations.parts[cell]), self._statements)",
            "lower_probability(frozenset(self._obligations.parts[cell][:1]), self._statements)",
        ),
    ),
    *edits_of(
        "gate/_chain.py",
        ("birth dates believed", "if born != self.length:", "if born > self.length:"),
        (
            "alpha of a retracted rule comes back",
            "self.spent += alpha",
            "self.spent += alpha if self.length < 100 else 0",
        ),
        (
            "what depends on it stays",
            "falling.extend(self._dependents[number])",
            "falling.extend(())",
        ),
        (
            "the dead are alive",
            "alive = all(self.alive[need] for need in needs)",
            "alive = len(needs) >= 0",
        ),
        (
            "ids believed",
            "Line.after(prev, line.entry).id != line.id",
            "Line.after(prev, line.entry).prev != line.prev",
        ),
        (
            "one batch counts twice",
            "if shard in self._streamed:",
            "if shard in self._numbers:",
        ),
        (
            "counts outlive their data",
            "yield from (batch.number for batch in self.span(proposal.born, stop))",
            "yield from (batch.number for batch in self.span(stop, stop))",
        ),
        ("alpha is earned", "require_sense(line.entry)", "line.entry"),
        ("gaps in the stream", "if start != self.length:", "if start < self.length:"),
        (
            "data counted before they arrived",
            "if stop > self.length:",
            "if stop > self.length + 100:",
        ),
        (
            "two cells of one name",
            "if self.cell_number(cell) is not None:",
            "if alive and self.cell_number(cell) is not None:",
        ),
    ),
    *edits_of(
        "gate/_evidence.py",
        (
            "ties are answers",
            "alone = (outputs == top).sum(axis=1) == 1",
            "alone = (outputs == top).any(axis=1)",
        ),
        ("shards believed", "shard.sha256 != reference", "not shard.sha256"),
        ("everything counts as the antecedent", "n += int(among.sum())", "n += len(among)"),
        ("the antecedent forgotten", "k += int((among & self._all_of(", "k += int((self._all_of("),
        (
            "good for bad",
            '(answers(arrays["outputs"]) != arrays["labels"])',
            '(answers(arrays["outputs"]) == arrays["labels"])',
        ),
        (
            "each group by itself",
            "union = union | self._all_of(events, batch)[rows]",
            "union = self._all_of(events, batch)[rows]",
        ),
    ),
    *edits_of(
        "gate/_obligations.py",
        (
            "certificates of other cells",
            "or found.cell_id != entry.cell",
            "or not found.cell_id",
        ),
        (
            "any parts make a cell",
            "_intersection(entry, cell, cells, parts) != cell.id",
            "_intersection(entry, cell, cells, parts) is None",
        ),
        (
            "hits believed",
            "if counted != (entry.k, entry.n):",
            "if counted[1] != entry.n:",
        ),
        (
            "trials believed",
            "if counted != (entry.k, entry.n):",
            "if counted[0] != entry.k:",
        ),
        ("low ends believed", "if entry.low > interval.low or", "if entry.low > 1 or"),
        ("high ends believed", "or entry.high < interval.high:", "or entry.high < 0:"),
        (
            "counted when it suits",
            "if rule.take is not None and (before or entry.stop != rule.born + rule.take):",
            "if rule.take is not None and before:",
        ),
        (
            "counted as often as it suits",
            "if rule.take is not None and (before or entry.stop != rule.born + rule.take):",
            "if rule.take is not None and entry.stop != rule.born + rule.take:",
        ),
        (
            "one interval for all looks",
            "interval = confidence_sequence(entry.k, entry.n, rule.alpha, before)",
            "interval = clopper_pearson(entry.k, entry.n, rule.alpha)",
        ),
        (
            "groups believed",
            "entry.chosen > chosen",
            "entry.chosen > len(bad)",
        ),
        ("one group more", "delta, family.alpha) + 1", "delta, family.alpha) + 2"),
        ("families as many as it suits", "or calibrated is not None or", "or"),
        (
            "all groups calibrated",
            "for group in family.groups[: entry.chosen]:",
            "for group in family.groups[: entry.chosen + 1]:",
        ),
        (
            "another model's record",
            "if digest_of(prints) != entry.digest or",
            "if not entry.digest or",
        ),
        (
            "no batch is looked at",
            "for number, _ in history.living(StreamEntry):",
            "for number, _ in list(history.living(StreamEntry))[:0]:",
        ),
    ),
    *edits_of(
        "gate/_fingerprints.py",
        ("any model's fingerprint", "\\n{model}\\n", "\\n"),
        ("any site's fingerprint", "\\n{sites}\\n", "\\n"),
        ("-0.0 is a number of its own", "np.uint64(1 << 63)", "np.uint64(1 << 62)"),
        ("denormals are 0", "bits == _MINUS_ZERO", "np.abs(h) < 1e-300"),
        ("NaN has a fingerprint", 'if whole else b""', 'if whole or True else b""'),
    ),
    *edits_of(
        "gate/_verdict.py",
        (
            "a presumption admits",
            'kinds == {"certificate": Proven, "mass": Measured, "risk": Measured}',
            'set(kinds) == {"certificate", "mass", "risk"}',
        ),
    ),
]
