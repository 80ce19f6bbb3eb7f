"""A relay of our own on the loopback, with a source and viewers: what the self-test is made of.

The relay is a process of its own, with free ports, which ends with this one however that ends.
Source and viewers are here, in turns, since there is only one thread.
"""

import contextlib
import ctypes
import json
import os
import select
import signal
import socket
import subprocess
from collections.abc import Iterator
from typing import Any, Self

from relaylib.config import Config
from relaylib.doctor.finding import DATAGRAM, read
from relaylib.lifecycle.handover import own_command
from relaylib.net.linux import grow_receive_buffer
from relaylib.net.loop import Loop

HOST = "127.0.0.1"

RATE = 475.0
"""Datagrams a second: 5 Mb/s of them."""

DRAIN_EVERY = 0.05
"""Seconds between two looks at many viewers, whose buffers hold three times as much."""

_START, _PATIENCE, _LINGER = 15.0, 5.0, 0.3
"""Seconds for the relay to start, for an answer, and for datagrams that are still on their way."""

_PACKETS = 7
_BUFFER = 1 << 20
_PR_SET_PDEATHSIG = 1


class TrialError(Exception):
    """The self-test cannot go on; `str()` says why."""


def datagram(number: int) -> bytes:
    """Make a datagram of null packets (ISO 13818-1), which have room for anything."""
    filling = number.to_bytes(8, "big") * 23
    return (b"\x47\x1f\xff\x10" + filling) * _PACKETS


def number_of(data: bytes) -> int | None:
    """Return the number of such a datagram; None: it is not as long as one."""
    return int.from_bytes(data[4:12], "big") if len(data) == DATAGRAM else None


def paced(seconds: float, sock: socket.socket | None = None) -> Iterator[int | None]:
    """Yield the numbers of datagrams when they are due, and None when there is something to read.

    After the last one, as long as something may be on its way.
    """
    begun, number, count = Loop.time(), 0, int(RATE * seconds)
    reading = [sock] if sock is not None else []
    while number < count:
        left = begun + number / RATE - Loop.time()
        if left <= 0:
            yield number
            number += 1
        elif select.select(reading, (), (), left)[0]:
            yield None
    end = Loop.time() + _LINGER
    while (left := end - Loop.time()) > 0:
        select.select(reading, (), (), min(left, DRAIN_EVERY))
        yield None


class TrialViewer:
    """A control connection to a relay, and a player's port that the stream comes to."""

    def __init__(self, port: int, *, grow: bool = False) -> None:
        """Ask for the stream.

        Raises:
            TrialError: the relay declines.
            OSError: it cannot be reached.
        """
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            if grow:
                grow_receive_buffer(self.sock, _BUFFER)
            self.sock.bind((HOST, 0))
            self.sock.setblocking(False)
            self._control = socket.create_connection((HOST, port), _PATIENCE)
        except OSError:
            self.sock.close()
            raise
        try:
            self._control.sendall(f"CONECTAR {self.sock.getsockname()[1]}\n".encode())
            reply = self._control.recv(512)
        except OSError:
            self.__exit__()
            raise
        if reply != b"OK\n":
            self.__exit__()
            raise TrialError(f"the relay answers CONECTAR with {reply!r}")

    def read(self) -> list[bytes]:
        """Return all that has come."""
        found = []
        with contextlib.suppress(BlockingIOError):
            while True:
                found.append(self.sock.recv(2048))
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._control.close()
        self.sock.close()


# --- the relay


class TrialRelay:
    """A relay of this program's kind, which ends with it. It sends as `config` says."""

    def __init__(self, config: Config) -> None:
        words = [*own_command(), HOST, "0", "--log-format", "json", "--max-clients", "1000"]
        words += [] if config.segmentation else ["--no-segmentation"]
        words += [] if config.coalesce is None else ["--coalesce", f"{config.coalesce * 1000:g}"]
        hidden = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "LISTEN_PID", "LISTEN_FDS")
        self._process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={name: value for name, value in os.environ.items() if name not in hidden},
            preexec_fn=_end_with_parent,  # noqa: PLW1509 - there are no threads
        )
        self._source = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.port = 0

    def __enter__(self) -> Self:
        try:
            self._wait_until_it_listens()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.kill()  # it has no state to lose
        self._process.wait()
        self._source.close()
        assert self._process.stderr is not None
        self._process.stderr.close()

    def send(self, data: bytes) -> None:
        """Send it a datagram of the stream, always from the same source."""
        with contextlib.suppress(OSError):  # it counts as lost
            self._source.send(data)

    def cpu(self) -> float | None:
        """Return how many seconds of a processor it has used; None: unknown."""
        words = read(f"/proc/{self._process.pid}/schedstat").split()
        return int(words[0]) / 1e9 if words else None

    def _wait_until_it_listens(self) -> None:
        pipe = self._process.stderr
        assert pipe is not None
        log, deadline = b"", Loop.time() + _START
        while (left := deadline - Loop.time()) > 0:
            if not select.select((pipe,), (), (), left)[0]:
                break
            data = os.read(pipe.fileno(), 65536)
            log += data
            for line in log.splitlines():
                event = _event(line)
                if event.get("event") == "listening":
                    self.port = event["port"]
                    self._source.connect((HOST, event["ingest_port"]))
                    return
            if not data:
                last = log.decode(errors="replace").strip().rpartition("\n")[2]
                raise TrialError(f"the relay ended at its start: {last}")
        raise TrialError(f"the relay did not listen within {_START:g} s")


def _event(line: bytes) -> dict[str, Any]:
    try:
        event = json.loads(line)
    except ValueError:
        return {}
    return event if isinstance(event, dict) else {}


def _end_with_parent() -> None:
    """Have the kernel end this process when its parent ends, however it does (prctl(2))."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
