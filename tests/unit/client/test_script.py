"""Scripts: commands, waits, comments."""

import pytest

from relaylib.client.dialogue import encode
from relaylib.client.script import is_script, read_script, read_words
from relaylib.errors import SetupError


def test_a_script_is_commands_waits_and_comments() -> None:
    """One a line, in any case and line ending, each with its place; blank lines do not matter."""
    data = b"\xef\xbb\xbf# edge\r\nconectar  # to VLCPORT\n\nESPERAR 2,5\nEstado\nconectar 6000"
    steps = read_script(data, "x.txt", 5004)
    done = [encode(step.command).decode() if step.command else step.seconds for step in steps]
    assert done == ["CONECTAR 5004\n", 2.5, "ESTADO\n", "CONECTAR 6000\n"]
    assert [step.text for step in steps] == ["conectar", "ESPERAR 2,5", "Estado", "conectar 6000"]
    assert [step.place for step in steps] == [f"x.txt, line {n}" for n in (2, 4, 5, 6)]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"HOLA", "unknown command: 'HOLA' (AYUDA lists them)"),
        (b"CONECTAR 80", "'CONECTAR 80': CONECTAR takes one UDP port, 1024 to 65535, or none"),
        (b"ESPERAR", "ESPERAR takes seconds, up to 86400"),
        (b"ESPERAR 99999", "ESPERAR takes seconds, up to 86400"),
        (b"ESPERAR un rato", "ESPERAR takes seconds, up to 86400"),
        (b"\x00" * 600, "too long to be a command"),
        (b"GET / HTTP/1.1", None),
    ],
)
def test_a_wrong_line_is_found_before_anything_is_done(line: bytes, reason: str | None) -> None:
    """The place and the reason are one line, and the exit status is that of a bad argument."""
    with pytest.raises(SetupError) as wrong:
        read_script(b"CONECTAR\n" + line + b"\n", "x.txt", 5004)
    assert wrong.value.status == 2
    if reason:
        assert str(wrong.value) == f"x.txt, line 2: {reason}"


@pytest.mark.parametrize(
    ("word", "script"),
    [
        ("CONECTAR", True),
        (" conectar 6000; ESPERAR 5; desconectar", True),
        ("ESPERAR 5", True),
        ("./CONECTAR", False),
        ("conectar.txt", False),
        ("cascade.txt", False),
        ("-", False),
    ],
)
def test_a_command_is_a_script_itself(word: str, script: bool) -> None:
    """A word that begins with a command is the script, any other names a file."""
    assert is_script(word) is script
    if script:
        assert read_words(word, 5004)
