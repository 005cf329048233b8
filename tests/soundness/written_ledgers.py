"""Drawn ledgers, written with any copy of the kernel, and what their data say, counted again."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np
from safetensors.numpy import save

from compactproofs.kernel.gate._confidence_sequences import confidence_sequence_over
from compactproofs.kernel.gate._proportions import clopper_pearson, upper_risk

from .drawn_ledgers import BATCH, Draft, cell_of, network_of, sites_of, world

AS_IT_IS = Fraction(1), Fraction(0)


class Written:
    """A draft as lines and shards of one copy of the kernel."""

    def __init__(self, kernel: ModuleType, draft: Draft) -> None:
        """Write every step whose own proposal is there."""
        self.gate: Any = import_module(f"{kernel.__name__}.gate")
        self.world, self.draft = world(), draft
        self.network, self.sites = network_of(self.gate, self.world), sites_of(self.gate)
        self.lines: list[Any] = []
        self._cells: dict[str, Any] = {}
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
        if name not in self._cells:
            self._cells[name] = cell_of(self.gate, self.world.boxes[name])
        return self._cells[name]

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

    def _count(self, key: str, wider: tuple[Fraction, Fraction] = AS_IT_IS) -> None:
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
        name = f"count {key}" if len(self.looks[key]) == 1 else f"later count {key}"
        self.ids[name] = self.add(self.gate.CountEntry(self.ids[key], stop, k, n, low, high))

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


@contextmanager
def replayed_once(kernel: ModuleType) -> Iterator[None]:
    """Certificates remembered by cell, no check of the machine's arithmetic: for many ledgers."""
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
