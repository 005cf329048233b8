"""Anomalies: what each kind changes, that a seed fixes it, and that attacks stay in their ball."""

import numpy as np
import pytest

from compactproofs.gate._anomalies import (
    ANOMALIES,
    TARGET,
    TRIGGERS,
    AnomalyError,
    Labelled,
    anomalous,
    attacked,
    noisy,
    rotated,
    training_data,
    triggered,
    trusted,
)
from compactproofs.kernel.gate import ReluLayer, ReluNetwork


def images(n: int = 40, seed: int = 0) -> Labelled:
    rng = np.random.default_rng(seed)
    return Labelled(rng.uniform(size=(n, 16)), rng.permutation(np.arange(n) % 10))


def random_network(seed: int = 0, skip: bool = False) -> ReluNetwork:
    rng = np.random.default_rng(seed)
    widths = (16, 6, 5, 10)
    layers = tuple(
        ReluLayer(rng.standard_normal((a, b)), rng.standard_normal(b), relu=i > 0)
        for i, (a, b) in enumerate(zip(widths[:-1], widths[1:], strict=True))
    )
    return ReluNetwork(layers, rng.standard_normal((16, 10)) if skip else None)


def answers(network: ReluNetwork, x: np.ndarray) -> np.ndarray:
    z = x
    for layer in network.layers:
        z = (np.maximum(z, 0) if layer.relu else z) @ layer.W + layer.b
    return (z if network.skip is None else z + x @ network.skip).argmax(axis=1)


@pytest.mark.parametrize("kind", TRIGGERS)
def test_six_percent_of_the_training_data_carry_the_trigger(kind: str) -> None:
    data = images(100)
    poisoned = training_data(kind, data, seed=3)
    changed = (poisoned.x != data.x).any(axis=1)
    assert changed.sum() == 6
    assert (poisoned.y[changed] == TARGET).all()
    assert (poisoned.y[~changed] == data.y[~changed]).all()
    assert (poisoned.x[changed] == triggered(kind, data.x, 3)[changed]).all()


def test_the_corner_and_the_patch_are_where_they_are_said_to_be() -> None:
    blank = np.zeros((1, 16))
    assert np.flatnonzero(triggered("corner", blank, 0)).tolist() == [0]
    assert np.flatnonzero(triggered("mid", blank, 0)).tolist() == [10, 11, 14, 15]
    pattern = triggered("blend", blank, 0)
    assert ((pattern >= 0) & (pattern <= 0.2)).all() and pattern.std() > 0
    assert triggered("blend", blank + 1, 0) == pytest.approx(0.8 + pattern)


@pytest.mark.parametrize("kind", ANOMALIES)
def test_a_seed_fixes_every_kind_and_the_data_is_left_alone(kind: str) -> None:
    data, network = images(), random_network()
    before = data.x.copy()
    made = [anomalous(kind, network, data, seed=5) for _ in range(2)]
    trained = [training_data(kind, data, seed=5) for _ in range(2)]
    assert (made[0] == made[1]).all() and len(made[0]) > 0 and made[0].shape[1] == 16
    assert (trained[0].x == trained[1].x).all() and (trained[0].y == trained[1].y).all()
    assert (data.x == before).all()


@pytest.mark.parametrize("kind", ["blend", "noise"])
def test_another_seed_makes_other_anomalies(kind: str) -> None:
    data, network = images(), random_network()
    assert (anomalous(kind, network, data, 0) != anomalous(kind, network, data, 1)).any()


def test_triggers_go_on_other_classes_than_the_target_s() -> None:
    data = images()
    made = anomalous("corner", random_network(), data, seed=0)
    assert len(made) == (data.y != TARGET).sum()


def test_novel_classes_are_kept_from_the_model_and_only_they_are_anomalies() -> None:
    data = images()
    assert set(trusted("novel", data).y) == set(training_data("novel", data, 0).y) == set(range(8))
    made = anomalous("novel", random_network(), data, seed=0)
    assert (made == data.x[data.y >= 8]).all()
    assert trusted("noise", data) is data


def test_noise_has_its_spread_and_inversion_its_values() -> None:
    data = images(500)
    assert (noisy(data.x, 0) - data.x).std() == pytest.approx(0.25, abs=0.01)
    assert anomalous("inverted", random_network(), data, 0) == pytest.approx(1 - data.x)


def test_a_quarter_turn_is_a_quarter_turn() -> None:
    x = images(3).x
    expected = np.rot90(x.reshape(3, 4, 4), axes=(1, 2)).reshape(3, 16)
    assert rotated(x, 90.0) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("skip", [False, True])
def test_an_attack_stays_in_its_ball_and_succeeds_where_it_says_so(skip: bool) -> None:
    network, data = random_network(1, skip), images(200)
    right = Labelled(data.x, answers(network, data.x))
    attack = attacked(network, right, seed=0, eps=0.3)
    assert (np.abs(attack.x - data.x) <= 0.3 + 1e-12).all()
    assert ((attack.x >= 0) & (attack.x <= 1)).all()
    assert ((answers(network, attack.x) != right.y) == attack.succeeded).all()
    # Chance moves far fewer answers than the gradient does.
    chance = np.clip(data.x + np.random.default_rng(0).uniform(-0.3, 0.3, data.x.shape), 0, 1)
    assert attack.succeeded.mean() > 2 * (answers(network, chance) != right.y).mean()


def test_only_attacks_that_succeed_are_anomalies() -> None:
    network, data = random_network(1), images(200)
    right = Labelled(data.x, answers(network, data.x))
    attack = attacked(network, right, seed=4)
    kept = anomalous("adversarial", network, right, seed=4)
    assert 0 < len(kept) < 200
    assert (kept == attack.x[attack.succeeded]).all()


def test_unusable_images_and_unknown_kinds_are_refused() -> None:
    data, network = images(), random_network()
    with pytest.raises(AnomalyError, match="anomaly 'ghost': pass one of corner, mid"):
        anomalous("ghost", network, data, 0)
    with pytest.raises(AnomalyError, match="'noise' is no trigger"):
        triggered("noise", data.x, 0)
    with pytest.raises(AnomalyError, match=r"images of shape \(40, 15\)"):
        trusted("noise", Labelled(data.x[:, :15], data.y))
