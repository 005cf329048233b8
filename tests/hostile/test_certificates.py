"""Certificates and files made to harm: a verdict or one line, at once, and never a false claim."""

import os
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load

from certificates import altered, claim_of, sign
from compactproofs import check_certificate, load_model, prove, write_certificate
from compactproofs.cli._main import run
from compactproofs.kernel import (
    AdditiveOptions,
    MaxOfK,
    ModelError,
    OptionError,
    Outcome,
    TaskError,
    additive,
    brute_force,
    check,
    encode_certificate,
    integer_tables,
    parse_task,
    verify_tables,
)
from compactproofs.kernel._tasks import LabelAutomaton, Task
from compactproofs.kernel.theorems import BruteForceOptions
from random_models import random_model

MODEL = random_model(np.random.default_rng(7), k=3, v=4, d=4, h=4)
PROVED = prove(MODEL, parse_task("max:k=3,v=4"))
GOOD = encode_certificate(PROVED)


def raw(header: str, data: bytes = b"") -> bytes:
    text = header.encode()
    return len(text).to_bytes(8, "little") + text + data


@pytest.mark.parametrize(
    "data",
    [
        b"",
        raw("{}"),
        raw('{"__metadata__":null}'),
        raw('{"__metadata__":[]}'),
        raw('{"a":["F32",[1],[0,4]]}', b"1234"),
        raw('{"a":null}'),
        raw('{"a":{"dtype":"F32","shape":[0,4611686018427387904],"data_offsets":[0,0]}}'),
        raw('{"a":{"dtype":"F32","shape":[0,2147483648],"data_offsets":[0,0]}}'),
        raw('{"a":{"dtype":"F32","shape":[0,18446744073709551615],"data_offsets":[0,0]}}'),
        raw(f'{{"a":{{"dtype":"F32","shape":{[1] * 65},"data_offsets":[0,4]}}}}', b"1234"),
        raw("[" * 100_000),
        raw('{"a":' * 100_000),
        raw('{"__metadata__":{"claim":"' + "[" * 5000 + '"}}'),
        raw("{" + ",".join(f'"{i:06d}":0' for i in range(400_000)) + ',"x":0,"x":0}'),
        (1 << 63).to_bytes(8, "little") + b"{}",
    ],
    ids=lambda data: f"{len(data)} bytes {data[8:40]!r}",
)
def test_headers_made_to_harm_are_malformed(data: bytes) -> None:
    assert check(data, MODEL).outcome is Outcome.MALFORMED


@pytest.mark.parametrize(
    "name", ["task", "theorem", "distribution", "semantics", "metric", "kernel"]
)
@pytest.mark.parametrize(
    "text",
    [
        "max\x1b[2J\x1b[1;1HPROVED",
        "max\nclaim accuracy >= 1/1",
        "max\ud800",
        "max\u202e",
        "max ",
        "\x9b",
        "",
        "x" * 201,
    ],
)
def test_text_that_could_deceive_a_reader_is_malformed(name: str, text: str) -> None:
    assert check(altered(GOOD, **{name: text}), MODEL).outcome is Outcome.MALFORMED


def test_option_names_and_digests_are_held_to_their_form() -> None:
    for options in ({"bins\x1b": "1"}, {"": "1"}, {"bins": "128", "b" * 41: "1"}):
        assert check(altered(GOOD, options=options), MODEL).outcome is Outcome.MALFORMED
    for digest in ("F" * 64, "f" * 63, "\x1b" + "f" * 63):
        assert check(altered(GOOD, model_sha256=digest), MODEL).outcome is Outcome.MALFORMED
        assert check(altered(GOOD, task_sha256=digest), MODEL).outcome is Outcome.MALFORMED


def test_extreme_tables_never_give_a_claim() -> None:
    tensors = load(GOOD)
    extremes: dict[str, list[Any]] = {
        "shift": [1e308, -1e308, 1e15, 5e-324],
        "grid": [-(2**63), 2**63 - 1],
        "weight_exponent": [-(2**31), 2**31 - 1],
        "value_low": [-(2**31), 2**31 - 1],
    }
    for name, values in extremes.items():
        for value in values:
            changed = tensors | {name: np.full_like(tensors[name], value)}
            assert not check(sign(claim_of(GOOD), changed), MODEL).valid, (name, value)


def test_bins_that_would_fill_the_memory_are_refused() -> None:
    many = random_model(np.random.default_rng(0), k=4000, v=2, d=1, h=1)
    with pytest.raises(OptionError, match="use fewer bins"):
        prove(many, parse_task("max:k=4000,v=2"), "additive", {"bins": 65536})


def test_brute_force_of_many_tokens_is_refused_in_one_line() -> None:
    for k, v in ((1100, 2), (300, 1)):
        model = random_model(np.random.default_rng(0), k=k, v=v, d=1, h=1, outputs=2)
        with pytest.raises(OptionError, match=f"brute force over {v}\\^{k}"):
            prove(model, parse_task(f"max:k={k},v={v}"), "brute-force")


def test_classes_of_a_large_vocabulary_are_found_at_once() -> None:
    """One merging of states per set of accepted states, not one per class."""
    task = MaxOfK(1, 512)
    assert sum(words.size for _, _, words in task.classes()) == 512


# What was proved cannot be changed, and what was not proved cannot be dressed up as proved.


def test_proofs_and_verified_tables_cannot_be_changed() -> None:
    better = replace(PROVED.claim, correct=PROVED.claim.total)
    with pytest.raises(AttributeError, match="cannot be changed"):
        PROVED.claim = better  # type: ignore[misc]
    with pytest.raises(AttributeError, match="cannot be removed"):
        del PROVED.claim
    tables = verify_tables(MODEL, integer_tables(MODEL))
    with pytest.raises(AttributeError, match="cannot be changed"):
        tables.claimed = PROVED.tables  # type: ignore[misc]
    with pytest.raises(ValueError, match="WRITEABLE"):
        tables.claimed.value_high.flags.writeable = True


def test_arrays_that_lie_about_comparisons_are_read_as_plain_ones() -> None:
    class Liar(np.ndarray):
        def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
            plain = [np.asarray(x) for x in inputs]
            result = getattr(ufunc, method)(*plain, **kwargs)
            return np.zeros_like(result) if result.dtype == bool else result

    tables = integer_tables(MODEL)
    wide = np.full_like(tables.weight_high, 2**31 - 1).view(Liar)
    with pytest.raises(Exception, match="exceeds 2\\^30"):
        verify_tables(MODEL, tables._replace(weight_high=wide))


def test_no_task_passes_for_another() -> None:
    class Easy(Task):
        k, v = 3, 4

        @property
        def name(self) -> str:
            return "max:k=3,v=4"

        @cached_property
        def digest(self) -> str:
            return parse_task(self.name).digest

        @cached_property
        def automaton(self) -> LabelAutomaton:
            return LabelAutomaton(np.zeros((1, 4), dtype=np.int64), np.zeros(1, dtype=np.int64))

    tables = verify_tables(MODEL, integer_tables(MODEL))
    with pytest.raises(TaskError, match="has its name"):
        additive(tables, Easy(), AdditiveOptions())
    with pytest.raises(TaskError, match="has its name"):
        brute_force(tables, Easy(), BruteForceOptions())


def test_options_and_sizes_are_whole_numbers() -> None:
    for bins in (True, np.int64(8), 2.0, "8"):
        with pytest.raises(Exception, match="bins|bool|float|int"):
            AdditiveOptions(bins=bins)  # type: ignore[arg-type]
    for k in (True, np.int64(2), 2.0):
        with pytest.raises(Exception, match="max-of-k|bool|float|int"):
            MaxOfK(k, 3)  # type: ignore[arg-type]


# Files that are no files.


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


def test_pipes_and_devices_are_not_read(pipe: Path, tmp_path: Path) -> None:
    for path in (pipe, Path("/dev/zero"), tmp_path):
        with pytest.raises(OSError, match=r"cannot be read \((not a regular file)"):
            check_certificate(path, MODEL)
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").symlink_to(pipe)
    with pytest.raises(ModelError, match="not a regular file"):
        load_model(folder)
    with pytest.raises(OSError, match="null byte"):
        check_certificate("a\0b", MODEL)
    with pytest.raises(ModelError, match="null byte"):
        load_model("a\0b")


def test_only_regular_files_are_replaced(pipe: Path, tmp_path: Path) -> None:
    target, link, dangling = tmp_path / "target", tmp_path / "link", tmp_path / "dangling"
    target.write_text("precious")
    link.symlink_to(target)
    dangling.symlink_to(tmp_path / "nowhere")
    for path in (pipe, link, dangling, Path("/dev/null")):
        for force in (False, True):
            with pytest.raises(OSError, match="not a regular file"):
                write_certificate(PROVED, path, force=force)
    assert target.read_text() == "precious" and link.is_symlink() and dangling.is_symlink()
    long = tmp_path / ("x" * 250)
    assert write_certificate(PROVED, long).read_bytes() == GOOD


def test_output_is_printable_whatever_the_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a\nb", "a\x1b[2Jb", "\u202e"):
        assert run(["show", str(tmp_path / name)]) == 2
        err = capsys.readouterr().err
        assert (
            err.count("\n") == 1 and err.rstrip("\n").isascii() and err.rstrip("\n").isprintable()
        )
    assert run(["show", "x" * 100_000]) == 2
    assert len(capsys.readouterr().err) < 1100
    for number in ("1e999999999", "1e-99999999", "9" * 10_000):
        assert run(["prove", "max-of-4", "--task", "max:k=4,v=64", "--at-least", number]) == 2
        assert "--at-least" in capsys.readouterr().err
