"""``compactproofs sweep``: train and prove over many seeds."""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from .. import _sweep
from . import _output


def sweep(
    task: Annotated[str, typer.Argument(help="As max:k=4,v=64.")],
    out: Annotated[Path, typer.Option(help="Results, a JSON line for each seed; resumed.")],
    seeds: Annotated[str, typer.Option(help="As 0-150 or 0,3,7-9.")] = "0-9",
    strategies: Annotated[
        str, typer.Option(help="families, refined, all, or names; separated by commas.")
    ] = "families",
    processes: Annotated[int, typer.Option(help="Seeds at the same time.")] = 1,
    steps: Annotated[int, typer.Option(help="AdamW steps.")] = 3000,
    d_model: Annotated[int, typer.Option(help="Width of the residual stream.")] = 32,
    samples: Annotated[
        int, typer.Option(help="Sequences that estimate the accuracy where brute force cannot.")
    ] = 1_000_000,
    models: Annotated[
        Path | None,
        typer.Option(help="Keep trained models in this folder, and reuse those that it has."),
    ] = None,
    skip_corrupt: Annotated[
        bool, typer.Option("--skip-corrupt", help="Leave out lines of OUT that cannot be read.")
    ] = False,
    json: Annotated[bool, _output.Json] = False,
) -> None:
    """Train a model for each seed, prove with each strategy, append one line (needs 'train')."""
    settings = _sweep.SweepSettings(
        task=task, steps=steps, d_model=d_model, strategies=strategies, samples=samples
    )
    wanted = _sweep.parse_seeds(seeds)
    if not out.parent.is_dir():
        raise NotADirectoryError(f"cannot write {out}: {out.parent} is not a directory")
    with _output.progress("sweeping") as tick:
        tick(0, len(wanted))
        for ran, _ in enumerate(
            _sweep.sweep(
                settings,
                wanted,
                out,
                processes=processes,
                skip_corrupt=skip_corrupt,
                models=models,
            ),
            start=1,
        ):
            tick(ran, len(wanted))
    results = [
        r for r in _sweep.read_results(out, skip_corrupt=skip_corrupt) if r["seed"] in set(wanted)
    ]
    table = summary(results)
    if json:
        _output.print_json({"out": str(out), "seeds": len(results), "families": table})
        return
    print(f"{len(results)} seeds in {_output.printable(str(out))}\n")
    print(f"{'best of each seed / accuracy':<36} {'mean':>8} {'std':>8} {'log2 FLOPs':>10}")
    for row in table:
        print(
            f"{row['family']:<36} {row['mean']:>8.4f} {row['std']:>8.4f} {row['log2_flops']:>10.2f}"
        )


def summary(results: list[dict[str, object]]) -> list[dict[str, float | int | str]]:
    """For each family the best normalised bound of each seed: mean, sample std, mean log2 FLOPs."""
    best: dict[str, list[tuple[float, int, int]]] = {}
    for result in results:
        of_seed: dict[str, tuple[float, int, int]] = {}
        for p in result["points"]:  # type: ignore[attr-defined]
            row = (p["normalised"], p["flops"], p["unexplained_dimension"])
            if p["family"] not in of_seed or row[0] > of_seed[p["family"]][0]:
                of_seed[p["family"]] = row
        for family, row in of_seed.items():
            best.setdefault(family, []).append(row)
    rows: list[dict[str, float | int | str]] = []
    for family, found in best.items():
        bounds = np.array([b for b, _, _ in found])
        rows.append(
            {
                "family": family,
                "seeds": len(found),
                "mean": float(bounds.mean()),
                "std": float(bounds.std(ddof=1)) if len(found) > 1 else 0.0,
                "flops": float(np.mean([float(f) for _, f, _ in found])),
                "log2_flops": float(np.mean([np.log2(float(f)) for _, f, _ in found])),
                "unexplained_dimension": float(np.mean([float(u) for _, _, u in found])),
            }
        )
    return sorted(rows, key=lambda row: float(row["log2_flops"]))
