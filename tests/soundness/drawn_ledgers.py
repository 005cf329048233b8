"""Ledgers drawn at random, before they are written: see ``written_ledgers``.

The world: a network 2-3-3 cut at its first pre-activations, boxes with certificates, two events
whose intersection is one more, and batches of labelled data.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from compactproofs.kernel import RejectedError
from compactproofs.kernel import gate as our_gate

OPEN = float(np.finfo(np.float64).max)
BATCH = 40
EIGHTH = 0.125


class Box(NamedTuple):
    """A cell that is a box alone."""

    low: np.ndarray
    high: np.ndarray
    label: int

    def holds(self, h: np.ndarray, eps: float = 0.0) -> np.ndarray:
        """Exactly: the numbers are multiples of 2^-10 and small."""
        return np.asarray(((h - eps >= self.low) & (h + eps <= self.high)).all(axis=1))


class World(NamedTuple):
    """What all drawn ledgers are about."""

    weights: tuple[tuple[np.ndarray, np.ndarray], ...]
    boxes: Mapping[str, Box]
    parts: Mapping[str, tuple[str, ...]]
    h: np.ndarray
    outputs: np.ndarray
    labels: np.ndarray
    """Of the data; the first batch is data 0 to BATCH - 1, and so on."""

    def batch(self, number: int) -> slice:
        return slice(number * BATCH, (number + 1) * BATCH)


def network_of(gate: Any, world: World, factor: float = 1.0) -> Any:
    first, second = world.weights
    return gate.ReluNetwork(
        (gate.ReluLayer(*first, False), gate.ReluLayer(second[0] * factor, second[1], True))
    )


def sites_of(gate: Any, name: str = "pre1") -> Any:
    return gate.Sites((gate.SiteGroup(name, "pre", 3),), name, 1)


def cell_of(gate: Any, box: Box) -> Any:
    nothing = np.zeros(0)
    pattern = np.zeros(0, dtype=np.int8)
    return gate.Cell(box.low, box.high, np.zeros((0, 3)), nothing, nothing, pattern, box.label)


@cache
def world() -> World:
    rng = np.random.default_rng(2024)
    weights = (
        (np.eye(2, 3) + EIGHTH, np.zeros(3)),
        (np.round(2 * rng.normal(size=(3, 3)), 2), np.array([0.25, 0.0, -0.25])),
    )
    found: dict[str, Box] = {}
    nothing = np.zeros((0, 3))
    draft = World(weights, {}, {}, nothing, nothing, np.zeros(0, dtype=np.int64))
    network, sites = network_of(our_gate, draft), sites_of(our_gate)
    while len(found) < 8:
        centre = np.round(rng.normal(size=3) * 8) / 4
        z = np.maximum(centre, 0) @ weights[1][0] + weights[1][1]
        box = Box(centre - 0.5, centre + 0.5, int(z.argmax()))
        try:
            our_gate.certify_region(network, sites, cell_of(our_gate, box))
        except RejectedError:
            continue
        found[f"box{len(found)}"] = box
    whole, label = found["box0"], found["box0"].label
    left = Box(np.array([whole.low[0], -OPEN, -OPEN]), np.array([whole.high[0], OPEN, OPEN]), 2)
    right = Box(np.array([-OPEN, *whole.low[1:]]), np.array([OPEN, *whole.high[1:]]), 1)
    found |= {"left": left, "right": right, "both": Box(whole.low, whole.high, label)}
    parts = {name: (name,) for name in found} | {"both": ("left", "right")}
    del found["box0"], parts["box0"]
    boxes = [box for name, box in found.items() if name not in ("left", "right")]
    rows = []
    for number in rng.choice(len(boxes), 8 * BATCH, p=_shares(len(boxes))):
        # The last two batches are all of one box: drift.
        box = boxes[-1] if len(rows) >= 6 * BATCH else boxes[number]
        rows.append((box.low + box.high) / 2 + np.round(rng.uniform(-600, 600, 3)) / 1024)
    h = np.array(rows)
    outputs = np.maximum(h, 0) @ weights[1][0] + weights[1][1]
    labels = np.where(rng.random(len(h)) < 0.03, rng.integers(0, 3, len(h)), outputs.argmax(axis=1))
    return World(weights, found, parts, h, outputs, labels)


def _shares(count: int) -> np.ndarray:
    weights = np.array([4.0] + [2.0 ** (-0.5 * number) for number in range(count - 1)][::-1])
    return weights / weights.sum()


@dataclass(frozen=True)
class Draft:
    """A ledger before it is written: settings, and steps that name what they are about."""

    alpha: Fraction
    tau: Fraction
    rho: Fraction | None
    delta: Fraction | None
    eps: float
    steps: tuple[tuple[Any, ...], ...]

    def without(self, dropped: Iterable[int]) -> "Draft":
        """Less some steps; what depends on them is written in vain and must fall with them."""
        gone = set(dropped)
        kept = tuple(step for number, step in enumerate(self.steps) if number not in gone)
        return replace(self, steps=kept)


def drawn(rng: np.random.Generator) -> Draft:
    """Cells, some with certificates, rules of all kinds, batches between them, maybe a family."""
    w = world()
    names = [str(name) for name in rng.permutation([n for n in w.boxes if n != "both"])]
    names = ["left", "right", "both", *[n for n in names if n.startswith("box")][:3]]
    steps: list[tuple[Any, ...]] = []
    if rng.random() < 0.6:
        steps.append(("record", tuple(rng.integers(0, 8 * BATCH, 3).tolist())))
    steps += [("cell", name) for name in names]
    regions = [n for n in names if n not in ("left", "right") and rng.random() < 0.85]
    steps += [("region", name) for name in regions]
    rules: list[tuple[str, bool]] = []

    def rule(given: tuple[str, ...], then: tuple[str, ...]) -> None:
        once = bool(rng.random() < 0.5)
        key = f"rule{len(rules)}"
        steps.append(("rule", key, given, then, _alpha(rng), 2 * BATCH if once else None))
        rules.append((key, once))

    for name in names:
        if name.startswith("box") and rng.random() < 0.9:
            rule((), (name,))
            if rng.random() < 0.6:
                rule((name,), ("bad",))
    if rng.random() < 0.8:
        rule((), ("left",))
        rule(("left",), ("right",))
        if rng.random() < 0.6:
            rule(("both",), ("bad",))
    family = rng.random() < 0.6
    if family:
        order = [n for n in names if n not in ("left", "right")]
        groups = tuple((str(n),) for n in rng.permutation(order))
        steps.append(("family", "family", groups, _alpha(rng), 2 * BATCH))
    steps += [("data", 0), ("data", 1)]
    steps += [("count", key) for key, _ in rules if rng.random() < 0.95]
    if family:
        steps.append(("calibrate", "family"))
    if rng.random() < 0.5:
        steps.append(("data", 2))
        steps += [("count", key) for key, once in rules if not once and rng.random() < 0.7]
    return Draft(
        Fraction(1, 2),
        Fraction(1, int(rng.choice([10**5, 60, 12]))),
        None if rng.random() < 0.25 else Fraction(int(rng.choice([30, 50, 80])), 100),
        None if rng.random() < 0.4 else Fraction(int(rng.choice([8, 15, 25])), 100),
        float(rng.choice([0.0, EIGHTH / 4])),
        tuple(steps),
    )


def _alpha(rng: np.random.Generator) -> Fraction:
    return Fraction(1, int(rng.choice([40, 100, 1000])))


def weakened(rng: np.random.Generator, draft: Draft) -> Draft:
    """A draft that knows less: fewer entries, wider intervals, less alpha, more eps, less risk."""
    steps = list(draft.steps)
    ways = rng.choice(["drop", "retract", "widen", "alpha", "eps", "ask"], 2, replace=False)
    for way in ways:
        if way == "drop":
            for number in sorted(rng.choice(len(steps), 2, replace=False), reverse=True):
                if steps[number][0] not in ("data", "count"):
                    del steps[number]
        if way == "retract":
            named = ["left", "box1", "region box2", "rule0", "count rule1", "data 1", "family"]
            steps.append(("retract", str(rng.choice(named))))
        for number, step in enumerate(steps):
            if way == "widen" and step[0] == "count" and rng.random() < 0.5:
                share = Fraction(int(rng.integers(0, 5)), 4)
                steps[number] = (*step[:2], (min(share, Fraction(1)), share / 8))
            if way == "widen" and step[0] == "calibrate":
                steps[number] = (*step[:2], int(rng.integers(0, 3)))
            if way == "alpha" and step[0] in ("rule", "family"):
                at = 4 if step[0] == "rule" else 3
                steps[number] = (*step[:at], step[at] / int(rng.choice([1, 10])), *step[at + 1 :])
    draft = replace(draft, steps=tuple(steps))
    if "eps" in ways:
        draft = replace(draft, eps=draft.eps + float(rng.choice([EIGHTH / 8, EIGHTH])))
    if "ask" in ways:
        draft = replace(
            draft,
            tau=draft.tau * int(rng.choice([1, 10])),
            rho=None if draft.rho is None else draft.rho * Fraction(2, 3),
            delta=None if draft.delta is None else draft.delta * Fraction(2, 3),
        )
    return draft


@cache
def probes() -> tuple[np.ndarray, np.ndarray]:
    """Points in, at the edge of and between the boxes, with the outputs of the network."""
    w, rng = world(), np.random.default_rng(5)
    points = [w.h[:200]]
    for name, box in w.boxes.items():
        if name not in ("left", "right"):
            centre = (box.low + box.high) / 2
            edge = np.array([0.0, 0.5, 0.5 - EIGHTH / 4, 0.5 - EIGHTH, 0.51, -0.5])
            points.append(centre + edge[:, None] * np.ones(3))
    points.append(np.round(rng.normal(size=(60, 3)) * 1024) / 512)
    h = np.concatenate(points)
    return h, np.maximum(h, 0) @ w.weights[1][0] + w.weights[1][1]
