"""The page about a crosscoder has every part and loads nothing; the commands agree."""

import json
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compactproofs.cli._crosscoder_interactions import interactions as interactions_command
from compactproofs.cli._crosscoder_view import view as view_command
from compactproofs.crosscoders import (
    Crosscoder,
    CrosscoderConfig,
    CrosscoderError,
    EncodedDataset,
    claim_of,
    encode_task,
    inputs_of,
    prove_independence,
    save_crosscoder,
    site_of,
)
from compactproofs.crosscoders.features import describe_features
from compactproofs.crosscoders.fidelity import fidelity
from compactproofs.crosscoders.interactions import Measure, interactions, neuron_view
from compactproofs.kernel import MaxOfK, NeuronStatus, Transformer
from compactproofs.report import (
    CrosscoderView,
    LayerView,
    Loss,
    Page,
    Waterfall,
    add_crosscoder,
    crosscoder_page,
)
from transformers_for_tests import random_transformer, write_transformer

TASK = "max:k=3,v=4"
H = 8


def subject() -> tuple[Transformer, Crosscoder]:
    rng = np.random.default_rng(0)
    net = random_transformer(rng, k=3, v=4, mlp=6)
    names = [f"blocks.0.hook_resid_{part}" for part in ("pre", "mid", "post")]
    W_dec = rng.normal(size=(H, 3, net.d_model)).astype(np.float32)
    b_enc = np.full(H, 0.2, np.float32)
    b_enc[7] = -1e6
    config = CrosscoderConfig(
        "topk_crosscoder",
        tuple(site_of(name) for name in names),
        (net.d_model,) * 3,
        H,
        k=3,
        model_sha256=net.sha256,
    )
    return net, Crosscoder(
        config,
        W_enc=W_dec.transpose(1, 2, 0) / 8,
        b_enc=b_enc,
        W_dec=W_dec,
        b_dec=np.zeros((3, net.d_model), np.float32),
    )


def inputs(net: Transformer, crosscoder: Crosscoder) -> tuple[Any, Any, EncodedDataset]:
    tokens, labels = inputs_of(MaxOfK(3, 4), 100)
    return tokens, labels, encode_task(net, crosscoder, tokens, labels)


def viewed(**changes: Any) -> CrosscoderView:
    net, crosscoder = subject()
    tokens, labels, dataset = inputs(net, crosscoder)
    found = interactions(neuron_view(net, crosscoder, 0), dataset)
    layer = LayerView(
        layer=0,
        interactions=found,
        groups=np.array([0, 0, 0, 1, 1, 1, -1, -1]),
        independence=prove_independence(net, crosscoder, dataset.quantised(2), 0),
        n_levels=2,
        fidelity=fidelity(net, crosscoder, tokens, labels, 0),
    )
    whole = CrosscoderView(
        name="<b>name</b>",
        model="a & b",
        task=TASK,
        model_sha256=net.sha256,
        crosscoder_sha256=crosscoder.sha256,
        architecture="topk_crosscoder",
        n_features=H,
        all_inputs=True,
        features=describe_features(net, crosscoder, dataset),
        shown=(3, 1),
        layers=(layer,),
        claim=claim_of(net, crosscoder, tokens, labels),
        proof=Waterfall(0.9, (Loss("interaction", 0.2),), 0.7),
    )
    return replace(whole, **changes)


def loads(html: str) -> list[str]:
    """What a browser would fetch."""
    found = re.findall(r"(?:src|href|xlink:href)=\"([^\"]*)\"|url\(([^)]*)\)|@import", html)
    return [a or b for a, b in found if not (a or b).startswith(("data:", "#"))]


def test_the_page_has_every_part_and_loads_nothing() -> None:
    view = viewed()
    html = crosscoder_page(view)
    dead = [f.feature for f in view.features if not f.fires]
    assert 7 in dead and len(dead) < H
    assert loads(html) == [] and html == crosscoder_page(view)
    assert "<b>name" not in html and "&lt;b&gt;name&lt;/b&gt;" in html and "a &amp; b" in html
    for said in (
        "all inputs of the task",
        "From the claim to the proof",
        "neurons times codes by what is proved",
        "share of the strongest feature",
        "only the strongest feature",
        f"Never active: {', '.join(map(str, dead))}.",
        f"{H - len(dead)} of {H}",
    ):
        assert said in html, said
    assert html.count("<summary>feature ") == 2
    assert html.index("<summary>feature 3:") < html.index("<summary>feature 1:")
    assert html.count("<details") == html.count("</details>") == 4
    assert view.claim is not None and f"{view.claim.claimed_accuracy:.4%}" in html
    first = view.layers[0].interactions.ranked()[0]
    assert f"{first.first} and {first.second}" in html and f"{first.mean:.5g}" in html
    for svg in re.findall(r"<svg.*?</svg>", html, re.DOTALL):
        ElementTree.fromstring(svg)  # well formed; what it would fetch is in `loads` above


def test_what_was_not_done_is_not_on_the_page() -> None:
    layer = replace(viewed().layers[0], groups=None, independence=None, fidelity=(), n_levels=None)
    html = crosscoder_page(
        viewed(layers=(layer,), claim=None, proof=None, all_inputs=False, shown=())
    )
    for part in ("groups of features", "neurons times codes", "neurons see", "claimed"):
        assert part not in html
    assert "a sample of the task" in html and html.count("<details") == 1
    assert "<summary>feature " not in html


def test_a_crosscoder_can_be_added_to_another_page() -> None:
    page = Page("a report")
    page.section("before")
    add_crosscoder(page, viewed())
    html = page.html()
    assert html.index(">before<") < html.index("<h2>Overview") < html.index("<h2>Features")
    assert html.count("<!doctype html>") == 1


def test_features_that_never_meet() -> None:
    net, crosscoder = subject()
    tokens, labels = inputs_of(MaxOfK(3, 4), 100)
    dataset = encode_task(net, crosscoder, tokens, labels, active=1)
    found = interactions(neuron_view(net, crosscoder, 0), dataset)
    html = crosscoder_page(viewed(layers=(LayerView(0, found),)))
    assert "No two features interact." in html


# The commands


@pytest.fixture
def directories(tmp_path: Path) -> tuple[Path, str]:
    net, crosscoder = subject()
    model = write_transformer(tmp_path / "model", net)
    return save_crosscoder(tmp_path / "crosscoder", crosscoder), str(model)


def test_view_writes_the_page(
    directories: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    crosscoder, model = directories
    fire = sum(one.fires > 0 for one in viewed().features)
    out = tmp_path / "page.html"
    view_command(crosscoder, model, TASK, out)
    html = out.read_text()
    assert "written" in capsys.readouterr().out
    assert loads(html) == [] and "Crosscoder crosscoder" in html
    assert html.count("<summary>feature ") == fire
    with pytest.raises(FileExistsError, match="--force"):
        view_command(crosscoder, model, TASK, out)
    view_command(crosscoder, model, TASK, out, feature=[5, 2, 5], levels=0, force=True, json=True)
    said = json.loads(capsys.readouterr().out)
    assert said["shown"] == [5, 2] and said["features_that_fire"] == fire and said["layers"] == [0]
    again = out.read_text()
    assert again.count("<summary>feature ") == 2 and "neurons times codes" not in again


def test_interactions_say_what_the_library_says(
    directories: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    crosscoder, model = directories
    net, own = subject()
    tokens, labels, dataset = inputs(net, own)
    interactions_command(crosscoder, model, TASK, measure="published", levels=2, pairs=3, json=True)
    said = json.loads(capsys.readouterr().out)
    found = interactions(neuron_view(net, own, 0), dataset, Measure.PUBLISHED)
    proved = prove_independence(net, own, dataset.quantised(2), 0)
    (layer,) = said["layers"]
    assert (said["inputs"], said["all_sequences"], said["levels"]) == (64, True, 2)
    assert said["crosscoder_sha256"] == own.fold().sha256 and said["measure"] == "published"
    assert layer["dominant_share"] == pytest.approx(found.dominant_share)
    assert layer["interaction"] == pytest.approx(found.of_pairs.sum() / 2)
    assert len(layer["pairs"]) == 3
    for pair, expected in zip(layer["pairs"], found.ranked(3), strict=True):
        assert pair["mean"] == pytest.approx(expected.mean)
        assert tuple(pair["neurons"]) == proved.shared_neurons(expected.first, expected.second)
    assert layer["proved"]["neurons"] == proved.counts()
    assert set(layer["proved"]["neurons"]) == {s.name.lower() for s in NeuronStatus}
    assert layer["proved"]["cells"] == proved.cells()
    assert layer["proved"]["subject_sha256"] == proved.subject_sha256
    kept = fidelity(net, own, tokens, labels, 0)
    assert [f["loss"] for f in layer["fidelity"]] == pytest.approx([f.loss for f in kept])
    interactions_command(crosscoder, model, TASK, levels=0, pairs=2)
    text = capsys.readouterr().out
    assert "proved" not in text.replace("not proved", "") and "these 2 pairs have" in text
    interactions_command(crosscoder, model, TASK, levels=2)
    counts = ", ".join(f"{n} {name.replace('_', ' ')}" for name, n in proved.counts().items())
    assert counts in capsys.readouterr().out


def test_with_too_many_pairs_neurons_are_proved_and_pairs_are_not(
    directories: tuple[Path, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    crosscoder, model = directories
    monkeypatch.setattr("compactproofs.kernel._independence._MOST_PAIRED", 5)
    interactions_command(crosscoder, model, TASK, json=True)
    (layer,) = json.loads(capsys.readouterr().out)["layers"]
    assert sum(layer["proved"]["neurons"].values()) == 6 and "neurons" not in layer["pairs"][0]
    view_command(crosscoder, model, TASK, tmp_path / "page.html")
    html = (tmp_path / "page.html").read_text()
    assert "neurons times codes" in html and "not proved independent" not in html


def test_a_sample_says_that_it_is_one(
    directories: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    crosscoder, model = directories
    interactions_command(crosscoder, model, TASK, levels=0, limit=20, json=True)
    said = json.loads(capsys.readouterr().out)
    assert (said["inputs"], said["all_sequences"]) == (20, False)
    assert said["layers"][0]["proved"] is None and "neurons" not in said["layers"][0]["pairs"][0]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"measure": "shapley"}, "measure 'shapley' is not one of published"),
        ({"layer": [0, 3]}, r"layer 3 .* such layers: \[0\]"),
        ({"levels": -1}, "--levels -1 must be at least 0"),
    ],
)
def test_bad_options_are_one_line(
    directories: tuple[Path, str], tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    crosscoder, model = directories
    with pytest.raises(CrosscoderError, match=message):
        interactions_command(crosscoder, model, TASK, **options)
    with pytest.raises(CrosscoderError, match=message):
        view_command(crosscoder, model, TASK, tmp_path / "page.html", **options)
    with pytest.raises(CrosscoderError, match="feature 8 is not one"):
        view_command(crosscoder, model, TASK, tmp_path / "page.html", feature=[8])
    assert not (tmp_path / "page.html").exists()
