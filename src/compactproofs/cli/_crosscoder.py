"""``compactproofs crosscoder ...``: the group, and what its commands share."""

from pathlib import Path

import typer

from ..crosscoders import Crosscoder, load_crosscoder, require_own_crosscoder
from ..kernel import Task, Transformer, load_transformer, parse_task, require_fit
from ..models import resolve_model

group = typer.Typer(
    help="Crosscoders: train one, encode the inputs, claim an accuracy, and prove one.",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
)

CrosscoderDirectory = typer.Argument(help="A crosscoder's directory (cfg.json, safetensors).")
OfModel = typer.Option("--model", help="The model it is of: bundled, or a directory.")
OfTask = typer.Option("--task", help="As max:k=4,v=16.")
Active = typer.Option("--k", help="At most so many features an input (default: as trained).")
Limit = typer.Option(help="Inputs looked at; if there are no more than that, all.")
Seed = typer.Option(help="Of the sample, where not all inputs are looked at.")


def load(crosscoder: Path, model: str, task: str) -> tuple[Crosscoder, Transformer, Task]:
    """A crosscoder folded to raw units, the model it is of, and a task that fits the model."""
    net = load_transformer(resolve_model(model))
    goal = parse_task(task)
    require_fit(goal, net)
    own = load_crosscoder(crosscoder).fold()
    require_own_crosscoder(own.config, net)
    return own, net, goal
