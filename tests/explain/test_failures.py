"""Where a proof fails: counts from the proof, examples that are what they say."""

import numpy as np

from compactproofs import prove
from compactproofs.estimate import last_position_logits
from compactproofs.explain.failures import failures
from compactproofs.kernel import parse_task
from random_models import max_like_model


def test_counts_and_examples_are_true() -> None:
    model = max_like_model(np.random.default_rng(8), k=3, v=6, sharpness=0.7, noise=0.6)
    task = parse_task("max:k=3,v=6")
    proved = prove(model, task)
    lost = failures(model, task, proved)
    undecided = proved.claim.undecided
    assert undecided and sum(n for _, n in lost.by_query) == undecided
    assert sum(n for _, n in lost.by_label) == undecided
    assert lost.examples
    for example in lost.examples:
        logits = last_position_logits(model, np.array([example.tokens]))[0]
        others = np.delete(logits, example.label)
        assert example.label == max(example.tokens)
        assert example.answer == logits.argmax()
        assert abs(example.margin - (logits[example.label] - others.max())) < 1e-9
        assert example.verdict == ("right" if example.margin > 0 else "wrong")
    margins = [example.margin for example in lost.examples]
    assert margins == sorted(margins)


def test_a_model_that_is_right_everywhere_has_no_failures() -> None:
    model = max_like_model(np.random.default_rng(1), k=2, v=3, sharpness=6, noise=0.0)
    task = parse_task("max:k=2,v=3")
    proved = prove(model, task)
    if proved.claim.undecided == 0:
        assert failures(model, task, proved).examples == ()
