"""``compactproofs crosscoder view``: a page about a crosscoder, readable without a network."""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from .. import _proving
from ..crosscoders import Crosscoder, claim_of
from ..crosscoders.features import FeatureView, describe_features
from ..crosscoders.interactions import Measure
from ..crosscoders.slack import slack_of
from ..kernel import OptionError, Task, Transformer
from ..report import CrosscoderView, LayerView, Waterfall, crosscoder_page
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
from ._crosscoder_proof import BY_CODES, CodeSettings, steps_down

_SHOWN = 32
"""Features with pictures of their own, unless they are named."""


def view(
    crosscoder: Annotated[Path, CrosscoderDirectory],
    model: Annotated[str, OfModel],
    task: Annotated[str, OfTask],
    out: Annotated[Path, typer.Option(help="The HTML file to write.")],
    feature: Annotated[
        list[int] | None,
        typer.Option(help=f"A feature, as often as needed (default: {_SHOWN}, by interaction)."),
    ] = None,
    theorem: Annotated[
        str | None,
        typer.Option(
            help=f"Prove by one of {' or '.join(BY_CODES)} and show where it falls short."
        ),
    ] = None,
    layer: Annotated[list[int] | None, OfLayers] = None,
    measure: Annotated[str, OfMeasure] = Measure.SECOND_DIFFERENCE.value,
    levels: Annotated[int, OfLevels] = 8,
    groups: Annotated[bool, Grouped] = False,
    active: Annotated[int | None, Active] = None,
    limit: Annotated[int, Limit] = 1 << 16,
    seed: Annotated[int, Seed] = 0,
    force: Annotated[bool, _output.Force] = False,
    json: Annotated[bool, _output.Json] = False,
) -> None:
    """Write a page: what the crosscoder claims, where its features meet, and each feature."""
    _proving.check_destination(out, force=force)
    kind = measure_of(measure)
    if theorem is not None and theorem not in BY_CODES:
        raise OptionError(f"--theorem {theorem}: a page shows one of {' or '.join(BY_CODES)}")
    own, net, goal = load(crosscoder, model, task)
    subject = encoded(own, net, goal, limit, seed, active)
    last = f"blocks.{len(net.blocks) - 1}.hook_resid_post"
    names = [site.name for site in own.config.sites]
    views = describe_features(net, own, subject.dataset)
    if feature:
        describe_features(net, own, subject.dataset, feature, top=0)  # refuses what is not one
    layers = [
        measured(subject, number, kind, levels, grouped=groups)
        for number in layers_of(subject, layer)
    ]
    shown = tuple(dict.fromkeys(feature)) if feature else _most_interacting(views, layers)
    page = crosscoder_page(
        CrosscoderView(
            name=crosscoder.resolve().name,
            model=model,
            task=goal.name,
            model_sha256=net.sha256,
            crosscoder_sha256=own.sha256,
            architecture=own.config.architecture,
            n_features=own.config.d_sae,
            all_inputs=len(subject.tokens) == goal.total,
            features=views,
            shown=shown,
            layers=tuple(
                LayerView(
                    layer=one.layer,
                    interactions=one.interactions,
                    groups=one.groups,
                    independence=one.independence,
                    n_levels=levels or None,
                    fidelity=one.fidelity,
                )
                for one in layers
            ),
            proof=None if theorem is None else _proof(theorem, net, goal, own, active),
            claim=claim_of(net, own, subject.tokens, subject.labels, active=active)
            if last in names
            else None,
        )
    )
    _proving.write_file(out, page.encode(), force=force)
    if json:
        _output.print_json(
            {
                "page": str(out),
                "task": goal.name,
                "inputs": len(subject.dataset),
                "features": own.config.d_sae,
                "features_that_fire": sum(one.fires > 0 for one in views),
                "shown": list(shown),
                "layers": [one.layer for one in layers],
            }
        )
    else:
        print(f"written {_output.printable(str(out))}; open it in a browser, it loads nothing")


def _proof(
    theorem: str, net: Transformer, task: Task, own: Crosscoder, active: int | None
) -> Waterfall:
    settings = CodeSettings() if active is None else CodeSettings(active)
    found = settings.found(theorem, net, task, own)
    found.prove()  # refuses a witness that does not hold
    return steps_down(slack_of(found))


def _most_interacting(views: tuple[FeatureView, ...], layers: list[Measured]) -> tuple[int, ...]:
    """Features that fire, those with most interaction first; as many as a page can show."""
    strength = sum((one.interactions.of_pairs.sum(axis=1) for one in layers), np.zeros(len(views)))
    order = np.argsort(-strength, kind="stable").tolist()
    return tuple(number for number in order if views[number].fires)[:_SHOWN]
