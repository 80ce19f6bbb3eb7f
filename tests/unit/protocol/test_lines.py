"""Lines out of bytes. Each test reads its bytes whole, byte by byte and with more behind them."""

import itertools
import re
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaylib.errors import LineTooLongError
from relaylib.protocol.lines import MAX_LINE, LineReader, Telnet
from tools.lab.framing import TRAILING, in_every_framing

TOO_LONG = "too long"
IAC, SB, SE, WILL, DO, LINEMODE = 255, 250, 240, 251, 253, 34


def read_with(reader: LineReader, pieces: Iterable[bytes]) -> list[bytes | str]:
    """Feed the pieces; return the lines that came out, and `TOO_LONG` if that ended it."""
    lines = list[bytes | str]()
    try:
        for piece in pieces:
            reader.feed(piece)
            while (line := reader.next_line()) is not None:
                lines.append(line)
    except LineTooLongError:
        lines.append(TOO_LONG)
    return lines


def read(data: bytes) -> list[bytes | str]:
    """Read `data` in every framing."""
    return [*in_every_framing(lambda pieces: read_with(LineReader(), pieces), data)]


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"", []),
        (b"AYUDA", []),
        (b"AYUDA\n", [b"AYUDA"]),
        (b"AYUDA\r\n", [b"AYUDA"]),
        (b"AYUDA\r", []),
        (b"A\rB\n", [b"A\rB"]),
        (b"A\r\r\n", [b"A\r"]),
        (b"\n\r\n \n", [b"", b"", b" "]),
        (b"A\nB\r\nC\nD", [b"A", b"B", b"C"]),
    ],
)
def test_a_line_ends_in_lf_or_crlf(data: bytes, lines: list[bytes]) -> None:
    """Lines end in LF or CRLF, and in nothing else."""
    assert read(data) == lines


@pytest.mark.parametrize("ending", [b"\n", b"\r\n"])
def test_limit_counts_the_line_without_its_ending(ending: bytes) -> None:
    """512 bytes are a line, 513 are one too many, with either ending."""
    assert read(b"x" * MAX_LINE + ending) == [b"x" * 512]
    assert read(b"x" * (MAX_LINE + 1) + ending) == [TOO_LONG]
    assert read(b"A\n" + b"x" * (MAX_LINE + 1) + ending) == [b"A", TOO_LONG]


@pytest.mark.parametrize(
    ("end", "lines"), [(b"", []), (b"\r", []), (b"\rx", [TOO_LONG]), (b"\r\r", [TOO_LONG])]
)
def test_an_endless_line_is_found_before_it_ends(end: bytes, lines: list[str]) -> None:
    """The reader does not wait for an LF once the line can only be too long."""
    data = b"x" * MAX_LINE + end
    assert read_with(LineReader(), [data]) == lines
    assert read_with(LineReader(), (data[i : i + 1] for i in range(len(data)))) == lines
    assert read_with(LineReader(), [data + TRAILING]) == [TOO_LONG]


@pytest.mark.parametrize(
    "sequence",
    [
        bytes([IAC, WILL, LINEMODE]),
        bytes([IAC, WILL + 1, 10]),  # WONT an option whose number is a line feed
        bytes([IAC, DO, 1]),
        bytes([IAC, DO + 1, 13]),
        bytes([IAC, 241]),  # NOP
        bytes([IAC, 244]),  # Interrupt Process: telnet's Ctrl-C
        bytes([IAC, IAC]),  # an escaped 255 is no text either
        bytes([IAC, SB, LINEMODE, 3, 1, IAC, SE]),
        bytes([IAC, SB, 24]) + b"XTERM\nCONECTAR 5004\r\n" + bytes([IAC, SE]),
        bytes([IAC, SB, 39, IAC, IAC, 10, IAC, IAC, SE, IAC, SE]),
        bytes([IAC, DO, 3, IAC, WILL, 24, IAC, WILL, 31]),
    ],
)
def test_telnet_negotiation_is_dropped(sequence: bytes) -> None:
    """IAC sequences vanish wherever they stand and however they are cut, line feeds and all."""
    assert read(sequence) == []
    assert read(sequence + b"AYUDA\r\n") == [b"AYUDA"]
    assert read(b"AYU" + sequence + b"DA\r\n" + sequence) == [b"AYUDA"]
    assert read(b"AYUDA\r" + sequence + b"\n") == [b"AYUDA"]


def test_telnet_bytes_do_not_count_towards_the_limit() -> None:
    """A line of 512 bytes with negotiation inside is still a line."""
    assert read(b"x" * 500 + bytes([IAC, WILL, 1]) * 20 + b"x" * 12 + b"\n") == [b"x" * 512]


# --- anything at all

_TELNET = re.compile(
    rb"\xff(?:\xfa(?:[^\xff]|\xff[^\xf0])*(?:\xff\xf0|\xff?\Z)|[\xfb-\xfe](?:.|\Z)|.|\Z)", re.DOTALL
)
JUNK = st.lists(
    st.one_of(
        st.binary(max_size=8),
        st.sampled_from([b"\n", b"\r\n", b"\xff", b"\xff\xfa", b"\xff\xf0", b"x" * 300, b" "]),
    ),
    max_size=30,
).map(b"".join)


def expected_lines(data: bytes) -> list[bytes | str]:
    """Read the lines by other means than the reader's: patterns over the whole input."""
    *lines, rest = [line.removesuffix(b"\r") for line in _TELNET.sub(b"", data).split(b"\n")]
    found = list[bytes | str](itertools.takewhile(lambda line: len(line) <= MAX_LINE, lines))
    too_long = len(found) < len(lines) or len(rest) > MAX_LINE
    return [*found, TOO_LONG] if too_long else found


@given(data=JUNK, cuts=st.lists(st.integers(0, 2000), max_size=12))
def test_any_bytes_in_any_pieces(data: bytes, cuts: list[int]) -> None:
    """Whatever arrives, however it is cut, the lines are those that the protocol says.

    Also if at each cut another reader goes on with what the last one remembered.
    """
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    pieces = [data[start:end] for start, end in itertools.pairwise(edges)]
    expected = expected_lines(data)
    assert read_with(LineReader(), [data]) == expected
    assert read_with(LineReader(), pieces) == expected
    reader, found = LineReader(), list[bytes | str]()
    for piece in pieces:
        found += read_with(reader, [piece])
        if TOO_LONG in found:
            break
        reader = LineReader(reader.pending, Telnet(reader.telnet.value))
    assert found == expected
