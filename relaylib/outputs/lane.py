"""Outputs that are sent to in the same way, in the order in which they are sent to.

The order matters where the relay's own link cannot carry all datagrams: its queue takes those that
come first and drops the rest. So the first output of each host comes before the second output of
any host: otherwise a host with many outputs would leave no room for hosts with one. Each run begins
one place further on, so that the losses are shared. Rejected: one order for all outputs, rotated: a
host with 64 outputs would take 64 shares. Pure.
"""

from collections import deque
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar


class _Hosted(Protocol):
    @property
    def host(self) -> str: ...


T = TypeVar("T", bound=_Hosted)


class Lane(Generic[T]):
    """Some outputs: the `first` of each host, and the `rest`."""

    __slots__ = ("_first_of", "first", "rest")

    def __init__(self) -> None:
        self.first: deque[T] = deque()
        self.rest: deque[T] = deque()
        self._first_of: dict[str, T] = {}

    def __iter__(self) -> Iterator[T]:
        yield from self.first
        yield from self.rest

    def __len__(self) -> int:
        return len(self.first) + len(self.rest)

    def rotate(self) -> None:
        """Let the next run begin one output further on."""
        self.first.rotate(-1)
        self.rest.rotate(-1)

    def add(self, output: T) -> None:
        """Add an output, at the end."""
        if self._first_of.setdefault(output.host, output) is output:
            self.first.append(output)
        else:
            self.rest.append(output)

    def remove(self, output: T) -> None:
        """Remove an output; if it was its host's first, the host's next one takes its place."""
        if self._first_of[output.host] is not output:
            self.rest.remove(output)
            return
        self.first.remove(output)
        del self._first_of[output.host]
        follower = next((each for each in self.rest if each.host == output.host), None)
        if follower is not None:
            self.rest.remove(follower)
            self.add(follower)
