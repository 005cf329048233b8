"""Norm-ball telescoping, against forward passes and exact truth."""

from collections.abc import Callable, Iterator
from types import ModuleType

import pytest

from . import laws_of_telescoping


@pytest.mark.parametrize("law", laws_of_telescoping.LAWS, ids=lambda law: law.__name__)
def test_the_law_holds(law: Callable[[ModuleType], Iterator[str]], plain: ModuleType) -> None:
    assert list(law(plain)) == []
