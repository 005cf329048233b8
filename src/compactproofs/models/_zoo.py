"""The bundled models, and the one rule that turns what a user typed into a directory."""

from pathlib import Path

from ._directory import CONFIG_FILE

_ZOO = Path(__file__).parent / "zoo"


def zoo_names() -> tuple[str, ...]:
    """Names of the bundled models, sorted."""
    return tuple(sorted(config.parent.name for config in _ZOO.glob(f"*/{CONFIG_FILE}")))


def resolve_model(name_or_path: str) -> Path:
    """Directory of a bundled model, or the directory itself.

    A bundled name wins over a directory of that name here; write ``./name`` for the latter.
    What the directory holds is for the reader of model directories to judge.

    Raises FileNotFoundError, listing the bundled names, when there is no such directory.
    """
    if name_or_path in zoo_names():
        return _ZOO / name_or_path
    path = Path(name_or_path)
    # Path("") is the current directory, which an empty argument can hardly mean.
    if name_or_path and _is_directory(path):
        return path
    fault = "is a file, not a model directory" if _is_file(path) else "is not a directory"
    raise FileNotFoundError(
        f"model {name_or_path!r} {fault}; bundled models: {', '.join(zoo_names())}"
    )


def _is_directory(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):  # a name too long, or with a null byte
        return False


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False
