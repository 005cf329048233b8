"""What theorems B and C share: rivals of a label, and how claims about sequences become a proof.

For a label ``y`` and another output ``x`` let ``c = U_y - U_x`` (columns of W_U) and
``a_n = c . W_out[n]``. At the exact residual ``u`` before the last MLP, with ``z_n = u . w_n +
b_in[n]``,

    logit(y) - logit(x) = c . (u + b_out) + b_U[y] - b_U[x] + sum_n a_n relu(z_n).

A sequence with label ``y`` is right if this is above 0 for every ``x != y``.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int64

from .._claim import ClassCount, Proved, conclude
from .._codes import (
    BY_CODE,
    BY_FORWARD_PASS,
    BY_RESIDUAL,
    NOT_CLAIMED,
    Atoms,
    Codes,
    in_blocks,
    residuals,
)
from .._enclosure import Ball
from .._errors import RejectedError
from .._ledger import Ledger
from .._mid_tables import LastMid
from .._network import mlp, project
from .._tasks import Task
from .._tick import Tick
from .._transformer import Transformer
from .._witness import Witness
from ._brute_force_network import count_classes, decide


class Rivals(NamedTuple):
    """One label against each of the other outputs."""

    direction: Ball
    """``c``, ``[r, d]``"""
    weight: Ball
    """``a``, ``[r, m]``"""
    constant: Ball
    """``c . b_out + b_U[y] - b_U[x]``, ``[r]``"""

    @classmethod
    def of(cls, net: Transformer, label: int, ledger: Ledger) -> "Rivals":
        """Cost: O(x d m)."""
        others = np.delete(np.arange(net.d_vocab_out), label)
        rows, bias = Ball.exact(net.W_U, ledger).T, Ball.exact(net.b_U, ledger)
        block = net.blocks[-1]
        direction = rows[label][None] - rows[others]
        after = direction @ Ball.exact(block.b_out, ledger)[:, None]
        weight = direction @ Ball.exact(block.W_out, ledger).T
        return cls(direction, weight, after[:, 0] + (bias[label][None] - bias[others]))


Bounds = tuple[Int64[np.ndarray, " n"], Float64[np.ndarray, "n r"]]
"""Sequences, and numbers certainly not above their margins against each other output."""


def worst(bounds: Float64[np.ndarray, "n r"]) -> Float64[np.ndarray, " n"]:
    """The least margin of each sequence; infinite where there is no other output."""
    return bounds.min(axis=1, initial=np.inf)


def forward_passes(
    net: Transformer, codes: Codes, mids: LastMid, ledger: Ledger
) -> Iterator[tuple[Int64[np.ndarray, " n"], Bool[np.ndarray, " n"]]]:
    """Sequences claimed by their exact logits, and which of them are right. Cost: O(m (d + x))."""
    block, members = net.blocks[-1], np.flatnonzero(codes.claimed == BY_FORWARD_PASS)
    for some in in_blocks(members, net.n_ctx * max(net.d_model, block.d_mlp, net.d_vocab_out)):
        answers = project(mlp(block, mids(codes.tokens[some])), net.W_U, net.b_U)
        yield some, decide(answers, codes.label[some])[0]


def prove_claimed(
    theorem: str,
    options: Mapping[str, int | str],
    net: Transformer,
    task: Task,
    codes: Codes,
    bounds: Callable[[Atoms, Float64[np.ndarray, " N"], LastMid, Ledger], Iterator[Bounds]],
    witness: Witness,
    tick: Tick,
) -> Proved:
    """Verify every claim of the witness; refuse it if one fails.

    bounds: margins of all sequences claimed otherwise than by a forward pass, from the atoms and
    the ``rho`` of the sequences.
    Unexplained dimension: the tables of attention, one number for each atom of each group and
    output, and the outputs of every sequence claimed, which is looked at by itself.
    """
    ledger = Ledger()
    mids = LastMid(net, ledger)
    right = np.zeros(task.total, dtype=bool)
    claims = int((codes.claimed != NOT_CLAIMED).sum())
    done = 0

    def note(members: Int64[np.ndarray, " n"], verified: Bool[np.ndarray, " n"]) -> None:
        nonlocal done
        if not verified.all():
            first = int(members[np.argmin(verified)])
            raise RejectedError(
                f"sequence {first} {codes.tokens[first].tolist()} of {task.name} is claimed, but "
                f"the theorem {theorem} does not prove it right"
            )
        right[members] = True
        done += len(members)
        tick(done, claims)

    for members, verified in forward_passes(net, codes, mids, ledger):
        note(members, verified)
    atoms = Atoms.of(codes, net, ledger)
    rho = residuals(codes, atoms, mids, ledger)
    for members, lower in bounds(atoms, rho, mids, ledger):
        note(members, worst(lower) > 0)
    sizes: dict[tuple[int, int], list[int]] = {}
    count_classes(sizes, codes.tokens[:, -1], codes.label, right)
    x = net.d_vocab_out
    entries = sum(
        len(np.unique(codes.code[group.members])) for group in codes.groups(BY_CODE, BY_RESIDUAL)
    )
    return conclude(
        theorem=theorem,
        options=options,
        tables=net,
        task=task,
        by_class=[ClassCount(q, m, *counts) for (q, m), counts in sorted(sizes.items())],
        undecided=task.total - int(right.sum()),
        unexplained_dimension=mids.entries + (entries + int(right.sum())) * x,
        ledger=ledger,
        witness=witness,
    )
