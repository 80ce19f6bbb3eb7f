"""What travels from the old program to the new one when the relay restarts in place.

The sockets stay open and the kernel's buffers hold what comes meanwhile; see `restart`. What the
kernel does not know (who has typed what, who is paused) is the state. Each part describes its own
with a dataclass beside it (`ViewerState`, `OutputState`, `IngestState`); here they are put together
and turned into JSON and back, guided by the types of their fields alone. JSON, because the two
programs may be of different ages: pickled objects would tie one's classes to the other's.

A state is decoded to its last value before the old program lets go (`relay.py --check`), so what
the new program would not understand is known while there is still a way back.
"""

import dataclasses
import functools
import json
import os
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

from relaylib.errors import SetupError
from relaylib.net.descriptors import Descriptor
from relaylib.stream.ingest import IngestState
from relaylib.viewers.viewer import ViewerState

VERSION = 3
"""Of what the state below means. A program refuses a state of another version."""

STATE_FD = "RELAY_HANDOVER_FD"
"""The environment's name for the descriptor of the file that holds the state."""

_OPTIONAL = (types.UnionType, typing.Union)
"""What `X | None` is, by whether X is a class or a `NewType`."""


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
    """Make JSON of the state. Bytes become Latin-1 text, which maps each byte to a character."""
    return json.dumps({"version": VERSION, "state": state}, default=_plain).encode()


def _plain(value: Any) -> Any:
    """Make of a value what JSON knows. (`dataclasses.asdict` copies deeply: five times slower.)"""
    match value:
        case bytes() | bytearray():
            return value.decode("latin-1")
        case Enum():
            return value.value
    return {name: getattr(value, name) for name in value.__slots__}


def decode(data: bytes) -> State:
    """Make a state of JSON that `encode` made, in this program or in its predecessor.

    Raises:
        SetupError: it is not what this program understands.
    """
    try:
        raw = json.loads(data)
        _check_version(raw["version"])
        state: State = _read(State, raw["state"])
    except (KeyError, TypeError, ValueError) as error:
        raise SetupError(f"cannot take over from the running relay: {error}") from None
    return state


def _check_version(version: Any) -> None:
    if version != VERSION:
        raise ValueError(f"its state is of version {version}, not {VERSION}")


def _read(kind: Any, raw: Any) -> Any:  # noqa: PLR0911 - one line a kind
    """Make a value of type `kind`.

    Raises:
        TypeError, ValueError: it cannot be one.
    """
    origin, of = typing.get_origin(kind), typing.get_args(kind)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return _read_fields(kind, raw)
    if origin in _OPTIONAL:
        return None if raw is None else _read(of[0], raw)
    if origin is list:
        return [_read(of[0], each) for each in _checked(list, raw)]
    if origin is dict:
        return {_read(of[0], key): _read(of[1], raw[key]) for key in _checked(dict, raw)}
    if origin is tuple:
        kinds = of[:1] * len(_checked(list, raw)) if of[-1] is Ellipsis else of
        return tuple(_read(each, value) for each, value in zip(kinds, raw, strict=True))
    if kind is bytes:
        return _checked(str, raw).encode("latin-1")
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind(raw)
    return _checked(kind, raw)


def _read_fields(kind: type, raw: Any) -> Any:
    hints = _hints(kind)
    if _checked(dict, raw).keys() != hints.keys():
        odd = ", ".join(sorted(raw.keys() ^ hints.keys()))
        raise ValueError(f"{kind.__name__} does not fit: {odd}")
    return kind(**{name: _read(hint, raw[name]) for name, hint in hints.items()})


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _checked(kind: Any, raw: Any) -> Any:
    kind = getattr(kind, "__supertype__", kind)
    if kind is not Any and type(raw) is not kind and not (kind is float and type(raw) is int):
        raise TypeError(f"{raw!r} is not of type {kind.__name__}")
    return raw


def descriptors(value: Any, kind: Any = State) -> Iterator[Descriptor]:
    """Yield every descriptor in a state: each has to survive the exec."""
    if kind is Descriptor:
        yield value
    elif isinstance(kind, type) and dataclasses.is_dataclass(kind):
        for name, hint in _hints(kind).items():
            yield from descriptors(getattr(value, name), hint)
    elif typing.get_origin(kind) in _OPTIONAL and value is not None:
        yield from descriptors(value, typing.get_args(kind)[0])
    elif typing.get_origin(kind) is list:
        for each in value:
            yield from descriptors(each, typing.get_args(kind)[0])


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
