"""Programs under test as real processes, waiting for what they do, and what a machine must have.

No wait here is a fixed time: each is for a condition, bounded by `PATIENCE`. Nothing here knows
pytest, because the tools use it, too: `tests/conftest.py` makes a skip of a `NeedError`.
"""

import contextlib
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self, TypeVar

T = TypeVar("T")

ROOT = Path(__file__).resolve().parents[2]

PATIENCE = 30.0
"""Seconds before a wait is a failure. Generous: only something broken ever uses it up."""

# A shell starts what it puts in the background with SIGINT and SIGQUIT ignored, nohup(1) with
# SIGHUP. What is ignored stays ignored in children (execve(2)), and programs under test could not
# be interrupted; what has a handler is back at its default there. So a handler that does nothing
# takes the place of SIG_IGN: unlike a `preexec_fn` it is safe beside threads, and it serves every
# way of starting a child.
for _signum in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
    if signal.getsignal(_signum) is signal.SIG_IGN:
        signal.signal(_signum, lambda signum, frame: None)


class LabError(Exception):
    """What was waited for did not happen; `str()` says what."""


class NeedError(LabError):
    """This machine lacks what is needed; `str()` says what."""


def wait_for(condition: Callable[[], T], what: str, timeout: float = PATIENCE) -> T:
    """Return the first true value of `condition`, polled.

    Raises:
        LabError: it was not true within `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise LabError(f"timed out after {timeout:g} s waiting for {what}")
        time.sleep(0.005)
    return value


def need(*programs: str) -> None:
    """Go on if these programs are installed.

    Raises:
        NeedError: one is not.
    """
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        raise NeedError(f"needs {', '.join(missing)}")


def need_ipv6(*hosts: str) -> None:
    """Go on if none of these hosts is an IPv6 address, or this machine has IPv6.

    Raises:
        NeedError: it has not.
    """
    if not any(":" in host for host in hosts):
        return
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.bind(("::1", 0))
    except OSError as error:
        raise NeedError(f"needs IPv6 ({error})") from error


class ChildProcess:
    """A child process; threads collect its output, leaving the `with` block kills it."""

    def __init__(self, *argv: str | Path, **options: Any) -> None:
        self.process = subprocess.Popen(
            [str(word) for word in argv],
            stdin=options.pop("stdin", subprocess.DEVNULL),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=ROOT,
            **options,
        )
        self.stdout: list[str] = []
        self.stderr: list[str] = []
        self._readers = [
            threading.Thread(target=self._collect, args=pair, daemon=True)
            for pair in ((self.process.stdout, self.stdout), (self.process.stderr, self.stderr))
        ]
        for reader in self._readers:
            reader.start()

    @staticmethod
    def _collect(pipe: Any, lines: list[str]) -> None:
        for line in pipe:
            lines.append(line.decode(errors="replace"))

    @property
    def pid(self) -> int:
        return self.process.pid

    def wait(self, timeout: float = PATIENCE) -> int:
        """Wait for the end and for the rest of the output; return the exit status."""
        status = self.process.wait(timeout)
        for reader in self._readers:
            reader.join(timeout)
        return status

    def stop(self, signum: int = signal.SIGTERM) -> int:
        """Send a signal unless it has ended, and wait."""
        if self.process.poll() is None:
            self.process.send_signal(signum)
        return self.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
