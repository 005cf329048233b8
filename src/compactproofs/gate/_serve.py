"""A gate as a service on this machine: JSON over HTTP, for clients that hold a token.

This module imports FastAPI and uvicorn (the extra ``serve``); its importer does so only to serve.

    POST /admit    {"x": [d numbers]} or {"batch": [[d numbers], ...]}
    GET  /status   what the ledger holds, and whether the gate is closed
    GET  /healthz  200 as long as the process answers; no token

Every error is ``{"error": one line}``. The ledger is read again as soon as its file has changed:
a request is never judged by a ledger older than its arrival. If it cannot be read, the answer is
503 and nothing is admitted.
"""

import asyncio
import json
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any, Final, Protocol, final

import numpy as np
import uvicorn
from fastapi import FastAPI, Request, Response
from jaxtyping import Float64, Int64
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from starlette.exceptions import HTTPException

from ..kernel import UserError
from ..kernel.gate._verdict import Verdict
from ._as_json import verdict_json
from ._serve_guard import NOTED, Application, Guard, Limits
from ._serve_tokens import Tokens

_INLINE: Final = 16
"""Inputs that are judged on the event loop; more go to a thread, so that others are served."""

_Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
_Vector = Annotated[list[_Number], Field(min_length=1)]


class Judge(Protocol):
    """What is served: a gate with its network."""

    @property
    def inputs(self) -> int:
        """Numbers of an input, d."""
        ...

    def judge(self, x: Float64[np.ndarray, "n d"]) -> tuple[list[Verdict], Int64[np.ndarray, " n"]]:
        """Of each input the verdict and the network's answer."""
        ...

    def status(self) -> dict[str, Any]:
        """What ``/status`` says."""
        ...


class _AdmitRequest(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    x: _Vector | None = None
    batch: Annotated[list[_Vector], Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> "_AdmitRequest":
        if (self.x is None) == (self.batch is None):
            raise ValueError('pass either "x" or "batch"')
        return self


@final
class Served:
    """The judge of the ledger as it is now."""

    def __init__(self, open_judge: Callable[[], Judge], head: Callable[[], object]) -> None:
        """Open at once, so that a ledger that cannot be served is refused before listening.

        head: what differs whenever the ledger has changed; cheap, called for each request.
        """
        self._open, self._head = open_judge, head
        self._seen = head()
        self._judge = open_judge()
        self._failure: str | None = None
        self._changing = asyncio.Lock()
        self.reloads = 0

    async def current(self) -> Judge:
        """Raises HTTPException 503 while the ledger cannot be read."""
        if self._now() != self._seen:
            async with self._changing:
                now = self._now()
                if now != self._seen:
                    try:
                        self._judge = await asyncio.to_thread(self._open)
                        self._failure = None
                    except (UserError, OSError) as error:
                        self._failure = str(error)
                    self._seen = now
                    self.reloads += 1
        if self._failure is not None:
            raise HTTPException(503, f"the ledger has changed and is unusable: {self._failure}")
        return self._judge

    def _now(self) -> object:
        try:
            return self._head()
        except OSError as error:
            return str(error)


def create_app(served: Served, tokens: Tokens, limits: Limits, log: Callable[[str], None]) -> Guard:
    """The ASGI application. ``log`` takes one line of JSON a request."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        log(json.dumps({"event": "started"}))
        yield
        log(json.dumps({"event": "stopped"}))

    app = FastAPI(
        lifespan=lifespan, openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False
    )
    judging = asyncio.Lock()

    @app.exception_handler(HTTPException)
    async def _refused(_: Request, error: HTTPException) -> Response:
        return _answer({"error": str(error.detail)}, error.status_code)

    @app.exception_handler(Exception)
    async def _failed(_: Request, error: Exception) -> Response:
        return _answer({"error": f"internal error ({type(error).__name__})"}, 500)

    @app.get("/healthz")
    async def _healthz() -> Response:
        return _answer({"ok": True})

    @app.get("/status")
    async def _status() -> Response:
        judge = await served.current()
        return _answer(judge.status() | {"reloads": served.reloads})

    @app.post("/admit")
    async def _admit(request: Request) -> Response:
        asked = _parsed(await request.body(), limits)
        judge = await served.current()
        x = _as_array(asked.batch or [asked.x or []], judge.inputs)
        async with judging:
            verdicts, answers = (
                judge.judge(x) if len(x) <= _INLINE else await asyncio.to_thread(judge.judge, x)
            )
        said = [
            verdict_json(verdict) | {"answer": answer}
            for verdict, answer in zip(verdicts, answers.tolist(), strict=True)
        ]
        admitted = sum(verdict.admitted for verdict in verdicts)
        request.scope[NOTED].update(admitted=admitted, refused=len(verdicts) - admitted)
        return _answer(said[0] if asked.batch is None else {"verdicts": said})

    return Guard(_as_application(app), tokens, limits, log)


def _as_application(app: FastAPI) -> Application:
    return app  # type: ignore[return-value]


def _answer(content: dict[str, Any], status: int = 200) -> Response:
    body = json.dumps(content).encode() + b"\n"
    return Response(body, status, {"cache-control": "no-store"}, "application/json")


def _parsed(body: bytes, limits: Limits) -> _AdmitRequest:
    try:
        asked = _AdmitRequest.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise HTTPException(422, f"{place or 'the body'}: {first['msg']}") from None
    if asked.batch is not None and len(asked.batch) > limits.batch:
        raise HTTPException(
            413, f"{len(asked.batch)} inputs at once: send at most {limits.batch} a request"
        )
    return asked


def _as_array(rows: list[list[float]], inputs: int) -> Float64[np.ndarray, "n d"]:
    for number, row in enumerate(rows):
        if len(row) != inputs:
            raise HTTPException(
                422, f"input {number} has {len(row)} numbers, the network takes {inputs}"
            )
    return np.array(rows, dtype=np.float64)


def log_to_stderr(line: str) -> None:
    """One line at a time, whatever else is written."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def listen(port: int) -> socket.socket:
    """A socket on 127.0.0.1 alone; port 0 takes a free one. Raises UserError."""
    if not 0 <= port < 1 << 16:
        raise UserError(f"--port {port}: pass one from 0 (a free one) to 65535")
    try:
        listener = socket.create_server(("127.0.0.1", port))
        # Else an answer's body waits until the client has acknowledged its head: 40 ms each.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listener
    except OSError as error:
        reason = error.strerror or error
        raise UserError(
            f"cannot listen on 127.0.0.1:{port} ({reason}): pass another --port"
        ) from None


def server_of(app: Guard, *, graceful_seconds: int = 10) -> uvicorn.Server:
    """A server that finishes what it has begun when it is told to stop."""
    return uvicorn.Server(
        uvicorn.Config(
            _as_uvicorn(app),
            http="h11",
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=graceful_seconds,
            timeout_keep_alive=30,
        )
    )


def _as_uvicorn(app: Guard) -> Any:
    return app
