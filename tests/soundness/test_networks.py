"""Forward passes in enclosures, and brute force on transformers, against exact truth."""

from collections.abc import Callable, Iterator
from types import ModuleType

import pytest

from compactproofs.kernel import MaxOfK, OptionError, UserError
from compactproofs.kernel.theorems import brute_force_network
from transformers_for_tests import random_transformer

from . import laws_of_networks


@pytest.mark.parametrize("law", laws_of_networks.LAWS, ids=lambda law: law.__name__)
def test_the_law_holds(law: Callable[[ModuleType], Iterator[str]], plain: ModuleType) -> None:
    assert list(law(plain)) == []


def test_truth_has_right_and_wrong_answers() -> None:
    counts = [laws_of_networks.truth_of(n)[2] for n in range(len(laws_of_networks.networks()))]
    shares = [sum(c.right for c in one.values()) for one in counts]
    assert sum(share > 0 for share in shares) > 10
    assert (
        sum(
            share < sum(c.size for c in one.values())
            for share, one in zip(shares, counts, strict=True)
        )
        > 10
    )


def test_too_many_sequences_are_refused() -> None:
    import numpy as np

    net = random_transformer(np.random.default_rng(0), k=13, v=4)
    with pytest.raises(OptionError, match="would not end"):
        brute_force_network(net, MaxOfK(13, 4), None)
    with pytest.raises(UserError, match="has k=3"):
        brute_force_network(net, MaxOfK(3, 4), None)
