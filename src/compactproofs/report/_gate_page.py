"""The page of a gate: how much it admits, on what, what it refuses, and what is unexplained.

Plain data in, one self-contained file out; nothing here decides anything.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, final

import numpy as np
from jaxtyping import Float64

from ._bars import named_bars
from ._curves import Points, curves
from ._heat_map import grey_image
from ._page import Page
from ._svg import FAINT, document, text

_MOST_EXAMPLES: Final = 24
_MOST_ROWS: Final = 200


@final
@dataclass(frozen=True)
class Example:
    """One input and what the gate said of it."""

    number: int
    x: Float64[np.ndarray, " d"]
    answer: int
    """The model's."""
    label: int | None
    admitted: bool
    says: str
    """The verdict in one line."""


@final
@dataclass(frozen=True)
class SiteUse:
    """In how many cells a site is attended or free, and in how many its unit is dead."""

    name: str
    attended: int
    free: int
    dead: int


@final
@dataclass(frozen=True)
class StructureUse:
    """What cells do without, by kind of fact: of how many cells, and how many units in all."""

    kind: str
    cells: int
    units: int


@final
@dataclass(frozen=True)
class Rung:
    """The ledger after an explanation: what it costs to say, and what is left unexplained."""

    name: str
    bits: float
    surprise: float
    """Nats on data that were not used to find or accept it."""


@final
@dataclass(frozen=True)
class WarrantRow:
    """One obligation of one cell, or one record."""

    kind: str
    """SIGNED, PROVED or MEASURED."""
    about: str
    says: str
    entry: str


@final
@dataclass(frozen=True)
class GateView:
    """What a page shows of a gate."""

    name: str
    network_sha256: str
    head: str
    """The ledger's last entry: the page is about this state."""
    settings: Mapping[str, str]
    """alpha, tau, ... by name."""
    cut: str
    closed: str | None
    """Why the gate refuses everything, if it does."""
    cells: int
    records: int
    inputs: int
    """Of the file that the shares below are about."""
    admitted: int
    wrong: int | None
    """Admitted inputs whose answer is not their label, if there are labels."""
    by_alpha: Points
    """(alpha, share admitted): the same counts at other confidences."""
    by_data: Points
    """(data counted, share admitted): the same rules counted on the first so many."""
    ladder: tuple[Rung, ...]
    examples: tuple[Example, ...]
    sites: tuple[SiteUse, ...]
    surprises: tuple[tuple[str, float], ...]
    """What is most surprising and unexplained, and its nats."""
    warrants: tuple[WarrantRow, ...]
    notes: tuple[str, ...] = ()
    structure: tuple[StructureUse, ...] = ()


def gate_page(view: GateView) -> str:
    """The whole page as HTML; it loads nothing."""
    page = Page(f"{view.name}: what is admitted", f"network sha256 {view.network_sha256}")
    _overview(page, view)
    _coverage(page, view)
    _explanations(page, view)
    _examples(page, view)
    _sites(page, view)
    _structure(page, view)
    _warrants(page, view)
    return page.html()


def _overview(page: Page, view: GateView) -> None:
    page.section("Gate")
    if view.closed is not None:
        page.text(f"CLOSED: it refuses everything. {view.closed}")
    tiles = [(f"{view.cells:,}", "cells"), (f"{view.records:,}", "signed records")]
    if view.inputs:
        tiles.append((f"{view.admitted / view.inputs:.1%}", f"of {view.inputs:,} inputs admitted"))
        if view.wrong is not None:
            share = view.wrong / view.admitted if view.admitted else 0.0
            tiles.append((f"{share:.2%}", f"wrong among the admitted ({view.wrong})"))
    tiles += [(value, name) for name, value in view.settings.items()]
    page.tiles(tiles)
    page.text(
        f"The cut is {view.cut}: what is proved holds for every activation vector of a cell at the "
        "cut, wherever it came from. What happens before the cut, and that labels are right, rests "
        "on measurement: data like those that were counted."
    )
    for note in view.notes:
        page.text(note, faint=True)
    page.code(f"network sha256 {view.network_sha256}\nledger head    {view.head}")


def _coverage(page: Page, view: GateView) -> None:
    pictures = []
    if len(view.by_alpha) > 1:
        pictures.append(
            curves(
                "Coverage against alpha", {"admitted": view.by_alpha}, "alpha of all statements",
                "less doubt allowed, fewer admitted: never a new one", log_x=True,
                y_range=(0.0, 1.0),
            )
        )  # fmt: skip
    if len(view.by_data) > 1:
        pictures.append(
            curves(
                "Coverage against data", {"admitted": view.by_data}, "data counted",
                "the same rules, counted on the first n", y_range=(0.0, 1.0),
            )
        )  # fmt: skip
    if pictures:
        page.section("Coverage")
        page.figure(*pictures)


def _explanations(page: Page, view: GateView) -> None:
    if not view.ladder and not view.surprises:
        return
    page.section("Explanations")
    if view.ladder:
        page.text(
            "Each accepted rule costs bits to state and takes surprise away, on data that it was "
            "not found on. Their sum is the length of the explanation with all that it leaves open."
        )
        steps = range(len(view.ladder))
        page.figure(
            curves(
                "Ladder of explanations",
                {
                    "surprise left, nats": [(float(n), view.ladder[n].surprise) for n in steps],
                    "rules, nats": [
                        (float(n), view.ladder[n].bits * float(np.log(2))) for n in steps
                    ],
                },
                "explanations accepted",
            )
        )
        page.table(
            ["step", "explanation", "bits", "surprise left, nats"],
            [
                [n, rung.name, f"{rung.bits:.1f}", f"{rung.surprise:.1f}"]
                for n, rung in enumerate(view.ladder)
            ],
        )
    if view.surprises:
        page.heading("Largest surprise without an explanation")
        page.table(
            ["pattern", "nats"], [[name, f"{nats:.2f}"] for name, nats in view.surprises[:20]]
        )


def _examples(page: Page, view: GateView) -> None:
    if not view.examples:
        return
    page.section("Inputs")
    for title, admitted in (("Admitted", True), ("Refused", False)):
        chosen = [one for one in view.examples if one.admitted is admitted][:_MOST_EXAMPLES]
        if not chosen:
            continue
        page.heading(title)
        if len(chosen[0].x) == 64:
            page.figure(*(_digit(one) for one in chosen))
        page.table(
            ["input", "answer", "label", "verdict"],
            [
                [one.number, one.answer, "-" if one.label is None else one.label, one.says]
                for one in chosen
            ],
        )


def _digit(one: Example) -> str:
    label = "" if one.label is None else f", label {one.label}"
    said = f"answer {one.answer}{label}"
    return document(
        110,
        126,
        f"input {one.number}: {said}",
        [
            grey_image(15, 8, 80, 80, np.nan_to_num(one.x).reshape(8, 8)),
            text(55, 104, f"input {one.number}", size=11, anchor="middle"),
            text(55, 118, said, size=9, anchor="middle", fill=FAINT),
        ],
    )


def _sites(page: Page, view: GateView) -> None:
    if not view.sites:
        return
    page.section("Sites")
    page.text(
        "Of the cells that can admit. Attended: the cell excludes values that the site took in the "
        "data. Free: it holds them all, jointly with every other site that is free in it, and the "
        "property is proved on the whole cell. Dead: on the cell the unit's ReLU gives 0, so its "
        "value does not matter as long as it is there. No site of the cut is ignored."
    )
    page.figure(
        named_bars(
            "cells in which a site is attended",
            [site.name for site in view.sites[:64]],
            [float(site.attended) for site in view.sites[:64]],
        ),
        named_bars(
            "cells in which it is free",
            [site.name for site in view.sites[:64]],
            [float(site.free) for site in view.sites[:64]],
        ),
    )
    page.table(
        ["site", "attended", "free", "dead"],
        [[site.name, site.attended, site.free, site.dead] for site in view.sites],
    )


_SAYS: Final[Mapping[str, str]] = {
    "dead": "the unit's ReLU gives 0 on the whole cell",
    "stable": "the unit passes its number on",
    "duplicate": "a multiple of another unit stands in for it",
    "negligible": "the label is proved without what it sends on",
    "irrelevant": "any recorded value of the site does, one site at a time",
}


def _structure(page: Page, view: GateView) -> None:
    if not view.structure:
        return
    page.section("What cells do without")
    page.text(
        "Proved on single cells, and noted: these facts explain a cell, and admit nothing that its "
        "certificate does not."
    )
    page.table(
        ["fact", "says", "cells with a note", "units"],
        [[one.kind, _SAYS.get(one.kind, ""), one.cells, one.units] for one in view.structure],
    )


def _warrants(page: Page, view: GateView) -> None:
    page.section("Warrants")
    page.text(
        "What an admission rests on. SIGNED: a person looked at this activation vector. PROVED: a "
        "certificate that the kernel replayed. MEASURED: an exact bound on a probability from "
        "fresh data. A presumption ranks what to look at next, and admits nothing."
    )
    if not view.warrants:
        page.text("There is none, so nothing is admitted.")
        return
    kinds = [row.kind for row in view.warrants]
    page.tiles([(f"{kinds.count(kind):,}", kind) for kind in dict.fromkeys(kinds)])
    page.table(
        ["warrant", "of", "says", "entry"],
        [[row.kind, row.about, row.says, row.entry[:12]] for row in view.warrants[:_MOST_ROWS]],
    )
    left = len(view.warrants) - _MOST_ROWS
    if left > 0:
        page.text(f"{left:,} more are in the ledger.", faint=True)
