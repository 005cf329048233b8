from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compactproofs.gate._events import (
    Event,
    EventError,
    bins_of,
    cell_of,
    class_variable,
    codes_of,
    direction_bins,
    one_hot,
    quantile_bins,
    site_bins,
    site_signs,
)
from compactproofs.gate._explain import start_from
from compactproofs.gate._patterns import Mined, compulsory, culprits, divergence, mine
from compactproofs.gate._presumption import Coupling
from compactproofs.gate._source import Batch
from compactproofs.kernel.gate import CellTable, ReluLayer, ReluNetwork, SiteGroup, Sites

FLOATS = st.floats(allow_nan=False, width=64)


def _batch(h: np.ndarray, classes: np.ndarray | None = None) -> Batch:
    answers = np.zeros(len(h), dtype=np.int64) if classes is None else classes
    return Batch(h, np.eye(2)[answers], np.full(len(h), -1))


def _signs(n: int, v: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).choice([-1.0, 1.0], (n, v))


@given(st.lists(FLOATS, min_size=1, max_size=5), FLOATS)
def test_each_float_is_in_exactly_one_bin_the_one_its_code_says(edges: list[float], x: float):
    finite = [edge for edge in edges if abs(edge) < 1e300]
    if not finite:
        return
    variable = bins_of("z", "z", one_hot(0, 1), finite)
    for value in [x, *finite, np.nextafter(finite[0], np.inf)]:
        h = np.array([[value]])
        inside = [bool(event.holds(h)[0]) for event in variable.events]
        assert sum(inside) == 1
        assert inside.index(True) == variable.codes(h, np.zeros(1, dtype=np.int64))[0]


def test_quantile_bins_have_equal_mass_and_a_relus_zeros_have_their_own():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(900, 2))
    z[:, 1] = np.maximum(z[:, 1] - 0.5, 0.0)  # about 69 % zeros
    terciles = quantile_bins("z", "z", one_hot(0, 2), z[:, 0], 3)
    assert terciles is not None
    codes = codes_of([terciles], z, np.zeros(900, dtype=np.int64))
    assert np.bincount(codes[:, 0]).tolist() == [300, 300, 300]
    relu = quantile_bins("z", "z", one_hot(1, 2), z[:, 1], 2)
    assert relu is not None
    assert relu.size == 2
    assert np.array_equal(relu.events[0].holds(z), z[:, 1] == 0)


def test_a_constant_site_has_no_bins():
    h = np.ones((5, 2))
    h[:, 1] = np.arange(5)
    (only,) = site_bins("z", 0, h, [0, 1], 2)
    assert only.name == "z[1]"
    assert only.site == 1


def test_an_event_reads_only_its_own_sites():
    sign = site_signs("f", 0, 2, [0])[0]
    h = np.array([[1.0, np.inf], [-1.0, np.nan]])
    assert sign.events[1].holds(h).tolist() == [True, False]


def test_nan_is_in_no_event():
    for event in bins_of("z", "z", one_hot(0, 1), [0.0]).events:
        assert not event.holds(np.array([[np.nan]]))[0]


def test_answers_are_regions_where_the_read_out_is_monitored_and_groups_elsewhere():
    answers = class_variable(3, 5, slice(2, 5))
    h = np.random.default_rng(1).normal(size=(50, 5))
    best = h[:, 2:].argmax(axis=1)
    for event in answers.events:
        assert np.array_equal(event.holds(h), best == event.code)
    with pytest.raises(EventError, match="add the read-out"):
        class_variable(3, 5, None).events[0].holds(h)


def test_directions_are_binned_as_sites_are():
    h = np.random.default_rng(2).normal(size=(200, 3))
    row = np.array([1.0, -1.0, 0.0])
    (found,) = direction_bins("margin", ["0 over 1"], row[None], h, 2)
    assert found.site is None
    assert abs(float(found.events[1].holds(h).mean()) - 0.5) < 0.01


def test_events_are_their_content():
    first = bins_of("z", "z", one_hot(0, 2), [0.0]).events[0]
    same = bins_of("z", "z", one_hot(0, 2), [-0.0]).events[0]
    other = bins_of("z", "z", one_hot(1, 2), [0.0]).events[0]
    assert first == same and hash(first) == hash(same)
    assert first != other


def test_edges_must_be_numbers():
    with pytest.raises(EventError, match="edges of z"):
        bins_of("z", "z", one_hot(0, 1), [np.nan])
    with pytest.raises(EventError, match="bins = 1"):
        quantile_bins("z", "z", one_hot(0, 1), np.arange(3.0), 1)


def test_the_kernel_sees_the_same_events():
    network = ReluNetwork((ReluLayer(np.eye(3), np.zeros(3), False),))
    sites = Sites((SiteGroup("pre0", "input", 3),), "pre0", 0)
    box = bins_of("a", "a", one_hot(0, 3), [0.2]).events[1]
    row = Event("b - c", "b - c", 0, np.array([[0.0, 1.0, -1.0]]), np.zeros(1), np.full(1, np.inf))
    cell = cell_of((box, row), 3, 0, 1)
    assert (cell.low[0], len(cell.rows)) == (np.nextafter(0.2, 1), 1)
    bounded = type(cell).from_arrays(
        cell.to_arrays() | {"low": np.maximum(cell.low, -9.0), "high": np.minimum(cell.high, 9.0)}
    )
    h = np.random.default_rng(3).normal(size=(200, 3))
    inside = CellTable(network, sites, [bounded], 0.0).inside(h)[:, 0]
    assert np.array_equal(inside, box.holds(h) & row.holds(h))
    with pytest.raises(EventError, match="exclude each other"):
        cell_of(bins_of("a", "a", one_hot(0, 3), [0.2]).events, 3, 0, 1)


def test_the_planted_pair_is_the_most_surprising_pattern():
    h = _signs(500, 6)
    h[:, 4] = np.where(np.random.default_rng(1).random(500) < 0.9, h[:, 1], h[:, 4])
    state = start_from([class_variable(2, 6, None), *site_signs("f", 0, 6, range(6))], _batch(h))
    best = mine(state, order=2)[0]
    assert {v for v, _ in best.places} == {2, 5}
    held = [h[:, v - 1] > 0 if value else h[:, v - 1] <= 0 for v, value in best.places]
    assert best.share == pytest.approx(np.mean(held[0] & held[1]))
    assert abs(best.presumed - 0.25) < 0.01


def test_a_parity_is_found_though_every_pair_is_independent():
    h = _signs(600, 5)
    h[:, 3] = h[:, 0] * h[:, 2]
    state = start_from([class_variable(2, 5, None), *site_signs("f", 0, 5, range(5))], _batch(h))
    assert {v for v, _ in mine(state, order=3)[0].places} == {1, 3, 4}
    pairs = [m for m in mine(state, order=3) if len(m.places) == 2]
    assert all(m.gain < 0 for m in pairs)


def test_extensions_go_beyond_order_three():
    h = _signs(800, 5)
    h[:, 4] = h[:, 0] * h[:, 1] * np.where(h[:, 2] > 0, 1, h[:, 4])
    state = start_from([class_variable(2, 5, None), *site_signs("f", 0, 5, range(5))], _batch(h))
    assert any(len(m.places) == 4 and m.gain > 0 for m in mine(state, order=4))


def test_the_gain_is_n_times_the_divergence_less_the_price():
    h = _signs(400, 2)
    h[:, 1] = h[:, 0]
    state = start_from([class_variable(2, 2, None), *site_signs("f", 0, 2, range(2))], _batch(h))
    pair = next(m for m in mine(state, order=2) if [v for v, _ in m.places] == [1, 2])
    f, p = np.array(pair.share), np.array(pair.presumed)
    price = np.log(2 * 2 * 3)  # patterns of order 2 over three variables of two values
    assert pair.gain == pytest.approx(400 * float(divergence(f, p)) - price)


def test_events_without_a_region_are_never_part_of_a_pattern():
    h = _signs(300, 2)
    batch = _batch(h, (h[:, 0] > 0).astype(np.int64))
    signs = site_signs("f", 0, 2, range(2))
    hidden = start_from([class_variable(2, 2, None), *signs], batch)
    assert all(v != 0 for m in mine(hidden) for v, _ in m.places)
    h = np.concatenate([h, batch.outputs], axis=1)
    seen = start_from(
        [class_variable(2, 4, slice(2, 4)), *site_signs("f", 0, 4, range(2))],
        Batch(h, batch.outputs, batch.labels),
    )
    assert {v for v, _ in mine(seen)[0].places} == {0, 1}


def test_cells_of_more_than_the_threshold_are_compulsory_worst_first():
    h = _signs(40, 18)
    few = start_from([class_variable(2, 18, None), *site_signs("f", 0, 18, range(12))], _batch(h))
    assert compulsory(few) == []  # 13 bits a cell
    many = start_from([class_variable(2, 18, None), *site_signs("f", 0, 18, range(18))], _batch(h))
    found = compulsory(many)
    assert sum(cell.inputs for cell in found) == 40
    assert all(cell.surprise == pytest.approx(19.0) for cell in found)
    assert compulsory(many, tau=2.0**-20) == []


def test_the_culprits_of_a_cell_are_its_unusual_events():
    h = _signs(400, 6)
    h[:, 4] = h[:, 1]
    state = start_from([class_variable(2, 6, None), *site_signs("f", 0, 6, range(6))], _batch(h))
    same = Coupling(((2, 1),), (5, 1), 0.99, 0.98, 1.0)
    state = replace(state, model=state.model.with_changes([same]))
    cell = tuple((v, 1 if v == 2 else 0) for v in range(7))  # f[1] without f[4]
    assert (5, 0) in culprits(state, cell, order=1)
    assert all(v != 0 for v, _ in culprits(state, cell, order=7))


def test_mined_patterns_come_in_the_order_of_their_gain():
    h = _signs(200, 4)
    state = start_from([class_variable(2, 4, None), *site_signs("f", 0, 4, range(4))], _batch(h))
    found: list[Mined] = mine(state, keep=10)
    assert len(found) == 10
    gains = [m.gain for m in found]
    assert gains == sorted(gains, reverse=True)
