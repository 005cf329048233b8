"""Measures of interaction against loops over inputs, neurons and features; groups; fidelity."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from compactproofs.crosscoders import (
    Crosscoder,
    CrosscoderConfig,
    CrosscoderError,
    EncodedDataset,
    encoded_from_codes,
    site_of,
)
from compactproofs.crosscoders import interactions as module
from compactproofs.crosscoders.clusters import Method, MissingClusteringError, clusters
from compactproofs.crosscoders.fidelity import Scheme, fidelity
from compactproofs.crosscoders.interactions import (
    Interactions,
    Measure,
    NeuronView,
    interactions,
    neuron_view,
)
from compactproofs.kernel import Transformer
from transformers_for_tests import float_forward, random_transformer

H, M, N = 7, 5, 30


def drawn(seed: int = 0, n: int = N, most: int = 4) -> tuple[NeuronView, EncodedDataset]:
    rng = np.random.default_rng(seed)
    codes = np.zeros((n, H), np.float32)
    for row in codes:
        chosen = rng.permutation(H)[: rng.integers(0, most + 1)]
        row[chosen] = rng.uniform(0.1, 2, len(chosen))
    view = NeuronView(rng.normal(size=(H, M)), rng.normal(size=M), rng.uniform(0.5, 2, M))
    return view, dataset_of(codes)


def dataset_of(codes: np.ndarray) -> EncodedDataset:
    n = len(codes)
    return encoded_from_codes(
        codes,
        token_ids=np.zeros((n, 2), int),
        position=np.ones(n, int),
        label=np.zeros(n, int),
        d_vocab=3,
        d_vocab_out=3,
    )


def looped(view: NeuronView, dataset: EncodedDataset, measure: Measure) -> np.ndarray:
    """One input, one neuron, one pair at a time."""

    def relu(z: float) -> float:
        return max(0.0, z)

    total = np.zeros((H, H))
    for code in dataset.dense().astype(float):
        for n in range(M):
            p = {i: code[i] * view.gain[i, n] for i in range(H) if code[i] > 0}
            z, beta, w = view.beta[n] + sum(p.values()), view.beta[n], view.weight[n]
            strongest = max(p, key=lambda i: abs(p[i]), default=None)
            for i in p:
                for j in p:
                    if i == j:
                        continue
                    if measure is Measure.PUBLISHED:
                        total[i, j] += w * abs(p[j]) * (i == strongest)
                    elif measure is Measure.SMALLER:
                        total[i, j] += w * min(abs(p[i]), abs(p[j]))
                    else:
                        base = beta if measure is Measure.SECOND_DIFFERENCE else z - p[i] - p[j]
                        total[i, j] += w * abs(
                            relu(base + p[i] + p[j])
                            - relu(base + p[i])
                            - relu(base + p[j])
                            + relu(base)
                        )
    return total / len(dataset)


@pytest.mark.parametrize("measure", list(Measure))
@pytest.mark.parametrize("numbers", [1 << 20, 40])
def test_every_neuron_of_every_input_counts(
    measure: Measure, numbers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_NUMBERS", numbers)
    steps: list[int] = []
    for seed in range(4):
        view, dataset = drawn(seed)
        steps.clear()
        found = interactions(view, dataset, measure, tick=lambda done, of: steps.append(done))
        assert found.matrix == pytest.approx(looped(view, dataset, measure), abs=1e-12)
        assert steps[-1] == N and (len(steps) > 5) == (numbers == 40)
        active = dataset.dense() > 0
        assert np.array_equal(found.together, active.T.astype(int) @ active)


def test_a_pair_that_meets_at_several_neurons_counts_at_each() -> None:
    # The published code scatters with duplicate rows, of which one alone is kept.
    view = NeuronView(np.array([[3.0] * M, [1.0] * M]), np.zeros(M), np.arange(1.0, M + 1))
    dataset = dataset_of(np.ones((4, 2), np.float32))
    published = interactions(view, dataset, Measure.PUBLISHED)
    assert published.matrix[0, 1] == pytest.approx(view.weight.sum())
    assert published.matrix[1, 0] == 0
    kept_once = np.zeros((2, 2))
    kept_once[np.zeros(M, int), np.ones(M, int)] += view.weight
    assert kept_once[0, 1] == view.weight[-1] < published.matrix[0, 1]


def test_second_differences_never_exceed_the_smaller_pull() -> None:
    for seed in range(5):
        view, dataset = drawn(seed)
        smaller = interactions(view, dataset, Measure.SMALLER).matrix
        for measure in (Measure.SECOND_DIFFERENCE, Measure.IN_CONTEXT):
            assert (interactions(view, dataset, measure).matrix <= smaller + 1e-12).all()
        two_at_most, few = drawn(seed, most=2)
        assert interactions(two_at_most, few, Measure.IN_CONTEXT).matrix == pytest.approx(
            interactions(two_at_most, few, Measure.SECOND_DIFFERENCE).matrix
        )


def test_the_dominant_share_of_loops() -> None:
    view, dataset = drawn(3)
    shares: list[list[float]] = [[] for _ in range(M)]
    top = mass = 0.0
    for code in dataset.dense().astype(float):
        for n in range(M):
            sizes = np.abs(code * view.gain[:, n])
            if sizes.sum():
                shares[n].append(sizes.max() / sizes.sum())
                top += view.weight[n] * sizes.max()
                mass += view.weight[n] * sizes.sum()
    found = interactions(view, dataset)
    assert found.share_of_neuron == pytest.approx(np.array([np.mean(s) for s in shares]))
    assert found.dominant_share == pytest.approx(np.mean(np.concatenate(shares)))
    assert found.dominant_mass == pytest.approx(top / mass)


def test_nothing_active_is_no_interaction() -> None:
    view, _ = drawn()
    for codes in (np.zeros((3, H), np.float32), np.zeros((0, H), np.float32)):
        found = interactions(view, dataset_of(codes))
        assert not found.matrix.any() and found.ranked() == ()
        assert np.isnan(found.dominant_share) and np.isnan(found.share_of_neuron).all()


def test_pairs_are_ranked_by_what_they_add() -> None:
    view, dataset = drawn(1)
    for measure in Measure:
        found = interactions(view, dataset, measure)
        pairs = found.ranked()
        assert [p.mean for p in pairs] == sorted((p.mean for p in pairs), reverse=True)
        assert all(p.first < p.second and p.mean > 0 for p in pairs)
        both = found.matrix + found.matrix.T
        of_pair = both if measure is Measure.PUBLISHED else both / 2
        assert sum(p.mean for p in pairs) == pytest.approx(np.triu(of_pair, 1).sum())
        for p in pairs:
            assert p.when_together * p.together == pytest.approx(p.mean * N)
        assert found.ranked(2) == pairs[:2]


def test_another_number_of_features_is_refused() -> None:
    view, dataset = drawn()
    with pytest.raises(CrosscoderError, match="7 features, but the crosscoder has 6"):
        interactions(replace(view, gain=view.gain[:-1]), dataset)


# Groups


def three_groups() -> np.ndarray:
    rng = np.random.default_rng(2)
    own = 0.01 * rng.random((11, 11))
    for part in (slice(0, 2), slice(2, 6), slice(6, 9)):
        own[part, part] = 5 + rng.random((part.stop - part.start,) * 2)
    own = own + own.T
    own[9:], own[:, 9:] = 0.0, 0.0
    return own


@pytest.mark.parametrize(
    "method, number", [(Method.AFFINITY_PROPAGATION, None), (Method.SPECTRAL, 3)]
)
def test_features_that_interact_are_in_one_group(method: Method, number: int | None) -> None:
    pytest.importorskip("sklearn")
    found = clusters(three_groups(), method, number)
    assert found.tolist() == [2, 2, 0, 0, 0, 0, 1, 1, 1, -1, -1]
    assert np.array_equal(found, clusters(three_groups(), method, number))


def test_groups_of_a_measured_matrix_follow_the_features() -> None:
    pytest.importorskip("sklearn")
    view, dataset = drawn(1)
    of_pairs = interactions(view, dataset).of_pairs
    order = np.random.default_rng(0).permutation(H)
    found, moved = clusters(of_pairs), clusters(of_pairs[np.ix_(order, order)])
    assert len(np.unique(found)) > 1
    same = found[:, None] == found
    assert np.array_equal(same[np.ix_(order, order)], moved[:, None] == moved)


def test_what_cannot_be_grouped() -> None:
    assert clusters(np.zeros((3, 3))).tolist() == [-1, -1, -1]
    for matrix in (np.ones((2, 3)), -np.ones((2, 2)), np.full((2, 2), np.nan)):
        with pytest.raises(CrosscoderError, match="square matrix"):
            clusters(matrix)
    for method, number in (
        (Method.SPECTRAL, None),
        (Method.SPECTRAL, 0),
        (Method.SPECTRAL, 10),
        (Method.AFFINITY_PROPAGATION, 3),
    ):
        with pytest.raises(CrosscoderError, match="number = "):
            clusters(three_groups(), method, number)


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.cluster", None)
    with pytest.raises(MissingClusteringError, match=r"pip install 'compactproofs\[gate\]'"):
        clusters(three_groups())


def test_importing_needs_neither_torch_nor_scikit_learn() -> None:
    code = (
        "import sys, compactproofs.crosscoders.interactions, compactproofs.crosscoders.fidelity, "
        "compactproofs.crosscoders.clusters, compactproofs.cli._crosscoder_view, "
        "compactproofs.cli._crosscoder_interactions; "
        "sys.exit(bool({'torch', 'sklearn', 'scipy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


# Fidelity


def crosscoder_of(net: Transformer, seed: int = 0, positions: str = "last") -> Crosscoder:
    """A random dictionary, and an encoder that is its transpose."""
    rng = np.random.default_rng(seed)
    names = [f"blocks.{n}.hook_resid_mid" for n in range(len(net.blocks))]
    shape = (9, len(names), net.d_model)
    W_dec = rng.normal(size=shape).astype(np.float32)
    config = CrosscoderConfig(
        "topk_crosscoder",
        tuple(site_of(name) for name in names),
        (net.d_model,) * len(names),
        9,
        k=3,
        positions=positions,
        model_sha256=net.sha256,
    )
    return Crosscoder(
        config,
        W_enc=W_dec.transpose(1, 2, 0) / 4,
        b_enc=np.full(9, 0.1, np.float32),
        W_dec=W_dec,
        b_dec=rng.normal(size=shape[1:]).astype(np.float32),
    )


def looped_logits(
    net: Transformer, crosscoder: Crosscoder, tokens: np.ndarray, layer: int, scheme: Scheme
) -> np.ndarray:
    """One sequence, one position, one neuron at a time, and the later layers by another forward."""
    found = float_forward(net, tokens)
    names = [site.name for site in crosscoder.config.sites]
    block, answers = net.blocks[layer], []
    for row in range(len(tokens)):
        post = found[f"blocks.{layer}.hook_resid_post"][row].copy()
        every = range(net.n_ctx) if crosscoder.config.positions == "all" else [net.n_ctx - 1]
        for at in every:
            acts = np.array([[found[name][row, at] for name in names]])
            (code,) = crosscoder.encode(acts)
            mid = found[f"blocks.{layer}.hook_resid_mid"][row, at]
            post[at] = mid + block.b_out
            for n in range(block.d_mlp):
                w = block.W_in[:, n]
                p = [float(f) * (d[layer] @ w) for f, d in zip(code, crosscoder.W_dec, strict=True)]
                beta = crosscoder.b_dec[layer] @ w + block.b_in[n]
                strongest = max(p, key=abs)
                z = {
                    Scheme.MODEL: mid @ w + block.b_in[n],
                    Scheme.ALL: beta + sum(p),
                    Scheme.STRONGEST: beta + strongest,
                    Scheme.OTHERS: beta + sum(p) - strongest,
                    Scheme.NONE: beta,
                }[scheme]
                post[at] += max(0.0, z) * block.W_out[n]
        if layer < len(net.blocks) - 1:
            later = replace(
                net,
                blocks=net.blocks[layer + 1 :],
                W_E=np.concatenate([post - net.W_pos, net.W_E])[: net.n_ctx],
            )
            answers.append(float_forward(later, np.arange(net.n_ctx)[None])["logits"][0])
        else:
            answers.append(post[-1] @ net.W_U + net.b_U)
    return np.array(answers)


@pytest.mark.parametrize("layer, positions", [(0, "last"), (1, "last"), (0, "all"), (1, "all")])
def test_fidelity_of_every_scheme_by_loops(layer: int, positions: str) -> None:
    rng = np.random.default_rng(layer)
    net = random_transformer(rng, k=3, v=4, layers=2, mlp=6, weights=3.0)
    crosscoder = crosscoder_of(net, positions=positions)
    tokens, labels = rng.integers(0, 4, (12, 3)), rng.integers(0, 4, 12)
    found = {one.scheme: one for one in fidelity(net, crosscoder, tokens, labels, layer)}
    losses = {}
    for scheme in Scheme:
        logits = looped_logits(net, crosscoder, tokens, layer, scheme)
        own = logits[np.arange(12), labels]
        losses[scheme] = float(np.mean(np.log(np.exp(logits).sum(axis=1)) - own))
        assert found[scheme].loss == pytest.approx(losses[scheme], rel=1e-5)
        assert found[scheme].accuracy == (logits.argmax(axis=1) == labels).mean()
    for scheme in Scheme:
        lost = losses[Scheme.NONE] - losses[Scheme.MODEL]
        expected = 1 - (losses[scheme] - losses[Scheme.MODEL]) / lost
        assert found[scheme].fidelity == pytest.approx(expected, rel=1e-4, abs=1e-4)
    assert found[Scheme.MODEL].fidelity == 1 and found[Scheme.NONE].fidelity == 0
    assert len({round(loss, 6) for loss in losses.values()}) == 5


def test_ties_are_not_right() -> None:
    net = random_transformer(np.random.default_rng(0), k=2, v=3, mlp=4)
    net = replace(net, W_U=np.zeros_like(net.W_U), b_U=np.zeros(3))
    crosscoder = crosscoder_of(net)
    found = fidelity(net, crosscoder, np.zeros((4, 2), int), np.zeros(4, int), 0)
    assert [one.accuracy for one in found] == [0.0] * 5
    assert all(np.isnan(one.fidelity) for one in found)


def test_the_view_of_an_mlp_is_in_raw_units_and_of_a_layer_with_neurons() -> None:
    net = random_transformer(np.random.default_rng(0), k=2, v=3, layers=2, mlp=4)
    crosscoder = crosscoder_of(net)
    for layer, block in enumerate(net.blocks):
        view = neuron_view(net, crosscoder, layer)
        assert view.gain == pytest.approx(np.float64(crosscoder.W_dec[:, layer]) @ block.W_in)
        assert view.beta == pytest.approx(crosscoder.b_dec[layer] @ block.W_in + block.b_in)
        assert view.weight == pytest.approx(np.sqrt((block.W_out**2).sum(axis=1)))
    for layer in (-1, 2):
        with pytest.raises(CrosscoderError, match=rf"layer {layer} has no MLP; .* \[0, 1\]"):
            neuron_view(net, crosscoder, layer)
    bare = random_transformer(np.random.default_rng(0), k=2, v=3, mlp=0)
    with pytest.raises(CrosscoderError, match=r"layer 0 has no MLP; layers with one: \[\]"):
        neuron_view(bare, crosscoder, 0)
    other = replace(crosscoder, config=replace(crosscoder.config, model_sha256="0" * 64))
    with pytest.raises(CrosscoderError, match="was trained on the model"):
        fidelity(net, other, np.zeros((1, 2), int), np.zeros(1, int), 0)


def test_results_are_plain_values() -> None:
    view, dataset = drawn()
    found = interactions(view, dataset)
    assert isinstance(found, Interactions) and found.inputs == N
    assert found.measure is Measure.SECOND_DIFFERENCE
    assert np.array_equal(found.of_pairs, found.of_pairs.T) and not np.diag(found.of_pairs).any()
