"""What travels from the old program to the new one when the relay restarts in place.

The sockets stay open and the kernel's buffers hold what comes meanwhile; see `restart`. What the
kernel does not know (who has typed what, who is paused) is here. It travels as JSON, because the
two programs may be of different ages: pickled objects would tie one's classes to the other's.
"""

import json
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from relaylib.errors import SetupError

VERSION = 2
"""Of what the state below means. A program refuses a state of another version."""

STATE_FD = "RELAY_HANDOVER_FD"
"""The environment's name for the descriptor of the file that holds the state."""


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
    """A control connection. Bytes travel as Latin-1 text, which maps each byte to a character.

    `closing` is the reason why it is being closed, if it is.
    """

    fd: int
    peer: list[Any]
    state: str
    pending: str
    telnet: int
    output: str
    closing: str
    subscriber: SubscriberState | None


@dataclass(slots=True)
class IngestState:
    """The ingest: its sockets, its owner and its counters.

    `last` is when the last datagram came, by the monotonic clock, which all processes share.
    """

    stream_fd: int
    door_fd: int | None
    owner: list[Any] | None
    checked: bool
    can_split: bool
    silent: bool
    last: float
    received: int
    strangers: int
    overflowed: int
    drops: int
    door_drops: int


@dataclass(slots=True)
class State:
    """Everything that travels.

    `asked` is the host, port and ingest port that the sockets were opened for, `refused` counts the
    connections and commands that were not admitted, by kind.
    """

    listener_fd: int
    asked: list[Any]
    ingest: IngestState
    accepted: int
    refused: dict[str, int]
    viewers: list[ViewerState] = field(default_factory=list)
    version: int = VERSION

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
    return json.dumps(state, default=_fields).encode()


def _fields(state: Any) -> dict[str, Any]:
    """Like `dataclasses.asdict`, which copies everything deeply and so takes five times longer."""
    return {name: getattr(state, name) for name in state.__slots__}


def decode(data: bytes) -> State:
    """Make a state of JSON that `encode` made, in this program or in its predecessor.

    Raises:
        SetupError: it is not what this program understands.
    """
    try:
        raw = json.loads(data)
        if raw["version"] == VERSION:
            return _state(raw)
        reason = f"its state is of version {raw['version']}, not {VERSION}"
    except (KeyError, TypeError, ValueError) as error:
        reason = str(error)
    raise SetupError(f"cannot take over from the running relay: {reason}")


def _state(raw: dict[str, Any]) -> State:
    ingest = IngestState(**raw["ingest"])
    return State(**{**raw, "ingest": ingest, "viewers": [_viewer(each) for each in raw["viewers"]]})


def _viewer(raw: dict[str, Any]) -> ViewerState:
    subscriber = None if raw["subscriber"] is None else SubscriberState(**raw["subscriber"])
    return ViewerState(**{**raw, "subscriber": subscriber})


def take() -> State | None:
    """Return what the previous program handed over, or None if there was none.

    Raises:
        SetupError: this program cannot go on from there.
    """
    fd = os.environ.pop(STATE_FD, None)
    if fd is None:
        return None
    with open(int(fd), "rb") as file:
        file.seek(0)
        return decode(file.read())


def adopt(fd: int) -> socket.socket:
    """Make a non-blocking socket object of an inherited descriptor."""
    os.set_inheritable(fd, False)
    sock = socket.socket(fileno=fd)
    sock.setblocking(False)
    return sock
