"""Writing a directory of files whole or not at all."""

import os
from collections.abc import Mapping
from pathlib import Path

from ..models._directory import check_directory as check_destination
from ..models._directory import replacing

__all__ = ("check_destination", "write_directory")


def write_directory(path: str | os.PathLike[str], files: Mapping[str, bytes]) -> Path:
    """Write a directory of `files` in place of what `check_directory` allowed; returns `path`.

    Everything goes to a temporary directory beside it, which is then renamed: an error or Ctrl-C
    leaves things as they were.
    """
    with replacing(Path(os.path.abspath(path))) as fresh:
        for name, content in files.items():
            (fresh / name).write_bytes(content)
    return Path(path)
