from fractions import Fraction

import numpy as np
import pytest

from compactproofs.gate._generalise import generalise
from compactproofs.gate._prune import prune
from compactproofs.kernel import RejectedError, UserError
from compactproofs.kernel.gate import (
    Cell,
    Folded,
    Negligible,
    ReluLayer,
    ReluNetwork,
    SiteGroup,
    Sites,
    exact_margins,
)
from compactproofs.kernel.gate._proportions import upper_risk

ALPHA = Fraction(1, 100)
RNG = np.random.default_rng(6)


def cell_of(low: list[float], high: list[float], units: int, label: int = 0) -> Cell:
    none = np.zeros(0)
    return Cell(
        np.array(low, float), np.array(high, float), np.zeros((0, len(low))), none, none,
        np.zeros(units, np.int8), label,
    )  # fmt: skip


NETWORK = ReluNetwork(
    (
        ReluLayer(RNG.normal(size=(3, 4)), np.zeros(4), False),
        # Units of z_2: dead, stable, undecided on the cell below; site 3 of the cut leads nowhere.
        ReluLayer(
            np.array([[1.0, 1.0, 1.0], [0.0, 1.0, -1.0], [0.0, 0.0, -0.5], [0.0, 0.0, 0.0]]),
            np.array([-9.0, 0.5, 0.0]),
            True,
        ),
        ReluLayer(np.array([[1.0, 0.0], [1.0, 0.0], [0.1, 0.0]]), np.array([0.3, 0.0]), True),
    )
)
SITES = Sites((SiteGroup("pre1", "pre", 4), SiteGroup("pre2", "pre", 3)), "pre1", 1)
CELL = cell_of([0.1, -0.5, -1.0, 0.2] + [-np.inf] * 3, [0.2, -0.1, 1.0, 0.3] + [np.inf] * 3, 3)
CELLS = {"c": CELL}


def data(n: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    low, high = CELL.low.copy(), CELL.high.copy()
    low[4:], high[4:] = -1.0, 1.0
    return low + rng.random((n, 7)) * (high - low)


def test_each_site_gets_the_kinds_that_hold() -> None:
    lab, fresh = data(200, 0), data(300, 1)
    kinds = {}
    for site in range(7):
        found = generalise(NETWORK, SITES, CELLS, site, lab, fresh, ALPHA)
        kinds[site] = (found.dead, found.stable, tuple(found.irrelevant))
    assert kinds[0] == ((), ("c",), ("c",))
    assert kinds[1] == (("c",), (), ("c",))
    assert kinds[2] == ((), (), ("c",))
    assert kinds[4] == (("c",), (), ())
    assert kinds[5] == ((), ("c",), ())
    assert kinds[6] == ((), (), ())


def test_a_constant_is_bounded_from_fresh_data_alone() -> None:
    lab, fresh = data(50, 0), data(300, 1)
    lab[:, 3] = 0.25
    fresh[:, 3] = 0.25
    fresh[:2, 3] = 0.75
    rule = generalise(NETWORK, SITES, {}, 3, lab, fresh, ALPHA).constant
    assert rule is not None
    assert (rule.low, rule.high, rule.outside, rule.fresh) == (0.25, 0.25, 2, 300)
    assert rule.at_most == upper_risk(2, 300, ALPHA) > Fraction(2, 300)


def test_a_site_that_matters_is_not_irrelevant_although_zero_would_do() -> None:
    # The margin is 1 - 3 max(0, a1 + a2 - 1): at a1 = 0.9 zeroing a2 changes nothing.
    network = ReluNetwork(
        (
            ReluLayer(np.array([[1.0], [1.0]]), np.array([-1.0]), False),
            ReluLayer(np.array([[-3.0, 0.0]]), np.array([1.0, 0.0]), True),
        )
    )
    sites = Sites((SiteGroup("a", "input", 2),), "a", 0)
    lab = np.array([[0.0, 0.0], [0.9, 1.0]])
    near = {"near": cell_of([0.9, 0.0], [0.9, 0.0], 1), "zero": cell_of([0, 0], [0, 0], 1)}
    assert min(exact_margins(network, sites, [Fraction(0.9), Fraction(0)], 0)) > 0
    found = generalise(network, sites, near, 1, lab, lab, ALPHA)
    assert list(found.irrelevant) == ["zero"]


def test_recordings_that_do_not_fit_are_refused() -> None:
    lab = data(5, 0)
    with pytest.raises(UserError, match=r"pass \[n, 7\]"):
        generalise(NETWORK, SITES, CELLS, 0, lab[:, :4], lab[:, :4], ALPHA)
    lab[0, 0] = np.nan
    with pytest.raises(UserError, match=r"site pre1\[0\] hold NaN"):
        generalise(NETWORK, SITES, CELLS, 0, lab, data(5, 1), ALPHA)


def random_case(seed: int) -> tuple[ReluNetwork, Sites, Cell]:
    """A wide network whose label wins clearly on a small box."""
    rng = np.random.default_rng(seed)
    layers = tuple(
        ReluLayer(rng.normal(size=(a, b)) / np.sqrt(a), 0.3 * rng.normal(size=b), relu)
        for a, b, relu in ((3, 6, False), (6, 12, True), (12, 3, True))
    )
    layers = (*layers[:-1], ReluLayer(layers[-1].W, np.array([4.0, 0.0, 0.0]), True))
    sites = Sites((SiteGroup("pre1", "pre", 6),), "pre1", 1)
    centre = rng.normal(size=6)
    cell = cell_of((centre - 0.1).tolist(), (centre + 0.1).tolist(), 12)
    return ReluNetwork(layers), sites, cell


def corners(cell: Cell, count: int, seed: int) -> list[list[Fraction]]:
    rng = np.random.default_rng(seed)
    points = cell.low + np.round(rng.random((count, len(cell.low))) * 4) / 4 * (
        cell.high - cell.low
    )
    points = np.clip(points, cell.low, cell.high)
    return [[Fraction(value) for value in point] for point in points.tolist()]


@pytest.mark.parametrize("seed", range(4))
def test_a_pruned_network_is_smaller_and_keeps_the_answer(seed: int) -> None:
    network, sites, cell = random_case(seed)
    found = prune(network, sites, cell)
    assert sum(found.network.widths) < sum(network.widths)
    assert any(isinstance(step, Negligible) for step in found.steps)
    for point in corners(cell, 60, seed):
        assert min(exact_margins(network, sites, point, 0)) > 0
        assert min(exact_margins(found.network, sites, point, 0)) > 0


@pytest.mark.parametrize("seed", range(4))
def test_without_negligible_paths_the_logits_are_the_same_numbers(seed: int) -> None:
    network, sites, cell = random_case(seed)
    found = prune(network, sites, cell, negligible_paths=False)
    assert found.exact and all(isinstance(step, Folded) for step in found.steps)
    assert found.certified is not None
    for point in corners(cell, 20, seed):
        margins = exact_margins(network, sites, point, 0)
        assert exact_margins(found.network, sites, point, 0) == margins


def test_one_of_two_backups_stays() -> None:
    network = ReluNetwork(
        (
            ReluLayer(np.ones((1, 2)), np.array([0.0, 0.001]), False),
            ReluLayer(np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([-1.5, 0.0]), True),
        )
    )
    sites = Sites((SiteGroup("a", "input", 1),), "a", 0)
    found = prune(network, sites, cell_of([2.0], [2.2], 2))
    assert found.network.widths == (1, 1, 2)
    assert found.certified is not None


def test_near_duplicates_are_merged_with_their_relation() -> None:
    # The margin is 3 + 8 relu(a1) - 4 relu(2 a1 + noise): both matter, and nearly cancel.
    network = ReluNetwork(
        (
            ReluLayer(np.array([[1.0, 2.0], [0.0, 1e-3]]), np.zeros(2), False),
            ReluLayer(np.array([[8.0, 0.0], [-4.0, 0.0]]), np.array([9.0, 0.0]), True),
        )
    )
    sites = Sites((SiteGroup("a", "input", 2),), "a", 0)
    cell = cell_of([-1, -1], [1, 1], 2)
    found = prune(network, sites, cell)
    assert len(found.duplicates) == 1
    assert found.duplicates[0].coefficients[0] == pytest.approx(0.5, rel=0.01)
    assert found.network.widths == (2, 1, 2)
    for point in corners(cell, 40, 0):
        assert min(exact_margins(found.network, sites, point, 0)) > 0


def test_a_cell_without_a_certificate_is_not_pruned() -> None:
    network, sites, cell = random_case(0)
    with pytest.raises(RejectedError):
        prune(network, sites, cell_of([-9] * 6, [9] * 6, 12, 1))
