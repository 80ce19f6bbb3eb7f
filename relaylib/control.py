"""The control protocol: bytes to commands, replies to bytes. Pure: no socket, no clock.

A line ends in LF or CRLF and holds at most `MAX_LINE` bytes before that, whatever pieces TCP cut it
into. `LineReader` puts lines together and drops Telnet negotiation (RFC 854); `parse` makes a
`Request` of one line. They are apart so that each can be tested, and fuzzed, alone.

Telnet sequences are dropped while they arrive instead of being searched for in whole lines: a
subnegotiation may contain a line feed, and an IAC may be the last byte of a segment.
"""

import re
from dataclasses import dataclass
from enum import Enum

from relaylib.errors import BadCommandError, LineTooLongError

MAX_LINE = 512
"""Bytes in a line without its ending. The longest real command has 18."""

MIN_PORT, MAX_PORT = 1024, 65535
"""A lower port would let a viewer aim the stream at a system service."""

_SHOWN = 40
"""Characters of an offending value that are echoed: enough to recognise it, too few to abuse."""

# RFC 854: interpret-as-command, and the commands that are longer than two bytes.
_IAC, _SB, _SE = 255, 250, 240
_WILL, _DONT = 251, 254


class Verb(Enum):
    """What a viewer can ask; the value is its spelling on the wire."""

    CONNECT = "CONECTAR"
    INTERRUPT = "INTERRUMPIR"
    CONTINUE = "CONTINUAR"
    CONTINUE_DEFERRED = "CONTINUAR DIFERIDO"
    DISCONNECT = "DESCONECTAR"
    STATUS = "ESTADO"
    HELP = "AYUDA"


@dataclass(frozen=True, slots=True)
class Request:
    """One command: `port` is the UDP port of CONECTAR, None for every other verb."""

    verb: Verb
    port: int | None = None


class _Telnet(Enum):
    TEXT = 0
    IAC = 1  # after IAC
    OPTION = 2  # after IAC WILL/WONT/DO/DONT
    SUB = 3  # inside a subnegotiation
    SUB_IAC = 4  # after IAC inside a subnegotiation


class LineReader:
    """Puts lines together from segments of any size. Holds at most one segment and a line."""

    __slots__ = ("_buffer", "_telnet")

    def __init__(self, pending: bytes = b"", telnet: int = 0) -> None:
        self._buffer = bytearray(pending)
        self._telnet = _Telnet(telnet)

    @property
    def pending(self) -> bytes:
        """What has arrived of a line that is not complete yet."""
        return bytes(self._buffer)

    @property
    def telnet(self) -> int:
        """Where in a Telnet sequence the reader is; with `pending`, all that it remembers."""
        return self._telnet.value

    def feed(self, data: bytes) -> None:
        """Take the next bytes as they came from the connection."""
        if self._telnet is _Telnet.TEXT and _IAC not in data:
            self._buffer += data
        else:
            for byte in data:
                self._feed_byte(byte)

    def _feed_byte(self, byte: int) -> None:
        match self._telnet:
            case _Telnet.TEXT if byte == _IAC:
                self._telnet = _Telnet.IAC
            case _Telnet.TEXT:
                self._buffer.append(byte)
            case _Telnet.IAC if byte == _SB:
                self._telnet = _Telnet.SUB
            case _Telnet.IAC if _WILL <= byte <= _DONT:
                self._telnet = _Telnet.OPTION
            case _Telnet.IAC | _Telnet.OPTION:
                self._telnet = _Telnet.TEXT
            case _Telnet.SUB if byte == _IAC:
                self._telnet = _Telnet.SUB_IAC
            case _Telnet.SUB_IAC:
                self._telnet = _Telnet.TEXT if byte == _SE else _Telnet.SUB
            case _Telnet.SUB:
                pass

    def next_line(self) -> bytes | None:
        """Return the next complete line without its ending, or None if more bytes are needed.

        Raises:
            LineTooLongError: the line has, or already can only have, more than `MAX_LINE` bytes.
        """
        end = self._buffer.find(b"\n")
        # Without an LF the last byte may still turn out to be the CR of a line of the full length.
        length = end if end >= 0 else len(self._buffer)
        if length and self._buffer[length - 1] == 0x0D:
            length -= 1
        if length > MAX_LINE:
            raise LineTooLongError(f"linea demasiado larga (mas de {MAX_LINE} bytes)")
        if end < 0:
            return None
        line = bytes(self._buffer[:length])
        del self._buffer[: end + 1]
        return line


# CONECTAR 5004, CONECTAR-5004 and CONECTAR5004 are all found in clients people wrote.
_CONNECT = re.compile(r"CONECTAR(?:\s+(.*)|-(.*)|(\d.*))?", re.ASCII | re.IGNORECASE)
_PORT = re.compile(r"\d+", re.ASCII)
_BLANK = " \t\r\n\v\f"
_PLAIN = {verb.value: verb for verb in Verb if verb is not Verb.CONNECT}


def is_blank(line: bytes) -> bool:
    """Tell whether a line is one that gets no reply."""
    return not line.strip(_BLANK.encode())


def parse(line: bytes) -> Request | None:
    """Make a command of one line; None for a blank line, which gets no reply.

    Raises:
        BadCommandError: the line is no command, or its argument is missing, wrong or one too many.
    """
    try:
        text = line.decode("ascii").strip(_BLANK)
    except UnicodeDecodeError:
        raise BadCommandError(f"solo se admite ASCII: {shown(line)}") from None
    if not text:
        return None
    words = text.upper().split()
    if verb := _PLAIN.get(" ".join(words)):
        return Request(verb)
    if match := _CONNECT.fullmatch(text):
        return Request(Verb.CONNECT, _port(next((g for g in match.groups() if g is not None), "")))
    if words and words[0] in _PLAIN:
        raise BadCommandError(f"sobra {shown(' '.join(text.split()[1:]))} tras {words[0]}")
    raise BadCommandError(f"comando desconocido: {shown(text)} (AYUDA los enumera)")


def _port(argument: str) -> int:
    words = argument.split()
    if not words:
        raise BadCommandError("falta el puerto: CONECTAR <puerto>")
    if len(words) > 1:
        raise BadCommandError(f"sobra {shown(' '.join(words[1:]))} tras CONECTAR <puerto>")
    if not _PORT.fullmatch(words[0]) or not MIN_PORT <= int(words[0]) <= MAX_PORT:
        raise BadCommandError(f"puerto no valido: {shown(words[0])} (de {MIN_PORT} a {MAX_PORT})")
    return int(words[0])


def shown(value: str | bytes) -> str:
    """Quote a peer's value for a reply or the log: printable ASCII, bounded, on one line."""
    raw = value if isinstance(value, bytes) else value.encode("ascii", "backslashreplace")
    text = "".join(chr(b) if 32 <= b < 127 else f"\\x{b:02x}" for b in raw[: _SHOWN + 1])
    return f"'{text[:_SHOWN]}...'" if len(text) > _SHOWN else f"'{text}'"


def ok(text: str = "") -> bytes:
    """Encode a positive reply; the original four commands answer it bare."""
    return f"OK {text}\n".encode("ascii") if text else b"OK\n"


def error(reason: str) -> bytes:
    """Encode a negative reply or a farewell."""
    return f"ERROR {reason}\n".encode("ascii", "backslashreplace")


HELP = ok(
    "comandos: CONECTAR <puerto>, INTERRUMPIR, CONTINUAR, CONTINUAR DIFERIDO, "
    "DESCONECTAR, ESTADO, AYUDA"
)
