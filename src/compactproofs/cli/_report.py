"""``compactproofs report``: one HTML page about a model, readable without a network."""

import json as json_module
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from .. import _ladder, _proving
from ..explain.ablation import ablations
from ..explain.circuits import NAMES, circuits
from ..explain.failures import Failures, failures
from ..kernel import MalformedError, Model, Proved, Task, load_model, parse_task, require_fit
from ..models import resolve_model
from ..report import Page, heat_map, interactive_frontier
from ..report import dimension_figure as dimension
from ..report import frontier_figure as bounds
from ..report._plots import plotly_script
from . import _output
from ._circuits import heat_map_of


def report(
    model: Annotated[str, _output.Model],
    task: Annotated[str, typer.Option(help="As max:k=4,v=64.")],
    out: Annotated[Path, typer.Option(help="The HTML file to write.")],
    frontier: Annotated[
        Path | None,
        typer.Option(help="A frontier.json of this model and task, instead of proving again."),
    ] = None,
    strategies: Annotated[
        str, typer.Option(help="all, families, or names separated by commas.")
    ] = "families",
    samples: Annotated[int, typer.Option(help="Sequences for each ablation.")] = 20_000,
    force: Annotated[bool, _output.Force] = False,
    json: Annotated[bool, _output.Json] = False,
) -> None:
    """Write a page: the claim in words, the frontier, the circuits, where the proof fails."""
    _proving.check_destination(out, force=force)
    network, goal = load_model(resolve_model(model)), parse_task(task)
    require_fit(goal, network)
    if frontier is not None:
        found = _stored(frontier, network, goal)
    else:
        chosen = _ladder.strategies(strategies)
        with _output.progress("proving") as tick:
            found = _ladder.measure(network, goal, chosen, tick, name=model)
    proved = _proving.prove(network, goal, "additive")
    page = Page(f"{model}: what is proved", f"{goal.name}, model sha256 {network.sha256}")
    _claim(page, proved, found)
    _frontier(page, found)
    with _output.progress("ablating") as tick:
        _circuits(page, network, goal, samples, tick)
    with _output.progress("looking for failures") as tick:
        lost = failures(network, goal, proved, tick=tick)
    _failures(page, lost, proved)
    _proving.write_file(out, page.html().encode(), force=force)
    if json:
        _output.print_json(
            {"report": str(out), "bound_decimal": proved.claim.bound_decimal, "task": goal.name}
        )
    else:
        print(f"written {_output.printable(str(out))}; open it in a browser, it loads nothing")


def _stored(path: Path, network: Model, goal: Task) -> dict[str, Any]:
    try:
        found = json_module.loads(path.read_text())
        sha256, name = found["model_sha256"], found["task"]
    except (ValueError, KeyError, TypeError):
        raise MalformedError(
            f"{path} is not one model's frontier.json: make it by compactproofs frontier --out"
        ) from None
    if sha256 != network.sha256 or name != goal.name:
        raise MalformedError(f"{path} is about {name} of model {str(sha256)[:16]}..., not this one")
    return found


def _claim(page: Page, proved: Proved, found: dict[str, Any]) -> None:
    claim, accuracy = proved.claim, found["accuracy"]
    page.section("Claim")
    page.tiles(
        [
            (claim.bound_decimal, "proved accuracy, at least"),
            (f"{accuracy['value']:.7f}", f"accuracy, {accuracy['kind']}"),
            (f"{found['trivial']['bound']:.4f}", "a constant answer"),
            (f"{claim.flops:,}", "FLOPs of the proof"),
            (f"{claim.unexplained_dimension:,}", "unexplained dimension"),
        ]
    )
    page.text(
        f"Proved: on at least {claim.correct:,} of the {claim.total:,} token sequences of the task "
        f"{claim.task}, the model's logit for the right answer strictly exceeds every other. The "
        "model is the real-number function of the stored weights; ties count as wrong."
    )
    page.text(
        "Not claimed: anything about other inputs or tasks, or about an evaluation of the model "
        "that rounds. Of the remaining "
        f"{claim.undecided:,} sequences nothing is proved; they are not all wrong."
    )
    page.code(f"compactproofs prove MODEL --task {claim.task} --theorem {claim.theorem}")


def _frontier(page: Page, found: dict[str, Any]) -> None:
    page.section("Bound against length")
    page.text(
        "Each point is a proof by one strategy: the further left, the shorter; the higher, the "
        "tighter. The steps join those that no other strategy beats."
    )
    page.interactive(interactive_frontier(found), plotly_script())
    page.figure(bounds(found).svg())
    page.figure(dimension(found).svg())
    points = sorted(found["points"], key=lambda p: (p["flops"], p["bound"]))
    best = set(found["pareto"])
    page.table(
        [
            "strategy",
            "family",
            "bound",
            "of accuracy",
            "FLOPs",
            "dimension",
            "search s",
            "verify s",
        ],
        [
            [
                p["name"],
                p["family"],
                f"{p['bound']:.7f}",
                f"{p['normalised']:.6f}",
                f"{p['flops']:,}",
                f"{p['unexplained_dimension']:,}",
                f"{p['seconds_search']:.2f}",
                f"{p['seconds_verify']:.2f}",
            ]
            for p in points
        ],
        marked=[n for n, p in enumerate(points) if p["name"] in best],
    )
    page.text("Marked: no other strategy has as good a bound with as few FLOPs.", faint=True)


def _circuits(page: Page, network: Model, goal: Task, samples: int, tick: Any) -> None:
    found = circuits(network)
    page.section("Circuits")
    page.figure(*(heat_map_of(found, name) for name in NAMES))
    page.table(
        ["what the explanation rests on", "value"],
        [[fact, f"{value:.4f}"] for fact, value in found.facts().items()],
    )
    page.heading("Which parts matter")
    page.text(
        "Estimates: the accuracy when a circuit is 0, its mean, or another sequence's (95 % "
        "intervals). Proved: the bound that remains when the circuit is replaced by its worst "
        "case; what it loses is what the proof owes to knowing that circuit."
    )
    rows = [asdict(row) for row in ablations(network, goal, samples=samples, tick=tick)]
    page.table(
        ["circuit", "replaced by", "accuracy", "low", "high", "loss (nats)", "kind"],
        [
            [
                row["component"],
                "its worst case" if row["proved"] else row["kind"],
                f"{row['accuracy']:.6f}",
                f"{row['low']:.6f}",
                f"{row['high']:.6f}",
                "-" if row["loss"] is None else f"{row['loss']:.4f}",
                "proved bound" if row["proved"] else "estimate",
            ]
            for row in rows
        ],
        marked=[n for n, row in enumerate(rows) if row["proved"]],
    )


def _failures(page: Page, lost: Failures, proved: Proved) -> None:
    page.section("Where the proof fails")
    if proved.claim.undecided == 0:
        page.text("Nowhere: every sequence is proved right.")
        return
    page.figure(
        heat_map(
            np.nan_to_num(1.0 - lost.share),
            "share of each class not proved right",
            "query token",
            "label",
        )
    )
    for title, rows in (
        ("Queries", lost.by_query),
        ("Labels", lost.by_label),
        ("Wrong outputs (among the examples)", lost.by_rival),
    ):
        page.heading(title)
        page.table(["token", "sequences"], [[i, f"{n:,}"] for i, n in rows[:12]])
    page.heading("Sequences")
    page.text(
        "Found by following the theorem's worst case in the classes that lose most. The verdict is "
        "decided by exact integers; the margin, logit of the label less the largest other, is a "
        "float64 number."
    )
    page.table(
        ["tokens", "label", "answer", "rival", "margin", "verdict"],
        [
            [
                " ".join(map(str, e.tokens)),
                e.label,
                e.answer,
                e.rival,
                f"{e.margin:.6f}",
                e.verdict,
            ]
            for e in lost.examples[:60]
        ],
    )
