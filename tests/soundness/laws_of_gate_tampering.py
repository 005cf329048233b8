"""Ledgers that say what is not so close the gate; what is retracted takes its dependents along."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np

from compactproofs.kernel.gate._proportions import clopper_pearson

from .drawn_ledgers import BATCH, Draft, cell_of, network_of, probes, sites_of, world
from .written_ledgers import Written, replayed_once

TWENTIETH = Fraction(1, 20)
Change = Callable[[Any, Any], Any]


def base() -> Draft:
    """One of everything: a record, cells, certificates, rules of both kinds, a family."""
    cells = ("left", "right", "both", "box1", "box2")
    steps: list[tuple[Any, ...]] = [("record", (0, 1, 2))]
    steps += [("cell", name) for name in cells]
    steps += [("region", name) for name in cells[2:]]
    steps += [
        ("rule", "mass of left", (), ("left",), TWENTIETH, 2 * BATCH),
        ("rule", "right of left", ("left",), ("right",), TWENTIETH, None),
        ("rule", "mass", (), ("box1",), TWENTIETH, 2 * BATCH),
        ("rule", "risk", ("box1",), ("bad",), TWENTIETH, 2 * BATCH),
        ("rule", "mass2", (), ("box2",), TWENTIETH, None),
        ("family", "family", (("both",), ("box2",), ("box1",)), TWENTIETH, 2 * BATCH),
        ("data", 0),
        ("data", 1),
        *(("count", key) for key in ("mass of left", "right of left", "mass", "risk", "mass2")),
        ("calibrate", "family"),
    ]
    rho, delta = Fraction(1, 4), TWENTIETH  # which the third group does not meet
    return Draft(Fraction(1, 2), Fraction(1, 10**5), rho, delta, 0.0, tuple(steps))


def tampered(kernel: ModuleType) -> Iterator[str]:
    """Every ledger below is closed, or admits less; the honest one is open and admits."""
    with replayed_once(kernel):
        honest = Written(kernel, base())
        admission = honest.admission()
        if admission.closed is not None or len(admitting(admission)) != 3:
            yield f"the honest ledger: {admission.closed}, {len(admitting(admission))} cells admit"
            return
        yield from _changed_entries(honest)
        yield from _added_entries(honest)
        yield from _other_surroundings(kernel, honest)
        yield from _fallen(kernel)


def admitting(admission: Any) -> set[str]:
    """The cells that admit something, each in its middle."""
    h, outputs = probes()
    verdicts = admission.admit(h, outputs)
    return {verdict.cell for verdict in verdicts if verdict.cell is not None}


def rechained(written: Written, change: Mapping[int, Any], more: Sequence[Any] = ()) -> list[Any]:
    """The lines with other entries, references adapted, hashes honest."""
    gate, lines, renamed = written.gate, [], dict[str, str]()
    entries = [line.entry for line in written.lines] + list(more)
    old = [line.id for line in written.lines]
    for number, entry in enumerate(entries):
        entry = change.get(number, entry)
        for field in ("rule", "family", "entry"):
            if field in entry._fields:
                reference = getattr(entry, field)
                entry = entry._replace(**{field: renamed.get(reference, reference)})
        lines.append(gate.Line.after(lines[-1].id if lines else gate.START, entry))
        if number < len(old):
            renamed[old[number]] = lines[-1].id
    return lines


def numbers_of(written: Written, kind: str) -> list[int]:
    """Where entries of a type are."""
    return [n for n, line in enumerate(written.lines) if type(line.entry).__name__ == kind]


def _closed(what: str, admission: Any) -> Iterator[str]:
    h, outputs = probes()
    if admission.closed is None or admission.admitted(h, outputs).any():
        yield f"a ledger with {what} is open"


def _changed_entries(honest: Written) -> Iterator[str]:
    small = Fraction(1, 10**6)
    count, calibration = numbers_of(honest, "CountEntry"), numbers_of(honest, "CalibrationEntry")[0]
    cells, record = numbers_of(honest, "CellEntry"), numbers_of(honest, "RecordEntry")[0]
    lower, fewer = (clopper_pearson(*counts, TWENTIETH) for counts in ((25, 80), (30, 70)))
    rules, data = numbers_of(honest, "RuleEntry"), numbers_of(honest, "StreamEntry")
    both = cells[2]
    left, right = (honest.lines[n].entry.cell for n in cells[:2])
    other = honest.lines[cells[4]].entry
    changes: list[tuple[str, int, Change]] = [
        ("one hit more", count[2], lambda e, _: e._replace(k=e.k + 1)),
        ("other hits", count[2], lambda e, _: e._replace(k=25, low=lower.low, high=lower.high)),
        ("other trials", count[2], lambda e, _: e._replace(n=70, low=fewer.low, high=fewer.high)),
        ("one trial less", count[0], lambda e, _: e._replace(n=e.n - 1)),
        ("one trial more", count[1], lambda e, _: e._replace(n=e.n + 1)),
        ("a low end too high", count[1], lambda e, _: e._replace(low=e.low + small)),
        ("a high end too low", count[3], lambda e, _: e._replace(high=e.high - small)),
        ("a share of alpha shrunk", rules[2], lambda e, _: e._replace(alpha=e.alpha / 2)),
        ("a rule counted early", rules[0], lambda e, _: e._replace(take=2 * BATCH + 1)),
        ("a rule counted late", rules[0], lambda e, _: e._replace(take=2 * BATCH - 1)),
        ("a rule born later", rules[4], lambda e, _: e._replace(born=1)),
        ("another consequent", rules[2], lambda e, _: e._replace(consequent=(left,))),
        ("other bad ones", calibration, lambda e, _: e._replace(bad=(*e.bad[:-1], e.bad[-1] + 1))),
        ("a group too many", calibration, lambda e, _: e._replace(chosen=e.chosen + 1)),
        ("a part missing", both, lambda e, _: e._replace(parts=(left,))),
        ("the wrong parts", both, lambda e, _: e._replace(parts=(left, left))),
        ("no parts", both, lambda e, _: e._replace(parts=())),
        ("a part that is no event", cells[3], lambda e, _: e._replace(parts=(right, e.cell))),
        ("another cell's arrays", cells[3], lambda e, _: e._replace(shard=other.shard)),
        ("another digest", record, lambda e, _: e._replace(digest="0" * 64)),
        ("more rows than there are", record, lambda e, _: e._replace(rows=4)),
        ("data of no shard", data[0], lambda e, _: e._replace(shard="1" * 64)),
        ("data of another shard", data[0], lambda e, _: e._replace(shard=other.shard)),
        ("one batch twice", data[1], lambda e, w: e._replace(shard=w.lines[data[0]].entry.shard)),
        ("a gap in the stream", data[1], lambda e, _: e._replace(start=e.start + 1)),
        ("little alpha", 0, lambda e, _: e._replace(alpha=Fraction(1, 4))),
        ("another model", 0, lambda e, _: e._replace(model="2" * 64)),
        ("other sites", 0, lambda e, w: e._replace(sites=sites_of(w.gate, "pre2"))),
    ]
    for what, number, change in changes:
        entry = change(honest.lines[number].entry, honest)
        yield from _closed(what, honest.admission(lines=rechained(honest, {number: entry})))
    swapped = [*honest.lines[:6], honest.lines[7], honest.lines[6], *honest.lines[8:]]
    yield from _closed("two lines swapped", honest.admission(lines=swapped))
    for number in (0, 3, len(honest.lines) - 2):
        cut = [*honest.lines[:number], *honest.lines[number + 1 :]]
        yield from _closed(f"line {number} cut out", honest.admission(lines=cut))
    edited = list(honest.lines)
    wider = edited[count[2]].entry._replace(low=Fraction(0))
    edited[count[2]] = edited[count[2]]._replace(entry=wider)
    yield from _closed("a line edited under its id", honest.admission(lines=edited))


def _added_entries(honest: Written) -> Iterator[str]:
    gate, last = honest.gate, honest.lines
    entry = {name: number for name, number in honest.ids.items()}
    count = next(line.entry for line in last if type(line.entry).__name__ == "CountEntry")
    box1 = honest.cell("box1").id
    weak = cell_of(gate, world().boxes["box1"]._replace(low=np.full(3, -9.0), high=np.full(3, 9.0)))
    shard = honest.shard(weak.to_arrays())
    more = honest.shard(
        {"h": np.zeros((1, 3)), "outputs": np.zeros((1, 3)), "labels": np.array([-1])}
    )
    batch = last[numbers_of(honest, "StreamEntry")[0]].entry
    late = gate.RuleEntry(
        "late", (), (box1,), TWENTIETH, 0, 2 * BATCH, None, None, Fraction(0), "", ()
    )
    greedy = late._replace(alpha=Fraction(49, 100), born=2 * BATCH)
    retract = gate.RetractEntry
    added: list[tuple[str, list[Any]]] = [
        ("a rule counted twice", [count]),
        ("a rule born before data that it never saw", [late]),
        ("an overdrawn account", [greedy]),
        ("a closed gate", [gate.ClosedEntry("drift")]),
        ("a second opening", [last[0].entry]),
        ("a cell twice", [last[numbers_of(honest, "CellEntry")[0]].entry]),
        ("a false certificate", [gate.CellEntry(weak.id, shard, (weak.id,)),
                                 gate.RegionEntry(weak.id, None)]),
        ("a certificate of no cell", [gate.RegionEntry("3" * 64, None)]),
        ("a witness that is none", [gate.RegionEntry(box1, shard)]),
        ("a family calibrated twice", [last[-1].entry]),
        ("a count of no rule", [count._replace(rule=entry["box1"])]),
        ("a count of the future", [count._replace(rule=entry["mass2"], stop=2 * BATCH + 1)]),
        ("a reference to nothing", [retract("4" * 64, "")]),
        ("an opening retracted", [retract(last[0].id, "")]),
        ("an empty batch", [gate.StreamEntry(more, 2 * BATCH, 0)]),
        ("a gap in the stream", [gate.StreamEntry(more, 2 * BATCH + 1, 1)]),
        ("the same data again", [batch._replace(start=2 * BATCH)]),
        ("another cell under a name", [gate.CellEntry("5" * 64, shard, (weak.id,))]),
    ]  # fmt: skip
    for what, entries in added:
        yield from _closed(what, honest.admission(lines=rechained(honest, {}, entries)))
    draft = replace(base(), steps=(*base().steps, ("data", 2)))
    kernel = import_module(gate.__name__.removesuffix(".gate"))
    overdrawn = Written(kernel, draft)
    lines = rechained(overdrawn, {}, [greedy._replace(born=3 * BATCH)])
    lines.append(gate.Line.after(lines[-1].id, retract(lines[-1].id, "too much")))
    yield from _closed("an overdrawing rule retracted", overdrawn.admission(lines=lines))
    earned = rechained(honest, {}, [late._replace(alpha=-TWENTIETH, born=2 * BATCH)])
    earned.append(gate.Line.after(earned[-1].id, retract(earned[-1].id, "")))
    yield from _closed("alpha earned", honest.admission(lines=earned))
    closed = rechained(honest, {}, [gate.ClosedEntry("drift")])
    closed.append(gate.Line.after(closed[-1].id, retract(closed[-1].id, "")))
    yield from _closed("a closing retracted", honest.admission(lines=closed))


def _other_surroundings(kernel: ModuleType, honest: Written) -> Iterator[str]:
    gate: Any = honest.gate
    other = network_of(gate, world(), 2.0)
    yield from _closed("another network", honest.admission(network=other))
    yield from _closed("other sites", honest.admission(sites=sites_of(gate, "pre2")))
    yield from _closed("no shards", honest.admission(shards={}))
    one, two = list(honest.shards)[:2]
    crossed = honest.shards | {one: honest.shards[two], two: honest.shards[one]}
    yield from _closed("shards exchanged", honest.admission(shards=crossed))
    stream = honest.lines[numbers_of(honest, "StreamEntry")[0]].entry.shard
    turned = {name: rows[::-1] for name, rows in honest.shards[stream].arrays.items()}
    crossed = honest.shards | {stream: honest.shards[honest.shard(turned)]}
    yield from _closed("data in another order", honest.admission(shards=crossed))
    # A record carried over to the ledger of another network, and to other sites.
    record = honest.lines[numbers_of(honest, "RecordEntry")[0]].entry
    for network, sites in ((other, honest.sites), (honest.network, sites_of(gate, "pre2"))):
        opened = honest.lines[0].entry._replace(model=network.sha256, sites=sites)
        lines = rechained(honest, {0: opened})[:1]
        lines.append(gate.Line.after(lines[0].id, record))
        found = gate.Admission(network, sites, lines, honest.shards)
        yield from _closed("another model's record", found)
    # A certificate of another cell, network or kind under the entry's id.
    box = world().boxes["box1"]
    weak = cell_of(gate, box._replace(low=np.full(3, -9.0), high=np.full(3, 9.0)))
    shard = honest.shard(weak.to_arrays())
    entries = [gate.CellEntry(weak.id, shard, (weak.id,)), gate.RegionEntry(weak.id, None)]
    lines = rechained(honest, {}, entries)
    proof = gate.certify_region(honest.network, honest.sites, cell_of(gate, box))
    yield from _closed(
        "another cell's proof", honest.admission(lines=lines, known={lines[-1].id: proof})
    )
    contradicting = (
        *base().steps,
        *(("data", number) for number in (2, 3, 4, 5)),
        ("rule", "again", (), ("left",), TWENTIETH, 2 * BATCH),
        ("data", 6),
        ("data", 7),
        ("count", "again"),
    )
    drifted = Written(kernel, replace(base(), steps=contradicting))
    yield from _closed("contradicting intervals", drifted.admission())


def _fallen(kernel: ModuleType) -> Iterator[str]:
    """What a retraction or a refusal takes away, and what it leaves."""
    names = {name: Written(kernel, base()).cell(name).id for name in ("both", "box1", "box2")}
    for taken, left in (
        ("left", {"box1"}),  # the cell both falls with its part, the family with both
        ("box1", set()),
        ("region box1", {"both", "box2"}),
        ("mass", {"both", "box2"}),
        ("risk", {"both", "box2"}),
        ("count mass2", {"both", "box1"}),
        ("right of left", {"box1", "box2"}),
        ("family", {"box1"}),
        ("calibration family", {"box1"}),
        ("data 0", set()),
        ("data 1", set()),
    ):
        fallen = Written(kernel, replace(base(), steps=(*base().steps, ("retract", taken))))
        admission = fallen.admission()
        found = admitting(admission)
        if admission.closed is not None or found != {names[name] for name in left}:
            yield f"without {taken} {len(found)} cells admit, not {left}: {admission.closed}"
    twice = (*base().steps, ("data", 2), ("count", "mass2"), ("retract", "count mass2"))
    admission = Written(kernel, replace(base(), steps=twice)).admission()
    if admission.closed or admitting(admission) != {names["both"], names["box1"]}:
        yield f"a look outlives the look before it: {admission.closed}"
    other = ("family", "other", (("box2",),), TWENTIETH, 2 * BATCH)
    steps = (*base().steps[:-8], other, *base().steps[-8:], ("calibrate", "other"))
    yield from _closed("two families", Written(kernel, replace(base(), steps=steps)).admission())
    early = list(base().steps)
    early.insert(early.index(("data", 1)), ("retract", "mass"))
    found = admitting(Written(kernel, replace(base(), steps=tuple(early))).admission())
    if found != {names["both"], names["box2"]}:
        yield "what is counted after its rule was retracted still counts"
    yield from _closed("data counted before they arrived", _counted_early(kernel).admission())
    yield from _closed("a cell under the name of another", _dead_twin(kernel).admission())
    refused = Written(kernel, base())
    refused.add(refused.gate.RefusedEntry(refused.ids["mass"], "contradicted"))
    if admitting(refused.admission()) != {names["both"], names["box2"]}:
        yield "a refused rule still counts"


def _counted_early(kernel: ModuleType) -> Written:
    """Counts before their data, which would not fall when the data are retracted."""
    steps = [step for step in base().steps if step[0] != "data"]
    steps += [("data", 0), ("data", 1), ("retract", "data 1")]
    return Written(kernel, replace(base(), steps=tuple(steps)))


def _dead_twin(kernel: ModuleType) -> Written:
    """The cell both as an event, and once more as the conjunction of parts, one retracted."""
    cells = (("cell", "left"), ("cell", "right"), ("retract", "left"))
    written = Written(kernel, replace(base(), steps=cells))
    both, parts = written.cell("both"), (written.cell("left").id, written.cell("right").id)
    shard = written.shard(both.to_arrays())
    for own in ((both.id,), parts):
        written.add(written.gate.CellEntry(both.id, shard, own))
    return written
