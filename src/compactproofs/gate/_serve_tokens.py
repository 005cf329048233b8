"""The tokens that clients of a service show: in a file that only its owner may read.

A line is ``TOKEN`` or ``NAME TOKEN``; names tell clients apart in logs and in the bound on rates.
"""

import hashlib
import hmac
import os
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final, final

from ..kernel import UserError, read_regular_file

_SHORTEST: Final = 20
_MOST: Final = 1 << 16


class TokenError(UserError):
    """A file of tokens that others could read, or that holds no usable token."""


@final
class Tokens:
    """Who a token is of; comparisons take the same time whatever the token is."""

    def __init__(self, tokens: Mapping[str, str]) -> None:
        """By client's name. Only digests are kept."""
        self._digests = {name: _digest(token.encode()) for name, token in tokens.items()}

    def client(self, authorization: bytes) -> str | None:
        """The client of a header ``Bearer TOKEN``, or None."""
        scheme, _, token = authorization.partition(b" ")
        shown, found = _digest(token.strip()), None
        for name, digest in self._digests.items():
            if hmac.compare_digest(shown, digest):
                found = name
        return found if scheme.lower() == b"bearer" else None


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()


def read_or_create_tokens(path: Path) -> Tokens:
    """The tokens of a file; one is made up, and a file of mode 600 written, if there is none.

    Raises TokenError for a file that others may read or write, and for a line that is no token.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        pass
    else:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise TokenError(
            f"{path} has mode {mode:o}, so others may use its tokens: chmod 600 {path}"
        )
    tokens: dict[str, str] = {}
    text = read_regular_file(path, _MOST).decode("utf-8", "replace")
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        token = words[-1]
        if len(words) > 2 or len(token) < _SHORTEST or not token.isascii():
            raise TokenError(
                f"{path}, line {number}: write TOKEN or NAME TOKEN, a token having {_SHORTEST} or "
                "more ASCII characters"
            )
        name = words[0] if len(words) == 2 else f"client-{number}"
        if name in tokens:
            raise TokenError(f"{path}, line {number}: the name {name} occurs twice")
        tokens[name] = token
    if not tokens:
        raise TokenError(f"{path} holds no token: delete it, and one is made up")
    return Tokens(tokens)
