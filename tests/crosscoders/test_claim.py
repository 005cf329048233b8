"""Activations at named sites, and the accuracy that a crosscoder claims."""

from dataclasses import replace

import numpy as np
import pytest
from crosscoder_examples import make

from compactproofs.crosscoders import (
    Crosscoder,
    CrosscoderError,
    claim_of,
    default_sites,
    inputs_of,
    require_own_crosscoder,
    residuals,
)
from compactproofs.kernel import MaxOfK, Transformer, parse_task
from lookup_crosscoder import lookup_crosscoder
from transformers_for_tests import float_forward, random_transformer

TASK = MaxOfK(2, 4)


@pytest.fixture
def net() -> Transformer:
    return random_transformer(np.random.default_rng(2), k=2, v=4, layers=2, heads=2, mlp=5)


@pytest.mark.parametrize("direction", ["causal", "bidirectional"])
def test_residuals_are_those_of_an_independent_forward_pass(direction: str) -> None:
    net = random_transformer(
        np.random.default_rng(1), k=3, v=4, layers=2, heads=2, mlp=5, direction=direction
    )
    tokens, _ = inputs_of(MaxOfK(3, 4), 100)
    truth = float_forward(net, tokens)
    names = default_sites(net)
    assert names[0] == "blocks.0.hook_resid_pre" and len(names) == 5
    last = residuals(net, tokens, names)
    everywhere = residuals(net, tokens, names, "all")
    for place, name in enumerate(names):
        np.testing.assert_allclose(last[:, place], truth[name][:, -1], atol=1e-12)
        np.testing.assert_allclose(everywhere[:, place], truth[name].reshape(-1, 5), atol=1e-12)


def test_a_perfect_crosscoder_claims_the_models_accuracy(net: Transformer) -> None:
    tokens, labels = inputs_of(TASK, 100)
    found = claim_of(net, lookup_crosscoder(net, default_sites(net), tokens), tokens, labels)
    answers = float_forward(net, tokens)["logits"].argmax(1)
    assert found.inputs == 16 and found.active_mean == 1
    assert found.right == (answers == labels).sum() and 0 < found.right < 16
    assert found.claimed == found.right and found.agree == 16
    assert found.ball_radius_max < 1e-5 and max(site.fvu for site in found.sites) < 1e-8


def test_a_claim_is_counted_from_the_reconstruction(net: Transformer) -> None:
    tokens, labels = inputs_of(TASK, 100)
    names = default_sites(net)
    own = lookup_crosscoder(net, names, tokens)
    # Feature 0 decodes as sequence 5 does, at the last site alone.
    decoder = np.array(own.W_dec)
    other = residuals(net, tokens, names)[5] / own.encode(residuals(net, tokens, names))[0, 0]
    decoder[0, -1] = other[-1]
    wrong = replace(own, W_dec=decoder)
    found = claim_of(net, wrong, tokens, labels, batch=3)
    logits = float_forward(net, tokens)["logits"]
    theirs = logits.copy()
    theirs[0] = logits[5]
    assert found.claimed == (theirs.argmax(1) == labels).sum()
    assert found.agree == (theirs.argmax(1) == logits.argmax(1)).sum()
    gaps = np.sort(np.where(np.eye(4, dtype=bool)[labels], -np.inf, theirs), axis=1)[:, -1]
    margins = theirs[np.arange(16), labels] - gaps
    assert found.smallest_margin == pytest.approx(margins.min(), abs=1e-4)
    residual = residuals(net, tokens, names)[:, -1]
    expected = ((residual[0] - residual[5]) ** 2).sum() / ((residual - residual.mean(0)) ** 2).sum()
    assert found.sites[-1].fvu == pytest.approx(expected, rel=1e-3)
    assert found.sites[-1].radius_max == pytest.approx(
        np.linalg.norm(residual[0] - residual[5]), rel=1e-3
    )
    assert found.sites[0].fvu < 1e-8


def test_samples_have_the_labels_of_their_sequences() -> None:
    task = parse_task("max:k=9,v=7,q=2-4", parts=True)
    tokens, labels = inputs_of(task, 50, seed=3)
    again, _ = inputs_of(task, 50, seed=3)
    assert tokens.shape == (50, 9) and (tokens == again).all()
    assert (labels == tokens.max(1)).all() and set(tokens[:, -1]) <= {2, 3, 4}


def test_what_is_not_the_models_is_refused_by_name(net: Transformer) -> None:
    tokens, labels = inputs_of(TASK, 100)
    own = lookup_crosscoder(net, default_sites(net), tokens)
    config = own.config
    with pytest.raises(CrosscoderError, match="was trained on the model ffff"):
        claim_of(net, replace(own, config=replace(config, model_sha256="f" * 64)), tokens, labels)
    mid = lookup_crosscoder(net, ["blocks.1.hook_resid_mid"], tokens)
    with pytest.raises(CrosscoderError, match=r"a claim needs blocks.1.hook_resid_post"):
        claim_of(net, mid, tokens, labels)
    with pytest.raises(CrosscoderError, match="the model has 2 layers"):
        residuals(net, tokens, ["blocks.2.hook_resid_mid"])
    with pytest.raises(CrosscoderError, match="has the role mlp_out"):
        residuals(net, tokens, ["blocks.0.hook_mlp_out"])
    with pytest.raises(CrosscoderError, match="must be last or all"):
        residuals(net, tokens, default_sites(net), "first")
    unfolded: Crosscoder = make(normalisation="sqrt_d_over_mean_norm")
    with pytest.raises(CrosscoderError, match="not folded"):
        require_own_crosscoder(unfolded.config, net)
