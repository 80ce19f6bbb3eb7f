"""The stream that every contender gets: `tools/source.c` behind one socket.

A relay may lock onto its first source, so the datagrams that find out whether a contender is ready
and the stream itself come from the same socket, which the C program inherits as standard input.
"""

import contextlib
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from tools.benchmarks.sinks import Sinks

SIZE = 1316
"""Bytes a datagram: seven MPEG-TS packets, what VLC, ffmpeg and OBS send."""

FLOODED = 100_000
"""Datagrams a second: several times what the fastest contender forwards to 100 destinations, and
yet not so many that sending them disturbs the caches and locks of the core under test."""

_FLOOD_BURST = 16
_HELLO = bytes.fromhex("471fff10").ljust(SIZE, b"\0")
_PATIENCE = 15.0


class NotReadyError(Exception):
    """A contender does not forward; `str()` says what it did instead."""


class Source:
    """One source's socket, connected to 127.0.0.1:`port`."""

    def __init__(self, program: Path, port: int) -> None:
        self._program = program
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.connect(("127.0.0.1", port))
        self._process: subprocess.Popen[str] | None = None

    def wait_until_forwarded(self, sinks: Sinks, contender: "subprocess.Popen[bytes]") -> int:
        """Send a datagram now and then until one reaches every sink; return how many came in all.

        Raises NotReadyError when the contender ends, or forwards nothing for 15 s.
        """
        deadline = time.monotonic() + _PATIENCE
        expected = len(sinks.ports)
        while sinks.delivered() < expected:
            if contender.poll() is not None:
                raise NotReadyError(f"ended with status {contender.returncode}")
            if time.monotonic() > deadline:
                raise NotReadyError(f"{sinks.delivered()} of {expected} destinations reached")
            with contextlib.suppress(ConnectionRefusedError):
                self._socket.send(_HELLO)
            sinks.watch(0.03)
        return sinks.update_counters(expected + 1, 0.1)

    def start(self, rate: int, seconds: float) -> None:
        """Send `rate` datagrams a second for `seconds`, in bursts if it is a flood."""
        burst = _FLOOD_BURST if rate >= FLOODED else 1
        words = [str(self._program), str(rate), str(burst), str(seconds)]
        self._process = subprocess.Popen(
            words, stdin=self._socket.fileno(), stdout=subprocess.PIPE, text=True
        )

    def finish(self) -> int:
        """Wait for the end of what `start` began; return the number of datagrams sent."""
        assert self._process is not None
        sent, _ = self._process.communicate(timeout=60)
        return int(sent)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.communicate()
        self._socket.close()
