from collections.abc import Iterator
from types import ModuleType

import pytest

from .copies import kernel_copy


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """The kernel, byte for byte, without the import hook: see ``copies``."""
    with kernel_copy(tmp_path_factory.mktemp("kernel")) as kernel:
        yield kernel
