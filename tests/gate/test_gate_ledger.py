"""The ledger on disk: append-only, crash-safe, one writer."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from gates_for_tests import INPUTS, NETWORK, SITES, full_gate

from compactproofs.gate import Gate, Ledger, LedgerWarning, shard_name
from compactproofs.kernel import MalformedError, UserError
from compactproofs.kernel.gate import (
    Line,
    NoteEntry,
    RecordEntry,
    entry_from_json,
    entry_to_json,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with Gate.create(tmp_path / "gate", NETWORK, SITES) as gate:
        gate.record(INPUTS[:2], signer="me")
        gate.note("why", "because")
    return tmp_path / "gate"


def lines(path: Path) -> list[bytes]:
    return (path / "ledger.jsonl").read_bytes().splitlines(keepends=True)


def test_what_was_written_is_read(path: Path) -> None:
    with Ledger.open(path) as ledger:
        kinds = [type(line.entry).__name__ for line in ledger.lines]
        record = ledger.lines[1].entry
        assert kinds == ["Opened", "RecordEntry", "NoteEntry"] and not ledger.writable
        assert isinstance(record, RecordEntry)
        shard = ledger.shards.get(record.shard)
        assert shard is not None and shard.arrays["h"].shape == (2, 5)
        assert ledger.shards.get("0" * 64) is None and ledger.shards.get("../gate") is None


def test_every_entry_survives_json(tmp_path: Path) -> None:
    gate, _, cell = full_gate(tmp_path / "gate")
    with gate:
        gate.add_calibration([[cell.id]], INPUTS, [0] * len(INPUTS))
        gate.refuse(gate.add_mass(cell.id), "no need")
        gate.retract(cell.id, "enough")
        gate.close("done")
        seen = set()
        for line in gate.ledger.lines:
            again = entry_from_json(json.loads(json.dumps(entry_to_json(line.entry))))
            assert again == line.entry and Line.from_json(line.to_json()) == line
            seen.add(type(line.entry).__name__)
    assert len(seen) == 11  # all but records and notes


def test_a_half_written_last_line_is_left_out_and_cut_off(path: Path) -> None:
    whole = (path / "ledger.jsonl").read_bytes()
    (path / "ledger.jsonl").write_bytes(whole[:-40])
    with pytest.warns(LedgerWarning, match="half-written") as caught:
        gate = Gate.open(path, NETWORK, write=True)
    assert len(caught) == 1 and len(gate.ledger.lines) == 2
    with gate:
        gate.note("again", "because")
    assert len(lines(path)) == 3
    assert len(Ledger.open(path).lines) == 3


def test_every_cut_opens_or_is_named(path: Path) -> None:
    whole = (path / "ledger.jsonl").read_bytes()
    first = whole.index(b"\n") + 1
    for length in range(0, len(whole), 37):
        (path / "ledger.jsonl").write_bytes(whole[:length])
        if length < first:
            with pytest.raises(MalformedError, match="does not begin"):
                Ledger.open(path)
        else:
            with pytest.warns(LedgerWarning):
                assert len(Ledger.open(path).lines) in (1, 2)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text.replace(b"me", b"ME"),
        lambda text: text.replace(b'"body"', b'"Body"'),
        lambda text: text[:-2] + b"\n",
        lambda text: b" " + text,
        lambda text: b"\n",
        lambda text: text.replace(b'"signer":"me"', b'"signer":"me","signer":"me"'),
        lambda text: text.replace(b'"rows":2', b'"rows":2.0'),
        lambda text: text.replace(b'"rows":2', b'"rows":NaN'),
        lambda text: text.replace(b'"rows":2', b'"rows":true'),
        lambda text: b"\xff" + text[1:],
        lambda text: text + text,
    ],
)
def test_damage_in_the_middle_refuses_to_open_by_name(path: Path, damage) -> None:
    first, second, third = lines(path)
    (path / "ledger.jsonl").write_bytes(first + damage(second) + third)
    with pytest.raises(MalformedError, match=r"ledger.jsonl, line [23] is damaged") as caught:
        Gate.open(path, NETWORK)
    assert "\n" not in str(caught.value)


def test_lines_cannot_change_places(path: Path) -> None:
    first, second, third = lines(path)
    (path / "ledger.jsonl").write_bytes(first + third + second)
    with pytest.raises(MalformedError, match="line 2 is damaged: it does not continue"):
        Ledger.open(path)


def test_an_interrupted_append_leaves_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Gate.open(path, NETWORK, write=True) as gate:

        def interrupted(descriptor: int) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", interrupted)
            with pytest.raises(KeyboardInterrupt):
                gate.note("lost", "because")
        assert gate.status().entries == 3
        gate.note("kept", "because")
        assert gate.status().entries == 4
    topics = [line.entry.topic for line in Ledger.open(path).lines[2:]]  # type: ignore[union-attr]
    assert topics == ["why", "kept"]


def test_a_killed_writer_leaves_a_ledger_that_opens(path: Path) -> None:
    script = (
        "import os, signal, sys\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "from compactproofs.gate import Gate\n"
        "from gates_for_tests import NETWORK\n"
        "gate = Gate.open(sys.argv[2], NETWORK, write=True)\n"
        "gate.note('one', 'more')\n"
        "with open(gate.ledger.path / 'ledger.jsonl', 'ab') as file:\n"
        "    file.write(b'{\"body\":')\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    here = str(Path(__file__).parent)
    done = subprocess.run([sys.executable, "-c", script, here, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    with pytest.warns(LedgerWarning):
        gate = Gate.open(path, NETWORK, write=True)  # the lock went with its holder
    with gate:
        assert len(gate.ledger.lines) == 4


def test_a_second_writer_is_refused_and_readers_are_not(path: Path) -> None:
    with Gate.open(path, NETWORK, write=True):
        with pytest.raises(
            UserError, match=rf"lock is held by another writer \(process {os.getpid()}"
        ):
            Gate.open(path, NETWORK, write=True)
        assert Gate.open(path, NETWORK).admit(INPUTS[0])
    with Gate.open(path, NETWORK, write=True) as gate:
        assert gate.ledger.writable


def test_readers_cannot_write(path: Path) -> None:
    with pytest.raises(UserError, match="open for reading"):
        Gate.open(path, NETWORK).note("a", "b")


def test_a_shard_is_what_its_name_says(path: Path) -> None:
    (file,) = (path / "shards").iterdir()
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(bytes(data))
    gate = Gate.open(path, NETWORK)
    assert gate.closed is not None and "entry 1 (record" in gate.closed
    assert not gate.admit(INPUTS[0])
    file.unlink()
    assert "missing" in str(Gate.open(path, NETWORK).closed)


def test_entries_and_their_arrays_must_belong_together(path: Path) -> None:
    entry = RecordEntry("0" * 64, 1, "0" * 64, "me")
    with Ledger.open(path, write=True) as ledger:
        for arrays in (None, {"h": np.zeros((1, 5))}):
            with pytest.raises(UserError, match="RecordEntry"):
                ledger.append([(entry, arrays)])
        with pytest.raises(UserError, match="RecordEntry"):
            ledger.append([(NoteEntry("a", "b", ()), None), (entry, None)])
        assert len(ledger.lines) == 3
    assert len(lines(path)) == 3


def test_the_same_arrays_have_the_same_name() -> None:
    one, two = {"a": np.eye(2), "b": np.zeros(3)}, {"b": np.zeros(3), "a": np.eye(2)}
    assert shard_name(one) == shard_name(two) != shard_name({"a": np.eye(2)})


@pytest.mark.parametrize("kind", ["missing", "a file", "a full directory"])
def test_places_that_hold_no_gate(tmp_path: Path, kind: str) -> None:
    where = tmp_path / "place"
    if kind == "a file":
        where.write_text("x")
    if kind == "a full directory":
        where.mkdir()
        (where / "x").write_text("x")
    with pytest.raises(UserError, match="gate.json"):
        Gate.open(where, NETWORK)
    if kind != "missing":
        with pytest.raises(UserError, match="not an empty directory"):
            Gate.create(where, NETWORK, SITES)
        with pytest.raises(UserError, match="not an empty directory|no gate can be made"):
            Gate.create(where / "x", NETWORK, SITES)


def test_another_format_is_refused(path: Path) -> None:
    about = json.loads((path / "gate.json").read_text())
    for text in (json.dumps(about | {"format": "x"}), json.dumps([]), "{", ""):
        (path / "gate.json").write_text(text)
        with pytest.raises(MalformedError, match="gate"):
            Gate.open(path, NETWORK)
    (path / "gate.json").write_text(json.dumps(about | {"opened": "x"}))
    with pytest.raises(MalformedError, match="does not begin with the entry"):
        Gate.open(path, NETWORK)
