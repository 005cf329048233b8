"""An encoded data set on disk: ``encoded.json`` and ``encoded.safetensors``."""

import hashlib
import os
from pathlib import Path
from typing import Any, Final

from ._directory import check_destination, write_directory
from ._encoded import EncodedDataset
from ._errors import CrosscoderError, located
from ._json import json_bytes, read_object, require_fields, require_version
from ._tensors import open_tensors, tensor_bytes

DATASET_FILE: Final = "encoded.json"
ROWS_FILE: Final = "encoded.safetensors"
FORMAT_VERSION: Final = 1

_ARRAYS = ("indptr", "indices", "values", "token_ids", "position", "label")
_FIELDS = tuple("task k d_sae d_vocab d_vocab_out crosscoder_sha256 model_sha256".split())


def save_encoded(
    path: str | os.PathLike[str], dataset: EncodedDataset, *, force: bool = False
) -> Path:
    """Write the directory of a data set and return its path.

    force: replace a directory that holds a data set and nothing else. It appears whole or not at
    all, also after Ctrl-C; equal data sets give equal bytes.
    Raises FileExistsError or NotADirectoryError as `compactproofs.models.save_model` does.
    """
    check_encoded_destination(path, force=force)
    arrays = {name: getattr(dataset, name) for name in _ARRAYS}
    if dataset.levels is not None:
        arrays["levels"] = dataset.levels
    rows = tensor_bytes(arrays)
    stated: dict[str, Any] = {"format_version": FORMAT_VERSION, "rows": len(dataset)}
    stated |= {name: getattr(dataset, name) for name in _FIELDS}
    stated["rows_sha256"] = hashlib.sha256(rows).hexdigest()
    return write_directory(path, {DATASET_FILE: json_bytes(stated), ROWS_FILE: rows})


def check_encoded_destination(path: str | os.PathLike[str], *, force: bool = False) -> None:
    """Raise unless `save_encoded` may write to `path`; call it before a long run."""
    names = (DATASET_FILE, ROWS_FILE)
    check_destination(path, "the directory of a data set", names, DATASET_FILE, force=force)


def load_encoded(
    path: str | os.PathLike[str],
    *,
    crosscoder_sha256: str | None = None,
    model_sha256: str | None = None,
    task: str | None = None,
) -> EncodedDataset:
    """Read a data set, and refuse one of another crosscoder, model or task, where those are given.

    Raises CrosscoderError, naming the file, for one that is missing, malformed or changed, and what
    `EncodedDataset` refuses. Cost: reads everything twice.
    """
    directory = Path(path)
    stated = read_object(directory / DATASET_FILE)
    with located(directory / DATASET_FILE):
        require_version(stated, FORMAT_VERSION)
        require_fields(stated, ("format_version", "rows", "rows_sha256", *_FIELDS))
        asked = {"crosscoder_sha256": crosscoder_sha256, "model_sha256": model_sha256, "task": task}
        for name, wanted in asked.items():
            if wanted is not None and stated[name] != wanted:
                raise CrosscoderError(f"{name} is {stated[name]!r}, not {wanted!r}")
    file = directory / ROWS_FILE
    with located(file):
        stored = open_tensors(file).arrays
        if set(stored) - {"levels"} != set(_ARRAYS):
            raise CrosscoderError(f"it holds {sorted(stored)}, not {', '.join(_ARRAYS)}")
        with file.open("rb") as handle:
            found = hashlib.file_digest(handle, "sha256").hexdigest()
        if found != stated["rows_sha256"]:
            raise CrosscoderError(
                f"its digest is {found}, but {DATASET_FILE} states {stated['rows_sha256']!r}; the "
                "files were changed or do not belong together"
            )
        dataset = EncodedDataset(**stored, **{name: stated[name] for name in _FIELDS})
        if len(dataset) != stated["rows"]:
            raise CrosscoderError(
                f"it holds {len(dataset)} rows, but {DATASET_FILE} states {stated['rows']!r}"
            )
    return dataset
