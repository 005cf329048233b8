"""The edge of float32 semantics: beyond it a claim would be false, so it may not move."""

import numpy as np
import pytest

from compactproofs import prove
from compactproofs.kernel import MaxOfK

from . import float32_evaluations
from .float32_evaluations import Style, evaluate, right
from .laws_of_float32 import flushed_model
from .truth import all_sequences

FLUSHING = Style(
    seed=0, adversary=False, bias_first=False, scale="after", subtract=False, divide_first=False,
    flush=True,
)  # fmt: skip
TOKENS = all_sequences(2, 2)
LABEL = TOKENS.max(axis=1)


def wrong(score: float) -> int:
    return int((~right(evaluate(flushed_model(score), TOKENS, LABEL, FLUSHING), LABEL)).sum())


@pytest.mark.parametrize("score", [-39.5, 0.0, 59.5])
def test_inside_the_edge_flushed_products_break_nothing(score: float) -> None:
    claim = prove(flushed_model(score), MaxOfK(2, 2), "brute-force", semantics="float32").claim
    assert claim.correct == claim.total == 4
    logits = evaluate(flushed_model(score), TOKENS, LABEL, FLUSHING)
    assert not np.isnan(logits).any() and wrong(score) == 0


def test_beyond_the_edge_they_would(monkeypatch: pytest.MonkeyPatch) -> None:
    """Why the largest score must be at least -40: at -60 the proof would be refuted."""
    claim = prove(flushed_model(-60.0), MaxOfK(2, 2), "brute-force", semantics="float32").claim
    assert claim.correct == 4
    assert wrong(-60.0) == 0  # not covered, so right by courtesy
    monkeypatch.setattr(float32_evaluations, "LEAST", -61.0)
    assert wrong(-60.0) == 3
