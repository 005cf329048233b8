"""The laws of cells through depth: norms, shared prefixes, clouds, lines, and the theorem itself.

What is enclosed is compared with forward passes in float64, written here a second time; their
rounding is far below the room of each comparison. Counts are compared with exact truth.
"""

import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np

from compactproofs.kernel import Transformer
from compactproofs.kernel import parse_task as our_parse_task
from compactproofs.kernel._network import sequences as our_sequences
from transformers_for_tests import random_transformer

from .deep_networks import after_mlp, attended, forward, subjects
from .laws_of_networks import networks, transformer_for, truth_of

_ROOM = 1e-7


def _module(kernel: ModuleType, name: str) -> Any:
    return sys.modules[f"{kernel.__name__}.{name}"]


def _ball(kernel: ModuleType, values: np.ndarray) -> Any:
    return _module(kernel, "_enclosure").Ball.exact(values, _module(kernel, "_ledger").Ledger())


def spectral_norms(kernel: ModuleType) -> Iterator[str]:
    """No vector grows by more than the bound; and the bound is near."""
    rng = np.random.default_rng(41)
    for trial in range(60):
        rows, columns, rank = rng.integers(1, 9, 3)
        matrix = rng.normal(size=(rows, rank)) @ rng.normal(size=(rank, columns))
        matrix *= 10.0 ** rng.integers(-100, 100)
        if trial == 0:
            matrix[:] = 0
        bound = _module(kernel, "_norms").spectral_norm_upper(_ball(kernel, matrix))
        true = np.linalg.norm(matrix, 2)
        if not true * (1 - 1e-12) <= bound <= 1.02 * true + 1e-120:
            yield f"the norm {true} of a matrix {matrix.shape} is bounded by {bound}"
    if _module(kernel, "_norms").spectral_norm_upper(_ball(kernel, np.zeros((3, 0)))) != 0:
        yield "the norm of a matrix without columns is not 0"


def shared_prefixes(kernel: ModuleType) -> Iterator[str]:
    """``mid`` and ``z`` of every layer that is shared are those of a forward pass."""
    for blocks in (None, 30):
        for net, task in subjects():
            parsed = our_parse_task(task)
            tokens = our_sequences(parsed, 0, parsed.total)
            true = forward(net, tokens)
            module = _module(kernel, "_shared_prefix")
            before = module._NUMBERS
            module._NUMBERS = blocks or before
            try:
                shared = module.SharedPrefix(
                    transformer_for(kernel, net), _module(kernel, "_ledger").Ledger()
                )
                last = len(net.blocks) - 1
                for layer in range(last + 1) if shared.shares else (last,):
                    mid, z = shared.last(tokens, layer)
                    block, exact = net.blocks[layer], true.mid[layer][:, -1]
                    for found, wanted in ((mid, exact), (z, exact @ block.W_in + block.b_in)):
                        if not (np.abs(found.mid - wanted) <= found.rad + 1e-9).all():
                            yield f"layer {layer} of {last + 1}: shared work gives another residual"
                        if found.rad.max(initial=0.0) > 1e-4:
                            yield "shared work is enclosed loosely"
            finally:
                module._NUMBERS = before


def _cloud(
    kernel: ModuleType, rng: np.random.Generator, centre: np.ndarray, size: float, ball: bool
) -> tuple[Any, list[np.ndarray]]:
    """A cloud about ``centre [n, d]``, and residuals that it holds."""
    n, d = centre.shape
    spread = size * rng.normal(size=(3, d))
    radius = size * rng.uniform(0, 2, n) if ball else None
    cloud = _module(kernel, "_cloud").Cloud(_ball(kernel, centre), _ball(kernel, spread), radius)
    held = []
    for _ in range(30):
        signs = rng.choice([-1.0, 1.0], (n, 3)) * rng.choice([1.0, 1.0, 0.3], (n, 3))
        way = rng.normal(size=(n, d))
        way /= np.linalg.norm(way, axis=1, keepdims=True)
        held.append(centre + signs @ spread + (0 if radius is None else radius[:, None] * way))
    return cloud, held


def _escapes(
    kernel: ModuleType,
    rng: np.random.Generator,
    cloud: Any,
    held: list[np.ndarray],
    ways: np.ndarray | None = None,
) -> Iterator[str]:
    """Residuals that some functional, along ``ways [n, d]`` or any, shows to be outside a cloud."""
    d = held[0].shape[1]
    weight = np.hstack([rng.normal(size=(d, 40)), np.eye(d)])
    if ways is not None:
        weight = np.hstack([weight, ways.T])
    ends = cloud.read(_ball(kernel, weight), _ball(kernel, np.zeros(weight.shape[1])))
    for residual in held:
        seen = residual @ weight
        if (seen < ends.lower() - _ROOM).any() or (seen > ends.upper() + _ROOM).any():
            yield "a residual leaves its cloud"
            return


def clouds_through_lines(kernel: ModuleType) -> Iterator[str]:
    """Every residual of a cloud is in the cloud after an MLP in lines."""
    rng = np.random.default_rng(43)
    module = _module(kernel, "_cloud")
    for trial in range(60):
        net = random_transformer(rng, k=1, v=2, mlp=int(rng.integers(0, 6)), d=4, h=2)
        block = net.blocks[0]
        ours = transformer_for(kernel, net).blocks[0]
        centre = rng.normal(size=(4, 4)) * (0.2, 1.0)[trial % 2]
        cloud, held = _cloud(kernel, rng, centre, 10.0 ** -(trial % 4), trial % 3 > 0)
        yield from _escapes(kernel, rng, cloud, held)
        z = cloud.read(_ball(kernel, block.W_in), _ball(kernel, block.b_in))
        after = module.through_lines(ours, cloud, z)
        yield from _escapes(kernel, rng, after, [after_mlp(block, one) for one in held])
        exact = module.Cloud(_ball(kernel, centre), None, None)
        z = exact.read(_ball(kernel, block.W_in), _ball(kernel, block.b_in))
        after = module.through_lines(ours, exact, z)
        yield from _escapes(kernel, rng, after, [after_mlp(block, centre)])


def clouds_through_attention(kernel: ModuleType) -> Iterator[str]:
    """Every residual of a cloud is in the cloud after attention to exact earlier positions."""
    rng = np.random.default_rng(44)
    for trial in range(40):
        k, heads = 1 + trial % 3, 1 + trial % 2
        net = random_transformer(
            rng, k=k, v=2, layers=2, heads=heads, mlp=3, d=4, h=2, scale=(0.5, 4.0)[trial % 2]
        )
        tokens = rng.permutation(our_sequences(our_parse_task(f"max:k={k},v=2"), 0, 2**k))
        before = forward(net, tokens).pre[1]
        shared = _module(kernel, "_shared_prefix").SharedPrefix(
            transformer_for(kernel, net), _module(kernel, "_ledger").Ledger()
        )
        size = (0.3, 0.1, 0.03, 0.003)[trial % 4]
        cloud, held = _cloud(kernel, rng, before[:, -1], size, trial % 3 > 0)
        try:
            after = _module(kernel, "_cloud").through_attention(
                shared_block(shared), shared.circuits[1], cloud, shared.earlier(1, tokens)
            )
        except kernel.EnclosureError:
            continue  # too large to be carried through a softmax
        moved = [attended(net, net.blocks[1], one, _with(before, one)) for one in held]
        yield from _escapes(kernel, rng, after, moved)


def moves_of_scores(kernel: ModuleType) -> Iterator[str]:
    """With one generator, or a ball, and two positions, bounds are what scores and outputs move by.

    Moves of two scores have opposite signs, as their mean in the weights is 0: so the difference of
    the scores moves by the sum of their bounds, but for the quadratic term's sign; and the output
    moves along the difference of the two values.
    """
    rng = np.random.default_rng(47)
    tokens = rng.permutation(our_sequences(our_parse_task("max:k=2,v=3"), 0, 9))
    for trial in range(24):
        net = random_transformer(
            rng, k=2, v=3, layers=2, heads=1 + trial % 2, mlp=3, d=4, h=2, scale=2.0
        )
        before = forward(net, tokens).pre[1]
        here = before[:, -1]
        shared = _module(kernel, "_shared_prefix").SharedPrefix(
            transformer_for(kernel, net), _module(kernel, "_ledger").Ledger()
        )
        size = (0.02, 0.5)[trial // 4 % 2]
        step = np.broadcast_to(size * rng.normal(size=(1, 4)), here.shape)
        radius = np.full(len(here), size) if trial // 2 % 2 else None
        cloud = _module(kernel, "_cloud").Cloud(
            _ball(kernel, here),
            _ball(kernel, step[:1] if radius is None else 1e-9 * step[:1]),
            radius,
        )
        circuits = shared.circuits[1]
        for head, M in enumerate(circuits.score):
            if radius is not None:  # in the direction in which the lead grows
                way = _slope_of_lead(net, head, before)
                step = size * way / np.linalg.norm(way, axis=1, keepdims=True)
            _, sigma, _ = _module(kernel, "_cloud")._scores(
                cloud, cloud.spread, M, head, shared.earlier(1, tokens), circuits.keys(cloud.center)
            )
            bound = sigma.upper().sum(axis=1)
            leads = [_lead(net, head, before, sign * step) for sign in (0, 1, -1)]
            moved = np.abs(np.stack(leads[1:]) - leads[0]).max(axis=0)
            if (moved > bound + _ROOM).any():
                yield "scores move by more than their bound"
            if (moved < 0.9 * bound - _ROOM).any() and (radius is None or size < 0.1):
                yield "scores move by less than their bound"
        try:
            after = _module(kernel, "_cloud").through_attention(
                shared_block(shared), circuits, cloud, shared.earlier(1, tokens)
            )
        except kernel.EnclosureError:
            continue
        held = [here + sign * step for sign in (1.0, -1.0)]
        moved = [attended(net, net.blocks[1], one, _with(before, one)) for one in held]
        yield from _escapes(kernel, rng, after, moved, moved[0] - moved[1])


def _with(before: np.ndarray, own: np.ndarray) -> np.ndarray:
    """All residuals, with others at the last position."""
    return np.concatenate([before[:, :-1], own[:, None]], axis=1)


def _slope_of_lead(net: Transformer, head: int, before: np.ndarray) -> np.ndarray:
    """The gradient of ``_lead`` at no step, ``[n, d]``; it is quadratic, so differences give it."""
    d = before.shape[2]
    ends = [
        np.stack([_lead(net, head, before, sign * one) for one in np.eye(d)], axis=1)
        for sign in (1.0, -1.0)
    ]
    return (ends[0] - ends[1]) / 2.0


def _lead(net: Transformer, head: int, before: np.ndarray, step: np.ndarray) -> np.ndarray:
    """How far the second position's own score is above that of the first, ``[n]``."""
    block, here = net.blocks[1], before[:, 1] + step
    query = here @ block.W_Q[head] + block.b_Q[head]
    first = before[:, 0] @ block.W_K[head] + block.b_K[head]
    own = here @ block.W_K[head] + block.b_K[head]
    return (query * (own - first)).sum(axis=1) / float(net.score_divisor_squared) ** 0.5


def shared_block(shared: Any) -> Any:
    """The second block of the transformer that a ``SharedPrefix`` is about."""
    return shared._net.blocks[1]


def margins_in_cells(kernel: ModuleType) -> Iterator[str]:
    """No bound of a margin is above the margin, whatever is in the cell."""
    rng = np.random.default_rng(45)
    module = _module(kernel, "theorems.cells")
    for net, task in subjects():
        parsed = our_parse_task(task)
        tokens = our_sequences(parsed, 0, parsed.total)
        logits = forward(net, tokens).logits
        ours = transformer_for(kernel, net)
        shared = _module(kernel, "_shared_prefix").SharedPrefix(
            ours, _module(kernel, "_ledger").Ledger()
        )
        for options in relaxations(kernel, net):
            for size in (1, 2, 5, len(tokens)):
                rows = rng.permutation(len(tokens))[:size]
                label = int(rng.integers(net.d_vocab_out))
                mid, z = module.residuals(shared, tokens[rows], len(net.blocks) - options.relaxed)
                try:
                    bound = module.margin_bounds(ours, shared, label, tokens[rows], mid, z, options)
                except kernel.EnclosureError:
                    continue
                margin = logits[rows][:, [label]] - logits[rows]
                if (bound > margin + _ROOM).any():
                    yield f"a bound exceeds a margin with {options.relaxed} MLPs in lines"
                if size == 1 and options.relaxed == 1 and (bound < margin - 1e-3).any():
                    yield "a cell of one sequence loses something"


def relaxations(kernel: ModuleType, net: Transformer) -> Iterator[Any]:
    """All options that a transformer allows."""
    most = 1 if net.attention_dir != "causal" or not net.blocks[0].d_mlp else len(net.blocks)
    for relaxed in range(1, most + 1):
        yield kernel.CellsOptions(1024, relaxed)


def wrong_answers(kernel: ModuleType) -> Iterator[str]:
    """A wrong answer is refused in any cell: alone, with all others, with any single one."""
    rng = np.random.default_rng(46)
    for number, (name, net, task) in enumerate(networks()):
        tokens, exact, _ = truth_of(number)
        labels = our_parse_task(task).labels(tokens)
        right = np.array(
            [
                all(bool(row[y] > a) for x, a in enumerate(row) if x != y)
                for row, y in zip(exact, labels.tolist(), strict=True)
            ]
        )
        wrong = np.flatnonzero(~right)
        if not wrong.size:
            continue
        ours, parsed = transformer_for(kernel, net), kernel.parse_task(task)
        for options in relaxations(kernel, net):
            for trial in range(4):
                cell = np.full(len(tokens), -1, dtype=np.int32)
                if trial % 2:
                    cell[rng.choice(len(tokens))] = 3
                elif trial % 4:
                    cell[right] = 3
                cell[rng.choice(wrong)] = 3
                if _accepted(kernel, ours, parsed, options, cell):
                    yield f"{name}: a wrong answer is proved right, {options.relaxed} in lines"
                    return


def _accepted(kernel: ModuleType, net: Any, task: Any, options: Any, cell: np.ndarray) -> bool:
    try:
        kernel.cells(net, task, options, witness=kernel.CellsWitness(cell))
    except (kernel.RejectedError, kernel.EnclosureError):
        return False
    return True


def counted_cells(kernel: ModuleType) -> Iterator[str]:
    """What is claimed is counted, class by class, and nothing else; right answers alone pass."""
    for number, (name, net, task) in enumerate(networks()):
        tokens, exact, truth = truth_of(number)
        labels = our_parse_task(task).labels(tokens)
        clear = np.array(
            [
                all(bool(row[y] > a + abs(a) * 1e-9) for x, a in enumerate(row) if x != y)
                for row, y in zip(exact, labels.tolist(), strict=True)
            ]
        )
        cell = np.where(clear, np.arange(len(tokens)), -1).astype(np.int32)
        ours, parsed = transformer_for(kernel, net), kernel.parse_task(task)
        try:
            proved = kernel.cells(
                ours, parsed, kernel.CellsOptions(), witness=kernel.CellsWitness(cell)
            )
        except (kernel.RejectedError, kernel.EnclosureError):
            if "layers" in name:
                yield f"{name}: a cell of one right sequence is refused"
            continue
        if proved.claim.correct != int((cell >= 0).sum()):
            yield f"{name}: {proved.claim.correct} counted, {int((cell >= 0).sum())} claimed"
        for q, m, size, correct in proved.by_class:
            if size != truth[q, m].size or correct > truth[q, m].right:
                yield f"{name}: {correct} of {size} in class ({q}, {m}), in truth {truth[q, m]}"


LAWS = (
    spectral_norms,
    shared_prefixes,
    clouds_through_lines,
    moves_of_scores,
    clouds_through_attention,
    margins_in_cells,
    counted_cells,
    wrong_answers,
)


def of_clouds(kernel: ModuleType) -> Iterator[str]:
    """The laws of clouds."""
    for law in (clouds_through_lines, moves_of_scores, clouds_through_attention):
        yield from law(kernel)


def of_cells(kernel: ModuleType) -> Iterator[str]:
    """The laws of the theorem."""
    for law in (margins_in_cells, counted_cells, wrong_answers):
        yield from law(kernel)


WEAK_SPOTS = {
    "_norms.py": spectral_norms,
    "_shared_prefix.py": shared_prefixes,
    "_cloud.py": of_clouds,
    "_lines.py": margins_in_cells,
    "theorems/cells.py": of_cells,
}
"""Where a defect of a file shows soonest."""
