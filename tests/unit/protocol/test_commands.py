"""What lines mean, and how replies are spelt.

Every line is read whole, byte by byte and with more behind it before it is parsed.
"""

from collections.abc import Iterable

import pytest

from relaylib.errors import BadCommandError
from relaylib.protocol import commands
from relaylib.protocol.commands import Command, Verb
from relaylib.protocol.lines import LineReader
from tools.lab.framing import in_every_framing


def requests_of(pieces: Iterable[bytes]) -> list[Command | str]:
    """Parse every line; what is no command is represented by its reason for the wire."""
    reader, found = LineReader(), list[Command | str]()
    for piece in pieces:
        reader.feed(piece)
        while (line := reader.next_line()) is not None:
            try:
                request = commands.parse(line)
            except BadCommandError as error:
                found.append(str(error))
            else:
                found.extend([request] if request else [])
    return found


def requests(data: bytes) -> list[Command | str]:
    """Parse every line of `data`, in every framing."""
    return [*in_every_framing(requests_of, data)]


@pytest.mark.parametrize("verb", [verb for verb in Verb if verb not in (Verb.CONNECT, Verb.REWIND)])
def test_case_and_blanks_do_not_matter(verb: Verb) -> None:
    """A command is known in any case, with blanks around it, and between its words."""
    text = verb.value.encode()
    spellings = [text, text.lower(), text.title(), b" \t" + text + b"  ", text.replace(b" ", b"  ")]
    for spelling in spellings:
        assert requests(spelling + b"\r\n") == [Command(verb)]


@pytest.mark.parametrize("character", [*b"\x00\x1c\x1d\x1e\x1f\x7f\x85\xa0"])
def test_only_blanks_separate_words(character: int) -> None:
    """Control characters, which a terminal does not show as a gap, neither part nor end a word."""
    for line in (b"CONTINUAR%cDIFERIDO", b"%cESTADO", b"CONECTAR%c5004", b"CONECTAR 5004%c"):
        [reason] = requests(line % character + b"\n")
        assert isinstance(reason, str)
        assert f"\\x{character:02x}" in reason


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
    assert requests(line + b"\n") == [Command(Verb.CONNECT, 5004)]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10", 10.0), ("2.5", 2.5), ("2,5", 2.5), ("0.001", 0.001), ("086400", None), ("86400", 86400)]
    + [
        (text, None) for text in ("0", "0.0", "86400.1", "-5", "+5", "1e3", ".5", "5.", "5s", "nan")
    ],
)
def test_how_far_to_go_back(text: str, seconds: float | None) -> None:
    """RETROCEDER takes whole and decimal seconds up to a day; what is none is named."""
    [request] = requests(f"retroceder \t {text}\n".encode())
    if seconds is None:
        assert request == f"segundos no validos: '{text}' (mas de 0, hasta 86400)"
    else:
        assert request == Command(Verb.REWIND, seconds=seconds)


@pytest.mark.parametrize("port", [1024, 5004, 65535])
def test_good_ports(port: int) -> None:
    """Ports are 1024 to 65535, both ends included."""
    for blank in (" ", "-", ""):
        assert requests(f"CONECTAR{blank}{port}\n".encode()) == [Command(Verb.CONNECT, port)]


@pytest.mark.parametrize(
    "port",
    ["0", "1023", "65536", "-1", "+5004", "5004.0", "5_004", "0x1388", "5004x", "puerto", "9" * 30],
)
def test_bad_ports_are_named(port: str) -> None:
    """A port out of range, or no number, is an error whose reason names it."""
    [reason] = requests(f"CONECTAR {port}\n".encode())
    assert reason == f"puerto no valido: '{port}' (de 1024 a 65535)"


@pytest.mark.parametrize(
    ("line", "reason", "kind", "detail"),
    [
        (b"CONECTAR", "falta el puerto: CONECTAR <puerto>", "missing_port", ""),
        (b"CONECTAR-", "falta el puerto: CONECTAR <puerto>", "missing_port", ""),
        (b"CONECTAR 80", "puerto no valido: '80' (de 1024 a 65535)", "bad_port", "'80'"),
        (b"CONECTAR 1 2", "sobra '2' tras CONECTAR <puerto>", "extra_argument", "'2'"),
        (b"CONECTAR-1 y mas", "sobra 'y mas' tras CONECTAR <puerto>", "extra_argument", "'y mas'"),
        (b"retroceder", "faltan los segundos: RETROCEDER <segundos>", "missing_seconds", ""),
        (b"RETROCEDER 1 s", "sobra 's' tras RETROCEDER <segundos>", "extra_argument", "'s'"),
        (
            b"RETROCEDER5",
            "comando desconocido: 'RETROCEDER5' (AYUDA los enumera)",
            "unknown_command",
            "'RETROCEDER5'",
        ),
        (b"INTERRUMPIR ya", "sobra 'ya' tras INTERRUMPIR", "extra_argument", "'ya'"),
        (b"continuar Despacio", "sobra 'Despacio' tras CONTINUAR", "extra_argument", "'Despacio'"),
        (b"estado ?", "sobra '?' tras ESTADO", "extra_argument", "'?'"),
        (b" hola ", "comando desconocido: 'hola' (AYUDA los enumera)", "unknown_command", "'hola'"),
        (
            b"CONECTARSE 5004",
            "comando desconocido: 'CONECTARSE 5004' (AYUDA los enumera)",
            "unknown_command",
            "'CONECTARSE 5004'",
        ),
        (
            b"a\0b\x1b[2J",
            r"comando desconocido: 'a\x00b\x1b[2J' (AYUDA los enumera)",
            "unknown_command",
            r"'a\x00b\x1b[2J'",
        ),
        (b"se\xf1al", r"solo se admite ASCII: 'se\xf1al'", "not_ascii", r"'se\xf1al'"),
        (
            "CONECTAR \u0665\u0660".encode(),  # Arabic digits are digits to `str`
            r"solo se admite ASCII: 'CONECTAR \xd9\xa5\xd9\xa0'",
            "not_ascii",
            r"'CONECTAR \xd9\xa5\xd9\xa0'",
        ),
    ],
)
def test_what_is_wrong_is_said_twice(line: bytes, reason: str, kind: str, detail: str) -> None:
    """In Spanish and plain ASCII on the wire, in an English word and the value in the log."""
    assert requests(line + b"\r\n") == [reason]
    with pytest.raises(BadCommandError) as caught:
        commands.parse(line)
    assert (caught.value.kind, caught.value.detail) == (kind, detail)


def test_what_is_echoed_is_bounded() -> None:
    """A long offending value is cut, so that a peer cannot make the relay say or log much."""
    [reason] = requests(b"y" * 512 + b"\n")
    assert reason == f"comando desconocido: '{'y' * 40}...' (AYUDA los enumera)"


def test_blank_lines_are_no_commands() -> None:
    """Blank lines ask for nothing."""
    assert requests(b"\n\r\n \t \r\nAYUDA\n\n") == [Command(Verb.HELP)]


def test_replies_are_one_ascii_line() -> None:
    """Replies start with OK or ERROR, end in LF, and are ASCII whatever they are about."""
    assert commands.ok() == b"OK\n"
    assert commands.ok("a=b") == b"OK a=b\n"
    assert commands.error("se\xf1al \u20ac") == b"ERROR se\\xf1al \\u20ac\n"
    assert commands.HELP == (
        b"OK comandos: CONECTAR <puerto>, INTERRUMPIR, CONTINUAR, CONTINUAR DIFERIDO, "
        b"RETROCEDER <segundos>, DESCONECTAR, ESTADO, AYUDA\n"
    )
