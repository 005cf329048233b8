"""Witnesses of theorems B and C from a crosscoder: codes, cells, and what is claimed of sequences.

    found = cell_witness(net, task, crosscoder, k=4, extra=2, cells="label")
    proved = found.prove()

Nothing here is trusted: the kernel verifies every claim, and a poor choice proves less. Only what
passes with a little room is claimed, so that the rounding of another machine refutes nothing.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, final

import numpy as np
from jaxtyping import Float64, Int64

from ..kernel import THEOREMS, Proved, Task, Tick, Transformer, no_tick, sequences
from ..kernel._codes import BY_FORWARD_PASS, NOT_CLAIMED
from ._claiming import Claims, additive_claims, cell_claims, true_margins
from ._crosscoder import Crosscoder
from ._errors import CrosscoderError
from ._placed import PlacedCodes, anchored, in_cells
from ._proof_margins import Search, least, room_of
from .sparse_codes import SparseCodes, crosscoder_codes, exact_residuals, pursued, refitted

CELLS: Final = ("one", "label", "strongest", "two", "support")
"""What tells cells apart: nothing; the label; the label and the one or two strongest features; the
label and every active feature."""


@final
@dataclass(frozen=True, eq=False)
class Found:
    """What a theorem takes, and what it is expected to give."""

    theorem: str
    options: Mapping[str, int | str]
    witness: Any
    search: Search
    """The codes, for reports and further steps."""
    claims: Claims

    @property
    def share(self) -> float:
        """The share of the sequences that is claimed."""
        return float((self.claims.claimed != NOT_CLAIMED).mean())

    def prove(self, tick: Tick = no_tick) -> Proved:
        """The kernel's proof."""
        theorem = THEOREMS[self.theorem]
        options = theorem.parse_options(dict(self.options))
        return theorem.prove(self.search.net, self.search.task, options, tick, self.witness)


def additive_witness(
    net: Transformer,
    task: Task,
    source: Crosscoder | SparseCodes,
    *,
    k: int = 4,
    extra: int = 0,
    values: int = 64,
    cells: str = "label",
    anchors: bool = True,
    signs: bool = True,
    ranges: str = "sequences",
    rounds: int = 3,
    forward_passes: bool = False,
) -> Found:
    """A witness of theorem B.

    source: a crosscoder, of which the ``k`` strongest features of a sequence are used, or codes.
    extra: how many more features a sequence may have, those that explain most of what is left; the
    best number is taken for each sequence. values: activation values of a feature.
    cells: one of `CELLS`. anchors: whether the base point of a cell holds its strongest feature.
    signs: whether neurons that keep their sign in a cell are said to. ``cells="one",
    anchors=False, signs=False`` is the theorem in its plain form.
    ranges: the option of the theorem. rounds: of leaving out what cannot be proved.
    forward_passes: whether the rest is claimed by the exact logits of each sequence.

    Raises CrosscoderError for a crosscoder or codes that do not fit.
    Cost: an evaluation of the theorem for each round and each number of features.
    """
    target, label = exact_residuals(net, task), task_labels(task)

    def placed(codes: SparseCodes) -> PlacedCodes:
        cell = cells_of(codes, label, cells)
        return anchored(codes, cell) if anchors else in_cells(codes, cell)

    def searched(codes: SparseCodes) -> Search:
        return Search.of(net, task, placed(codes), target, values, ranges)

    codes = best_of(
        candidates(net, task, source, target, k, extra),
        lambda one: additive_claims(searched(one), signs=signs, rounds=1).worst,
    )
    search = searched(codes)
    claims = additive_claims(search, signs=signs, rounds=rounds)
    return additive_found(search, claims, forward_passes=forward_passes)


def additive_found(search: Search, claims: Claims, *, forward_passes: bool = False) -> Found:
    """The witness of theorem B with these claims."""
    if forward_passes:
        claims = with_forward_passes(search, claims)
    witness = search.additive_codes(claims.claimed, claims.sign)
    return Found("crosscoder-b", {"ranges": search.rule}, witness, search, claims)


def cell_witness(
    net: Transformer,
    task: Task,
    source: Crosscoder | SparseCodes,
    *,
    k: int = 4,
    extra: int = 0,
    values: int = 64,
    cells: str = "label",
    ranges: str = "sequences",
    rounds: int = 3,
    by_residual: bool = False,
    forward_passes: bool = False,
) -> Found:
    """A witness of theorem C; the arguments are those of `additive_witness`.

    by_residual: whether what the codes do not prove is claimed by the cell's lines at the exact
    residual, at a cost of O(x d) for each such sequence. All ``k + extra`` features are used.
    """
    target, label = exact_residuals(net, task), task_labels(task)
    codes = candidates(net, task, source, target, k, extra)[-1]
    placed = in_cells(codes, cells_of(codes, label, cells))
    search = Search.of(net, task, placed, target, values, ranges)
    claims = cell_claims(search, by_residual=by_residual, rounds=rounds)
    return cell_found(search, claims, forward_passes=forward_passes)


def cell_found(search: Search, claims: Claims, *, forward_passes: bool = False) -> Found:
    """The witness of theorem C with these claims, and the slopes that the theorem states."""
    if forward_passes:
        claims = with_forward_passes(search, claims)
    slope = np.zeros((0, search.net.d_vocab_out, search.net.blocks[-1].d_mlp))
    witness = search.cell_codes(claims.claimed, slope)
    return Found("crosscoder-c", {"ranges": search.rule}, witness, search, claims)


def with_forward_passes(search: Search, claims: Claims) -> Claims:
    """Claim whatever is right and not claimed yet by its exact logits."""
    worst = least(true_margins(search.net, search.target, search.codes.label))
    right = (claims.claimed == NOT_CLAIMED) & (worst > room_of(worst))
    return claims._replace(claimed=np.where(right, BY_FORWARD_PASS, claims.claimed))


def task_labels(task: Task) -> Int64[np.ndarray, " N"]:
    """The label of every sequence."""
    return np.asarray(task.labels(sequences(task, 0, task.total)), dtype=np.int64)


def candidates(
    net: Transformer,
    task: Task,
    source: Crosscoder | SparseCodes,
    target: Float64[np.ndarray, "N d"],
    k: int,
    extra: int,
) -> list[SparseCodes]:
    """Codes that are given, as they are; then re-fitted ones of ``k`` to ``k + extra`` features."""
    if isinstance(source, SparseCodes):
        codes = source
        if codes.decoder.shape[1] != net.d_model or len(codes.feature) != task.total:
            raise CrosscoderError(
                f"codes of {len(codes.feature)} sequences in {codes.decoder.shape[1]} dimensions; "
                f"{task.name} has {task.total} and the model {net.d_model}"
            )
    else:
        codes = crosscoder_codes(net, task, source, k)
    first = refitted(codes, target)
    given = first.feature.shape[1]
    most = min(given + extra, len(first.decoder))
    longer = [pursued(first, target, size, given) for size in range(given + 1, most + 1)]
    as_given = [source] if isinstance(source, SparseCodes) else []
    return [*as_given, first, *longer]


def best_of(
    several: list[SparseCodes], worst: Callable[[SparseCodes], Float64[np.ndarray, " N"]]
) -> SparseCodes:
    """Of each sequence the code whose bound ``worst`` is the largest."""
    if len(several) == 1:
        return several[0]
    which = np.argmax([worst(codes) for codes in several], axis=0)[:, None]
    most = max(codes.feature.shape[1] for codes in several)
    features = [_padded(codes.feature, most, -1) for codes in several]
    values = [_padded(codes.value, most, 0.0) for codes in several]
    return replace(several[0], feature=np.choose(which, features), value=np.choose(which, values))


def _padded(array: np.ndarray, most: int, filler: int | float) -> np.ndarray:
    return np.pad(array, ((0, 0), (0, most - array.shape[1])), constant_values=filler)


def cells_of(
    codes: SparseCodes, label: Int64[np.ndarray, " N"], cells: str
) -> Int64[np.ndarray, " N"]:
    """Numbers of cells from 0 on. Cells of one label have numbers in a row."""
    if cells not in CELLS:
        raise CrosscoderError(f"cells = {cells!r}: known are {', '.join(CELLS)}")
    if cells == "one":
        return np.zeros(len(label), dtype=np.int64)
    strength = np.abs(codes.value) * np.linalg.norm(codes.decoder, axis=1)[codes.feature]
    order = np.argsort(-np.where(codes.feature < 0, -1.0, strength), axis=1, kind="stable")
    several = {"label": 0, "strongest": 1, "two": 2, "support": codes.feature.shape[1]}[cells]
    strongest = np.take_along_axis(codes.feature, order[:, :several], axis=1)
    keys = np.column_stack([label, np.sort(strongest, axis=1)])
    return np.unique(keys, axis=0, return_inverse=True)[1].reshape(-1)
