"""Sparse codes of the residual before the last MLP, which theorems B and C take, and how they fit.

A *feature* ``i`` has a direction ``d_i`` and activation values ``f_i0 .. f_i(L-1)``; an *atom*
``a = i L + j`` stands for the vector ``p_a = f_ij d_i``, the product over the reals. Every sequence
of the task belongs to a *cell*, which has a base point ``b``, and has a code: atoms, at most one of
each feature. Its decode and what the decode misses are

    u_hat = b + sum of p_a over its atoms,    e = u - u_hat,    rho = |e|,

with ``u`` the exact residual at the last position. Nothing of a code is trusted: a theorem is sound
for every code, and ``rho`` is computed here. What a theorem treats at once is a *group*, the
sequences of one cell with one label; a cell of several labels is several groups.

Notation: H features, L values, U cells, N sequences, k atoms of a sequence, d width, m neurons, A
atoms that occur, x outputs, r outputs but one.
"""

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy as np
from jaxtyping import Float64, Int64

from ._claim import require_fit
from ._enclosure import Ball, check_arithmetic, norm_upper
from ._errors import EnclosureError, MalformedError, OptionError
from ._ledger import Ledger
from ._mid_tables import LastMid
from ._network import blocks_of, sequences
from ._tasks import Task
from ._transformer import Transformer
from ._witness import require_array

MAX_SEQUENCES: Final = 1 << 20
NOT_CLAIMED: Final = 0
BY_CODE: Final = 1
"""Claimed by the theorem's test on the code."""
BY_FORWARD_PASS: Final = 2
"""Claimed by the exact logits of this one sequence."""
BY_RESIDUAL: Final = 3
"""Claimed by the group's linear test on the exact residual (theorem C alone)."""

CODE_TYPES: Final = {
    "decoder": "F64",
    "bias": "F64",
    "level": "F64",
    "code": "I32",
    "cell": "I32",
    "claimed": "I32",
}
"""The tensors that the witnesses of both theorems have, as safetensors spells their types."""

_LARGEST: Final = 2.0**100
"""Of the numbers of a witness, so that no product overflows because of them."""
_MAX_ATOMS: Final = 1 << 18
_NUMBERS: Final = 1 << 19  # numbers in an array: what stays in a cache


class Group(NamedTuple):
    """The claimed sequences of one cell with one label."""

    cell: int
    label: int
    members: Int64[np.ndarray, " n"]
    """Ascending."""


class Codes(NamedTuple):
    """A witness that has the right form, and the sequences that it is about."""

    decoder: Float64[np.ndarray, "H d"]
    bias: Float64[np.ndarray, "U d"]
    feature: Int64[np.ndarray, " A"]
    """Of each atom that occurs. The first place is that of no atom, and says -1."""
    value: Float64[np.ndarray, " A"]
    """The atom's activation value; 0 for no atom."""
    code: Int64[np.ndarray, "N k"]
    """Places in the two arrays above."""
    cell: Int64[np.ndarray, " N"]
    claimed: Int64[np.ndarray, " N"]
    tokens: Int64[np.ndarray, "N places"]
    label: Int64[np.ndarray, " N"]

    def groups(self, *kinds: int) -> Iterator[Group]:
        """The groups of the sequences that are claimed in one of these ways."""
        members = np.flatnonzero(np.isin(self.claimed, kinds))
        cell, label = self.cell[members], self.label[members]
        order = np.lexsort((members, label, cell))
        new = (np.diff(cell[order]) != 0) | (np.diff(label[order]) != 0)
        for some in np.split(members[order], np.flatnonzero(new) + 1):
            if len(some):
                yield Group(int(self.cell[some[0]]), int(self.label[some[0]]), some)


def checked_codes(
    theorem: str, witness: Any, net: Transformer, task: Task, last_kind: int
) -> Codes:
    """Refuse a task or a witness of the wrong form. Cost: sorting, which is not counted.

    last_kind: the theorem has the ways to claim a sequence up to this one.
    """
    require_fit(task, net)
    if task.total > MAX_SEQUENCES:
        raise OptionError(
            f"the theorem {theorem} looks at each of the {task.total} sequences of {task.name}, "
            f"and takes at most {MAX_SEQUENCES}: use crosscoder-d"
        )
    if witness is None:
        raise MalformedError(
            f"the theorem {theorem} needs a witness, a code of every sequence: make one with "
            "compactproofs.crosscoders.proofs"
        )
    check_arithmetic()
    features, values = _sizes("level", witness.level)
    cells, k = _sizes("bias", witness.bias)[0], _sizes("code", witness.code)[1]
    if min(features, values, cells, k) < 1 or features * values > _MAX_ATOMS:
        raise MalformedError(
            f"{features} features of {values} values, {cells} cells, {k} atoms of a sequence: at "
            f"least one of each, and at most {_MAX_ATOMS} atoms in all"
        )
    decoder = require_numbers("decoder", witness.decoder, (features, net.d_model))
    level = require_numbers("level", witness.level, (features, values))
    bias = require_numbers("bias", witness.bias, (cells, net.d_model))
    code = require_whole("code", witness.code, (task.total, k), -1, features * values - 1)
    cell = require_whole("cell", witness.cell, (task.total,), 0, cells - 1)
    claimed = require_whole("claimed", witness.claimed, (task.total,), NOT_CLAIMED, last_kind)
    own = np.sort(np.where(code < 0, -1 - np.arange(k), code // values), axis=1)
    if (own[:, 1:] == own[:, :-1]).any():
        raise MalformedError("tensor code gives a sequence two atoms of one feature")
    atoms = np.unique(np.append(code, -1))
    tokens = sequences(task, 0, task.total)
    return Codes(
        decoder,
        bias,
        feature=np.where(atoms < 0, -1, atoms // values),
        value=np.where(atoms < 0, 0.0, level.reshape(-1)[atoms]),
        code=np.searchsorted(atoms, code),
        cell=cell,
        claimed=claimed,
        tokens=tokens,
        label=task.labels(tokens),
    )


def _sizes(name: str, array: object) -> tuple[int, int]:
    """The shape of a tensor that must have two axes."""
    if not isinstance(array, np.ndarray) or array.ndim != 2:
        raise MalformedError(f"tensor {name} has shape {np.shape(array)}, not two axes")  # type: ignore[arg-type]
    return array.shape[0], array.shape[1]


def require_numbers(name: str, array: object, shape: tuple[int, ...]) -> Float64[np.ndarray, "..."]:
    """Refuse anything but float64 numbers of this shape that are not too large."""
    numbers = require_array(name, array, np.float64, shape)
    if (np.abs(numbers) > _LARGEST).any():
        raise MalformedError(f"tensor {name} holds {np.abs(numbers).max()}: at most 2^100")
    return numbers


def require_whole(
    name: str, array: object, shape: tuple[int, ...], least: int, most: int
) -> Int64[np.ndarray, "..."]:
    """Refuse anything but int32 numbers of this shape and in this range."""
    numbers = require_array(name, array, np.int32, shape)
    if numbers.size and (numbers.min() < least or numbers.max() > most):
        raise MalformedError(
            f"tensor {name} holds {numbers.min()} to {numbers.max()}, outside {least} .. {most}"
        )
    return numbers.astype(np.int64)


def negative(x: Ball) -> Ball:
    """``-x``; free."""
    return Ball(-x.mid, x.rad, x.ledger)


def product(a: Ball, b: Ball) -> Ball:
    """The matrix product; 0 where there is nothing to add up, as in an MLP without neurons."""
    if a.shape[1]:
        return a @ b
    return Ball.exact(np.zeros((a.shape[0], b.shape[1])), a.ledger)


def total(x: Ball, axis: int) -> Ball:
    """The sum along ``axis``; 0 where there is nothing to add up."""
    if x.shape[axis]:
        return x.sum(axis)
    return Ball.exact(np.zeros(np.delete(x.shape, axis)), x.ledger)


def root_upper(
    squares: Float64[np.ndarray, "*shape"], ledger: Ledger
) -> Float64[np.ndarray, "*shape"]:
    """Numbers whose squares are not below these, negative ones taken as 0."""
    squares = np.maximum(squares, 0.0) + 2.0**-1000
    with np.errstate(over="ignore"):
        root = np.sqrt(squares) * (1.0 + 2.0**-49)
    # The root is only a guess: its square, rounded down, must reach.
    if not (root * root * (1.0 - 2.0**-51) >= squares).all():
        raise EnclosureError("the square root failed on this machine")
    ledger.point(squares.size)
    return root


class Atoms(NamedTuple):
    """What every atom that occurs contributes, wherever it occurs."""

    vector: Ball
    """``p_a``, ``[A, d]``"""
    reach: Ball
    """``p_a W_in``, what it adds before the ReLU of each neuron, ``[A, m]``"""

    @classmethod
    def of(cls, codes: Codes, net: Transformer, ledger: Ledger) -> "Atoms":
        """Cost: O(H d m) and one product for each number."""
        decoder = Ball.exact(codes.decoder, ledger)
        into = decoder @ Ball.exact(net.blocks[-1].W_in, ledger)
        # No atom has the value 0, so any feature's direction will do.
        value = Ball.exact(codes.value, ledger)[:, None]
        return cls(value * decoder[codes.feature], value * into[codes.feature])


def along(codes: Codes, atoms: Int64[np.ndarray, " a"], functionals: Ball, ledger: Ledger) -> Ball:
    """``[a, r]``: linear functionals ``[r, d]`` of the vectors of some atoms.

    Cost: O(d r) for each of their features, and one product for each number.
    """
    features, place = np.unique(codes.feature[atoms], return_inverse=True)
    # The value of no atom is 0, so any direction will do for it.
    directions = Ball.exact(codes.decoder[features], ledger)
    return Ball.exact(codes.value[atoms], ledger)[:, None] * (directions @ functionals.T)[place]


def residuals(
    codes: Codes, atoms: Atoms, mids: LastMid, ledger: Ledger
) -> Float64[np.ndarray, " N"]:
    """Numbers not below ``rho`` of the sequences claimed by code or by residual; 0 for others.

    Cost: O((k + places) d) for each, beside the softmax.
    """
    rho = np.zeros(len(codes.code))
    members = np.flatnonzero(np.isin(codes.claimed, (BY_CODE, BY_RESIDUAL)))
    bias = Ball.exact(codes.bias, ledger)
    for some in in_blocks(members, codes.decoder.shape[1] * max(codes.code.shape[1], mids.places)):
        decoded = bias[codes.cell[some]] + atoms.vector[codes.code[some]].sum(1)
        rho[some] = norm_upper(mids(codes.tokens[some]) - decoded)
    return rho


def in_blocks(
    members: Int64[np.ndarray, " n"], width: int
) -> Iterator[Int64[np.ndarray, " block"]]:
    """The sequences in blocks of a size at which ``width`` numbers for each stay in a cache."""
    for start, stop in blocks_of(len(members), max(1, _NUMBERS // max(1, width))):
        yield members[start:stop]
