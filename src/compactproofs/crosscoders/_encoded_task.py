"""The inputs of a task in code, and codes as atoms: what is measured and proved of features."""

import numpy as np
from jaxtyping import Int, Int64

from ..kernel import Independence, Tick, Transformer, independence, no_tick
from ._activations import residuals
from ._crosscoder import Crosscoder
from ._encoded import EncodedDataset, encode_dataset
from ._errors import CrosscoderError

_CHUNK = 1 << 16


def encode_task(
    net: Transformer,
    crosscoder: Crosscoder,
    tokens: Int[np.ndarray, "n k"],
    labels: Int[np.ndarray, " n"],
    *,
    task: str = "",
    active: int | None = None,
) -> EncodedDataset:
    """The codes of sequences at the positions that the crosscoder reads, sequence by sequence.

    active: encode with so many features at most; None: as trained. Cost: a forward pass of each,
    and the activations of all in memory.
    """
    config = crosscoder.config
    several = net.n_ctx if config.positions == "all" else 1
    return encode_dataset(
        crosscoder,
        residuals(net, tokens, [site.name for site in config.sites], config.positions),
        token_ids=np.repeat(tokens, several, axis=0),
        position=np.tile(np.arange(net.n_ctx)[-several:], len(tokens)),
        label=np.repeat(labels, several),
        d_vocab=net.d_vocab,
        d_vocab_out=net.d_vocab_out,
        task=task,
        k=active,
    )


def atoms_of(dataset: EncodedDataset) -> Int64[np.ndarray, "N K"]:
    """The codes of a quantised data set as atoms ``feature * Q + level``, -1 where there is none.

    K is the largest number of active features. Raises CrosscoderError for codes without levels.
    """
    if dataset.levels is None:
        raise CrosscoderError("the codes have no levels: round them first (quantised(n_levels))")
    counts = dataset.active()
    levels = np.empty(len(dataset.values), dtype=np.int64)
    for begin in range(0, len(levels), _CHUNK):
        part = slice(begin, begin + _CHUNK)
        same = dataset.levels[dataset.indices[part]] == dataset.values[part, None]
        levels[part] = np.argmax(same, axis=1)
    atoms = np.full((len(dataset), int(counts.max(initial=1))), -1, dtype=np.int64)
    atoms[np.arange(atoms.shape[1]) < counts[:, None]] = (
        dataset.indices.astype(np.int64) * dataset.levels.shape[1] + levels
    )
    return atoms


def prove_independence(
    net: Transformer,
    crosscoder: Crosscoder,
    dataset: EncodedDataset,
    layer: int,
    *,
    pairs: bool = True,
    tick: Tick = no_tick,
) -> Independence:
    """`compactproofs.kernel.independence` of the codes of a quantised data set at a layer.

    Raises CrosscoderError for a layer whose ``hook_resid_mid`` the crosscoder does not write, and
    codes without levels; and what the certificate raises.
    """
    directions = crosscoder.to_sae(f"blocks.{layer}.hook_resid_mid")
    atoms = atoms_of(dataset)
    levels = np.zeros((0, 1)) if dataset.levels is None else dataset.levels.astype(np.float64)
    return independence(
        net,
        layer,
        directions["W_dec"].astype(np.float64),
        directions["b_dec"].astype(np.float64),
        levels,
        atoms,
        pairs=pairs,
        tick=tick,
    )
