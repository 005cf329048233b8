from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from gates_for_tests import INPUTS, NETWORK, SITES

from compactproofs.gate import Gate
from compactproofs.gate._edits import (
    EditSettings,
    Safety,
    attack_box,
    check_edit,
    edit_cell,
    gradient,
    recorded,
    split_witness,
)
from compactproofs.gate._suffix import Suffix
from compactproofs.kernel import RejectedError, UserError
from compactproofs.kernel.gate import (
    Certified,
    ReluLayer,
    ReluNetwork,
    SafeInterval,
    SiteGroup,
    Sites,
    certify_region,
    exact_margins,
)

JOINT = ReluNetwork(
    (
        ReluLayer(np.array([[1.0], [1.0]]), np.array([-1.0]), False),
        ReluLayer(np.array([[-3.0, 0.0]]), np.array([1.0, 0.0]), True),
    )
)
"""The margin is 1 - 3 max(0, a1 + a2 - 1)."""
TWO = Sites((SiteGroup("a", "input", 2),), "a", 0)
RNG = np.random.default_rng(4)
DEEP = ReluNetwork(
    tuple(
        ReluLayer(RNG.normal(size=(a, b)) / np.sqrt(a), 0.3 * RNG.normal(size=b), relu)
        for a, b, relu in ((6, 8, False), (8, 8, True), (8, 3, True))
    )
)
DEEP_SITES = Sites((SiteGroup("pre1", "pre", 8),), "pre1", 1)


def label_at(network: ReluNetwork, sites: Sites, h: np.ndarray) -> int:
    return int(Suffix(network, sites).forward(h[None])[1][0].argmax())


def test_each_site_is_safe_and_both_are_not() -> None:
    h = np.zeros(2)
    for site in (0, 1):
        check = check_edit(JOINT, TWO, h, {site: (0.0, 1.0)}, 0)
        assert check.safety is Safety.SAFE and isinstance(check.proof, SafeInterval)
    both = check_edit(JOINT, TWO, h, {0: (0.0, 1.0), 1: (0.0, 1.0)}, 0)
    assert both.safety is Safety.UNSAFE and both.margin == -2
    assert both.witness == {0: Fraction(1), 1: Fraction(1)}
    small = check_edit(JOINT, TWO, h, {0: (0.0, 0.6), 1: (0.0, 0.6)}, 0)
    assert small.safety is Safety.SAFE and isinstance(small.proof, Certified)


def test_setting_a_site_to_zero_says_nothing_of_its_range() -> None:
    h = np.array([0.9, 0.0])
    assert min(exact_margins(JOINT, TWO, [Fraction(0), Fraction(0)], 0)) == 1  # ablated: right
    check = check_edit(JOINT, TWO, h, {1: (0.0, 1.0)}, 0)
    assert check.safety is Safety.UNSAFE and check.witness is not None
    # 1 - 3 (9/10 + t - 1) = 0, with the float64 number that 0.9 is.
    assert check.witness[1] == Fraction(4, 3) - Fraction(0.9)


def test_a_range_away_from_the_record_is_decided_by_itself() -> None:
    far = check_edit(JOINT, TWO, np.array([0.0, 1.0]), {0: (0.5, 0.6)}, 0)
    assert far.safety is Safety.UNSAFE and far.witness == {0: Fraction(1, 2)}
    # The label wins again beyond another interval: the margin is |t| - 1.
    network = ReluNetwork(
        (
            ReluLayer(np.array([[1.0, -1.0], [0.0, 0.0]]), np.zeros(2), False),
            ReluLayer(np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([-1.0, 0.0]), True),
        )
    )
    again = check_edit(network, TWO, np.array([-2.0, 0.0]), {0: (2.0, 3.0)}, 0)
    assert again.safety is Safety.SAFE
    through = check_edit(network, TWO, np.array([-2.0, 0.0]), {0: (-3.0, 3.0)}, 0)
    assert through.safety is Safety.UNSAFE and through.witness == {0: Fraction(-1)}


@pytest.mark.parametrize("size", [1, 2, 4])
def test_answers_agree_with_a_dense_search(size: int) -> None:
    suffix = Suffix(DEEP, DEEP_SITES)
    rng = np.random.default_rng(size)
    seen = set()
    for _ in range(25):
        h = rng.normal(size=8)
        label = label_at(DEEP, DEEP_SITES, h)
        chosen = rng.permutation(8)[:size].tolist()
        reach = float(rng.choice([0.1, 1.0, 5.0]))
        edit = {site: (float(h[site]) - reach, float(h[site]) + reach) for site in chosen}
        check = check_edit(DEEP, DEEP_SITES, h, edit, label)
        seen.add(check.safety)
        points = np.tile(h, (2000, 1))
        for site, (low, high) in edit.items():
            values = low + rng.random(2000) * (high - low)
            points[:, site] = np.where(
                rng.random(2000) < 0.3, rng.choice([low, high], 2000), values
            )
        logits = suffix.forward(points)[1]
        if check.safety is Safety.SAFE:
            assert (logits.argmax(axis=1) == label).all()
        if check.witness is not None:
            point = [Fraction(value) for value in h.tolist()]
            for site, value in check.witness.items():
                assert Fraction(edit[site][0]) <= value <= Fraction(edit[site][1])
                point[site] = value
            assert min(exact_margins(DEEP, DEEP_SITES, point, label)) == check.margin
            assert check.margin is not None and check.margin <= 0
    assert {Safety.SAFE, Safety.UNSAFE} <= seen


def test_splits_certify_what_plain_bounds_do_not() -> None:
    rng = np.random.default_rng(8)
    gained = 0
    for _ in range(40):
        h = rng.normal(size=8)
        label = label_at(DEEP, DEEP_SITES, h)
        edit = {site: (float(h[site]) - 0.4, float(h[site]) + 0.4) for site in range(8)}
        cell = edit_cell(DEEP_SITES, h, edit, label, 8)
        try:
            certify_region(DEEP, DEEP_SITES, cell, None)
            continue
        except RejectedError:
            pass
        try:
            certify_region(DEEP, DEEP_SITES, cell, split_witness(DEEP, DEEP_SITES, cell, 6))
            gained += 1
        except RejectedError:
            pass
    assert gained


def test_the_gradient_of_a_margin_is_its_slope() -> None:
    suffix = Suffix(DEEP, DEEP_SITES)
    points = np.random.default_rng(5).normal(size=(10, 8))
    rival = np.arange(10) % 2 + 1
    slope = gradient(suffix, points, 0, rival)
    for site in range(8):
        moved = points.copy()
        moved[:, site] += 1e-7
        margins = [z[:, 0] - z[np.arange(10), rival] for z in
                   (suffix.forward(moved)[1], suffix.forward(points)[1])]  # fmt: skip
        assert slope[:, site] == pytest.approx((margins[0] - margins[1]) / 1e-7, abs=1e-5)


def test_attacks_stay_in_the_box_and_come_worst_first() -> None:
    suffix = Suffix(DEEP, DEEP_SITES)
    low, high = -np.ones(8), np.ones(8)
    points = attack_box(suffix, low, high, 0, np.random.default_rng(0), 64, 10)
    assert ((points >= low) & (points <= high)).all()
    logits = suffix.forward(points)[1]
    margins = logits[:, 0] - logits[:, 1:].max(axis=1)
    assert (np.diff(margins) >= 0).all()


def test_points_are_read_from_records(tmp_path: Path) -> None:
    with Gate.create(tmp_path / "gate", NETWORK, SITES) as gate:
        record = gate.record(INPUTS[:3], signer="me")
        h, outputs = gate.activations(INPUTS[:3])
        point = recorded(gate, record, 2)
        assert (point.h == h[2]).all() and point.label == outputs[2].argmax()
        with pytest.raises(UserError, match="rows 0 to 2"):
            recorded(gate, record, 3)
        with pytest.raises(UserError, match="pass the id"):
            recorded(gate, "nothing")
        check = check_edit(NETWORK, SITES, point.h, {0: (0.0, 0.0)}, point.label)
        assert check.safety is not Safety.UNKNOWN


def test_what_cannot_be_edited_is_refused_by_name() -> None:
    post = Sites((SiteGroup("post1", "post", 8),), "post1", 1)
    h = np.zeros(8)
    for sites, edit, words in (
        (DEEP_SITES, {9: (0.0, 1.0)}, "pass sites 0 to 7"),
        (DEEP_SITES, {0: (1.0, 0.0)}, "no numbers"),
        (DEEP_SITES, {0: (0.0, np.inf)}, "no numbers"),
        (DEEP_SITES, {0: (np.nan, 1.0)}, "no numbers"),
        (post, {0: (-1.0, 1.0), 1: (0.0, 1.0)}, "start at 0"),
    ):
        with pytest.raises(UserError, match=words):
            check_edit(DEEP, sites, h, edit, 0, EditSettings(corners=4))
