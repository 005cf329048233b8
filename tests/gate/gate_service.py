"""A service on a free port, in a thread, and a client of it: for the tests of serving."""

import http.client
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64, Int64

from compactproofs.gate._serve import Served, create_app, listen, server_of
from compactproofs.gate._serve_guard import Limits
from compactproofs.gate._serve_tokens import Tokens
from compactproofs.kernel.gate._verdict import Verdict
from compactproofs.kernel.gate._warrants import Measured, Proven

TOKEN = "a-token-of-the-tests-alone"


class SignJudge:
    """Admits two numbers whose sum is above 0; its answer is how many of them are."""

    inputs = 2

    def judge(self, x: Float64[np.ndarray, "n d"]) -> tuple[list[Verdict], Int64[np.ndarray, " n"]]:
        verdicts = [admission() if row.sum() > 0 else refusal(str(row[0])) for row in x]
        return verdicts, (x > 0).sum(axis=1)

    def status(self) -> dict[str, Any]:
        return {"closed": None}


def admission() -> Verdict:
    half = Fraction(1, 2)
    return Verdict(
        "c" * 64,
        {
            "certificate": Proven(("e" * 64,), "c" * 64, 0.5, 1e-6, "m" * 64),
            "mass": Measured(("e" * 64,), "P(cell)", half, Fraction(1, 10**5)),
            "risk": Measured(("e" * 64,), "P(bad given cell)", Fraction(1, 3), half),
        },
        (),
    )


def refusal(why: str) -> Verdict:
    return Verdict(None, {}, (f"site pre1[0] = {why} outside",), "d" * 64)


class Reply(NamedTuple):
    status: int
    body: Any
    headers: dict[str, str]


class Client:
    """One connection, kept open."""

    def __init__(self, port: int, token: str | None = TOKEN) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        self.headers = {} if token is None else {"Authorization": f"Bearer {token}"}

    def ask(self, method: str, path: str, body: bytes | None = None) -> Reply:
        self.connection.request(method, path, body, self.headers)
        answer = self.connection.getresponse()
        data = answer.read()
        assert data.count(b"\n") == 1 and data.endswith(b"\n")
        return Reply(answer.status, json.loads(data), dict(answer.getheaders()))

    def admit(self, **fields: Any) -> Reply:
        return self.ask("POST", "/admit", json.dumps(fields).encode())


class Running(NamedTuple):
    port: int
    log: list[str]
    clients: list[Client]
    stop: Callable[[], None]

    def client(self, token: str | None = TOKEN) -> Client:
        """Closed with the service."""
        self.clients.append(Client(self.port, token))
        return self.clients[-1]


@contextmanager
def service(served: Served, limits: Limits, tokens: Tokens | None = None) -> Iterator[Running]:
    """Listening for as long as the block runs; every request's log line is in ``log``."""
    log: list[str] = []
    app = create_app(served, tokens or Tokens({"tests": TOKEN}), limits, log.append)
    with running(app, log) as found:
        yield found


@contextmanager
def running(app: Any, log: list[str]) -> Iterator[Running]:
    server, listener = server_of(app), listen(0)
    thread = threading.Thread(target=lambda: server.run(sockets=[listener]))
    thread.start()
    found = Running(
        listener.getsockname()[1], log, [], lambda: setattr(server, "should_exit", True)
    )
    try:
        yield found
    finally:
        for client in found.clients:
            client.connection.close()
        found.stop()
        thread.join(timeout=30)
        listener.close()
        assert not thread.is_alive()


def serving(judge: Callable[[], Any] = SignJudge, head: Callable[[], object] = lambda: 0) -> Served:
    return Served(judge, head)
