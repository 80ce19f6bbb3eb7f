"""What a line says, and what the relay replies. Pure: no socket, no clock.

A line is taken apart as bytes. Text would be split and stripped at characters that are no blanks
in this protocol: `str.split` takes the control characters 0x1C to 0x1F for white space.
"""

import re
from dataclasses import dataclass
from enum import Enum

from relaylib.errors import BadCommandError, OtherProtocolError, PeerError

MAX_SECONDS = 86_400
"""A day: no relay keeps more of the stream."""

MIN_PORT, MAX_PORT = 1024, 65535
"""A lower port would let a viewer aim the stream at a system service."""

_SHOWN = 40
"""Characters of an offending value that are echoed: enough to recognise it, too few to abuse."""


class Verb(Enum):
    """What a viewer can ask; the value is its spelling on the wire."""

    CONNECT = "CONECTAR"
    INTERRUPT = "INTERRUMPIR"
    CONTINUE = "CONTINUAR"
    CONTINUE_DEFERRED = "CONTINUAR DIFERIDO"
    REWIND = "RETROCEDER"
    DISCONNECT = "DESCONECTAR"
    STATUS = "ESTADO"
    HELP = "AYUDA"


@dataclass(frozen=True, slots=True)
class Command:
    """One command: `port` is the UDP port of CONECTAR, `seconds` how far RETROCEDER goes back.

    None for every other verb.
    """

    verb: Verb
    port: int | None = None
    seconds: float | None = None


# --- commands

_ARGUMENTS = {Verb.CONNECT: " <puerto>", Verb.REWIND: " <segundos>"}

_PLAIN = {verb.value.encode(): verb for verb in Verb if verb not in _ARGUMENTS}
"""The commands without argument."""

_CONNECT = re.compile(rb"CONECTAR(?:[\s-]|(?=\d)|\Z)(.*)", re.IGNORECASE | re.DOTALL)
"""CONECTAR 5004, CONECTAR-5004 and CONECTAR5004 are all found in clients people wrote."""


_REWIND = Verb.REWIND.value.encode()

_SECONDS = re.compile(rb"\d{1,5}(?:[.,]\d{1,3})?")
"""Whole or decimal, with the point or the comma that people write in Spanish."""


def parse(line: bytes) -> Command | None:
    """Make a command of one line; None for a blank line, which gets no reply.

    Raises:
        BadCommandError: the line is no command, or its argument is missing, wrong or one too many.
        OtherProtocolError: it is how another protocol begins.
    """
    _check_protocol(line)
    if not line.isascii():
        raise BadCommandError(f"solo se admite ASCII: {shown(line)}", "not_ascii", shown(line))
    words = line.split()
    if not words:
        return None
    if verb := _PLAIN.get(b" ".join(words).upper()):
        return Command(verb)
    if match := _CONNECT.fullmatch(line.strip()):
        return Command(Verb.CONNECT, _port(match[1].split()))
    if (first := words[0].upper()) == _REWIND:
        return Command(Verb.REWIND, seconds=_seconds(words[1:]))
    if first in _PLAIN:
        raise _extra(words[1:], first.decode())
    text = shown(line.strip())
    message = f"comando desconocido: {text} (AYUDA los enumera)"
    raise BadCommandError(message, "unknown_command", text)


_HTTP = re.compile(rb"\S+ \S.* HTTP/\d\S*", re.DOTALL)
"""A request line (RFC 9112, 3), or HTTP/2's preface (RFC 9113, 3.4)."""

_TLS = b"\x16\x03"
"""A handshake record of any version (RFC 8446, 5.1)."""

_INSTEAD = "use client.py, nc o telnet (AYUDA enumera los comandos)"


def _check_protocol(line: bytes) -> None:
    """Make sure that a browser is not made to give commands.

    Any web page can have its visitor's browser send a body of its choice to the relay, as the text
    of a form or inside a TLS session ticket: from an address that the relay serves.

    Raises:
        OtherProtocolError: HTTP or TLS begins here.
    """
    if b" HTTP/" in line and _HTTP.fullmatch(line.strip()):
        text = "esto no es un servidor HTTP: la pagina esta en el puerto de --http; aqui "
        raise OtherProtocolError(text + _INSTEAD, "http")
    if line.startswith(_TLS):
        raise OtherProtocolError("esto no es un servidor TLS: " + _INSTEAD, "tls")


def _port(words: list[bytes]) -> int:
    if not words:
        raise BadCommandError("falta el puerto: CONECTAR <puerto>", "missing_port")
    word, *rest = words
    if rest:
        raise _extra(rest, "CONECTAR <puerto>")
    if not word.isdigit() or not MIN_PORT <= int(word) <= MAX_PORT:
        text = shown(word)
        message = f"puerto no valido: {text} (de {MIN_PORT} a {MAX_PORT})"
        raise BadCommandError(message, "bad_port", text)
    return int(word)


def _seconds(words: list[bytes]) -> float:
    if not words:
        raise BadCommandError("faltan los segundos: RETROCEDER <segundos>", "missing_seconds")
    word, *rest = words
    if rest:
        raise _extra(rest, "RETROCEDER <segundos>")
    seconds = float(word.replace(b",", b".")) if _SECONDS.fullmatch(word) else 0.0
    if not 0 < seconds <= MAX_SECONDS:
        text = shown(word)
        message = f"segundos no validos: {text} (mas de 0, hasta {MAX_SECONDS})"
        raise BadCommandError(message, "bad_seconds", text)
    return seconds


def _extra(words: list[bytes], command: str) -> BadCommandError:
    text = shown(b" ".join(words))
    return BadCommandError(f"sobra {text} tras {command}", "extra_argument", text)


# --- replies


def ok(text: str = "") -> bytes:
    """Encode a positive reply; the original four commands get a plain OK."""
    return f"OK {text}\n".encode("ascii") if text else b"OK\n"


def error(reason: str) -> bytes:
    """Encode a negative reply or a farewell."""
    return f"ERROR {reason}\n".encode("ascii", "backslashreplace")


def reply_to(wrong: PeerError) -> bytes:
    """Encode the reply to a line with which something is wrong.

    A browser gets it as a page (RFC 9112, 4), so that a person who typed the relay's address there
    can read it. Other pages may not read it, as no reply permits that (CORS).
    """
    line = error(str(wrong))
    return _PAGE % (len(line), line) if wrong.kind == "http" else line


_PAGE = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=us-ascii\r\n"
    b"Content-Length: %d\r\nConnection: close\r\n\r\n%s"
)


def shown(value: str | bytes) -> str:
    """Quote a peer's value for a reply or the log: printable ASCII, bounded, on one line."""
    raw = value if isinstance(value, bytes) else value.encode("ascii", "backslashreplace")
    text = "".join(chr(b) if 32 <= b < 127 else f"\\x{b:02x}" for b in raw[: _SHOWN + 1])
    return f"'{text[:_SHOWN]}...'" if len(text) > _SHOWN else f"'{text}'"


HELP = ok("comandos: " + ", ".join(verb.value + _ARGUMENTS.get(verb, "") for verb in Verb))
