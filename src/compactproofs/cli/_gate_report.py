"""``compactproofs gate report``: one HTML page about a gate, readable without a network."""

import json as json_module
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from jaxtyping import Bool, Float64, Int64

from .. import _proving
from ..kernel import Tick
from ..kernel.gate import NoteEntry, StreamEntry, answers
from ..report import Example, GateView, Rung, SiteUse, StructureUse, WarrantRow, gate_page
from . import _output
from ._gate import GateDirectory, Input, OfNetwork, load_subject

if TYPE_CHECKING:
    from ..gate import Gate

_ALPHAS = (Fraction(1, 20), Fraction(1, 1000), Fraction(1, 10**6), Fraction(1, 10**12))
_DATA_POINTS = 5
_EXAMPLES = 12


def report(
    directory: Annotated[Path, GateDirectory],
    network: Annotated[str, OfNetwork],
    input: Annotated[Path, Input],
    out: Annotated[Path, typer.Option(help="The HTML file to write.")],
    curves: Annotated[
        bool, typer.Option(help="Count again at other alphas and on fewer data: takes a while.")
    ] = True,
    force: Annotated[bool, _output.Force] = False,
    json: Annotated[bool, _output.Json] = False,
) -> None:
    """Write a page: what is admitted of --input, on which warrants, and what is unexplained."""
    from ..gate import Gate

    _proving.check_destination(out, force=force)
    subject = load_subject(network)
    x = subject.inputs(input)
    labels = subject.labels(input, len(x))
    gate = Gate.open(directory, subject.network)
    with _output.progress("counting again") as tick:
        view = _view(gate, directory.resolve().name, x, labels, curves, tick)
    _proving.write_file(out, gate_page(view).encode(), force=force)
    if json:
        _output.print_json(
            {
                "page": str(out),
                "inputs": view.inputs,
                "admitted": view.admitted,
                "wrong_admitted": view.wrong,
                "coverage_by_alpha": [[alpha, share] for alpha, share in view.by_alpha],
                "coverage_by_data": [[n, share] for n, share in view.by_data],
                "warrants": len(view.warrants),
            }
        )
    else:
        print(f"written {_output.printable(str(out))}; open it in a browser, it loads nothing")


def _view(
    gate: "Gate",
    name: str,
    x: Float64[np.ndarray, "n d"],
    labels: Int64[np.ndarray, " n"] | None,
    curves: bool,
    tick: Tick,
) -> GateView:
    seen, opened, status = gate.activations(x), gate.opened, gate.status()
    verdicts, answered = list(gate.admit_batch(seen)), answers(seen.outputs)
    admitted = np.array([verdict.admitted for verdict in verdicts], dtype=bool)
    wrong = None if labels is None else int((admitted & (answered != labels)).sum())
    limits = {"alpha": opened.alpha, "tau": opened.tau, "rho": opened.rho, "delta": opened.delta}
    by_alpha, by_data = _curves(gate, seen, tick) if curves and gate.closed is None else ((), ())
    ladder, surprises = _explanation(gate)
    return GateView(
        name=name,
        network_sha256=gate.network.sha256,
        head=gate.ledger.lines[-1].id,
        settings={key: str(value) for key, value in limits.items() if value is not None},
        cut=gate.sites.cut,
        closed=gate.closed,
        cells=status.cells,
        records=status.warrants["SIGNED"],
        inputs=len(x),
        admitted=int(admitted.sum()),
        wrong=wrong,
        by_alpha=by_alpha,
        by_data=by_data,
        ladder=ladder,
        examples=tuple(
            Example(
                number,
                x[number],
                int(answered[number]),
                None if labels is None else int(labels[number]),
                verdicts[number].admitted,
                "; ".join(str(verdicts[number]).splitlines()[1:3]),
            )
            for number in _examples(admitted)
        ),
        sites=_sites(gate),
        surprises=surprises,
        structure=_structure(gate),
        warrants=tuple(_warrants(gate)),
        notes=(
            f"{status.admitting} of {status.cells} cells can admit; {status.rules} rules, "
            f"{status.refused} refused; {float(status.spent):.3g} of alpha is spent.",
        ),
    )


def _examples(admitted: Bool[np.ndarray, " n"]) -> list[int]:
    """The first of each kind."""
    return sorted(
        number
        for kind in (True, False)
        for number in np.flatnonzero(admitted == kind)[:_EXAMPLES].tolist()
    )


def _curves(
    gate: "Gate", seen: Any, tick: Tick
) -> tuple[tuple[tuple[float, float], ...], tuple[tuple[float, float], ...]]:
    """Shares admitted at other confidences, and counted on fewer data."""
    from ..gate._what_if import WhatIfError, what_if

    n = gate.position
    alphas = sorted({*_ALPHAS, gate.opened.alpha})
    sizes = sorted({max(1, n * part // _DATA_POINTS) for part in range(1, _DATA_POINTS + 1)})
    sizes = sizes if n else []
    by_alpha, by_data = [], []
    try:
        for done, alpha in enumerate(alphas):
            tick(done, len(alphas) + len(sizes))
            admission = what_if(gate, factor=alpha / gate.opened.alpha)
            by_alpha.append((float(alpha), float(admission.admitted(*seen).mean())))
        for done, size in enumerate(sizes):
            tick(len(alphas) + done, len(alphas) + len(sizes))
            admission = what_if(gate, data=size)
            by_data.append((float(size), float(admission.admitted(*seen).mean())))
    except WhatIfError:
        return (), ()
    return tuple(by_alpha), tuple(by_data)


def _explanation(gate: "Gate") -> tuple[tuple[Rung, ...], tuple[tuple[str, float], ...]]:
    """Of the last note of the discovery loop."""
    from ..gate._building import EXPLANATION

    texts = [note.text for _, note in gate.history.living(NoteEntry) if note.topic == EXPLANATION]
    if not texts:
        return (), ()
    try:
        found = json_module.loads(texts[-1])
        accepted = [step for step in found["steps"] if step["decision"] == "accepted"]
        # A certificate was not counted: the description is neither shorter nor longer by it.
        steps = [step for step in accepted if step["bits_before"] is not None]
        rungs, bits = [], 0.0
        for step in steps:
            if not rungs:
                rungs.append(Rung("nothing", 0.0, step["bits_before"] * float(np.log(2))))
            bits += step["bits"]
            left = (step["bits_after"] - bits) * float(np.log(2))
            words = " and ".join(step["then"]) + _given(step["given"])
            rungs.append(Rung(f"{step['kind']}: {words}", bits, left))
        return tuple(rungs), tuple((str(name), float(nats)) for name, nats in found["unexplained"])
    except (ValueError, KeyError, TypeError):
        return (), ()  # somebody else's note


def _given(names: list[str]) -> str:
    return f" given {' and '.join(names)}" if names else ""


def _sites(gate: "Gate") -> tuple[SiteUse, ...]:
    """How the cells that can admit treat each site of the cut, against the data of the stream."""
    if gate.closed is not None:
        return ()
    cells, standing = gate.admission.obligations.cells, gate.admission.standing
    used = [cells[name] for name, one in standing.items() if one.warrants]
    named = [entry.shard for _, entry in gate.history.living(StreamEntry)]
    shards = [shard for name in named if (shard := gate.ledger.shards.get(name)) is not None]
    if not used or not shards:
        return ()
    h = np.concatenate([shard.arrays["h"] for shard in shards])
    cut = gate.sites.cut_slice
    places = range(cut.start, cut.stop)
    layer = gate.network.layers[gate.sites.layer]
    is_gated = layer.relu and not gate.sites.after_relu
    found = []
    for i in places:
        values = h[:, i]
        free = sum(bool(((c.low[i] <= values) & (values <= c.high[i])).all()) for c in used)
        constant = sum(bool(c.high[i] <= 0) for c in used) if is_gated else 0
        found.append(SiteUse(gate.sites.name(i), len(used) - free, free, constant))
    return tuple(found)


def _structure(gate: "Gate") -> tuple[StructureUse, ...]:
    from ..gate._structure_notes import structure_counts

    if gate.closed is not None:
        return ()
    return tuple(StructureUse(*count) for count in structure_counts(gate.history))


def _warrants(gate: "Gate") -> Iterable[WarrantRow]:
    if gate.closed is not None:
        return
    signed = [one for ones in gate.admission.obligations.records.values() for one in ones]
    for one in signed:
        yield WarrantRow(one.kind, "record", str(one), one.entries[0])
    for cell, standing in gate.admission.standing.items():
        for warrant in standing.warrants.values():
            yield WarrantRow(
                warrant.kind, f"cell {cell[:8]}", str(warrant), (*warrant.entries, "")[0]
            )
