"""Time and memory: bombs are refused in one line by a process that may use little of either.

Each command runs alone with 1.5 GB of address space and 10 seconds of processor time.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from compactproofs import kernel
from compactproofs.kernel import Model
from model_directories import CONFIG, random_tensors, safetensors_bytes, stored, write_model

from .files import Entry, signed, with_header
from .subjects import subject

PROGRAM = """
import resource, runpy, sys
resource.setrlimit(resource.RLIMIT_AS, (1500 << 20, 1500 << 20))
resource.setrlimit(resource.RLIMIT_CPU, (10, 10))
runpy.run_module("compactproofs", run_name="__main__")
"""


class Ended(NamedTuple):
    status: int
    lines: list[str]


def limited(*arguments: str | Path) -> Ended:
    """Run a command of the package within the limits; its status and what it says is wrong."""
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, arguments)],
        capture_output=True,
        timeout=120,
        env=environment,
    )
    assert done.stdout == b""
    return Ended(done.returncode, done.stderr.decode(errors="replace").splitlines())


TENSORS = random_tensors()
GOOD = safetensors_bytes(stored(TENSORS))
MODELS: dict[str, tuple[bytes | None, bytes | None]] = {
    # name: (config.json or None for a good one, model.safetensors or None for a good one)
    "a number of ten million digits": (b'{"n_ctx":' + b"9" * 10_000_000 + b"}", None),
    "a string of ten million letters": (b'{"x":"' + b"x" * 10_000_000 + b'"}', None),
    "a million keys": (b"{" + b",".join(b'"%d":0' % n for n in range(1_000_000)) + b"}", None),
    "nesting without end": (b'{"seed":' * 1_000_000, None),
    "a header of lists": (None, with_header(b'{"a":[' + b"[]," * 3_000_000 + b"1]}")),
    "a header of objects": (None, with_header(b'{"a":' * 1_500_000)),
    "a header of digits": (None, with_header(b'{"a":' + b"9" * 9_000_000 + b"}")),
    "a header of names": (
        None,
        with_header(
            b"{"
            + b",".join(
                b'"%d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}' % n for n in range(100_000)
            )
            + b"}"
        ),
    ),
    "a shape of four million axes": (
        None,
        with_header(
            b'{"a":{"dtype":"F32","shape":[' + b"0," * 4_000_000 + b'0],"data_offsets":[0,0]}}'
        ),
    ),
    "a tensor said to be huge": (
        None,
        with_header(b'{"embed.W_E":{"dtype":"F64","shape":[1073741824,1073741824],'
               b'"data_offsets":[0,9223372036854775808]}}'),
    ),
    "an empty tensor with a huge axis": (
        None,
        with_header(b'{"embed.W_E":{"dtype":"F32","shape":[0,1000000000],"data_offsets":[0,0]}}'),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_a_model_that_is_a_bomb_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    config, tensors = MODELS[name]
    model = write_model(tmp_path / "model", tensors or GOOD, config or CONFIG)
    ended = limited("prove", model, "--task", "max:k=3,v=5")
    assert (ended.status, len(ended.lines)) == (2, 1), ended
    file = "config.json" if config is not None else "model.safetensors"
    assert file in ended.lines[0] and len(ended.lines[0]) < 1200


def sparse(path: Path, size: int) -> None:
    with path.open("r+b") as file:
        file.truncate(size)


def list_bomb(model: Path) -> None:
    (model / "config.json").write_bytes(b'{"seed":[' + b"[]," * 40_000_000 + b"1]}")


def sparse_config(model: Path) -> None:
    sparse(model / "config.json", 1 << 30)


def sparse_tensor(model: Path) -> None:
    size = 4 * 268_000_000
    fields = {"dtype": "F32", "shape": [268_000_000], "data_offsets": [0, size]}
    data = with_header(json.dumps({"embed.W_E": fields}))
    (model / "model.safetensors").write_bytes(data)
    sparse(model / "model.safetensors", len(data) + size)


@pytest.mark.parametrize("spoil", [list_bomb, sparse_config, sparse_tensor])
def test_a_file_far_larger_than_any_model_needs_is_refused_by_name(
    spoil: Callable[[Path], None], tmp_path: Path
) -> None:
    model = write_model(tmp_path / "model", GOOD)
    spoil(model)
    ended = limited("prove", model, "--task", "max:k=3,v=5")
    assert (ended.status, len(ended.lines)) == (2, 1), ended
    assert "model/" in ended.lines[0]


def test_a_sparse_file_without_tensors_is_refused(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model", GOOD)
    sparse(model / "model.safetensors", 1 << 30)
    assert limited("prove", model, "--task", "max:k=3,v=5").status == 2
    sparse(model / "model.safetensors", (1 << 30) + 1)
    ended = limited("prove", model, "--task", "max:k=3,v=5")
    assert ended.status == 2 and "larger than" in ended.lines[0]


def _claims() -> dict[str, bytes]:
    s = subject(kernel, "one token", "additive")
    claim, tensors = s.claim, s.entries
    zero = Entry("I32", [0, 2**31 - 1], b"")
    parts = {f"part.{n}": Entry("U8", [len(s.data)], s.data) for n in range(2000)}
    return {
        "numbers of a million digits": signed(claim | {"flops": "9" * 1_000_000}, tensors),
        "a text of millions of letters": signed(claim | {"task": "x" * 4_000_000}, tensors),
        "a hundred thousand options": signed(
            claim | {"options": {f"{n}": "1" for n in range(100_000)}}, tensors
        ),
        "a bound of millions of digits": signed(claim | {"bound": "9" * 4_000_000}, tensors),
        "tables of no bytes": signed(claim, tensors | {"value_low": zero}),
        "nesting": with_header('{"__metadata__":{"claim":"' + "[" * 4_000_000 + '"}}'),
        "bins without end": signed(claim | {"options": {"bins": "9" * 300}}, tensors),
        "a task too large": signed(claim | {"task": "max:k=999999,v=999999"}, tensors),
        "two thousand parts": signed(claim | {"theorem": "composed", "options": {}}, parts),
    }


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the model that the claims are about; its good certificate holds."""
    s = subject(kernel, "one token", "additive")
    m: Model = s.model
    tensors = {
        "embed.W_E": m.W_E, "pos_embed.W_pos": m.W_pos, "unembed.W_U": m.W_U, "unembed.b_U": m.b_U,
        "blocks.0.attn.W_Q": m.W_Q[None], "blocks.0.attn.W_K": m.W_K[None],
        "blocks.0.attn.W_V": m.W_V[None], "blocks.0.attn.W_O": m.W_O[None],
    }  # fmt: skip
    sizes = {"d_model": 1, "d_head": 1, "d_vocab": 1, "d_vocab_out": 1, "n_ctx": 2}
    directory = write_model(tmp_path_factory.mktemp("model"), tensors, CONFIG | sizes)
    assert kernel.check(s.data, kernel.load_model(directory)).valid
    return directory


@pytest.mark.parametrize("name", _claims())
def test_a_certificate_that_is_a_bomb_gets_a_verdict(
    name: str, model: Path, tmp_path: Path
) -> None:
    (tmp_path / "claim").write_bytes(_claims()[name])
    ended = limited("check", tmp_path / "claim", "--model", model)
    assert ended.status in (1, 2) and len(ended.lines) == 1, ended
    assert "MALFORMED" in ended.lines[0] or "REJECTED" in ended.lines[0]
    assert len(ended.lines[0]) < 1200
