"""``compactproofs train``: a toy model of a task, by one of two recipes."""

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from ..kernel import MaxOfK, Model, Task, Tick, Transformer, UserError, load_network, parse_task
from ..models import check_destination, save_model
from ..training import (
    TrainedModel,
    TrainSettings,
    default_settings,
    sampled_accuracy,
    train_max_of_k,
    train_transformer,
)
from . import _output


def train(
    task: Annotated[str, typer.Argument(help="As max:k=4,v=64, second:..., sum:... or fetch:...")],
    out: Annotated[Path, typer.Option(help="The model directory to write.")],
    seed: Annotated[int, typer.Option(help="Seeds initial weights and data.")] = 0,
    layers: Annotated[int | None, typer.Option(help="Layers (default 1).")] = None,
    heads: Annotated[int | None, typer.Option(help="Heads of a layer (default 1).")] = None,
    mlp: Annotated[
        int | None, typer.Option(help="ReLU neurons of a layer, 0 for none (default 64).")
    ] = None,
    d_model: Annotated[
        int | None, typer.Option(help="Width of the residual stream (default 32).")
    ] = None,
    d_head: Annotated[int | None, typer.Option(help="Width of a head (default d_model).")] = None,
    steps: Annotated[
        int | None, typer.Option(help="AdamW steps (default by recipe and task: 3000 to 5000).")
    ] = None,
    batch: Annotated[
        int | None, typer.Option(help="Sequences a step (default by recipe: 128 or 1024).")
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="AdamW's (default by recipe: 0.001 or 0.003).")
    ] = None,
    weight_decay: Annotated[
        float | None, typer.Option(help="AdamW's, of the second recipe alone (default 0.05).")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
    force: Annotated[bool, _output.Force] = False,
    json: Annotated[bool, _output.Json] = False,
) -> None:
    """Train a toy transformer (needs the extra 'train').

    A task max:... without --layers, --heads and --mlp takes the published recipe: one layer, one
    head, attention only. All else takes the second recipe: layers of attention and ReLU neurons;
    for sums it is wider by default and has more weight decay.
    """
    goal = parse_task(task)
    check_destination(out, force=force)
    given = {
        "d_model": d_model,
        "d_head": d_head,
        "steps": steps,
        "batch": batch,
        "learning_rate": learning_rate,
        "seed": seed,
        "device": device,
    }
    extra = {"n_layers": layers, "n_heads": heads, "d_mlp": mlp, "weight_decay": weight_decay}
    given, extra = _without_none(given), _without_none(extra)
    published = isinstance(goal, MaxOfK) and not {*extra} - {"weight_decay"}
    began = time.perf_counter()
    try:
        with _output.progress("training") as tick:
            trained, done = (_published if published else _transformer)(goal, given | extra, tick)
        seconds = time.perf_counter() - began
        tried = None if published else sampled_accuracy(trained, goal, seed)
    except (ValueError, ImportError, FloatingPointError) as error:
        raise UserError(str(error)) from None
    save_model(out, trained.config, trained.tensors, force=force)
    digest = load_network(out).sha256
    if json:
        _output.print_json(
            {
                "model": str(out),
                "model_sha256": digest,
                "task": goal.name,
                "seed": seed,
                "steps": done,
                "final_loss": trained.final_loss,
                "seconds_train": round(seconds, 3),
                **({"accuracy_sampled": tried.share, "sampled": tried.sequences} if tried else {}),
            }
        )
    else:
        lines = {
            "model": f"{out} (sha256 {digest})",
            "loss": f"{trained.final_loss:.6f} nats, mean of the last batches",
            "seconds": f"{seconds:.1f} to train",
        }
        if tried:
            lines["accuracy"] = f"{tried.right} of {tried.sequences} sequences: an estimate"
        next_step = f"compactproofs prove {out} --task {goal.name}{_theorem_for(load_network(out))}"
        _output.print_lines({**lines, "next": next_step})


def _theorem_for(network: Model | Transformer) -> str:
    """The option that names a theorem for this model; empty where the default is one."""
    if isinstance(network, Model):
        return ""
    shallow = len(network.blocks) == 1 and network.blocks[0].n_heads == 1
    return " --theorem crosscoder-d" if shallow else " --theorem cells"


def _without_none(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _published(goal: Task, given: dict[str, Any], tick: Tick) -> tuple[TrainedModel, int]:
    if "weight_decay" in given:
        raise ValueError(
            f"--weight-decay {given['weight_decay']} is not of the published recipe: add "
            "--layers 1 --mlp 0 to train the same shape by the other one"
        )
    settings = TrainSettings(k=goal.k, v=goal.v, **given)
    return train_max_of_k(settings, lambda now: tick(now.step, now.steps)), settings.steps


def _transformer(goal: Task, given: dict[str, Any], tick: Tick) -> tuple[TrainedModel, int]:
    settings = default_settings(goal, **given)
    return train_transformer(settings, lambda now: tick(now.step, now.steps)), settings.steps
