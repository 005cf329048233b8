"""The one exception of this package."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from ..kernel import UserError


class CrosscoderError(UserError):
    """A crosscoder, an activation store or an encoded dataset that is malformed or does not fit."""


@contextmanager
def located(path: str | os.PathLike[str]) -> Iterator[None]:
    """Put `path` before the message of a CrosscoderError that does not begin with it."""
    try:
        yield
    except CrosscoderError as error:
        if str(error).startswith(os.fspath(path)):
            raise
        raise CrosscoderError(f"{os.fspath(path)}: {error}") from None
