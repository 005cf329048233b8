from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from compactproofs.crosscoders import default_sites, residuals
from compactproofs.gate import Gate
from compactproofs.gate._events import Variable, class_variable, site_bins, site_signs
from compactproofs.gate._explain import start_from
from compactproofs.gate._feature_sites import decoded_by, features_of
from compactproofs.gate._mined_network import layers_below, moments_below, variables_of
from compactproofs.gate._source import Batch
from compactproofs.gate.propose import (
    Accepted,
    CommonCause,
    Constant,
    FeatureSum,
    Joint,
    Linear,
    Merge,
    Proposal,
    Proposer,
    State,
    WeightsDerived,
    measured_proposers,
)
from compactproofs.gate.propose._certified import Evidence, Irrelevance
from compactproofs.gate.propose._gaussian_pairs import pair_tables, rectangles, with_margins
from compactproofs.kernel.gate import ReluLayer, ReluNetwork, SiteGroup, Sites
from lookup_crosscoder import lookup_crosscoder
from transformers_for_tests import random_transformer


def _batch(h: np.ndarray, classes: np.ndarray | None = None, outputs: int = 2) -> Batch:
    answers = np.zeros(len(h), dtype=np.int64) if classes is None else classes
    return Batch(h, np.eye(outputs)[answers], np.full(len(h), -1))


def _state(h: np.ndarray, variables: list[Variable], classes: np.ndarray | None = None) -> State:
    outputs = 2 if classes is None else int(classes.max()) + 1
    batch = _batch(h, classes, outputs)
    return start_from([class_variable(outputs, h.shape[1], None), *variables], batch)


def _layer(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Correlated inputs x, and z = x W + b."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 5)) @ rng.normal(size=(5, 5))
    W, b = rng.normal(size=(5, 4)), rng.normal(size=4)
    return x, W, b, x @ W + b


def _places(*places: tuple[int, int]):
    return tuple(places)


def test_rectangles_agree_with_the_bivariate_normal():
    edges = np.array([[-0.4, 0.9]]), np.array([[0.2]])
    for rho in (-0.8, 0.0, 0.3, 0.95):
        (found,) = rectangles(np.array([rho]), *edges)
        both = multivariate_normal([0, 0], np.array([[1, rho], [rho, 1]]))  # type: ignore[arg-type]
        assert found[0, 0] == pytest.approx(both.cdf([-0.4, 0.2]), abs=1e-5)
        assert found.sum() == pytest.approx(1.0, abs=1e-9)
    (found,) = rectangles(np.array([0.5]), np.zeros((1, 1)), np.zeros((1, 1)))
    assert found[1, 1] == pytest.approx(0.25 + np.arcsin(0.5) / (2 * np.pi), abs=1e-9)


def test_tables_of_pairs_agree_with_a_sample_of_the_layer():
    x, W, b, _ = _layer(2000)
    below = moments_below(x, W, b, 0)
    rng = np.random.default_rng(1)
    z = rng.multivariate_normal(x.mean(axis=0), np.cov(x.T, bias=True), 200_000) @ W + b
    pairs = np.array([[0, 1], [2, 3]])
    cut = np.median(z, axis=0)[:, None]
    tables = pair_tables(below, pairs, cut[pairs[:, 0]], cut[pairs[:, 1]])
    for (i, j), table in zip(pairs, tables, strict=True):
        seen = np.mean((z[:, i] > cut[i]) & (z[:, j] > cut[j]))
        assert table[1, 1] == pytest.approx(seen, abs=0.005)


def test_margins_are_imposed():
    first, second = np.array([[0.3, 0.7]]), np.array([[0.5, 0.2, 0.3]])
    (table,) = with_margins(np.random.default_rng(0).random((1, 2, 3)), first, second)
    assert table.sum(axis=1) == pytest.approx(first[0], abs=1e-9)
    assert table.sum(axis=0) == pytest.approx(second[0], abs=1e-9)


def _weights_state(h: np.ndarray, x: np.ndarray, W: np.ndarray, b: np.ndarray) -> State:
    state = _state(h, site_bins("pre1", 0, h, range(4), 2))
    return replace(state, below={"pre1": moments_below(x, W, b, 0)})


def test_what_the_weights_predict_comes_true_on_later_data_for_no_parameter():
    x, W, b, z = _layer(4000)
    mined, later = z[:2000], z[2000:]
    state = _weights_state(mined, x[:2000], W, b)
    right = 0
    for v in range(2, 5):
        (found,) = WeightsDerived().propose(state, state.events(_places((1, 1), (v, 1))))
        given, both = (_batch(later).having(e) for e in (found.given, found.given + found.then))
        low, high = found.predicted
        right += low <= both.sum() / given.sum() <= high
        assert found.bits == pytest.approx(np.log2(6 * 4))  # which pair, which bins: no number
        assert not found.measured
    assert right == 3


def test_the_weights_need_no_joint_count():
    x, W, b, z = _layer(1000)
    rng = np.random.default_rng(2)
    apart = np.stack([rng.permutation(column) for column in z.T], axis=1)
    predicted = []
    for h in (z, apart):
        state = _weights_state(h, x, W, b)
        (found,) = WeightsDerived().propose(state, state.events(_places((1, 1), (3, 0))))
        predicted.append(found.predicted)
    assert predicted[0] == predicted[1]


def test_without_the_layer_below_the_weights_say_nothing():
    _, _, _, z = _layer(100)
    state = _state(z, site_bins("pre1", 0, z, range(4), 2))
    assert WeightsDerived().propose(state, state.events(_places((1, 1), (2, 1)))) == []


def _by_class(n: int, extra: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Sites that depend on the class alone, but for a share ``extra`` copied from the first."""
    rng = np.random.default_rng(3)
    classes = rng.integers(0, 3, n)
    p = np.array([[0.9, 0.8], [0.5, 0.1], [0.1, 0.3]])[classes]
    h = np.where(rng.random((n, 2)) < p, 1.0, -1.0)
    h[:, 1] = np.where(rng.random(n) < extra, h[:, 0], h[:, 1])
    return h, classes


@pytest.mark.parametrize("extra", [0.0, 0.5])
def test_a_common_cause_predicts_pairs_that_it_makes_and_no_others(extra: float):
    h, classes = _by_class(6000, extra)
    state = _state(h[:3000], site_signs("f", 0, 2, range(2)), classes[:3000])
    found = CommonCause().propose(state, state.events(_places((1, 1), (2, 1))))[0]
    later = _batch(h[3000:], classes[3000:], 3)
    seen = later.having(found.given + found.then).sum() / later.having(found.given).sum()
    low, high = found.predicted
    assert (low <= seen <= high) == (extra == 0.0)
    assert found.bits == pytest.approx(6 * state.precision + np.log2(3))


def test_a_joint_rule_gains_the_mutual_information_of_its_events():
    rng = np.random.default_rng(4)
    h = rng.choice([-1.0, 1.0], (1000, 2))
    h[:, 1] = np.where(rng.random(1000) < 0.7, h[:, 0], h[:, 1])
    state = _state(h, site_signs("f", 0, 2, range(2)))
    (found,) = Joint().propose(state, state.events(_places((1, 1), (2, 1))))
    seen = np.array([[np.mean((h[:, 0] == a) & (h[:, 1] == c)) for c in (-1, 1)] for a in (-1, 1)])
    alone = seen.sum(axis=1, keepdims=True) * np.array([[0.5, 0.5]])
    information = 1000 * float((seen * np.log(seen / alone)).sum())
    assert found.gain == pytest.approx(information, rel=0.05)
    assert found.without == pytest.approx(0.5)
    assert found.measured


def test_constants_and_joint_rules_are_about_the_likelier_of_two_events():
    rng = np.random.default_rng(5)
    h = np.where(rng.random((500, 2)) < 0.05, 1.0, -1.0)
    state = _state(h, site_signs("f", 0, 2, range(2)))
    (constant,) = Constant().propose(state, state.events(_places((1, 1))))
    assert constant.then[0].name == "f[0] <= 0"
    assert constant.predicted[0] > 0.85
    (joint,) = Joint().propose(state, state.events(_places((1, 0), (2, 1))))
    assert joint.then[0].name == "f[1] <= 0"


def test_linear_rules_hold_on_later_data_and_the_weights_give_one_for_no_number():
    x, W, b, z = _layer(4000)
    state = _weights_state(z[:2000], x[:2000], W, b)
    fitted, free = Linear().propose(state, state.events(_places((1, 1), (4, 1))))
    for found in (fitted, free):
        share = float(found.then[0].holds(z[2000:]).mean())
        low, high = found.predicted
        assert low <= share <= high
        assert found.without is not None
        assert found.without < low
        assert found.gain > 0
    assert free.bits == pytest.approx(np.log2(5)) and fitted.bits > 20


def test_merging_two_rules_about_neighbouring_bins_shortens_the_ledger():
    h = np.random.default_rng(6).normal(size=(900, 2))
    h[:, 1] += h[:, 0]
    state = _state(h, site_bins("z", 0, h, range(2), 3))
    rules = []
    for value in (1, 2):
        (joint,) = Joint().propose(state, state.events(_places((1, 2), (2, value))))
        rules.append(Accepted(f"rule{value}", joint))
    state = replace(state, rules=tuple(rules))
    (found,) = Merge().propose(state, state.events(_places((1, 2), (2, 1))))
    hull, bins = found.then[0], state.variables[2].events
    assert np.array_equal(hull.holds(h), bins[1].holds(h) | bins[2].holds(h))
    assert found.bits == pytest.approx(-rules[0].proposal.bits)
    assert found.score > 0 and found.replaces == ("rule1", "rule2")


def test_a_crosscoders_features_become_sites_that_add_up_to_the_others():
    net = random_transformer(np.random.default_rng(7), k=2, v=5)
    tokens = np.array([[a, b] for a in range(5) for b in range(5)])
    names = default_sites(net)
    crosscoder = lookup_crosscoder(net, names, tokens)
    group, codes = features_of(crosscoder, net, tokens)
    assert (group.kind, group.size) == ("feature", 25)
    assert ((codes > 0).sum(axis=1) == 1).all()
    place, d = len(names) - 1, net.d_model
    h = np.concatenate([codes, residuals(net, tokens, names)[:, place]], axis=1)
    variables = [*site_signs("feature", 0, 25 + d, range(25)), *site_bins("r", 25, h, [25, 26], 2)]
    state = replace(
        _state(h, variables), decoded={"r": decoded_by(crosscoder, place, slice(0, 25), 25)}
    )
    (found,) = FeatureSum().propose(state, state.events(_places((3, 1), (26, 1))))
    assert found.then[0].holds(h).mean() >= 0.9
    assert found.without is not None and found.without < 0.5
    assert found.then[0].high[0] - found.then[0].low[0] < 1e-4
    assert FeatureSum().propose(replace(state, decoded={}), found.then) == []


def test_the_sites_of_a_network_and_the_layers_below_them():
    rng = np.random.default_rng(8)
    W1, W2 = rng.normal(size=(3, 4)), rng.normal(size=(4, 2))
    W1[:, 1] = 0.0  # a unit that is constant
    net = ReluNetwork((ReluLayer(W1, np.ones(4), False), ReluLayer(W2, np.zeros(2), True)))
    groups = (SiteGroup("pre1", "pre", 4), SiteGroup("logits", "readout", 2))
    sites = Sites(groups, "pre1", 1)
    x = rng.normal(size=(400, 3))
    z = x @ W1 + 1
    logits = np.maximum(z, 0) @ W2
    batch = Batch(np.concatenate([z, logits], axis=1), logits, np.full(400, -1))
    variables = variables_of(sites, batch)
    names = ["class", "pre1[0]", "pre1[2]", "pre1[3]", "logit 0", "logit 1"]
    assert [v.name for v in variables] == names
    assert all(event.is_region for event in variables[0].events)
    below = layers_below(net, sites, x)["pre1"]
    assert below.mean[0] == pytest.approx(x.mean(axis=0), abs=1e-6)
    assert below.W.T @ below.cov @ below.W == pytest.approx(np.cov(z.T, bias=True), abs=1e-5)
    mixed = layers_below(net, sites, x, (x[:, 0] > 0).astype(np.int64))["pre1"]
    assert len(mixed.mean) == 2 and np.trace(mixed.cov) < np.trace(below.cov)


def test_certificates_are_proposed_for_the_inputs_that_have_a_pattern(tmp_path: Path):
    rng = np.random.default_rng(9)
    layers = ReluLayer(np.eye(2), np.zeros(2), False), ReluLayer(np.eye(2), np.zeros(2), True)
    net, sites = ReluNetwork(layers), Sites((SiteGroup("pre1", "pre", 2),), "pre1", 1)
    h = np.stack([rng.uniform(2, 3, 80), rng.uniform(-1, 1, 80)], axis=1)
    mined = Batch(h, np.maximum(h, 0), np.zeros(80, dtype=np.int64))
    state = start_from(variables_of(sites, mined), mined)
    pattern = state.events(_places((2, 1)))
    with Gate.create(tmp_path / "gate", net, sites, alpha="1/100", rho="1/10") as gate:
        for proposer in (Evidence(net, sites), Irrelevance(net, sites)):
            (found,) = proposer.propose(state, pattern)
            assert found.certify is not None and found.score > 0 and found.changes == ()
            cell = found.certify(gate)
            assert gate.cells[cell].label == 0
        assert gate.status().warrants["PROVED"] == 2
    nowhere = replace(state, mine=mined._replace(h=h - 9.0))
    for proposer in (Evidence(net, sites), Irrelevance(net, sites)):
        assert proposer.propose(nowhere, pattern) == []


def test_every_proposer_keeps_the_protocol_and_survives_any_pattern():
    _, _, _, z = _layer(200)
    state = _state(z, site_bins("pre1", 0, z, range(4), 3))
    patterns = [(), _places((2, 1)), _places((1, 0), (3, 2)), _places((1, 0), (2, 1), (4, 2))]
    kinds = set()
    for proposer in measured_proposers():
        assert isinstance(proposer, Proposer)
        kinds.add(proposer.kind)
        for places in patterns:
            for found in proposer.propose(state, state.events(places)):
                assert isinstance(found, Proposal)
                low, high = found.predicted
                assert 0 <= low <= high <= 1
                assert found.kind == proposer.kind
    assert kinds == {
        "weights_derived",
        "feature_sum",
        "common_cause",
        "linear",
        "constant",
        "joint",
        "merge",
    }
