"""Theorem A: norm-ball telescoping, a code of every residual and balls around what it decodes to.

The witness holds a dictionary with a direction of each feature at every site, and a code for each
input and position. A site is a place in the residual stream: before the first layer, then after the
attention and after the MLP of each layer. The code decodes to ``c^s = bias^s + sum of levels times
directions`` at site ``s``. By induction on the sites the true residual is within ``r^s`` of it:

    r^0     = ||embedding - c^0||,
    r^(s+1) = Gamma^s(c^s, r^s) + ||F^s(c^s) - c^(s+1)||,

``F^s`` the attention or MLP between the sites, and ``Gamma^s`` a bound on how far ``F^s`` of the
ball of radius ``r^s`` is from ``F^s(c^s)`` (``_norm_balls``). At the last site (L1), an input is
right if

    c (W_U[:,y] - W_U[:,x]) + b_U[y] - b_U[x]  >  ||W_U[:,y] - W_U[:,x]|| r

for the label ``y`` and every other output ``x``, strictly.

Only the last position may be coded, in a model of one layer: then the others are taken as they are,
with radius 0. What is coded badly is not proved; nothing else depends on the witness. The input is
counted if the witness claims it and the inequality holds; if it does not, the witness is refused.

Reference: docs/theory.md section 7. The theorem is what other crosscoder theorems are measured by:
balls forget in which direction they err, and grow by the norms of all matrices on the way.

Cost: for each claimed input and position the forward pass, ``K d`` for each site, ``O(d^2)`` more
for each head and ``O(k d)`` for each pair of positions. Unexplained dimension: the dictionary,
``S (H + 1) d + H L``, and ``P K`` atoms of every claimed input.
"""

from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np
from jaxtyping import Bool, Float64, Int32, Int64

from .._claim import ClassCount, Proved, conclude, require_fit
from .._enclosure import Ball, norm_upper
from .._errors import EnclosureError, MalformedError, OptionError, RejectedError
from .._ledger import Ledger
from .._network import embed, project, sequences
from .._norm_balls import BlockNorms, block_norms, through_attention, through_mlp
from .._tasks import Task
from .._tick import Tick, no_tick
from .._transformer import Transformer
from .._witness import require_array
from ._brute_force_network import count_classes

MAX_SEQUENCES = 1 << 20
_NUMBERS = 1 << 20  # numbers in an array: what stays in a cache


@final
@dataclass(frozen=True)
class CrosscoderAOptions:
    """None."""


class TelescopingWitness(NamedTuple):
    """A dictionary of ``H`` features at ``S = 2 layers + 1`` sites, and a code for each input."""

    decoder: Float64[np.ndarray, "S H d"]
    bias: Float64[np.ndarray, "S d"]
    level: Float64[np.ndarray, "H L"]
    """The values that each feature can have."""
    code: Int32[np.ndarray, "n P K"]
    """Atoms ``feature L + level``, -1 for none; inputs as in ``_network.sequences``.

    ``P = k``, or 1 for the last position alone.
    """
    claimed: Int32[np.ndarray, " n"]
    """1 for the inputs that are to be proved right, else 0."""


TELESCOPING_TYPES = dict.fromkeys(TelescopingWitness._fields, "F64") | {
    "code": "I32",
    "claimed": "I32",
}


def crosscoder_a(
    net: Transformer,
    task: Task,
    options: CrosscoderAOptions,
    tick: Tick = no_tick,
    witness: TelescopingWitness | None = None,
) -> Proved:
    """Prove a lower bound on the accuracy by the theorem above."""
    require_fit(task, net)
    if witness is None:
        raise OptionError(
            "the theorem crosscoder-a needs its witness, a dictionary and codes: see "
            "compactproofs.crosscoders.telescoping"
        )
    book = Codebook.checked(net, task, witness)
    tokens = sequences(task, 0, task.total)
    labels = np.asarray(task.labels(tokens), dtype=np.int64)
    claimed = np.flatnonzero(book.claimed)
    ledger = Ledger()
    balls = Telescope(net, book, ledger)
    for start in range(0, len(claimed), balls.at_once):
        tick(start, len(claimed))
        some = claimed[start : start + balls.at_once]
        try:
            right = balls.slack(tokens[some], labels[some], book.code[some]) > 0
        except EnclosureError as error:  # what the witness decodes to may be of any size
            raise RejectedError(f"the balls of the witness grow too large: {error}") from None
        if not right.all():
            first = tokens[some[int(np.argmin(right))]].tolist()
            raise RejectedError(f"the balls do not prove {first} right, as the witness claims")
    sizes: dict[tuple[int, int], list[int]] = {}
    count_classes(sizes, tokens[:, -1], labels, book.claimed == 1)
    S, H, d = book.decoder.shape
    return conclude(
        theorem="crosscoder-a",
        options={},
        tables=net,
        task=task,
        by_class=[ClassCount(q, m, *counts) for (q, m), counts in sorted(sizes.items())],
        undecided=task.total - len(claimed),
        unexplained_dimension=S * (H + 1) * d
        + book.level.size
        + len(claimed) * book.code.shape[1] * book.code.shape[2],
        ledger=ledger,
        witness=witness,
    )


class Codebook(NamedTuple):
    """The arrays of a witness, of the form that they must have."""

    decoder: Float64[np.ndarray, "S H d"]
    bias: Float64[np.ndarray, "S d"]
    level: Float64[np.ndarray, "H L"]
    code: Int32[np.ndarray, "n P K"]
    claimed: Int32[np.ndarray, " n"]

    @classmethod
    def checked(cls, net: Transformer, task: Task, witness: TelescopingWitness) -> "Codebook":
        """Refuse arrays that do not fit each other, the model and the task."""
        if task.total > MAX_SEQUENCES:
            raise OptionError(
                f"{task.name} has {task.total} sequences, more than the {MAX_SEQUENCES} that the "
                "theorem crosscoder-a takes: use --theorem crosscoder-d or additive"
            )
        S, d, k = 2 * len(net.blocks) + 1, net.d_model, net.n_ctx
        H, L = _sizes("level", witness.level, 2)
        _, P, K = _sizes("code", witness.code, 3)
        if P != k and not (P == 1 and len(net.blocks) == 1):
            raise MalformedError(
                f"tensor code is about {P} positions: it must be {k}, or 1 for one layer"
            )
        code = require_array("code", witness.code, np.int32, (task.total, P, K))
        claimed = require_array("claimed", witness.claimed, np.int32, (task.total,))
        if code.size and not (-1 <= int(code.min()) and int(code.max()) < H * L):
            raise MalformedError(
                f"tensor code holds atoms from {int(code.min())} to {int(code.max())}: they are "
                f"-1 to {H * L - 1}"
            )
        if not np.isin(claimed, (0, 1)).all():
            raise MalformedError("tensor claimed holds a number other than 0 and 1")
        return cls(
            require_array("decoder", witness.decoder, np.float64, (S, H, d)),
            require_array("bias", witness.bias, np.float64, (S, d)),
            require_array("level", witness.level, np.float64, (H, L)),
            code,
            claimed,
        )


def _sizes(name: str, array: object, ndim: int) -> tuple[int, ...]:
    if not isinstance(array, np.ndarray) or array.ndim != ndim:
        raise MalformedError(f"tensor {name} is {array!r:.40}, not an array of {ndim} axes")
    return array.shape


@final
class Telescope:
    """The induction, for any inputs of one model."""

    __slots__ = ("_book", "_directions", "_ledger", "_net", "_norms")

    def __init__(self, net: Transformer, book: Codebook, ledger: Ledger) -> None:
        """Bound the norms of the model's matrices."""
        self._net, self._book, self._ledger = net, book, ledger
        self._norms: list[BlockNorms] = [block_norms(net, block, ledger) for block in net.blocks]
        unembed = Ball.exact(net.W_U, ledger)
        difference = unembed[:, :, None] - unembed[:, None, :]
        self._directions: Float64[np.ndarray, "x x"] = norm_upper(difference, axis=0)

    @property
    def at_once(self) -> int:
        """How many inputs a block of work may have."""
        net, K = self._net, self._book.code.shape[2]
        width = max(net.d_model * max(net.n_ctx, K), net.blocks[0].d_mlp, net.d_vocab_out)
        return max(1, _NUMBERS // (net.n_ctx * width))

    def slack(
        self,
        tokens: Int64[np.ndarray, "n k"],
        labels: Int64[np.ndarray, " n"],
        code: Int32[np.ndarray, "n P K"],
    ) -> Float64[np.ndarray, " n"]:
        """Numbers not above the least margin less what the last ball can take from it."""
        center, radius = self._last_ball(tokens, code)
        answers = project(center, self._net.W_U, self._net.b_U)
        rows = np.arange(len(labels))
        taken = Ball.exact(self._directions[labels], self._ledger)
        taken = taken * Ball.exact(radius[:, None], self._ledger)
        least = (answers[rows, labels][:, None] - answers - taken).lower()
        self._ledger.point(least.size)
        least[rows, labels] = np.inf
        return least.min(axis=1)

    def _last_ball(
        self, tokens: Int64[np.ndarray, "n k"], code: Int32[np.ndarray, "n P K"]
    ) -> tuple[Ball, Float64[np.ndarray, " n"]]:
        """``[n, d]`` and the radius around it that holds the residual after the last layer."""
        net = self._net
        true = embed(net, tokens, self._ledger)
        atoms = self._atoms(code)
        center = self._decoded(0, atoms)
        if code.shape[1] == net.n_ctx:
            radius = norm_upper(true - center)
        else:
            radius = np.zeros(true.shape[:2])
            radius[:, -1] = norm_upper(true[:, -1:] - center)[:, 0]
            center = Ball(
                np.concatenate([true.mid[:, :-1], center.mid], axis=1),
                np.concatenate([true.rad[:, :-1], center.rad], axis=1),
                self._ledger,
            )
        k = net.n_ctx
        for number, (block, norms) in enumerate(zip(net.blocks, self._norms, strict=True)):
            last = number == len(net.blocks) - 1
            queries = range(k - 1 if last else 0, k)
            site = slice(queries.start, k) if code.shape[1] == k else slice(0, 1)
            center, radius = through_attention(net, block, norms, center, radius, queries)
            center, radius = self._anchored(2 * number + 1, atoms, site, center, radius)
            center, radius = through_mlp(block, norms, center, radius)
            center, radius = self._anchored(2 * number + 2, atoms, site, center, radius)
        return center[:, 0], radius[:, 0]

    def _anchored(
        self,
        site: int,
        atoms: "tuple[Int64[np.ndarray, 'n P K'], Ball]",
        positions: slice,
        found: Ball,
        radius: Float64[np.ndarray, "n i"],
    ) -> tuple[Ball, Float64[np.ndarray, "n i"]]:
        """The ball around what is decoded at a site that holds one around ``found``."""
        feature, value = atoms
        center = self._decoded(site, (feature[:, positions], value[:, positions]))
        step = Ball.exact(norm_upper(found - center), self._ledger)
        return center, (Ball.exact(radius, self._ledger) + step).upper()

    def _atoms(self, code: Int32[np.ndarray, "n P K"]) -> "tuple[Int64[np.ndarray, 'n P K'], Ball]":
        """Features and their values; none is feature 0 with the value 0."""
        levels = self._book.level.shape[1]
        present: Bool[np.ndarray, "n P K"] = code >= 0
        feature, level = np.divmod(np.where(present, code, 0).astype(np.int64), max(1, levels))
        if not self._book.level.size:
            return feature, Ball.exact(np.zeros(code.shape), self._ledger)
        value = np.where(present, self._book.level[feature, level], 0.0)
        return feature, Ball.exact(value, self._ledger)

    def _decoded(self, site: int, atoms: "tuple[Int64[np.ndarray, 'n P K'], Ball]") -> Ball:
        """``c^s [n, P, d]``. Cost: ``2 K d`` for each position."""
        feature, value = atoms
        bias = Ball.exact(self._book.bias[site], self._ledger)
        if not feature.size or not self._book.level.size:
            nothing = Ball.exact(np.zeros((*feature.shape[:2], len(bias.mid))), self._ledger)
            return nothing + bias
        direction = Ball.exact(self._book.decoder[site], self._ledger)[feature]
        return (direction * value[:, :, :, None]).sum(2) + bias
