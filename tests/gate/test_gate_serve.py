"""The service against a real server: who is answered, what is refused, and that no answer is lost.

The gate itself is a stand-in whose verdict can be told from the input.
"""

import json
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from gate_service import TOKEN, Client, SignJudge, refusal, service, serving

from compactproofs.gate._serve import listen
from compactproofs.gate._serve_guard import Guard, Limits
from compactproofs.gate._serve_tokens import TokenError, Tokens, read_or_create_tokens
from compactproofs.kernel import UserError


def test_one_and_several_inputs_are_judged_and_logged() -> None:
    with service(serving(), Limits()) as at:
        client = at.client()
        one = client.admit(x=[1.5, -0.5])
        assert one.status == 200 and one.body["admitted"] and one.body["answer"] == 1
        assert one.body["warrants"]["mass"]["bound"] == "1/2"
        assert one.body["warrants"]["certificate"]["kind"] == "PROVED"
        several = client.admit(batch=[[1, 2], [-3, 1], [0, 0]]).body["verdicts"]
        assert [verdict["admitted"] for verdict in several] == [True, False, False]
        assert several[1]["reasons"] == ["site pre1[0] = -3.0 outside"] and several[1]["nearest"]
        many = client.admit(batch=[[n - 50, 0] for n in range(100)]).body["verdicts"]
        assert sum(verdict["admitted"] for verdict in many) == 49
        assert client.ask("GET", "/status").body == {"closed": None, "reloads": 0}
    lines = [json.loads(line) for line in at.log]
    assert [line.get("event") for line in (lines[0], lines[-1])] == ["started", "stopped"]
    assert (lines[2]["admitted"], lines[2]["refused"], lines[2]["status"]) == (1, 2, 200)
    assert lines[2]["client"] == "tests" and TOKEN not in "".join(at.log)


def test_without_a_token_nothing_but_healthz_is_answered() -> None:
    with service(serving(), Limits()) as at:
        for token in (None, "", TOKEN[:-1], TOKEN + "x"):
            stranger = at.client(token)
            refused = stranger.admit(x=[1, 1])
            assert refused.status == 401 and "Bearer" in refused.body["error"]
            assert stranger.ask("GET", "/status").status == 401
            assert stranger.ask("GET", "/nothing").status == 401
            assert stranger.ask("GET", "/healthz").body == {"ok": True}
        basic = at.client(None)
        basic.headers = {"Authorization": f"Basic {TOKEN}"}
        assert basic.admit(x=[1, 1]).status == 401


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"x",
        b"[1, 1]",
        b"{}",
        b'{"x": [1, NaN]}',
        b'{"x": [1, Infinity]}',
        b'{"x": [1, -Infinity]}',
        b'{"x": [1, 1e999]}',
        b'{"x": [1, 1' + b"0" * 400 + b"]}",
        b'{"x": [1, "1"]}',
        b'{"x": [1, true]}',
        b'{"x": [1, null]}',
        b'{"x": [1]}',
        b'{"x": []}',
        b'{"x": [[1, 1]]}',
        b'{"batch": []}',
        b'{"batch": [[1, 1], [1]]}',
        b'{"batch": [[1, NaN]]}',
        b'{"x": [1, 1], "batch": [[1, 1]]}',
        b'{"x": [1, 1], "admitted": true}',
        b'{"x": ' + b"[" * 100_000,
        b"\xff\xfe",
        b"\x80\x04K\x01.",
    ],
)
def test_what_is_no_request_is_refused_in_one_line(body: bytes, shared: Client) -> None:
    refused = shared.ask("POST", "/admit", body)
    assert refused.status == 422 and list(refused.body) == ["error"], refused
    assert shared.admit(x=[1, 1]).status == 200


@pytest.fixture(scope="module")
def shared() -> Iterator[Client]:
    with service(serving(), Limits()) as at:
        yield at.client()


def test_long_bodies_and_batches_are_refused(shared: Client) -> None:
    with service(serving(), Limits(body=2000, batch=3)) as at:
        client = at.client()
        assert client.admit(batch=[[1, 1]] * 3).status == 200
        assert client.admit(batch=[[1, 1]] * 4).status == 413
        assert at.client().ask("POST", "/admit", b" " * 2001).status == 413
        # Without a stated length the bytes are counted as they come.
        chunked = at.client()
        chunked.connection.request(
            "POST", "/admit", iter([b" " * 1000] * 3), chunked.headers, encode_chunked=True
        )
        assert chunked.connection.getresponse().status == 413
        assert client.admit(x=[1, 1]).status == 200
    assert shared.ask("GET", "/admit").status == 405
    assert shared.ask("GET", "/nowhere").status == 404


def test_a_client_that_asks_too_often_is_slowed_down_and_others_are_not() -> None:
    tokens = Tokens({"busy": TOKEN, "calm": TOKEN[::-1]})
    with service(serving(), Limits(rate=0.001), tokens) as at:
        busy, calm = at.client(), at.client(TOKEN[::-1])
        assert busy.admit(x=[1, 1]).status == 200
        for _ in range(3):
            slow = busy.admit(x=[1, 1])
            assert slow.status == 429 and slow.headers["retry-after"] == "1"
        assert calm.admit(x=[1, 1]).status == 200
        # Whoever guesses tokens is one client, whatever it guesses.
        assert at.client("guess").admit(x=[1, 1]).status == 401
        assert at.client("another").admit(x=[1, 1]).status == 429


def test_a_bucket_fills_again_with_time() -> None:
    now = 0.0
    guard = Guard(_nothing, Tokens({}), Limits(rate=2.0), _ignore, clock=lambda: now)
    assert [guard._within_rate("a", 0.0) for _ in range(3)] == [True, True, False]
    assert not guard._within_rate("a", 0.4) and guard._within_rate("a", 0.5)
    assert [guard._within_rate("a", 100.0) for _ in range(3)] == [True, True, False]


async def _nothing(scope, receive, send) -> None:
    raise AssertionError


def _ignore(line: str) -> None:
    del line


def test_sixteen_clients_get_every_answer_and_the_right_one() -> None:
    wrong: list[str] = []

    def ask(number: int, client: Client) -> None:
        for step in range(20):
            # Who gets another's answer sees it: the reason quotes the input.
            first = -float(1000 * number + step)
            if step % 3:
                found = [client.admit(x=[first, 0.0])]
                said = [found[0].body]
            else:
                found = [client.admit(batch=[[first, 0.0]] * 20 + [[1.0, 1.0]])]
                *said, last = found[0].body["verdicts"]
                wrong.extend([] if last["admitted"] else [f"{first}: {last}"])
            expected = [f"site pre1[0] = {first} outside"]
            wrong.extend(f"{first}: {one}" for one in said if one["reasons"] != expected)

    with service(serving(), Limits()) as at:
        clients = [threading.Thread(target=ask, args=(n, at.client())) for n in range(16)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
    assert wrong == []
    answered = [json.loads(line) for line in at.log[1:-1]]
    assert len(answered) == 16 * 20 and {line["status"] for line in answered} == {200}


def test_a_changed_ledger_is_read_again_and_an_unusable_one_admits_nothing() -> None:
    head, fails = [0], [False]

    class Never(SignJudge):
        def judge(self, x):
            return [refusal("any") for _ in x], (x > 0).sum(axis=1)

    def opened() -> SignJudge:
        if fails[0]:
            raise UserError("line 3 is not what line 4 follows")
        return SignJudge() if head[0] == 0 else Never()

    with service(serving(opened, lambda: head[0]), Limits()) as at:
        client = at.client()
        assert client.admit(x=[1, 1]).body["admitted"]
        head[0] = 1
        assert not client.admit(x=[1, 1]).body["admitted"]
        assert client.ask("GET", "/status").body["reloads"] == 1
        head[0], fails[0] = 2, True
        for _ in range(2):
            unusable = client.admit(x=[1, 1])
            assert unusable.status == 503 and "line 3" in unusable.body["error"]
        assert client.ask("GET", "/healthz").status == 200
        head[0], fails[0] = 0, False
        assert client.admit(x=[1, 1]).body["admitted"]


def test_what_was_begun_is_finished_when_the_service_stops() -> None:
    begun, released = threading.Event(), threading.Event()

    class Slow(SignJudge):
        def judge(self, x):
            begun.set()
            assert released.wait(20)
            return super().judge(x)

    with service(serving(Slow), Limits()) as at:
        client, found = at.client(), []
        asking = threading.Thread(target=lambda: found.append(client.admit(batch=[[1, 1]] * 20)))
        asking.start()
        assert begun.wait(20)
        at.stop()
        released.set()
        asking.join(20)
    assert [reply.status for reply in found] == [200]
    assert len(found[0].body["verdicts"]) == 20
    assert json.loads(at.log[-1])["event"] == "stopped"


def test_a_failure_inside_is_one_line_without_what_failed() -> None:
    class Broken(SignJudge):
        def judge(self, x):
            raise RuntimeError("secret")

    with service(serving(Broken), Limits()) as at:
        client = at.client()
        failed = client.admit(x=[1, 1])
        assert failed.status == 500 and failed.body == {"error": "internal error (RuntimeError)"}
        assert client.ask("GET", "/healthz").status == 200
    assert any("RuntimeError: secret" in line for line in at.log)


def test_a_port_in_use_is_refused_in_one_line() -> None:
    with listen(0) as taken:
        with pytest.raises(UserError, match="pass another --port"):
            listen(taken.getsockname()[1])
        assert taken.getsockname()[0] == "127.0.0.1"
        # With Nagle's delay every answer to a single client takes 40 ms.
        assert taken.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    with pytest.raises(UserError, match="99999"):
        listen(99999)


def test_tokens_are_made_up_once_and_nobody_else_may_read_them(tmp_path: Path) -> None:
    path = tmp_path / "token"
    read_or_create_tokens(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    token = path.read_text().strip()
    tokens = read_or_create_tokens(path)
    assert path.read_text().strip() == token and len(token) >= 32
    assert tokens.client(f"Bearer {token}".encode()) == "client-1"
    path.write_text(f"# ours\nalice {TOKEN}\n\nbob {TOKEN[::-1]}\n")
    assert read_or_create_tokens(path).client(f"bearer {TOKEN[::-1]}".encode()) == "bob"
    for mode in (0o640, 0o604, 0o620):
        path.chmod(mode)
        with pytest.raises(TokenError, match="chmod 600"):
            read_or_create_tokens(path)


@pytest.mark.parametrize("text", ["", "# none\n", "short\n", f"a b {TOKEN}\n", f"a {TOKEN}\n" * 2])
def test_a_file_without_usable_tokens_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.touch(mode=0o600)
    path.write_text(text)
    with pytest.raises(TokenError, match="token"):
        read_or_create_tokens(path)
