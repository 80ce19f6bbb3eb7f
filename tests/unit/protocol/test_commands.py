"""The control protocol's bytes, apart from any socket.

Every line goes through `read`, which feeds it whole, byte by byte and with more after it, and fails
unless all three agree.
"""

import itertools
import re
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaylib.errors import BadCommandError, LineTooLongError, PeerError
from relaylib.protocol import commands
from relaylib.protocol.commands import Request, Verb
from relaylib.protocol.lines import MAX_LINE, LineReader

TOO_LONG = "too long"
IAC, SB, SE, WILL, DO, LINEMODE = 255, 250, 240, 251, 253, 34


def feed(pieces: Iterable[bytes]) -> tuple[list[bytes | str], LineReader]:
    """Feed the pieces; return the lines that came out, and `TOO_LONG` if that ended it."""
    reader, lines = LineReader(), list[bytes | str]()
    try:
        for piece in pieces:
            reader.feed(piece)
            while (line := reader.next_line()) is not None:
                lines.append(line)
    except LineTooLongError:
        lines.append(TOO_LONG)
    return lines, reader


def read(data: bytes) -> list[bytes | str]:
    """Read `data` in three framings that must agree."""
    whole, reader = feed([data])
    assert feed(data[i : i + 1] for i in range(len(data)))[0] == whole
    if TOO_LONG not in whole and len(reader.pending) < MAX_LINE - 5:
        trailing, after = feed([data + b"resto"])
        assert (trailing, after.pending) == (whole, reader.pending + b"resto")
    return whole


def requests(data: bytes) -> list[Request | str]:
    """Parse every line of `data`; a refusal is represented by its reason."""
    found = list[Request | str]()
    for line in read(data):
        assert isinstance(line, bytes)
        try:
            request = commands.parse(line)
        except BadCommandError as error:
            found.append(str(error))
        else:
            found.extend([request] if request else [])
    return found


# --- lines


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


def test_an_endless_line_is_refused_before_it_ends() -> None:
    """The reader does not wait for an LF once the line can only be too long."""
    assert read(b"x" * 512) == []
    assert read(b"x" * 512 + b"\r") == []
    assert read(b"x" * 512 + b"\rx") == [TOO_LONG]
    assert read(b"x" * 512 + b"\r\r") == [TOO_LONG]
    assert read(b"x" * 513) == [TOO_LONG]


def test_reading_goes_on_from_what_was_pending() -> None:
    """A reader made with half a line completes it."""
    reader = LineReader(b"CONEC")
    reader.feed(b"TAR 5004\nAYU")
    assert reader.next_line() == b"CONECTAR 5004"
    assert reader.next_line() is None
    assert reader.pending == b"AYU"


# --- Telnet


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


# --- commands


@pytest.mark.parametrize("verb", [verb for verb in Verb if verb is not Verb.CONNECT])
def test_case_and_blanks_do_not_matter(verb: Verb) -> None:
    """A command is known in any case, with blanks around it, and between its words."""
    text = verb.value.encode()
    spellings = [text, text.lower(), text.title(), b" \t" + text + b"  ", text.replace(b" ", b"  ")]
    for spelling in spellings:
        assert requests(spelling + b"\r\n") == [Request(verb)]


@pytest.mark.parametrize(
    "line",
    [
        b"CONECTAR 5004",
        b"CONECTAR-5004",
        b"CONECTAR5004",
        b"conectar 5004",
        b"  Conectar \t 5004  ",
        b"CONECTAR- 5004",
        b"CONECTAR 05004",
    ],
)
def test_spellings_of_conectar(line: bytes) -> None:
    """All three spellings that clients use ask for the same."""
    assert requests(line + b"\n") == [Request(Verb.CONNECT, 5004)]


@pytest.mark.parametrize("port", [1024, 5004, 65535])
def test_good_ports(port: int) -> None:
    """Ports are 1024 to 65535, both ends included."""
    for blank in (" ", "-", ""):
        assert requests(f"CONECTAR{blank}{port}\n".encode()) == [Request(Verb.CONNECT, port)]


@pytest.mark.parametrize(
    "port",
    ["0", "1023", "65536", "-1", "+5004", "5004.0", "5_004", "0x1388", "5004x", "puerto", "9" * 30],
)
def test_bad_ports_are_named(port: str) -> None:
    """A port out of range, or no number, is refused by a reason that names it."""
    [reason] = requests(f"CONECTAR {port}\n".encode())
    assert reason == f"puerto no valido: '{port}' (de 1024 a 65535)"


def test_digits_of_other_scripts_are_not_ports() -> None:
    """Arabic digits are not ASCII, so the line is refused, with their bytes spelt out."""
    [reason] = requests("CONECTAR \u0665\u0660\u0660\u0664\n".encode())
    assert isinstance(reason, str)
    assert reason.startswith("solo se admite ASCII: 'CONECTAR \\xd9\\xa5")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"CONECTAR", "falta el puerto: CONECTAR <puerto>"),
        (b"CONECTAR-", "falta el puerto: CONECTAR <puerto>"),
        (b"CONECTAR 5004 5005", "sobra '5005' tras CONECTAR <puerto>"),
        (b"CONECTAR-5004 y mas", "sobra 'y mas' tras CONECTAR <puerto>"),
        (b"INTERRUMPIR ya", "sobra 'ya' tras INTERRUMPIR"),
        (b"continuar Despacio", "sobra 'Despacio' tras CONTINUAR"),
        (b"DESCONECTAR 5004", "sobra '5004' tras DESCONECTAR"),
        (b"estado ?", "sobra '?' tras ESTADO"),
        (b"hola", "comando desconocido: 'hola' (AYUDA los enumera)"),
        (b"CONECTARSE 5004", "comando desconocido: 'CONECTARSE 5004' (AYUDA los enumera)"),
        (b"GET / HTTP/1.1", "comando desconocido: 'GET / HTTP/1.1' (AYUDA los enumera)"),
        (b"a\0b\x1b[2J", "comando desconocido: 'a\\x00b\\x1b[2J' (AYUDA los enumera)"),
        (b"se\xf1al", "solo se admite ASCII: 'se\\xf1al'"),
    ],
)
def test_reasons_name_the_offending_value(line: bytes, reason: str) -> None:
    """What is wrong is said in Spanish and plain ASCII, with the value that is wrong."""
    assert requests(line + b"\r\n") == [reason]
    assert reason.isascii()


def test_what_is_echoed_is_bounded() -> None:
    """A long offending value is cut, so that a peer cannot make the relay say or log much."""
    [reason] = requests(b"y" * 512 + b"\n")
    assert reason == f"comando desconocido: '{'y' * 40}...' (AYUDA los enumera)"


def test_blank_lines_are_no_commands() -> None:
    """Blank lines ask for nothing."""
    assert requests(b"\n\r\n \t \r\nAYUDA\n\n") == [Request(Verb.HELP)]


def test_replies_are_one_ascii_line() -> None:
    """Replies start with OK or ERROR, end in LF, and are ASCII whatever they are about."""
    assert commands.ok() == b"OK\n"
    assert commands.ok("a=b") == b"OK a=b\n"
    assert commands.error("se\xf1al \u20ac") == b"ERROR se\\xf1al \\u20ac\n"
    assert commands.HELP.startswith(b"OK comandos: ")
    assert commands.HELP.count(b"\n") == 1
    assert all(verb.value.encode() in commands.HELP for verb in Verb)


# --- anything at all

_TELNET = re.compile(
    rb"\xff(?:\xfa(?:[^\xff]|\xff[^\xf0])*(?:\xff\xf0|\xff?\Z)|[\xfb-\xfe](?:.|\Z)|.|\Z)", re.DOTALL
)
_JUNK = st.lists(
    st.one_of(
        st.binary(max_size=8),
        st.sampled_from([b"\n", b"\r\n", b"\xff", b"\xff\xfa", b"\xff\xf0", b"x" * 300, b" "]),
        st.sampled_from([verb.value.encode() + b"\n" for verb in Verb]),
        st.integers(-1, 70000).map(lambda port: b"CONECTAR %d\n" % port),
    ),
    max_size=30,
).map(b"".join)


def expected_answers(data: bytes) -> int:
    """Count the lines that deserve an answer, by other means than the reader's."""
    answers = 0
    *lines, rest = _TELNET.sub(b"", data).split(b"\n")
    for line in lines:
        if len(line.removesuffix(b"\r")) > MAX_LINE:
            return answers + 1
        answers += bool(line.decode("ascii", "replace").strip())
    return answers + (len(rest.removesuffix(b"\r")) > MAX_LINE)


def answer(pieces: Iterable[bytes]) -> list[Request | str]:
    """Answer the pieces like a session would: a request or a reason for each line not blank."""
    answers = list[Request | str]()
    for line in feed(pieces)[0]:
        if isinstance(line, str):
            answers.append(line + "\n")
            continue
        try:
            answers.extend(request for request in [commands.parse(line)] if request)
        except PeerError as error:
            answers.append(commands.error(str(error)).decode("ascii"))
    return answers


@given(data=_JUNK, cuts=st.lists(st.integers(0, 2000), max_size=12))
def test_any_bytes_in_any_pieces(data: bytes, cuts: list[int]) -> None:
    """Whatever arrives, each line that is not blank has one answer, and cutting changes nothing."""
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    pieces = [data[start:end] for start, end in itertools.pairwise(edges)]
    whole = answer([data])
    assert answer(pieces) == whole
    assert all(reply.count("\n") == 1 for reply in whole if isinstance(reply, str))
    assert len(whole) == expected_answers(data)
