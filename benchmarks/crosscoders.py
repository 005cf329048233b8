"""Crosscoder theorems on toy models: bounds, lengths and seconds; the penalty and what it buys.

    python benchmarks/crosscoders.py [--only max4v16 penalty ...]

Models and crosscoders are trained here by their recipes (kept in ``out/``, not committed). One line
for each measurement in ``results/crosscoders.jsonl``; those that are there are not made again.
Writes ``docs/crosscoder-measurements.md`` and ``docs/crosscoder-penalty.svg`` from them.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from compactproofs import prove
from compactproofs.crosscoders import (
    Crosscoder,
    claim_of,
    inputs_of,
    load_crosscoder,
    save_crosscoder,
)
from compactproofs.crosscoders.proofs import additive_witness, cell_witness
from compactproofs.crosscoders.telescoping import telescoping_witness
from compactproofs.crosscoders.training import (
    CertificateLoss,
    CrosscoderSettings,
    Penalty,
    TransformerSource,
    train_crosscoder,
)
from compactproofs.kernel import (
    Proved,
    Transformer,
    brute_force_flops,
    load_transformer,
    parse_task,
)
from compactproofs.models import resolve_model, save_model
from compactproofs.training import default_settings, train_transformer

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "crosscoders.jsonl"
KEPT = ROOT / "out" / "crosscoder-models"
SEEDS = range(5)

MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "max4v16": ("max:k=4,v=16", {}),
    "max4v16-attn": ("max:k=4,v=16", {"d_mlp": 0}),
    "max8v32": ("max:k=8,v=32", {}),
    "fetch4v8": ("fetch:k=4,v=8", {}),
    "fetch4v16": ("fetch:k=4,v=16", {}),
    "sum2v31": ("sum:k=2,v=31", {}),
    "second4v12x2": ("second:k=4,v=12", {"n_layers": 2}),
}
"""Task, and what differs from the recipe's settings for it."""

# What `compactproofs crosscoder train` does without options is the kind "certificate" below.
TOY = CrosscoderSettings(architecture="topk_crosscoder", features=64, k=4, steps=1500)
CROSSCODERS = {
    "plain": TOY,
    "certificate": replace(TOY, certificate=CertificateLoss(3.0), balance=0.5),
    "k=1": replace(TOY, features=512, k=1),
}
STATIC: dict[str, Any] = {"cells": "one", "anchors": False, "signs": False}
"""Theorem B in its plain form: one base point, static tables of single features."""
PENALTIES = (0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)


def model_of(name: str, seed: int) -> tuple[Transformer, str]:
    """The trained model, made if it is not there, and its task."""
    task, settings = MODELS[name]
    path = KEPT / f"{name}-seed{seed}"
    if not path.exists():
        trained = train_transformer(default_settings(parse_task(task), seed=seed, **settings))
        save_model(path, trained.config, trained.tensors)
    return load_transformer(path), task


def crosscoder_of(name: str, seed: int, kind: str, settings: CrosscoderSettings) -> Crosscoder:
    """A crosscoder of that model, trained if it is not there."""
    path = ROOT / "out" / "crosscoders" / f"{name}-seed{seed}-{kind}"
    if not path.exists():
        net, task = model_of(name, seed)
        source = TransformerSource.of_task(net, parse_task(task))
        began = time.process_time()
        trained = train_crosscoder(source, replace(settings, seed=seed))
        seconds = time.process_time() - began
        config = trained.config
        timed = replace(config, metadata={**config.metadata, "cpu_seconds": round(seconds, 1)})
        save_crosscoder(path, replace(trained, config=timed))
    return load_crosscoder(path)


def measured(proof: Callable[[], Proved], net: Transformer, task: str) -> dict[str, Any]:
    """What a proof gives, and how long it is."""
    began = time.process_time()
    proved = proof()
    seconds = time.process_time() - began
    claim = proved.claim
    longest = brute_force_flops(net, parse_task(task))
    return {
        "correct": str(claim.correct),
        "total": str(claim.total),
        "bound": claim.bound_decimal,
        "flops": claim.flops,
        "times_shorter_than_brute_force": longest / claim.flops,
        "cpu_seconds": round(seconds, 2),
    }


def dominant_share(net: Transformer, task: str, crosscoder: Crosscoder) -> float:
    """Share of sum |p| that the strongest feature carries, over neurons and inputs, at the MLP."""
    from compactproofs.crosscoders.sparse_codes import crosscoder_codes

    codes = crosscoder_codes(net, parse_task(task), crosscoder, crosscoder.config.k or 4)
    reach = np.append(codes.decoder @ net.blocks[-1].W_in, np.zeros((1, net.blocks[-1].d_mlp)), 0)
    strongest = total = 0.0
    for start in range(0, len(codes.feature), 4096):
        some = slice(start, start + 4096)
        p = np.abs(codes.value[some, :, None] * reach[codes.feature[some]])
        strongest += float(p.max(axis=1).sum())
        total += float(p.sum())
    return strongest / total


def toys() -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """Max-of-4 with an MLP: claims, and theorems A to D, over five seeds."""
    for seed in SEEDS:
        for kind in ("plain", "certificate"):
            key = f"max4v16 seed {seed} {kind}"

            def parts(seed: int = seed, kind: str = kind) -> tuple[Transformer, str, Crosscoder]:
                net, task = model_of("max4v16", seed)
                return net, task, crosscoder_of("max4v16", seed, kind, CROSSCODERS[kind])

            def claim(parts: Any = parts) -> dict[str, Any]:
                net, task, own = parts()
                found = claim_of(net, own, *inputs_of(parse_task(task), 1 << 20))
                return {
                    "claimed": found.claimed,
                    "inputs": found.inputs,
                    "right": found.right,
                    "fvu": {site.site: site.fvu for site in found.sites},
                    "ball_radius_max": found.ball_radius_max,
                    "dominant_share": dominant_share(net, task, own),
                    "cpu_seconds_train": own.config.metadata["cpu_seconds"],
                }

            yield f"{key}: claim", claim
            for theorem, settings in (
                ("B plain", STATIC),
                ("B", {"cells": "label"}),
                ("C label", {"cells": "label"}),
                ("C support", {"cells": "support"}),
                ("C label, 2 features more", {"cells": "label", "extra": 2}),
                ("C support, 2 features more", {"cells": "support", "extra": 2}),
            ):

                def proof(
                    parts: Any = parts, theorem: str = theorem, settings: Any = settings
                ) -> dict[str, Any]:
                    net, task, own = parts()
                    search = additive_witness if theorem[0] == "B" else cell_witness
                    found = search(net, parse_task(task), own, k=4, values=64, **settings)
                    cells = len(found.witness.bias)
                    return measured(found.prove, net, task) | {"cells": cells}

                yield f"{key}: {theorem}", proof
        yield f"max4v16 seed {seed}: A", lambda seed=seed: telescoped("max4v16", seed)
        yield f"max4v16 seed {seed}: D", lambda seed=seed: by_cells("max4v16", seed)
        yield f"max4v16 seed {seed}: brute force", lambda seed=seed: brute("max4v16", seed)


def telescoped(name: str, seed: int) -> dict[str, Any]:
    """Theorem A by the plain crosscoder."""
    net, task = model_of(name, seed)
    own = crosscoder_of(name, seed, "plain", CROSSCODERS["plain"])
    witness = telescoping_witness(net, parse_task(task), own, active=4)
    return measured(
        lambda: prove(net, parse_task(task), "crosscoder-a", witness=witness), net, task
    )


def by_cells(name: str, seed: int, theorem: str = "crosscoder-d", **options: Any) -> dict[str, Any]:
    """Theorem D, or cells through depth, with their own search; seconds include it."""
    net, task = model_of(name, seed)
    cells = 0

    def proof() -> Proved:
        nonlocal cells
        proved = prove(net, parse_task(task), theorem, options)
        own: Any = proved.witness
        claimed = own.range_low if theorem == "crosscoder-d" else np.unique(own.cell[own.cell >= 0])
        cells = len(claimed)
        return proved

    return measured(proof, net, task) | {"cells": cells, "seconds_include_search": True}


def brute(name: str, seed: int) -> dict[str, Any]:
    """Every sequence by a forward pass."""
    net, task = model_of(name, seed)
    return measured(lambda: prove(net, parse_task(task), "brute-force"), net, task)


def others() -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """The other tasks, and attention alone, where D stands beside the additive theorem."""
    yield "max8v32 seed 0: D", lambda: by_cells("max8v32", 0)
    yield "max8v32 seed 0: D without counting", lambda: by_cells("max8v32", 0, bins=0)
    for name in ("fetch4v8", "fetch4v16"):
        yield f"{name} seed 0: D", lambda name=name: by_cells(name, 0)

        def additive(name: str = name) -> dict[str, Any]:
            net, task = model_of(name, 0)
            own = crosscoder_of(name, 0, "k=1", CROSSCODERS["k=1"])
            found = additive_witness(net, parse_task(task), own, k=1, **STATIC)
            return measured(found.prove, net, task)

        yield f"{name} seed 0: B with one feature", additive
    for seed in SEEDS:
        yield f"max4v16-attn seed {seed}: D", lambda seed=seed: by_cells("max4v16-attn", seed)
        yield f"max4v16-attn seed {seed}: additive", lambda seed=seed: attention_only(seed)
    yield "max-of-4: D", lambda: bundled("crosscoder-d")
    yield "max-of-4: additive", lambda: bundled("additive")
    for seed in SEEDS:
        yield f"sum2v31 seed {seed}: D", lambda seed=seed: by_cells("sum2v31", seed)
        for most in (249, 150, 100):

            def few(seed: int = seed, most: int = most) -> dict[str, Any]:
                return by_cells("sum2v31", seed, cells=most)

            yield f"sum2v31 seed {seed}: D, {most} cells", few
    yield "sum2v31 seed 0: brute force", lambda: brute("sum2v31", 0)
    for seed in range(3):
        key = f"second4v12x2 seed {seed}: cells"
        yield key, lambda seed=seed: by_cells("second4v12x2", seed, "cells")

        def relaxed(seed: int = seed) -> dict[str, Any]:
            return by_cells("second4v12x2", seed, "cells", relaxed=2)

        yield f"{key}, relaxed", relaxed
    yield "second4v12x2 seed 0: brute force", lambda: brute("second4v12x2", 0)


def attention_only(seed: int) -> dict[str, Any]:
    """The additive theorem on a model of attention alone."""
    from compactproofs.kernel import load_model

    net, task = model_of("max4v16-attn", seed)
    model = load_model(KEPT / f"max4v16-attn-seed{seed}")
    return measured(lambda: prove(model, parse_task(task), "additive"), net, task)


def bundled(theorem: str) -> dict[str, Any]:
    """A theorem on the bundled max-of-4, with 64 tokens."""
    from compactproofs.kernel import load_model

    model, task = load_model(resolve_model("max-of-4")), "max:k=4,v=64"
    return measured(lambda: prove(model, parse_task(task), theorem), model.as_transformer(), task)


def penalties() -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """Dominant share and theorem B as the interaction penalty grows."""
    for weight in PENALTIES:
        for seed in SEEDS:

            def one(weight: float = weight, seed: int = seed) -> dict[str, Any]:
                net, task = model_of("max4v16", seed)
                settings = replace(TOY, penalty=Penalty(weight)) if weight else TOY
                kind = f"penalty {weight:g}" if weight else "plain"
                own = crosscoder_of("max4v16", seed, kind, settings)
                found = additive_witness(net, parse_task(task), own, k=4, **STATIC)
                claim = claim_of(net, own, *inputs_of(parse_task(task), 1 << 20))
                return measured(found.prove, net, task) | {
                    "dominant_share": dominant_share(net, task, own),
                    "fvu_mid": claim.sites[1].fvu,
                    "claimed": claim.claimed,
                }

            yield f"penalty {weight:g} seed {seed}", one


PARTS = {"max4v16": toys, "others": others, "penalty": penalties}


def known() -> dict[str, dict[str, Any]]:
    """What was measured already, by its key."""
    if not RESULTS.exists():
        return {}
    rows = map(json.loads, RESULTS.read_text().splitlines())
    return {row["key"]: row for row in rows}


def main() -> None:
    """Measure what is missing, and write the page."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--only", nargs="*", choices=[*PARTS], default=[*PARTS])
    chosen = arguments.parse_args().only
    RESULTS.parent.mkdir(exist_ok=True)
    for part in chosen:
        for key, make in PARTS[part]():
            if key in known():
                continue
            row = {"key": key, **make()}
            print(json.dumps(row), flush=True)
            with RESULTS.open("a") as file:
                file.write(json.dumps(row) + "\n")
    page = Path(__file__).with_name("crosscoder_page.py")
    subprocess.run([sys.executable, str(page)], check=True, env=os.environ)


if __name__ == "__main__":
    main()
