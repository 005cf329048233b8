from dataclasses import replace
from fractions import Fraction
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from compactproofs.kernel import MalformedError, OptionError, RejectedError
from compactproofs.kernel.gate import (
    Cell,
    Duplicate,
    FeatureSum,
    Folded,
    Irrelevant,
    MarginLine,
    Merged,
    Negligible,
    ReluLayer,
    ReluNetwork,
    SafeInterval,
    SiteGroup,
    Sites,
    UnitFacts,
    certify_region,
    duplicate,
    exact_margins,
    feature_sum,
    fold,
    irrelevant,
    margin_line,
    merge,
    negligible,
    region_bounds,
    safe_interval,
    unit_facts,
)

from . import laws_of_gate_paths, laws_of_gate_structure
from .laws_of_gate_single_site import of_single_sites

NOTHING = np.zeros(0)


def cell_of(low: list[float], high: list[float], units: int, label: int = 0) -> Cell:
    return Cell(
        np.array(low, float), np.array(high, float), np.zeros((0, len(low))), NOTHING, NOTHING,
        np.zeros(units, dtype=np.int8), label,
    )  # fmt: skip


def network_of(*layers: tuple[list[list[float]], list[float], bool]) -> ReluNetwork:
    return ReluNetwork(tuple(ReluLayer(np.array(W), np.array(b), relu) for W, b, relu in layers))


SITES = Sites((SiteGroup("a", "input", 2),), "a", 0)
JOINT = network_of(
    ([[1.0], [1.0]], [-1.0], False),  # z = a1 + a2 - 1
    ([[-3.0, 0.0]], [1.0, 0.0], True),  # the margin is 1 - 3 max(0, a1 + a2 - 1)
)
"""Each site is free over [0, 1] beside 0, both are not."""


def test_intervals_of_single_sites_are_exact(plain: ModuleType) -> None:
    assert list(of_single_sites(plain)) == []


@pytest.mark.parametrize(
    "law", (*laws_of_gate_structure.LAWS, *laws_of_gate_paths.LAWS), ids=lambda law: law.__name__
)
def test_facts_about_structure_are_true(law: Any, plain: ModuleType) -> None:
    assert list(law(plain)) == []


def test_free_sites_one_by_one_are_not_free_together() -> None:
    h = np.zeros(2)
    for site in (0, 1):
        assert safe_interval(JOINT, SITES, h, site, 0).covers(0.0, 1.0)
        fact = irrelevant(JOINT, SITES, cell_of([0, 0], [0, 0], 1), [site], np.zeros(1), np.ones(1))
        assert fact.certified.margin == pytest.approx(1.0)
    with pytest.raises(RejectedError, match="margin"):
        irrelevant(JOINT, SITES, cell_of([0, 0], [0, 0], 1), [0, 1], np.zeros(2), np.ones(2))
    assert exact_margins(JOINT, SITES, [Fraction(1), Fraction(1)], 0) == (Fraction(-2),)


def test_the_interval_of_the_test_vector_ends_where_the_margin_is_0() -> None:
    found = safe_interval(JOINT, SITES, np.array([0.0, 0.5]), 0, 0)
    # 1 - 3 (a1 - 1/2) = 0 at 5/6, which no float64 number is.
    assert (found.low, found.high, found.open_high) == (None, Fraction(5, 6), True)
    assert found.covers(-1e300, 0.8333) and not found.covers(0.0, Fraction(5, 6))
    part = safe_interval(JOINT, SITES, np.array([0.0, 0.5]), 0, 0, (-1.0, 0.75))
    assert (part.low, part.high, part.open_low, part.open_high) == (
        -1,
        Fraction(3, 4),
        False,
        False,
    )
    assert part.covers(-1.0, 0.75)


def test_a_tie_is_no_win() -> None:
    tie = network_of(([[1.0, 0.0], [0.0, 0.0]], [0.0, 0.0], False))
    with pytest.raises(RejectedError, match="does not win at the point"):
        safe_interval(tie, SITES, np.zeros(2), 0, 0)
    assert safe_interval(tie, SITES, np.array([1.0, 0.0]), 0, 0).low == 0


def test_pruning_to_constants_in_the_free_ranges_keeps_the_answer() -> None:
    rng = np.random.default_rng(1)
    network = ReluNetwork(
        (
            ReluLayer(rng.normal(size=(4, 4)), rng.normal(size=4), False),
            ReluLayer(rng.normal(size=(4, 3)), np.array([9.0, 0.0, 0.0]), True),
        )
    )
    sites = Sites((SiteGroup("a", "input", 4),), "a", 0)
    cell = cell_of([0.1] * 4, [0.2] * 4, 4)
    fact = irrelevant(network, sites, cell, [1, 3], np.full(2, -0.2), np.full(2, 0.4))
    W = network.layers[0].W.copy()
    W[[1, 3]] = 0.0
    pruned = ReluNetwork((replace(network.layers[0], W=W), network.layers[1]))
    for point in rng.uniform(0.1, 0.2, (20, 4)):
        exact = [Fraction(value) for value in point.tolist()]
        assert min(exact_margins(pruned, sites, exact, 0)) > 0
    assert fact.wide.low[1] == -0.2 and fact.low.tolist() == [-0.2, -0.2]


def test_two_backups_are_not_negligible_together_and_old_facts_are_refused() -> None:
    sites = Sites((SiteGroup("a", "input", 1),), "a", 0)
    backups = network_of(([[1.0, 1.0]], [0.0, 0.0], False), ([[1.0, 0.0]] * 2, [-1.5, 0.0], True))

    def without(*units: int) -> ReluNetwork:
        W = backups.layers[1].W.copy()
        W[list(units)] = 0.0
        return ReluNetwork((backups.layers[0], replace(backups.layers[1], W=W)))

    cell = cell_of([2.0], [2.2], 2)
    for unit in (0, 1):
        assert (negligible(backups, without(unit), sites, cell).remaining > 0).all()
    first = negligible(backups, without(0), sites, cell)
    with pytest.raises(RejectedError, match="may fall by"):
        negligible(first.network, without(0, 1), sites, first.cell)
    facts = unit_facts(backups, sites, cell)
    with pytest.raises(MalformedError, match="derive it again"):
        fold(first.network, sites, first.cell, facts)


def test_a_network_whose_units_are_all_stable_is_folded_to_a_linear_one() -> None:
    network = network_of(
        ([[1.0, -1.0, 1.0]] * 2, [1.0, -9.0, 2.0], False), ([[1.0, 0.0]] * 3, [0.0, 0.0], True)
    )
    cell = cell_of([0, 0], [1, 1], 3)
    facts = unit_facts(network, SITES, cell)
    assert facts.dead.tolist() == [False, True, False]
    assert facts.stable.tolist() == [True, False, True]
    folded = fold(network, SITES, cell, facts)
    assert folded.network.widths == (2, 2, 2)
    assert not any(layer.relu for layer in folded.network.layers)
    assert len(folded.cell.pattern) == 0


def test_an_exact_duplicate_is_merged_at_next_to_no_cost() -> None:
    network = network_of(
        ([[1.0, 2.0, 0.5], [1.0, 2.0, -1.0]], [-1.0, -2.0, 0.3], False),
        ([[1.0, 0.0], [1.0, -1.0], [0.5, 1.0]], [8.0, 0.0], True),
    )
    cell = cell_of([0, 0], [1, 1], 3)
    relation = duplicate(network, SITES, cell, 1, 1, [0], [2.0])
    assert -1e-12 < relation.low <= 0 <= relation.high < 1e-12
    W = network.layers[1].W.copy()
    W[0] += 2.0 * W[1]
    W[1] = 0.0
    other = ReluNetwork((network.layers[0], replace(network.layers[1], W=W)))
    with_it = negligible(network, other, SITES, cell, [relation])
    assert (with_it.difference < 1e-12).all()
    with pytest.raises(RejectedError):
        negligible(network, other, SITES, cell)


def test_features_have_one_entry_each_and_a_good_line_is_nearly_tight() -> None:
    network = network_of(([[2.0, 0.0], [-1.0, 0.5]], [1.0, 0.0], False))
    cell = cell_of([-1, -1], [1, 1], 0)
    line = margin_line(network, SITES, cell, np.array([[2.0], [-1.5]]))
    assert line.start == pytest.approx([1.0], abs=1e-12)
    table = feature_sum(line, np.array([[1.0, 0.0], [1.0, 1.0]]), np.zeros(2), np.full(2, 0.1))
    assert table.table.tolist() == [[2.0], [0.5]]
    # The residual costs 0.1 (2 + 1.5).
    assert table.bounds(np.array([[0.5, 0.2]]))[0] == pytest.approx([1 + 1 + 0.1 - 0.35])


def test_cells_with_one_hull_are_merged() -> None:
    network = network_of(([[1.0, 0.0], [0.0, 0.0]], [3.0, 0.0], False))
    cells = [cell_of([x, 0.0], [x + 1, 1.0], 0) for x in (-1.0, 0.0, 1.0)]
    merged = merge(network, SITES, cells, cell_of([-1, 0], [2, 1], 0))
    assert merged.cell_ids == tuple(cell.id for cell in cells)
    with pytest.raises(MalformedError, match="not shown to hold"):
        merge(network, SITES, cells, cell_of([-1, 0], [1.5, 1], 0))
    with pytest.raises(RejectedError):
        merge(network, SITES, cells, cell_of([-5, 0], [2, 1], 0))


def test_what_is_asked_wrongly_is_refused_by_name() -> None:
    cell = cell_of([0, 0], [0.1, 0.1], 1)
    h = np.zeros(2)
    for call, error, words in (
        (lambda: safe_interval(JOINT, SITES, h, 2, 0), OptionError, "pass one of 0 to 1"),
        (lambda: safe_interval(JOINT, SITES, h, 0, 7), MalformedError, "none of 2 outputs"),
        (lambda: safe_interval(JOINT, SITES, h, 0, 0, (0.5, 1.0)), OptionError, "enclose"),
        (lambda: safe_interval(JOINT, SITES, h * np.nan, 0, 0), MalformedError, "NaN"),
        (lambda: safe_interval(JOINT, SITES, np.zeros(3), 0, 0), MalformedError, "2 sites"),
        (lambda: exact_margins(JOINT, SITES, [Fraction(0)], 0), MalformedError, "1 numbers"),
        (lambda: duplicate(JOINT, SITES, cell, 0, 0, [], []), MalformedError, "layer 0"),
        (lambda: duplicate(JOINT, SITES, cell, 1, 1, [], []), MalformedError, "not different"),
        (lambda: duplicate(JOINT, SITES, cell, 1, 0, [], [1.0]), MalformedError, "finite"),
        (
            lambda: irrelevant(JOINT, SITES, cell, [0], np.full(1, 0.05), np.ones(1)),
            MalformedError, "does not hold the cell's own",
        ),
        (lambda: irrelevant(JOINT, SITES, cell, [5], h[:1], h[:1]), MalformedError, "free sites"),
        (lambda: margin_line(JOINT, SITES, cell, np.zeros((2, 2))), MalformedError, "line"),
        (lambda: merge(JOINT, SITES, [], cell), MalformedError, "nothing to merge"),
    ):  # fmt: skip
        with pytest.raises(error, match=words) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_a_cell_without_points_has_no_facts() -> None:
    empty = replace(cell_of([-0.5, -0.5], [0.0, 0.0], 1), pattern=np.ones(1, dtype=np.int8))
    for call in (
        lambda: unit_facts(JOINT, SITES, empty),
        lambda: duplicate(JOINT, SITES, empty, 1, 0, [], []),
        lambda: negligible(JOINT, JOINT, SITES, empty),
        lambda: margin_line(JOINT, SITES, empty, np.zeros((2, 1))),
    ):
        with pytest.raises(RejectedError, match="no point is in this cell"):
            call()


@pytest.mark.parametrize(
    "kind",
    [SafeInterval, UnitFacts, Folded, Duplicate, Negligible, Irrelevant, MarginLine, FeatureSum,
     Merged],
)  # fmt: skip
def test_facts_cannot_be_made_up_or_changed(kind: Any) -> None:
    with pytest.raises(TypeError, match="alone"):
        kind(seal=object())
    found = safe_interval(JOINT, SITES, np.zeros(2), 0, 0)
    with pytest.raises(AttributeError, match="cannot be changed"):
        found.high = None  # type: ignore[misc]


def test_a_cut_behind_a_relu_admits_no_free_values_below_0() -> None:
    network = network_of(
        ([[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0], False), ([[1.0, 0.0]] * 2, [1.0, 0.0], True)
    )
    sites = Sites((SiteGroup("post1", "post", 2),), "post1", 1)
    cell = cell_of([0, 0], [0.5, 0.5], 0)
    certify_region(network, sites, cell_of([-9, -9], [9, 9], 0))  # of what is not below 0
    with pytest.raises(MalformedError, match="start ranges at 0"):
        irrelevant(network, sites, cell, [0], np.full(1, -9.0), np.full(1, 9.0))
    # The interval of an edit, which may be below 0, sees it.
    assert safe_interval(network, sites, np.zeros(2), 0, 0).low == -1


def test_hidden_margins_of_hostile_weights_stay_exact() -> None:
    tiny = 2.0**-1074
    network = network_of(([[tiny, 0.0], [1e300, 0.0]], [tiny, 0.0], False))
    found = safe_interval(network, SITES, np.zeros(2), 0, 0)
    assert (found.low, found.high) == (-1, None)
    end = safe_interval(network, SITES, np.zeros(2), 1, 0).low
    assert end == -Fraction(tiny) / Fraction(1e300)
    assert region_bounds(network, SITES, cell_of([0, 0], [0, 0], 0))[0] <= tiny
