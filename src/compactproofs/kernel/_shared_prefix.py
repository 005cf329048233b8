"""The residual before the last MLP, exactly: what sequences have in common is computed once.

Subject: any ``Transformer``; what is wanted of a sequence is the residual ``mid`` at the last
position before the last MLP, and what reaches that MLP's neurons, ``z = mid W_in + b_in``.

With causal attention the residual at position ``p`` depends on the tokens up to ``p`` alone. So for
``p < k - 1`` it is computed once for each of the ``v^(p+1)`` prefixes, not for every sequence, and
kept as what later positions read of it (``Keys``). In the first layer a key is that of one token
at one position, and so is its share of ``mid`` and of ``z``: tables of ``k v`` rows.
A layer reads, for each head, with ``r~ = (r, 1)``,

    score(u, w) = u~ M w~^T,   M = (W_Q; b_Q) (W_K; b_K)^T / sqrt(score_divisor_squared),
    value(w)    = w W_V W_O + b_V W_O,

which is the attention of ``_transformer`` with its products in another order. Only one-layer
models and causal ones are shared like this; in other models every position depends on every token.

Cost: for each of the ``v^k`` sequences, at the last position only, ``O(k (d + m))`` in the first
layer and ``O(d^2 + k d)`` for each head in later ones, and ``2 d m`` or ``4 d m`` for each MLP; the
same, but for the last layer, for each of the ``v^(k-1) + ... + v`` prefixes.
"""

from typing import NamedTuple, final

import numpy as np
from jaxtyping import Int64

from ._enclosure import Ball, check_arithmetic, reciprocal_sqrt
from ._errors import OptionError
from ._ledger import Ledger
from ._network import blocks_of, last_mid, neurons, project, softmax
from ._tick import Tick, no_tick
from ._transformer import Block, Transformer

_MAX_KEPT = 1 << 25  # numbers in all keys
_NUMBERS = 1 << 21  # numbers in an array: what stays in a cache


class Keys(NamedTuple):
    """What later positions read of ``R`` residuals, for each head."""

    score: tuple[Ball, ...]
    """``w~ M^T``, ``[R, d+1]``."""
    value: tuple[Ball, ...]
    """``[R, d]``; ``[R, d+m]`` in the first layer, where ``value W_in`` follows."""

    def rows(self, index: Int64[np.ndarray, " n"]) -> "Keys":
        """The keys number ``index``."""
        return Keys(tuple(s[index] for s in self.score), tuple(v[index] for v in self.value))


class Circuits(NamedTuple):
    """``M``, ``W_V W_O`` and ``b_V W_O`` of each head of a block."""

    score: list[Ball]
    value: list[Ball]
    bias: list[Ball]

    @classmethod
    def of(cls, net: Transformer, block: Block, ledger: Ledger) -> "Circuits":
        """Cost: ``O(d^2 h)`` for each head."""
        scale = reciprocal_sqrt(net.score_divisor_squared, ledger)
        score, value, bias = [], [], []
        for head in range(block.n_heads):
            query = Ball.exact(np.vstack([block.W_Q[head], block.b_Q[head]]), ledger) * scale
            key = Ball.exact(np.vstack([block.W_K[head], block.b_K[head]]), ledger)
            out = Ball.exact(block.W_O[head], ledger)
            score.append(query @ key.T)
            value.append(Ball.exact(block.W_V[head], ledger) @ out)
            bias.append((Ball.exact(block.b_V[head][None], ledger) @ out)[0])
        return cls(score, value, bias)

    def keys(self, residual: Ball) -> Keys:
        """What is read of residuals ``[R, d]``."""
        augmented = with_one(residual)
        return Keys(
            tuple(augmented @ score.T for score in self.score),
            tuple(
                residual @ value + bias for value, bias in zip(self.value, self.bias, strict=True)
            ),
        )


@final
class SharedPrefix:
    """``mid`` and ``z`` of sequences of one transformer; see the top of this file."""

    __slots__ = ("_begin", "_keys", "_ledger", "_net", "circuits")

    def __init__(self, net: Transformer, ledger: Ledger, tick: Tick = no_tick) -> None:
        """Compute what is shared. Refuses a model whose prefixes are too many to keep."""
        check_arithmetic()
        self._net, self._ledger = net, ledger
        self._keys: list[list[Keys]] = [[] for _ in net.blocks]
        self._begin: list[tuple[Ball, Ball]] = []
        self.circuits: list[Circuits] = []
        """Of each block, where prefixes are shared."""
        if not self.shares:
            return
        k, v, depth = net.n_ctx, net.d_vocab, len(net.blocks)
        prefixes = sum(v ** (p + 1) for p in range(k - 1))
        kept = prefixes * (depth - 1) * 2 * (net.d_model + 1) * net.blocks[0].n_heads
        if kept > _MAX_KEPT:
            raise OptionError(
                f"the prefixes of sequences of {k} tokens out of {v} would take {kept} numbers, "
                f"more than {_MAX_KEPT}: use --theorem brute-force"
            )
        self.circuits = [Circuits.of(net, block, ledger) for block in net.blocks]
        self._read_tokens()
        for position in range(k - 1) if depth > 1 else ():
            tick(position, k - 1)
            self._read_prefixes(position)

    @property
    def shares(self) -> bool:
        """Whether earlier positions are computed once for each prefix."""
        return len(self._net.blocks) == 1 or self._net.attention_dir == "causal"

    def _read_tokens(self) -> None:
        """The first layer: where the residual of each token at each position begins, and keys."""
        net, block = self._net, self._net.blocks[0]
        W_in = Ball.exact(block.W_in, self._ledger)
        for position in range(net.n_ctx):
            token = Ball.exact(net.W_E, self._ledger) + Ball.exact(
                net.W_pos[position], self._ledger
            )
            keys = self.circuits[0].keys(token)
            begin = token + Ball.exact(block.b_O, self._ledger)
            if block.d_mlp:
                begin = _beside(begin, neurons(block, begin))
                wide = tuple(_beside(value, value @ W_in) for value in keys.value)
                keys = Keys(keys.score, wide)
            self._begin.append((with_one(token), begin))
            self._keys[0].append(keys)

    def _read_prefixes(self, position: int) -> None:
        """Keys of the layers after the first for every prefix that ends at ``position``."""
        v, length = self._net.d_vocab, position + 1
        parts: list[list[Keys]] = []
        for start, stop in blocks_of(v**length, self.at_once):
            number = np.arange(start, stop, dtype=np.int64)
            places = v ** np.arange(length, dtype=np.int64)[::-1]
            own: list[Keys] = []
            here: Ball | None = None
            tokens = number[:, None] // places % v
            for layer in range(len(self._net.blocks) - 1):
                mid, z = self._attend(layer, tokens, here, own)
                here = _after_mlp(self._net.blocks[layer], mid, z)
                own.append(self.circuits[layer + 1].keys(here))
            parts.append(own)
        for layer, some in enumerate(zip(*parts, strict=True)):
            self._keys[layer + 1].append(_one_after_another(some))

    def _attend(
        self,
        layer: int,
        tokens: Int64[np.ndarray, "n p"],
        here: Ball | None,
        own: list[Keys],
    ) -> tuple[Ball, Ball]:
        """``mid [n, d]`` and ``z [n, m]`` at position ``p - 1``, from the residual there.

        here, own: the residual before this layer and its keys, one for each layer after the first.
        """
        net, block = self._net, self._net.blocks[layer]
        position = tokens.shape[1] - 1
        if here is None:
            augmented, begin = self._begin[position]
            query, mid = augmented[tokens[:, position]], begin[tokens[:, position]]
            seen = [keys.rows(tokens[:, i]) for i, keys in enumerate(self._keys[0][: position + 1])]
        else:
            query, mid = with_one(here), here + Ball.exact(block.b_O, self._ledger)
            seen = [keys.rows(number) for keys, number in self.earlier(layer, tokens)]
            seen.append(own[-1])
        for head in range(block.n_heads):
            score = side_by_side([(query * keys.score[head]).sum(1) for keys in seen])
            weight = softmax(score[:, None], np.ones((1, len(seen)), dtype=bool))[:, 0]
            for i, keys in enumerate(seen):
                mid = mid + weight[:, i, None] * keys.value[head]
        if here is None:
            return mid[:, : net.d_model], mid[:, net.d_model :]
        return mid, neurons(block, mid)

    def last(self, tokens: Int64[np.ndarray, "n k"], layer: int) -> tuple[Ball, Ball]:
        """``mid [n, d]`` and ``z [n, m]`` of sequences at the last position, in a layer.

        layer: the last one, unless what is common to prefixes is shared.
        """
        net = self._net
        if not self.shares:
            mid = last_mid(net, tokens, self._ledger)
            return mid, neurons(net.blocks[-1], mid)
        mid, z = self._attend(0, tokens, None, [])
        for number in range(1, layer + 1):
            here = _after_mlp(net.blocks[number - 1], mid, z)
            mid, z = self._attend(number, tokens, here, [self.circuits[number].keys(here)])
        return mid, z

    def earlier(
        self, layer: int, tokens: Int64[np.ndarray, "n k"]
    ) -> list[tuple[Keys, Int64[np.ndarray, " n"]]]:
        """What a layer after the first reads at the earlier positions: keys, and whose row."""
        found = []
        number = np.zeros(len(tokens), dtype=np.int64)
        for i, keys in enumerate(self._keys[layer][: tokens.shape[1] - 1]):
            number = number * self._net.d_vocab + tokens[:, i]
            found.append((keys, number))
        return found

    @property
    def at_once(self) -> int:
        """How many sequences a block of work may have."""
        block = self._net.blocks[0]
        width = self._net.d_model + max(block.d_mlp, block.W_Q.shape[2]) + self._net.d_vocab_out
        return max(1, _NUMBERS // (self._net.n_ctx * width))


def with_one(residual: Ball) -> Ball:
    """``[n, d+1]``: a 1 after each row, which biases are multiplied by."""
    return _beside(residual, Ball.exact(np.ones((len(residual.mid), 1)), residual.ledger))


def _beside(a: Ball, b: Ball) -> Ball:
    return Ball(np.hstack([a.mid, b.mid]), np.hstack([a.rad, b.rad]), a.ledger)


def side_by_side(columns: list[Ball]) -> Ball:
    """``[n, ...]`` balls along a new second axis."""
    return Ball(
        np.stack([one.mid for one in columns], axis=1),
        np.stack([one.rad for one in columns], axis=1),
        columns[0].ledger,
    )


def _one_after_another(parts: tuple[Keys, ...]) -> Keys:
    """The rows of all parts, head by head."""
    joined = [
        tuple(
            Ball(
                np.concatenate([ball.mid for ball in of_head]),
                np.concatenate([ball.rad for ball in of_head]),
                of_head[0].ledger,
            )
            for of_head in zip(*halves, strict=True)
        )
        for halves in (tuple(part.score for part in parts), tuple(part.value for part in parts))
    ]
    return Keys(*joined)


def _after_mlp(block: Block, mid: Ball, z: Ball) -> Ball:
    """The residual after the MLP that ``z`` reaches."""
    after = mid + Ball.exact(block.b_out, mid.ledger)
    if not block.d_mlp:
        return after
    return after + project(z.relu(), block.W_out, np.zeros(block.W_out.shape[1]))
