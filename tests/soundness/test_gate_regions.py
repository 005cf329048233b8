"""Networks, cells, region certificates and membership: the laws, and cases worked by hand."""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from compactproofs.kernel import (
    Cell,
    CellTable,
    MalformedError,
    ModelError,
    RegionWitness,
    RejectedError,
    ReluLayer,
    ReluNetwork,
    SemanticsError,
    SiteGroup,
    Sites,
    certify_region,
    last_block,
    load_relu_network,
    region_bounds,
    region_leaves,
)
from compactproofs.kernel._enclosure import Ball
from compactproofs.kernel._ledger import Ledger
from compactproofs.kernel._network import last_mid, logits
from compactproofs.kernel.gate._regions import Certified
from transformers_for_tests import random_transformer

from . import laws_of_gate_cells, laws_of_gate_regions


@pytest.mark.parametrize(
    "law", laws_of_gate_cells.LAWS + laws_of_gate_regions.LAWS, ids=lambda law: law.__name__
)
def test_the_law_holds(law: Callable[[ModuleType], Iterator[str]], plain: ModuleType) -> None:
    assert list(law(plain)) == []


def box(low: list[float], high: list[float], label: int = 0, units: int = 0, **more: Any) -> Cell:
    """A cell without events."""
    s = len(low)
    fields: dict[str, Any] = {
        "rows": np.zeros((0, s)), "row_low": np.zeros(0), "row_high": np.zeros(0),
        "pattern": np.zeros(units, dtype=np.int8),
    }  # fmt: skip
    return Cell(np.array(low, float), np.array(high, float), **(fields | more), label=label)


def two_sites(kind: Any = "post") -> Sites:
    return Sites((SiteGroup("a", kind, 2),), "a", 0)


BACKUPS = ReluNetwork(
    (
        ReluLayer(np.array([[1.0], [1.0]]), np.array([-1.0]), relu=False),
        ReluLayer(np.array([[-3.0, 0.0]]), np.array([1.0, 0.0]), relu=True),
    )
)
"""The margin ``1 - 3 max(0, a1 + a2 - 1)``: either input may be 1, both may not."""


def test_what_is_free_alone_is_not_free_together() -> None:
    sites = two_sites("input")
    for high in ([1.0, 0.0], [0.0, 1.0]):
        certified = certify_region(BACKUPS, sites, box([0, 0], high, units=1))
        assert 0.999 < certified.margin <= 1
        assert 0 < certified.envelope < 1e-5
    with pytest.raises(RejectedError, match="the margin of label 0 is only shown to be -2"):
        certify_region(BACKUPS, sites, box([0, 0], [1, 1], units=1))


def test_a_pattern_and_an_event_that_say_so_help() -> None:
    sites = two_sites("input")
    off = box([0, 0], [1, 1], pattern=np.array([-1], dtype=np.int8))
    assert certify_region(BACKUPS, sites, off).margin > 0.999
    event = {"rows": np.ones((1, 2)), "row_low": np.zeros(1), "row_high": np.array([1.25])}
    cell = box([0, 0], [1, 1], units=1, **event)
    assert region_bounds(BACKUPS, sites, cell)[0] < -1.999
    # On where a1 + a2 >= 1: 1 - 3 (a1 + a2 - 1) is at least 1/4 by the event.
    witness = RegionWitness(
        slopes=np.zeros((2, 1, 1)),
        betas=np.zeros((2, 1, 1)),
        multipliers=np.array([[[0.0]], [[-3.0]]]),
        split=np.array([0], dtype=np.int32),
    )
    assert 0.2499 < certify_region(BACKUPS, sites, cell, witness).margin <= 0.25
    signed = witness._replace(betas=np.array([[[5.0]], [[0.0]]]))
    assert region_bounds(BACKUPS, sites, cell, signed)[0] <= 0.25


def test_a_beta_makes_use_of_a_sign() -> None:
    # Units a and z = a - 1; the margin is a + z / 2 - 3 / 4 where z is on.
    network = ReluNetwork(
        (
            ReluLayer(np.array([[1.0, 1.0]]), np.array([0.0, -1.0]), relu=False),
            ReluLayer(np.array([[1.0, 0.0], [0.5, 0.0]]), np.array([-0.75, 0.0]), relu=True),
        )
    )
    sites = Sites((SiteGroup("a", "input", 1),), "a", 0)
    cell = box([0], [3], pattern=np.array([0, 1], dtype=np.int8))
    plain = region_bounds(network, sites, cell)[0]
    witness = RegionWitness(
        np.ones((1, 1, 2)), np.array([[[0.0, 1.5]]]), np.zeros((1, 1, 0)), np.zeros(0, np.int32)
    )
    # a + (a - 1) / 2 - 3 / 4 - 3 / 2 (a - 1) = 1 / 4 on all of the box.
    assert plain < -1
    assert 0.2499 < certify_region(network, sites, cell, witness).margin <= 0.25


def test_the_leaves_of_a_split_are_told_apart() -> None:
    sites = two_sites("input")
    leaves = region_leaves(
        BACKUPS, sites, box([0, 0], [1, 1], units=1), np.array([0], dtype=np.int32)
    )
    unit = leaves.units[1]
    assert unit.high[0] == 0 <= unit.low[1]
    assert unit.low[0] == pytest.approx(-1)
    assert unit.high[1] == pytest.approx(1)
    assert not leaves.empty.any()
    narrow = region_leaves(
        BACKUPS, sites, box([0, 0], [0.25, 0.25], units=1), np.array([0], dtype=np.int32)
    )
    assert narrow.empty.tolist() == [False, True]


def test_a_cell_without_points_is_no_certificate() -> None:
    on = box([0, 0], [0.25, 0.25], pattern=np.array([1], dtype=np.int8))
    with pytest.raises(RejectedError, match="no point is in this cell"):
        certify_region(BACKUPS, two_sites("input"), on)
    after = ReluNetwork((ReluLayer(np.eye(2), np.array([1.0, 0.0]), relu=True),))
    with pytest.raises(RejectedError, match="no point is in this cell"):
        certify_region(after, two_sites(), box([-2, -2], [-1, 1]))


def test_a_certificate_comes_from_the_check_alone() -> None:
    certified = certify_region(BACKUPS, two_sites("input"), box([0, 0], [0, 0], units=1))
    with pytest.raises(TypeError, match="certify_region alone"):
        Certified(box([0, 0], [1, 1]), BACKUPS, two_sites("input"), 1.0, 0.0, None, seal=object())
    with pytest.raises(AttributeError, match="cannot be changed"):
        certified.margin = 2.0  # type: ignore[misc]


def test_numbers_that_float32_does_not_hold_are_refused() -> None:
    network = ReluNetwork((ReluLayer(np.eye(2) * 1e39, np.array([0.0, 0.0]), relu=False),))
    with pytest.raises(SemanticsError, match="may overflow"):
        certify_region(network, two_sites("input"), box([1, 0], [1, 0]))


def test_after_a_relu_nothing_is_below_0() -> None:
    network = ReluNetwork((ReluLayer(np.eye(2), np.array([0.5, 0.0]), relu=True),))
    cell = box([-1.0, 0.0], [1.0, 0.25])
    assert region_bounds(network, two_sites("post"), cell)[0] >= 0.2499
    # A unit that is off reads exactly 0: it is inside, whatever eps is.
    table = CellTable(network, two_sites("post"), [box([0.0, 0.0], [1.0, 1.0])], 0.125)
    points = np.array([[0.0, 0.5], [-0.01, 0.5], [0.0, 0.9], [1.0, 0.5]])
    assert table.inside(points)[:, 0].tolist() == [True, False, False, False]


def test_a_recorded_point_is_in_its_own_box_and_no_other_point_is() -> None:
    point = np.array([0.1, 0.3])
    table = CellTable(BACKUPS, two_sites("input"), [box([0.1, 0.3], [0.1, 0.3], units=1)], 0.0)
    assert table.inside(point[None]).tolist() == [[True]]
    assert table.failing(point, 0) == []
    assert not table.inside(np.nextafter(point, 1)[None]).any()
    assert table.failing(np.array([0.2, np.nan]), 0) == ["a[1] is not a finite number"]
    assert table.failing(np.array([0.2, 0.0]), 0) == [
        "site a[0] = 0.2 above 0.1",
        "site a[1] = 0 below 0.3",
    ]


def test_reasons_name_events_and_units() -> None:
    event = {"rows": np.ones((1, 2)), "row_low": np.array([0.5]), "row_high": np.array([np.inf])}
    cell = box([0, 0], [1, 1], pattern=np.array([1], dtype=np.int8), **event)
    table = CellTable(BACKUPS, two_sites("input"), [cell], 0.0)
    reasons = table.failing(np.array([0.25, 0.125]), 0)
    assert reasons[0] == "event 0 = 0.375 outside 0.5 .. inf"
    assert reasons[1].startswith("unit z1[0] not on: -0.625")
    assert table.inside(np.array([[0.75, 0.75]])).all()


def test_a_table_without_cells_holds_nothing() -> None:
    assert CellTable(BACKUPS, two_sites("input"), [], 0.0).inside(np.zeros((3, 2))).shape == (3, 0)


def test_numbers_out_of_range_are_in_no_cell_and_spoil_no_other_point() -> None:
    network = ReluNetwork(
        (ReluLayer(np.eye(2), np.zeros(2), relu=False), ReluLayer(np.eye(2), np.zeros(2), True))
    )
    sites = Sites((SiteGroup("x", "readout", 1), SiteGroup("a", "input", 2)), "a", 0)
    rows = {"rows": np.array([[1e300, 1, 0]]), "row_low": np.zeros(1), "row_high": np.ones(1)}
    cell = box([-np.inf, 0, 0], [np.inf, 1, 1], units=2, **rows)
    h = np.array([[0.0, 0.5, 0.5], [1e300, 0.5, 0.5], [0.0, 0.5, 0.5]])
    assert CellTable(network, sites, [cell], 0.0).inside(h)[:, 0].tolist() == [True, False, True]


def test_cells_meet_in_a_cell_or_not_at_all() -> None:
    one, two = box([0, 0], [1, 1], units=1), box([0.5, -1], [2, 0.5], units=1)
    both = one.intersect(two)
    assert both is not None
    assert (both.low.tolist(), both.high.tolist()) == ([0.5, 0.0], [1.0, 0.5])
    assert one.intersect(box([2, 2], [3, 3], units=1)) is None
    on = box([0, 0], [1, 1], pattern=np.array([1], dtype=np.int8))
    assert on.intersect(box([0, 0], [1, 1], pattern=np.array([-1], dtype=np.int8))) is None
    assert one.intersect(on).pattern.tolist() == [1]  # type: ignore[union-attr]
    with pytest.raises(MalformedError, match="different sites, units or labels"):
        one.intersect(box([0, 0], [1, 1], label=1, units=1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"low": np.array([2.0, 0.0])}, "site 0 of a cell has the range 2.0 .. 1.0"),
        ({"low": np.array([np.nan, 0.0])}, "low of a cell holds NaN"),
        ({"low": np.array([np.inf, 0.0])}, "site 0 of a cell has the range inf"),
        (
            {"rows": np.full((1, 2), np.inf), "row_low": np.zeros(1), "row_high": np.ones(1)},
            "rows of a cell hold infinity",
        ),
        (
            {"rows": np.ones((1, 2)), "row_low": np.ones(1), "row_high": np.zeros(1)},
            "row 0 of a cell has the range 1.0 .. 0.0",
        ),
        ({"pattern": np.array([2], dtype=np.int8)}, "other numbers than -1, 0 and 1"),
        ({"label": -1}, "the label of a cell is -1"),
    ],
)
def test_what_is_no_cell_is_refused(change: dict[str, Any], message: str) -> None:
    cell = box([0, 0], [1, 1], units=1)
    fields = {n: getattr(cell, n) for n in ("low", "high", "rows", "row_low", "row_high")}
    fields |= {"pattern": cell.pattern, "label": 0} | change
    with pytest.raises(MalformedError, match=message):
        Cell(**fields)


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (box([0, 0, 0], [1, 1, 1], units=1), "a cell of 3 sites, where there are 2"),
        (box([0, 0], [1, 1]), "the pattern of a cell has 0 units, but 1 have"),
        (box([0, 0], [1, 1], label=2, units=1), "the label 2 is none of 2 outputs"),
        (box([0, -np.inf], [1, 1], units=1), "leaves a site of the cut a without a finite range"),
    ],
)
def test_a_cell_of_another_network_is_refused(cell: Cell, message: str) -> None:
    with pytest.raises(MalformedError, match=message):
        certify_region(BACKUPS, two_sites("input"), cell)


@pytest.mark.parametrize(
    ("sites", "message"),
    [
        (Sites((SiteGroup("a", "input", 3),), "a", 0), "has 3 sites, but layer 0"),
        (Sites((SiteGroup("a", "pre", 2),), "a", 2), "at layer 2 of a network of 2 layers"),
        (Sites((SiteGroup("a", "input", 1),), "a", 1), "the input is layer 0"),
        (Sites((SiteGroup("a", "post", 2),), "a", 0), "layer 0 has no ReLU"),
    ],
)
def test_sites_of_another_network_are_refused(sites: Sites, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        sites.require_fit(BACKUPS)


def test_a_cut_after_the_input_does_not_determine_a_skip_connection() -> None:
    network = ReluNetwork(BACKUPS.layers, skip=np.eye(2))
    sites = Sites((SiteGroup("z", "pre", 1),), "z", 1)
    with pytest.raises(ModelError, match="does not determine the logits"):
        sites.require_fit(network)
    two_sites("pre").require_fit(network)


def saved(folder: Path, **tensors: np.ndarray) -> Path:
    path = folder / "model.safetensors"
    save_file({name.replace("_", "."): values for name, values in tensors.items()}, path)
    return path


def test_a_sequential_of_torch_is_read(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    first, last = (rng.normal(size=s).astype(np.float32) for s in ((3, 2), (4, 3)))
    bias = rng.normal(size=3).astype(np.float32)
    path = saved(tmp_path, **{"0_weight": first, "0_bias": bias, "2_weight": last})
    network = load_relu_network(path)
    assert network.widths == (2, 3, 4)
    assert [layer.relu for layer in network.layers] == [False, True]
    x = rng.normal(size=(5, 2))
    exact = np.maximum(x @ first.T.astype(float) + bias, 0) @ last.T.astype(float)
    found = network.forward(Ball.exact(x, Ledger()))[-1]
    assert (np.abs(found.mid - exact) <= found.rad + 1e-12).all()


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (
            {"0_weight": np.zeros((2, 2)), "1_weight": np.zeros((2, 2))},
            r"layers \[0, 1\], not 0, 2",
        ),
        ({"2_weight": np.zeros((2, 2))}, r"layers \[2\], not 0, 2"),
        ({"0_bias": np.zeros(2)}, "'0.weight' is missing"),
        ({"0_weight": np.zeros((2, 2)), "0_scale": np.zeros(2)}, "unexpected tensor '0.scale'"),
        ({"0_weight": np.zeros((2, 2)), "0_bias": np.zeros(3)}, r"'0.bias' has shape \(3,\)"),
        ({"0_weight": np.zeros((2, 2)), "2_weight": np.zeros((2, 3))}, "layer 1 takes 3 numbers"),
        ({"0_weight": np.full((2, 2), np.nan)}, "NaN or infinity"),
        ({"0_weight": np.zeros((1, 2))}, "one output has no rival"),
    ],
)
def test_other_files_are_refused(
    tensors: dict[str, np.ndarray], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=message):
        load_relu_network(saved(tmp_path, **tensors))


@pytest.mark.parametrize("neurons", [0, 3])
def test_the_last_block_of_a_transformer_gives_its_logits(neurons: int) -> None:
    net = random_transformer(np.random.default_rng(4), k=2, v=3, layers=2, mlp=neurons, d=4, h=2)
    tokens = np.array([[0, 1], [2, 2], [1, 0]])
    mid = last_mid(net, tokens, Ledger())
    found = last_block(net).forward(Ball.exact(mid.mid, Ledger()))[-1]
    wanted = logits(net, tokens, Ledger())
    assert (np.abs(found.mid - wanted.mid) <= wanted.rad + found.rad).all()
    assert (
        last_block(net).sha256
        != last_block(
            random_transformer(np.random.default_rng(5), k=2, v=3, layers=2, mlp=neurons, d=4, h=2)
        ).sha256
    )
