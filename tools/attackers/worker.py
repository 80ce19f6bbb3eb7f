"""The processes around a relay: each is a module here, run as a program until it is finished."""

import json
import subprocess
import sys
from typing import Any

from tools.lab.process import PATIENCE, Program


class Worker(Program):
    """A module of this room as a process; a Ctrl-C at the terminal is not meant for it."""

    def __init__(self, module: str, *words: object) -> None:
        super().__init__(
            *(sys.executable, "-m", f"tools.attackers.{module}", *map(str, words)),
            stdin=subprocess.PIPE,
            process_group=0,
        )

    def finish(self, timeout: float = PATIENCE) -> Any:
        """End its standard input, wait for it, and return what it printed, read as JSON."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.wait(timeout)
        return json.loads(self.stdout[-1])
