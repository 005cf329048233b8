"""Features of a crosscoder as sites of the gate."""

import numpy as np
from jaxtyping import Float64, Int

from ..crosscoders import Crosscoder, residuals
from ..kernel import Transformer
from ..kernel.gate import SiteGroup
from .propose import Decoded


def feature_sites(
    crosscoder: Crosscoder, acts: Float64[np.ndarray, "n l d"], name: str = "feature"
) -> tuple[SiteGroup, Float64[np.ndarray, "n f"]]:
    """The group of the crosscoder's f features, and their codes on raw activations.

    Codes are the encoder's float32 numbers; a feature fires where its code is above 0. Raises
    CrosscoderError for activations of another shape, NaN or infinity. Cost: one encoding.
    """
    codes = crosscoder.encode(acts)
    return SiteGroup(name, "feature", codes.shape[1]), codes.astype(np.float64)


def features_of(
    crosscoder: Crosscoder,
    net: Transformer,
    tokens: Int[np.ndarray, "n k"],
    name: str = "feature",
) -> tuple[SiteGroup, Float64[np.ndarray, "n f"]]:
    """The same on sequences, at their last position. Cost: n forward passes and an encoding."""
    sites = [site.name for site in crosscoder.config.sites]
    return feature_sites(crosscoder, residuals(net, tokens, sites), name)


def decoded_by(crosscoder: Crosscoder, place: int, features: slice, start: int) -> Decoded:
    """How the features make the crosscoder's site number ``place``, as the gate's columns.

    ``features`` are the columns of the feature group, ``start`` the first one of the site's group.
    Only for crosscoders that do not normalise their activations, or were folded.
    """
    weights = crosscoder.W_dec[:, place].astype(np.float64)
    return Decoded(features, weights, crosscoder.b_dec[place].astype(np.float64), start)
