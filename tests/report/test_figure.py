"""The picture says what the proof says, and is well-formed SVG without outside references."""

import xml.etree.ElementTree as ElementTree
from fractions import Fraction

from compactproofs.kernel import ClassCount
from compactproofs.report import Bar, proof_figure

CLASSES = [ClassCount(0, 0, 1, 1), ClassCount(0, 1, 3, 0), ClassCount(1, 1, 4, 3)]
SVG = "{http://www.w3.org/2000/svg}"


def figure(bars: list[Bar], truth: Fraction | None) -> ElementTree.Element:
    return ElementTree.fromstring(proof_figure("a <title> & more", bars, truth, CLASSES))


def test_a_well_formed_picture_with_the_numbers_rounded_down() -> None:
    bars = [Bar("additive", Fraction(999_999_999, 10**9), 1 << 20), Bar("other", Fraction(0), 8)]
    root = figure(bars, Fraction(1))
    words = [element.text or "" for element in root.iter(f"{SVG}text")]
    assert "additive: 0.999999" in words and "other: 0.000000" in words
    assert "2^20.0" in words and "2^3.0" in words and "true accuracy" in words
    assert not [a for element in root.iter() for a in element.attrib if "href" in a]


def test_classes_that_fail_carry_their_share() -> None:
    hints = [
        element.text for element in figure([Bar("a", Fraction(1, 2), 9)], None).iter(f"{SVG}title")
    ]
    assert "query 0, label 1: 100.0000% of 3" in hints
    assert "query 1, label 1: 25.0000% of 4" in hints
    assert len(hints) == 3  # the picture's own title, and the two classes that fail


def test_a_larger_bound_has_a_longer_bar() -> None:
    bars = [Bar("low", Fraction(9, 10), 10), Bar("high", Fraction(99, 100), 10)]
    root = figure(bars, None)
    low, high = (
        next(float(r.attrib["width"]) for r in root.iter(f"{SVG}rect") if r.attrib["fill"] == hue)
        for hue in ("#3b6fb6", "#c77c11")
    )
    assert abs(high - 2 * low) < 0.2
