"""``compactproofs crosscoder train``: a crosscoder of a model's activations at a task."""

import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from ..crosscoders import (
    ARCHITECTURES,
    Crosscoder,
    Site,
    check_crosscoder_destination,
    save_crosscoder,
    site_of,
)
from ..crosscoders.training import CertificateLoss, CrosscoderSettings, Penalty
from ..kernel import Task, Transformer, UserError, load_transformer, parse_task, require_fit
from ..models import resolve_model
from . import _output

_ARCHITECTURES = ", ".join(name for name in ARCHITECTURES if name != "clt")
_CERTIFICATE_WEIGHT = 3.0
_RECORDED = ("fvu", "l0", "frac_alive", "claimed_accuracy", "interaction")


def train(
    model: Annotated[str, _output.Model],
    task: Annotated[str, typer.Option(help="As max:k=4,v=16.")],
    out: Annotated[Path, typer.Option(help="The crosscoder's directory to write.")],
    sites: Annotated[
        str | None,
        typer.Option(
            help="Hook names, comma-separated, as blocks.0.hook_resid_mid (default: resid_pre of "
            "the first block, resid_mid and resid_post of all)."
        ),
    ] = None,
    positions: Annotated[
        str, typer.Option(help="last: of each sequence the last token; all: every token.")
    ] = "last",
    features: Annotated[int, typer.Option(help="Features, H.")] = 64,
    k: Annotated[int, typer.Option("--k", help="Active features of an input.")] = 4,
    architecture: Annotated[
        str, typer.Option(help=f"One of {_ARCHITECTURES}.")
    ] = "topk_crosscoder",
    steps: Annotated[int, typer.Option(help="Adam steps.")] = 1500,
    batch: Annotated[int, typer.Option(help="Activations a step.")] = 1024,
    learning_rate: Annotated[float, typer.Option(help="Adam's.")] = 2e-3,
    penalty: Annotated[
        float, typer.Option(help="Weight of the interaction penalty, in the bound's units (0.01).")
    ] = 0.0,
    certificate_weight: Annotated[
        float | None,
        typer.Option(
            help="Weight of the loss on theorem B's margin; 0: off (default: 3 where the last MLP "
            "is among the sites, else 0)."
        ),
    ] = None,
    balance: Annotated[
        float, typer.Option(help="Share of each batch with all labels equally likely.")
    ] = 0.5,
    samples: Annotated[
        int | None,
        typer.Option(help="Train on so many random sequences (default: all of the task)."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seeds initial weights and batches.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from OUT.checkpoint, if it is there.")
    ] = False,
    force: Annotated[bool, _output.Force] = False,
    json: Annotated[bool, _output.Json] = False,
) -> None:
    """Train a crosscoder on a model's activations (needs the extra 'train')."""
    check_crosscoder_destination(out, force=force)
    net = load_transformer(resolve_model(model))
    goal = parse_task(task)
    require_fit(goal, net)
    chosen = None if sites is None else tuple(site_of(name.strip()) for name in sites.split(","))
    weight = certificate_weight
    if weight is None:
        weight = _CERTIFICATE_WEIGHT if _can_certify(net, chosen) else 0.0
    settings = CrosscoderSettings(
        features=features,
        k=k,
        architecture=architecture,
        steps=steps,
        batch=batch,
        learning_rate=learning_rate,
        penalty=Penalty(penalty) if penalty else None,
        certificate=CertificateLoss(weight) if weight else None,
        balance=balance,
        seed=seed,
        device=device,
    )
    began = time.perf_counter()
    crosscoder, metrics = _trained(
        net, goal, chosen, positions, samples, settings, out, resume, force
    )
    seconds = time.perf_counter() - began
    recorded = {name: metrics[name] for name in _RECORDED if name in metrics}
    config = crosscoder.config
    kept = replace(
        config, metadata={**config.metadata, "model": Path(model).name, "metrics": recorded}
    )
    crosscoder = replace(crosscoder, config=kept)
    save_crosscoder(out, crosscoder, force=force)
    shutil.rmtree(_checkpoint_of(out), ignore_errors=True)
    if json:
        _output.print_json(
            {
                "crosscoder": str(out),
                "crosscoder_sha256": crosscoder.sha256,
                "model_sha256": net.sha256,
                "task": goal.name,
                "seed": seed,
                "steps": steps,
                "seconds_train": round(seconds, 3),
                "metrics": metrics,
            }
        )
        return
    _output.print_lines(_described(out, model, goal, crosscoder, metrics, seconds))


def _can_certify(net: Transformer, sites: tuple[Site, ...] | None) -> bool:
    """Whether the last MLP and the site it reads are there, as theorem B needs."""
    last = len(net.blocks) - 1
    read = f"blocks.{last}.hook_resid_mid"
    return net.blocks[last].d_mlp > 0 and (sites is None or read in [site.name for site in sites])


def _checkpoint_of(out: Path) -> Path:
    return out.with_name(out.name + ".checkpoint")


def _trained(
    net: Transformer,
    goal: Task,
    sites: tuple[Site, ...] | None,
    positions: str,
    samples: int | None,
    settings: CrosscoderSettings,
    out: Path,
    resume: bool,
    force: bool,
) -> tuple[Crosscoder, dict[str, Any]]:
    """The crosscoder, and its metrics on the rows of the source."""
    checkpoint = _checkpoint_of(out)
    try:
        # Imported late: they import torch, which takes seconds.
        from ..crosscoders.training import (
            TransformerSource,
            discard_checkpoint,
            stored_metrics,
            train_crosscoder,
        )

        if force and not resume:
            discard_checkpoint(checkpoint)
        source = TransformerSource.of_task(
            net,
            goal,
            samples=samples,
            seed=settings.seed,
            sites=sites,
            positions=positions,
            device=settings.device,
        )
        with _output.progress("training") as tick:
            crosscoder = train_crosscoder(
                source,
                settings,
                lambda now: tick(now.step, now.steps),
                checkpoint,
                resume=resume,
            )
        return crosscoder, stored_metrics(checkpoint)
    except (ValueError, ImportError, FloatingPointError) as error:
        raise UserError(str(error)) from None


def _described(
    out: Path,
    model: str,
    goal: Task,
    crosscoder: Crosscoder,
    metrics: dict[str, Any],
    seconds: float,
) -> dict[str, str]:
    """The result in words, a line each."""
    rows = {
        "crosscoder": f"{out} (sha256 {crosscoder.sha256})",
        "FVU": ", ".join(
            f"{one['fvu']:.3%} {name.removeprefix('blocks.').replace('hook_', '')}"
            for name, one in metrics["sites"].items()
        ),
        "features": f"{metrics['l0']:.2f} active on average; "
        f"{metrics['frac_alive']:.0%} of {crosscoder.config.d_sae} ever",
    }
    if "claimed_accuracy" in metrics:
        rows["claimed"] = (
            f"{metrics['claimed_accuracy']:.6f} by the reconstruction (not a bound); the model has "
            f"{metrics['model_accuracy']:.6f}"
        )
    if "interaction" in metrics:
        interaction = metrics["interaction"]
        rows["interaction"] = (
            f"{interaction['dominant_share']:.1%} of what a neuron gets is of one feature; about "
            f"{interaction['certified_share']:.1%} can be certified (an estimate, not a bound)"
        )
    rows["seconds"] = f"{seconds:.1f}"
    rows["next"] = f"compactproofs crosscoder prove {out} --model {model} --task {goal.name}"
    return rows
