"""What travels from the old program to the new one when the relay reloads.

The sockets stay open and the kernel's buffers hold what comes meanwhile; see `reload`. The state is
what the kernel does not know: half-typed lines, paused sessions. Each part has a dataclass of its
own beside it (`ViewerState`, `OutputState`, `IngestState`); here they are put together.

A state is decoded to its last value before the old program lets go (`relay.py --check`), so what
the new program would not understand is known while there is still a way back.
"""

import dataclasses
import json
import os
import stat
import sys
import tempfile
import typing
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, Any

from relaylib.channel import ChannelState
from relaylib.config import Asked
from relaylib.errors import SetupError
from relaylib.lifecycle import codec
from relaylib.lifecycle.stand_in import StandInState
from relaylib.lifecycle.upgrade import upgraded
from relaylib.net.descriptors import NO_DESCRIPTOR, Descriptor
from relaylib.viewers.viewer import ViewerState
from relaylib.web.state import SiteState

VERSION = 4
"""Version of the state below. A program takes over no state of another version but `_FLAT`."""

_FLAT = 3
"""The version before; see `upgrade`."""

STATE_FD = "RELAY_HANDOVER_FD"
"""The environment's name for the descriptor of the file that holds the state."""


@dataclass(slots=True)
class RelayState:
    """Everything that travels.

    `asked` is the host, port and ingest that the sockets were opened for, `declined` counts
    the connections and commands that were not admitted, by kind. `argv` is the command line as it
    was checked, with the words of the files of options in their place; empty if it is to be read.
    A field that comes new has a default, for a state that an older program hands over.
    """

    listener: Descriptor
    asked: Asked
    channel: ChannelState
    accepted: int
    declined: dict[str, int]
    viewers: list[ViewerState]
    argv: list[str] = field(default_factory=list)
    stand_in: StandInState | None = None
    site: SiteState | None = None


def encode(state: RelayState) -> bytes:
    """Make JSON of the state."""
    return codec.encode({"version": VERSION, "state": state})


def decode(data: bytes) -> RelayState:
    """Make a state of JSON that `encode` made, in this program or in its predecessor.

    Raises:
        SetupError: it is not what this program understands.
    """
    try:
        raw = json.loads(data)
        if raw["version"] == _FLAT:
            raw = {"version": VERSION, "state": upgraded(raw["state"])}
        if raw["version"] == VERSION:
            state: RelayState = codec.read(RelayState, raw["state"])
            return state
        reason = f"its state is of version {raw['version']}, not {VERSION}"
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        reason = str(error)
    raise SetupError(f"cannot take over from the running relay: {reason}")


def descriptors(value: Any, kind: Any = RelayState) -> Iterator[Descriptor]:
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


def write(state: RelayState) -> IO[bytes]:
    """Write a state to a file without a name; in memory where possible: a disk may be full.

    Raises:
        OSError: there is no room for it, or no descriptor.
    """
    file = _nameless_file()
    file.write(encode(state))
    file.flush()
    return file


def _nameless_file() -> IO[bytes]:
    try:
        return open(os.memfd_create("relay-state"), "w+b")
    except AttributeError:  # another system
        pass
    except OSError as error:  # forbidden (seccomp(2)), or missing in the kernel
        if error.errno in NO_DESCRIPTOR:
            raise
    return tempfile.TemporaryFile()


def next_program(state: IO[bytes], *options: str) -> tuple[list[str], dict[str, str]]:
    """Return the command and the environment that start a program which takes over.

    The command is the one that started this program, with more options before its own.
    """
    command = [*own_command(), *options, *sys.argv[1:]]
    return command, {**os.environ, STATE_FD: str(state.fileno())}


def own_command() -> list[str]:
    """Return the command that started this program, without its options."""
    words = [sys.executable, *sys.orig_argv[1:]]
    return words[: len(words) - len(sys.argv[1:])]


def take() -> RelayState | None:
    """Return what the previous program handed over, or None if there was none.

    Raises:
        SetupError: this program cannot go on from there.
    """
    text = os.environ.pop(STATE_FD, None)
    if text is None:
        return None
    with open(_state_descriptor(text), "rb") as file:
        file.seek(0)
        return decode(file.read())


def _state_descriptor(text: str) -> int:
    """Read what `STATE_FD` says.

    To start afresh instead would not help: the ports would still be held by sockets that this
    process has, and knows nothing of.
    """
    try:
        if (fd := int(text)) > 2 and stat.S_ISREG(os.fstat(fd).st_mode):
            return fd
    except (ValueError, OverflowError, OSError):
        pass
    raise SetupError(f"cannot take over from the running relay: {STATE_FD}={text} names no file")
