"""Which sites a feature reads and writes: the boolean masks of causal crosscoders."""

import numpy as np
from jaxtyping import Bool, Float32, Integer

from ._errors import CrosscoderError


def causal_masks(
    source: Integer[np.ndarray, " H"], n_sites: int
) -> tuple[Bool[np.ndarray, "H L"], Bool[np.ndarray, "H L"]]:
    """``(enc_mask, dec_mask)`` of features that read the one site ``source[i]``.

    They write that site and all later ones: the masks ``weakly_causal`` and ``clt``.
    Raises CrosscoderError for a site that does not exist.
    """
    outside = (source < 0) | (source >= n_sites)
    if outside.any():
        feature = int(np.argmax(outside))
        raise CrosscoderError(
            f"source[{feature}] = {source[feature]} is not one of the {n_sites} sites"
        )
    sites = np.arange(n_sites)
    return sites == source[:, None], sites >= source[:, None]


def require_masks(
    kind: str,
    enc_mask: Bool[np.ndarray, "H L"] | None,
    dec_mask: Bool[np.ndarray, "H L"] | None,
    W_enc: Float32[np.ndarray, "L d H"],
    W_dec: Float32[np.ndarray, "H L d"],
) -> None:
    """Raise CrosscoderError unless the masks are of their kind and the weights obey them."""
    if kind == "acausal":
        if enc_mask is not None or dec_mask is not None:
            raise CrosscoderError("masks are given, but mask is 'acausal'; say 'custom'")
        return
    if enc_mask is None or dec_mask is None:
        missing = "enc_mask" if enc_mask is None else "dec_mask"
        raise CrosscoderError(f"{missing} is missing: mask {kind!r} needs both masks")
    if kind != "custom":
        _require_causal(kind, enc_mask, dec_mask)
    read = np.any(W_enc != 0, axis=1).T & ~enc_mask
    written = np.any(W_dec != 0, axis=2) & ~dec_mask
    for name, mask, beyond in (("W_enc", "enc_mask", read), ("W_dec", "dec_mask", written)):
        if beyond.any():
            feature, site = (int(i) for i in np.argwhere(beyond)[0])
            raise CrosscoderError(
                f"{name} of feature {feature} at site {site} is not zero, but {mask} leaves that "
                "site out; multiply the weights by the mask"
            )


def _require_causal(
    kind: str, enc_mask: Bool[np.ndarray, "H L"], dec_mask: Bool[np.ndarray, "H L"]
) -> None:
    wrong = enc_mask.sum(axis=1) != 1
    if wrong.any():
        feature = int(np.argmax(wrong))
        raise CrosscoderError(
            f"enc_mask: feature {feature} reads {enc_mask[feature].sum()} sites, "
            f"but mask {kind!r} means one"
        )
    _, expected = causal_masks(enc_mask.argmax(axis=1), enc_mask.shape[1])
    wrong = (dec_mask != expected).any(axis=1)
    if wrong.any():
        feature = int(np.argmax(wrong))
        raise CrosscoderError(
            f"dec_mask: feature {feature} must write the site it reads and all later ones, "
            f"as mask {kind!r} means; say 'custom' for others"
        )
