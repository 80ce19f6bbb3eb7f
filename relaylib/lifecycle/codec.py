"""Dataclasses and named tuples to JSON and back, guided by the types of their fields alone.

JSON, because a reload joins two programs of different ages: pickled objects would tie one's
classes to the other's. Reading is strict, down to the last value: what a field's type does not
allow is an error, never something half understood. `Annotated[int, check]` says in a type what an
`int` cannot: `check` is called with the value and tells whether it may be one. A field that is
missing takes its default, if it has one: so a program takes over from an older one.

A type is turned into a function once, because a thousand viewers make forty thousand values, and
the stream waits meanwhile.
"""

import dataclasses
import functools
import json
import types
import typing
from collections.abc import Callable
from enum import Enum
from typing import Annotated, Any

Reader = Callable[[Any], Any]
"""Makes a value of what JSON has for it; TypeError or ValueError if it cannot be one."""

UNIONS = (types.UnionType, typing.Union)
"""What `X | Y` is: the one for classes, the other for what only looks like a class."""


def encode(value: object) -> bytes:
    """Make JSON of dataclasses. Bytes become Latin-1 text, which has a character for each."""
    return json.dumps(value, default=_plain).encode()


def read(kind: Any, raw: Any) -> Any:
    """Make a value of type `kind` of what `json.loads` returned.

    Raises:
        TypeError, ValueError: it is not what `encode` makes of one.
    """
    return _reader(kind)(raw)


def fields(kind: type) -> dict[str, Any]:
    """Return the types of a dataclass's fields."""
    return typing.get_type_hints(kind, include_extras=True)


def _plain(value: Any) -> Any:
    """Make of a value what JSON knows. (`dataclasses.asdict` copies deeply: five times slower.)"""
    match value:
        case bytes():
            return value.decode("latin-1")
        case Enum():
            return value.value
    return {name: getattr(value, name) for name in value.__slots__}


@functools.cache
def _reader(kind: Any) -> Reader:  # noqa: C901, PLR0911 - one line a kind
    origin, of = typing.get_origin(kind), typing.get_args(kind)
    if isinstance(kind, typing.NewType):
        return _reader(kind.__supertype__)
    if dataclasses.is_dataclass(kind):
        return _read_fields(typing.cast(type, kind))
    if origin is Annotated:
        return _read_checked(_reader(of[0]), of[1])
    if origin in UNIONS:
        return _read_one_of({_shape(each): _reader(each) for each in of})
    if origin is tuple:
        return _read_tuple([_reader(each) for each in of])
    if issubclass(origin or kind, tuple):  # a named one
        each_of = _read_tuple([_reader(each) for each in fields(kind).values()])
        return lambda raw: kind(*each_of(raw))
    if origin is list:
        plain, each = _read_plain(list), _reader(of[0])
        return lambda raw: [each(value) for value in plain(raw)]
    if origin is dict:
        plain, key, value = _read_plain(dict), _reader(of[0]), _reader(of[1])
        return lambda raw: {key(name): value(item) for name, item in plain(raw).items()}
    if kind is bytes:
        text = _read_plain(str)
        return lambda raw: text(raw).encode("latin-1")
    if issubclass(kind, Enum):
        return typing.cast(Reader, kind)
    return _read_plain(kind)


def _read_plain(kind: type) -> Reader:
    kinds = (float, int) if kind is float else (kind,)

    def read(raw: Any) -> Any:
        if type(raw) not in kinds:
            raise TypeError(f"{raw!r} is not of type {kind.__name__}")
        return raw

    return read


def _read_checked(reader: Reader, check: Callable[[Any], bool]) -> Reader:
    def read(raw: Any) -> Any:
        value = reader(raw)
        if not check(value):
            raise ValueError(f"{value!r} is out of range")
        return value

    return read


def _read_fields(kind: type) -> Reader:
    readers = {name: _reader(hint) for name, hint in fields(kind).items()}
    required = {
        field.name
        for field in dataclasses.fields(typing.cast(Any, kind))
        if field.default is field.default_factory is dataclasses.MISSING
    }

    def read(raw: Any) -> Any:
        if type(raw) is not dict or not required <= raw.keys() <= readers.keys():
            odd = (
                sorted((raw.keys() - readers.keys()) | (required - raw.keys()))
                if isinstance(raw, dict)
                else raw
            )
            raise ValueError(f"{kind.__name__} does not fit: {odd}")
        values = {}
        for name, value in raw.items():
            try:
                values[name] = readers[name](value)
            except (TypeError, ValueError) as error:
                raise ValueError(f"{name}: {error}") from None
        return kind(**values)

    return read


def _read_tuple(readers: list[Reader]) -> Reader:
    plain = _read_plain(list)

    def read(raw: Any) -> Any:
        return tuple([reader(value) for reader, value in zip(readers, plain(raw), strict=True)])

    return read


def _read_one_of(readers: dict[object, Reader]) -> Reader:
    def read(raw: Any) -> Any:
        reader = readers.get(len(raw) if type(raw) is list else type(raw))
        if reader is None:
            raise TypeError(f"{raw!r} is of no type that may stand here")
        return reader(raw)

    return read


def _shape(kind: Any) -> object:
    """Tell a union's types apart by what JSON has for them: tuples by their length."""
    origin, of = typing.get_origin(kind), typing.get_args(kind)
    if isinstance(kind, typing.NewType):
        return _shape(kind.__supertype__)
    if origin is Annotated:
        return _shape(of[0])
    if origin is tuple:
        return len(of)
    return dict if dataclasses.is_dataclass(kind) else kind
