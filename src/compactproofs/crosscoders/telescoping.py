"""The witness of the theorem ``crosscoder-a`` from a crosscoder: its dictionary and its codes.

Nothing here is trusted; the kernel verifies what is claimed. Notation as in
``kernel/theorems/crosscoder_a.py``: S sites, H features, L levels, K atoms of P positions.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int, Int32, Int64, Shaped

from ..kernel import EnclosureError, Task, Tick, Transformer, no_tick, sequences
from ..kernel._ledger import Ledger
from ..kernel.theorems.crosscoder_a import Codebook, Telescope, TelescopingWitness
from ._activations import default_sites, require_own_crosscoder
from ._crosscoder import Crosscoder
from ._encoded_task import atoms_of, encode_task
from ._errors import CrosscoderError

_ROOM = 2.0**-24
"""Of the largest slack: far above what other machines round differently."""


def telescoping_witness(
    net: Transformer,
    task: Task,
    crosscoder: Crosscoder,
    *,
    active: int | None = None,
    levels: int = 64,
    anchored: bool = True,
    tick: Tick = no_tick,
) -> dict[str, np.ndarray]:
    """The tensors of the witness, by name: ``prove(net, task, "crosscoder-a", witness=...)``.

    active: features of an input and position at most; None: as trained. levels: of each feature.
    anchored: decode the first site by two features more, see `anchored_at_tokens`.
    Raises CrosscoderError for a crosscoder of another model or of other sites than all of it.
    Cost: a forward pass of every input, the codes of all in memory, and that of the theorem.
    """
    config = crosscoder.config
    names = tuple(site.name for site in config.sites)
    if names != default_sites(net):
        raise CrosscoderError(
            f"the crosscoder reads {', '.join(names)}, but crosscoder-a telescopes through "
            f"{', '.join(default_sites(net))}: train one on these"
        )
    folded = crosscoder.fold()
    require_own_crosscoder(folded.config, net)
    tokens = sequences(task, 0, task.total)
    labels = np.asarray(task.labels(tokens), dtype=np.int64)
    dataset = encode_task(net, folded, tokens, labels, task=task.name, active=active)
    dataset = dataset.quantised(levels)
    atoms = atoms_of(dataset).astype(np.int32)
    positions = net.n_ctx if config.positions == "all" else 1
    level = np.zeros((config.d_sae, 1)) if dataset.levels is None else dataset.levels
    arrays = Dictionary(
        folded.W_dec.transpose(1, 0, 2).astype(np.float64),
        folded.b_dec.astype(np.float64),
        level.astype(np.float64),
        atoms.reshape(task.total, positions, atoms.shape[1]),
    )
    if anchored:
        arrays = anchored_at_tokens(net, task, arrays)
    return with_claims(net, task, arrays, tick)


class Dictionary(NamedTuple):
    """The witness without its claims; the sites are `default_sites`."""

    decoder: Float64[np.ndarray, "S H d"]
    bias: Float64[np.ndarray, "S d"]
    level: Float64[np.ndarray, "H L"]
    code: Int32[np.ndarray, "n P K"]
    """Atoms ``feature L + level``, -1 for none."""


def anchored_at_tokens(net: Transformer, task: Task, arrays: Dictionary) -> Dictionary:
    """With a feature for each token and each position, whose directions are the embeddings.

    They alone decode to the first site, exactly but for rounding, so the first radius is 0. Two
    atoms more for each input and position; ``v + k`` features more.
    """
    decoder, bias, level, code = arrays
    H, L = level.shape
    v, k = net.d_vocab, net.n_ctx
    more = np.zeros((len(decoder), v + k, net.d_model))
    more[0, :v], more[0, v:] = net.W_E, net.W_pos
    decoder = np.concatenate([decoder, more], axis=1)
    decoder[0, :H] = 0.0
    bias = np.concatenate([np.zeros((1, net.d_model)), bias[1:]])
    place = np.arange(k - code.shape[1], k)
    token = sequences(task, 0, task.total)[:, place]
    position = np.broadcast_to(v + place, token.shape)
    atoms = ((H + np.stack([token, position], axis=2)) * max(1, L)).astype(np.int32)
    level = np.concatenate([level.reshape(H, -1), np.ones((v + k, max(1, L)))])
    return Dictionary(decoder, bias, level, np.concatenate([code, atoms], axis=2))


def with_claims(
    net: Transformer, task: Task, arrays: Dictionary, tick: Tick = no_tick
) -> dict[str, np.ndarray]:
    """The witness with these arrays that claims every input which they prove, with room.

    Raises MalformedError for arrays that do not fit. Cost: that of the theorem on all inputs.
    """
    nothing = np.zeros(len(arrays.code), dtype=np.int32)
    witness = TelescopingWitness(*arrays, nothing)
    book = Codebook.checked(net, task, witness)
    balls = Telescope(net, book, Ledger())
    tokens = sequences(task, 0, task.total)
    labels = np.asarray(task.labels(tokens), dtype=np.int64)
    slack = np.empty(len(tokens))
    for start in range(0, len(tokens), balls.at_once):
        tick(start, len(tokens))
        some = np.arange(start, min(start + balls.at_once, len(tokens)))
        slack[some] = _slack(balls, book, tokens, labels, some)
    finite: Bool[np.ndarray, " n"] = np.isfinite(slack) & (slack > 0)
    room = _ROOM * slack[finite].max(initial=0.0)
    return witness._replace(claimed=(slack > room).astype(np.int32))._asdict()


def _slack(
    balls: Telescope,
    book: Codebook,
    tokens: Int64[np.ndarray, "N k"],
    labels: Int64[np.ndarray, " N"],
    some: Int[np.ndarray, " n"],
) -> Shaped[np.ndarray, " n"]:
    """What the theorem leaves of the margins; minus infinity for balls too large for float64."""
    try:
        return balls.slack(tokens[some], labels[some], book.code[some])
    except EnclosureError:
        if len(some) == 1:
            return np.array([-np.inf])
        half = len(some) // 2
        parts = (some[:half], some[half:])
        return np.concatenate([_slack(balls, book, tokens, labels, part) for part in parts])
