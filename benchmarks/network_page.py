"""What `bigger_network.py` found, as Markdown tables and a picture."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import character_model as characters

BEGIN, END = "<!-- made by benchmarks/bigger_network.py -->", "<!-- end -->"


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
            f"right next characters (model: {100 * made[0]['model_accuracy']:.1f} %), "
            "read off the last reconstruction",
            [f"{100 * x['claimed_accuracy']:.1f} %" for x in made],
        )
    )
    lines += last_mlp_rows(made)
    lines += ["", headed("MLP of block", ["penalty", *LAYER_COLUMNS])]
    for layer in range(recipe["n_layers"]):
        for one, weight in zip(made, weights, strict=True):
            cells = [of(one["layers"][layer]) for of in LAYER_COLUMNS.values()]
            lines.append(row(str(layer), [weight, *cells]))
    lines += ["", *ball_table(made, weights), "", in_words(made[0])]
    return "\n".join(lines)


def in_words(made: dict[str, Any]) -> str:
    """What the last tables say of one crosscoder."""
    ball = made["ball"]
    radius, allowed = ball["starts"][0]["radius"], ball["starts"][0]["allowed"]
    first, last = ball["starts"][0]["certified"], ball["starts"][-1]["certified"]
    return (
        f"With penalty {made['penalty']:g} the median bound begins at {radius[0]:.2f} and ends at "
        f"{radius[-1]:.3g}. A median margin allows {allowed:.2f}, so the bound is "
        f"{radius[-1] / allowed:.1e} times too large, and {first} of {ball['tokens']:,} positions "
        f"are certified. Even with the true distance at the last site, {ball['distance'][-1]:.2f}, "
        f"which only running the model gives, they would be {last}."
    )


def last_mlp_rows(made: list[dict[str, Any]]) -> list[str]:
    """Theorem B at the last MLP, everything before it being exact."""
    found = [one["theorem_b_of_last_mlp"] for one in made]
    alone = [f"{100 * one['sum_of_singles_accuracy']:.1f} %" for one in found]
    slack = [f"{one['certified_slack']:.0f}" for one in found]
    share = [f"{100 * one['certified_share']:.1f} %" for one in found]
    return [
        row("right with single features' responses in the last MLP added up", alone),
        row("slack of theorem B there, logits, mean", slack),
        row("theorem B there, estimate: certified, all before being exact", share),
    ]


LAYER_COLUMNS: dict[str, Callable[[dict[str, Any]], str]] = {
    "dominant share": lambda x: f"{x['dominant_share']:.3f}",
    "by size": lambda x: f"{x['dominant_mass']:.3f}",
    "kept: all features": lambda x: f"{x['fidelity']['all']['fidelity']:.2f}",
    "the strongest": lambda x: f"{x['fidelity']['strongest']['fidelity']:.2f}",
    "the others": lambda x: f"{x['fidelity']['others']['fidelity']:.2f}",
    "on": lambda x: percent(x, "on"),
    "off": lambda x: percent(x, "off"),
    "alone": lambda x: percent(x, "alone"),
    "dominated": lambda x: percent(x, "dominated"),
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
    figure, axes = plt.subplots(figsize=(6.4, 3.4))
    ball = found["crosscoders"][0]["ball"]
    sites = [site.removeprefix("blocks.").replace(".hook_resid_", " ") for site in ball["sites"]]
    for number, one in reversed(list(enumerate(ball["starts"]))):
        style: dict[str, Any] = {
            "color": "0.7",
            "linewidth": 0.8,
            "label": "bound, exact up to a later site",
        }
        if number == 0:
            style = {"color": "C3", "marker": "o", "label": "bound from the embedding on"}
        elif number > 1:
            style["label"] = "_"
        axes.plot(range(number, len(sites)), one["radius"], **style)
    axes.plot(ball["distance"], "o-", color="C0", label="true distance")
    allowed = ball["starts"][0]["allowed"]
    axes.plot([len(sites) - 1], [allowed], "kx", label="what a median margin allows")
    axes.set_xticks(range(len(sites)), sites, rotation=30, ha="right", fontsize=8)
    axes.set(yscale="log", ylabel="distance, median of positions")
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
