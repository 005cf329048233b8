"""What only a process of its own can show: imports, progress on a terminal, Ctrl-C."""

import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

COMMAND = [sys.executable, "-m", "compactproofs"]


def test_help_check_and_show_import_neither_torch_nor_plotting() -> None:
    program = (
        "import sys\n"
        "from compactproofs.cli._main import run\n"
        "for arguments in (['--help'], ['check', '--help'], ['show', '--help'], ['--version']):\n"
        "    if run(arguments) != 0: sys.exit(3)\n"
        "heavy = {'torch', 'scipy', 'matplotlib', 'plotly', 'rich.progress'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "prove" in done.stdout


def test_ctrl_c_exits_130_and_leaves_nothing(tmp_path: Path) -> None:
    out = tmp_path / "proof"
    arguments = ["prove", "max-of-20", "--task", "max:k=20,v=64", "--bins", "8192"]
    arguments += ["--out", str(out)]
    with subprocess.Popen(
        [*COMMAND, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A test run in the background may ignore Ctrl-C, and its children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        time.sleep(2.5)
        process.send_signal(signal.SIGINT)
        try:
            stdout, stderr = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 130, (process.returncode, stderr)
    assert stdout == "" and stderr.count("\n") == 1 and "interrupted" in stderr
    assert list(tmp_path.iterdir()) == []


def test_progress_is_drawn_on_a_terminal_and_only_there() -> None:
    arguments = ["prove", "max-of-4", "--task", "max:k=4,v=64", "--json"]
    leader, follower = pty.openpty()
    process = subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=follower)
    os.close(follower)
    drawn = b""
    while True:
        try:
            chunk = os.read(leader, 4096)
        except OSError:  # the terminal closed with the process
            break
        if not chunk:
            break
        drawn += chunk
    assert process.stdout is not None
    result = process.stdout.read()
    process.stdout.close()
    os.close(leader)
    assert process.wait() == 0 and result.startswith(b"{")
    assert b"proving additive" in drawn
    quiet = subprocess.run([*COMMAND, *arguments], capture_output=True)
    assert quiet.stderr == b"" and quiet.returncode == 0


def test_a_certificate_holds_under_other_products_and_threads(tmp_path: Path) -> None:
    """Another machine sums in another order: its enclosures differ, the verdict must not."""
    out = tmp_path / "proof"
    task = ["--task", "max:k=4,v=64"]
    subprocess.run([*COMMAND, "prove", "max-of-4", *task, "--out", str(out)], check=True)
    for core, threads in (("Nehalem", "1"), ("Haswell", "2")):
        machine = os.environ | {"OPENBLAS_CORETYPE": core, "OPENBLAS_NUM_THREADS": threads}
        done = subprocess.run(
            [*COMMAND, "check", str(out), "--model", "max-of-4", *task],
            env=machine,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0 and "PROVED" in done.stdout, done.stderr


def test_names_that_the_terminal_cannot_print_are_escaped(tmp_path: Path) -> None:
    out = tmp_path / "pr\u00e9uve\u202e"
    arguments = ["prove", "max-of-4", "--task", "max:k=4,v=64", "--out", str(out)]
    for encoding in ("ascii:strict", "utf-8:strict"):
        done = subprocess.run(
            [*COMMAND, *arguments, "--force"],
            env=os.environ | {"PYTHONIOENCODING": encoding},
            capture_output=True,
        )
        assert done.returncode == 0 and done.stderr == b"", done.stderr
        assert b"\\u202e" in done.stdout and b"\xe2\x80\xae" not in done.stdout
    assert out.is_file()
