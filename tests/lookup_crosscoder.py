"""A crosscoder that knows some inputs by heart."""

from collections.abc import Sequence

import numpy as np

from compactproofs.crosscoders import Crosscoder, CrosscoderConfig, residuals, site_of
from compactproofs.kernel import Transformer


def lookup_crosscoder(net: Transformer, names: Sequence[str], tokens: np.ndarray) -> Crosscoder:
    """A crosscoder with a feature for each of the sequences, whose activations it decodes exactly.

    Feature i fires on sequence i most strongly; encode with ``k=1``.
    """
    acts = residuals(net, tokens, names)  # [n, L, d]
    flat = acts.reshape(len(acts), -1)
    # a . a_i - |a_i|^2 / 2 is largest at the nearest a_i; the shift makes it positive.
    scores = flat @ flat.T - 0.5 * (flat**2).sum(1)
    top = scores.max(axis=1)
    shift = 1.0 - min(0.0, float(scores.min()))
    code = top + shift  # what fires on sequence i, before the exact strength is divided out
    decoder = (acts / code[:, None, None]).astype(np.float32)
    n_sites, d = acts.shape[1:]
    config = CrosscoderConfig(
        "topk_crosscoder",
        tuple(site_of(name) for name in names),
        (d,) * n_sites,
        len(acts),
        k=1,
        score="none",
        model_sha256=net.sha256,
    )
    return Crosscoder(
        config,
        W_enc=flat.T.reshape(n_sites, d, len(acts)).astype(np.float32),
        b_enc=(shift - 0.5 * (flat**2).sum(1)).astype(np.float32),
        W_dec=decoder,
        b_dec=np.zeros((n_sites, d), dtype=np.float32),
    )
