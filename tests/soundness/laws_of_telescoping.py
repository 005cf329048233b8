"""The laws of norm balls and of the theorem ``crosscoder-a``.

Balls are attacked by vectors on their surface, random ones and those that gain most; what is
computed in float64 here is far more exact than the room of each comparison.
"""

import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from types import ModuleType
from typing import Any

import numpy as np

from compactproofs.kernel import Transformer
from compactproofs.kernel import parse_task as our_parse_task
from transformers_for_tests import random_transformer

from .deep_networks import after_mlp, attended, forward, subjects
from .laws_of_networks import networks, transformer_for, truth_of
from .truth import all_sequences

_ROOM = 1e-7


def _module(kernel: ModuleType, name: str) -> Any:
    return sys.modules[f"{kernel.__name__}.{name}"]


def _ledger(kernel: ModuleType) -> Any:
    return _module(kernel, "_ledger").Ledger()


def _exact(kernel: ModuleType, values: np.ndarray) -> Any:
    return _module(kernel, "_enclosure").Ball.exact(values, _ledger(kernel))


def total_variations(kernel: ModuleType) -> Iterator[str]:
    """No move of the scores within its bounds moves more weight; and some move nearly as much."""
    rng = np.random.default_rng(51)
    bound_of = _module(kernel, "_norm_balls").total_variation
    nearest: dict[str, float] = {"even": 1.0, "one": 1.0}
    for trial in range(60):
        k = 1 + trial % 5
        score = rng.normal(size=k) * (0.1, 1.0, 5.0)[trial % 3]
        even = trial % 2 == 0
        moves = np.full(k, rng.uniform(0, 2)) if even else rng.uniform(0, 2, k) * (np.arange(k) < 1)
        weight = np.exp(score) / np.exp(score).sum()
        seen = np.ones((1, k), dtype=bool)
        bound = bound_of(_exact(kernel, weight[None, None]), moves[None, None], seen)[0, 0]
        most = 0.0
        for signs in product((-1.0, 1.0), repeat=k):
            raised = weight * np.exp(moves * signs)
            most = max(most, np.maximum(raised / raised.sum() - weight, 0.0).sum())
        if most > bound + 1e-12:
            yield f"{most} of the weight moves, and {bound} is the bound"
        if k > 1:
            kind = "even" if even else "one"
            nearest[kind] = min(nearest[kind], bound / most if most else np.inf)
    for kind, ratio in nearest.items():
        if ratio > 1.2:
            yield f"bounds on moved weight are never near the truth ({kind}: {ratio})"
    hidden = np.array([[True, False, True]])
    weight = _exact(kernel, np.array([[[0.5, 0.0, 0.5]]]))
    if bound_of(weight, np.array([[[0.0, 9.0, 0.0]]]), hidden)[0, 0] > 1e-12:
        yield "what is hidden moves weight"


def _surface(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    way = rng.normal(size=shape)
    return way / np.linalg.norm(way, axis=-1, keepdims=True)


def balls_through_mlps(kernel: ModuleType) -> Iterator[str]:
    """An MLP takes no vector of a ball further than said; and some of them nearly as far."""
    rng = np.random.default_rng(52)
    module = _module(kernel, "_norm_balls")
    nearest = {"global": np.inf, "local": np.inf}
    for _ in range(60):
        mlp = int(rng.integers(0, 4))
        net = random_transformer(rng, k=1, v=2, mlp=mlp, d=4, h=2)
        ours = transformer_for(kernel, net)
        block = net.blocks[0]
        norms = module.block_norms(ours, ours.blocks[0], _ledger(kernel))
        centre = rng.normal(size=(3, 1, 4))
        radius = 10.0 ** rng.uniform(-2, 2, (3, 1))
        found, grown = module.through_mlp(ours.blocks[0], norms, _exact(kernel, centre), radius)
        at_centre = after_mlp(block, centre)
        if (np.abs(found.mid - at_centre) > found.rad + 1e-9).any():
            yield "the centre of a ball is not what the MLP makes of it"
        tried = [_surface(rng, centre.shape) for _ in range(30)]
        for on in product((0.0, 1.0), repeat=mlp):
            jacobian = np.eye(4) + block.W_in @ (np.array(on)[:, None] * block.W_out)
            worst = np.linalg.svd(jacobian)[0][:, 0]
            tried += [np.broadcast_to(sign * worst, centre.shape) for sign in (1.0, -1.0)]
        moved = np.max(
            [
                np.linalg.norm(after_mlp(block, centre + radius[..., None] * t) - at_centre, axis=2)
                for t in tried
            ],
            axis=0,
        )
        if (moved > grown * (1 + 1e-9) + _ROOM).any():
            yield "an MLP takes a vector further than its ball"
        kind = "global" if norms.mlp < 1.0 + np.linalg.norm(block.W_in) else "local"
        nearest[kind] = min(nearest[kind], float((grown / moved).min()))
    if max(nearest.values()) > 1.5:
        yield f"balls through MLPs are never near what moves ({nearest})"


def balls_through_attention(kernel: ModuleType) -> Iterator[str]:
    """Attention takes no vectors of balls further than said."""
    rng = np.random.default_rng(53)
    module = _module(kernel, "_norm_balls")
    for trial in range(48):
        k, heads = 1 + trial % 3, 1 + trial % 2
        direction = ("causal", "bidirectional")[trial % 2]
        net = random_transformer(
            rng, k=k, v=2, heads=heads, mlp=0, d=4, h=2, scale=(0.5, 4.0)[trial % 2],
            direction=direction,
        )  # fmt: skip
        ours = transformer_for(kernel, net)
        norms = module.block_norms(ours, ours.blocks[0], _ledger(kernel))
        centre = rng.normal(size=(4, k, 4))
        radius = (1.0, 0.1, 0.01)[trial % 3] * rng.uniform(0, 1, (4, k))
        queries = range(trial % k, k)
        found, grown = module.through_attention(
            ours, ours.blocks[0], norms, _exact(kernel, centre), radius, queries
        )
        at_centre = _attended_at(net, centre, queries)
        if (np.abs(found.mid - at_centre) > found.rad + 1e-9).any():
            yield "the centre of a ball is not what attention makes of it"
        tried = [_surface(rng, centre.shape) for _ in range(30)]
        tried += _climbed(net, rng, centre, radius, queries)
        for way in tried:
            moved = _attended_at(net, centre + radius[..., None] * way, queries)
            if (np.linalg.norm(moved - at_centre, axis=2) > grown + _ROOM).any():
                yield "attention takes vectors further than their balls"
                break


def _climbed(
    net: Transformer,
    rng: np.random.Generator,
    centre: np.ndarray,
    radius: np.ndarray,
    queries: range,
) -> list[np.ndarray]:
    """Ways that take each output far from where it is, by steps in random directions."""
    at_centre = _attended_at(net, centre, queries)

    def far(way: np.ndarray) -> np.ndarray:
        moved = _attended_at(net, centre + radius[..., None] * way, queries)
        return np.linalg.norm(moved - at_centre, axis=2).max(axis=1)

    way = _surface(rng, centre.shape)
    best = far(way)
    for step in range(40):
        new = way + 0.5 * 0.95**step * rng.normal(size=way.shape)
        new /= np.linalg.norm(new, axis=-1, keepdims=True)
        found = far(new)
        better = found > best
        way = np.where(better[:, None, None], new, way)
        best = np.maximum(best, found)
    return [way]


def _attended_at(net: Transformer, residual: np.ndarray, queries: range) -> np.ndarray:
    everywhere = net.attention_dir == "bidirectional"
    return np.stack(
        [
            attended(
                net, net.blocks[0], residual[:, i], residual if everywhere else residual[:, : i + 1]
            )
            for i in queries
        ],
        axis=1,
    )


def single_radii(kernel: ModuleType) -> Iterator[str]:
    """Where one term alone is left, the radius is that term: each counts in full."""
    rng = np.random.default_rng(54)
    module = _module(kernel, "_norm_balls")
    for _ in range(8):
        net = random_transformer(rng, k=2, v=2, mlp=0, d=3, h=3, scale=1.0)
        ours = transformer_for(kernel, net)
        norms = module.block_norms(ours, ours.blocks[0], _ledger(kernel))
        block, root = net.blocks[0], float(net.score_divisor_squared) ** 0.5
        centre = rng.normal(size=(1, 2, 3))
        query = (centre[0, 1] @ block.W_Q[0] + block.b_Q[0]) / root
        key = centre[0] @ block.W_K[0] + block.b_K[0]
        value = (centre[0] @ block.W_V[0] + block.b_V[0]) @ block.W_O[0]
        score = key @ query
        a = np.exp(score - score.max()) / np.exp(score - score.max()).sum()
        size = 1e-6
        VO = np.linalg.norm(block.W_V[0] @ block.W_O[0], 2)
        mean = a @ value
        away = np.linalg.norm(value - mean, axis=1).max()
        K = key @ block.W_Q[0].T / root
        # Only the key moves: its own vector moves by |Q| r, and no other score does.
        moves = np.array([np.linalg.norm(query @ block.W_K[0].T) * size, 0.0])
        # Only the query moves: both scores do, by what their vectors differ from the mean.
        both = np.linalg.norm(K - a @ K, axis=1) * size
        both[1] += np.linalg.norm(query @ block.W_K[0].T) * size
        for radius, wanted in (
            (np.array([[size, 0.0]]), VO * size + 2 * _variation(a, moves) * away),
            (np.array([[0.0, size]]), size + VO * size + 2 * _variation(a, both) * away),
        ):
            _, grown = module.through_attention(
                ours, ours.blocks[0], norms, _exact(kernel, centre), radius, range(1, 2)
            )
            if not wanted * 0.99 <= grown[0, 0] <= wanted * 1.05:
                yield f"a radius {grown[0, 0]} where {wanted} is stated"


def crossed_radii(kernel: ModuleType) -> Iterator[str]:
    """Where no centre's query or key is read, scores move by the product of two errors alone."""
    rng = np.random.default_rng(57)
    module = _module(kernel, "_norm_balls")
    for _ in range(6):
        net = random_transformer(rng, k=2, v=2, mlp=0, d=5, h=2)
        block = replace(net.blocks[0], b_Q=np.zeros((1, 2)), b_K=np.zeros((1, 2)))
        net = replace(net, blocks=(block,))
        ours = transformer_for(kernel, net)
        norms = module.block_norms(ours, ours.blocks[0], _ledger(kernel))
        unread = np.linalg.svd(np.hstack([block.W_Q[0], block.W_K[0]]))[0][:, -1]
        no_key = np.linalg.svd(block.W_K[0])[0][:, 2:] @ rng.normal(size=3)
        centre = np.stack([3 * no_key, unread])[None]
        value = (centre[0] @ block.W_V[0] + block.b_V[0]) @ block.W_O[0]
        away = np.linalg.norm(value - value.mean(axis=0), axis=1).max()
        M = (
            np.linalg.norm(block.W_Q[0] @ block.W_K[0].T, 2)
            / float(net.score_divisor_squared) ** 0.5
        )
        VO = np.linalg.norm(block.W_V[0] @ block.W_O[0], 2)
        radius = np.array([[0.7, 0.5]])
        moves = M * 0.5 * radius[0]
        wanted = 0.5 + VO * 0.7 + 2 * _variation(np.array([0.5, 0.5]), moves) * away
        _, grown = module.through_attention(
            ours, ours.blocks[0], norms, _exact(kernel, centre), radius, range(1, 2)
        )
        if not wanted * 0.99 <= grown[0, 0] <= wanted * 1.05:
            yield f"a radius {grown[0, 0]} where {wanted} is stated"


def _variation(a: np.ndarray, moves: np.ndarray) -> float:
    """The smaller of the two stated bounds."""
    gains = 0.0
    for j in range(len(a)):
        others = sum(a[i] * np.exp(-moves[i] - moves[j]) for i in range(len(a)) if i != j)
        gains += a[j] / (a[j] + others) - a[j]
    return min(gains, float(np.tanh(moves.max() / 2)))


def drawn_witness(
    rng: np.random.Generator,
    net: Transformer,
    tokens: np.ndarray,
    noise: float | np.ndarray,
    coded: int,
) -> dict[str, np.ndarray]:
    """A feature for each input and position, that decodes to the truth and noise; a few atoms more.

    noise: at all sites, or of each, ``[S, 1, 1]``. coded: positions of the code.
    """
    true = forward(net, tokens)
    sites = [true.pre[0]]
    for number, block in enumerate(net.blocks):
        sites += [true.mid[number], after_mlp(block, true.mid[number])]
    exact = np.stack([site[:, -coded:] for site in sites])  # [S, n, P, d]
    S, n, P, d = exact.shape
    bias = rng.normal(size=(S, d))
    level = np.stack([np.full(n * P + 2, 2.0), rng.normal(size=n * P + 2)], axis=1)
    extra = rng.normal(size=(S, 2, d)) * noise
    known = (exact - bias[:, None, None]).reshape(S, n * P, d) / 2.0
    decoder = np.concatenate([known + noise * rng.normal(size=known.shape), extra], axis=1)
    own = 2 * np.arange(n * P).reshape(n, P)
    other = rng.choice([-1, 2 * n * P, 2 * n * P + 1, 2 * n * P + 3], (n, P))
    return {
        "decoder": decoder,
        "bias": bias,
        "level": level,
        "code": np.stack([other, own], axis=2).astype(np.int32),
    }


def slacks(kernel: ModuleType) -> Iterator[str]:
    """What the balls leave of a margin is never above the margin, whatever the code."""
    rng = np.random.default_rng(55)
    module = _module(kernel, "theorems.crosscoder_a")
    for net, name in subjects()[::2] + subjects()[-1:]:
        task = our_parse_task(name)
        tokens = all_sequences(task.k, task.v)
        labels = np.asarray(task.labels(tokens), dtype=np.int64)
        logits = forward(net, tokens).logits
        rows = np.arange(len(tokens))
        others = logits.copy()
        others[rows, labels] = -np.inf
        margin = logits[rows, labels] - others.max(axis=1)
        ours, theirs = transformer_for(kernel, net), kernel.parse_task(name)
        coded = (net.n_ctx, 1) if len(net.blocks) == 1 else (net.n_ctx,)
        noises = [1e-7, 1e-3, 0.1]
        for site in {int(rng.integers(2 * len(net.blocks))), 2 * len(net.blocks)}:  # one alone
            noises.append(0.3 * (np.arange(2 * len(net.blocks) + 1) == site)[:, None, None])
        for number, noise in enumerate(noises):
            for P in coded:
                arrays = drawn_witness(rng, net, tokens, noise, P)
                if number == 2:
                    arrays["code"] = rng.permutation(arrays["code"])
                claimed = np.zeros(len(tokens), dtype=np.int32)
                witness = module.TelescopingWitness(**arrays, claimed=claimed)
                book = module.Codebook.checked(ours, theirs, witness)
                telescope = module.Telescope(ours, book, _ledger(kernel))
                try:
                    slack = telescope.slack(tokens, labels, book.code)
                except kernel.EnclosureError:
                    continue
                if (slack > margin + _ROOM).any():
                    yield f"noise {number}: what balls leave is above the margin"
                if number == 0 and len(net.blocks) == 1 and (slack < margin - 1e-3).any():
                    yield "a code without errors loses much"


def accepted_claims(kernel: ModuleType) -> Iterator[str]:
    """Wrong answers are refused; right ones are counted, class by class, and nothing else."""
    rng = np.random.default_rng(56)
    for number, (name, net, task) in enumerate(networks()):
        tokens, exact, truth = truth_of(number)
        labels = our_parse_task(task).labels(tokens)
        right = np.array(
            [
                all(bool(row[y] > a) for x, a in enumerate(row) if x != y)
                for row, y in zip(exact, labels.tolist(), strict=True)
            ]
        )
        arrays = drawn_witness(rng, net, tokens, 0.0, net.n_ctx)
        if not all(np.isfinite(array).all() for array in arrays.values()):
            continue
        ours, parsed = transformer_for(kernel, net), kernel.parse_task(task)
        wrong = np.flatnonzero(~right)[:1]
        alone = np.arange(len(right)) == wrong[:, None]
        for claimed in (right, *alone, *(right | alone)):
            witness = kernel.TelescopingWitness(**arrays, claimed=claimed.astype(np.int32))
            try:
                proved = kernel.crosscoder_a(
                    ours, parsed, kernel.CrosscoderAOptions(), witness=witness
                )
            except (kernel.RejectedError, kernel.EnclosureError):
                continue
            if proved.claim.correct != int(claimed.sum()):
                yield f"{name}: {proved.claim.correct} counted, {int(claimed.sum())} claimed"
            for q, m, size, correct in proved.by_class:
                if size != truth[q, m].size or correct > truth[q, m].right:
                    yield f"{name}: {correct} of {size} in class ({q}, {m}), in truth {truth[q, m]}"


LAWS = (
    total_variations,
    balls_through_mlps,
    balls_through_attention,
    single_radii,
    crossed_radii,
    slacks,
    accepted_claims,
)


def of_balls(kernel: ModuleType) -> Iterator[str]:
    """The laws of norm balls."""
    for law in LAWS[:-2]:
        yield from law(kernel)


def of_telescoping(kernel: ModuleType) -> Iterator[str]:
    """The laws of the theorem."""
    for law in LAWS[-2:]:
        yield from law(kernel)


WEAK_SPOTS = {"_norm_balls.py": of_balls, "theorems/crosscoder_a.py": of_telescoping}
"""Where a defect of a file shows soonest."""
