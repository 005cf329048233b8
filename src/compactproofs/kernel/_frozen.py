"""What was verified stays as it was: arrays and objects that do not change."""

from typing import Any, NoReturn

import numpy as np
from jaxtyping import Shaped


def frozen(array: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "..."]:
    """A copy over immutable bytes, a plain array whose writeable flag cannot be set again."""
    plain = np.ascontiguousarray(array)
    return np.frombuffer(plain.tobytes(), plain.dtype).reshape(np.shape(array))


class Immutable:
    """Attributes are set once, by ``_assign`` in ``__init__``."""

    __slots__ = ()

    def _assign(self, **values: Any) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        """Refuse: what is proved of an object must stay true of it."""
        raise AttributeError(f"{type(self).__name__}.{name} cannot be changed")

    def __delattr__(self, name: str) -> NoReturn:
        """Refuse, as ``__setattr__``."""
        raise AttributeError(f"{type(self).__name__}.{name} cannot be removed")
