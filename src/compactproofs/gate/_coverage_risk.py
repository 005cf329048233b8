"""How well a score separates, and what it costs: AUROC, and error against coverage.

Both describe the data at hand and carry no guarantee for other data.
"""

import numpy as np
from jaxtyping import Bool, Float64

from compactproofs.kernel import UserError

from ._extras import needed


class ScoreError(UserError):
    """Scores that cannot be compared."""


def auroc(clean: Float64[np.ndarray, " n"], anomalous: Float64[np.ndarray, " m"]) -> float:
    """P(an anomalous score is above a clean one), ties counted half; scikit-learn's.

    Raises ScoreError for no scores or NaN, MonitorError without scikit-learn.
    """
    if not len(clean) or not len(anomalous):
        raise ScoreError(
            f"{len(clean)} clean and {len(anomalous)} anomalous scores: pass some of each"
        )
    if np.isnan(clean).any() or np.isnan(anomalous).any():
        raise ScoreError("a score is NaN: leave that input out")
    metrics = needed("sklearn.metrics", "auroc")
    truth = np.repeat([0, 1], [len(clean), len(anomalous)])
    # Infinite scores keep their place but scikit-learn refuses them: only the order counts.
    _, ranks = np.unique(np.concatenate([clean, anomalous]), return_inverse=True)
    return float(metrics.roc_auc_score(truth, ranks))


def clean_error_at_coverage(
    scores: Float64[np.ndarray, " n"], wrong: Bool[np.ndarray, "..."], coverage: float
) -> float:
    """Share of ``wrong`` among the ``round(coverage n)`` inputs with the lowest scores.

    Of inputs tied at the threshold the mean share counts, whatever their order. Raises ScoreError
    unless 0 < coverage <= 1 keeps at least one input.
    """
    errors = coverage_risk(scores, wrong)
    kept = round(coverage * len(scores))
    if not 0 < coverage <= 1 or kept < 1:
        raise ScoreError(
            f"coverage {coverage} of {len(scores)} inputs keeps none: pass one in (0, 1]"
        )
    return float(errors[kept - 1])


def coverage_risk(
    scores: Float64[np.ndarray, " n"], wrong: Bool[np.ndarray, "..."]
) -> Float64[np.ndarray, " n"]:
    """Entry k - 1: the error among the k inputs with the lowest scores (coverage k / n).

    Raises ScoreError for NaN, no scores, or other lengths. Cost: n log n.
    """
    if scores.shape != wrong.shape or not len(scores):
        raise ScoreError(f"{scores.shape} scores for {wrong.shape} outcomes: pass one each")
    if np.isnan(scores).any():
        raise ScoreError("a score is NaN: leave that input out")
    _, group, counts = np.unique(scores, return_inverse=True, return_counts=True)
    shares = np.bincount(group, weights=wrong) / counts
    spread_out = np.repeat(shares, counts)  # in the order of the scores, ties sharing their errors
    return np.cumsum(spread_out) / np.arange(1, len(scores) + 1)
