"""The border of trust: what the kernel may import, and what a proof step may not contain."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import compactproofs.kernel

KERNEL = Path(compactproofs.kernel.__file__).parent
FILES = sorted(KERNEL.rglob("*.py"))
ALLOWED = {"numpy", "safetensors", "flint", "jaxtyping"} | set(sys.stdlib_module_names)
# They would make a comparison mean less than it says, or run what a certificate holds.
FORBIDDEN = {
    *("isclose", "allclose", "assert_allclose", "atol", "rtol", "eps", "epsilon", "tol"),
    *("tolerance", "finfo", "eval", "exec", "pickle", "marshal", "ctypes"),
    *("importlib", "__import__", "float32", "float16", "filterwarnings", "simplefilter"),
}


def module_name(file: Path) -> list[str]:
    return list(file.relative_to(KERNEL).with_suffix("").parts)


def nodes() -> Iterator[tuple[Path, ast.AST]]:
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text())):
            yield file, node


def place(file: Path, node: ast.AST) -> str:
    return f"{file.name}:{getattr(node, 'lineno', 0)}"


def test_the_kernel_is_found() -> None:
    names = {file.name for file in FILES}
    assert {"_enclosure.py", "_integers.py", "_margins.py", "additive.py", "_model.py"} <= names


def test_imports_stay_inside_the_border() -> None:
    for file, node in nodes():
        if isinstance(node, ast.Import):
            for alias in node.names:
                assert alias.name.split(".")[0] in ALLOWED, place(file, node)
        if isinstance(node, ast.ImportFrom):
            if node.level == 0:
                assert node.module is not None
                assert node.module.split(".")[0] in ALLOWED, place(file, node)
            else:
                # One dot is the folder of the file; more must not climb out of the kernel.
                assert node.level <= len(module_name(file)), place(file, node)


def test_no_proof_step_is_an_assert_statement() -> None:
    found = [place(file, node) for file, node in nodes() if isinstance(node, ast.Assert)]
    assert found == []


def names_in(node: ast.AST) -> list[str]:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name):
            return [name]
        case ast.keyword(arg=str(name)) | ast.alias(name=name):
            return [name]
        case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
            return [name]
    return []


def test_no_tolerance_has_a_name() -> None:
    found = [
        (place(file, node), name)
        for file, node in nodes()
        for name in names_in(node)
        if name.lower().strip("_") in FORBIDDEN
    ]
    # One look at float32: whether every weight is such a number.
    assert [(place.split(":")[0], name) for place, name in found] == [("_float32.py", "float32")]


def test_no_small_decimal_number_is_written() -> None:
    # Every rounding bound is a power of two; 1e-9 would be a tolerance.
    found = [
        (place(file, node), node.value)
        for file, node in nodes()
        if isinstance(node, ast.Constant)
        and isinstance(node.value, float)
        and 0 < abs(node.value) < 0.1
    ]
    assert found == []


def test_no_except_clause_swallows_everything() -> None:
    for file, node in nodes():
        if isinstance(node, ast.ExceptHandler):
            names = (
                {n.id for n in ast.walk(node.type) if isinstance(n, ast.Name)}
                if node.type
                else set()
            )
            assert names, place(file, node)
            assert not names & {"Exception", "BaseException"}, place(file, node)


@pytest.mark.parametrize("name", ["torch", "scipy", "pydantic", "hypothesis"])
def test_importing_the_kernel_does_not_import(name: str) -> None:
    code = f"import sys, compactproofs.kernel; sys.exit({name!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_files_are_short_enough_to_read() -> None:
    for file in FILES:
        assert len(file.read_text().splitlines()) < 400, file.name
