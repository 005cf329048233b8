"""What only processes of their own can show: imports, a service that is told to stop, training."""

import http.client
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from compactproofs.cli._main import run
from compactproofs.kernel.gate import load_relu_network
from gate_directory import Given


def test_no_command_imports_what_it_does_not_need(tmp_path: Path) -> None:
    given = Given(tmp_path)
    assert given.call("create") == 0
    admit = ["gate", "admit", given.gate, "--network", given.network, "--input"]
    calls = [["gate", "--help"], ["gate", "serve", "--help"], [*admit, given.file("test")]]
    program = (
        "import sys\n"
        "from compactproofs.cli._main import run\n"
        f"for arguments in {calls!r}:\n"
        "    if run(arguments) > 1: sys.exit(3)\n"
        "names = {'torch', 'sklearn', 'scipy', 'fastapi', 'uvicorn', 'matplotlib', 'plotly'}\n"
        "heavy = names & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "safe-interval" in done.stdout and "0 of 40" in done.stdout


def test_the_service_stops_when_told_to_and_logs_nothing_but_json(tmp_path: Path) -> None:
    given = Given(tmp_path)
    assert given.call("create") == 0
    command = [sys.executable, "-m", "compactproofs", "gate", "serve", given.gate]
    command += ["--network", given.network, "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            lines = [json.loads(process.stderr.readline()) for _ in range(2)]
            assert [line["event"] for line in lines] == ["listening", "started"]
            token = Path(lines[0]["tokens"])
            assert token == tmp_path / "gate.token" and token.stat().st_mode & 0o777 == 0o600
            client = http.client.HTTPConnection("127.0.0.1", lines[0]["port"], timeout=30)
            headers = {"Authorization": f"Bearer {token.read_text().strip()}"}
            client.request("POST", "/admit", '{"x": [1, 2, 3]}', headers)
            assert json.loads(client.getresponse().read())["answer"] == 2
            # A record that somebody adds meanwhile counts from the next request on.
            record = ["--input", given.file("test"), "--signer", "us", "--row", "0"]
            assert given.call("record", *record) == 0
            x = load_file(given.file("test"))["x"][0].tolist()
            client.request("POST", "/admit", json.dumps({"x": x}), headers)
            assert json.loads(client.getresponse().read())["admitted"]
            client.close()
            process.send_signal(signal.SIGTERM)
            _, rest = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 0
    events = [json.loads(line) for line in rest.splitlines()]
    assert [line.get("event") for line in events] == [None, None, "stopped"]
    assert [line["admitted"] for line in events[:2]] == [0, 1]


def test_without_the_extra_the_way_out_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = Given(tmp_path)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delitem(sys.modules, "compactproofs.gate._serve", raising=False)
    assert given.call("serve") == 2
    error = capsys.readouterr().err
    assert "pip install 'compactproofs[serve]'" in error and error.count("\n") == 1


@pytest.mark.parametrize("option", ["--rate", "--body", "--batch"])
def test_limits_of_the_service_are_positive(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = Given(tmp_path)
    assert given.call("serve", option, "0") == 2
    assert option in capsys.readouterr().err


def test_digits_are_trained_and_written_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "digits"
    call = ["gate", "train-digits", "--out", str(out), "--epochs", "1", "--hidden", "6"]
    assert run([*call, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert load_relu_network(out / "network.safetensors").sha256 == result["network"]
    assert result["widths"] == [64, 6, 10] and result["test"] == 447
    parts = [load_file(out / f"{part}.safetensors") for part in ("train", "check", "test")]
    assert [part["x"].shape for part in parts] == [(900, 64), (450, 64), (447, 64)]
    assert all(part["labels"].shape == part["x"].shape[:1] for part in parts)
    assert run(call) == 2 and "exists" in capsys.readouterr().err
    assert run(["gate", "train-digits", "--out", str(tmp_path / "no"), "--hidden", "a"]) == 2
    assert "--hidden a" in capsys.readouterr().err
