"""What every request passes before the service sees it: token, rate, size, and a line of log."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, Final, final

from ._serve_tokens import Tokens

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

OPEN_PATHS: Final = frozenset({"/healthz"})
"""Answered without a token: they say nothing about the gate."""
NOTED: Final = "compactproofs.gate"
"""The key of the scope under which the service leaves what the log shall say."""
_STRANGERS: Final = "(no token)"


@final
@dataclass(frozen=True)
class Limits:
    """What one client may ask."""

    body: int = 4 << 20
    """Bytes of a request."""
    rate: float = 2000.0
    """Requests a second of one client, in the long run; as many may come at once."""
    batch: int = 1024
    """Inputs of a request."""
    at_once: int = 256
    """Requests of all clients that are worked on at a time."""
    body_seconds: float = 10.0
    """A body that takes longer to arrive is not waited for."""


@final
class Guard:
    """An ASGI application before another one: 401, 408, 413, 429 are answered here."""

    def __init__(
        self,
        application: Application,
        tokens: Tokens,
        limits: Limits,
        log: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``log`` takes one line of JSON a request."""
        self._application, self._tokens, self._limits = application, tokens, limits
        self._log, self._clock = log, clock
        self._buckets: dict[str, tuple[float, float]] = {}
        self._running = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what is allowed."""
        if scope["type"] == "lifespan":
            await self._application(scope, receive, send)
        elif scope["type"] == "http":
            await self._request(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})

    async def _request(self, scope: Scope, receive: Receive, send: Send) -> None:
        began, status = self._clock(), 0
        noted: dict[str, Any] = {}
        headers = dict(scope["headers"])
        client = self._tokens.client(headers.get(b"authorization", b""))

        async def sending(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        self._running += 1
        try:
            if self._running > self._limits.at_once:
                await refuse(sending, 503, "too many requests at a time", {"retry-after": "1"})
            elif not self._within_rate(client or _STRANGERS, began):
                await refuse(sending, 429, "too many requests: slow down", {"retry-after": "1"})
            elif client is None and scope["path"] not in OPEN_PATHS:
                await refuse(
                    sending,
                    401,
                    "no known token: send the header Authorization: Bearer TOKEN",
                    {"www-authenticate": "Bearer"},
                )
            else:
                body = await self._body(headers, receive, sending)
                if body is not None:
                    passed = {**scope, NOTED: noted}
                    await self._application(passed, _replay(body, receive), sending)
        except Exception as error:  # the service has answered 500, or the client is gone
            noted["failure"] = f"{type(error).__name__}: {error}"[:500]
        finally:
            self._running -= 1
            self._log(
                json.dumps(
                    {
                        "time": round(time.time(), 3),
                        "client": client or _STRANGERS,
                        "method": scope["method"],
                        "path": scope["path"][:200],
                        "status": status,
                        "ms": round(1000 * (self._clock() - began), 2),
                        **noted,
                    }
                )
            )

    def _within_rate(self, client: str, now: float) -> bool:
        """A bucket for each name, of which there are only so many: tokens, and strangers."""
        most = max(1.0, self._limits.rate)
        left, seen = self._buckets.get(client, (most, now))
        left = min(most, left + (now - seen) * self._limits.rate)
        allowed = left >= 1
        self._buckets[client] = (left - 1 if allowed else left, now)
        return allowed

    async def _body(
        self, headers: dict[bytes, bytes], receive: Receive, send: Send
    ) -> bytes | None:
        """The whole body, or None after an answer that says why not."""
        most = self._limits.body
        too_long = f"the body has more than {most} bytes: send fewer inputs at once"
        stated = headers.get(b"content-length", b"0")
        if not stated.isdigit() or len(stated) > 18 or int(stated) > most:
            await refuse(send, 413, too_long, {"connection": "close"})
            return None
        parts, size = [], 0
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    parts.append(message.get("body", b""))
                    size += len(parts[-1])
                    if size > most:
                        await refuse(send, 413, too_long, {"connection": "close"})
                        return None
                    if not message.get("more_body", False):
                        return b"".join(parts)
        except TimeoutError:
            await refuse(send, 408, "the body did not arrive in time", {"connection": "close"})
            return None


def _replay(body: bytes, receive: Receive) -> Receive:
    given = False

    async def replayed() -> MutableMapping[str, Any]:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replayed


async def refuse(send: Send, status: int, error: str, headers: dict[str, str]) -> None:
    """An answer of one line of JSON: ``{"error": ...}``."""
    body = json.dumps({"error": error}).encode() + b"\n"
    fields = {
        "content-type": "application/json",
        "content-length": str(len(body)),
        "cache-control": "no-store",
        **headers,
    }
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [(name.encode(), value.encode()) for name, value in fields.items()],
        }
    )
    await send({"type": "http.response.body", "body": body})
