"""How many requests a gate answers: one client and sixteen, single inputs and batches.

A server process (``compactproofs gate serve``) and a process of client threads on one machine.
Every answer is compared with the gate's own verdict. Writes benchmarks/results/gate_serving.json:

    python benchmarks/gate_serving.py --work out/gate-serving
"""

import argparse
import http.client
import json
import multiprocessing
import os
import platform
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

RESULTS = Path(__file__).parent / "results" / "gate_serving.json"
CLIENTS = (1, 16)
BATCHES = (1, 64)
SECONDS = 5.0


def compactproofs(*arguments: str) -> dict[str, Any]:
    call = [sys.executable, "-m", "compactproofs", "gate", *arguments, "--json"]
    done = subprocess.run(call, capture_output=True, text=True)
    if done.returncode > 1:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout)


def build(work: Path) -> tuple[Path, Path, Path]:
    """A gate on digits as docs/gate.md makes it; kept if it is there."""
    digits, gate = work / "digits", work / "gate"
    network = digits / "network.safetensors"
    if not network.exists():
        compactproofs("train-digits", "--out", str(digits))
    if not gate.exists():
        compactproofs("create", str(gate), "--network", str(network), "--cut", "pre1")
        parts = [str(digits / f"{part}.safetensors") for part in ("train", "check")]
        compactproofs(
            "explain", str(gate), "--network", str(network), "--mine", parts[0], "--fresh", parts[1]
        )
    return gate, network, digits / "test.safetensors"


def ask(
    port: int, token: str, x: np.ndarray, admitted: np.ndarray, batch: int, until: float, seed: int
) -> tuple[int, int, list[float]]:
    """Requests answered, answers that are wrong, and the time that each took."""
    rng = np.random.default_rng(seed)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    answered, wrong, times = 0, 0, []
    while time.monotonic() < until:
        rows = rng.integers(0, len(x), batch)
        # The inputs are multiples of 1/16: JSON holds them exactly.
        given = x[rows].tolist()
        body = json.dumps({"x": given[0]} if batch == 1 else {"batch": given})
        began = time.monotonic()
        connection.request("POST", "/admit", body, headers)
        reply = connection.getresponse()
        said = json.loads(reply.read())
        times.append(time.monotonic() - began)
        verdicts = [said] if batch == 1 else said.get("verdicts", [])
        expected = admitted[rows].tolist()
        found = [verdict.get("admitted") for verdict in verdicts]
        wrong += reply.status != 200 or found != expected
        answered += 1
    connection.close()
    return answered, wrong, times


def clients(
    number: int,
    port: int,
    token: str,
    x: np.ndarray,
    admitted: np.ndarray,
    batch: int,
    until: float,
) -> dict[str, Any]:
    """So many threads at once, in a process of their own."""
    found: list[tuple[int, int, list[float]]] = []

    def work(seed: int) -> None:
        found.append(ask(port, token, x, admitted, batch, until, seed))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(number)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.monotonic() - began
    times = sorted(t for _, _, own in found for t in own)
    requests = sum(answered for answered, _, _ in found)
    return {
        "clients": number,
        "inputs_a_request": batch,
        "requests": requests,
        "wrong_or_lost": sum(wrong for _, wrong, _ in found) + (number - len(found)),
        "requests_per_second": round(requests / seconds, 1),
        "inputs_per_second": round(requests * batch / seconds, 1),
        "median_ms": round(1000 * times[len(times) // 2], 2),
        "p99_ms": round(1000 * times[int(len(times) * 0.99)], 2),
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--work", type=Path, default=Path("out/gate-serving"))
    options.add_argument("--seconds", type=float, default=SECONDS)
    given = options.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    gate, network, test = build(given.work)
    x = load_file(test)["x"]
    own = compactproofs("admit", str(gate), "--network", str(network), "--input", str(test))
    admitted = np.array([verdict["admitted"] for verdict in own["verdicts"]])
    status = compactproofs("status", str(gate), "--network", str(network))
    tokens = given.work / "token"
    load = os.getloadavg()[0]
    call = ["gate", "serve", str(gate), "--network", str(network), "--port", "0"]
    call += ["--token-file", str(tokens), "--rate", "1000000"]
    log = (given.work / "log.jsonl").open("w+")
    server = subprocess.Popen([sys.executable, "-m", "compactproofs", *call], stderr=log)
    try:
        port = port_of(given.work / "log.jsonl", server)
        rows = []
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            for batch in BATCHES:
                for number in CLIENTS:
                    until = time.monotonic() + given.seconds
                    task = (number, port, tokens.read_text().strip(), x, admitted, batch, until)
                    rows.append(pool.apply(clients, task))
                    print(json.dumps(rows[-1]), flush=True)
    finally:
        server.terminate()
        server.wait()
    RESULTS.write_text(
        json.dumps(
            {
                "command": "python benchmarks/gate_serving.py",
                "machine": {
                    "cpus": os.cpu_count(),
                    "python": platform.python_version(),
                    "load_before": round(load, 1),
                },
                "gate": {
                    "cells": status["cells"],
                    "admitting": status["admitting"],
                    "sites": 32,
                    "test_admitted": int(admitted.sum()),
                    "test": len(admitted),
                },
                "rows": rows,
            },
            indent=1,
        )
        + "\n"
    )


def port_of(log: Path, server: subprocess.Popen[bytes]) -> int:
    while server.poll() is None:
        events = [json.loads(line) for line in log.read_text().splitlines()]
        if any(event.get("event") == "started" for event in events):
            return int(events[0]["port"])
        time.sleep(0.1)
    raise SystemExit(log.read_text())


if __name__ == "__main__":
    main()
