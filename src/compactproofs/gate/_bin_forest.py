"""A forest of rules over the bins of sites: what one presumes of a pattern, in nats.

Every site is presumed to depend on at most one other, its cause (which may be the class, a column
like any other), and on nothing else given that one:

    log P(bins) = sum over sites i of log P(bin of i | bin of its cause).

Without rules that is independence. The counts come from the rows the model was made of, so the
numbers are PRESUMED: they rank, and never admit.

Notation: m rows to learn from, n rows, s sites, J the most bins of a site.
"""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from jaxtyping import Float64, Int

from compactproofs.kernel import UserError

_PSEUDO: Final = 0.5
"""Added to every count, so that a bin that was never seen costs much and not everything."""


class PresumptionError(UserError):
    """Bins or rules that make no forest."""


@dataclass(frozen=True, eq=False)
class PresumptiveModel:
    """The model of ``mine`` under the rules so far; immutable, see ``independent``."""

    mine: Int[np.ndarray, "m s"]
    sizes: tuple[int, ...]
    causes: Int[np.ndarray, " s"]
    """The cause of each site, -1 for none."""
    log_table: Float64[np.ndarray, "s J J"]
    """[i, a, b]: log P(site i in bin b | cause in bin a); row 0 where there is no cause."""
    log_low: Float64[np.ndarray, "s J J"]
    """The same at the lower ends of one-sided Clopper-Pearson intervals."""
    alpha: float

    @classmethod
    def independent(
        cls, mine: Int[np.ndarray, "m s"], sizes: tuple[int, ...], alpha: float = 1e-3
    ) -> "PresumptiveModel":
        """No rules: every site by itself. ``sizes`` are the numbers of bins.

        ``alpha`` is the risk of each lower end. Raises PresumptionError for bins out of range or no
        rows. Cost: m s.
        """
        if not 0 < alpha < 1:
            raise PresumptionError(f"alpha = {alpha}: pass a risk strictly between 0 and 1")
        count, most = len(sizes), max(sizes, default=0)
        blank = np.full((count, most, most), -np.inf)
        model = cls(mine, sizes, np.full(count, -1), blank, blank, alpha)
        model._require_bins(mine)
        if not len(mine):
            raise PresumptionError("no rows to learn from: pass at least one")
        return model._with_tables(range(count))

    def add_rule(self, cause: int, effect: int) -> "PresumptiveModel":
        """The model in which site ``effect`` depends on site ``cause``, counted on ``mine``.

        Raises PresumptionError if the effect has a cause already, or depends on itself then.
        Cost: m.
        """
        for site in (cause, effect):
            if not 0 <= site < len(self.sizes):
                raise PresumptionError(f"site {site} of {len(self.sizes)}: they count from 0")
        if self.causes[effect] >= 0:
            raise PresumptionError(
                f"site {effect} depends on site {self.causes[effect]} already: a site has one cause"
            )
        above = cause
        while above >= 0:
            if above == effect:
                raise PresumptionError(
                    f"the rule {cause} -> {effect} closes a circle: leave one of its rules out"
                )
            above = int(self.causes[above])
        causes = self.causes.copy()
        causes[effect] = cause
        return replace(self, causes=causes)._with_tables([effect])

    def log_likelihood(self, bins: Int[np.ndarray, "n s"]) -> Float64[np.ndarray, " n"]:
        """log P of each row, nats; it sums to 1 over all rows there can be. Cost: n s.

        Raises PresumptionError for bins out of range, as does the lower one.
        """
        return self._summed(self.log_table, bins)

    def lower_log_likelihood(self, bins: Int[np.ndarray, "n s"]) -> Float64[np.ndarray, " n"]:
        """Each factor at its lower end: less likely than presumed; -inf for a bin never seen.

        It only falls when ``alpha`` does. Still PRESUMED: the forest itself is not tested.
        """
        return self._summed(self.log_low, bins)

    def _summed(
        self, table: Float64[np.ndarray, "s J J"], bins: Int[np.ndarray, "n s"]
    ) -> Float64[np.ndarray, " n"]:
        self._require_bins(bins)
        given = np.where(self.causes >= 0, bins[:, np.maximum(self.causes, 0)], 0)
        return table[np.arange(len(self.sizes)), given, bins].sum(axis=1)

    def _require_bins(self, bins: Int[np.ndarray, "n s"]) -> None:
        if bins.ndim != 2 or bins.shape[1] != len(self.sizes) or not len(self.sizes):
            raise PresumptionError(f"bins of shape {bins.shape} for {len(self.sizes)} sites")
        outside = np.argwhere((bins < 0) | (bins >= np.array(self.sizes)))
        if len(outside):
            row, site = outside[0].tolist()
            raise PresumptionError(
                f"row {row} has bin {bins[row, site]} of site {site}, which has bins 0 to "
                f"{self.sizes[site] - 1}"
            )

    def _with_tables(self, sites: range | list[int]) -> "PresumptiveModel":
        from scipy.special import betaincinv

        log_table, log_low = self.log_table.copy(), self.log_low.copy()
        for site in sites:
            cause, size = int(self.causes[site]), self.sizes[site]
            rows = self.sizes[cause] if cause >= 0 else 1
            given = self.mine[:, cause] if cause >= 0 else np.zeros(len(self.mine), dtype=np.int64)
            joint = np.bincount(given * size + self.mine[:, site], minlength=rows * size)
            counts = joint.reshape(rows, size).astype(np.float64)
            total = counts.sum(axis=1, keepdims=True)
            log_table[site, :rows, :size] = np.log((counts + _PSEUDO) / (total + _PSEUDO * size))
            # Where k = 0 the lower end is 0; 1 stands in for k to keep the quantile defined.
            ends = betaincinv(np.maximum(counts, 1), total - counts + 1, self.alpha)
            low = np.full(counts.shape, -np.inf)
            np.log(ends, out=low, where=counts > 0)
            log_low[site, :rows, :size] = low
        return replace(self, log_table=log_table, log_low=log_low)


def mutual_information(
    bins: Int[np.ndarray, "m s"], sizes: tuple[int, ...]
) -> Float64[np.ndarray, "s s"]:
    """Nats that each pair of sites tells about each other on these rows. Cost: m (s J)^2."""
    offsets = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    held = np.zeros((len(bins), sum(sizes)))
    held[np.arange(len(bins))[:, None], bins + offsets] = 1.0
    joint, alone = held.T @ held / len(bins), held.mean(axis=0)
    expected = np.outer(alone, alone)
    ratio = np.divide(joint, expected, out=np.ones_like(joint), where=joint > 0)
    gain = joint * np.log(ratio)
    return np.add.reduceat(np.add.reduceat(gain, offsets, axis=0), offsets, axis=1)


def pairwise_tree(model: PresumptiveModel) -> PresumptiveModel:
    """The tree of pairwise rules that makes ``mine`` most likely (Chow and Liu).

    Adds a rule for every edge of a spanning tree of most mutual information; ``model`` must have
    no rules. Cost: m (s J)^2, and s^2 log s.
    """
    from scipy.sparse.csgraph import breadth_first_order, minimum_spanning_tree

    information = mutual_information(model.mine, model.sizes)
    # The solver reads 0 as no edge, and looks for the least: all weights become positive.
    edges = minimum_spanning_tree(information.max() + 1.0 - information)
    order, above = breadth_first_order(edges, 0, directed=False)
    for site in order[1:].tolist():
        model = model.add_rule(int(above[site]), site)
    return model
