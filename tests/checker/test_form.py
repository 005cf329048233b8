"""One file, standard library only, that runs anywhere; and how its command line ends."""

import ast
import io
import json
import subprocess
import sys
import tokenize
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load

import compactproofs_check as checker
from certificates import altered, claim_of, sign
from compactproofs import load_model, parse_task, prove
from compactproofs.kernel import Outcome, check, encode_certificate
from compactproofs.kernel import __version__ as kernel_version
from model_directories import (
    CONFIG,
    as_version_4,
    random_tensors,
    safetensors_bytes,
    stored,
    write_model,
)
from random_models import random_model

from .corpus import for_checker, honest, sign_bytes

FILE = Path(checker.__file__)
SOURCE = FILE.read_text()
MODEL = random_model(np.random.default_rng(7), k=3, v=4, d=4, h=4)
GOOD = encode_certificate(prove(MODEL, parse_task("max:k=3,v=4"), "cubic"))


def test_it_imports_the_standard_library_alone() -> None:
    found = set()
    for node in ast.walk(ast.parse(SOURCE)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module is not None
            found.add(node.module.split(".")[0])
    # flint is imported inside use_flint, for --fast.
    assert found - {"flint"} <= set(sys.stdlib_module_names)
    top = [node for node in ast.parse(SOURCE).body if isinstance(node, ast.ImportFrom)]
    assert "flint" not in {node.module for node in top}


def test_it_has_no_assert_and_executes_nothing() -> None:
    for node in ast.walk(ast.parse(SOURCE)):
        assert not isinstance(node, ast.Assert)
        if isinstance(node, ast.Name):
            assert node.id not in {"eval", "exec", "__import__", "compile"}


def lines_of_code(source: str) -> int:
    """Lines that are neither blank nor comment nor docstring."""
    texts: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            texts |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    silent = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
    code: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in silent | {tokenize.ENDMARKER}:
            code |= set(range(token.start[0], token.end[0] + 1))
    return len(code - texts)


def test_it_stays_short() -> None:
    assert lines_of_code(SOURCE) <= 1030
    assert SOURCE.count("\n") <= 1440


def test_the_rules_are_those_of_the_kernel() -> None:
    assert kernel_version == checker.KERNEL


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    write_model(tmp_path / "model", random_tensors(1))
    proved = prove(load_model(tmp_path / "model"), parse_task("max:k=3,v=5"), "cubic")
    (tmp_path / "good.safetensors").write_bytes(encode_certificate(proved))
    return str(tmp_path / "good.safetensors"), str(tmp_path / "model")


def test_it_runs_as_a_copied_script(files: tuple[str, str], tmp_path: Path) -> None:
    copy = tmp_path / "alone.py"
    copy.write_bytes(FILE.read_bytes())
    call = [sys.executable, "-I", "-S", str(copy), *files]
    done = subprocess.run(call, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "accuracy >= " in done.stdout and "not checked" in done.stdout
    assert "flops" in done.stdout


def test_exit_codes_and_lines(
    files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, model = files
    data = Path(good).read_bytes()

    def outcome(*arguments: str) -> tuple[int, str, str]:
        code = checker.run(list(arguments))
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    def file(name: str, content: bytes) -> str:
        (tmp_path / name).write_bytes(content)
        return str(tmp_path / name)

    assert outcome(good, model)[0] == 0
    assert outcome(good, model, "--quiet") == (0, "", "")
    assert outcome(good, model, "--quiet", "--task", "max:k=3,v=5") == (0, "", "")
    said = json.loads(outcome(good, model, "--json")[1])
    assert said["valid"] and said["not_checked"] == ["flops", "radius_flops"]
    assert said["claim"]["correct"] == claim_of(data)["correct"]

    more = str(int(claim_of(data)["undecided"]) + 1)
    for expected, *arguments in (
        (1, file("rejected", altered(data, undecided=more)), model),
        (2, file("unsupported", altered(data, theorem="subcubic")), model),
        (2, file("another model", GOOD), model),
        (2, good, model, "--task", "max:k=2,v=5"),
        (2, good, model + "x"),
        (2, good + "x", model),
        (2, "/dev/null", model),
        (2, "a\0b", model),
        (2, file("\x1b[2J", data[:-1]), model),
        (2, file("empty", b""), model),
    ):
        code, out, err = outcome(*arguments)
        assert (code, out, err.count("\n")) == (expected, "", 1), arguments
        assert err.startswith("compactproofs-check: ") and err[:-1].isprintable()
    assert outcome(good)[0] == 2
    assert outcome("--help")[0] == 0


def test_flint_changes_no_result(files: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    by_hand = checker.multiply
    monkeypatch.setattr(checker, "multiply", by_hand)  # put back afterwards
    assert checker.run([*files, "--quiet", "--fast"]) == 0
    rows, columns = [[3, -(1 << 80)], [0, 5]], [[1, 2, -3], [4, 5, 6]]
    assert checker.multiply is not by_hand
    assert checker.multiply(rows, columns) == by_hand(rows, columns)


def test_every_format_of_a_model_is_read_alike(tmp_path: Path) -> None:
    tensors = random_tensors(3)
    halves = {name: array.astype(np.float16) for name, array in tensors.items()}
    doubles = {name: array.astype(np.float64) / 3 for name, array in tensors.items()}
    upper = [
        (name, "BF16", shape, np.frombuffer(data, "<u2")[1::2].tobytes())
        for name, _, shape, data in stored(tensors)
    ]
    signed = {name: array * np.where(array > 1, 0, -1) for name, array in tensors.items()}
    few = {name: array for name, array in tensors.items() if ".b_" not in name}
    kinds: dict[str, Any] = {
        "16": halves, "64": doubles, "bf16": safetensors_bytes(upper), "-0": signed, "few": few,
        "4": as_version_4(tensors), "4 64": as_version_4(doubles),
    }  # fmt: skip
    for name, written in kinds.items():
        for more in ({}, {"attn_scale": 1.7}, {"attn_scale": 3, "attention_dir": "bidirectional"}):
            config = CONFIG | more
            folder = write_model(tmp_path / f"{name} {len(more)}", written, config)
            ours, theirs = load_model(folder), checker.load_model(str(folder))
            assert (theirs.digest(), name) == (ours.sha256, name)
            assert theirs.divisor_squared == ours.score_divisor_squared


def test_an_interrupt_ends_with_130(
    files: tuple[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(checker, "decide", stop)
    assert checker.run(list(files)) == 130
    assert capsys.readouterr().err.count("\n") == 1


def test_bytes_flipped_cut_or_added_are_never_valid() -> None:
    rng = np.random.default_rng(1)
    model = for_checker(MODEL)
    for n in range(400):
        data = bytearray(GOOD)
        if n % 4 == 0:
            data = data[: int(rng.integers(len(data)))]
        elif n % 4 == 1:
            data += bytes([int(rng.integers(256))])
        else:
            end = 1600 if n % 4 == 2 else len(data)
            data[int(rng.integers(end))] ^= 1 << int(rng.integers(8))
        if bytes(data) != GOOD:
            assert checker.decide(bytes(data), model).outcome == "MALFORMED"


def raw(header: str, data: bytes = b"") -> bytes:
    return len(header.encode()).to_bytes(8, "little") + header.encode() + data


@pytest.mark.parametrize(
    "data",
    [
        raw("{}"),
        raw("[]"),
        raw('{"__metadata__":null}'),
        raw('{"a":["F32",[1],[0,4]]}', b"1234"),
        raw('{"a":{"dtype":"F32","shape":[0,4611686018427387904],"data_offsets":[0,0]}}'),
        raw('{"a":{"dtype":"F32","shape":[true],"data_offsets":[0,4]}}', b"1234"),
        raw('{"a":{"dtype":"F32","shape":[-1,-1],"data_offsets":[0,4]}}', b"1234"),
        raw('{"a":{"dtype":"F32","shape":[1],"data_offsets":[1,5]}}', b"12345"),
        raw('{"a":{"dtype":[],"shape":[1],"data_offsets":[0,4]}}', b"1234"),
        raw('{"a":{"dtype":"F32","shape":1,"data_offsets":{}}}', b"1234"),
        raw("[" * 100_000),
        raw('{"a":' * 100_000),
        raw('"' + '\\"' * 100_000),
        raw("9" * 5000),
        raw('{"x":0,"x":0}'),
        raw('{"__metadata__":{"claim":"' + "[" * 5000 + '"}}'),
        raw('{"__metadata__":{"claim":"\\ud800"}}'),
        raw('{"__metadata__":{"claim":"{}"}}'),
        raw('{"__metadata__":{"claim":"[]"}}'),
        raw('{"__metadata__":{"claim":5}}'),
        (1 << 63).to_bytes(8, "little") + b"{}",
    ],
    ids=lambda data: f"{len(data)} bytes {data[8:40]!r}",
)
def test_headers_made_to_harm_are_malformed(data: bytes) -> None:
    assert checker.decide(data, for_checker(MODEL)).outcome == "MALFORMED"


def test_claims_made_to_harm_are_refused_by_both() -> None:
    odd: list[Any] = [None, True, 5, -1, 1.5, [], {}, "", "x\n", "-1", "01", "9" * 5000, "\ud800"]
    model = for_checker(MODEL)
    for name, value in claim_of(GOOD).items():
        if name == "digest":
            continue
        for other in [*odd, str(value) + "0"]:
            if other == value:
                continue
            changed = altered(GOOD, **{name: other})
            verdict = checker.decide(changed, model)
            if name in ("flops", "radius_flops") and type(other) is str and other[:1].isdigit():
                continue  # stated, not checked
            assert not verdict.valid, (name, other)
            assert not check(changed, MODEL).valid, (name, other)


def test_tensors_made_to_harm_are_refused() -> None:
    tensors, claim, model = load(GOOD), claim_of(GOOD), for_checker(MODEL)
    extremes: dict[str, list[Any]] = {
        "shift": [1e308, -1e308, 1e15, 5e-324, np.nan, np.inf],
        "grid": [-(2**63), 2**63 - 1, 901, 900, -900],
        "weight_exponent": [-(2**31), 2**31 - 1, 1 << 22, -(1 << 22)],
        "weight_low": [-1, 1 << 30],
        "value_low": [-(2**31), 2**31 - 1],
        "direct_high": [-(2**31), 2**31 - 1],
    }
    for name, values in extremes.items():
        for value in values:
            changed = sign(claim, tensors | {name: np.full_like(tensors[name], value)})
            assert not checker.decide(changed, model).valid, (name, value)
    for name in tensors:
        less = {other: array for other, array in tensors.items() if other != name}
        assert checker.decide(sign(claim, less), model).outcome == "MALFORMED"
        flat = tensors | {name: tensors[name].reshape(-1, 1)}
        assert checker.decide(sign(claim, flat), model).outcome == "MALFORMED"
    extra = tensors | {"more": np.zeros(1)}
    assert checker.decide(sign(claim, extra), model).outcome == "MALFORMED"


def test_witnesses_made_to_harm_are_refused_by_both() -> None:
    case = next(c for c in honest(1) if b"effort" in c.data and "composed" not in c.name)
    tensors, claim, model = load(case.data), claim_of(case.data), for_checker(case.model)
    assert len(tensors["order"])
    for column, value in ((0, -1), (1, 99), (2, -1), (3, -1), (4, 99), (5, 249), (5, -1)):
        order = tensors["order"].copy()
        order[0, column] = value
        changed = sign(claim, tensors | {"order": order})
        assert checker.decide(changed, model).outcome == "MALFORMED", (column, value)
        assert check(changed, case.model).outcome is Outcome.MALFORMED
    for value in (-3, 65537):
        effort = np.full_like(tensors["effort"], value)
        assert not checker.decide(sign(claim, tensors | {"effort": effort}), model).valid


@pytest.mark.parametrize("task", ["second:k=3,v=4", "sum:k=3,v=4", "fetch:k=3,v=4,q=0-1"])
def test_tasks_other_than_max_are_unsupported_not_malformed(task: str) -> None:
    proved = prove(MODEL, parse_task(task, parts=True), "brute-force")
    data = encode_certificate(proved)
    assert check(data, MODEL).valid
    for verdict in (
        checker.decide(data, for_checker(MODEL)),
        checker.decide(GOOD, for_checker(MODEL), task),
    ):
        assert verdict.outcome == "UNSUPPORTED"
        assert verdict.reason == f"the task {task!r} is not max-of-k, the only one that this checks"


def test_parts_must_tile_the_task() -> None:
    case = next(c for c in honest(1) if "composed" in c.name)
    tensors, claim, model = load(case.data), claim_of(case.data), for_checker(case.model)
    first, second = tensors["part.0"], tensors["part.1"]
    for parts in ([first], [second], [second, first], [first, first], [first, second, second]):
        named = {f"part.{n}": part for n, part in enumerate(parts)}
        assert not checker.decide(sign_bytes(claim, named), model).valid
    nested = np.frombuffer(case.data, dtype=np.uint8)
    assert not checker.decide(sign_bytes(claim, {"part.0": nested}), model).valid
    again = sign_bytes(claim, {"part.0": first, "part.1": second})
    assert checker.decide(again, model).outcome == case.outcome


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n_heads", 2), ("n_layers", 2), ("n_layers", True), ("attn_only", False),
        ("normalization_type", "LN"), ("d_head", 5), ("n_ctx", 0), ("attention_dir", "other"),
        ("positional_embedding_type", "rotary"), ("use_attn_scale", None), ("attn_scale", 0),
        ("attn_scale", True), ("strange", None), ("scale_embedding", True),
        ("use_qk_norm", 0), ("d_vocab_out", 0), ("d_vocab_out", None),
    ],
)  # fmt: skip
def test_configs_that_change_the_function_are_refused(
    files: tuple[str, str], field: str, value: Any
) -> None:
    path = Path(files[1]) / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
    with pytest.raises(checker.Refusal):
        checker.load_model(files[1])
    with pytest.raises(Exception, match="config"):
        load_model(files[1])
