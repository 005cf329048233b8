from dataclasses import replace

import numpy as np
import pytest
from training_examples import LAST, clt_source, settings, source, transformer

from compactproofs.crosscoders import Crosscoder
from compactproofs.crosscoders.training import crosscoder_metrics, train_crosscoder
from transformers_for_tests import float_forward


@pytest.fixture(scope="module")
def trained() -> Crosscoder:
    return train_crosscoder(source(), settings())


def test_reconstruction_and_sparsity_are_what_their_names_say(trained: Crosscoder) -> None:
    of = source()
    acts = of.rows(np.arange(216)).activations.numpy().astype(np.float64)
    codes = trained.encode(acts)
    decoded = trained.decode(codes).astype(np.float64)
    found = crosscoder_metrics(trained, of)
    missed, spread = (acts - decoded) ** 2, (acts - acts.mean(axis=0)) ** 2
    assert found["fvu"] == pytest.approx(missed.sum() / spread.sum())
    for place, name in enumerate(LAST):
        # The mean is over rows: a variance over the entries of a vector would be no FVU.
        expected = missed[:, place].sum() / spread[:, place].sum()
        assert found["sites"][name]["fvu"] == pytest.approx(expected)
    assert found["explained_variance"] == pytest.approx(1 - found["fvu"])
    assert found["l0"] == (codes > 0).sum(axis=1).mean() <= 3
    assert found["frac_alive"] == (codes > 0).any(axis=0).mean()
    assert found["l1"] == pytest.approx(codes.sum(axis=1).mean(), rel=1e-5)
    assert sum(found["log10_frequency_histogram"]["counts"]) == (codes > 0).any(axis=0).sum()
    shares = [one["mean_share"] for one in found["decoder_norm_profile"].values()]
    assert sum(shares) == pytest.approx(1)
    assert crosscoder_metrics(trained, of, k=1)["l0"] <= 1


def test_a_perfect_crosscoder_loses_nothing(trained: Crosscoder) -> None:
    """With as many features as numbers, twice, every activation is written exactly."""
    of = source()
    width = 24
    eye = np.eye(width).reshape(3, 8, width)
    both = np.concatenate([eye, -eye], axis=2)
    config = replace(trained.config, d_sae=2 * width, k=2 * width)
    perfect = Crosscoder(
        config,
        W_enc=both,
        b_enc=np.zeros(2 * width),
        W_dec=both.transpose(2, 0, 1),
        b_dec=np.zeros((3, 8)),
        feature_scale=np.ones(2 * width),
    )
    found = crosscoder_metrics(perfect, of)
    assert found["fvu"] == pytest.approx(0, abs=1e-12)
    assert found["cossim"] == pytest.approx(1) and found["l2_ratio"] == pytest.approx(1)
    assert found["relative_reconstruction_bias"] == pytest.approx(1)
    for patched in found["patched"].values():
        assert patched["ce_loss_score"] == pytest.approx(1, abs=1e-5)
        assert patched["kl_div_score"] == pytest.approx(1, abs=1e-5)
        assert patched["accuracy"] == found["model_accuracy"]
    assert found["claimed_accuracy"] == found["model_accuracy"]
    tokens = of.rows(np.arange(216)).token_ids.numpy()
    right = float_forward(transformer(), tokens)["logits"].argmax(axis=1) == tokens.max(axis=1)
    assert found["model_accuracy"] == right.mean()
    # Certified is at most claimed by single features, and that at most what is right.
    interaction = found["interaction"]
    assert interaction["certified_share"] <= interaction["sum_of_singles_accuracy"]
    assert interaction["rho"] == pytest.approx(0, abs=1e-5)


def test_all_positions_are_patched_together() -> None:
    every = source(positions="all", layers=2)
    found = crosscoder_metrics(train_crosscoder(every, settings()), every, most_rows=30)
    assert found["rows"] == 30 and set(found["patched"]) == {site.name for site in every.sites}
    assert 0 < found["interaction"]["dominant_share"] <= 1


def test_a_transcoder_is_measured_on_what_it_writes() -> None:
    of = clt_source()
    found = crosscoder_metrics(
        train_crosscoder(of, settings(architecture="clt", mask="clt", steps=20)), of
    )
    assert set(found["sites"]) == {"blocks.0.hook_mlp_out", "blocks.1.hook_mlp_out"}
    assert "interaction" not in found


def test_rows_from_the_first_on_are_evenly_spaced(trained: Crosscoder) -> None:
    found = crosscoder_metrics(trained, source(), first_row=200, most_rows=5)
    assert found["rows"] == 5 and found["held_out"]
