"""The searches for regions and for free sites: what they return holds, and is what was asked."""

import sys
from dataclasses import replace

import numpy as np
import pytest

from compactproofs.gate._forward import activations
from compactproofs.gate._irrelevance import FreeingSettings, FreeSitesError, free_sites
from compactproofs.gate._regions import RegionSearchError, RegionSettings, raised, search_regions
from compactproofs.gate._slopes import leaf_signs, optimise_slopes
from compactproofs.gate._suffix import Suffix
from compactproofs.kernel import UserError
from compactproofs.kernel.gate import (
    Cell,
    CellTable,
    ReluLayer,
    ReluNetwork,
    SiteGroup,
    Sites,
    certify_region,
    region_bounds,
    region_leaves,
)
from compactproofs.training._digits import (
    MlpSettings,
    TrainingError,
    digits_splits,
    train_mlp,
)

DIGITS = digits_splits(0)
PRE1 = Sites((SiteGroup("pre1", "pre", 16),), "pre1", 1)
WITH_INPUT = Sites((SiteGroup("x", "input", 64), SiteGroup("pre1", "pre", 16)), "pre1", 1)
QUICK = RegionSettings(clusters=(1, 2), depth=2, widen=(0.5,), margin=0.2, most=25)


@pytest.fixture(scope="module")
def network() -> ReluNetwork:
    return train_mlp(DIGITS.train.x, DIGITS.train.y, MlpSettings((16, 16), epochs=25))


def random_network(widths, seed, relu0=False, skip=False) -> ReluNetwork:
    rng = np.random.default_rng(seed)
    layers = tuple(
        ReluLayer(rng.normal(size=(a, b)), rng.normal(size=b), relu=relu0 if not i else True)
        for i, (a, b) in enumerate(zip(widths[:-1], widths[1:], strict=True))
    )
    return ReluNetwork(layers, rng.normal(size=(widths[0], widths[-1])) if skip else None)


def recorded(network, sites, n, seed):
    """Two clouds that the network answers alike, and its answers."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(2, 1, network.widths[0]))
    x = (centres + 0.03 * rng.normal(size=(2, n, network.widths[0]))).reshape(2 * n, -1)
    run = activations(network, sites, x)
    return run.h, run.outputs.argmax(axis=1)


def points_inside(network, sites, cell, n, seed):
    """Points of the box at random, those that are in the cell."""
    rng = np.random.default_rng(seed)
    low, high = cell.low[sites.cut_slice], cell.high[sites.cut_slice]
    points = np.zeros((n, sites.size))
    points[:, sites.cut_slice] = rng.uniform(low, high, (n, len(low)))
    return points[CellTable(network, sites, [cell], 0.0).inside(points)[:, 0]]


def test_the_parts_of_the_digits_are_disjoint_and_the_seed_fixes_them():
    assert [len(part.y) for part in DIGITS] == [900, 450, 447]
    again = digits_splits(0)
    assert all(np.array_equal(a.x, b.x) for a, b in zip(DIGITS, again, strict=True))
    assert not np.array_equal(digits_splits(1).train.y, DIGITS.train.y)
    together = np.concatenate([part.x for part in DIGITS])
    other = np.concatenate([part.x for part in digits_splits(1)])
    assert np.array_equal(np.unique(together, axis=0), np.unique(other, axis=0))
    assert together.min() == 0.0 and together.max() == 1.0


def test_training_repeats_itself_and_learns(network):
    again = train_mlp(DIGITS.train.x, DIGITS.train.y, MlpSettings((16, 16), epochs=25))
    assert again.sha256 == network.sha256
    answers = activations(network, PRE1, DIGITS.test.x).outputs.argmax(axis=1)
    assert (answers == DIGITS.test.y).mean() > 0.85


@pytest.mark.parametrize(
    "settings", [{"epochs": 0}, {"learning_rate": 0.0}, {"weight_decay": -1.0}, {"hidden": (0,)}]
)
def test_training_settings_that_make_no_sense_are_refused(settings):
    with pytest.raises(TrainingError, match=next(iter(settings))):
        MlpSettings(**settings)


def test_training_needs_labels_that_the_outputs_have():
    with pytest.raises(TrainingError, match="outputs"):
        train_mlp(DIGITS.train.x, DIGITS.train.y, MlpSettings(), outputs=9)


@pytest.fixture(scope="module")
def regions(network):
    h = activations(network, PRE1, DIGITS.train.x).h
    return search_regions(network, PRE1, h, DIGITS.train.y, QUICK)


def test_regions_are_certified_with_their_margin_and_hold_much_of_the_test_data(network, regions):
    for cell, witness in regions:
        assert certify_region(network, PRE1, cell, witness).margin > QUICK.margin - 1e-6
    run = activations(network, PRE1, DIGITS.test.x)
    inside = CellTable(network, PRE1, [cell for cell, _ in regions], 1e-6).inside(run.h)
    assert inside.any(axis=1).mean() > 0.3
    answers = run.outputs.argmax(axis=1)
    for c, (cell, _) in enumerate(regions):
        assert (answers[inside[:, c]] == cell.label).all()


def test_every_point_of_a_region_has_the_margin(network, regions):
    tried = 0
    for cell, _ in regions:
        points = points_inside(network, PRE1, cell, 300, 0)
        _, logits = Suffix(network, PRE1).forward(points)
        rival = np.delete(logits, cell.label, axis=1).max(axis=1, initial=-np.inf)
        assert (logits[:, cell.label] - rival >= QUICK.margin - 1e-9).all()
        tried += len(points)
    assert tried > 50


def test_the_same_search_finds_the_same_regions(network, regions):
    h = activations(network, PRE1, DIGITS.train.x).h
    heard: list[tuple[int, int]] = []
    again = search_regions(
        network, PRE1, h, DIGITS.train.y, QUICK, lambda done, of: heard.append((done, of))
    )
    assert [cell.id for cell, _ in again] == [cell.id for cell, _ in regions]
    assert heard[0][0] == 0 and heard[-1][0] == heard[-1][1] >= len(again)


def test_recordings_that_are_not_finite_are_left_out(network):
    h = activations(network, PRE1, DIGITS.train.x[:100]).h
    broken, labels = h.copy(), DIGITS.train.y[:100]
    broken[::2, 3] = np.nan
    quick = replace(QUICK, most=3)
    found = search_regions(network, PRE1, broken, labels, quick)
    without = search_regions(network, PRE1, h[1::2], labels[1::2], quick)
    assert [cell.id for cell, _ in found] == [cell.id for cell, _ in without]


def test_raised_cells_are_nested_and_the_witness_still_holds(network, regions):
    h = activations(network, PRE1, DIGITS.train.x).h
    held = []
    for more in (0.0, 1.0, 3.0):
        cells = [raised(cell, more) for cell, _ in regions]
        held.append(CellTable(network, PRE1, cells, 0.0).inside(h))
        for cell, (_, witness) in zip(cells[:5], regions[:5], strict=True):
            shown = region_bounds(network, PRE1, cell, witness).min()
            assert shown > QUICK.margin + more - 1e-6
    assert (held[0] >= held[1]).all() and (held[1] >= held[2]).all()
    assert held[0].sum() > held[1].sum() > held[2].sum()
    with pytest.raises(RegionSearchError, match="more=-1"):
        raised(regions[0][0], -1.0)


def test_ranges_elsewhere_refuse_what_the_cut_does_not_see(network):
    run = activations(network, WITH_INPUT, DIGITS.train.x)
    found = search_regions(
        network, WITH_INPUT, run.h, DIGITS.train.y, replace(QUICK, elsewhere=1.0)
    )
    cells = [cell for cell, _ in found]
    assert all(np.isfinite(cell.low).all() and np.isfinite(cell.high).all() for cell in cells)
    table = CellTable(network, WITH_INPUT, cells, 1e-6)
    assert table.inside(run.h).any()
    elsewhere = run.h.copy()
    elsewhere[:, WITH_INPUT.slice("x")] += 2.0
    assert not table.inside(elsewhere).any()


@pytest.mark.parametrize(
    ("widths", "kind", "layer", "skip"),
    [
        ((4, 6, 5, 3), "input", 0, False),
        ((4, 6, 5, 3), "pre", 1, False),
        ((4, 6, 5, 3), "post", 1, False),
        ((4, 6, 5, 3), "pre", 2, False),
        ((4, 6, 3), "input", 0, True),
        ((4, 3), "pre", 0, False),
    ],
)
def test_every_kind_of_cut_has_regions(widths, kind, layer, skip):
    network = random_network(widths, 1, skip=skip)
    sites = Sites((SiteGroup(f"{kind}{layer}", kind, widths[layer]),), f"{kind}{layer}", layer)
    h, labels = recorded(network, sites, 20, 2)
    found = search_regions(
        network, sites, h, labels, replace(QUICK, clusters=(1,), margin=0.01, fewest=2)
    )
    assert found
    inside = CellTable(network, sites, [cell for cell, _ in found], 0.0).inside(h)
    assert inside.any(axis=1).sum() >= 10


@pytest.mark.parametrize("layer", [0, 1])
def test_ranges_are_those_of_the_kernel(layer):
    network = random_network((5, 7, 6, 4), 3)
    kind = "pre" if layer else "input"
    sites = Sites((SiteGroup("cut", kind, network.widths[layer]),), "cut", layer)
    size, rng = network.widths[layer], np.random.default_rng(4)
    centre, none = rng.normal(size=size), np.zeros(0)
    low, high = centre - 0.5, centre + 0.5
    pattern = np.zeros(sites.pattern_size(network), dtype=np.int8)
    cell = Cell(low, high, np.zeros((0, size)), none, none, pattern, 0)
    suffix = Suffix(network, sites)
    ranges = suffix.ranges(low[None], high[None], np.zeros((1, suffix.units), dtype=np.int8))
    leaves = region_leaves(network, sites, cell, np.zeros(0, dtype=np.int32))
    for number, unit in leaves.units.items():
        assert np.allclose(ranges.low[number - layer], unit.low)
        assert np.allclose(ranges.high[number - layer], unit.high)
    shown = suffix.least(suffix.margins(np.array([0]), ranges), ranges)[0]
    assert np.allclose(shown, region_bounds(network, sites, cell))


def test_optimised_slopes_and_splits_show_more_and_never_too_much():
    network = random_network((5, 12, 4), 5)
    sites = Sites((SiteGroup("x", "input", 5),), "x", 0)
    suffix, rng = Suffix(network, sites), np.random.default_rng(6)
    low = rng.normal(size=5) - 1.0
    high = low + 2.0
    shown = []
    for split, steps in (([], 0), ([], 25), ([0, 3], 25)):
        units = np.array(split, dtype=np.int32)
        found = optimise_slopes(suffix, 1, low, high, units, steps, np.inf)
        assert (found.witness.betas[:, :, leaf_signs(suffix, units)[0] == 0] == 0).all()
        none = np.zeros(0)
        cell = Cell(low, high, np.zeros((0, 5)), none, none, np.zeros(12, dtype=np.int8), 1)
        replayed = region_bounds(network, sites, cell, found.witness)
        assert np.allclose(replayed, found.bounds.min(axis=0))
        shown.append(found.bounds.min(axis=0))
    assert (shown[1] > shown[0] + 0.01).all() and (shown[2] > shown[1] + 0.01).any()
    _, logits = suffix.forward(rng.uniform(low, high, (5000, 5)))
    margins = logits[:, [1]] - np.delete(logits, 1, axis=1)
    assert (margins.min(axis=0) >= shown[2]).all()


@pytest.mark.parametrize(
    "settings",
    [{"margin": 0.0}, {"margin": np.nan}, {"agreement": 0.2}, {"widen": (-1.0,)}, {"most": 0},
     {"clusters": (0,)}, {"elsewhere": -1.0}],
)  # fmt: skip
def test_region_settings_that_make_no_sense_are_refused(settings):
    with pytest.raises(RegionSearchError, match=next(iter(settings))):
        RegionSettings(**settings)


def test_recordings_that_do_not_fit_are_refused(network):
    h = activations(network, PRE1, DIGITS.train.x).h
    with pytest.raises(RegionSearchError, match=r"\(900, 15\)"):
        search_regions(network, PRE1, h[:, 1:], DIGITS.train.y, QUICK)
    wrong = (activations(network, PRE1, DIGITS.train.x).outputs.argmax(axis=1) + 1) % 10
    with pytest.raises(RegionSearchError, match="answered as labelled"):
        search_regions(network, PRE1, h, wrong, QUICK)
    with pytest.raises(RegionSearchError, match="fewest"):
        search_regions(network, PRE1, h[:5], DIGITS.train.y[:5], replace(QUICK, fewest=10))


def test_freed_sites_range_jointly(network):
    run = activations(network, PRE1, DIGITS.train.x)
    ranges = run.h.min(axis=0), run.h.max(axis=0)
    rng, counts = np.random.default_rng(0), {0: 0, 4: 0}
    for h, outputs in zip(run.h[:6], run.outputs[:6], strict=True):
        label = int(outputs.argmax())
        for splits in counts:
            found = free_sites(network, PRE1, h, label, ranges, FreeingSettings(splits=splits))
            certify_region(network, PRE1, found.cell, found.witness)
            assert (found.cell.low[found.freed] <= ranges[0][found.freed]).all()
            assert (found.cell.high[found.freed] >= ranges[1][found.freed]).all()
            kept = np.setdiff1d(np.arange(16), found.freed)
            assert (np.abs(found.cell.high[kept] - h[kept]) < 1e-4).all()
            corners = np.where(rng.random((2000, 16)) < 0.5, found.cell.low, found.cell.high)
            _, logits = Suffix(network, PRE1).forward(corners)
            assert (logits.argmax(axis=1) == label).all()
            counts[splits] += len(found.freed)
    assert counts[4] >= counts[0] > 0


def test_two_sites_that_are_free_alone_are_not_freed_together():
    # The margin is 1 - 3 relu(a + b - 1): 1 or less along each side of the square, -2 at (1, 1).
    network = ReluNetwork(
        (
            ReluLayer(np.ones((2, 1)), np.array([-1.0]), relu=False),
            ReluLayer(np.array([[-3.0, 0.0]]), np.array([1.0, 0.0]), relu=True),
        )
    )
    sites = Sites((SiteGroup("x", "input", 2),), "x", 0)
    ranges = np.zeros(2), np.ones(2)
    for splits in (0, 1):
        found = free_sites(
            network, sites, np.zeros(2), 0, ranges, FreeingSettings(splits=splits, within=0.0)
        )
        assert len(found.freed) == 1
    with pytest.raises(FreeSitesError, match="at the recording itself"):
        free_sites(network, sites, np.ones(2), 0, ranges)
    with pytest.raises(FreeSitesError, match="pass 2 numbers"):
        free_sites(network, sites, np.ones(3), 0, (np.zeros(3), np.ones(3)))
    with pytest.raises(FreeSitesError, match="splits=11"):
        FreeingSettings(splits=11)


@pytest.mark.parametrize("missing", ["torch", "sklearn.cluster"])
def test_a_missing_package_is_one_sentence(network, monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    run = activations(network, PRE1, DIGITS.train.x[:200])
    with pytest.raises(UserError, match="pip install"):
        if missing == "torch":
            low, high = run.h.min(axis=0), run.h.max(axis=0)
            split = np.array([16], dtype=np.int32)
            optimise_slopes(Suffix(network, PRE1), 0, low, high, split, 1, np.inf)
        else:
            search_regions(network, PRE1, run.h, DIGITS.train.y[:200], QUICK)
