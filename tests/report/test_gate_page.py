"""The page of a gate: everything is on it, nothing is loaded, nothing is executed."""

import re
from dataclasses import replace

import numpy as np
import pytest

from compactproofs.report import (
    Example,
    GateView,
    Rung,
    SiteUse,
    StructureUse,
    WarrantRow,
    curves,
    gate_page,
)

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def view() -> GateView:
    rng = np.random.default_rng(0)
    return GateView(
        name=f"digits {HOSTILE}",
        network_sha256="a" * 64,
        head="b" * 64,
        settings={"alpha": "1/1000", "tau": "1/100000"},
        cut="pre1",
        closed=None,
        cells=3,
        records=2,
        inputs=40,
        admitted=30,
        wrong=1,
        by_alpha=((1e-12, 0.5), (1e-3, 0.6), (0.05, 0.75)),
        by_data=((100.0, 0.1), (450.0, 0.75)),
        ladder=(Rung("nothing", 0.0, 900.0), Rung(f"joint {HOSTILE}", 12.0, 700.0)),
        examples=tuple(
            Example(n, rng.random(64), n % 10, None if n == 5 else 3, n % 2 == 0, f"says {HOSTILE}")
            for n in range(6)
        ),
        sites=(SiteUse("pre1[0]", 3, 0, 0), SiteUse("pre1[1]", 1, 1, 1)),
        surprises=((f"pre1[4] > 1 {HOSTILE}", 17.25),),
        warrants=tuple(
            WarrantRow(kind, "cell", f"says {n} {HOSTILE}", "c" * 64)
            for n, kind in enumerate(["PROVED", "MEASURED", "MEASURED"] * 80)
        ),
        notes=("a note",),
        structure=(StructureUse("dead", 3, 17), StructureUse(f"odd {HOSTILE}", 1, 23)),
    )


def test_everything_is_on_the_page_and_nothing_is_loaded(view: GateView) -> None:
    page = gate_page(view)
    for text in (
        "75.0%", "of 40 inputs admitted", "3.33%", "wrong among the admitted (1)", "1/100000",
        "Coverage against alpha", "Coverage against data", "Ladder of explanations", "700.0",
        "pre1[1]", "17.25", "input 4", "answer 4, label 3", "a note", "40 more are in the ledger",
        "b" * 64, "What cells do without", "ReLU gives 0 on the whole cell",
    ):  # fmt: skip
        assert text in page, text
    assert page.count("data:image/png") == 6
    assert HOSTILE not in page and "&lt;script&gt;alert(1)" in page
    assert not re.findall(r"""(?:src|href)=["'](?!#|data:)""", page)
    assert not re.search(r"@import|url\(", page)
    assert page.count("<script>") == 1  # of the page itself: it sorts tables


def test_an_empty_or_closed_gate_says_so(view: GateView) -> None:
    empty = replace(
        view, closed="the ledger is of another network", cells=0, records=0, inputs=0, admitted=0,
        wrong=None, by_alpha=(), by_data=(), ladder=(), examples=(), sites=(), surprises=(),
        warrants=(), structure=(),
    )  # fmt: skip
    page = gate_page(empty)
    assert "CLOSED: it refuses everything. the ledger is of another network" in page
    assert "There is none, so nothing is admitted" in page
    for section in ("Coverage", "Explanations", "Inputs", "Sites", "What cells do without"):
        assert f"<h2>{section}</h2>" not in page


def test_inputs_that_are_no_pictures_are_not_drawn(view: GateView) -> None:
    other = replace(view, examples=(Example(0, np.array([np.nan, 1.0]), 1, 1, True, "yes"),))
    assert "data:image/png" not in gate_page(other)
    hostile = np.full(64, np.nan)
    assert "data:image/png" in gate_page(
        replace(view, examples=(Example(0, hostile, 1, 1, True, "yes"),))
    )


def test_a_curve_puts_points_where_they_are() -> None:
    drawn = curves("t", {"a": [(1e-6, 0.0), (1e-2, 1.0)]}, "alpha", log_x=True, y_range=(0.0, 1.0))
    (points,) = re.findall(r'points="([^"]+)"', drawn)
    (left, low), (right, high) = (map(float, point.split(",")) for point in points.split())
    assert left < right and low > high
    middle = curves("t", {"a": [(1e-6, 0.0), (1e-4, 0.5), (1e-2, 1.0)]}, "alpha", log_x=True)
    (points,) = re.findall(r'points="([^"]+)"', middle)
    xs = [float(point.split(",")[0]) for point in points.split()]
    assert xs[1] == pytest.approx((xs[0] + xs[2]) / 2)
    assert "polyline" in curves("t", {"a": [(1.0, 1.0)]}, "n") and curves("t", {}, "n")
