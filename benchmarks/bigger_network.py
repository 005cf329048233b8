"""A crosscoder on a bigger network: four layers that predict characters; no certificate in sight.

    python benchmarks/bigger_network.py [--minutes 20] [--page docs/crosscoders.md]

Trains the model of ``character_model.py``, then crosscoders on its residual stream, without a
penalty and with penalties on features that meet in the neurons of one layer. Measures on held-out
text: reconstruction, what is left of the predictions, how much of a neuron's input the strongest
feature has, what is left if a neuron sees that feature alone, at how many neurons nothing interacts
(proved, by `compactproofs.kernel.independence`, of the codes of some tokens), and how the norm-ball
bound grows. Writes ``results/bigger_network.json``, after each crosscoder, and the tables between
the marks in a page, if there are marks. Models stay in ``out/bigger-network``, where an interrupted
run goes on; with ``--minutes`` it stops in time and the next one goes on.
"""

import argparse
import json
import math
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import character_model as characters
import network_measures as measures
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
BEGIN, END = "<!-- made by benchmarks/bigger_network.py -->", "<!-- end -->"
PENALISED_LAYER = 2
PENALTIES = (0.0, 0.1, 1.0)
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

    with characters.clocked(folder.with_suffix(".seconds")):
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
                "seconds": characters.seconds_in(folder.with_suffix(".seconds")),
                **measures.measured(net, crosscoder, held_out, samples),
            }
        )
        write(results, found)
    return found


def write(results: Path, found: dict[str, Any]) -> None:
    results.write_text(json.dumps(found, indent=1) + "\n")


def tables(found: dict[str, Any]) -> str:
    """What was found, as Markdown."""
    text, model, made = found["text"], found["model"], found["crosscoders"]
    recipe, nats = model["recipe"], model["nats"]
    weights = [f"{one['penalty']:g}" for one in made]
    lines = [
        f"Text: {text['docstrings']:,} docstrings of Python {found['python']}, "
        f"{text['characters']:,} characters to train on and {text['held_out']:,} held out "
        f"(every {characters.HELD_OUT_EVERY}th file); {text['vocabulary']} different ones. "
        f"Model: {recipe['n_layers']} layers, {recipe['n_heads']} heads of "
        f"{recipe['d_model'] // recipe['n_heads']}, d = {recipe['d_model']}, {recipe['d_mlp']} "
        f"neurons a layer, context {recipe['n_ctx']}, {model['parameters']:,} parameters, "
        f"{recipe['steps']:,} steps of {recipe['batch']} sequences, {minutes(model)} processor "
        "minutes.",
        "",
        "| nats a character, held out | unigrams | bigrams | trigrams | the model | "
        "its last position |",
        "| --- | --- | --- | --- | --- | --- |",
        f"| | {nats['unigram']:.3f} | {nats['bigram']:.3f} | {nats['trigram']:.3f} | "
        f"{nats['model']:.3f} | {nats['model_at_last_position']:.3f} |",
        "",
        f"Crosscoders: {found['sizes']['features']} features, BatchTopK with "
        f"k = {found['sizes']['k']}, {found['sizes']['steps']:,} steps of "
        f"{found['sizes']['batch']} positions, "
        + ", ".join(minutes(one) for one in made)
        + f" processor minutes; measured on {made[0]['rows']:,} held-out positions. Penalty "
        f"(weight in the head of each column): on block {penalised(made)}.",
        "",
        headed("site: unexplained variance, then share of cross-entropy recovered", weights * 2),
    ]
    for site in made[0]["sites"]:
        fvu = [f"{100 * one['sites'][site]:.1f} %" for one in made]
        kept = [f"{one['patched'][site]['ce_loss_score']:.3f}" for one in made]
        lines.append(row(f"`{site.removeprefix('blocks.')}`", fvu + kept))
    lines += ["", headed("over all sites", weights)]
    lines.append(row("active features of a position, mean", [f"{x['l0']:.1f}" for x in made]))
    lines.append(row("features that are never active", [str(x["never_active"]) for x in made]))
    lines.append(
        row(
            "right next characters (model: " + f"{100 * made[0]['model_accuracy']:.1f} %), "
            "read off the last reconstruction",
            [f"{100 * x['claimed_accuracy']:.1f} %" for x in made],
        )
    )
    lines += ["", headed("MLP of block; penalty", [f"{n}; {w}" for n in blocks(made) for w in weights])]
    for name, of in LAYER_ROWS.items():
        lines.append(row(name, [of(one["layers"][n]) for n in blocks(made) for one in made]))
    lines += ["", *ball_table(made, weights)]
    return "\n".join(lines)


LAYER_ROWS: dict[str, Callable[[dict[str, Any]], str]] = {
    "dominant share": lambda x: f"{x['dominant_share']:.3f}",
    "the same of what is pulled in all": lambda x: f"{x['dominant_mass']:.3f}",
    "kept with all features": lambda x: f"{x['fidelity']['all']['fidelity']:.2f}",
    "kept with the strongest feature": lambda x: f"{x['fidelity']['strongest']['fidelity']:.2f}",
    "kept with all others": lambda x: f"{x['fidelity']['others']['fidelity']:.2f}",
    "proved: on": lambda x: percent(x, "on"),
    "proved: off": lambda x: percent(x, "off"),
    "proved: one feature alone": lambda x: percent(x, "alone"),
    "proved: dominated": lambda x: percent(x, "dominated"),
    "interacting": lambda x: percent(x, "interacting"),
}


def ball_table(made: list[dict[str, Any]], weights: list[str]) -> list[str]:
    """How the bound grows from the embedding on, and what later starts leave of it."""
    balls = [one["ball"] for one in made]
    lines = [headed("median radius: true, then bound", weights * 2)]
    for place, site in enumerate(balls[0]["sites"]):
        true = [f"{one['distance'][place]:.2f}" for one in balls]
        bound = [f"{one['starts'][0]['radius'][place]:.3g}" for one in balls]
        lines.append(row(f"`{site.removeprefix('blocks.')}`", true + bound))
    for name, key in (
        ("margin of the logits, median", "margin"),
        ("the largest", "largest_margin"),
    ):
        lines.append(
            row(name, [f"{one['starts'][0][key]:.2f}" for one in balls] + [""] * len(balls))
        )
    for name, key in (("lost to the radius, median", "lost"), ("the smallest", "smallest_lost")):
        lines.append(
            row(name, [""] * len(balls) + [f"{one['starts'][0][key]:.3g}" for one in balls])
        )
    lines += ["", headed(f"of {balls[0]['tokens']:,} positions certified if exact up to", weights)]
    for place, site in enumerate(balls[0]["sites"]):
        counts = [str(one["starts"][place]["certified"]) for one in balls]
        lines.append(row(f"`{site.removeprefix('blocks.')}`", counts))
    return lines


def draw(found: dict[str, Any], file: Path) -> None:
    """The bound from the embedding on, beside the true distance, as SVG."""
    from matplotlib import pyplot as plt

    plt.rcParams.update({"svg.hashsalt": "bigger network", "svg.fonttype": "none"})
    figure, axes = plt.subplots(figsize=(6.4, 3.6))
    for number, one in enumerate(found["crosscoders"]):
        ball, name = one["ball"], f"penalty {one['penalty']:g}"
        sites = [
            site.removeprefix("blocks.").replace(".hook_resid_", " ") for site in ball["sites"]
        ]
        color = f"C{number}"
        axes.plot(sites, ball["starts"][0]["radius"], "o-", color=color, label=f"bound, {name}")
        axes.plot(sites, ball["distance"], "o:", color=color, label=f"true, {name}")
        axes.plot(sites[-1:], [ball["starts"][0]["allowed"]], "x", color=color, markersize=9)
    axes.set(
        yscale="log",
        ylabel="distance, median of positions",
        xlabel="site (x: what the margin allows)",
    )
    axes.legend(fontsize=8, frameon=False)
    figure.tight_layout()
    figure.savefig(file, metadata={"Date": None, "Creator": None})
    plt.close(figure)


def headed(name: str, columns: list[str]) -> str:
    return row(name, columns) + "\n" + "| " + " | ".join(["---"] * (1 + len(columns))) + " |"


def row(name: str, values: list[str]) -> str:
    return "| " + " | ".join([name, *values]) + " |"


def percent(layer: dict[str, Any], kind: str) -> str:
    return f"{100 * layer['neurons_and_codes']['shares'][kind]:.1f} %"


def minutes(what: dict[str, Any]) -> str:
    return f"{what['seconds'] / 60:.0f}"


def blocks(made: list[dict[str, Any]]) -> range:
    return range(len(made[0]["layers"]))


def penalised(made: list[dict[str, Any]]) -> str:
    """The number of the block whose neurons are penalised, or a dash."""
    return next((one["site"].split(".")[1] for one in made if one["site"]), "-")


def fill_page(page: Path, found: dict[str, Any]) -> None:
    """Put the tables between the marks of a page, if it has them."""
    text = page.read_text() if page.exists() else ""
    if BEGIN in text:
        start = text.index(BEGIN)
        end = text.index(END, start)
        text = text[:start] + BEGIN + "\n\n" + tables(found) + "\n\n" + text[end:]
        page.write_text(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model-steps", type=int, default=characters.Recipe.steps)
    parser.add_argument("--steps", type=int, default=Sizes.steps, help="of each crosscoder")
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop then, to go on later")
    parser.add_argument("--penalties", type=float, nargs="+", default=list(PENALTIES))
    parser.add_argument("--layer", type=int, default=PENALISED_LAYER, help="that is penalised")
    parser.add_argument("--out", type=Path, default=characters.OUT)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "crosscoders.md")
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
    fill_page(wanted.page, found)
    draw(found, wanted.page.with_name("bigger_network.svg"))


if __name__ == "__main__":
    main()
