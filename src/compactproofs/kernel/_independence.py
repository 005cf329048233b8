"""Independence of features at the neurons of an MLP: where their interaction is proved to be 0.

A code is a set of features ``i`` with coefficients ``f_i``; it stands for the residual stream
``u = bias + sum_i f_i d_i`` before the MLP of one layer. At a neuron let ``p_i = f_i (d_i . w)``
be the pull of feature ``i`` and ``beta = bias . w + b_in``. For a set S of the code's features

    z(S) = beta + sum_{i in S} p_i,        low = beta + sum_i min(0, p_i) <= z(S),
    s(z) = max(0, z),                      high = beta + sum_i max(0, p_i) >= z(S).

The second difference of ``i`` and ``j`` beside S (which holds neither), and the interaction of all:

    D = s(z(S+i+j)) - s(z(S+i)) - s(z(S+j)) + s(z(S)),
    r = s(z(all)) - s(beta) - sum_i [s(z({i})) - s(beta)].

Theorem. At each neuron and for each code:

(on)         if ``low >= 0``, the neuron is the identity on every z(S): every D = 0, and r = 0.
(off)        if ``high <= 0``, it is 0 on every z(S): every D = 0, and r = 0.
(alone)      if at most one feature can have ``p_i != 0``, every D = 0, and r = 0.
(dominated)  if ``low + max_i max(0, p_i) >= 0`` or ``high + min_i min(0, p_i) <= 0``, let i* be
             the feature of that maximum (minimum). Then z(S) has one sign for every S that holds
             i*, so D = 0 for all i, j beside every S with i*: given i*, the others do not
             interact. Between i* and each of the others, and among the others without i*, D may
             differ from 0.
(always)     ``|D| <= max(0, min(|p_i|, |p_j|, high, -low))``.

Proof. (on), (off): s is linear on [low, high]. (alone): of the terms of D and r, equal ones cancel.
(dominated): for S that holds i*, ``z(S) >= beta + p_i* + sum_{j != i*} min(0, p_j)``, which is
``low - min(0, p_i*) + p_i* = low + max(0, p_i*)``; the other sign likewise. (always): replacing
z(S) by ``z(S) + p_i`` and ``p_i`` by ``-p_i`` turns D into ``-D``; so |D| is that of
``l = z(S) + min(0, p_i) + min(0, p_j)`` with pulls ``P = |p_i|, Q = |p_j|``, which is 0 if
``l >= 0`` or ``l + P + Q <= 0`` and ``min(P, Q, l + P + Q, -l)`` otherwise (compare l + P and
l + Q with 0: four cases). And ``low <= l``, ``l + P + Q <= high``. QED.

If a code is on, off or alone at every neuron, then ``MLP(u) - MLP(bias)`` is the sum over its
features of ``MLP(bias + f_i d_i) - MLP(bias)``. Nothing is said about what the code leaves out of
the residual stream, or about codes that are not listed.
"""

import hashlib
from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple, final

import numpy as np
from jaxtyping import Bool, Float64, Int64, Shaped

from ._enclosure import Ball, check_arithmetic
from ._errors import MalformedError, ModelError, OptionError
from ._frozen import Immutable, frozen
from ._ledger import Ledger
from ._network import blocks_of
from ._tick import Tick, no_tick
from ._transformer import Block, Transformer

_NUMBERS = 1 << 19  # numbers in an array: what stays in a cache
_MOST_PAIRED = 1 << 26  # feature pairs times neurons: half a gigabyte
_MOST_FEATURES = 1 << 31  # so that the number of a pair is below 2^62


class NeuronStatus(IntEnum):
    """What is proved of a neuron over all listed codes: the strongest that holds."""

    STABLE_ON = 0
    """On for every code: no interaction."""
    STABLE_OFF = 1
    """Off for every code: no interaction."""
    SEPARATE = 2
    """On, off or alone for every code, not the same for all: no interaction."""
    DOMINATED = 3
    """For every code one feature, if present, decides: beside it the others do not interact."""
    INTERACTING = 4
    """For some code nothing of that is proved."""


_SEAL = object()


@final
class Independence(Immutable):
    """What is proved of one layer: m neurons, P pairs of features that some code has together."""

    __slots__ = (
        "additive_codes", "flops", "interaction", "layer", "model_sha256", "n_codes",
        "pair_bound", "paired", "pairs", "second_difference", "status", "subject_sha256", "tally",
    )  # fmt: skip

    model_sha256: str
    layer: int
    subject_sha256: str
    """Digest (hex) of decoder, bias, levels and codes: what this is about."""
    n_codes: int
    """Codes, each counted as often as it was listed."""
    additive_codes: int
    """Codes, counted likewise, that are on, off or alone at every neuron: the MLP adds them up."""
    tally: Int64[np.ndarray, "5 m"]
    """Codes by neuron for which on, off, alone, dominated (the first that holds) or none holds."""
    status: Int64[np.ndarray, " m"]
    """A ``NeuronStatus`` of each neuron."""
    second_difference: Float64[np.ndarray, " m"]
    """Not below |D| for any code, pair of its features, and S."""
    interaction: Float64[np.ndarray, " m"]
    """Not below |r| for any code."""
    paired: bool
    """Whether pairs were asked for."""
    pairs: Int64[np.ndarray, "P 2"]
    """Features ``i < j`` that some code has together."""
    pair_bound: Float64[np.ndarray, "P m"]
    """Not below |D| of that pair for any code and S; 0 where they certainly do not interact."""
    flops: int

    def __init__(self, *, seal: object, **values: object) -> None:
        """Only ``independence`` holds the seal."""
        if seal is not _SEAL:
            raise TypeError("Independence comes from independence(net, layer, ...) alone")
        self._assign(**values)

    def counts(self) -> dict[str, int]:
        """Neurons of each status, by its name in lower case."""
        return {status.name.lower(): int((self.status == status).sum()) for status in NeuronStatus}

    def cells(self) -> dict[str, int]:
        """Codes times neurons for which each of the tally's five holds: ``n_codes m`` in all."""
        names = ("on", "off", "alone", "dominated", "interacting")
        return dict(zip(names, self.tally.sum(axis=1).tolist(), strict=True))

    def neurons(self, status: NeuronStatus) -> tuple[int, ...]:
        """The neurons of one status."""
        return tuple(np.flatnonzero(self.status == status).tolist())

    @property
    def interacting_codes(self) -> Int64[np.ndarray, " m"]:
        """By neuron, the codes for which neither on, off, alone nor dominated is proved."""
        return self.tally[4]

    def shared_neurons(self, i: int, j: int) -> tuple[int, ...]:
        """Neurons where features i and j meet in some code without proof that D = 0 for them.

        Empty for features that no code has together. Raises OptionError if it was made without
        pairs.
        """
        if not self.paired:
            raise OptionError("made with pairs=False, which says nothing of two features")
        found = (self.pairs == (min(i, j), max(i, j))).all(axis=1)
        return tuple(np.flatnonzero((self.pair_bound[found] > 0).any(axis=0)).tolist())


class _Subject(NamedTuple):
    """Checked copies of what a caller gave."""

    decoder: Float64[np.ndarray, "H d"]
    bias: Float64[np.ndarray, " d"]
    levels: Float64[np.ndarray, "H L"]
    codes: Int64[np.ndarray, "N K"]

    @property
    def sha256(self) -> str:
        digest = hashlib.sha256(b"compactproofs independence 1")
        for name, array in self._asdict().items():
            digest.update(f"\n{name} {list(array.shape)}\n".encode())
            plain = np.where(array == 0, 0, array)  # -0.0 is the number 0.0
            digest.update(plain.astype(array.dtype.newbyteorder("<")).tobytes())
        return digest.hexdigest()


def independence(
    net: Transformer,
    layer: int,
    decoder: Shaped[np.ndarray, "..."],
    bias: Shaped[np.ndarray, "..."],
    levels: Shaped[np.ndarray, "..."],
    codes: Shaped[np.ndarray, "..."],
    *,
    pairs: bool = True,
    tick: Tick = no_tick,
) -> Independence:
    """Prove of every neuron of ``layer`` how features interact there; see the theorem above.

    decoder: float64 ``[H, d]``, the directions ``d_i`` before the MLP. bias: float64 ``[d]``.
    levels: float64 ``[H, L]``, the coefficients that each feature may have, of any sign.
    codes: integers ``[N, K]``, a code each row: atoms ``feature * L + level`` in any order, -1 for
    none; no feature twice. A coefficient of exactly 0 is an absent feature.
    pairs: whether to bound each pair of features too, which needs ``P m`` numbers.

    Raises MalformedError for arrays that are not this, ModelError for a layer that does not exist
    or has no neurons, OptionError for too many pairs, EnclosureError beyond float64's range.
    Cost: O(H d m) and O(N' K m), with pairs O(N' K^2 m), for N' different codes.
    """
    check_arithmetic()
    block = _block(net, layer)
    subject = _checked(net.d_model, decoder, bias, levels, codes)
    ledger = Ledger()
    weights = Ball.exact(block.W_in, ledger)
    gain = Ball.exact(subject.decoder, ledger) @ weights
    beta = (Ball.exact(subject.bias[None], ledger) @ weights)[0] + Ball.exact(block.b_in, ledger)
    # A product of which every term has a factor 0 is exactly 0, which a ball cannot say.
    reached = ((subject.decoder != 0).astype(np.int64) @ (block.W_in != 0).astype(np.int64)) > 0
    words, times = np.unique(np.sort(subject.codes, axis=1), axis=0, return_counts=True)
    together = _together(words, subject.levels) if pairs else np.zeros(0, dtype=np.int64)
    if len(together) * block.d_mlp > _MOST_PAIRED:
        raise OptionError(
            f"{len(together)} pairs of features at {block.d_mlp} neurons are more than "
            f"{_MOST_PAIRED} numbers: pass fewer codes, or pairs=False"
        )
    tally = np.zeros((5, block.d_mlp), dtype=np.int64)
    additive, difference, interaction = 0, np.zeros(block.d_mlp), np.zeros(block.d_mlp)
    pair_bound = np.zeros((len(together), block.d_mlp))
    at_once = max(1, _NUMBERS // (words.shape[1] * block.d_mlp))
    for start, stop in blocks_of(len(words), at_once):
        feature, value, present = _coefficients(words[start:stop], subject.levels)
        pull = gain[feature] * Ball.exact(value[:, :, None], ledger)
        here = present[:, :, None] & reached[feature]
        pull = _only(here, pull)
        low, high, kinds = _kinds(beta, pull, here)
        tally += np.tensordot(kinds, times[start:stop], (1, 0))
        apart = kinds[:3].any(axis=0)
        additive += int(times[start:stop] @ apart.all(axis=-1))
        limit = np.where(apart, 0.0, np.maximum(np.minimum(high.upper(), -low.lower()), 0.0))
        size = pull.absolute().upper()
        difference = np.maximum(difference, np.minimum(_second(size), limit).max(axis=0))
        all_of_it = np.where(apart, 0.0, _interaction(beta, pull, here).absolute().upper())
        interaction = np.maximum(interaction, all_of_it.max(axis=0))
        ledger.point(6 * limit.size + size.size)
        if len(together):
            for key, bound in _pair_bounds(feature, present, size, limit, len(subject.levels)):
                ledger.point(2 * bound.size)
                _raise_to(pair_bound, np.searchsorted(together, key), bound)
        tick(stop, len(words))
    return Independence(
        seal=_SEAL,
        model_sha256=net.sha256,
        layer=layer,
        subject_sha256=subject.sha256,
        n_codes=len(subject.codes),
        additive_codes=additive,
        tally=frozen(tally),
        status=frozen(_status(tally, len(subject.codes))),
        second_difference=frozen(difference),
        interaction=frozen(interaction),
        paired=pairs,
        pairs=frozen(np.stack(np.divmod(together, len(subject.levels)), axis=1)),
        pair_bound=frozen(pair_bound),
        flops=ledger.flops,
    )


def _block(net: Transformer, layer: int) -> Block:
    if type(layer) is not int or not 0 <= layer < len(net.blocks):
        raise ModelError(f"layer {layer!r} is not one of 0 to {len(net.blocks) - 1} of the model")
    if not net.blocks[layer].d_mlp:
        raise ModelError(f"layer {layer} has no MLP: features interact at neurons alone")
    return net.blocks[layer]


def _checked(
    d: int,
    decoder: Shaped[np.ndarray, "..."],
    bias: Shaped[np.ndarray, "..."],
    levels: Shaped[np.ndarray, "..."],
    codes: Shaped[np.ndarray, "..."],
) -> _Subject:
    """Copies that nobody can change, refused unless they are what ``independence`` takes."""
    floats = {"decoder": (decoder, 2), "bias": (bias, 1), "levels": (levels, 2)}
    kept: dict[str, Shaped[np.ndarray, "..."]] = {}
    for name, (array, axes) in floats.items():
        found = np.asarray(array)
        if found.dtype != np.float64 or found.ndim != axes or not found.size:
            raise MalformedError(
                f"{name} is {found.dtype} {found.shape}: pass a float64 array of {axes} axes"
            )
        kept[name] = frozen(found)
        if not np.isfinite(kept[name]).all():
            raise MalformedError(f"{name} holds NaN or infinity")
    (n_features, width), (also_features, n_levels) = kept["decoder"].shape, kept["levels"].shape
    if (width, *kept["bias"].shape, also_features) != (d, d, n_features):
        raise MalformedError(
            f"decoder {kept['decoder'].shape}, bias {kept['bias'].shape} and levels "
            f"{kept['levels'].shape} are not [H, d={d}], [d] and [H, L] of one H"
        )
    found = np.asarray(codes)
    if found.dtype.kind not in "iu" or found.ndim != 2 or not found.size:
        raise MalformedError(
            f"codes are {found.dtype} {found.shape}: pass integers [N, K], at least one of each"
        )
    atoms = frozen(found)
    lowest, highest = int(atoms.min()), int(atoms.max())
    if lowest < -1 or highest >= n_features * n_levels or n_features > _MOST_FEATURES:
        raise MalformedError(
            f"codes hold {lowest} to {highest}, but an atom is feature * {n_levels} + level of "
            f"{n_features} features, or -1 for none"
        )
    atoms = frozen(atoms.astype(np.int64))
    features = np.sort(np.where(atoms < 0, -1, atoms // n_levels), axis=1)
    twice = ((features[:, 1:] == features[:, :-1]) & (features[:, 1:] >= 0)).any(axis=1)
    if twice.any():
        raise MalformedError(f"code {int(np.argmax(twice))} has a feature twice: name it once")
    return _Subject(kept["decoder"], kept["bias"], kept["levels"], atoms)


def _coefficients(
    atoms: Int64[np.ndarray, "n K"], levels: Float64[np.ndarray, "H L"]
) -> tuple[Int64[np.ndarray, "n K"], Float64[np.ndarray, "n K"], Bool[np.ndarray, "n K"]]:
    """The feature and coefficient of each atom, and whether it is there (feature 0 if not)."""
    feature, level = np.divmod(np.maximum(atoms, 0), levels.shape[1])
    value = np.where(atoms < 0, 0.0, levels[feature, level])
    return feature, value, value != 0


def _only(here: Bool[np.ndarray, "..."], x: Ball) -> Ball:
    """The numbers where ``here``, and exactly 0 elsewhere."""
    return Ball(np.where(here, x.mid, 0.0), np.where(here, x.rad, 0.0), x.ledger)


def _kinds(
    beta: Ball, pull: Ball, here: Bool[np.ndarray, "n K m"]
) -> tuple[Ball, Ball, Bool[np.ndarray, "5 n m"]]:
    """``low`` and ``high`` of each code and neuron, and what is proved: see ``tally``."""
    up = pull.relu()
    down = Ball(-pull.mid, pull.rad, pull.ledger).relu()
    low, high = beta - down.sum(1), beta + up.sum(1)
    on, off = low.lower() >= 0, high.upper() <= 0
    alone = here.sum(axis=1) <= 1
    dominated = ((low + up.max(1)).lower() >= 0) | ((high - down.max(1)).upper() <= 0)
    holds = np.stack([on, off, alone, dominated, np.ones_like(on)])
    first = np.argmax(holds, axis=0)  # the first that is True
    return low, high, first == np.arange(5)[:, None, None]


def _second(size: Float64[np.ndarray, "n K m"]) -> Float64[np.ndarray, "n m"]:
    """The second largest of the K sizes, which no pair's smaller size exceeds; 0 if K = 1."""
    if size.shape[1] < 2:
        return np.zeros((size.shape[0], size.shape[2]))
    return np.partition(size, -2, axis=1)[:, -2]


def _interaction(beta: Ball, pull: Ball, here: Bool[np.ndarray, "n K m"]) -> Ball:
    """``r`` of each code and neuron, ``[n, m]``."""
    rest = beta.relu()
    single = _only(here, (beta + pull).relu() - rest)
    return (beta + pull.sum(1)).relu() - rest - single.sum(1)


def _slot_pairs(slots: int) -> Iterator[tuple[int, int]]:
    """Every two columns of sorted codes; the feature of the first is the smaller."""
    return ((a, b) for b in range(slots) for a in range(b))


def _together(
    words: Int64[np.ndarray, "n K"], levels: Float64[np.ndarray, "H L"]
) -> Int64[np.ndarray, " P"]:
    """``i H + j`` of the features ``i < j`` that some code has together, in increasing order."""
    feature, _, present = _coefficients(words, levels)
    keys = [
        np.unique((feature[:, a] * len(levels) + feature[:, b])[present[:, a] & present[:, b]])
        for a, b in _slot_pairs(words.shape[1])
    ]
    return np.unique(np.concatenate(keys)) if keys else np.zeros(0, dtype=np.int64)


def _pair_bounds(
    feature: Int64[np.ndarray, "n K"],
    present: Bool[np.ndarray, "n K"],
    size: Float64[np.ndarray, "n K m"],
    limit: Float64[np.ndarray, "n m"],
    n_features: int,
) -> Iterator[tuple[Int64[np.ndarray, " c"], Float64[np.ndarray, "c m"]]]:
    """For every two columns: the pairs ``i H + j`` in them, and what D of each cannot exceed."""
    for a, b in _slot_pairs(feature.shape[1]):
        rows = present[:, a] & present[:, b]
        if rows.any():
            key = feature[rows, a] * n_features + feature[rows, b]
            yield key, np.minimum(np.minimum(size[rows, a], size[rows, b]), limit[rows])


def _raise_to(
    table: Float64[np.ndarray, "P m"],
    rows: Int64[np.ndarray, " c"],
    values: Float64[np.ndarray, "c m"],
) -> None:
    """``table[row] = max(table[row], value)`` for every row and value, rows in any number."""
    order = np.argsort(rows, kind="stable")
    which, begins = np.unique(rows[order], return_index=True)
    table[which] = np.maximum(table[which], np.maximum.reduceat(values[order], begins, axis=0))


def _status(tally: Int64[np.ndarray, "5 m"], n_codes: int) -> Int64[np.ndarray, " m"]:
    """The first status whose codes are all of them; INTERACTING takes every code."""
    on, off, alone, dominated, _ = tally
    apart = on + off + alone
    every = np.stack([on, off, apart, apart + dominated, tally.sum(axis=0)]) == n_codes
    return np.argmax(every, axis=0).astype(np.int64)
