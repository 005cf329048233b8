from dataclasses import replace

import numpy as np
import pytest
from training_examples import TASK, settings, source, transformer

from compactproofs.crosscoders import CrosscoderError
from compactproofs.crosscoders.sparse_codes import SparseCodes, crosscoder_codes
from compactproofs.crosscoders.training import certified_codes, train_crosscoder
from compactproofs.crosscoders.training._refit import _Problem


@pytest.fixture(scope="module")
def codes() -> SparseCodes:
    return crosscoder_codes(transformer(), TASK, train_crosscoder(source(), settings()), 3)


def test_no_bound_gets_worse_and_some_get_better(codes: SparseCodes) -> None:
    net = transformer()
    ticks: list[tuple[int, int]] = []
    found = certified_codes(net, TASK, codes, steps=40, tick=lambda *now: ticks.append(now))
    before, after = (_Problem(net, TASK, one).worst().numpy() for one in (codes, found))
    assert (after >= before - 1e-12).all() and after.mean() > before.mean() + 0.01
    # What was certified well enough is left alone.
    kept = before > 0.05
    assert np.array_equal(found.value[kept], codes.value[kept])
    assert ticks == [(1, 1)]


def test_supports_stay_and_a_feature_of_value_0_is_none(codes: SparseCodes) -> None:
    found = certified_codes(transformer(), TASK, codes, steps=10)
    used = found.feature >= 0
    assert np.array_equal(found.feature[used], codes.feature[used])
    assert (found.value[~used] == 0).all() and (found.value[used] > 0).all()


def test_codes_of_another_task_are_refused(codes: SparseCodes) -> None:
    short = replace(codes, feature=codes.feature[:5], value=codes.value[:5])
    with pytest.raises(CrosscoderError, match="codes of 5 sequences in 8 dimensions"):
        certified_codes(transformer(), TASK, short)
