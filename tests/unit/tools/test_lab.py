"""The harness itself: what would make every other test lie if it were wrong."""

import os
import signal
import sys
from pathlib import Path

import pytest

from tools.lab.process import LabError, Program, need, wait_for

IGNORED = "trap '' HUP INT QUIT; exec \"$@\""
"""Start a program as nohup(1) and a shell's `&` do."""

START = """
from tools.lab.process import Program
with Program("sleep", "60") as program:
    print(open(f"/proc/{program.pid}/status").read())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads proc(5)")
def test_children_ignore_no_signal() -> None:
    """A child has SIGHUP, SIGINT and SIGQUIT at their defaults, whatever its grandparent did."""
    with Program("sh", "-c", IGNORED, "sh", sys.executable, "-c", START) as parent:
        assert parent.wait() == 0, parent.stderr
    [ignored] = [line.split()[1] for line in parent.stdout if line.startswith("SigIgn:")]
    for signum in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        assert not int(ignored, 16) & 1 << (signum - 1), signum.name


@pytest.mark.parametrize(("env", "outcome"), [("", "1 skipped"), ("true", "1 failed")])
def test_what_is_missing_is_a_skip_but_under_ci(env: str, outcome: str, tmp_path: Path) -> None:
    """A test that needs a program which is not there is skipped; under CI it fails."""
    test = tmp_path / "test_lacking.py"
    test.write_text(
        "from tools.lab.process import need\n\ndef test_it():\n    need('sh', 'no-such-program')\n"
    )
    words = (
        "-m",
        "pytest",
        "-p",
        "tests.conftest",
        "-c",
        os.devnull,
        "--rootdir",
        str(tmp_path),
        "-rs",
    )
    with Program(sys.executable, *words, str(test), env={**os.environ, "CI": env}) as run:
        run.wait()
    said = "".join(run.stdout)
    assert outcome in said
    assert "needs no-such-program" in said


def test_a_wait_that_fails_says_for_what() -> None:
    """A condition that does not come true is an error that names it."""
    with pytest.raises(LabError, match="waiting for Godot"):
        wait_for(lambda: False, "Godot", timeout=0.01)
    need("sh")
