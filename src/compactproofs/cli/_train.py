"""``compactproofs train``: a toy model of a task, by the published recipe."""

import time
from pathlib import Path
from typing import Annotated

import typer

from ..kernel import MaxOfK, TaskError, UserError, load_model, parse_task
from ..models import check_destination, save_model
from ..training import TrainSettings, train_max_of_k
from . import _output


def train(
    task: Annotated[str, typer.Argument(help="As max:k=4,v=64.")],
    out: Annotated[Path, typer.Option(help="The model directory to write.")],
    seed: Annotated[int, typer.Option(help="Seeds initial weights and data.")] = 0,
    d_model: Annotated[int, typer.Option(help="Width of the residual stream.")] = 32,
    d_head: Annotated[int | None, typer.Option(help="Width of the head (default d_model).")] = None,
    steps: Annotated[int, typer.Option(help="AdamW steps.")] = 3000,
    batch: Annotated[int, typer.Option(help="Sequences a step.")] = 128,
    learning_rate: Annotated[float, typer.Option(help="AdamW's learning rate.")] = 1e-3,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
    force: Annotated[bool, _output.Force] = False,
    json: Annotated[bool, _output.Json] = False,
) -> None:
    """Train a one-layer, one-head, attention-only transformer (needs the extra 'train')."""
    goal = parse_task(task)
    if not isinstance(goal, MaxOfK):
        raise TaskError(f"no training recipe for the task {task!r}")
    check_destination(out, force=force)
    began = time.perf_counter()
    try:
        settings = TrainSettings(
            k=goal.k,
            v=goal.v,
            d_model=d_model,
            d_head=d_head,
            steps=steps,
            batch=batch,
            learning_rate=learning_rate,
            seed=seed,
            device=device,
        )
        with _output.progress("training") as tick:
            trained = train_max_of_k(settings, lambda now: tick(now.step, now.steps))
    except (ValueError, ImportError, FloatingPointError) as error:
        raise UserError(str(error)) from None
    seconds = time.perf_counter() - began
    save_model(out, trained.config, trained.tensors, force=force)
    digest = load_model(out).sha256
    if json:
        _output.print_json(
            {
                "model": str(out),
                "model_sha256": digest,
                "task": goal.name,
                "seed": seed,
                "steps": steps,
                "final_loss": trained.final_loss,
                "seconds_train": round(seconds, 3),
            }
        )
    else:
        _output.print_lines(
            {
                "model": f"{out} (sha256 {digest})",
                "loss": f"{trained.final_loss:.6f} nats, mean of the last batches",
                "seconds": f"{seconds:.1f} to train",
                "next": f"compactproofs prove {out} --task {goal.name}",
            }
        )
