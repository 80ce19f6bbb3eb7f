"""What travels from the old program to the new one when the relay restarts in place.

The sockets stay open and the kernel's buffers hold what comes meanwhile; see `restart`. What the
kernel does not know (who has typed what, who is paused) is the state. Each part has a dataclass for
its own beside it (`ViewerState`, `OutputState`, `IngestState`); here they are put together.

A state is decoded to its last value before the old program lets go (`relay.py --check`), so what
the new program would not understand is known while there is still a way back.
"""

import dataclasses
import json
import os
import sys
import tempfile
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

from relaylib.errors import SetupError
from relaylib.lifecycle import codec
from relaylib.net.descriptors import Descriptor
from relaylib.stream.ingest import IngestState
from relaylib.viewers.viewer import ViewerState

VERSION = 3
"""Of what the state below means. A program takes over no state of another version."""

STATE_FD = "RELAY_HANDOVER_FD"
"""The environment's name for the descriptor of the file that holds the state."""


@dataclass(slots=True)
class State:
    """Everything that travels.

    `asked` is the host, port and ingest port that the sockets were opened for, `declined` counts
    the connections and commands that were not admitted, by kind.
    """

    listener: Descriptor
    asked: tuple[str, int, int | None]
    ingest: IngestState
    accepted: int
    declined: dict[str, int]
    viewers: list[ViewerState]


def encode(state: State) -> bytes:
    """Make JSON of the state."""
    return codec.encode({"version": VERSION, "state": state})


def decode(data: bytes) -> State:
    """Make a state of JSON that `encode` made, in this program or in its predecessor.

    Raises:
        SetupError: it is not what this program understands.
    """
    try:
        raw = json.loads(data)
        if raw["version"] == VERSION:
            state: State = codec.read(State, raw["state"])
            return state
        reason = f"its state is of version {raw['version']}, not {VERSION}"
    except (KeyError, TypeError, ValueError) as error:
        reason = str(error)
    raise SetupError(f"cannot take over from the running relay: {reason}")


def descriptors(value: Any, kind: Any = State) -> Iterator[Descriptor]:
    """Yield every descriptor in a state: each has to survive the exec."""
    if kind is Descriptor:
        yield value
    elif isinstance(kind, type) and dataclasses.is_dataclass(kind):
        for name, hint in codec.fields(kind).items():
            yield from descriptors(getattr(value, name), hint)
    elif typing.get_origin(kind) is list:
        for each in value:
            yield from descriptors(each, typing.get_args(kind)[0])
    elif typing.get_origin(kind) in codec.UNIONS and value is not None:
        yield from descriptors(value, typing.get_args(kind)[0])


def write(state: State) -> IO[bytes]:
    """Write a state to a file without a name; in memory where possible, as no disk is so free."""
    file: IO[bytes]
    if hasattr(os, "memfd_create"):
        file = open(os.memfd_create("relay-state"), "w+b")  # noqa: SIM115 - the caller closes it
    else:
        file = tempfile.TemporaryFile()  # noqa: SIM115
    file.write(encode(state))
    file.flush()
    return file


def next_program(state: IO[bytes], *options: str) -> tuple[list[str], dict[str, str]]:
    """Return the command and the environment that start a program which takes over.

    The command is the one that started this program, with more options before its own.
    """
    words = [sys.executable, *sys.orig_argv[1:]]
    first = len(words) - len(sys.argv[1:])
    command = [*words[:first], *options, *words[first:]]
    return command, {**os.environ, STATE_FD: str(state.fileno())}


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
