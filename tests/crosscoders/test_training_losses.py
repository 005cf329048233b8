from typing import Any

import numpy as np
import pytest
import torch
from training_examples import settings, source, transformer

from compactproofs.crosscoders import Crosscoder
from compactproofs.crosscoders.training import CrosscoderSettings, Readout, Revival
from compactproofs.crosscoders.training._interaction import (
    Decoded,
    Sparse,
    certificate_loss,
    certified_margins,
    contributions,
    dominant_share,
    interaction_penalty,
    sparse,
)
from compactproofs.crosscoders.training._loss import aux_loss, errors, reconstruction, sparsity
from compactproofs.crosscoders.training._proof_terms import decoded_site
from compactproofs.crosscoders.training._ranks import Ranks
from compactproofs.crosscoders.training._revival import Served, is_due, resample
from compactproofs.crosscoders.training._selection import (
    codes_of,
    estimated_threshold,
    jump_relu,
    smallest_kept,
)
from compactproofs.crosscoders.training._weights import (
    Masks,
    Normalisation,
    Weights,
    finished_crosscoder,
    initial_weights,
    unit_rows,
)

L, D, H, N = 3, 8, 16, 40


def _weights(seed: int = 0, *, jump: bool = False) -> Weights:
    torch.manual_seed(seed)
    return Weights(
        *(torch.randn(*shape).requires_grad_() for shape in ((L, D, H), (H,), (H, L, D), (L, D))),
        log_threshold=torch.full((H,), 0.3).requires_grad_() if jump else None,
    )


def _gradients(loss: torch.Tensor, weights: Weights) -> dict[str, torch.Tensor]:
    found = torch.autograd.grad(loss, weights.tensors(), allow_unused=True)
    names = [name for name, _ in weights.named()]
    return {n: g for n, g in zip(names, found, strict=True) if g is not None}


@pytest.mark.parametrize("score", ["sum", "concat", "none"])
@pytest.mark.parametrize(
    "architecture", ["topk_crosscoder", "l1_crosscoder", "jumprelu_crosscoder"]
)
def test_codes_in_training_are_those_of_the_finished_crosscoder(
    architecture: str, score: str
) -> None:
    chosen = settings(architecture=architecture, score=score)
    weights = _weights(jump=architecture.startswith("jump"))
    norm = Normalisation(torch.tensor([1.0, 0.5, 2.0]), torch.randn(L, D))
    raw = torch.randn(N, L, D)
    h = weights.pre_activations(norm.apply(raw))
    codes = codes_of(chosen, weights, h, Ranks()).detach()
    finished = finished_crosscoder(chosen, source(), weights, norm, norm, Masks(), None, {})
    assert finished.config.folded
    np.testing.assert_allclose(finished.encode(raw.numpy()), codes.numpy(), atol=2e-4)
    decoded = norm.undo(weights.decode(codes)).detach().numpy()
    np.testing.assert_allclose(finished.decode(codes.numpy()), decoded, atol=2e-4)


def test_batchtopk_keeps_the_largest_scores_of_the_batch() -> None:
    chosen = settings(architecture="batchtopk_crosscoder", k=2)
    weights = _weights()
    h = torch.randn(N, H)
    codes = codes_of(chosen, weights, h, Ranks()).detach()
    weight = weights.scores("sum").detach()
    kept = codes > 0
    assert int(kept.sum()) == 2 * N
    scores = torch.relu(h) * weight
    assert scores[kept].min() >= scores[~kept].max()
    assert smallest_kept(codes, weight, Ranks()) == scores[kept].min()
    threshold = estimated_threshold(scores, 2)
    assert torch.equal(scores > threshold, kept)


def test_the_threshold_is_0_where_too_few_scores_are_positive() -> None:
    assert estimated_threshold(torch.eye(4), 2) == 0.0


def test_jump_relu_has_the_gradients_of_the_recipe() -> None:
    threshold = 0.5
    h = torch.tensor([[-3.0], [0.2], [0.6], [5.0]], requires_grad=True)
    t = torch.tensor([np.log(threshold)], dtype=torch.float32, requires_grad=True)
    f = jump_relu(h, t)
    assert f.flatten().tolist() == pytest.approx([0, 0, 0.6, 5])
    upstream = torch.tensor([[1.0], [2.0], [3.0], [4.0]])
    (f * upstream).sum().backward()
    assert h.grad is not None and h.grad.flatten().tolist() == [0, 0, 3, 4]
    # Only 0.2 and 0.6 are within half of the width 2 of the threshold.
    assert t.grad is not None and t.grad.item() == pytest.approx(-(threshold / 2) * (2 + 3))


def test_sparsity_of_l1_and_jumprelu() -> None:
    h = torch.randn(N, H)
    weights = _weights(jump=True)
    codes = jump_relu(h, torch.full((H,), 0.3))
    weight = weights.W_dec.detach().norm(dim=2).sum(dim=1)
    l1 = sparsity(settings(architecture="l1_crosscoder", sparsity=0.5), weights, h, codes, 0.2)
    assert l1.item() == pytest.approx(0.5 * (codes * weight).sum(1).mean().item(), rel=1e-5)
    jump = settings(architecture="jumprelu_crosscoder", sparsity=10.0, pre_activation=0.1)
    found = sparsity(jump, weights, h, codes, 0.25)
    tanh = torch.tanh(4 * codes * weight).sum(1).mean()
    below = (torch.relu(np.exp(0.3) - h) * weight).sum(1).mean()
    assert found.item() == pytest.approx((2.5 * tanh + 0.1 * below).item(), rel=1e-5)
    assert "log_threshold" in _gradients(found, weights)
    assert sparsity(settings(), weights, h, codes, 0.5).item() == 0


def test_the_auxiliary_loss_revives_dead_features_and_no_other() -> None:
    weights = _weights()
    x = torch.randn(N, L, D)
    h = weights.pre_activations(x)
    chosen = settings(k=1)
    codes = codes_of(chosen, weights, h, Ranks())
    error = errors(weights, codes, x)
    dead = torch.zeros(H, dtype=torch.bool)
    dead[[2, 5, 11]] = True
    loss = aux_loss(Revival(aux_k=2), weights, h, error, dead, Ranks())
    found = _gradients(loss, weights)
    moved = found["W_dec"].flatten(1).norm(dim=1) > 0
    assert torch.equal(moved, dead) and bool((found["b_enc"][~dead] == 0).all())
    assert "b_dec" not in found
    e = error.detach()
    assert loss.item() <= 10 * (1 + (e.square().sum() / e.var(dim=0).sum()).item())
    none = aux_loss(Revival(), weights, h, error, torch.zeros_like(dead), Ranks())
    assert none.item() == 0


def test_the_auxiliary_loss_is_1_if_dead_features_reconstruct_nothing_of_a_centred_error() -> None:
    weights = _weights()
    h = -torch.ones(N, H)
    error = torch.randn(N, L, D)
    error -= error.mean(dim=0)
    dead = torch.ones(H, dtype=torch.bool)
    loss = aux_loss(Revival(aux_k=4), weights, h, error, dead, Ranks())
    assert loss.item() == pytest.approx(1.0, rel=1e-5)
    few = aux_loss(Revival(aux_k=64), weights, h, error, dead, Ranks())
    assert few.item() == pytest.approx(H / 64, rel=1e-5)


def test_dead_features_move_onto_the_worst_samples() -> None:
    weights = _weights()
    before = {name: tensor.detach().clone() for name, tensor in weights.named()}
    optimiser = torch.optim.Adam(weights.tensors(), lr=0.0)
    weights.decode(weights.pre_activations(torch.randn(N, L, D))).square().sum().backward()
    optimiser.step()
    x, y, badness = torch.randn(N, L, D), torch.randn(N, L, D), torch.arange(N) % 7 + 0.0
    dead = torch.zeros(H, dtype=torch.bool)
    dead[[3, 8]] = True
    badness[[10, 20]] = 50.0
    drawn = np.random.default_rng(0)
    served = Served(x, y, badness)
    moved = resample(weights, optimiser, dead, served, Masks(), Ranks(), drawn)
    assert torch.equal(moved, dead)
    expected = {tuple(unit_rows(y - weights.b_dec)[n].flatten().tolist()) for n in (10, 20)}
    assert {tuple(weights.W_dec[i].flatten().tolist()) for i in (3, 8)} == expected
    for name, tensor in weights.named():
        axis = tensor.permute(2, 0, 1) if name == "W_enc" else tensor
        old = before[name].permute(2, 0, 1) if name == "W_enc" else before[name]
        if name != "b_dec":
            assert torch.equal(axis[~dead], old[~dead]) and not torch.equal(axis[dead], old[dead])
            moment = optimiser.state[tensor]["exp_avg"]
            moment = moment.permute(2, 0, 1) if name == "W_enc" else moment
            assert moment[dead].abs().max() == 0 and moment[~dead].abs().max() > 0
    every = torch.ones(H, dtype=torch.bool)
    moved = resample(weights, optimiser, every, served, Masks(), Ranks(), drawn)
    assert int(moved.sum()) == N // 4


@pytest.mark.parametrize(("step", "due"), [(14, False), (15, True), (70, False), (75, False)])
def test_features_are_moved_from_time_to_time(step: int, due: bool) -> None:
    assert is_due(Revival(resample_every=15, resample_until=0.7), step, 100) == due
    assert not is_due(Revival(resample_every=0), step, 100)


def test_reconstruction_sums_over_sites() -> None:
    error = torch.randn(N, L, D)
    assert reconstruction(error).item() == pytest.approx(
        np.mean([sum((one[s] ** 2).sum() for s in range(L)) for one in error.numpy()]), rel=1e-5
    )


def test_initial_weights() -> None:
    x = torch.randn(200, L, D)
    x -= x.mean(dim=0)
    weights = initial_weights(settings(), x, x, (x[:H], x[:H]), Masks(), seed=1)
    assert torch.allclose(weights.W_dec.flatten(1).norm(dim=1), torch.ones(H))
    cosines = (weights.W_dec.flatten(1) * unit_rows(x[:H]).flatten(1)).sum(dim=1)
    assert bool((cosines > 0.9).all())
    assert torch.allclose(weights.W_enc.permute(2, 0, 1), weights.W_dec, atol=1e-5)
    free = settings(initial="uniform", unit_decoder=False)
    drawn = initial_weights(free, x, x, (x[:H], x[:H]), Masks(), seed=1)
    n = L * D
    assert 0.9 < drawn.W_dec.abs().max().item() * n**0.5 <= 1
    assert torch.allclose(drawn.W_enc.permute(2, 0, 1), n / H * drawn.W_dec)
    jump = settings(architecture="jumprelu_crosscoder")
    calibrated = initial_weights(jump, x, x, (x[:H], x[:H]), Masks(), 1)
    assert calibrated.log_threshold is not None
    fires = calibrated.pre_activations(x) > calibrated.log_threshold.exp()
    assert fires.float().mean(dim=0).tolist() == pytest.approx([0.5] * H, abs=0.02)


def _problem(seed: int = 0, x: int = 5) -> tuple[Readout, Decoded, Sparse, Any, Any]:
    torch.manual_seed(seed)
    m, d, n, features, active = 7, 4, 12, 9, 3
    make: dict[str, Any] = {"dtype": torch.float64}
    readout = Readout(
        torch.randn(d, m, **make),
        torch.randn(m, **make),
        torch.randn(m, d, **make),
        torch.randn(d, **make),
        torch.randn(d, x, **make),
        torch.randn(x, **make),
    )
    decoded = Decoded(torch.randn(features, d, **make), torch.randn(d, **make))
    chosen = torch.stack([torch.randperm(features)[:active] for _ in range(n)])
    codes = Sparse(chosen, torch.rand(n, active, **make))
    u = decoded.base + (codes.values[:, :, None] * decoded.directions[chosen]).sum(1)
    u = u + 0.05 * torch.randn(n, d, **make)
    return readout, decoded, codes, u, torch.randint(x, (n,))


def _plain_margin(problem: Any, n: int, rival: int) -> float:
    """Theorem B of sample n against one rival, written down feature by feature."""
    readout, decoded, codes, u, label = problem
    W_in, b_in, W_out, b_out, W_U, b_U = (
        getattr(readout, name).numpy() for name in ("W_in", "b_in", "W_out", "b_out", "W_U", "b_U")
    )
    y = int(label[n])
    c = W_U[:, y] - W_U[:, rival]
    a = W_out @ c
    b = decoded.base.numpy()
    beta = b @ W_in + b_in
    relu = lambda z: np.maximum(z, 0)  # noqa: E731
    total = c @ (b + b_out) + b_U[y] - b_U[rival] + a @ relu(beta)
    omegas, decode = [], b.copy()
    for i, f in zip(codes.features[n].tolist(), codes.values[n].tolist(), strict=True):
        direction = decoded.directions[i].numpy()
        p = f * direction @ W_in
        h = relu(beta + p) - relu(beta)
        total += f * c @ direction + a @ h
        low, high = np.minimum(0, p) - h, np.maximum(0, p) - h
        omegas.append(-np.sum(np.maximum(a, 0) * low + np.minimum(a, 0) * high))
        decode += f * direction
    assert min(omegas) >= -1e-12
    rho = np.linalg.norm(u[n].numpy() - decode)
    norms = np.linalg.norm(W_in, axis=0)
    R = np.linalg.norm(c + W_in @ a / 2) + 0.5 * min(
        np.abs(a) @ norms, np.linalg.norm(W_in, 2) * np.linalg.norm(a)
    )
    return float(total - (sum(omegas) - max(omegas)) - R * rho)


def test_certified_margins_are_those_of_theorem_b() -> None:
    problem = _problem()
    certified = certified_margins(*problem)
    label = problem[4]
    for n in range(len(label)):
        for rival in range(5):
            found = certified.margin[n, rival].item()
            if rival == label[n]:
                assert found == np.inf
            else:
                assert found == pytest.approx(_plain_margin(problem, n, rival), abs=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_certified_margins_are_below_the_true_ones(seed: int) -> None:
    readout, decoded, codes, u, label = _problem(seed)
    certified = certified_margins(readout, decoded, codes, u, label)
    hidden = torch.relu(u @ readout.W_in + readout.b_in)
    logits = (u + hidden @ readout.W_out + readout.b_out) @ readout.W_U + readout.b_U
    true = logits.gather(1, label[:, None]) - logits
    others = torch.arange(5) != label[:, None]
    assert bool((certified.margin[others] <= true[others] + 1e-9).all())
    assert bool((certified.slack[others] >= -1e-12).all())


def test_the_most_dangerous_rivals_are_kept() -> None:
    problem = _problem()
    every, some = certified_margins(*problem), certified_margins(*problem, rivals=2)
    kept = torch.isfinite(some.margin)
    assert kept.sum(dim=1).tolist() == [2] * 12
    assert torch.allclose(some.margin[kept], every.margin[kept])
    nearest = every.sums.topk(2, dim=1, largest=False).indices.sort(dim=1).values
    assert nearest.equal(kept.nonzero()[:, 1].view(12, 2))


def test_the_certificate_loss_is_a_smooth_worst_margin_and_moves_everything() -> None:
    readout, decoded, codes, u, label = _problem()
    leaves = [one.clone().requires_grad_() for one in (*decoded, codes.values)]
    certified = certified_margins(
        readout, Decoded(leaves[0], leaves[1]), Sparse(codes.features, leaves[2]), u, label
    )
    loss = certificate_loss(certified, 2.0)
    worst = torch.nn.functional.softplus(-certified.margin.amin(dim=1) / 2)
    assert bool((loss >= worst - 1e-12).all()) and bool((loss <= worst + np.log(5)).all())
    for gradient in torch.autograd.grad(loss.mean(), leaves):
        assert bool(torch.isfinite(gradient).all()) and gradient.abs().max() > 0
    assert torch.autograd.gradcheck(
        lambda values: certificate_loss(
            certified_margins(readout, decoded, Sparse(codes.features, values), u, label), 2.0
        ),
        codes.values.clone().requires_grad_(),
    )


def test_a_perfect_reconstruction_has_a_finite_gradient() -> None:
    readout, decoded, codes, _, label = _problem()
    values = codes.values.clone().requires_grad_()
    exact = decoded.base + (codes.values[:, :, None] * decoded.directions[codes.features]).sum(1)
    certified = certified_margins(readout, decoded, Sparse(codes.features, values), exact, label)
    (gradient,) = torch.autograd.grad(certificate_loss(certified, 1.0).sum(), values)
    assert bool(torch.isfinite(gradient).all())


def test_the_interaction_penalty_is_that_of_the_bound() -> None:
    readout, decoded, codes, _, _ = _problem()
    found = interaction_penalty(readout, contributions(readout, decoded, codes))
    p = np.zeros((12, 3, 7))
    for n in range(12):
        for i in range(3):
            feature = int(codes.features[n, i])
            direction = decoded.directions[feature].numpy()
            p[n, i] = codes.values[n, i].item() * direction @ readout.W_in.numpy()
    weight = np.linalg.norm(readout.W_out.numpy(), axis=1)
    expected = ((np.abs(p).sum(1) - np.abs(p).max(1)) * weight).sum(1)
    np.testing.assert_allclose(found.numpy(), expected)
    share = (np.abs(p).max(1) / np.abs(p).sum(1)).mean()
    assert dominant_share(torch.from_numpy(p)).item() == pytest.approx(share)
    alone = Sparse(codes.features[:, :1], codes.values[:, :1])
    assert interaction_penalty(readout, contributions(readout, decoded, alone)).abs().max() == 0


def test_the_penalty_reaches_encoder_and_decoder() -> None:
    weights, norm = _weights(), Normalisation(torch.tensor([1.0, 0.5, 2.0]), torch.randn(L, D))
    h = weights.pre_activations(torch.randn(N, L, D))
    codes = codes_of(settings(), weights, h, Ranks())
    readout = Readout.of(transformer())
    p = contributions(readout, decoded_site(weights, norm, 1), sparse(codes))
    found = _gradients(interaction_penalty(readout, p).mean(), weights)
    assert all(found[name].abs().max() > 0 for name in ("W_enc", "b_enc", "W_dec"))
    # Only the site that the MLP reads is decoded.
    assert found["W_dec"][:, 0].abs().max() == 0 and found["W_dec"][:, 1].abs().max() > 0


def test_the_decoder_at_a_site_is_in_raw_units() -> None:
    weights, norm = _weights(), Normalisation(torch.tensor([1.0, 0.5, 2.0]), torch.randn(L, D))
    decoded = decoded_site(weights, norm, 2)
    codes = torch.rand(N, H)
    raw = norm.undo(weights.decode(codes))[:, 2]
    assert torch.allclose(codes @ decoded.directions + decoded.base, raw, atol=1e-5)


def test_sparse_keeps_every_active_feature() -> None:
    codes = torch.relu(torch.randn(N, H))
    active = sparse(codes)
    assert torch.equal(torch.zeros_like(codes).scatter(1, active.features, active.values), codes)
    assert sparse(torch.zeros(2, H)).values.shape == (2, 1)


def test_a_finished_crosscoder_of_weighted_sites_is_the_same_function() -> None:
    chosen = CrosscoderSettings(
        features=H,
        k=3,
        architecture="topk_crosscoder",
        normalize="none",
        site_weights=(1.0, 4.0, 9.0),
    )
    weights = _weights()
    norm = Normalisation(torch.tensor([1.0, 2.0, 3.0]), torch.zeros(L, D))
    finished = finished_crosscoder(chosen, source(), weights, norm, norm, Masks(), None, {})
    assert isinstance(finished, Crosscoder)
    raw = torch.randn(N, L, D)
    codes = codes_of(chosen, weights, weights.pre_activations(norm.apply(raw)), Ranks()).detach()
    np.testing.assert_allclose(finished.encode(raw.numpy()), codes.numpy(), atol=2e-4)
