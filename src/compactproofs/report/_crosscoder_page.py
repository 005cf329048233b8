"""The page of a crosscoder: what it claims, its features, and where they interact."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float64, Int64

from ..crosscoders import CrosscoderClaim
from ..crosscoders.features import FeatureView
from ..crosscoders.fidelity import Fidelity
from ..crosscoders.interactions import Interactions
from ..kernel import Independence
from ._bars import Waterfall, histogram, named_bars, waterfall
from ._heat_map import heat_map
from ._interaction_graph import Edge, circle_order, interaction_graph
from ._neurons import dominant_share_figure, neuron_states
from ._page import Page

_MOST_PAIRS = 20
_MOST_EDGES = 90
_MOST_LOGITS = 24
_MOST_OPEN = 16
_WIDTH = 236  # four pictures side by side


@final
@dataclass(frozen=True, eq=False)
class LayerView:
    """One MLP as the features see it."""

    layer: int
    interactions: Interactions
    groups: Int64[np.ndarray, " H"] | None = None
    """The group of each feature; None: they are not put into groups."""
    independence: Independence | None = None
    """What is proved of its neurons, for codes rounded to ``n_levels``."""
    n_levels: int | None = None
    fidelity: tuple[Fidelity, ...] = ()


@final
@dataclass(frozen=True, eq=False)
class CrosscoderView:
    """What a page shows; nothing is computed from it but pictures."""

    name: str
    model: str
    task: str
    model_sha256: str
    crosscoder_sha256: str
    architecture: str
    n_features: int
    all_inputs: bool
    """Whether every input of the task was looked at; else a sample, and shares are estimates."""
    features: tuple[FeatureView, ...]
    """Of all features, in order."""
    shown: tuple[int, ...]
    """Those with pictures of their own."""
    layers: tuple[LayerView, ...]
    claim: CrosscoderClaim | None = None
    proof: Waterfall | None = None
    """From the claimed accuracy to the proved one, where there is a proof."""


def crosscoder_page(view: CrosscoderView) -> str:
    """The whole page as HTML text; it loads nothing."""
    page = Page(f"Crosscoder {view.name}", f"of {view.model} at {view.task}")
    add_crosscoder(page, view)
    return page.html()


def add_crosscoder(page: Page, view: CrosscoderView) -> None:
    """The sections about a crosscoder, at the end of any page."""
    _overview(page, view)
    if view.proof is not None:
        page.section("From the claim to the proof")
        page.text(
            "Every step is a share of all inputs. What is lost on the way is not wrong: it is what "
            "the proof does not cover."
        )
        page.figure(waterfall(view.proof))
    for layer in view.layers:
        _interactions(page, layer, view)
        _neurons(page, layer)
    _features(page, view)


def _overview(page: Page, view: CrosscoderView) -> None:
    page.section("Overview")
    alive = sum(feature.fires > 0 for feature in view.features)
    tiles = [(f"{alive} of {view.n_features}", "features that fire")]
    if view.claim is not None:
        tiles = [
            (f"{view.claim.claimed_accuracy:.4%}", "claimed: right if read off the reconstruction"),
            (f"{view.claim.accuracy:.4%}", "the model itself"),
            (f"{view.claim.active_mean:.2f}", "active features of an input"),
            *tiles,
        ]
    page.tiles(tiles)
    looked = "all inputs of the task" if view.all_inputs else "a sample of the task's inputs"
    page.text(
        f"Measured on {looked}: numbers on this page describe, and prove nothing, except where "
        "it says proved."
    )
    if view.claim is not None:
        page.table(
            ["site", "variance unexplained", "radius, mean", "radius, largest"],
            [
                [s.site, f"{s.fvu:.4%}", f"{s.radius_mean:.4g}", f"{s.radius_max:.4g}"]
                for s in view.claim.sites
            ],
        )
    page.code(
        f"architecture {view.architecture}\nmodel sha256      {view.model_sha256}\n"
        f"crosscoder sha256 {view.crosscoder_sha256}"
    )


def _interactions(page: Page, layer: LayerView, view: CrosscoderView) -> None:
    found = layer.interactions
    page.section(f"Interactions, layer {layer.layer}")
    page.text(
        f"Measure: {found.measure.value}, summed over all neurons, each weighted by the length of "
        "its output direction; mean over inputs. The unit is that of the residual stream."
    )
    groups = layer.groups if layer.groups is not None else np.full(view.n_features, -1)
    alive = [n for n in range(view.n_features) if found.together[n, n]]
    order = circle_order(groups, alive)
    pairs = found.ranked(_MOST_EDGES)
    if not pairs:
        page.text("No two features interact.")
        return
    pictures = [
        heat_map(
            found.of_pairs[np.ix_(order, order)],
            "interaction of each two features",
            "features that fire, by group" if layer.groups is not None else "features that fire",
            "the same",
        ),
        interaction_graph(
            [Edge(p.first, p.second, p.mean) for p in pairs],
            groups,
            "the strongest pairs",
            f"{len(pairs)} pairs; a chord is as wide as its interaction",
        ),
    ]
    page.figure(*pictures)
    share = sum(p.mean for p in pairs) / (found.of_pairs.sum() / 2)
    page.text(f"The {len(pairs)} strongest pairs have {share:.1%} of all interaction.")
    page.table(
        [
            "features",
            "interaction",
            "inputs with both",
            "when both are active",
            *_proved_head(layer),
        ],
        [
            [
                f"{p.first} and {p.second}",
                f"{p.mean:.5g}",
                f"{p.together:,}",
                f"{p.when_together:.5g}",
                *_proved_of(layer, p.first, p.second),
            ]
            for p in pairs[:_MOST_PAIRS]
        ],
    )
    if layer.groups is not None:
        with page.fold("groups of features that interact"):
            page.table(
                ["group", "features"],
                [
                    [str(g), ", ".join(map(str, np.flatnonzero(groups == g).tolist()))]
                    for g in range(int(groups.max()) + 1)
                ],
            )


def _proved_head(layer: LayerView) -> list[str]:
    has = layer.independence is not None and layer.independence.paired
    return ["neurons not proved independent"] if has else []


def _proved_of(layer: LayerView, first: int, second: int) -> list[str]:
    if not _proved_head(layer) or layer.independence is None:
        return []
    return [str(len(layer.independence.shared_neurons(first, second)))]


def _neurons(page: Page, layer: LayerView) -> None:
    found, proved = layer.interactions, layer.independence
    page.section(f"Neurons, layer {layer.layer}")
    if proved is not None:
        page.text(
            f"Proved, for codes rounded to {layer.n_levels} values of each feature and without "
            "what they leave out of the residual stream: on and off, the neuron keeps one state "
            "whichever of the code's features are there; alone, one feature at most reaches it; in "
            "these cases features do not interact. Dominated: beside one feature the others do "
            "not. Of the rest nothing is proved."
        )
        page.figure(
            neuron_states(
                proved.tally,
                "neurons times codes by what is proved",
                tuple(proved.counts().items()),
            )
        )
        page.text(
            f"For {proved.additive_codes:,} of {proved.n_codes:,} codes the whole MLP is proved to "
            "add up what its features do one by one."
        )
    page.figure(
        dominant_share_figure(
            found.share_of_neuron, found.dominant_share, "share of the strongest feature"
        )
    )
    if layer.fidelity:
        page.heading("If neurons see some of the features alone")
        page.text("Everything outside this MLP is the model's own. Loss is in nats.")
        page.table(
            ["neurons see", "accuracy", "loss", "fidelity"],
            [
                [f.scheme.value, f"{f.accuracy:.6f}", f"{f.loss:.5f}", _number(f.fidelity)]
                for f in layer.fidelity
            ],
        )


def _number(value: float) -> str:
    return f"{value:.4f}" if np.isfinite(value) else "-"


def _features(page: Page, view: CrosscoderView) -> None:
    page.section("Features")
    alive = [f for f in view.features if f.fires]
    with page.fold(f"the {len(alive)} features that fire", is_open=len(alive) <= _MOST_OPEN):
        page.table(
            "feature,fires in %,mean code,largest,main label,% of it,partner".split(","),
            [
                [
                    f.feature,
                    f"{100 * f.frequency:.3f}",
                    f"{f.mean:.4g}",
                    f"{f.largest:.4g}",
                    f.main_label,
                    f"{100 * f.labels[f.main_label] / f.fires:.1f}",
                    _partner(view.layers, f.feature),
                ]
                for f in alive
            ],
        )
        page.text("Partner: the feature that it interacts with most, over all layers.", faint=True)
    dead = [f.feature for f in view.features if not f.fires]
    if dead:
        page.text(f"Never active: {', '.join(map(str, dead))}.", faint=True)
    for number in view.shown:
        one = view.features[number]
        main = "" if one.main_label is None else f", most of all at label {one.main_label}"
        with page.fold(
            f"feature {number}: {one.frequency:.2%} of inputs{main}", is_open=len(view.shown) == 1
        ):
            _feature(page, one)


def _partner(layers: Sequence[LayerView], feature: int) -> str:
    of_pairs = sum((layer.interactions.of_pairs[feature] for layer in layers), np.zeros(1))
    return str(int(np.argmax(of_pairs))) if of_pairs.max() > 0 else "-"


def _feature(page: Page, one: FeatureView) -> None:
    page.figure(
        histogram(
            "codes where it is active", one.histogram, one.edges, "code",
            f"{one.fires:,} of {one.inputs:,} inputs", width=_WIDTH, height=190,
        ),
        named_bars(
            "length at each site", [_short(site) for site in one.sites], one.norms, "raw units",
            width=_WIDTH, names_width=78,
        ),
        *_of_outputs(one),
    )  # fmt: skip
    page.table(
        ["tokens", "position", "label", "code"],
        [[" ".join(map(str, t.tokens)), t.position, t.label, f"{t.value:.4g}"] for t in one.top],
    )


def _of_outputs(one: FeatureView) -> list[str]:
    """Bars for each label or output; those that matter, if there are many."""
    share = np.divide(one.labels, np.maximum(one.labels_of_all, 1))
    labels = _largest(share)
    pictures = [
        named_bars(
            "label, share of its inputs", [str(i) for i in labels], share[labels],
            "1 is every input with this label", width=_WIDTH, names_width=28,
        )
    ]  # fmt: skip
    if one.logits is not None:
        outputs = _largest(np.abs(one.logits))
        pictures.append(
            named_bars(
                "effect on logits", [str(i) for i in outputs], one.logits[outputs],
                "of a code of 1, less the mean", width=_WIDTH, names_width=28,
            )
        )  # fmt: skip
    return pictures


def _largest(sizes: Float64[np.ndarray, " x"]) -> list[int]:
    """The places of the largest numbers, in their own order."""
    return sorted(np.argsort(-sizes, kind="stable")[:_MOST_LOGITS].tolist())


def _short(site: str) -> str:
    """``blocks.0.hook_resid_mid`` as ``0 resid_mid``."""
    return site.removeprefix("blocks.").replace(".hook_", " ").replace(".ln", " ln")
