"""A crosscoder on a bigger network: four layers that predict characters; no certificate in sight.

    python benchmarks/bigger_network.py [--minutes 20] [--page docs/bigger-network.md]

Trains the model of ``character_model.py``, then crosscoders on its residual stream, without a
penalty and with penalties on features that meet in the neurons of one layer. Measures on held-out
text: reconstruction, what is left of the predictions, how much of a neuron's input the strongest
feature has, what is left if a neuron sees that feature alone, at how many neurons nothing interacts
(proved, by `compactproofs.kernel.independence`, of the codes of some tokens), and how the norm-ball
bound grows. Writes ``results/bigger_network.json``, after each crosscoder, and the tables between
the marks in a page, if there are marks. Models and measurements stay in ``out/bigger-network``,
where an interrupted run goes on; with ``--minutes`` it stops in time and the next one goes on.
"""

import argparse
import json
import math
import platform
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import character_model as characters
import network_measures as measures
import network_page as page
from compactproofs.crosscoders import Crosscoder, load_crosscoder, save_crosscoder
from compactproofs.crosscoders.training import (
    CrosscoderProgress,
    CrosscoderSettings,
    Penalty,
    TransformerSource,
    train_crosscoder,
)
from compactproofs.kernel import Transformer, load_network
from compactproofs.models import save_model

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "bigger_network.json"
PENALISED_LAYER = 2
PENALTIES = (0.0, 0.01, 0.1, 1.0)
"""Weights of the interaction penalty, each of a crosscoder."""


@dataclass(frozen=True)
class Sizes:
    """How large the crosscoders are, and on how much they are trained and measured."""

    features: int = 512
    k: int = 24
    steps: int = 1500
    batch: int = 512
    penalty_rows: int = 128
    """Rows of a batch that are penalised."""
    train_sequences: int = 2500
    held_out_sequences: int = 256


class OutOfTime(Exception):
    """The minutes are over; what was done is kept."""


def trained_network(
    text: characters.Text, recipe: characters.Recipe, out: Path, deadline: float
) -> Transformer:
    """The model in `out`, trained or trained on as far as time allows; raises OutOfTime."""
    began = time.monotonic()

    def tick(step: int, loss: float) -> None:
        spent = time.monotonic() - began
        print(f"model: step {step} of {recipe.steps}, {loss:.3f} nats, {spent:.0f} s", flush=True)

    with characters.clocked(out / "model.seconds"):
        tensors = characters.train(text, recipe, out / "training.safetensors", deadline, tick)
    if tensors is None:
        raise OutOfTime
    save_model(out / "model", characters.config_of(recipe), tensors, force=True)
    net = load_network(out / "model")
    if not isinstance(net, Transformer):
        raise SystemExit(f"{out / 'model'} is no transformer of several layers")
    return net


def source_of(net: Transformer, text: np.ndarray, most: int) -> TransformerSource:
    """Sequences of a text at all positions; the label is the character after each."""
    tokens, following = characters.windows(text, net.n_ctx, most)
    return TransformerSource(net, tokens, following[:, -1], positions="all")


def trained_crosscoder(
    source: TransformerSource, sizes: Sizes, penalty: Penalty | None, folder: Path, deadline: float
) -> Crosscoder:
    """The crosscoder in `folder`, or a new one, trained on as far as time allows."""
    settings = CrosscoderSettings(
        features=sizes.features,
        k=sizes.k,
        steps=sizes.steps,
        batch=sizes.batch,
        penalty=penalty,
        checkpoint_every=100,
    )
    if (folder / "crosscoder").exists():
        made = load_crosscoder(folder / "crosscoder")
        if made.config.metadata["settings"] == json.loads(json.dumps(settings.stated())) and (
            made.config.model_sha256 == source.model_sha256
        ):
            return made
    began = time.monotonic()

    def tick(progress: CrosscoderProgress) -> None:
        spent = time.monotonic() - began
        print(
            f"{folder.name}: step {progress.step} of {progress.steps}, FVU {progress.fvu:.4f}, "
            f"penalty {progress.penalty:.0f}, {progress.dead} dead, {spent:.0f} s",
            flush=True,
        )
        if time.monotonic() > deadline and progress.step < progress.steps:
            raise OutOfTime

    with characters.clocked(folder / "seconds"):
        crosscoder = train_crosscoder(source, settings, tick, folder / "run", resume=True)
    return load_crosscoder(save_crosscoder(folder / "crosscoder", crosscoder, force=True))


def compared(text: characters.Text, net: Transformer, recipe: characters.Recipe) -> dict[str, Any]:
    """The text and the model, with what it predicts beside what counts do."""
    parameters = sum(one.size for one in (net.W_E, net.W_pos, net.W_U))
    written = ("W_Q", "W_K", "W_V", "W_O", "W_in", "b_in", "W_out", "b_out")
    parameters += sum(getattr(block, name).size for block in net.blocks for name in written)
    return {
        "text": {
            "characters": len(text.trained),
            "held_out": len(text.held_out),
            "docstrings": text.docstrings,
            "sha256": text.sha256,
            "vocabulary": len(characters.CHARACTERS),
        },
        "model": {
            "recipe": asdict(recipe),
            "parameters": parameters,
            "sha256": net.sha256,
            "nats": characters.cross_entropies(net, text),
        },
    }


def run(
    out: Path,
    results: Path,
    recipe: characters.Recipe,
    sizes: Sizes,
    samples: measures.Samples,
    weights: tuple[float, ...] = PENALTIES,
    layer: int = PENALISED_LAYER,
    deadline: float = math.inf,
    library: Path | None = None,
) -> dict[str, Any]:
    """Train and measure; `results` is written after the model and after each crosscoder."""
    print("reading the library", flush=True)
    text = characters.library_text(library)
    net = trained_network(text, recipe, out, deadline)
    found: dict[str, Any] = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        **compared(text, net, recipe),
        "sizes": asdict(sizes),
        "samples": asdict(samples),
        "crosscoders": [],
    }
    found["model"]["seconds"] = characters.seconds_in(out / "model.seconds")
    write(results, found)
    source = source_of(net, text.trained, sizes.train_sequences)
    held_out = source_of(net, text.held_out, sizes.held_out_sequences)
    for weight in weights:
        site = f"blocks.{layer}.hook_resid_mid"
        penalty = Penalty(weight, site=site, rows=sizes.penalty_rows) if weight else None
        folder = out / f"crosscoder-{weight:g}"
        crosscoder = trained_crosscoder(source, sizes, penalty, folder, deadline)
        found["crosscoders"].append(
            {
                "penalty": weight,
                "site": site if weight else None,
                "seconds": characters.seconds_in(folder / "seconds"),
                **measured(net, crosscoder, held_out, samples, folder / "measured.json"),
            }
        )
        write(results, found)
    return found


def measured(
    net: Transformer,
    crosscoder: Crosscoder,
    held_out: TransformerSource,
    samples: measures.Samples,
    file: Path,
) -> dict[str, Any]:
    """What `file` holds, if it was measured of the same crosscoder and as much; else it is made."""
    asked = {"crosscoder": crosscoder.sha256, "held_out": len(held_out), **asdict(samples)}
    if file.exists():
        before = json.loads(file.read_text())
        if before["asked"] == asked:
            print(f"{file.parent.name}: measured before", flush=True)
            return before["found"]
    found = measures.measured(net, crosscoder, held_out, samples)
    file.write_text(json.dumps({"asked": asked, "found": found}) + "\n")
    return found


def write(results: Path, found: dict[str, Any]) -> None:
    results.write_text(json.dumps(found, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model-steps", type=int, default=characters.Recipe.steps)
    parser.add_argument("--steps", type=int, default=Sizes.steps, help="of each crosscoder")
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop then, to go on later")
    parser.add_argument("--penalties", type=float, nargs="+", default=list(PENALTIES))
    parser.add_argument("--layer", type=int, default=PENALISED_LAYER, help="that is penalised")
    parser.add_argument("--out", type=Path, default=characters.OUT)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "bigger-network.md")
    wanted = parser.parse_args()
    torch.set_num_threads(1)
    try:
        found = run(
            wanted.out,
            wanted.results,
            characters.Recipe(steps=wanted.model_steps),
            Sizes(steps=wanted.steps),
            measures.Samples(),
            tuple(wanted.penalties),
            wanted.layer,
            time.monotonic() + 60 * wanted.minutes,
        )
    except OutOfTime:
        sys.exit("time is up; run again to go on")
    page.fill_page(wanted.page, found)
    page.draw(found, wanted.page.with_name("bigger_network.svg"))


if __name__ == "__main__":
    main()
