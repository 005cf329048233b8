"""Explained surprise: the forest over bins against enumeration, the ladder's rungs, their tails."""

from itertools import combinations, product

import numpy as np
import pytest
from jaxtyping import Float64, Int

from compactproofs.gate._bin_forest import (
    PresumptionError,
    PresumptiveModel,
    mutual_information,
    pairwise_tree,
)
from compactproofs.gate._surprise import (
    BinRules,
    ClassLinearRules,
    ExplainedSurprise,
    LinearRules,
    Rung,
    Tail,
    small_margin,
)
from compactproofs.gate.monitors import MonitorError

SIZES = (2, 3, 2, 3)


def chain(m: int, seed: int) -> Int[np.ndarray, "m 4"]:
    """Bins in which 1 follows 0, 3 follows 1, and 2 follows 3."""
    rng = np.random.default_rng(seed)
    bins = np.zeros((m, 4), dtype=np.int64)
    bins[:, 0] = rng.integers(0, 2, m)
    for cause, effect in ((0, 1), (1, 3), (3, 2)):
        copied = bins[:, cause] % SIZES[effect]
        noise = rng.integers(0, SIZES[effect], m)
        bins[:, effect] = np.where(rng.random(m) < 0.7, copied, noise)
    return bins


def everything() -> Int[np.ndarray, "n 4"]:
    return np.array(list(product(*(range(size) for size in SIZES))))


def spanning_trees() -> list[list[tuple[int, int]]]:
    """All trees over four sites, as rules away from site 0."""
    found = []
    for edges in combinations(combinations(range(4), 2), 3):
        reached, rules = {0}, []
        for _ in range(3):
            for a, b in edges:
                for cause, effect in ((a, b), (b, a)):
                    if cause in reached and effect not in reached:
                        reached.add(effect)
                        rules.append((cause, effect))
        if len(reached) == 4:
            found.append(rules)
    return found


def with_rules(model: PresumptiveModel, rules: list[tuple[int, int]]) -> PresumptiveModel:
    for cause, effect in rules:
        model = model.add_rule(cause, effect)
    return model


def test_a_forest_is_a_distribution_over_all_patterns() -> None:
    model = PresumptiveModel.independent(chain(50, 0), SIZES)
    for forest in (model, model.add_rule(2, 0), pairwise_tree(model)):
        assert np.exp(forest.log_likelihood(everything())).sum() == pytest.approx(1.0, abs=1e-12)


def test_without_rules_the_sites_are_independent() -> None:
    mine = chain(300, 1)
    model = PresumptiveModel.independent(mine, SIZES)
    for row in everything():
        expected = 0.0
        for site, code in enumerate(row):
            hits = (mine[:, site] == code).sum()
            expected += np.log((hits + 0.5) / (len(mine) + 0.5 * SIZES[site]))
        assert model.log_likelihood(row[None])[0] == pytest.approx(expected, abs=1e-12)


def test_a_rule_reads_the_counts_given_the_cause() -> None:
    mine = chain(300, 2)
    model = PresumptiveModel.independent(mine, SIZES).add_rule(0, 1)
    row = np.array([[1, 2, 0, 0]])
    given = mine[mine[:, 0] == 1]
    share = ((given[:, 1] == 2).sum() + 0.5) / (len(given) + 1.5)
    alone = ((mine[:, 1] == 2).sum() + 0.5) / (len(mine) + 1.5)
    before = PresumptiveModel.independent(mine, SIZES).log_likelihood(row)
    gained = (model.log_likelihood(row) - before)[0]
    assert gained == pytest.approx(np.log(share) - np.log(alone), abs=1e-12)


def test_the_pairwise_tree_is_the_likeliest_of_all_trees() -> None:
    trees = spanning_trees()
    assert len(trees) == 16  # Cayley: 4^2
    for seed in range(5):
        mine = chain(400, seed)
        model = PresumptiveModel.independent(mine, SIZES)
        best = max(with_rules(model, rules).log_likelihood(mine).sum() for rules in trees)
        found = pairwise_tree(model)
        assert found.log_likelihood(mine).sum() == pytest.approx(best, abs=1e-9)
        edges = {frozenset((int(c), e)) for e, c in enumerate(found.causes) if c >= 0}
        assert edges == {frozenset((0, 1)), frozenset((1, 3)), frozenset((3, 2))}


def test_mutual_information_is_that_of_the_counts() -> None:
    mine = chain(200, 3)
    information = mutual_information(mine, SIZES)
    expected = 0.0
    for a, b in product(range(SIZES[1]), range(SIZES[3])):
        p = ((mine[:, 1] == a) & (mine[:, 3] == b)).mean()
        if p > 0:
            expected += p * np.log(p / ((mine[:, 1] == a).mean() * (mine[:, 3] == b).mean()))
    for a, b in ((1, 3), (3, 1)):
        assert information[a, b] == pytest.approx(expected, abs=1e-12)


def test_the_lower_likelihood_falls_with_alpha_and_stays_below() -> None:
    mine = chain(400, 4)
    lower = []
    for alpha in (0.05, 1e-3, 1e-6):
        model = PresumptiveModel.independent(mine, SIZES, alpha).add_rule(0, 1)
        lower.append(model.lower_log_likelihood(everything()))
        assert (lower[-1] < model.log_likelihood(everything())).all()
    seen = np.isfinite(lower[0])
    assert seen.any() and (lower[0][seen] > lower[1][seen]).all()
    assert (lower[1][seen] > lower[2][seen]).all()


def test_a_bin_never_seen_has_no_lower_likelihood() -> None:
    mine = np.zeros((20, 1), dtype=np.int64)
    model = PresumptiveModel.independent(mine, (2,))
    assert model.lower_log_likelihood(np.array([[1]]))[0] == -np.inf
    assert np.isfinite(model.log_likelihood(np.array([[1]])))[0]


def test_what_is_no_forest_is_refused() -> None:
    model = PresumptiveModel.independent(chain(50, 0), SIZES).add_rule(0, 1).add_rule(1, 2)
    with pytest.raises(PresumptionError, match="site 1 depends on site 0 already"):
        model.add_rule(3, 1)
    with pytest.raises(PresumptionError, match="closes a circle"):
        model.add_rule(2, 0)
    with pytest.raises(PresumptionError, match="closes a circle"):
        model.add_rule(3, 3)
    with pytest.raises(PresumptionError, match="site 4 of 4"):
        model.add_rule(4, 3)
    with pytest.raises(PresumptionError, match="row 0 has bin 3 of site 1"):
        model.log_likelihood(np.array([[0, 3, 0, 0]]))
    with pytest.raises(PresumptionError, match="no rows"):
        PresumptiveModel.independent(chain(0, 0), SIZES)
    with pytest.raises(PresumptionError, match="alpha = 0"):
        PresumptiveModel.independent(chain(5, 0), SIZES, alpha=0.0)


def layer(m: int, seed: int) -> tuple[Float64[np.ndarray, "m 4"], Int[np.ndarray, " m"]]:
    """Sites that follow the class, and one another within it."""
    rng = np.random.default_rng(seed)
    classes = rng.integers(0, 3, m)
    h = rng.standard_normal((m, 4))
    h[:, 1] = 0.9 * h[:, 0] + 0.2 * h[:, 1]
    return h + 3.0 * np.eye(3, 4)[classes], classes


RUNGS = {
    "none": lambda: BinRules("none"),
    "pairs": lambda: BinRules("pairs"),
    "class": lambda: BinRules("class"),
    "linear": LinearRules,
    "class linear": ClassLinearRules,
}


def left_over(rung: Rung) -> float:
    learned = rung.fit(*layer(2000, 0))
    return float(learned.surprise(*layer(500, 1)).mean())


def test_better_explanations_leave_less_surprise_on_fresh_data() -> None:
    bins = [left_over(RUNGS[name]()) for name in ("none", "pairs")]
    assert bins[0] > bins[1] + 0.5
    # LinearRules is no likelihood: only the Gaussian of the class is compared with the truth.
    truth = 0.5 * np.log(2 * np.pi * np.e) * 4 + np.log(0.2)
    assert left_over(ClassLinearRules()) == pytest.approx(truth, abs=0.15)


def test_each_site_is_predicted_from_all_the_others() -> None:
    h, classes = layer(2000, 2)
    here, there = layer(3, 3)
    expected = np.zeros(3)
    for site in range(4):
        others = [i for i in range(4) if i != site]
        design = np.column_stack([np.ones(len(h)), h[:, others]])
        rule, *_ = np.linalg.lstsq(design, h[:, site], rcond=None)
        residual = h[:, site] - design @ rule
        z = (here[:, site] - np.column_stack([np.ones(3), here[:, others]]) @ rule) / residual.std()
        expected += 0.5 * z**2 + 0.5 * np.log(2 * np.pi) + np.log(residual.std())
    # The floor on variances moves it by little.
    found = LinearRules().fit(h, classes).surprise(here, there)
    assert found == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("name", RUNGS)
def test_a_rung_bears_constant_sites_and_few_rows(name: str) -> None:
    h, classes = layer(3, 4)
    h[:, 3] = 1.5
    learned = RUNGS[name]().fit(h, classes)
    known = h.copy()
    moved = h.copy()
    moved[:, 3] = 2.5
    usual, strange = learned.surprise(known, classes), learned.surprise(moved, classes)
    assert np.isfinite(usual).all() and (strange > usual).all()


@pytest.mark.parametrize("name", RUNGS)
def test_a_rung_refuses_what_it_cannot_use(name: str) -> None:
    h, classes = layer(50, 5)
    with pytest.raises(MonitorError, match="was not fitted"):
        RUNGS[name]().surprise(h, classes)
    learned = RUNGS[name]().fit(h, classes)
    with pytest.raises(MonitorError, match="3 sites, but the monitor was fitted on 4"):
        learned.surprise(h[:, :3], classes)
    h[7, 2] = np.nan
    with pytest.raises(MonitorError, match=r"activation \[7, 2\] is nan"):
        learned.surprise(h, classes)
    with pytest.raises(MonitorError, match=r"activation \[7, 2\] is nan"):
        RUNGS[name]().fit(h, classes)


def test_a_class_never_seen_is_as_surprising_as_can_be() -> None:
    h, classes = layer(50, 6)
    assert ClassLinearRules().fit(h, classes).surprise(h[:1], np.array([7]))[0] == np.inf
    seen = BinRules("class").fit(h, classes)
    assert seen.surprise(h[:1], np.array([7]))[0] > seen.surprise(h[:1], classes[:1])[0]


def test_a_tail_is_the_share_of_clean_scores_at_least_as_high() -> None:
    tail = Tail(np.arange(99.0))
    assert tail.surprise(np.array([-1.0])) == pytest.approx(0.0)
    assert tail.surprise(np.array([49.0])) == pytest.approx(-np.log(51 / 100))
    scores = np.linspace(-5, 200, 1000)
    assert (np.diff(tail.surprise(scores)) >= 0).all()
    beyond = tail.surprise(np.array([150.0, 160.0]))
    assert beyond[1] > beyond[0] > np.log(100)


def test_a_tail_of_equal_scores_still_has_an_order() -> None:
    tail = Tail(np.zeros(9))
    assert tail.surprise(np.array([-1.0, 0.0, 1.0])) == pytest.approx([0.0, 0.0, np.log(10)])
    endless = Tail(np.array([*np.arange(20.0), np.inf, np.inf]))
    found = endless.surprise(np.array([5.0, 19.0, 30.0, np.inf]))
    assert (np.diff(found) > 0).all() and not np.isnan(found).any()
    for hostile in (np.zeros(0), np.array([0.0, np.nan])):
        with pytest.raises(MonitorError, match="NaN among them or none"):
            Tail(hostile)


def test_explained_surprise_sees_the_layer_and_the_margin() -> None:
    h, classes = layer(600, 7)
    logits = 2.0 * h[:, :3]
    both = np.concatenate([h, logits], axis=1)
    right = logits.argmax(axis=1) == classes
    unfitted = ExplainedSurprise((slice(0, 4),), slice(4, 7)).calibrate(both)
    with pytest.raises(MonitorError, match="was not fitted"):
        unfitted.score(both)
    monitor = ExplainedSurprise((slice(0, 4),), slice(4, 7)).fit(both[right], classes[right])
    with pytest.raises(MonitorError, match="was not fitted"):
        monitor.score(both)
    monitor.calibrate(both[right])
    usual = np.median(monitor.score(both[right]))
    broken_rule, undecided = both[right].copy(), both[right].copy()
    broken_rule[:, 1] = 2.0 * broken_rule[:, 0] - broken_rule[:, 1] + 2.0
    undecided[:, 4:] *= 1e-3
    assert np.median(monitor.score(broken_rule)) > usual + 5
    assert np.median(monitor.score(undecided)) > usual + 5


def test_the_margin_is_the_lead_of_the_largest_logit() -> None:
    assert small_margin(np.array([[1.0, 5.0, 2.0], [4.0, 4.0, 0.0]])).tolist() == [-3.0, 0.0]
