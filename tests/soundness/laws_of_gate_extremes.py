"""What an attacker of the gate tried: memory layouts, tiny and huge numbers, forged facts.

Laws on any copy of the kernel; each yields one line for each violation that it finds.
"""

from collections.abc import Iterator
from fractions import Fraction
from importlib import import_module
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from .exact_margins import gate_of

SITES = 60
LEAST_NORMAL = float(np.finfo(np.float64).tiny)


def _network(kernel: ModuleType, *layers: tuple[Any, Any, bool], skip: Any = None) -> Any:
    gate = gate_of(kernel)
    made = [gate.ReluLayer(np.array(W, float), np.array(b, float), relu) for W, b, relu in layers]
    return gate.ReluNetwork(tuple(made), None if skip is None else np.array(skip, float))


def _sites(kernel: ModuleType, size: int) -> Any:
    gate = gate_of(kernel)
    return gate.Sites((gate.SiteGroup("x", "input", size),), "x", 0)


def _cell(kernel: ModuleType, low: Any, high: Any, units: int = 0, **events: Any) -> Any:
    given = {"rows": np.zeros((0, len(low))), "row_low": np.zeros(0), "row_high": np.zeros(0)}
    pattern = np.ones(units, dtype=np.int8)
    ends = np.array(low, float), np.array(high, float)
    return gate_of(kernel).Cell(*ends, **(given | events), pattern=pattern, label=0)


def layouts(kernel: ModuleType) -> Iterator[str]:
    """A point is inside or not whatever the layout of its array and its company."""
    rng = np.random.default_rng(0)
    h, weights = rng.normal(size=(200, SITES)), rng.normal(size=SITES)
    network = _network(kernel, (weights[:, None], [0.0], False), ([[1.0, -1.0]], [0.0, 0.0], True))
    table = gate_of(kernel).CellTable(
        network, _sites(kernel, SITES), [_cell(kernel, [-99.0] * SITES, [99.0] * SITES, 1)], 0.0
    )
    for _ in range(3):  # to the boundary of what is shown to be on: sums that hang on their order
        h[:, -1] -= table._units(h)[0][:, 0] / weights[-1]
    plain = table.inside(h)[:, 0]
    turned = np.asfortranarray(h)
    alone = [bool(table.inside(turned[i : i + 1])[0, 0]) for i in range(len(h))]
    for what, found in (
        ("by columns", table.inside(turned)[:, 0]),
        ("by columns, alone", np.array(alone)),
        ("every other", table.inside(np.repeat(h, 2, axis=0)[::2])[:, 0]),
    ):
        if not (found == plain).all():
            yield f"{int((found != plain).sum())} of {len(h)} points are elsewhere {what}"
    if plain.all() or not plain.any():
        yield "no point is near the boundary"


def subnormal_eps(kernel: ModuleType) -> Iterator[str]:
    """A smaller eps puts no point out, down to the least number there is."""
    row = np.array([[1e300]])
    cell = _cell(kernel, [-1.0], [1.0], rows=row, row_low=np.zeros(1), row_high=np.ones(1))
    network = _network(kernel, ([[1.0, 0.0]], [1.0, 0.0], False))
    points = LEAST_NORMAL * (1 + np.arange(64) * 2.0**-52)[:, None]
    before = None
    for eps in (0.0, 5e-324, LEAST_NORMAL / 2, np.nextafter(LEAST_NORMAL, 0), LEAST_NORMAL):
        table = gate_of(kernel).CellTable(network, _sites(kernel, 1), [cell], float(eps))
        inside = table.inside(points)[:, 0]
        if before is not None and (inside & ~before).any():
            yield f"more points are inside with eps = {eps} than with less"
        before = inside


def beyond_float32(kernel: ModuleType) -> Iterator[str]:
    """Infinity times 0 is no number: what overflows is refused though its weight is 0."""
    huge = 2.0**100
    for what, network, low, high in (
        (
            "an input",
            _network(kernel, ([[1.0, 0.0], [0.0, 0.0]], [huge, 0.0], False)),
            [0.0, 0.0],
            [1.0, 1e40],
        ),
        (
            "a weight of a skip connection",
            _network(kernel, ([[1.0, 0.0]], [2.0**112, 0.0], False), skip=[[2.0**150] * 2]),
            [0.0],
            [0.0],
        ),
    ):
        try:
            gate_of(kernel).certify_region(
                network, _sites(kernel, len(low)), _cell(kernel, low, high)
            )
        except kernel.SemanticsError:
            continue
        yield f"{what} beyond float32 is certified"


def forged_facts(kernel: ModuleType) -> Iterator[str]:
    """What only looks like a proved fact, or a cell, is refused."""
    gate = gate_of(kernel)
    network = _network(kernel, ([[1.0, 1.0]], [0.0, 0.0], False), (np.eye(2), [1.0, 0.0], True))
    sites, cell = _sites(kernel, 1), _cell(kernel, [0.0], [1.0], 2)
    about = {
        "network_sha256": network.sha256, "sites_sha256": sites.sha256, "cell_id": cell.id,
    }  # fmt: skip
    yes, no = np.ones(2, dtype=bool), np.zeros(2, dtype=bool)
    facts = SimpleNamespace(**about, dead=yes, stable=no, unused=no)
    relation = SimpleNamespace(
        **about, layer=1, unit=0, others=(), coefficients=(), low=0.0, high=0.0
    )
    line = SimpleNamespace(**about, slope=np.ones((1, 1)), start=np.ones(1), A=lambda ledger: None)
    posing = SimpleNamespace(**{name: getattr(cell, name) for name in ("low", "high", "label")})
    posing.id, posing.require_fit = cell.id, cell.require_fit
    posing.rows, posing.pattern = cell.rows, cell.pattern
    one = np.ones(1)
    for what, use in (
        ("facts", lambda: gate.fold(network, sites, cell, facts)),
        ("a relation", lambda: gate.negligible(network, network, sites, cell, [relation])),
        ("a line", lambda: gate.feature_sum(line, np.ones((1, 1)), one, one)),
        ("a cell", lambda: gate.certify_region(network, sites, posing)),
    ):
        try:
            use()
        except kernel.MalformedError:
            continue
        except (AttributeError, TypeError):
            pass
        yield f"{what} that nobody proved is used"


def lines_above(kernel: ModuleType) -> Iterator[str]:
    """The line above a ReLU is above it at both ends and at 0, to the last bit."""
    rng = np.random.default_rng(5)
    bounds = import_module(f"{kernel.__name__}.gate._region_bounds")
    ledger = import_module(f"{kernel.__name__}._ledger").Ledger()
    low, high = (rng.random((2, 400)) + 0.1) * 10.0 ** rng.integers(-12, 13, (2, 400))
    line = bounds._lines_above(0, -low[None], high[None], ledger)
    for end, to, s, t in zip(low, high, line.chord[0], line.lift[0], strict=True):
        slope, lift = Fraction(s), Fraction(t)
        if min(lift - slope * Fraction(end), lift + (slope - 1) * Fraction(to), lift) < 0:
            yield f"the line {s!r} z + {t!r} is below relu(z) on {-end!r} .. {to!r}"


LAWS = (layouts, subnormal_eps, beyond_float32, forged_facts, lines_above)
