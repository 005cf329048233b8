"""The pictures of a crosscoder say their numbers."""

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from compactproofs.report import (
    Edge,
    Loss,
    Waterfall,
    dominant_share_figure,
    histogram,
    interaction_graph,
    named_bars,
    neuron_states,
    waterfall,
)

SVG = "{http://www.w3.org/2000/svg}"


def parsed(svg: str) -> ElementTree.Element:
    root = ElementTree.fromstring(svg)
    outside = [value for element in root.iter() for value in element.attrib.values()]
    assert not [value for value in outside if value.startswith(("http", "//", "file"))]
    return root


def words(root: ElementTree.Element) -> list[str]:
    return [element.text or "" for element in root.iter(f"{SVG}text")]


def hints(root: ElementTree.Element) -> dict[str, ElementTree.Element]:
    """Shapes by the text that shows on hovering."""
    return {
        title.text or "": shape
        for shape in root.iter()
        for title in shape.findall(f"{SVG}title")
        if shape is not root
    }


def number(shape: ElementTree.Element, name: str) -> float:
    return float(shape.attrib[name])


def test_bars_are_as_long_as_their_numbers_on_both_sides_of_zero() -> None:
    root = parsed(named_bars("a <title>", ["x & y", "z", "w"], [2.0, -1.0, 0.0], "note"))
    bars = hints(root)
    long, short, none = bars["x & y: 2"], bars["z: -1"], bars["w: 0"]
    assert number(long, "width") == pytest.approx(2 * number(short, "width"), abs=0.2)
    assert number(none, "width") == 0
    zero = number(long, "x")
    assert number(short, "x") + number(short, "width") == pytest.approx(zero, abs=0.2)
    assert long.attrib["fill"] != short.attrib["fill"]
    assert {"a <title>", "note", "x & y", "2", "-1"} <= set(words(root))
    parsed(named_bars("none", [], []))
    parsed(named_bars("zeros", ["a"], [0.0]))


def test_a_histogram_is_as_tall_as_its_counts() -> None:
    root = parsed(histogram("t", np.array([1, 4, 0]), np.array([0.0, 1, 2, 3]), "code"))
    bars = hints(root)
    one, four, none = bars["0 to 1: 1"], bars["1 to 2: 4"], bars["2 to 3: 0"]
    assert number(four, "height") == pytest.approx(4 * number(one, "height"), abs=0.3)
    assert number(none, "height") == 0 and "4" in words(root) and "3" in words(root)
    parsed(histogram("empty", np.zeros(3, int), np.arange(4.0), "code"))


@pytest.mark.parametrize("start, begins", [(0.999, "the axis begins at 80%"), (0.5, "")])
def test_a_waterfall_steps_down_from_the_claim_to_the_proof(start: float, begins: str) -> None:
    losses = (Loss("interaction", 0.06, "slack"), Loss("radius", 0.03), Loss("shared", -0.01))
    data = Waterfall(start, losses, start - 0.08)
    root = parsed(waterfall(data))
    bars = {name.split(":")[0]: shape for name, shape in hints(root).items()}
    assert list(bars) == ["claimed", "interaction", "radius", "shared", "proved"]
    wide = {name: number(shape, "width") for name, shape in bars.items()}
    right = {name: number(shape, "x") + wide[name] for name, shape in bars.items()}
    assert wide["interaction"] == pytest.approx(2 * wide["radius"], abs=0.3)
    assert wide["radius"] == pytest.approx(3 * wide["shared"], abs=0.4)
    assert right["interaction"] == pytest.approx(right["claimed"], abs=0.2)
    assert right["radius"] == pytest.approx(number(bars["interaction"], "x"), abs=0.2)
    assert number(bars["shared"], "x") == pytest.approx(number(bars["radius"], "x"), abs=0.2)
    assert right["proved"] == pytest.approx(right["shared"], abs=0.2)
    assert begins in words(root) and "-6 %" in words(root) and "+1 %" in words(root)


def test_a_proved_share_is_not_rounded_up() -> None:
    data = Waterfall(1.0, (Loss("lost", 0.000004),), 0.999996)
    assert "99.999 %" in words(parsed(waterfall(data)))
    assert "33 %" in words(parsed(waterfall(Waterfall(1.0, (Loss("lost", 0.67),), 1 - 0.67))))


def test_losses_that_do_not_add_up_are_refused() -> None:
    for end in (0.8, float("nan")):
        with pytest.raises(ValueError, match="the losses must add up"):
            Waterfall(1.0, (Loss("interaction", 0.1),), end)


def test_neurons_by_what_is_proved_of_their_codes() -> None:
    tally = np.array([[6, 0, 2], [0, 0, 1], [0, 4, 0], [0, 2, 0], [0, 0, 3]])
    root = parsed(neuron_states(tally, "title", (("stable_on", 1), ("interacting", 2))))
    shapes = hints(root)
    assert set(shapes) == {
        "neuron 0: on for 6 codes (100.00%)",
        "neuron 1: alone for 4 codes (66.67%)",
        "neuron 1: dominated for 2 codes (33.33%)",
        "neuron 2: on for 2 codes (33.33%)",
        "neuron 2: off for 1 codes (16.67%)",
        "neuron 2: interacting for 3 codes (50.00%)",
    }
    tall = number(shapes["neuron 0: on for 6 codes (100.00%)"], "height")
    half = number(shapes["neuron 2: interacting for 3 codes (50.00%)"], "height")
    assert half == pytest.approx(tall / 2, abs=0.1)
    places = [
        number(next(s for hint, s in shapes.items() if hint.startswith(f"neuron {n}:")), "x")
        for n in range(3)
    ]
    assert places == sorted(places)  # the least interacting first
    assert "on 44.4%" in words(root) and "interacting 16.7%" in words(root)
    assert "neurons by status: stable on 1, interacting 2" in words(root)


def test_the_share_of_the_strongest_feature() -> None:
    root = parsed(dominant_share_figure(np.array([0.5, np.nan, 1.0]), 0.75, "title"))
    shapes = hints(root)
    assert list(shapes) == ["100.00%", "50.00%"] and "mean 75.0%" in words(root)
    assert number(shapes["100.00%"], "height") == 2 * number(shapes["50.00%"], "height")
    nothing = parsed(dominant_share_figure(np.array([np.nan]), float("nan"), "title"))
    assert not hints(nothing)


def test_a_graph_has_a_chord_for_each_pair_and_a_colour_for_each_group() -> None:
    groups = np.array([0, 0, 1, -1])
    root = parsed(interaction_graph([Edge(0, 1, 4.0), Edge(1, 3, 1.0)], groups, "t", "n"))
    shapes = hints(root)
    strong, weak = shapes["features 0 and 1: 4"], shapes["features 1 and 3: 1"]
    assert number(strong, "stroke-width") > number(weak, "stroke-width")
    fill = {
        hint.split()[1].strip(",:"): shape.attrib["fill"]
        for hint, shape in shapes.items()
        if hint.startswith("feature ")
    }
    assert set(fill) == {"0", "1", "3"} and fill["0"] == fill["1"] != fill["3"]
    assert strong.attrib["stroke"] == fill["0"] != weak.attrib["stroke"]
    assert shapes["feature 1, group 0: 5 in all"].tag == f"{SVG}circle"
    parsed(interaction_graph([], groups, "none"))
