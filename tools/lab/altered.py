"""A relay with a part replaced: a program in a file, which replaces the part and starts the relay.

A reload runs the same file again, so a test that rewrites the file decides what the relay becomes.
"""

from pathlib import Path

from tools.lab.process import ROOT

_PROGRAM = """\
import sys
sys.path.insert(0, {root!r})
{alteration}
import relay
relay.main()
"""


class Altered:
    """A program in a file; `prefix` makes a `Relay` run it."""

    def __init__(self, directory: Path, alteration: str = "") -> None:
        self.path = directory / "program.py"
        self.prefix = ("sh", "-c", f'python=$1; shift 2; exec "$python" {self.path} "$@"', "sh")
        self.become(alteration)

    def become(self, alteration: str = "") -> None:
        """Be a program that runs these lines of Python before it starts the relay."""
        self.path.write_text(_PROGRAM.format(root=str(ROOT), alteration=alteration))
