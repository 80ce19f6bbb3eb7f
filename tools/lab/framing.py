"""Bytes cut up in different ways, which must make no difference to whoever reads them."""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

T = TypeVar("T")

TRAILING = b"resto"
"""The beginning of a line that never ends."""


def in_every_framing(read: Callable[[Iterable[bytes]], Sequence[T]], data: bytes) -> Sequence[T]:
    """Read `data` whole, byte by byte, and with more behind it; return what all three agree on."""
    whole = read([data])
    assert read(data[i : i + 1] for i in range(len(data))) == whole
    assert read([data + TRAILING]) == whole
    return whole
