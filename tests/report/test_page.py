"""The page is one file that loads nothing and shows text as text; the figures are what they say."""

import re

import numpy as np
import pytest

from compactproofs.report import (
    Page,
    dimension_figure,
    faithfulness_figure,
    frontier_figure,
    heat_map,
    interactive_frontier,
)
from compactproofs.report._plots import plotly_script


def frontier(seed: int) -> dict[str, object]:
    rng = np.random.default_rng(seed)
    families = ["cubic", "subcubic", "windowed", "brute force", "attention-vd²"]
    points = [
        {
            "name": f"strategy {n} <&>",
            "family": families[n % 5],
            "bound": float(b := rng.random()),
            "normalised": b,
            "flops": int(10 ** rng.uniform(4, 10)),
            "unexplained_dimension": int(10 ** rng.uniform(3, 6)),
            "seconds_search": 0.1,
            "seconds_verify": 0.1,
        }
        for n in range(20)
    ]
    return {
        "model": f"model {seed}",
        "model_sha256": "0" * 64,
        "task": "max:k=4,v=64",
        "accuracy": {"kind": "exact", "value": 1.0},
        "trivial": {"bound": 0.06, "flops": 0},
        "qk_singular_values": [float(100 + seed), 2.0],
        "points": points,
        "pareto": ["strategy 0 <&>", "strategy 1 <&>"],
    }


def loads(html: str) -> list[str]:
    """What a browser would fetch: sources and links, but for data and places on the page."""
    found = re.findall(r"<(?:script|img|link|iframe|image)[^>]*(?:src|href)=\"([^\"]*)\"", html)
    return [url for url in found if not url.startswith(("data:", "#"))]


def test_a_page_loads_nothing_and_escapes_text() -> None:
    page = Page("A <title>", "& more")
    page.section("One & two")
    page.text("5 < 6 & 7 > 2")
    page.tiles([("0.99", "a <bound>")])
    page.table(["name", "n"], [["<script>alert(1)</script>", "1,000"], ["b", "-"]], marked=[1])
    page.code("a < b")
    page.figure(heat_map(np.eye(3), "identity", "rows", "columns"))
    page.interactive(interactive_frontier(frontier(0)), plotly_script())
    html = page.html()
    assert loads(html) == []
    assert "<script>alert" not in html and "&lt;script&gt;alert(1)" in html
    assert html.count("<!doctype html>") == 1 and html.count("One &amp; two") == 2
    assert "class=n" in html and "class=mark" in html
    assert html.count("plotly.js v") <= 2  # the script is there once


@pytest.mark.parametrize("figure", [frontier_figure, dimension_figure, faithfulness_figure])
def test_figures_of_one_model_and_of_several(figure) -> None:  # type: ignore[no-untyped-def]
    for found in (frontier(0), [frontier(0)], [frontier(n) for n in range(4)]):
        svg = figure(found).svg()
        assert svg.startswith("<?xml") and "</svg>" in svg and "windowed" in svg
        assert svg == figure(found).svg()  # the same picture for the same data
    assert figure(frontier(1)).png(40).startswith(b"\x89PNG")


def test_a_heat_map_centres_its_colours_at_zero() -> None:
    svg = heat_map(np.array([[-2.0, 0.0, 1.0]]), "t", "r", "c", "note")
    assert "data:image/png;base64," in svg and ">2<" in svg and ">-2<" in svg and "note" in svg
    assert heat_map(np.zeros((2, 2)), "zeros", "r", "c")
