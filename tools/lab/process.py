"""Programs under test as real processes, and waiting for what they do.

Nothing here sleeps for luck: every wait is for a condition, bounded by `PATIENCE`.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self, TypeVar

import pytest

from tools.lab.sockets import udp_socket

T = TypeVar("T")


ROOT = Path(__file__).resolve().parents[2]


PATIENCE = 20.0
"""Seconds before a wait is a failure. Generous: only something broken ever uses it up."""


def wait_for(condition: Callable[[], T], what: str, timeout: float = PATIENCE) -> T:
    """Return the first true value of `condition`, polled; fail the test after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"timed out after {timeout:g} s waiting for {what}")
        time.sleep(0.005)
    return value


def need(*programs: str) -> None:
    """Skip the test where a program is missing; under CI that is an error instead."""
    missing = [program for program in programs if shutil.which(program) is None]
    if missing and os.environ.get("CI"):
        pytest.fail(f"CI must have {', '.join(missing)}")
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")


def need_ipv6(*hosts: str) -> None:
    """Skip the test if one of its hosts is an IPv6 address and this machine has no IPv6."""
    if not any(":" in host for host in hosts):
        return
    try:
        udp_socket("::1").close()
    except OSError:
        pytest.skip("needs IPv6")


class Program:
    """A child process whose output is collected by threads, ended by pid at the latest on exit."""

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
        """The process ID."""
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
