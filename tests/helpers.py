"""What the tests share: programs under test as real processes, viewers as real sockets.

Nothing here sleeps for luck: every wait is for a condition, bounded by `PATIENCE`.
"""

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import pytest

T = TypeVar("T")

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 20.0
"""Seconds before a wait is a failure. Generous: only something broken ever uses it up."""

SINK_BUFFER = 4 << 20
"""Receive buffer of a test's viewer, in bytes, so that a loaded machine does not drop for it."""


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


class Relay(Program):
    """A relay process on a free port, its JSON log read as events.

    `options` are command line words; `prefix` goes before the interpreter (`ip netns exec ...`).
    """

    def __init__(
        self, *options: str, host: str = "127.0.0.1", prefix: tuple[str, ...] = (), **popen: Any
    ) -> None:
        self.host = host
        words = (*prefix, sys.executable, "relay.py", host, "0", "--log-format", "json")
        super().__init__(*words, *options, **popen)
        try:
            listening = self.wait_event("listening")
        except BaseException:
            self.__exit__()
            raise
        self.port: int = listening["port"]
        self.ingest_port: int = listening["ingest_port"]

    @property
    def log(self) -> list[dict[str, Any]]:
        """Every log event so far, oldest first."""
        return [json.loads(line) for line in self.stderr if line.startswith("{")]

    def events(self, name: str, **fields: object) -> list[dict[str, Any]]:
        """The events of one name that have at least these fields."""
        return [
            event
            for event in self.log
            if event["event"] == name and fields.items() <= event.items()
        ]

    def wait_event(self, name: str, count: int = 1, **fields: object) -> dict[str, Any]:
        """Wait until the event was logged `count` times; return the newest."""

        def found() -> list[dict[str, Any]]:
            if self.process.poll() is not None and not self.events(name, **fields):
                self.wait()
                pytest.fail(f"the relay ended: {''.join(self.stderr)}")
            events = self.events(name, **fields)
            return events if len(events) >= count else []

        return wait_for(found, f"log event {name} {fields}")[-1]

    def rss(self) -> int:
        """Resident set size in KiB."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0])


class Viewer:
    """A control connection and the UDP port where its player would listen."""

    def __init__(self, port: int, host: str = "127.0.0.1", address: str | None = None) -> None:
        self.control = socket.create_connection(
            (host, port), PATIENCE, (address, 0) if address else None
        )
        self.control.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.replies = self.control.makefile("rb")
        self.player = udp_socket(self.control.getsockname()[0])
        self.port: int = self.player.getsockname()[1]

    def send(self, data: bytes) -> None:
        """Send raw bytes on the control connection."""
        self.control.sendall(data)

    def reply(self) -> str:
        """Read one reply line without its LF; empty when the relay has closed."""
        return self.replies.readline().decode("ascii").rstrip("\n")

    def command(self, text: str) -> str:
        """Send one line and return its reply."""
        self.send(text.encode() + b"\n")
        return self.reply()

    def subscribe(self) -> Self:
        """Ask for the stream at the player's port."""
        assert self.command(f"CONECTAR {self.port}") == "OK"
        return self

    def receive(self, timeout: float = PATIENCE) -> bytes:
        """Receive one datagram."""
        self.player.settimeout(timeout)
        return self.player.recv(65536)

    def receive_all(self, count: int) -> list[bytes]:
        """Receive exactly `count` datagrams."""
        return [self.receive() for _ in range(count)]

    def nothing_arrives(self, seconds: float = 0.3) -> bool:
        """Tell whether no datagram arrives for this long."""
        try:
            self.receive(seconds)
        except TimeoutError:
            return True
        return False

    def close(self) -> None:
        """Close both sockets."""
        self.replies.close()
        self.control.close()
        self.player.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()


def udp_socket(host: str = "127.0.0.1", port: int = 0) -> socket.socket:
    """A bound UDP socket with a large receive buffer."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SINK_BUFFER)
    sock.bind((host, port))
    return sock


def unused_port() -> int:
    """A port that is free for TCP and UDP, from below the range that kernels choose from.

    In that range a port that was free a moment ago may be anybody's connection by now.
    """
    while True:
        address = ("127.0.0.1", random.randrange(15_000, 32_000))
        with (
            contextlib.suppress(OSError),
            udp_socket(*address),
            socket.create_server(address),
        ):
            return address[1]


@contextlib.contextmanager
def source(port: int, host: str = "127.0.0.1") -> Iterator[socket.socket]:
    """A UDP socket connected to the relay's ingest."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.connect((host, port))
        yield sock
