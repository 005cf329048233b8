"""Views of features, the codes of a task, and codes as atoms, against loops."""

from dataclasses import replace

import numpy as np
import pytest

from compactproofs.crosscoders import (
    Crosscoder,
    CrosscoderConfig,
    CrosscoderError,
    EncodedDataset,
    atoms_of,
    encode_task,
    inputs_of,
    prove_independence,
    residuals,
    site_of,
)
from compactproofs.crosscoders.features import describe_features
from compactproofs.kernel import MaxOfK, Transformer, independence
from transformers_for_tests import random_transformer

H = 8


def subject(positions: str = "last", layers: int = 1) -> tuple[Transformer, Crosscoder]:
    """A random transformer, and a random crosscoder of all its sites with feature 7 dead."""
    rng = np.random.default_rng(0)
    net = random_transformer(rng, k=3, v=4, layers=layers, mlp=6)
    names = ["blocks.0.hook_resid_pre"]
    for n in range(layers):
        names += [f"blocks.{n}.hook_resid_mid", f"blocks.{n}.hook_resid_post"]
    W_dec = rng.normal(size=(H, len(names), net.d_model)).astype(np.float32)
    config = CrosscoderConfig(
        "topk_crosscoder",
        tuple(site_of(name) for name in names),
        (net.d_model,) * len(names),
        H,
        k=3,
        positions=positions,
        normalize_activations="sqrt_d_over_mean_norm",
        model_sha256=net.sha256,
    )
    b_enc = np.full(H, 0.2, np.float32)
    b_enc[7] = -1e6
    return net, Crosscoder(
        config,
        W_enc=W_dec.transpose(1, 2, 0) / 8,
        b_enc=b_enc,
        W_dec=W_dec,
        b_dec=rng.normal(size=W_dec.shape[1:]).astype(np.float32),
        norm_scale=np.linspace(0.5, 2, len(names)).astype(np.float32),
    )


def encoded(positions: str = "last") -> tuple[Transformer, Crosscoder, EncodedDataset]:
    net, crosscoder = subject(positions)
    tokens, labels = inputs_of(MaxOfK(3, 4), 100)
    return net, crosscoder, encode_task(net, crosscoder, tokens, labels, task="max:k=3,v=4")


@pytest.mark.parametrize("positions", ["last", "all"])
def test_the_codes_of_a_task_are_of_its_sequences_in_order(positions: str) -> None:
    net, crosscoder, dataset = encoded(positions)
    several = 3 if positions == "all" else 1
    tokens, labels = inputs_of(MaxOfK(3, 4), 100)
    names = [site.name for site in crosscoder.config.sites]
    dense = dataset.dense()
    assert len(dataset) == 64 * several and dataset.task == "max:k=3,v=4"
    for n in (0, 17, 63):
        acts = residuals(net, tokens[n : n + 1], names, positions)
        own = slice(n * several, (n + 1) * several)
        assert dense[own] == pytest.approx(crosscoder.encode(acts), abs=1e-6)
        assert (dataset.token_ids[own] == tokens[n]).all() and (
            dataset.label[own] == labels[n]
        ).all()
        assert dataset.position[own].tolist() == list(range(3))[-several:]
    fewer = encode_task(net, crosscoder, tokens, labels, active=1)
    assert fewer.active().max() == 1 and fewer.k == 1


def test_views_of_features_by_loops() -> None:
    net, crosscoder, dataset = encoded()
    dense, folded = dataset.dense().astype(float), crosscoder.fold()
    views = describe_features(net, crosscoder, dataset, top=5)
    assert [view.feature for view in views] == list(range(H))
    for view in views:
        i = view.feature
        fires = np.flatnonzero(dense[:, i])
        codes = dense[fires, i]
        assert (view.inputs, view.fires, view.frequency) == (64, len(fires), len(fires) / 64)
        assert view.mean == pytest.approx(codes.mean() if len(fires) else 0.0)
        assert view.largest == pytest.approx(codes.max(initial=0.0))
        assert view.histogram.sum() == len(fires) and view.edges[0] == 0
        assert view.labels.tolist() == [int((dataset.label[fires] == m).sum()) for m in range(4)]
        assert view.labels_of_all.tolist() == [1, 7, 19, 37]
        assert [t.value for t in view.top] == sorted(codes, reverse=True)[:5]
        for t in view.top:
            row = t.tokens[0] * 16 + t.tokens[1] * 4 + t.tokens[2]
            assert t.value == dense[row, i] and t.label == max(t.tokens) and t.position == 2
        for place, name in enumerate(view.sites):
            assert name == crosscoder.config.sites[place].name
            length = np.sqrt((folded.W_dec[i, place].astype(float) ** 2).sum())
            assert view.norms[place] == pytest.approx(length)
        effect = folded.W_dec[i, 2] @ net.W_U
        assert view.logits == pytest.approx(effect - effect.mean(), abs=1e-6)
    assert views[7].fires == 0 and views[7].main_label is None and views[7].top == ()
    assert views[0].main_label == int(np.argmax(views[0].labels))


def test_chosen_features_and_those_that_do_not_exist() -> None:
    net, crosscoder, dataset = encoded()
    assert [view.feature for view in describe_features(net, crosscoder, dataset, [5, 2])] == [5, 2]
    for feature in (-1, H):
        with pytest.raises(CrosscoderError, match=f"feature {feature} is not one of 0 to 7"):
            describe_features(net, crosscoder, dataset, [0, feature])
    with pytest.raises(CrosscoderError, match="9 features, but the crosscoder has 8"):
        describe_features(net, crosscoder, replace(dataset, d_sae=9))


def test_without_the_last_site_there_is_no_effect_on_logits() -> None:
    net, crosscoder, dataset = encoded()
    fewer = replace(
        crosscoder,
        config=replace(
            crosscoder.config, sites=crosscoder.config.sites[:2], d_in=(net.d_model,) * 2
        ),
        W_enc=crosscoder.W_enc[:2],
        W_dec=crosscoder.W_dec[:, :2],
        b_dec=crosscoder.b_dec[:2],
        norm_scale=crosscoder.norm_scale[:2],  # type: ignore[index]
    )
    view = describe_features(net, fewer, dataset, [0])[0]
    assert view.logits is None and len(view.norms) == 2


def test_an_input_is_shown_once() -> None:
    net, crosscoder = subject()
    tokens, labels = np.zeros((6, 3), int), np.zeros(6, int)
    tokens[5] = 3
    dataset = encode_task(net, crosscoder, tokens, labels)
    for view in describe_features(net, crosscoder, dataset):
        assert len({t.tokens for t in view.top}) == len(view.top) <= 2


@pytest.mark.parametrize("levels", [1, 3])
def test_atoms_say_the_codes(levels: int) -> None:
    _, _, dataset = encoded()
    with pytest.raises(CrosscoderError, match="no levels"):
        atoms_of(dataset)
    rounded = dataset.quantised(levels)
    atoms = atoms_of(rounded)
    assert rounded.levels is not None and atoms.shape == (64, rounded.active().max())
    codes = np.zeros((64, H), np.float32)
    for row, own in enumerate(atoms.tolist()):
        for atom in own:
            if atom >= 0:
                codes[row, atom // levels] = rounded.levels[atom // levels, atom % levels]
    assert np.array_equal(codes, rounded.dense())


def test_what_is_proved_is_of_the_rounded_codes_in_raw_units() -> None:
    net, crosscoder, dataset = encoded()
    rounded = dataset.quantised(2)
    assert rounded.levels is not None
    found = prove_independence(net, crosscoder, rounded, 0)
    folded = crosscoder.fold()
    again = independence(
        net, 0, folded.W_dec[:, 1].astype(float), folded.b_dec[1].astype(float),
        rounded.levels.astype(float), atoms_of(rounded),
    )  # fmt: skip
    assert found.subject_sha256 == again.subject_sha256 and found.n_codes == 64
    assert np.array_equal(found.tally, again.tally)
    with pytest.raises(CrosscoderError, match="no levels"):
        prove_independence(net, crosscoder, dataset, 0)
    with pytest.raises(CrosscoderError, match="is not written"):
        prove_independence(net, crosscoder, rounded, 1)
