"""The law of forward passes in enclosures, and of brute force by them."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
from flint import arb, ctx

from compactproofs.kernel import Transformer
from compactproofs.kernel import parse_task as our_parse_task
from compactproofs.kernel._network import sequences as our_sequences
from exact_networks import BITS, exact_counts, exact_logits
from random_models import float32, hostile_models
from transformers_for_tests import random_transformer

TASKS = ("max:k=3,v=3", "max:k=1,v=3", "max:k=2,v=4")


@cache
def networks() -> tuple[tuple[str, Transformer, str], ...]:
    """Name, transformer and task: random of every kind, and hostile ones."""
    rng = np.random.default_rng(31)
    found: list[tuple[str, Transformer, str]] = []
    for number, (layers, heads, mlp, direction) in enumerate(
        [
            (1, 1, 4, "causal"),
            (1, 2, 3, "bidirectional"),
            (2, 1, 4, "causal"),
            (2, 2, 0, "bidirectional"),
            (2, 1, 3, "bidirectional"),
            (3, 1, 2, "causal"),
        ]
    ):
        task = TASKS[number % len(TASKS)]
        parsed = our_parse_task(task)
        for scale, weights in ((1.0, 1.0), (30.0, 1.0), (0.3, 1e-6)):
            net = random_transformer(
                rng,
                k=parsed.k,
                v=parsed.v,
                layers=layers,
                heads=heads,
                mlp=mlp,
                d=4,
                h=2,
                scale=scale,
                weights=weights,
                direction=direction,
            )
            found.append((f"{layers} layers, {heads} heads, {mlp}, {direction}", net, task))
    for name, model in hostile_models(rng, k=3, v=3).items():
        if name != "float32 limits":
            found.append((name, model.as_transformer(), "max:k=3,v=3"))
    found.append(("tie by equal outputs", _with_equal_outputs(found[0][1]), TASKS[0]))
    found.append(("tie broken beyond float64", _with_broken_tie(found[0][1]), TASKS[0]))
    found.append(("neurons at zero", _with_neurons_at_zero(found[0][1]), TASKS[0]))
    found.append(("tiny MLP", _scaled_mlp(found[0][1], 1e-42), TASKS[0]))
    found.append(("huge MLP", _scaled_mlp(found[0][1], 1e12), TASKS[0]))
    return tuple(found)


def _with_equal_outputs(net: Transformer) -> Transformer:
    W_U, b_U = np.array(net.W_U), np.array(net.b_U)
    W_U[:, 1], b_U[1] = W_U[:, 0], b_U[0]
    return replace(net, W_U=W_U, b_U=b_U)


def _with_broken_tie(net: Transformer) -> Transformer:
    """Output 1 is above output 0 by 1e-25 everywhere."""
    W_U, b_U = np.array(net.W_U), np.array(net.b_U)
    W_U[:, 1] = W_U[:, 0]
    b_U[0], b_U[1], b_U[2:] = 0.0, float32(np.array(1e-25)), b_U[2:] - 50.0
    return replace(net, W_U=W_U, b_U=b_U)


def _with_neurons_at_zero(net: Transformer) -> Transformer:
    block = replace(
        net.blocks[0],
        W_in=np.zeros_like(net.blocks[0].W_in),
        b_in=np.zeros_like(net.blocks[0].b_in),
    )
    return replace(net, blocks=(block, *net.blocks[1:]))


def _scaled_mlp(net: Transformer, by: float) -> Transformer:
    block = net.blocks[0]
    scaled = replace(block, W_in=float32(block.W_in * by), b_in=float32(block.b_in * by))
    return replace(net, blocks=(scaled, *net.blocks[1:]))


@cache
def truth_of(number: int) -> tuple[np.ndarray, list[list[arb]], dict[tuple[int, int], Any]]:
    """All sequences, their exact logits and the true counts of one of ``networks``."""
    _, net, task = networks()[number]
    parsed = our_parse_task(task)
    tokens = our_sequences(parsed, 0, parsed.total)
    return tokens, exact_logits(net, tokens), exact_counts(net, parsed, tokens)


def transformer_for(kernel: ModuleType, net: Transformer) -> Any:
    """The same transformer as an object of a copy of the kernel."""
    blocks = tuple(kernel.Block(**vars(block)) for block in net.blocks)
    return kernel.Transformer(**(vars(net) | {"blocks": blocks}))


def forward_passes(kernel: ModuleType) -> Iterator[str]:
    """Enclosures of logits contain the exact ones, and are narrow where nothing is extreme."""
    module: Any = sys.modules[f"{kernel.__name__}._network"]
    ledger: Any = sys.modules[f"{kernel.__name__}._ledger"]
    before, ctx.prec = ctx.prec, BITS
    try:
        for number, (name, net, _) in enumerate(networks()):
            tokens, exact, _ = truth_of(number)
            found = module.logits(transformer_for(kernel, net), tokens, ledger.Ledger())
            for n, row in enumerate(exact):
                for x, number_ in enumerate(row):
                    mid, rad = arb(float(found.mid[n, x])), arb(float(found.rad[n, x]))
                    if not bool(abs(number_ - mid) <= rad) and not number_.rad() > rad.mid():
                        yield f"{name}: logit {x} of {tokens[n].tolist()} is outside its enclosure"
                        return
    finally:
        ctx.prec = before


def brute_force_by_forward_passes(kernel: ModuleType) -> Iterator[str]:
    """Brute force counts what is true, class by class, in blocks of any size."""
    module: Any = sys.modules[f"{kernel.__name__}.theorems._brute_force_network"]
    before = module._NUMBERS
    try:
        for module._NUMBERS in (before, 200):
            for number, (name, net, task) in enumerate(networks()):
                _, _, truth = truth_of(number)
                proved = module.brute_force_network(
                    transformer_for(kernel, net), kernel.parse_task(task), None
                )
                sizes = {(q, m): size for q, m, size, _ in proved.by_class}
                if sizes != {key: count.size for key, count in truth.items()}:
                    yield f"{name}: the classes are not the true ones"
                    return
                for q, m, _, correct in proved.by_class:
                    if correct > truth[q, m].right:
                        yield f"{name}: {correct} of class ({q}, {m}), in truth {truth[q, m].right}"
                right = sum(count.right for count in truth.values())
                claim = proved.claim
                if not claim.correct <= right <= claim.correct + claim.undecided:
                    yield f"{name}: finds {claim.correct} (+{claim.undecided}) of {right}"
                if claim.undecided and "layers" in name:
                    yield f"{name}: {claim.undecided} undecided of a model without near ties"
    finally:
        module._NUMBERS = before


def parts_of_networks(kernel: ModuleType) -> Iterator[str]:
    """A part of a task lists its own queries alone."""
    module: Any = sys.modules[f"{kernel.__name__}._network"]
    task = kernel.parse_task("max:k=3,v=3,q=1-2", parts=True)
    listed = module.sequences(task, 0, task.total).tolist()
    wanted = [[a, b, q] for a in range(3) for b in range(3) for q in (1, 2)]
    if listed != wanted or module.sequences(task, 5, 9).tolist() != wanted[5:9]:
        yield "the sequences of a part are not those with its queries"


def functions_of_balls(kernel: ModuleType) -> Iterator[str]:
    """Sums, ReLUs, reciprocals, exponentials and norms hold for the ends of their operands."""
    module: Any = sys.modules[f"{kernel.__name__}._enclosure"]
    ledger = sys.modules[f"{kernel.__name__}._ledger"].Ledger()
    rng = np.random.default_rng(32)
    before, ctx.prec = ctx.prec, BITS
    try:
        for trial in range(40):
            size = 10.0 ** rng.integers(-12, 12, 6)
            mid = rng.normal(size=6) * size
            rad = np.abs(rng.normal(size=6)) * size * (trial % 3)
            ball = module.Ball(mid, rad, ledger)
            ends = [
                [arb(m) + sign * arb(r) for m, r in zip(mid.tolist(), rad.tolist(), strict=True)]
                for sign in (-1, 1)
            ]
            lower, upper = ball.relu().lower(), ball.relu().upper()
            for end in ends:
                if not _inside(sum(end, arb(0)), ball.sum(0)):
                    yield "a sum leaves its enclosure"
                if any(
                    max(x, arb(0)) < a or max(x, arb(0)) > b
                    for x, a, b in zip(end, lower.tolist(), upper.tolist(), strict=True)
                ):
                    yield "a ReLU leaves its enclosure"
                if sum((x * x for x in end), arb(0)) > arb(float(module.norm_upper(ball))) ** 2:
                    yield "a norm is above its bound"
            positive = module.Ball(np.abs(mid) + rad + size, rad, ledger)
            small = module.Ball(mid / size * 3 - 5, rad / size, ledger)
            for sign in (-1, 1):
                for x, r, one, other in zip(
                    positive.mid.tolist(),
                    rad.tolist(),
                    _each(positive.reciprocal()),
                    range(6),
                    strict=True,
                ):
                    if not _inside(1 / (arb(x) + sign * arb(r)), one):
                        yield "a reciprocal leaves its enclosure"
                    end = arb(float(small.mid[other])) + sign * arb(float(small.rad[other]))
                    if not _inside(end.exp(), _each(module.exp_ball(small))[other]):
                        yield "an exponential leaves its enclosure"
    finally:
        ctx.prec = before


def _each(ball: Any) -> list[Any]:
    return [ball[n] for n in range(len(ball.mid))]


def _inside(number: arb, ball: Any) -> bool:
    return bool(abs(number - arb(float(ball.mid))) <= arb(float(ball.rad)) * (1 + arb(2) ** -60))


def weights_of_attention(kernel: ModuleType) -> Iterator[str]:
    """Attention weights hold for all scores in their enclosures, and hidden positions get none."""
    module: Any = sys.modules[f"{kernel.__name__}._network"]
    enclosure: Any = sys.modules[f"{kernel.__name__}._enclosure"]
    ledger = sys.modules[f"{kernel.__name__}._ledger"].Ledger()
    rng = np.random.default_rng(33)
    seen = np.tril(np.ones((3, 3), dtype=bool))
    for scale in (1.0, 1e-9, 300.0):
        mid, rad = rng.normal(size=(5, 3, 3)) * scale, rng.uniform(0, 0.5, (5, 3, 3))
        found = module.softmax(enclosure.Ball(mid, rad, ledger), seen)
        for _ in range(20):
            scores = np.where(seen, mid + rad * rng.choice([-1, 1], mid.shape), -np.inf)
            weight = np.exp(scores - scores.max(2, keepdims=True))
            weight /= weight.sum(2, keepdims=True)
            room = 1e-12
            if (weight < found.lower() - room).any() or (weight > found.upper() + room).any():
                yield "an attention weight leaves its enclosure"
        if (found.mid[:, ~seen] != 0).any() or found.upper()[:, ~seen].max() > 1e-300:
            yield "a hidden position has weight"


LAWS = (
    parts_of_networks,
    functions_of_balls,
    weights_of_attention,
    forward_passes,
    brute_force_by_forward_passes,
)
