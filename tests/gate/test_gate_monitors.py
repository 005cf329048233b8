"""Monitors: what they see, what they refuse, and the error they leave at a coverage."""

import importlib
from functools import cache

import numpy as np
import pytest
from jaxtyping import Float64, Int

from compactproofs.gate._anomalies import TARGET, Labelled, anomalous, training_data
from compactproofs.gate._coverage_risk import (
    ScoreError,
    auroc,
    clean_error_at_coverage,
    coverage_risk,
)
from compactproofs.gate._forward import activations
from compactproofs.gate._surprise import ExplainedSurprise
from compactproofs.gate.monitors import (
    MONITORS,
    ClassMahalanobis,
    LocalOutlier,
    Mahalanobis,
    Monitor,
    MonitorError,
    NearestNeighbours,
    PrincipalResidual,
    RelativeMahalanobis,
    VariationalResidual,
)
from compactproofs.gate.monitors._monitor import checked
from compactproofs.kernel import UserError
from compactproofs.kernel.gate import SiteGroup, Sites
from compactproofs.training._digits import MlpSettings, digits_splits, train_mlp

QUICK = dict(MONITORS) | {"vae": lambda: VariationalResidual(codes=4, hidden=32, steps=300)}
each_monitor = pytest.mark.parametrize("name", QUICK)


def cloud(
    m: int, seed: int, sites: int = 6
) -> tuple[Float64[np.ndarray, "m s"], Int[np.ndarray, " m"]]:
    """Three classes whose sites lie near a plane."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, m)
    directions = np.random.default_rng(99).standard_normal((2, sites))
    means = 4.0 * np.random.default_rng(98).standard_normal((3, 2))
    plane = means[labels] + rng.standard_normal((m, 2))
    return plane @ directions + 0.1 * rng.standard_normal((m, sites)), labels


@cache
def learned(name: str) -> Monitor:
    return QUICK[name]().fit(*cloud(300, 0))


@each_monitor
def test_every_monitor_finds_what_lies_far_off(name: str) -> None:
    monitor = learned(name)
    usual, _ = cloud(200, 1)
    far = 40.0 * np.random.default_rng(2).standard_normal((200, 6))
    assert monitor.score(usual).shape == (200,)
    assert auroc(monitor.score(usual), monitor.score(far)) > 0.99


@pytest.mark.parametrize("name", sorted(set(QUICK) - {"isolation_forest"}))
def test_a_broken_correlation_is_found_without_any_site_out_of_range(name: str) -> None:
    usual, _ = cloud(200, 1)
    rng = np.random.default_rng(3)
    shuffled = np.column_stack([rng.permutation(column) for column in usual.T])
    monitor = learned(name)
    assert auroc(monitor.score(usual), monitor.score(shuffled)) > 0.9


@each_monitor
def test_the_same_fit_gives_the_same_scores_whatever_the_rows_beside(name: str) -> None:
    h, _ = cloud(20, 4)
    first = learned(name).score(h)
    assert (first == learned.__wrapped__(name).score(h)).all()
    alone = np.concatenate([learned(name).score(h[i : i + 1]) for i in range(3)])
    assert alone == pytest.approx(first[:3], rel=1e-4)


def test_mahalanobis_is_the_squared_distance() -> None:
    h, labels = cloud(300, 0)
    there, _ = cloud(5, 1)
    deviations = there - h.mean(axis=0)
    expected = [d @ np.linalg.inv(np.cov(h.T, bias=True)) @ d for d in deviations]
    joint = Mahalanobis().fit(h, labels).score(there)
    assert joint == pytest.approx(expected, rel=0.3)  # the floor on variances
    alone = (deviations**2 / h.var(axis=0)).sum(axis=1)
    assert RelativeMahalanobis().fit(h, labels).score(there) == pytest.approx(joint - alone)


def test_class_mahalanobis_measures_from_the_nearest_mean() -> None:
    h, labels = cloud(300, 0)
    monitor = ClassMahalanobis().fit(h, labels)
    means = np.stack([h[labels == c].mean(axis=0) for c in range(3)])
    assert monitor.score(means) == pytest.approx(0.0, abs=1e-12)
    between = means.mean(axis=0)[None]
    assert monitor.score(between)[0] > 1.0 > Mahalanobis().fit(h, labels).score(between)[0]


@each_monitor
def test_constant_sites_and_few_rows_still_give_an_order(name: str) -> None:
    h, labels = cloud(4, 5, sites=9)
    h[:, 3] = 1.5
    monitor = QUICK[name]().fit(h, labels)
    moved = h.copy()
    moved[:, 3] = 50.0
    usual, strange = monitor.score(h), monitor.score(moved)
    assert np.isfinite(usual).all() and np.isfinite(strange).all()
    # The forest cuts only where the trusted rows differ, and a site alone breaks no correlation.
    if name not in ("isolation_forest", "relative_mahalanobis"):
        assert strange.min() > usual.max()


@each_monitor
def test_absurdly_large_activations_stay_strange(name: str) -> None:
    huge = np.full((1, 6), 1e30)
    usual, _ = cloud(20, 8)
    assert learned(name).score(huge)[0] > np.median(learned(name).score(usual))


@each_monitor
def test_a_cloud_of_one_point_is_borne(name: str) -> None:
    monitor = QUICK[name]().fit(np.ones((5, 3)), np.zeros(5, dtype=np.int64))
    scores = monitor.score(np.array([[1.0, 1.0, 1.0], [1.0, 3.0, 1.0]]))
    assert np.isfinite(scores).all()


@each_monitor
def test_unusable_activations_are_refused_in_one_line(name: str) -> None:
    h, labels = cloud(30, 6)
    with pytest.raises(MonitorError, match="was not fitted"):
        QUICK[name]().score(h)
    with pytest.raises(MonitorError, match="1 rows to learn from"):
        QUICK[name]().fit(h[:1], labels[:1])
    monitor = QUICK[name]().fit(h, labels)
    with pytest.raises(MonitorError, match="5 sites, but the monitor was fitted on 6"):
        monitor.score(h[:, :5])
    for hostile in (np.nan, np.inf):
        h[2, 1] = hostile
        for call in (monitor.score, lambda rows: QUICK[name]().fit(rows, labels)):
            with pytest.raises(MonitorError, match=r"activation \[2, 1\] is (nan|inf)") as caught:
                call(h)
            assert "\n" not in str(caught.value)


def test_labels_that_do_not_fit_the_rows_are_refused() -> None:
    h, labels = cloud(30, 6)
    with pytest.raises(MonitorError, match=r"labels of shape \(29,\) for 30 rows"):
        checked(h, labels[:29])
    with pytest.raises(MonitorError, match=r"activations of shape \(30, 0\)"):
        checked(h[:, :0])


@pytest.mark.parametrize(
    ("monitor", "extra"),
    [(Mahalanobis, "gate"), (NearestNeighbours, "gate"), (LocalOutlier, "gate")]
    + [(PrincipalResidual, "gate"), (VariationalResidual, "train")],
)
def test_a_missing_extra_is_named(
    monitor: type[Monitor], extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(module: str) -> None:
        raise ImportError(module)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(UserError, match=rf"pip install 'compactproofs\[{extra}\]'"):
        monitor().fit(*cloud(30, 0))


def test_auroc_is_the_share_of_pairs_in_order() -> None:
    rng = np.random.default_rng(7)
    clean, strange = rng.integers(0, 5, 40).astype(float), rng.integers(1, 7, 30).astype(float)
    strange[0] = np.inf
    above = (strange[:, None] > clean) + 0.5 * (strange[:, None] == clean)
    assert auroc(clean, strange) == pytest.approx(above.mean(), abs=1e-12)
    with pytest.raises(ScoreError, match="0 clean"):
        auroc(clean[:0], strange)
    with pytest.raises(ScoreError, match="NaN"):
        auroc(clean, np.array([np.nan]))


def test_the_error_at_a_coverage_counts_the_least_strange_inputs() -> None:
    scores = np.array([3.0, 1.0, 2.0, 4.0])
    wrong = np.array([True, False, True, False])
    assert coverage_risk(scores, wrong).tolist() == pytest.approx([0, 1 / 2, 2 / 3, 1 / 2])
    assert clean_error_at_coverage(scores, wrong, 0.5) == 0.5
    assert clean_error_at_coverage(scores, wrong, 0.25) == 0.0


def test_ties_share_their_errors_whatever_their_order() -> None:
    scores = np.array([0.0, 1.0, 1.0, 1.0])
    for place in range(1, 4):
        wrong = np.arange(4) == place
        assert clean_error_at_coverage(scores, wrong, 0.5) == pytest.approx(1 / 6)


def test_impossible_coverages_are_refused() -> None:
    scores, wrong = np.arange(10.0), np.zeros(10, dtype=bool)
    for coverage in (0.0, 0.01, 1.5, -1.0):
        with pytest.raises(ScoreError, match=f"coverage {coverage} of 10"):
            clean_error_at_coverage(scores, wrong, coverage)
    with pytest.raises(ScoreError, match="NaN"):
        coverage_risk(scores * np.nan, wrong)
    with pytest.raises(ScoreError, match="pass one each"):
        coverage_risk(scores, wrong[:5])


def test_a_corner_trigger_is_seen_in_every_layer() -> None:
    train, check, test = (Labelled(*part) for part in digits_splits(10))
    poisoned = training_data("corner", train, seed=10)
    network = train_mlp(*poisoned, MlpSettings(epochs=40, seed=10))
    sizes = network.widths
    groups = [SiteGroup(f"pre{i}", "pre", size) for i, size in enumerate(sizes) if i]
    sites = Sites(tuple(groups), cut="pre1", layer=1)
    marked = anomalous("corner", network, test, seed=10)
    h = {
        part: activations(network, sites, x)
        for part, x in (("train", train.x), ("check", check.x), ("test", test.x), ("bad", marked))
    }
    assert (h["bad"].outputs.argmax(axis=1) == TARGET).mean() > 0.8
    least = {"pre1": 0.97, "pre2": 0.97, "pre3": 0.90}
    tried = [(name, layer) for name in ("mahalanobis", "class_mahalanobis") for layer in least]
    for name, layer in [*tried, ("vae", "pre1")]:
        part = sites.slice(layer)
        monitor = QUICK[name]().fit(h["train"].h[:, part], train.y)
        found = auroc(monitor.score(h["test"].h[:, part]), monitor.score(h["bad"].h[:, part]))
        assert found > least[layer], (name, layer)
    explained = ExplainedSurprise((sites.slice("pre1"),), sites.slice("pre3"))
    explained.fit(h["train"].h, train.y).calibrate(h["check"].h)
    assert auroc(explained.score(h["test"].h), explained.score(h["bad"].h)) > 0.99
