"""Arbitrary bytes, in arbitrary pieces, into the real relay: it answers what must be answered.

What the control protocol says about lines, Telnet sequences and endings is written here once more,
in a way that cannot share a mistake with the relay's parser: as patterns over the whole input.
"""

import itertools
import re
import socket
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tools.lab.process import PATIENCE
from tools.lab.relay import RelayProcess
from tools.lab.sockets import source
from tools.lab.viewer import TestViewer

MAX_LINE = 512
TELNET = re.compile(
    rb"\xff(?:\xfa(?:[^\xff]|\xff[^\xf0])*(?:\xff\xf0|\xff?\Z)|[\xfb-\xfe]?.?)", re.S
)
"""A Telnet sequence (RFC 854): subnegotiation, option, or command; the last one may be cut off."""

words = st.sampled_from(
    [b"ESTADO", b"AYUDA", b"CONECTAR", b"CONECTAR 80", b"DESCONECTAR", b"INTERRUMPIR", b"hola"]
)
telnet = st.sampled_from(
    [b"\xff\xfb\x01", b"\xff\xfa\x18\x00a\nb\xff\xf0", b"\xff\xf1", b"\xff\xfa"]
)
pieces = st.one_of(
    words,
    words.map(bytes.lower),
    st.sampled_from([b"\n", b"\r\n", b"\n\n", b" ", b"\x00", b"\xff", b"\xff\xff"]),
    telnet,
    st.binary(max_size=20),
    st.integers(500, 530).map(lambda length: b"A" * length),
)
inputs = st.lists(pieces, max_size=30).map(b"".join)


class Expected(NamedTuple):
    """How many replies some input gets, and whether the relay then closes by itself."""

    replies: int
    closes: bool


def expect(data: bytes) -> Expected:
    """Say what the protocol demands for this input, if it is all that the client sends."""
    *lines, rest = TELNET.sub(b"", data).split(b"\n")
    replies = 0
    for line in lines:
        if len(line.removesuffix(b"\r")) > MAX_LINE:
            return Expected(replies + 1, closes=True)
        replies += bool(line.strip(b" \t\r\n\v\f"))
        if line.isascii() and line.decode().upper().split() == ["DESCONECTAR"]:
            return Expected(replies, closes=True)
    if len(rest.removesuffix(b"\r")) > MAX_LINE:
        return Expected(replies + 1, closes=True)
    return Expected(replies, closes=False)


def exchange(relay: RelayProcess, data: bytes, cuts: list[int]) -> list[bytes]:
    """Send the data in pieces, then the end; return the lines that came back."""
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    with socket.create_connection((relay.host, relay.port), PATIENCE) as control:
        control.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start, end in itertools.pairwise(edges):
            control.sendall(data[start:end])
        control.shutdown(socket.SHUT_WR)
        with control.makefile("rb") as replies:
            return replies.readlines()


@settings(max_examples=150)
@given(inputs, st.lists(st.integers(0, 2000), max_size=8))
@example(b"\xff\xfa\xff\xff\xf0\nESTADO\n\xff\xf0ESTADO\n", [])
@example(b"A" * 512 + b"\r\n", [512, 513])
@example(b"A" * 513, [])
@example(b"ESTADO\n" * 200, [])
@example(b"\x1c\n\x85\nESTADO\xff\n\n", [])
def test_every_line_gets_its_reply(
    shared_relay: RelayProcess, data: bytes, cuts: list[int]
) -> None:
    """Any bytes, however cut up, get one reply a line, as many as the protocol demands."""
    lines = exchange(shared_relay, data, cuts)
    assert len(lines) == expect(data).replies
    assert all(re.fullmatch(rb"(OK|ERROR )[ -~]*\n", line) for line in lines)


@pytest.fixture(scope="module", autouse=True)
def unharmed(shared_relay: RelayProcess) -> Iterator[None]:
    """After all that the relay has met no bug, and still serves."""
    yield
    with TestViewer(shared_relay.port) as viewer:
        assert viewer.command("ESTADO").startswith("OK estado=inactivo")
    assert shared_relay.events("bug") == []


class Line(NamedTuple):
    """A source that has the ingest, and a viewer."""

    sender: socket.socket
    viewer: TestViewer


@pytest.fixture(scope="module", params=[(), ("--no-segmentation",)], ids=["segmented", "plain"])
def line(request: pytest.FixtureRequest) -> Iterator[Line]:
    """A relay, a source and a viewer, on both paths."""
    options = ("--source-timeout", "60", *request.param)  # a busy machine is silent for a while
    with RelayProcess(*options) as relay, source(relay.ingest_port) as sender:
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
        with TestViewer(relay.port) as viewer:
            viewer.subscribe()
            yield Line(sender, viewer)
        assert relay.events("bug") == []


sizes = st.one_of(st.integers(0, 3), st.integers(1, 3000), st.sampled_from([1316, 1328, 65507]))


@settings(max_examples=60)
@given(st.lists(st.tuples(sizes, st.binary(min_size=1, max_size=8)), max_size=40))
@example([(1316, b"a")] * 49 + [(7, b"b")] + [(1316, b"c")] * 20)
@example([(1, b"a"), (65507, b"b"), (0, b"c"), (65507, b"d"), (1, b"e")])
def test_every_datagram_arrives(line: Line, datagrams: list[tuple[int, bytes]]) -> None:
    """Any datagrams, of any sizes and contents, reach the viewer as they are and in order."""
    sent = [(fill * (size // len(fill) + 1))[:size] for size, fill in datagrams]
    for datagram in sent:
        line.sender.send(datagram)
    expected = [datagram for datagram in sent if datagram]
    assert line.viewer.receive_all(len(expected)) == expected


@settings(max_examples=60)
@given(st.lists(st.binary(max_size=1500), max_size=20))
def test_what_strangers_send_goes_nowhere(line: Line, garbage: list[bytes]) -> None:
    """Whatever anybody else sends to the ingest, the viewer gets the active source's alone."""
    with source(line.sender.getpeername()[1]) as stranger:
        for datagram in garbage:
            stranger.send(datagram)
    line.sender.send(b"the source's")
    assert line.viewer.receive() == b"the source's"
