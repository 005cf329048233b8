"""What codes leave unproved: new features, split cells, merged features, in the end evaluation.

`tighten` takes a witness and works on what it leaves unproved. Every step ends with the kernel's
proof, so that its log says what was gained and what it cost, in FLOPs of the proof; a step that
gains nothing is undone.

Notation: N sequences, H rows of the decoder, k atoms of a sequence, U cells.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, final

import numpy as np
from jaxtyping import Float64, Int64

from ..kernel import Proved, Tick, no_tick
from ..kernel._codes import NOT_CLAIMED
from ._claiming import additive_claims, cell_claims
from ._errors import CrosscoderError
from ._placed import PlacedCodes
from ._proof_margins import Search
from .proofs import Found, additive_found, cell_found
from .slack import PairCost, slack_of
from .sparse_codes import SparseCodes, pursued, refitted

ACTIONS: Final = ("dedicate", "split", "merge", "halve", "residual", "enumerate")
"""Give what is left of a label two features of its own, in place of the weakest; split cells by one
more of the strongest features; merge the pair of features that costs most into compound ones; halve
cells at the median of their most variable value; claim by the exact residual (theorem C alone);
claim by a forward pass."""
_OWN: Final = 2
_MOST_ROWS: Final = 1 << 12
_RATIOS: Final = 8
_ROUNDS: Final = 3


@final
@dataclass(frozen=True)
class Step:
    """One action, and what the kernel proved before and after it."""

    action: str
    detail: str
    before: int
    """Sequences proved."""
    after: int
    flops_before: int
    flops_after: int
    kept: bool

    @property
    def gain_per_flop(self) -> float:
        """Sequences gained for each FLOP that the proof is longer; infinite if it is no longer."""
        more = self.flops_after - self.flops_before
        gain = self.after - self.before
        return gain / more if more > 0 else float("inf") if gain > 0 else 0.0


@final
@dataclass(frozen=True, eq=False)
class Tightened:
    """The witness in the end, its proof, and the steps that led there."""

    found: Found
    proved: Proved
    steps: tuple[Step, ...]


def tighten(
    found: Found,
    *,
    target: float = 1.0,
    most_flops: int | None = None,
    actions: tuple[str, ...] = ACTIONS,
    rounds: int = 2,
    tick: Tick = no_tick,
) -> Tightened:
    """Take these actions in turn, up to ``rounds`` times each, until ``target`` is proved.

    most_flops: a step whose proof is longer is undone. Raises CrosscoderError for unknown actions.
    Cost: for each step a few evaluations of the theorem and a proof.
    """
    for action in actions:
        if action not in ACTIONS:
            raise CrosscoderError(f"action {action!r}: known are {', '.join(ACTIONS)}")
    proved, steps = found.prove(), []
    for action in actions:
        for turn in range(rounds if action in ("dedicate", "split", "merge", "halve") else 1):
            if proved.claim.correct >= target * proved.claim.total:
                return Tightened(found, proved, tuple(steps))
            tick(len(steps), rounds * len(actions))
            done = _ACTIONS[action](found, turn)
            if done is None:
                continue
            attempt, detail = done
            after = attempt.prove()
            kept = after.claim.correct > proved.claim.correct and (
                most_flops is None or after.claim.flops <= most_flops
            )
            before = proved.claim
            steps.append(
                Step(
                    action,
                    detail,
                    before.correct,
                    after.claim.correct,
                    before.flops,
                    after.claim.flops,
                    kept,
                )
            )
            if not kept:
                break
            found, proved = attempt, after
    return Tightened(found, proved, tuple(steps))


_Done = tuple[Found, str] | None


def _again(found: Found, placed: PlacedCodes, *, by_residual: bool = False) -> Found:
    """The same theorem with other cells or other codes."""
    old = found.search
    values = old.level.shape[1]
    search = Search.of(old.net, old.task, placed, old.target, values, old.rule)
    if found.theorem == "crosscoder-c":
        by_residual = by_residual or bool((found.claims.claimed == 3).any())
        return cell_found(search, cell_claims(search, by_residual=by_residual, rounds=_ROUNDS))
    signs = bool(found.claims.sign.any())
    return additive_found(search, additive_claims(search, signs=signs, rounds=_ROUNDS))


def _dedicate(found: Found, turn: int) -> _Done:
    placed, target = found.search.placed, found.search.target
    label = found.search.codes.label
    left = np.flatnonzero(found.claims.claimed == NOT_CLAIMED)
    missed = target - placed.decoded()
    several = np.unique(label[left])
    if not len(left) or len(placed.decoder) + _OWN * len(several) > _MOST_ROWS:
        return None
    new = [_main_directions(missed[left[label[left] == y]]) for y in several]
    decoder = np.concatenate([placed.decoder, *new])
    feature, value = placed.feature.copy(), placed.value.copy()
    # They take the place of the weakest, so that no sequence has more atoms to look up.
    size = np.abs(value[left]) * np.linalg.norm(placed.decoder, axis=1)[feature[left]]
    order = np.argsort(-np.where(feature[left] < 0, -1.0, size), axis=1, kind="stable")
    kept = [np.take_along_axis(part[left], order, axis=1) for part in (feature, value)]
    own = SparseCodes(decoder, np.zeros(decoder.shape[1]), kept[0], kept[1])
    k = feature.shape[1]
    wanted = target[left] - placed.bias[placed.cell[left]]
    best = pursued(own, wanted, k, max(0, k - _OWN))
    feature[left], value[left] = best.feature, best.value
    numbers = placed.origin.max() + 1 + np.arange(len(decoder) - len(placed.decoder))
    origin = np.full((len(numbers), placed.origin.shape[1]), -1)
    origin[:, 0] = numbers
    codes = replace(
        placed,
        decoder=decoder,
        feature=feature,
        value=value,
        origin=np.concatenate([placed.origin, origin]),
    )
    return _again(found, codes), f"{len(numbers)} features for {len(several)} labels"


def _main_directions(missed: Float64[np.ndarray, "n d"]) -> Float64[np.ndarray, "own d"]:
    """The directions that explain most of some vectors, of their size; fewer if there are fewer."""
    size, directions = np.linalg.svd(missed, full_matrices=False)[1:]
    return directions[:_OWN] * (size[:_OWN, None] + 1e-12) / len(missed) ** 0.5


def _recelled(
    found: Found, key: Callable[[np.ndarray, PlacedCodes], np.ndarray], what: str
) -> _Done:
    """Split the cells that hold something unproved by ``key`` of their sequences."""
    placed, open_ones = found.search.placed, found.claims.claimed == NOT_CLAIMED
    failing = np.unique(placed.cell[open_ones])
    affected = np.flatnonzero(np.isin(placed.cell, failing))
    if not len(affected):
        return None
    keys = key(affected, placed)
    pairs = np.zeros((len(placed.cell), 1 + keys.shape[1]), dtype=np.int64)
    pairs[:, 0], pairs[:, 1:] = placed.cell, -2
    pairs[affected, 1:] = keys
    cells, cell = np.unique(pairs, axis=0, return_inverse=True)
    if len(cells) == len(placed.bias):
        return None
    split = replace(placed, cell=cell.reshape(-1), bias=placed.bias[cells[:, 0]])
    detail = f"{len(failing)} cells by {what}: {len(placed.bias)} -> {len(cells)} cells"
    return _again(found, split), detail


def _split(found: Found, turn: int) -> _Done:
    several = turn + 1

    def strongest(rows: Int64[np.ndarray, " n"], placed: PlacedCodes) -> np.ndarray:
        feature = placed.feature[rows]
        size = np.abs(placed.value[rows]) * np.linalg.norm(placed.decoder, axis=1)[feature]
        order = np.argsort(-np.where(feature < 0, -1.0, size), axis=1, kind="stable")
        return np.sort(np.take_along_axis(feature, order[:, :several], axis=1), axis=1)

    return _recelled(found, strongest, f"the {several} strongest features")


def _halve(found: Found, turn: int) -> _Done:
    def upper_half(rows: Int64[np.ndarray, " n"], placed: PlacedCodes) -> np.ndarray:
        norm = np.linalg.norm(placed.decoder, axis=1)
        upper = np.zeros((len(rows), 1), dtype=np.int64)
        for cell in np.unique(placed.cell[rows]):
            own = np.flatnonzero(placed.cell[rows] == cell)
            feature, value = placed.feature[rows[own]], placed.value[rows[own]]
            dense = np.zeros((len(own), len(norm) + 1))
            np.put_along_axis(dense, feature, value, axis=1)  # -1: the last column
            widest = (dense[:, :-1].std(axis=0) * norm).argmax()
            upper[own, 0] = dense[:, widest] > np.median(dense[:, widest])
        return upper

    return _recelled(found, upper_half, "the median of their most variable value")


def _merge(found: Found, turn: int) -> _Done:
    for pair in slack_of(found).pairs:
        if pair.costs:
            placed = merged(found.search.placed, pair)
            if placed is None:
                continue
            moved = refitted(placed.about_base, found.search.target - placed.bias[placed.cell])
            placed = replace(placed, feature=moved.feature, value=moved.value)
            return _again(found, placed), f"features {pair.first} and {pair.second}"
    return None


def merged(placed: PlacedCodes, pair: PairCost) -> PlacedCodes | None:
    """Compound features in place of a pair: rows ``d_i + ratio d_j`` for several ratios.

    None if no sequence has both.
    """
    rows = [
        np.array([i for i, own in enumerate(placed.origin.tolist()) if _parts(own) == parts])
        for parts in (pair.first, pair.second)
    ]
    is_first, is_second = (np.isin(placed.feature, some) for some in rows)
    both = np.flatnonzero((is_first.sum(axis=1) == 1) & (is_second.sum(axis=1) == 1))
    if not len(both):
        return None
    first, second = is_first[both].argmax(axis=1), is_second[both].argmax(axis=1)
    i, j = placed.feature[both, first], placed.feature[both, second]
    f, g = placed.value[both, first], placed.value[both, second]
    ratio = np.clip(g / np.where(f == 0, 1.0, f), -1e6, 1e6)
    edges = np.quantile(ratio, np.linspace(0, 1, _RATIOS + 1)[1:-1])
    keys = np.column_stack([i, j, np.searchsorted(edges, ratio)])
    kinds, which = np.unique(keys, axis=0, return_inverse=True)
    which = which.reshape(-1)
    mean = np.bincount(which, weights=ratio) / np.bincount(which)
    compound = placed.decoder[kinds[:, 0]] + mean[:, None] * placed.decoder[kinds[:, 1]]
    feature, value = placed.feature.copy(), placed.value.copy()
    feature[both, first] = len(placed.decoder) + which
    feature[both, second], value[both, second] = -1, 0.0
    parts = (*pair.first, *pair.second)
    width = max(placed.origin.shape[1], len(parts))
    origin = np.full((len(placed.decoder) + len(kinds), width), -1)
    origin[: len(placed.decoder), : placed.origin.shape[1]] = placed.origin
    origin[len(placed.decoder) :, : len(parts)] = parts
    return replace(
        placed,
        decoder=np.concatenate([placed.decoder, compound]),
        feature=feature,
        value=value,
        origin=origin,
    )


def _parts(row: list[int]) -> tuple[int, ...]:
    return tuple(feature for feature in row if feature >= 0)


def _residual(found: Found, turn: int) -> _Done:
    if found.theorem != "crosscoder-c":
        return None
    return _again(found, found.search.placed, by_residual=True), "by the exact residual"


def _enumerate(found: Found, turn: int) -> _Done:
    finish = cell_found if found.theorem == "crosscoder-c" else additive_found
    several = int((found.claims.claimed == NOT_CLAIMED).sum())
    return finish(found.search, found.claims, forward_passes=True), f"{several} forward passes"


_ACTIONS: Final[dict[str, Callable[[Found, int], _Done]]] = {
    "dedicate": _dedicate,
    "split": _split,
    "merge": _merge,
    "halve": _halve,
    "residual": _residual,
    "enumerate": _enumerate,
}
