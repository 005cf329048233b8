"""``compactproofs crosscoder interactions``: which features meet at which neurons."""

from pathlib import Path
from typing import Annotated, Any, TypeGuard

import numpy as np
import typer

from ..crosscoders.interactions import Measure
from ..kernel import Independence
from . import _output
from ._crosscoder import Active, CrosscoderDirectory, Limit, OfModel, OfTask, Seed, load
from ._crosscoder_layers import (
    Grouped,
    Measured,
    OfLayers,
    OfLevels,
    OfMeasure,
    encoded,
    layers_of,
    measure_of,
    measured,
)


def interactions(
    crosscoder: Annotated[Path, CrosscoderDirectory],
    model: Annotated[str, OfModel],
    task: Annotated[str, OfTask],
    layer: Annotated[list[int] | None, OfLayers] = None,
    measure: Annotated[str, OfMeasure] = Measure.SECOND_DIFFERENCE.value,
    levels: Annotated[int, OfLevels] = 8,
    pairs: Annotated[int, typer.Option(help="How many pairs to list, the strongest first.")] = 20,
    groups: Annotated[bool, Grouped] = False,
    active: Annotated[int | None, Active] = None,
    limit: Annotated[int, Limit] = 1 << 16,
    seed: Annotated[int, Seed] = 0,
    json: Annotated[bool, _output.Json] = False,
) -> None:
    """Which features interact, what is proved of the neurons, and what one feature each leaves."""
    kind = measure_of(measure)
    own, net, goal = load(crosscoder, model, task)
    subject = encoded(own, net, goal, limit, seed, active)
    found = [
        measured(subject, number, kind, levels, grouped=groups)
        for number in layers_of(subject, layer)
    ]
    if json:
        _output.print_json(
            {
                "crosscoder": str(crosscoder),
                "crosscoder_sha256": own.sha256,
                "model_sha256": net.sha256,
                "task": goal.name,
                "inputs": len(subject.dataset),
                "all_sequences": len(subject.tokens) == goal.total,
                "measure": kind.value,
                "levels": levels or None,
                "layers": [_plain(one, pairs) for one in found],
            }
        )
        return
    for one in found:
        _print(one, pairs, levels)


def _plain(one: Measured, most: int) -> dict[str, Any]:
    """One layer as plain values; proved numbers under ``proved`` alone."""
    measured_here, proved = one.interactions, one.independence
    return {
        "layer": one.layer,
        "interaction": float(measured_here.of_pairs.sum() / 2),
        "dominant_share": _finite(measured_here.dominant_share),
        "dominant_mass": _finite(measured_here.dominant_mass),
        "pairs": [
            pair._asdict()
            | ({"neurons": list(proved.shared_neurons(*pair[:2]))} if _has_pairs(proved) else {})
            for pair in measured_here.ranked(most)
        ],
        "fidelity": [
            {
                "scheme": kept.scheme.name.lower(),
                "accuracy": kept.accuracy,
                "loss": kept.loss,
                "fidelity": _finite(kept.fidelity),
            }
            for kept in one.fidelity
        ],
        "groups": None if one.groups is None else one.groups.tolist(),
        "proved": None
        if proved is None
        else {
            "neurons": proved.counts(),
            "cells": proved.cells(),
            "codes": proved.n_codes,
            "additive_codes": proved.additive_codes,
            "second_difference_at_most": proved.second_difference.tolist(),
            "interaction_at_most": proved.interaction.tolist(),
            "subject_sha256": proved.subject_sha256,
            "flops": str(proved.flops),
        },
    }


def _has_pairs(proved: Independence | None) -> TypeGuard[Independence]:
    return proved is not None and proved.paired


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _print(one: Measured, most: int, levels: int) -> None:
    found, proved = one.interactions, one.independence
    print(f"layer {one.layer}, {found.inputs:,} inputs")
    if proved is not None:
        counts = ", ".join(f"{n} {name.replace('_', ' ')}" for name, n in proved.counts().items())
        every = max(1, sum(proved.cells().values()))
        cells = ", ".join(f"{name} {n / every:.1%}" for name, n in proved.cells().items())
        _output.print_lines(
            {
                "proved": f"of codes with {levels} values a feature, by "
                f"{proved.flops:,} FLOPs; without what codes leave out",
                "neurons": counts,
                "neurons times codes": cells,
                "additive codes": f"{proved.additive_codes:,} of {proved.n_codes:,}",
            }
        )
        print()
    print("measured, not proved:")
    print(
        f"  the strongest feature has {found.dominant_share:.1%} of a neuron's input, "
        f"{found.dominant_mass:.1%} weighted by output"
    )
    for kept in one.fidelity:
        print(
            f"  {kept.scheme.value:<30} accuracy {kept.accuracy:.4%}  loss {kept.loss:.5f}"
            f"  fidelity {kept.fidelity:.4f}"
        )
    if one.groups is not None:
        print(f"  {int(one.groups.max()) + 1} groups of features that interact")
    ranked = found.ranked(most)
    if not ranked:
        print("  no two features interact\n")
        return
    print(f"\n  features        {found.measure.value:>17}  inputs with both  when both")
    for pair in ranked:
        shared = f"  {len(proved.shared_neurons(*pair[:2]))} neurons" if _has_pairs(proved) else ""
        print(
            f"  {pair.first:>4} and {pair.second:<4}  {pair.mean:>21.5g}  {pair.together:>16,}"
            f"  {pair.when_together:>9.4g}{shared}"
        )
    total = float(found.of_pairs.sum() / 2)
    share = sum(pair.mean for pair in ranked) / total
    print(f"  these {len(ranked)} pairs have {share:.1%} of all interaction, {total:.5g}\n")
