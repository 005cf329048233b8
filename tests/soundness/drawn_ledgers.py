"""Ledgers drawn at random, written with any copy of the kernel, and what they must admit.

The world: a network 2-3-3 cut at its first pre-activations, ten boxes with certificates, two
events whose intersection is one more, and batches of labelled data. What a ledger admits is worked
out here a second time, from boxes and counts alone.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from safetensors.numpy import save

from compactproofs.kernel import RejectedError
from compactproofs.kernel import gate as our_gate
from compactproofs.kernel.gate._confidence_sequences import confidence_sequence_over
from compactproofs.kernel.gate._proportions import clopper_pearson, upper_risk

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
        return ((h - eps >= self.low) & (h + eps <= self.high)).all(axis=1)


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
    draft = World(weights, {}, {}, *(np.zeros((0, 3)),) * 2, np.zeros(0, dtype=np.int64))
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


class Written:
    """A draft as lines and shards of one copy of the kernel."""

    def __init__(self, kernel: ModuleType, draft: Draft) -> None:
        """Write every step whose own proposal is there."""
        self.gate: Any = import_module(f"{kernel.__name__}.gate")
        self.world, self.draft = world(), draft
        self.network, self.sites = network_of(self.gate, self.world), sites_of(self.gate)
        self.lines: list[Any] = []
        self.shards: dict[str, Any] = {}
        self.ids: dict[str, str] = {}
        self.position = 0
        self.frozen: dict[str, tuple[Any, ...]] = {}
        self.looks: dict[str, list[tuple[int, int]]] = {}
        eps = Fraction(draft.eps)
        rest = draft.alpha, draft.tau, draft.rho, draft.delta, eps
        self.add(self.gate.Opened(self.network.sha256, self.sites, *rest))
        for step in draft.steps:
            getattr(self, f"_{step[0]}")(*step[1:])

    def add(self, entry: Any) -> str:
        prev = self.lines[-1].id if self.lines else self.gate.START
        self.lines.append(self.gate.Line.after(prev, entry))
        return self.lines[-1].id

    def shard(self, arrays: Mapping[str, np.ndarray]) -> str:
        shard = self.gate.Shard(save({n: np.ascontiguousarray(a) for n, a in arrays.items()}))
        self.shards[shard.sha256] = shard
        return shard.sha256

    def admission(self, **changed: Any) -> Any:
        given = {"network": self.network, "sites": self.sites, "lines": self.lines}
        return self.gate.Admission(**(given | {"shards": self.shards} | changed))

    def cell(self, name: str) -> Any:
        return cell_of(self.gate, self.world.boxes[name])

    def _names(self, names: Iterable[str]) -> tuple[str, ...]:
        return tuple(name if name == "bad" else self.cell(name).id for name in names)

    def _record(self, rows: tuple[int, ...]) -> None:
        h = self.world.h[list(rows)]
        labels = self.world.labels[list(rows)]
        prints = self.gate.fingerprints(self.network.sha256, self.sites.sha256, h)
        shard = self.shard({"h": h, "labels": labels})
        self.add(self.gate.RecordEntry(shard, len(h), self.gate.digest_of(prints), "somebody"))

    def _cell(self, name: str) -> None:
        if any(part != name and part not in self.ids for part in self.world.parts[name]):
            return
        cell = self.cell(name)
        parts = self._names(self.world.parts[name])
        self.ids[name] = self.add(self.gate.CellEntry(cell.id, self.shard(cell.to_arrays()), parts))

    def _region(self, name: str) -> None:
        if name in self.ids:
            self.ids[f"region {name}"] = self.add(self.gate.RegionEntry(self.cell(name).id, None))

    def _data(self, number: int) -> None:
        rows = self.world.batch(number)
        names = {"h": self.world.h, "outputs": self.world.outputs, "labels": self.world.labels}
        shard = self.shard({name: values[rows] for name, values in names.items()})
        self.ids[f"data {number}"] = self.add(self.gate.StreamEntry(shard, self.position, BATCH))
        self.position += BATCH

    def _rule(
        self,
        key: str,
        given: tuple[str, ...],
        then: tuple[str, ...],
        alpha: Fraction,
        take: int | None,
    ) -> None:
        if all(name in self.ids or name == "bad" for name in given + then):
            self.frozen[key] = (given, then, alpha, self.position, take)
            self.ids[key] = self.add(
                self.gate.RuleEntry(
                    "drawn", self._names(given), self._names(then), alpha, self.position, take,
                    None, None, Fraction(0), "test", (),
                )
            )  # fmt: skip

    def _count(
        self, key: str, wider: tuple[Fraction, Fraction] = (Fraction(1), Fraction(0))
    ) -> None:
        """wider: the low end is multiplied by the first, the high one moved up by the second."""
        if key not in self.frozen:
            return
        given, then, alpha, born, take = self.frozen[key]
        stop = self.position if take is None else born + take
        k, n = self.counted(given, then, born, stop)
        self.looks.setdefault(key, []).append((k, n))
        if take is None:
            interval = confidence_sequence_over(self.looks[key], alpha)
        else:
            interval = clopper_pearson(k, n, alpha)
        low, high = interval.low * wider[0], min(Fraction(1), interval.high + wider[1])
        self.ids[f"count {key}"] = self.add(
            self.gate.CountEntry(self.ids[key], stop, k, n, low, high)
        )

    def _family(
        self, key: str, groups: tuple[tuple[str, ...], ...], alpha: Fraction, take: int
    ) -> None:
        if all(name in self.ids for group in groups for name in group):
            self.frozen[key] = (groups, alpha, self.position, take)
            named = tuple(self._names(group) for group in groups)
            self.ids[key] = self.add(self.gate.FamilyEntry(named, alpha, self.position, take))

    def _calibrate(self, key: str, fewer: int = 0) -> None:
        if key in self.frozen and self.draft.delta is not None:
            bad, chosen = self.calibrated(key)
            chosen = max(0, chosen - fewer)
            self.ids[f"calibration {key}"] = self.add(
                self.gate.CalibrationEntry(self.ids[key], tuple(bad), chosen)
            )

    def _retract(self, name: str) -> None:
        if name in self.ids:
            self.add(self.gate.RetractEntry(self.ids[name], "as an exercise"))

    def having(self, names: Iterable[str], start: int, stop: int) -> np.ndarray:
        """Which data of a span of the stream are in all of these events."""
        w, holds = self.world, np.ones(stop - start, dtype=bool)
        for name in names:
            if name == "bad":
                holds &= w.outputs[start:stop].argmax(axis=1) != w.labels[start:stop]
            else:
                holds &= w.boxes[name].holds(w.h[start:stop])
        return holds

    def counted(
        self, given: Iterable[str], then: Iterable[str], start: int, stop: int
    ) -> tuple[int, int]:
        among = self.having(given, start, stop)
        return int((among & self.having(then, start, stop)).sum()), int(among.sum())

    def calibrated(self, key: str) -> tuple[list[int], int]:
        """Bad data in the family's sets, and how many groups meet delta."""
        groups, alpha, born, take = self.frozen[key]
        union, bad = np.zeros(take, dtype=bool), []
        for group in groups:
            for name in group:
                union = union | self.having((name,), born, born + take)
            bad.append(int((union & self.having(("bad",), born, born + take)).sum()))
        delta = self.draft.delta
        fails = [delta is None or upper_risk(k, take, alpha) > delta for k in bad]
        return bad, (fails + [True]).index(True)


def weakened(rng: np.random.Generator, draft: Draft) -> Draft:
    """A draft that knows less: fewer or retracted entries, wider intervals, less alpha, more eps."""
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


@contextmanager
def replayed_once(kernel: ModuleType) -> Iterator[None]:
    """Certificates remembered by cell, and no check of the machine's arithmetic: for many ledgers."""
    obligations: Any = import_module(f"{kernel.__name__}.gate._obligations")
    table: Any = import_module(f"{kernel.__name__}.gate._cell_table")
    before = obligations.certify_region, table.check_arithmetic
    known: dict[tuple[str, str, str], Any] = {}

    def certify_region(network: Any, sites: Any, cell: Any, witness: Any) -> Any:
        key = (network.sha256, sites.sha256, cell.id)
        if key not in known:
            known[key] = before[0](network, sites, cell, witness)
        return known[key]

    obligations.certify_region, table.check_arithmetic = certify_region, lambda: None
    try:
        yield
    finally:
        obligations.certify_region, table.check_arithmetic = before
