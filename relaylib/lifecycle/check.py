"""Trying the new program in a child before becoming it: `relay.py --check` and a copy of the state.

The child must start, accept its configuration, and understand to the last value the state that it
would take over. It then says so and ends; anything else is a reason to stay the old program.
"""

import contextlib
import os
import re
import subprocess
from collections.abc import Callable
from typing import IO, NoReturn

from relaylib.config import Config
from relaylib.lifecycle import handover
from relaylib.net.listen import resolve_own
from relaylib.net.loop import Loop

TIMEOUT = 10.0
"""Seconds that the child may take: fifty times what it needs on a machine that is not loaded."""

RIGHT = "the configuration is right"
"""What the child says at its end: a --help or --version in a file of options ends well, too."""

_OUTPUT_KEPT = 4096
"""Bytes of the child's output that are kept: the reason why it failed is at its end."""

_PLACE = re.compile(r'  File "(.*)", line (\d+)')
"""A line of a traceback; an error in the syntax has one, too."""


def confirm(config: Config) -> NoReturn:
    """Be the child, or do as much for a person: say that the configuration is right, and end.

    Raises:
        SetupError: it is not.
    """
    resolve_own(config.host, config.port)
    with contextlib.suppress(OSError):
        os.write(1, f"{RIGHT}\n".encode())
    raise SystemExit(0)


class Check:
    """Tries the new program; calls `done` with what was wrong, "" if nothing was.

    The loop goes on meanwhile.
    """

    def __init__(self, loop: Loop, state: IO[bytes], done: Callable[[str], None]) -> None:
        """Start the child with the state in this file, which may be closed then.

        Raises:
            OSError: it could not be started.
        """
        self._loop = loop
        self._done = done
        self._output = b""
        command, environment = handover.next_program(state, "--check")
        self._child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            pass_fds=[state.fileno()],
        )
        assert self._child.stdout is not None
        self._pipe: IO[bytes] = self._child.stdout
        os.set_blocking(self._pipe.fileno(), False)
        self._timer = loop.call_later(TIMEOUT, self._time_out)
        loop.watch(self._pipe, self._readable, broken=self._broken)

    def cancel(self) -> None:
        """End the child; `done` will not be called."""
        self._done = lambda _reason: None
        self._child.kill()

    def _time_out(self) -> None:
        done = self._done
        self._done = lambda _reason: done(f"no answer within {TIMEOUT:g} s")
        self._child.kill()

    def _broken(self, error: Exception) -> None:
        self._loop.discard(self._pipe)
        self._timer.cancel()
        self._child.kill()
        self._child.wait()
        self._done(str(error))

    def _readable(self) -> None:
        data = os.read(self._pipe.fileno(), 65536)
        if data:
            self._output = (self._output + data)[-_OUTPUT_KEPT:]
            return
        self._loop.discard(self._pipe)
        self._reap()

    def _reap(self) -> None:
        """Wait for the child, which has closed its output and so is about to end."""
        status = self._child.poll()
        if status is None:
            self._loop.call_later(0.01, self._reap)
            return
        self._timer.cancel()
        lines = self._output.decode(errors="replace").rstrip().splitlines()
        right = status == 0 and RIGHT in lines
        self._done("" if right else reason(lines) or f"exit status {status}")


def reason(lines: list[str]) -> str:
    """Return the last thing said; of a traceback the error, and where it happened."""
    for at in reversed(range(len(lines))):
        if place := _PLACE.match(lines[at]):
            error = " ".join(line for line in lines[at:] if not line.startswith(" "))
            return f"{error} ({place[1]}, line {place[2]})"
    return lines[-1] if lines else ""
