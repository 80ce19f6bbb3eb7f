"""The stream that nobody may spoil: every datagram says which it is and when it was sent.

A source's datagrams carry its `epoch` (which source), a number and the time of sending, so that
whoever receives them can tell what is missing without knowing what was sent meanwhile.
CLOCK_REALTIME, because the kernel's receive time stamps (SO_TIMESTAMPNS, socket(7)) have no other.

Run as a program it is one source: `python -m tools.attackers.stream HOST PORT EPOCH RATE` sends
until SIGTERM or SIGINT and then prints how many datagrams it sent.
"""

import contextlib
import os
import socket
import struct
import subprocess
import sys
import time
from types import TracebackType
from typing import Self

from tools.benchmarks.machine import ROOT
from tools.replay.program import Interruption

SIZE = 1316
"""Bytes a datagram: seven MPEG-TS packets, what VLC, ffmpeg and OBS send."""

RATE = 475
"""Datagrams a second: 5 Mb/s."""

MARK = struct.Struct("!IQQ")
"""Epoch, number, nanoseconds; the rest of the datagram is padding."""

_PATIENCE = 10.0


class Source:
    """One source as a process of its own, so that nothing here delays it."""

    def __init__(self, port: int, epoch: int, rate: int = RATE, host: str = "127.0.0.1") -> None:
        words = [
            sys.executable,
            "-m",
            "tools.attackers.stream",
            host,
            str(port),
            str(epoch),
            str(rate),
        ]
        self.epoch = epoch
        self._process = subprocess.Popen(
            words, cwd=ROOT, stdout=subprocess.PIPE, text=True, process_group=0
        )

    def stop(self) -> int:
        """End the stream; return the number of datagrams sent."""
        self._process.terminate()
        sent, _ = self._process.communicate(timeout=_PATIENCE)
        return int(sent)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()


def send(sock: socket.socket, epoch: int, rate: float, stop: Interruption) -> int:
    """Send evenly until interrupted; return how many datagrams left. Late ones are sent at once.

    Nobody has to interrupt it if whoever started it was killed.
    """
    sent, began, padding = 0, time.monotonic(), bytes(SIZE - MARK.size)
    parent = os.getppid()
    while stop.signum is None and os.getppid() == parent:
        if (wait := began + sent / rate - time.monotonic()) > 0:
            time.sleep(wait)
        with contextlib.suppress(ConnectionRefusedError):  # nobody is there yet, or any more
            sock.send(MARK.pack(epoch, sent, time.time_ns()) + padding)
            sent += 1
    return sent


def main() -> None:
    """Be a source until a signal comes."""
    host, port, epoch, rate = sys.argv[1:]
    with Interruption() as stop, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect((host, int(port)))
        print(send(sock, int(epoch), float(rate), stop))


if __name__ == "__main__":
    main()
