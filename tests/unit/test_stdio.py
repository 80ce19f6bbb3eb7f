"""Writing that never waits: on a terminal, a pipe, a FIFO or a socket that nobody reads."""

import contextlib
import os
import pty
import signal
import socket
import tty
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from relaylib import stdio
from relaylib.stdio import DescriptorWriter, say
from tools.lab.process import PATIENCE

LINE = b"x" * 99 + b"\n"


class Ends(NamedTuple):
    """What is written on, and where it comes out."""

    writer: int
    reader: int


def terminal(_path: Path) -> Ends:
    """A terminal that passes bytes on as they are."""
    master, slave = pty.openpty()
    tty.setraw(slave)
    return Ends(slave, master)


def pipe(_path: Path) -> Ends:
    """A pipe."""
    reader, writer = os.pipe()
    return Ends(writer, reader)


def fifo(path: Path) -> Ends:
    """A pipe that has a name."""
    os.mkfifo(path / "fifo")
    reader = os.open(path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    return Ends(os.open(path / "fifo", os.O_WRONLY), reader)


def stream_socket(_path: Path) -> Ends:
    """A socket such as journald's."""
    return Ends(*(sock.detach() for sock in socket.socketpair()))


def master(_path: Path) -> Ends:
    """The side of a terminal that has no name to open it by."""
    return Ends(*reversed(terminal(_path)))


KINDS = [terminal, pipe, fifo, stream_socket, master]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def ends(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ends]:
    """Both ends of each kind; a write that waits is a failure."""

    def fail(_signum: int, _frame: object) -> None:
        raise AssertionError("it waits")

    both = request.param(tmp_path)
    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(int(PATIENCE))
    try:
        yield both
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        for end in both:
            with contextlib.suppress(OSError):
                os.close(end)


@pytest.fixture(params=["opened anew", "not to be opened"])
def opening(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With and without the permission to open the descriptor's file once more."""

    def denied(_fd: int) -> int:
        raise PermissionError

    if request.param == "not to be opened":
        monkeypatch.setattr(stdio, "_open_anew", denied)


def fill(write: Callable[[bytes], bool], line: bytes = LINE) -> int:
    """Write until there is no room; return how many lines were taken."""
    for count in range(1_000_000):
        if not write(line):
            return count
    raise AssertionError("there is no end to the room")


def drain(fd: int) -> bytes:
    """Read all that is there."""
    data = b""
    os.set_blocking(fd, False)
    with contextlib.suppress(BlockingIOError):
        while piece := os.read(fd, 1 << 16):
            data += piece
    os.set_blocking(fd, True)
    return data


@pytest.mark.usefixtures("opening")
def test_nobody_reads(ends: Ends) -> None:
    """A line for which there is no room is not written; none is cut, and none lost in between.

    For whoever shares the descriptor, it blocks as before.
    """
    with contextlib.closing(DescriptorWriter(ends.writer)) as writer:
        taken = fill(writer.write)
        assert taken > 0
        assert not writer.write(LINE)
        assert os.get_blocking(ends.writer)
        data = drain(ends.reader)
        assert writer.write(b"now\n")
        data += drain(ends.reader)
        assert data == LINE * taken + b"now\n"


def test_somebody_else_fills_it(ends: Ends) -> None:
    """Room that another program has taken costs a line, too, and no time."""
    with contextlib.closing(DescriptorWriter(ends.writer)) as writer:
        assert writer.write(LINE)
        os.set_blocking(ends.writer, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(ends.writer, b"y")
        os.set_blocking(ends.writer, True)
        assert not writer.write(LINE)
        assert b"x" not in drain(ends.reader).replace(LINE, b"", 1)


def test_it_gives_back_what_it_opened(ends: Ends) -> None:
    """A text for a person takes no descriptor for longer than it is written."""
    before = os.listdir("/proc/self/fd")
    say("hola\n", ends.writer)
    assert os.listdir("/proc/self/fd") == before
    assert drain(ends.reader) == b"hola\n"


def test_a_file_goes_on_at_its_end(tmp_path: Path) -> None:
    """A file is not opened anew, which would write over what others have written."""
    with (tmp_path / "log").open("wb") as file:
        file.write(b"before\n")
        file.flush()
        writer = DescriptorWriter(file.fileno())
        assert writer.write(b"line\n")
        file.write(b"after\n")
    assert (tmp_path / "log").read_bytes() == b"before\nline\nafter\n"
