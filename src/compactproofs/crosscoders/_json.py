"""JSON files with exactly the fields that they should have."""

import json
from collections.abc import Collection, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

from ..kernel import read_regular_file
from ..kernel._safetensors import DamagedError, read_json
from ._config import Site
from ._errors import CrosscoderError

_MAX_BYTES: Final = 1 << 26


def json_bytes(stated: Mapping[str, Any]) -> bytes:
    """The text of a JSON file, in the order of the fields; equal fields give equal bytes."""
    return (json.dumps(stated, indent=2, allow_nan=False) + "\n").encode()


def read_object(file: Path) -> dict[str, Any]:
    """The JSON object in a file; raises CrosscoderError, naming the file."""
    try:
        stated = read_json(read_regular_file(file, _MAX_BYTES))
    except OSError as error:
        raise CrosscoderError(str(error)) from None
    except DamagedError as damage:
        raise CrosscoderError(f"{file}: {damage}") from None
    if not isinstance(stated, dict):
        raise CrosscoderError(f"{file}: not a JSON object")
    return stated


def require_fields(
    stated: Mapping[str, Any], required: Collection[str], optional: Collection[str] = ()
) -> None:
    """Raise CrosscoderError, naming a field, unless `stated` has those required and no other."""
    for name in stated:
        if name not in required and name not in optional:
            raise CrosscoderError(f"the field {name!r} is unknown")
    for name in required:
        if name not in stated:
            raise CrosscoderError(f"the field {name!r} is missing")


def require_version(stated: Mapping[str, Any], known: int) -> None:
    """Raise CrosscoderError unless ``format_version`` is the one that is `known`."""
    version = stated.get("format_version")
    if type(version) is not int or version != known:
        raise CrosscoderError(
            f"format_version is {version!r}, but this version of compactproofs reads {known}"
        )


def sites_from(field: str, stated: object) -> tuple[Site, ...]:
    """Sites from a list of JSON objects; raises CrosscoderError, naming the field."""
    if not isinstance(stated, list):
        raise CrosscoderError(f"{field} = {stated!r} must be a list of objects")
    known = {entry.name for entry in fields(Site)}
    for site in stated:
        if not isinstance(site, dict) or set(site) != known:
            raise CrosscoderError(f"{field} holds {site!r}, which needs {', '.join(sorted(known))}")
    return tuple(Site(**site) for site in stated)
