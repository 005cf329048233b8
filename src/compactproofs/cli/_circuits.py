"""``compactproofs circuits``: what the parts of a model look like, and which of them matter."""

import json as json_module
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from .. import _proving
from ..explain.ablation import ablations
from ..explain.circuits import AXES, NAMES, TITLES, Circuits, circuits
from ..kernel import load_model, parse_task, require_fit
from ..models import resolve_model
from ..report import heat_map
from . import _output


def circuits_command(
    model: Annotated[str, _output.Model],
    task: Annotated[
        str | None,
        typer.Option(help="As max:k=4,v=64: ablate each circuit, and prove what remains."),
    ] = None,
    samples: Annotated[int, typer.Option(help="Sequences for each estimate.")] = 20_000,
    out: Annotated[
        Path | None, typer.Option(help="A folder for circuits.json and a heat map of each.")
    ] = None,
    force: Annotated[bool, _output.Force] = False,
    json: Annotated[bool, _output.Json] = False,
) -> None:
    """Show the QK, OV and direct circuits, and which of them the accuracy and the proof rest on."""
    names = ["circuits.json", *(f"{name}.svg" for name in NAMES)]
    network = load_model(resolve_model(model))
    goal = None if task is None else parse_task(task)
    if goal is not None:
        require_fit(goal, network)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        for name in names:
            _proving.check_destination(out / name, force=force)
    found = circuits(network)
    result = {"model": model, "model_sha256": network.sha256, **found.summary()}
    if goal is not None:
        with _output.progress("ablating") as tick:
            rows = list(ablations(network, goal, samples=samples, tick=tick))
        result["ablations"] = [asdict(row) for row in rows]
    if out is not None:
        text = json_module.dumps(result, indent=1) + "\n"
        _proving.write_file(out / "circuits.json", text.encode(), force=force)
        for name in NAMES:
            picture = heat_map_of(found, name)
            _proving.write_file(out / f"{name}.svg", picture.encode(), force=force)
    if json:
        _output.print_json(result)
        return
    for name in NAMES:
        one = result["circuits"][name]
        values = ", ".join(f"{s:.3g}" for s in one["singular_values"][:4])
        print(
            f"{name}  {TITLES[name]:<26} {' x '.join(map(str, one['shape'])):>9}"
            f"  {one['min']:>9.3f} to {one['max']:<9.3f} singular values {values}"
        )
    print()
    for fact, value in result["facts"].items():
        print(f"{value:>10.4f}  {fact}")
    if goal is not None:
        print_ablations(result["ablations"])
    if out is not None:
        print(f"\nwritten to {_output.printable(str(out))}: {', '.join(names)}")


def heat_map_of(found: Circuits, name: str) -> str:
    """The heat map of one circuit."""
    first, *rest = found.singular_values(name)
    ratio = f", sigma1/sigma2 = {first / rest[0]:.1f}" if rest and rest[0] > 0 else ""
    unit = "nats" if name in "AB" else "logits"
    return heat_map(getattr(found, name), f"{name}: {TITLES[name]}", *AXES[name], unit + ratio)


def print_ablations(rows: list[dict[str, object]]) -> None:
    """Estimates beside the bound that remains, the costliest circuit first."""
    share = {(row["component"], row["kind"]): float(str(row["accuracy"])) for row in rows}
    bound = share["none", "pessimal"]
    print(f"\naccuracy {share['none', 'none']:.4f} (sampled); proved {bound:.7f} (additive)\n")
    print("     sampled accuracy, replaced by    | replaced by its worst case")
    print("           0      mean   another's    |     proved   bound lost")
    for name in sorted(NAMES, key=lambda name: share[name, "pessimal"]):
        zero, mean, other = (share[name, kind] for kind in ("zero", "mean", "resample"))
        left = share[name, "pessimal"]
        print(
            f"{name}  {zero:>9.4f} {mean:>9.4f}   {other:>9.4f}    |"
            f"  {left:>9.7f}    {bound - left:>9.7f}"
        )
    print("sampled accuracies are estimates; the bound under the worst case is proved")
