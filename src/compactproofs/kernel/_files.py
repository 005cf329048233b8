"""Reading the bytes of a file that somebody else may have put there."""

import os
import stat
from pathlib import Path
from typing import Final

MAX_BYTES: Final = 1 << 30
"""Larger files are refused unread; no model or certificate that this version handles is."""


def read_regular_file(path: Path, limit: int = MAX_BYTES) -> bytes:
    """The bytes of a regular file; raises OSError in one line that names it.

    limit: the most bytes that such a file can have; a longer one is refused unread.
    Never waits for a pipe, never reads a device: what is not a regular file is refused.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise ValueError("not a regular file")
            if found.st_size > limit:
                raise ValueError(f"larger than {limit} bytes, which no such file is")
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                return file.read(limit)
        finally:
            os.close(descriptor)
    except (OSError, ValueError) as error:  # ValueError: also a null byte in the name
        reason = getattr(error, "strerror", None) or str(error)
        raise OSError(f"{path}: cannot be read ({reason})") from None
