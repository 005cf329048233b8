"""The k largest of each row, the same ones every time."""

import numpy as np
from jaxtyping import Bool, Float32


def largest(scores: Float32[np.ndarray, "n H"], k: int) -> Bool[np.ndarray, "n H"]:
    """Where the `k` largest positive entries of each row are; the lower index first among equals.

    Fewer than k where a row has fewer positive entries. 1 <= k <= H; no NaN.
    Cost: O(n H), not a sort.
    """
    kth = np.partition(scores, scores.shape[1] - k, axis=1)[:, scores.shape[1] - k, None]
    above, ties = scores > kth, scores == kth
    room = k - above.sum(axis=1, keepdims=True)
    return (above | (ties & (ties.cumsum(axis=1) <= room))) & (scores > 0)
