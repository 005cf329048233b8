"""What ``crosscoder interactions`` and ``crosscoder view`` share: options, measuring a layer."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import typer
from jaxtyping import Int64

from ..crosscoders import (
    Crosscoder,
    CrosscoderError,
    EncodedDataset,
    encode_task,
    inputs_of,
    prove_independence,
)
from ..crosscoders.clusters import clusters
from ..crosscoders.fidelity import Fidelity, fidelity
from ..crosscoders.interactions import Interactions, Measure, interactions, neuron_view
from ..kernel import Independence, OptionError, Task, Transformer
from . import _output

OfLayers = typer.Option("--layer", help="A layer, as often as needed (default: all it writes).")
OfMeasure = typer.Option(
    help=f"How much a pair interacts: {', '.join(measure.value for measure in Measure)}."
)
OfLevels = typer.Option(help="What is proved is of codes with so many values a feature; 0: skip.")
Grouped = typer.Option("--groups", help="Put features into groups (needs the extra 'gate').")


class Subject(NamedTuple):
    """A crosscoder, its model, and inputs of a task in code."""

    crosscoder: Crosscoder
    net: Transformer
    task: Task
    tokens: Int64[np.ndarray, "n k"]
    labels: Int64[np.ndarray, " n"]
    dataset: EncodedDataset
    active: int | None


class Measured(NamedTuple):
    """One layer, measured and, where that was asked for, proved."""

    layer: int
    interactions: Interactions
    independence: Independence | None
    fidelity: tuple[Fidelity, ...]
    groups: Int64[np.ndarray, " H"] | None


def encoded(
    crosscoder: Crosscoder, net: Transformer, task: Task, limit: int, seed: int, active: int | None
) -> Subject:
    """The inputs of a task, or a sample, in code."""
    tokens, labels = inputs_of(task, limit, seed)
    dataset = encode_task(net, crosscoder, tokens, labels, task=task.name, active=active)
    return Subject(crosscoder, net, task, tokens, labels, dataset, active)


def layers_of(subject: Subject, asked: Sequence[int] | None) -> list[int]:
    """The layers asked for; if none are, those whose ``hook_resid_mid`` the crosscoder writes."""
    written = {s.layer for s in subject.crosscoder.config.written_sites if s.role == "resid_mid"}
    found = sorted(n for n in written if subject.net.blocks[n].d_mlp)
    chosen = list(dict.fromkeys(asked)) if asked else found
    if not chosen or set(chosen) - set(found):
        wrong = f"layer {min(set(chosen) - set(found))}" if chosen else "no layer"
        raise CrosscoderError(
            f"{wrong} has an MLP whose hook_resid_mid the crosscoder writes; such layers: {found}"
        )
    return chosen


def measure_of(name: str) -> Measure:
    """The measure of that name."""
    known = {measure.value: measure for measure in Measure}
    if name not in known:
        raise CrosscoderError(f"measure {name!r} is not one of {', '.join(known)}")
    return known[name]


def measured(
    subject: Subject, layer: int, measure: Measure, levels: int, *, grouped: bool
) -> Measured:
    """Measure and prove one layer, with progress bars."""
    dataset = subject.dataset
    if levels < 0:
        raise CrosscoderError(f"--levels {levels} must be at least 0")
    with _output.progress(f"interactions, layer {layer}") as tick:
        found = interactions(
            neuron_view(subject.net, subject.crosscoder, layer), dataset, measure, tick
        )
    proved = None
    if levels:
        about = (subject.net, subject.crosscoder, dataset.quantised(levels), layer)
        with _output.progress(f"proving, layer {layer}") as tick:
            try:
                proved = prove_independence(*about, tick=tick)
            except OptionError:  # too many pairs to bound each of them
                proved = prove_independence(*about, pairs=False, tick=tick)
    with _output.progress(f"fidelity, layer {layer}") as tick:
        kept = fidelity(
            subject.net, subject.crosscoder, subject.tokens, subject.labels, layer,
            active=subject.active, tick=tick,
        )  # fmt: skip
    return Measured(layer, found, proved, kept, clusters(found.of_pairs) if grouped else None)
