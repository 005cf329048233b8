import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from crosscoder_examples import (
    KINDS,
    NORMALISATIONS,
    SITES,
    D,
    H,
    acts,
    as_users_call,
    make,
    numbers,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from compactproofs.crosscoders import (
    Crosscoder,
    CrosscoderConfig,
    CrosscoderError,
    causal_masks,
    site_of,
)

L = len(SITES)


def test_importing_the_package_loads_no_torch() -> None:
    code = "import sys, compactproofs.crosscoders; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def _arrays(crosscoder: Crosscoder) -> dict[str, Any]:
    return {name: np.array(array) for name, array in crosscoder.tensors()}


def _refused(architecture: str, changes: dict[str, Any], message: str, **settings: Any) -> None:
    good = make(architecture, **settings)
    arrays = {**_arrays(good), **changes}
    with as_users_call(), pytest.raises(CrosscoderError, match=message) as caught:
        Crosscoder(good.config, **arrays)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("architecture", "changes", "message"),
    [
        ("topk_crosscoder", {"W_enc": np.ones((L, H, D))}, "W_enc has shape"),
        ("topk_crosscoder", {"W_dec": np.ones((H, D, L))}, "W_dec has shape"),
        ("topk_crosscoder", {"b_enc": np.full(H, np.nan)}, "b_enc holds NaN"),
        ("topk_crosscoder", {"b_dec": np.full((L, D), 1e300)}, "b_dec holds NaN"),
        ("topk_crosscoder", {"b_enc": np.array(["x"] * H)}, "b_enc has type <U1"),
        ("topk_crosscoder", {"threshold": np.float32(1)}, "threshold is given, but topk"),
        ("topk_crosscoder", {"norm_scale": np.ones(L)}, "norm_scale is given, but normalize"),
        ("topk_crosscoder", {"out_scale": np.ones(L)}, "out_scale is given"),
        ("topk_crosscoder", {"enc_mask": np.ones((H, L), bool)}, "mask is 'acausal'"),
        ("topk_crosscoder", {"feature_scale": -np.ones(H)}, "feature_scale holds -1.0"),
        ("batchtopk_crosscoder", {"threshold": None}, "threshold is missing"),
        ("batchtopk_crosscoder", {"threshold": np.ones(H)}, "has one number"),
        ("batchtopk_crosscoder", {"threshold": np.float32(-1)}, "never estimated it"),
        ("jumprelu_crosscoder", {"threshold": np.ones(H + 1)}, "threshold has shape"),
        ("jumprelu_crosscoder", {"threshold": None}, "threshold is missing"),
        ("clt", {"enc_mask": None}, "enc_mask is missing"),
        ("clt", {"enc_mask": np.ones((H, L), bool)}, "enc_mask: feature 0 reads 4 sites"),
        ("clt", {"dec_mask": np.ones((H, L), bool)}, "dec_mask: feature . must write"),
        ("clt", {"dec_mask": np.ones((H, L))}, "dec_mask is float64"),
        ("clt", {"W_enc": np.ones((L, D, H))}, "W_enc of feature 0 at site . is not zero"),
        ("clt", {"W_dec": np.ones((H, L, D))}, "W_dec of feature . at site . is not zero"),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name(
    architecture: str, changes: dict[str, Any], message: str
) -> None:
    _refused(architecture, changes, message)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"norm_scale": None}, "norm_scale is missing"),
        ({"norm_mean": None}, "norm_mean is missing"),
        ({"norm_scale": np.zeros(L)}, "norm_scale holds 0.0"),
    ],
)
def test_a_normalisation_that_is_not_as_stated_is_refused(
    changes: dict[str, Any], message: str
) -> None:
    _refused("l1_crosscoder", changes, message, normalisation="centred_sqrt_d_over_mean_norm")


def test_weights_are_copies_that_nobody_can_change() -> None:
    given = make()
    arrays = _arrays(given)
    crosscoder = Crosscoder(given.config, **arrays)
    arrays["W_enc"][:] = 0
    np.testing.assert_array_equal(crosscoder.W_enc, given.W_enc)
    with pytest.raises(ValueError, match="read-only"):
        crosscoder.W_enc[0] = 1


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_encoding_and_decoding_are_the_stated_formula(kind: str, normalisation: str) -> None:
    with_bias: dict[str, Any] = {} if kind == "clt" else {"apply_b_dec_to_input": True}
    crosscoder = make(kind, normalisation=normalisation, **with_bias)
    given = acts()
    h = np.zeros((len(given), H))
    for n, sample in enumerate(given.astype(np.float64)):
        for site in range(L):
            a = sample[site]
            if crosscoder.norm_mean is not None:
                a = a - crosscoder.norm_mean[site]
            if crosscoder.norm_scale is not None:
                a = a * crosscoder.norm_scale[site]
            if with_bias:
                a = a - crosscoder.b_dec[site]
            h[n] += a @ crosscoder.W_enc[site].astype(np.float64)
    h += crosscoder.b_enc
    np.testing.assert_allclose(crosscoder.pre_activations(given), h, rtol=1e-4, atol=1e-4)
    codes = crosscoder.encode(given)
    f = np.maximum(crosscoder.pre_activations(given), 0)
    weights = np.linalg.norm(crosscoder.W_dec, axis=2).sum(axis=1)
    if kind == "batchtopk_crosscoder":
        f = np.where(f * weights > 4.0, f, 0)
    elif kind in ("jumprelu_crosscoder", "clt"):
        f = np.where(f > crosscoder.threshold, f, 0)
    elif kind == "topk_crosscoder":
        for row in f:
            row[np.argsort(-row * weights, kind="stable")[3:]] = 0
    np.testing.assert_allclose(codes, f, rtol=1e-5)
    out = np.einsum("nh,hld->nld", codes.astype(np.float64), crosscoder.W_dec) + crosscoder.b_dec
    name = "out" if kind == "clt" else "norm"
    if (scale := getattr(crosscoder, f"{name}_scale")) is not None:
        out /= scale[:, None]
    if (mean := getattr(crosscoder, f"{name}_mean")) is not None:
        out += mean
    np.testing.assert_allclose(crosscoder.decode(codes), out, rtol=1e-4, atol=1e-4)


@settings(deadline=None)  # for a busy machine
@given(
    kind=st.sampled_from(KINDS),
    normalisation=st.sampled_from(NORMALISATIONS),
    score=st.sampled_from(["sum", "concat", "none"]),
    bias=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_folding_changes_no_code_and_no_output(
    kind: str, normalisation: str, score: str, bias: bool, seed: int
) -> None:
    bias = bias and kind != "clt"
    crosscoder = make(
        kind, seed, normalisation=normalisation, score=score, apply_b_dec_to_input=bias
    )
    folded = crosscoder.fold()
    given = acts(seed=seed + 1)
    assert folded.config.folded and not folded.config.apply_b_dec_to_input
    assert folded.norm_scale is folded.norm_mean is folded.out_scale is folded.out_mean is None
    h = crosscoder.pre_activations(given)
    np.testing.assert_allclose(folded.pre_activations(given), h, rtol=1e-3, atol=1e-3)
    np.testing.assert_array_equal(folded.feature_weights(), crosscoder.feature_weights())
    # Rounding may move a code over a threshold; the rest must agree.
    codes, again = crosscoder.encode(given), folded.encode(given)
    same = ((codes > 0) == (again > 0)).all(axis=1)
    assert same.mean() > 0.9
    np.testing.assert_allclose(codes[same], again[same], rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(folded.decode(codes), crosscoder.decode(codes), rtol=1e-3, atol=1e-3)
    assert folded.fold() is folded


def test_a_folded_selection_is_that_of_training() -> None:
    """Norms of the decoder change in folding; the weights of the score must not."""
    rng = np.random.default_rng(3)
    crosscoder = make("topk_crosscoder", normalisation="sqrt_d_over_mean_norm", k=1)
    uneven = replace(crosscoder, norm_scale=np.array([100.0, 1, 1, 0.01], np.float32))
    folded = uneven.fold()
    given = numbers(rng, 200, L, D)
    np.testing.assert_array_equal(uneven.encode(given) > 0, folded.encode(given) > 0)
    by_norm = replace(folded, feature_scale=None)
    assert ((by_norm.encode(given) > 0) != (folded.encode(given) > 0)).any()


@pytest.mark.parametrize("kind", KINDS)
def test_topk_keeps_at_most_k_of_any_architecture(kind: str) -> None:
    crosscoder, given = make(kind), acts()
    for k in (1, 4, H):
        codes = crosscoder.encode_topk(given, k)
        assert (codes > 0).sum(axis=1).max() <= k
        assert (codes >= 0).all()
    everything = crosscoder.encode_topk(given, H)
    scores = everything * crosscoder.feature_weights()
    four = crosscoder.encode_topk(given, 4)
    for row, score, kept in zip(everything, scores, four, strict=True):
        best = np.argsort(-score, kind="stable")[:4]
        np.testing.assert_array_equal(np.flatnonzero(kept), np.sort(best[row[best] > 0]))
    for k in (0, H + 1, True):
        with pytest.raises(CrosscoderError, match="k = "):
            crosscoder.encode_topk(given, k)


def test_equal_scores_go_to_the_lower_index() -> None:
    config = CrosscoderConfig("topk_crosscoder", SITES[:1], (1,), 6, k=2, score="none")
    ones = Crosscoder(
        config,
        np.array([[[1, 2, 1, 1, 1, -1]]], np.float32),
        np.zeros(6, np.float32),
        np.ones((6, 1, 1), np.float32),
        np.zeros((1, 1), np.float32),
    )
    np.testing.assert_array_equal(ones.encode(np.ones((1, 1, 1))), [[1, 2, 0, 0, 0, 0]])
    np.testing.assert_array_equal(ones.encode(-np.ones((1, 1, 1))), [[0, 0, 0, 0, 0, 1]])
    for k, kept in ((3, [1, 2, 1, 0, 0, 0]), (6, [1, 2, 1, 1, 1, 0])):
        np.testing.assert_array_equal(ones.encode_topk(np.ones((1, 1, 1)), k), [kept])


def test_a_code_does_not_depend_on_its_batch() -> None:
    crosscoder, given = make("batchtopk_crosscoder"), acts()
    together = crosscoder.encode(given)
    alone = np.concatenate([crosscoder.encode(row[None]) for row in given])
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-6)


def test_no_samples_give_no_codes() -> None:
    crosscoder = make()
    codes = crosscoder.encode(acts(0))
    assert codes.shape == (0, H)
    assert crosscoder.decode(codes).shape == (0, L, D)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.ones((2, D)), r"activations have shape \(2, 5\)"),
        (np.ones((2, L + 1, D)), "for the sites blocks.0.hook_resid_pre"),
        (np.ones((2, L, D), complex), "activations have type complex128"),
        (np.full((2, L, D), 1e300), "activations hold numbers beyond float32"),
        (np.full((2, L, D), np.nan), r"activations hold nan at \[0, 0, 0\]"),
    ],
)
def test_activations_that_cannot_be_encoded_are_refused(given: np.ndarray, message: str) -> None:
    with pytest.raises(CrosscoderError, match=message):
        make().encode(given)


@pytest.mark.parametrize(
    ("given", "message"),
    [(np.ones((2, H + 1)), "codes have shape"), (np.full((2, H), np.inf), "codes hold inf")],
)
def test_codes_that_cannot_be_decoded_are_refused(given: np.ndarray, message: str) -> None:
    with pytest.raises(CrosscoderError, match=message):
        make().decode(given)


def test_the_view_of_one_site_is_its_decoder_in_raw_units() -> None:
    crosscoder = make(normalisation="centred_sqrt_d_over_mean_norm")
    codes = crosscoder.encode(acts())
    for place, site in enumerate(SITES):
        sae = crosscoder.to_sae(site)
        assert sae.keys() == {"W_dec", "b_dec"}
        one_site = codes @ sae["W_dec"] + sae["b_dec"]
        expected = crosscoder.decode(codes)[:, place]
        np.testing.assert_allclose(one_site, expected, rtol=1e-4, atol=1e-4)
        np.testing.assert_array_equal(crosscoder.to_sae(site.name)["W_dec"], sae["W_dec"])
    with pytest.raises(CrosscoderError, match="'hook_embed' is not written"):
        crosscoder.to_sae("hook_embed")
    two = tuple(site_of("blocks.0.hook_resid_pre", model) for model in (0, 1))
    diff = make(sites=two)
    with pytest.raises(CrosscoderError, match="in several models"):
        diff.to_sae("blocks.0.hook_resid_pre")
    np.testing.assert_array_equal(diff.to_sae(two[1])["W_dec"], diff.W_dec[:, 1])


def test_causal_masks_read_one_site_and_write_the_later_ones() -> None:
    enc_mask, dec_mask = causal_masks(np.array([0, 2, 1]), 3)
    np.testing.assert_array_equal(enc_mask, np.array([[1, 0, 0], [0, 0, 1], [0, 1, 0]], bool))
    np.testing.assert_array_equal(dec_mask, np.array([[1, 1, 1], [0, 0, 1], [0, 1, 1]], bool))
    for mask in ("weakly_causal", "custom"):
        assert make(mask=mask).enc_mask is not None
    with pytest.raises(CrosscoderError, match=r"source\[1\] = 3 is not one of the 3 sites"):
        causal_masks(np.array([0, 3]), 3)


def test_the_digest_is_of_everything_but_the_metadata() -> None:
    crosscoder = make("jumprelu_crosscoder")
    renamed = replace(crosscoder, config=replace(crosscoder.config, metadata={"seed": 7}))
    assert renamed.sha256 == crosscoder.sha256
    others = [
        replace(crosscoder, config=replace(crosscoder.config, score="none")),
        replace(crosscoder, config=replace(crosscoder.config, positions="all")),
        replace(crosscoder, b_enc=np.nextafter(crosscoder.b_enc, np.float32(9))),
        replace(crosscoder, threshold=np.zeros(H, np.float32)),
        replace(crosscoder, feature_scale=crosscoder.feature_weights()),
    ]
    digests = {other.sha256 for other in others}
    assert len(digests) == len(others) and crosscoder.sha256 not in digests
