"""Restarting in place without losing anyone: what travels from the old program to the new one.

`exec` keeps the process, its number and every descriptor that is marked inheritable. So the sockets
simply stay open while the program around them is replaced, and the kernel's receive buffers hold
the stream and the commands that come meanwhile. What the kernel does not know (who has typed what,
who is paused) travels as JSON in an anonymous file whose descriptor number is in the environment.

Before that, the new program and its configuration are tried in a child (`relay.py --check ...`): if
that fails the old program goes on and says why. Signals are blocked across the exec, because until
the new program has its handlers a second SIGHUP would kill it.

Rejected: handing descriptors to a second process over a Unix socket. The PID would change, which
every service manager would have to be told, and for a while two programs would own the sockets.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import IO, Any, NoReturn

from relaylib.loop import Loop

VERSION = 1
"""Of the format below. `--check` fails in a program that cannot read the old one's."""

CHECK_TIMEOUT = 10.0
"""Seconds that the child may take to check the new program and its configuration."""

_STATE_FD = "RELAY_HANDOVER_FD"
_VERSION = "RELAY_HANDOVER_VERSION"


@dataclass(slots=True)
class SubscriberState:
    """A destination; `paused` says whether it stands outside every lane."""

    fd: int
    destination: list[Any]
    paused: bool
    single: bool
    offered: int
    dropped: int
    refused: int


@dataclass(slots=True)
class ViewerState:
    """A control connection. Bytes travel as Latin-1 text, which maps each byte to a character."""

    fd: int
    peer: list[Any]
    state: str
    pending: str
    telnet: int
    output: str
    subscriber: SubscriberState | None


@dataclass(slots=True)
class IngestState:
    """The ingest: its sockets, its owner and its counters."""

    stream_fd: int
    door_fd: int | None
    owner: list[Any] | None
    checked: bool
    can_split: bool
    silent: bool
    received: int
    strangers: int
    overflowed: int
    drops: int
    door_drops: int


@dataclass(slots=True)
class State:
    """Everything that travels."""

    listener_fd: int
    ingest: IngestState
    accepted: int
    viewers: list[ViewerState] = field(default_factory=list)

    def descriptors(self) -> Iterator[int]:
        """Yield every descriptor that has to survive the exec."""
        yield self.listener_fd
        yield self.ingest.stream_fd
        if self.ingest.door_fd is not None:
            yield self.ingest.door_fd
        for viewer in self.viewers:
            yield viewer.fd
            if viewer.subscriber is not None:
                yield viewer.subscriber.fd


def encode(state: State) -> bytes:
    """Make JSON of the state."""
    return json.dumps(asdict(state)).encode()


def decode(data: bytes) -> State:
    """Make a state of JSON that `encode` made, in this program or in its predecessor."""
    raw = json.loads(data)
    raw["ingest"] = IngestState(**raw["ingest"])
    raw["viewers"] = [
        ViewerState(**{**viewer, "subscriber": _subscriber(viewer["subscriber"])})
        for viewer in raw["viewers"]
    ]
    return State(**raw)


def _subscriber(raw: dict[str, Any] | None) -> SubscriberState | None:
    return None if raw is None else SubscriberState(**raw)


def adopt(fd: int) -> socket.socket:
    """Make a non-blocking socket object of an inherited descriptor."""
    os.set_inheritable(fd, False)
    sock = socket.socket(fileno=fd)
    sock.setblocking(False)
    return sock


# --- the new program's side


def compatible() -> bool:
    """Tell whether this program reads what the one that asks (see `Check`) would hand over."""
    return os.environ.get(_VERSION, str(VERSION)) == str(VERSION)


def take() -> State | None:
    """Return what the previous program handed over, or None if there was none."""
    fd = os.environ.pop(_STATE_FD, None)
    if fd is None:
        return None
    with open(int(fd), "rb") as file:
        file.seek(0)
        return decode(file.read())


def unblock_signals() -> None:
    """Let the signals in that the previous program kept away; call it once handlers are set."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)


# --- the old program's side

_SIGNALS = {
    getattr(signal, name) for name in ("SIGHUP", "SIGINT", "SIGTERM") if hasattr(signal, name)
}


def replace_program(state: State) -> NoReturn:
    """Become the new program. Everything that is not in the state ends here.

    Raises:
        OSError: the program could not be started; nothing has changed.
    """
    descriptors = list(state.descriptors())
    with tempfile.TemporaryFile() as file:
        file.write(encode(state))
        file.flush()
        os.environ[_STATE_FD] = str(file.fileno())
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            _inheritable([*descriptors, file.fileno()], True)
            os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
        finally:  # only ever reached by an exception
            _inheritable(descriptors, False)
            unblock_signals()
            del os.environ[_STATE_FD]


def _inheritable(descriptors: list[int], inheritable: bool) -> None:
    for fd in descriptors:
        os.set_inheritable(fd, inheritable)


class Check:
    """Runs the new program with `--check` in a child, and calls `done` with what was wrong.

    That is "" if nothing was. The loop goes on meanwhile.
    """

    def __init__(self, loop: Loop, done: Callable[[str], None]) -> None:
        self._loop = loop
        self._done = done
        self._output = b""
        self._child = subprocess.Popen(
            [sys.executable, *sys.orig_argv[1:], "--check"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, _VERSION: str(VERSION)},
        )
        assert self._child.stdout is not None
        self._pipe: IO[bytes] = self._child.stdout
        os.set_blocking(self._pipe.fileno(), False)
        self._timer = loop.call_later(CHECK_TIMEOUT, self._child.kill)
        loop.watch(self._pipe, self._readable, broken=lambda _error: loop.discard(self._pipe))

    def _readable(self) -> None:
        data = os.read(self._pipe.fileno(), 65536)
        if data:
            self._output = (self._output + data)[-4096:]
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
        lines = self._output.decode(errors="replace").strip().splitlines()
        self._done("" if status == 0 else (lines or [f"exit status {status}"])[-1])
