"""``compactproofs frontier``: every strategy on one model, bound against length."""

import json as json_module
import math
from pathlib import Path
from typing import Annotated, Any

import typer

from .. import _ladder, _proving
from ..kernel import UserError, load_model, parse_task, require_fit
from ..models import resolve_model
from . import _output


def frontier(
    models: Annotated[
        list[str], typer.Argument(help="Bundled models or model directories.", metavar="MODEL...")
    ],
    task: Annotated[str, typer.Option(help="As max:k=4,v=64.")],
    strategies: Annotated[
        str, typer.Option(help="all, families, or names separated by commas.")
    ] = "all",
    out: Annotated[
        Path | None,
        typer.Option(help="A folder for frontier.json and the figures (made if missing)."),
    ] = None,
    force: Annotated[bool, _output.Force] = False,
    json: Annotated[bool, _output.Json] = False,
) -> None:
    """Prove with every strategy; print bound, length and which none beats.

    With several models the figure of faithfulness is drawn over them: the ratio of the QK
    circuit's first two singular values against the bound.
    """
    goal = parse_task(task)
    chosen = _ladder.strategies(strategies)
    names = ["frontier.json", "frontier.svg", "dimension.svg", "faithfulness.svg"]
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        for name in names:
            _proving.check_destination(out / name, force=force)
    networks = [(name, load_model(resolve_model(name))) for name in models]
    for _, network in networks:
        require_fit(goal, network)
    found: list[dict[str, Any]] = []
    for name, network in networks:
        with _output.progress(f"proving {name}") as tick:
            found.append(_ladder.measure(network, goal, chosen, tick, name=name))
    result: Any = found[0] if len(found) == 1 else {"models": found}
    if out is not None:
        text = json_module.dumps(result, indent=1) + "\n"
        _proving.write_file(out / "frontier.json", text.encode(), force=force)
        try:
            _draw(found, out, force=force)
        except UserError as error:  # the figures need an extra; the numbers are written
            _output.print_refusal(str(error))
    if json:
        _output.print_json(result)
        return
    for one in found:
        _print_table(one)
    if out is not None:
        print(f"written to {_output.printable(str(out))}: {', '.join(names)}")


def _draw(found: list[dict[str, Any]], out: Path, *, force: bool) -> None:
    from ..report import dimension_figure, faithfulness_figure, frontier_figure

    for name, figure in (
        ("frontier.svg", frontier_figure(found[0] if len(found) == 1 else found)),
        ("dimension.svg", dimension_figure(found[0] if len(found) == 1 else found)),
        ("faithfulness.svg", faithfulness_figure(found)),
    ):
        _proving.write_file(out / name, figure.svg().encode(), force=force)


def _print_table(found: dict[str, Any]) -> None:
    accuracy, ratio = found["accuracy"], found["qk_singular_values"]
    _output.print_lines(
        {
            "model": f"{found['model']} (sha256 {found['model_sha256'][:16]}...)",
            "task": found["task"],
            "accuracy": f"{accuracy['value']:.7f} ({accuracy['kind']}"
            + (
                ")"
                if accuracy["kind"] == "exact"
                else f", an estimate: 95 % within {accuracy['low']:.6f} .. {accuracy['high']:.6f})"
            ),
            "trivial": f"{found['trivial']['bound']:.7f} for a constant answer",
            "QK circuit": f"sigma1/sigma2 = {ratio[0] / ratio[1]:.1f}" if len(ratio) > 1 else "-",
        }
    )
    print(
        f"\n  {'bound':>10} {'/accuracy':>9} {'log2 FLOPs':>10} {'dimension':>10}"
        f" {'search s':>8} {'verify s':>8}  strategy"
    )
    best = set(found["pareto"])
    for p in sorted(found["points"], key=lambda p: (p["flops"], p["bound"])):
        print(
            f"{'*' if p['name'] in best else ' '} {p['bound']:>10.7f} {p['normalised']:>9.6f}"
            f" {math.log2(max(1, p['flops'])):>10.2f} {p['unexplained_dimension']:>10}"
            f" {p['seconds_search']:>8.2f} {p['seconds_verify']:>8.2f}  {p['name']}"
        )
    print("* no other strategy has as good a bound with as few FLOPs\n")
