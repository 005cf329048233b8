"""The laws of admission: G0, G1, and that nothing is admitted without all of its warrants.

``drawn_ledgers`` works out a second time what a ledger admits.
"""

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np

from .drawn_ledgers import Draft, drawn, network_of, probes, sites_of, weakened, world
from .laws_of_gate_tampering import tampered
from .written_ledgers import Written, replayed_once

LEDGERS = 25


def nothing_new(kernel: ModuleType, ledgers: int = LEDGERS) -> Iterator[str]:
    """G1: what knows less admits nothing that the consistent ledger does not.

    ledgers: how many know less, five of them less than the same one.
    """
    rng, (h, outputs) = np.random.default_rng(11), probes()
    with replayed_once(kernel):
        for number in range(ledgers // 5):
            draft = drawn(rng)
            larger = Written(kernel, draft).admission()
            if larger.closed is not None:
                yield f"ledger {number} is closed: {larger.closed}"
                continue
            admitted = larger.admitted(h, outputs)
            for _ in range(5):
                smaller = Written(kernel, weakened(rng, draft)).admission()
                new = int((smaller.admitted(h, outputs) & ~admitted).sum())
                if new:
                    yield f"ledger {number}: with less knowledge {new} more inputs are admitted"


def exactly_the_warranted(kernel: ModuleType, ledgers: int = LEDGERS) -> Iterator[str]:
    """Admitted are the inputs that a record or a cell with all obligations admits, and no other."""
    rng, (h, outputs) = np.random.default_rng(12), probes()
    h = np.concatenate([h, world().h, world().h])
    # The last ones are not what the network gives there: condition 5 has to see it.
    outputs = np.concatenate([outputs, world().outputs, world().outputs[:, ::-1]])
    with replayed_once(kernel):
        for number in range(ledgers):
            draft = drawn(rng)
            written = Written(kernel, draft)
            admission = written.admission()
            if admission.closed is not None:
                yield f"ledger {number} is closed: {admission.closed}"
                continue
            wanted, edge = _wanted(written, h, outputs)
            found = admission.admitted(h, outputs)
            if (found != wanted)[~edge].any():
                yield f"ledger {number} admits {found.sum()} inputs, not {wanted.sum()}"
            verdicts = admission.admit(h[::7], outputs[::7])
            if [bool(verdict) for verdict in verdicts] != found[::7].tolist():
                yield f"ledger {number}: verdicts and admissions differ"


def just_too_improbable(kernel: ModuleType, ledgers: int = 5) -> Iterator[str]:
    """A cell has its mass if tau is its lower probability, and no longer if tau is above it."""
    rng = np.random.default_rng(13)
    conditions: Any = import_module(f"{kernel.__name__}.gate._conditions")
    with replayed_once(kernel):
        for number in range(ledgers):
            draft = drawn(rng)
            admission = Written(kernel, draft).admission()
            if admission.closed is not None:
                yield f"ledger {number} is closed: {admission.closed}"
                continue
            known = conditions.Conditions(admission.opened, admission.obligations)
            largest = max(map(known.lower_mass, admission.obligations.cells), default=Fraction(0))
            for tau, fits in ((largest, True), (largest * Fraction(9, 8), False)):
                if 0 < tau <= 1:
                    cells = Written(kernel, replace(draft, tau=tau)).admission().standing.values()
                    lacking = ["(3)" in " ".join(one.reasons) for one in cells]
                    if all(lacking) == fits:
                        yield f"ledger {number}: tau = {float(tau)} against {float(largest)}"


def _wanted(written: Written, h: np.ndarray, outputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which inputs have all warrants, and which are at an edge, where refusing is allowed."""
    draft, w = written.draft, written.world
    answer, admitted = outputs.argmax(axis=1), np.zeros(len(h), dtype=bool)
    edge = np.zeros(len(h), dtype=bool)
    for kind, *rest in draft.steps:
        if kind == "record":
            for row in rest[0]:
                admitted |= (h == w.h[row]).all(axis=1) & (answer == w.labels[row])
    for name, box in w.boxes.items():
        if ("region", name) in draft.steps and _standing(written, name):
            admitted |= box.holds(h, draft.eps) & (answer == box.label)
            if draft.eps:
                near = [np.abs(h - end) - draft.eps for end in (box.low, box.high)]
                edge |= (np.abs(near) < 1e-9).any(axis=(0, 2))
    return admitted, edge


def _standing(written: Written, name: str) -> bool:
    """Conditions 3 and 4, from the intervals alone."""
    draft = written.draft
    mass = Fraction(1)
    for number, part in enumerate(written.world.parts[name]):
        given = written.world.parts[name][:number]
        mass *= max((low for low, _ in _intervals(written, given, (part,))), default=Fraction(0))
    risk = min((high for _, high in _intervals(written, (name,), ("bad",))), default=Fraction(1))
    held = False
    if "family" in written.frozen and draft.delta is not None:
        chosen = written.calibrated("family")[1]
        held = any(name in group for group in written.frozen["family"][0][:chosen])
    return mass >= draft.tau and (held or (draft.rho is not None and risk <= draft.rho))


def _intervals(
    written: Written, given: tuple[str, ...], then: tuple[str, ...]
) -> list[tuple[Fraction, Fraction]]:
    ids = [written.ids[key] for key, rule in written.frozen.items() if rule[:2] == (given, then)]
    counts = [line.entry for line in written.lines if type(line.entry).__name__ == "CountEntry"]
    return [(entry.low, entry.high) for entry in counts if entry.rule in ids]


def ends_of_the_scale(kernel: ModuleType) -> Iterator[str]:
    """G0: an empty ledger admits nothing, records alone exactly what was recorded."""
    h, outputs = probes()
    nothing = Draft(Fraction(1, 2), Fraction(1, 10**5), None, None, 0.0, ())
    if Written(kernel, nothing).admission().admitted(h, outputs).any():
        yield "an empty ledger admits something"
    w = world()
    everything = np.concatenate([w.h, h])
    answers = np.concatenate([w.outputs, outputs])
    written = Written(kernel, replace(nothing, steps=(("record", tuple(range(60))),)))
    wanted = [
        bool((row == w.h[:60]).all(axis=1)[w.labels[:60] == answer.argmax()].any())
        for row, answer in zip(everything, answers, strict=True)
    ]
    if written.admission().admitted(everything, answers).tolist() != wanted:
        yield "records admit something else than what was recorded"


def odd_numbers(kernel: ModuleType) -> Iterator[str]:
    """-0.0 is 0.0, a denormal is itself; NaN, infinity and ties admit nothing."""
    gate: Any = import_module(f"{kernel.__name__}.gate")
    network, sites = network_of(gate, world()), sites_of(gate)
    prints = [
        gate.fingerprints(network.sha256, sites.sha256, np.array([[value, 1.0, 2.0]]))[0]
        for value in (0.0, -0.0, 5e-324, -5e-324, np.nan, np.inf)
    ]
    if prints[0] != prints[1] or len(set(prints[1:4])) != 3 or prints[4:] != [b"", b""]:
        yield "fingerprints of odd numbers are odd"
    others = [
        gate.fingerprints(model, places, np.array([[0.0, 1.0, 2.0]]))[0]
        for model, places in (("a", "b"), ("b", "a"), ("a", "c"), ("c", "b"))
    ]
    if len(set(others)) != 4:
        yield "two models or lists of sites share a fingerprint"
    small = Fraction(1, 20)
    steps = (
        *(("cell", "box1"), ("region", "box1"), ("rule", "mass", (), ("box1",), small, 80)),
        *(("family", "family", (("box1",),), small, 80), ("data", 0), ("data", 1)),
        *(("count", "mass"), ("calibrate", "family")),
    )
    draft = Draft(Fraction(1, 2), Fraction(1, 10**5), None, Fraction(1, 4), 0.0, steps)
    box = world().boxes["box1"]
    with replayed_once(kernel):
        admission = Written(kernel, draft).admission()
        point = (box.low + box.high)[None] / 2
        good = np.eye(3)[[box.label]]
        if not admission.admitted(point, good).all():
            yield "the middle of a cell with all warrants is refused"
        for value in (np.nan, np.inf, -np.inf):
            odd = np.where(np.arange(3) == 1, value, point)
            if admission.admitted(odd, good).any() or not admission.admit(odd, good)[0].reasons:
                yield f"{value} among the activations is admitted, or without a word"
            wrong = np.where(np.arange(3) == (box.label + 1) % 3, value, good)
            if admission.admitted(point, wrong).any():
                yield f"{value} among the outputs is admitted"
        for outputs in (np.ones((1, 3)), np.maximum(good, np.eye(3)[[2]]), 1 - good, None):
            if admission.admitted(point, outputs).any():
                yield "an input is admitted without an answer, or with another one"


def only_warrants(kernel: ModuleType) -> Iterator[str]:
    """No verdict rests on a presumption, on a part of its warrants, or on none."""
    gate: Any = import_module(f"{kernel.__name__}.gate")
    proof = gate.Proven(("entry",), "cell", 1.0, 0.1, "model")
    share = gate.Measured(("entry",), "share", Fraction(1, 2), Fraction(1, 3))
    guess, signed = gate.Presumed("share", 0.5, "independence"), gate.Signed(("entry",), "who", 1)
    whole = {"certificate": proof, "mass": share, "risk": share}
    if not gate.Verdict("cell", whole, ()) or not gate.Verdict(None, {"record": signed}, ()):
        yield "an input with all warrants is not admitted"
    for cell, warrants, reasons in (
        ("cell", whole | {"mass": guess}, ()),
        ("cell", whole | {"risk": guess}, ()),
        ("cell", whole | {"certificate": guess}, ()),
        ("cell", whole | {"certificate": signed}, ()),
        ("cell", {"certificate": proof, "mass": share}, ()),
        (None, {"record": guess}, ()),
        (None, {"record": proof}, ()),
        (None, whole, ()),
        ("cell", whole, ("but",)),
        ("cell", {}, ("no",)),
        (None, {}, ()),
    ):
        try:
            verdict = gate.Verdict(cell, warrants, reasons)
        except kernel.KernelDefectError:
            continue
        yield f"a verdict on {sorted(warrants)} of {cell}: {verdict.admitted}"


LAWS = (
    only_warrants,
    nothing_new,
    exactly_the_warranted,
    just_too_improbable,
    ends_of_the_scale,
    odd_numbers,
    tampered,
)


def of_admission(kernel: ModuleType) -> Iterator[str]:
    """Every law of ledgers and admission, the quickest first."""
    yield from only_warrants(kernel)
    yield from ends_of_the_scale(kernel)
    yield from odd_numbers(kernel)
    yield from tampered(kernel)
    yield from just_too_improbable(kernel)
    yield from exactly_the_warranted(kernel)
    yield from nothing_new(kernel)


FILES = "admission chain conditions evidence fingerprints obligations verdict".split()
WEAK_SPOTS = {f"gate/_{name}.py": of_admission for name in FILES}
