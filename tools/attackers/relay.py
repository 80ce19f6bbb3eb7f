"""The relay under siege: a process, its log, and what it costs.

Its port is chosen here and not by the kernel, because some of the sieges take its log away, and a
relay that cannot say where it listens has to be found all the same.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from tools.benchmarks.machine import ROOT

T = TypeVar("T")

PATIENCE = 20.0
"""Seconds before a wait is a failure. Generous: only something broken ever uses it up."""

HOST = "127.0.0.1"


class BrokenError(Exception):
    """The relay did not do what it must; `str()` says what was waited for."""


def wait_for(condition: Callable[[], T], what: str, timeout: float = PATIENCE) -> T:
    """Return the first true value of `condition`, polled.

    Raises:
        BrokenError: it was not true within `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise BrokenError(f"waited {timeout:g} s for {what}")
        time.sleep(0.01)
    return value


def free_port() -> int:
    """Return a port that is free for TCP and UDP on the loopback."""
    while True:
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            tcp.bind((HOST, 0))
            with contextlib.suppress(OSError):
                udp.bind(tcp.getsockname())
                return int(tcp.getsockname()[1])


class Relay:
    """A relay on a loopback port of its own, listening when the constructor returns.

    `prefix` goes before the interpreter, `stderr` replaces the file that `events` reads.
    """

    def __init__(
        self,
        *options: str,
        prefix: tuple[str, ...] = (),
        stderr: int | None = None,
        env: dict[str, str] | None = None,
    ) -> None:
        self.port = free_port()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by __exit__
        self._read, self._tail = 0, b""
        self._events: list[dict[str, Any]] = []
        words = [*prefix, sys.executable, "relay.py", HOST, str(self.port), "--log-format", "json"]
        self.process = subprocess.Popen(
            [*words, *options],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # on a terminal it would be the guide for newcomers
            stderr=self._log if stderr is None else stderr,
            env={**os.environ, **(env or {})},
            process_group=0,  # a Ctrl-C is not meant for it
        )
        try:
            wait_for(self._listening, "the relay to listen")
        except BaseException:
            self.__exit__(None, None, None)
            raise

    def _listening(self) -> bool:
        if self.process.poll() is not None:
            raise BrokenError(f"the relay ended with status {self.process.returncode}")
        try:
            socket.create_connection((HOST, self.port), PATIENCE).close()
        except ConnectionRefusedError:
            return False
        return True

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    def log(self) -> list[dict[str, Any]]:
        """Every log event so far, oldest first."""
        new = os.pread(self._log.fileno(), 1 << 28, self._read)
        self._read += len(new)
        *lines, self._tail = (self._tail + new).split(b"\n")
        self._events += [json.loads(line) for line in lines if line.startswith(b"{")]
        return self._events

    def events(self, name: str) -> list[dict[str, Any]]:
        """The log events of one name."""
        return [event for event in self.log() if event["event"] == name]

    def reload(self) -> None:
        """Restart it in place, and wait until it says so."""
        count = len(self.events("reloaded"))
        self.process.send_signal(signal.SIGHUP)
        wait_for(lambda: len(self.events("reloaded")) > count, "the relay to restart")

    def descriptors(self) -> int:
        """Open descriptors."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def memory(self, field: str = "VmRSS") -> int:
        """KiB of resident memory; `VmHWM`: the most there ever was (proc(5))."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split(f"{field}:")[1].split()[0])

    def stop(self) -> int:
        """End it as Ctrl-C would; return the exit status."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(PATIENCE)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self.alive:
            self.process.kill()
        self.process.wait()
        self._log.close()
