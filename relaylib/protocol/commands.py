"""Commands out of lines, and replies as bytes. Pure: no socket, no clock."""

import re
from dataclasses import dataclass
from enum import Enum

from relaylib.errors import BadCommandError

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
    DISCONNECT = "DESCONECTAR"
    STATUS = "ESTADO"
    HELP = "AYUDA"


@dataclass(frozen=True, slots=True)
class Request:
    """One command: `port` is the UDP port of CONECTAR, None for every other verb."""

    verb: Verb
    port: int | None = None


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
