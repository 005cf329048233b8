"""Fingerprints: one activation vector of one model at one list of sites, and no other."""

import hashlib
from collections.abc import Iterable

import numpy as np
from jaxtyping import Float64

_MINUS_ZERO = np.uint64(1 << 63)


def fingerprints(model: str, sites: str, h: Float64[np.ndarray, "n s"]) -> list[bytes]:
    """SHA-256 of the digests of the network and of the sites, and of each row's numbers.

    -0.0 is the number 0.0; every other number counts as it is, down to the last denormal. NaN and
    infinity have no fingerprint: it is empty. Cost: O(n s).
    """
    # By bits: a comparison with 0 may take a denormal for one.
    bits = np.ascontiguousarray(h).view(np.uint64)
    plain = np.where(bits == _MINUS_ZERO, np.uint64(0), bits).astype("<u8")
    start = hashlib.sha256(f"compactproofs record 1\n{model}\n{sites}\n".encode())
    found = []
    finite = np.asarray(np.isfinite(h).all(axis=1))
    for row, whole in zip(plain, finite.tolist(), strict=True):
        digest = start.copy()
        digest.update(row.tobytes())
        found.append(digest.digest() if whole else b"")
    return found


def digest_of(prints: Iterable[bytes]) -> str:
    """What a record entry stores of the fingerprints of its rows."""
    return hashlib.sha256(b"".join(prints)).hexdigest()
