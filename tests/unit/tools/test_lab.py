"""The harness itself: what would make every other test lie if it were wrong."""

import os
import sys
from pathlib import Path

import pytest

from tools.lab.process import ChildProcess


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
    with ChildProcess(sys.executable, *words, str(test), env={**os.environ, "CI": env}) as run:
        run.wait()
    said = "".join(run.stdout)
    assert outcome in said
    assert "needs no-such-program" in said
