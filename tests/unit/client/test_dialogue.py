"""The client's picture of its session, without a socket."""

import pytest

from relaylib.client.dialogue import Dialogue, encode, explain, printable, read_command
from relaylib.errors import BadCommandError
from relaylib.protocol.commands import Request, Verb
from relaylib.protocol.session import TABLE, State

PATHS: dict[State, list[tuple[Verb, str]]] = {
    State.IDLE: [],
    State.STREAMING: [(Verb.CONNECT, "OK")],
    State.PAUSED: [(Verb.CONNECT, "OK"), (Verb.INTERRUPT, "OK")],
    State.DEFERRED: [(Verb.CONNECT, "OK"), (Verb.INTERRUPT, "OK"), (Verb.CONTINUE_DEFERRED, "OK")],
}
"""The commands, and their replies, that lead to each state."""


def after(*exchange: tuple[Verb, str]) -> Dialogue:
    """A dialogue in which these commands got these replies; an empty reply is silence."""
    dialogue = Dialogue()
    for verb, reply in exchange:
        dialogue.sent(verb)
        if reply:
            assert dialogue.answered(reply) is verb
        else:
            dialogue.silence()
        assert dialogue.waiting is None
    return dialogue


@pytest.mark.parametrize(("state", "verb"), [pair for pair in TABLE if pair[0] in PATHS])
def test_what_is_expected_follows_the_relays_own_table(state: State, verb: Verb) -> None:
    """In every state, exactly the commands that the relay would accept are expected."""
    dialogue = after(*PATHS[state])
    assert dialogue.state == state.name.lower()
    assert dialogue.expects(verb) is (TABLE[state, verb] is not None)


@pytest.mark.parametrize("verb", [Verb.INTERRUPT, Verb.CONTINUE, Verb.CONTINUE_DEFERRED])
def test_only_what_no_possible_state_accepts_is_held_back(verb: Verb) -> None:
    """An idle session cannot be paused or resumed; one that streams may have been paused."""
    assert not after().allows(verb)
    assert after(*PATHS[State.STREAMING]).allows(verb)


def test_a_refusal_teaches_where_the_session_is() -> None:
    """ERROR to INTERRUMPIR while streaming means that the relay has paused the session."""
    dialogue = after(*PATHS[State.STREAMING], (Verb.INTERRUPT, "ERROR no es valido ahora"))
    assert dialogue.state == "paused"


@pytest.mark.parametrize("verb", [Verb.CONNECT, Verb.CONTINUE_DEFERRED, Verb.STATUS])
def test_a_refusal_for_another_reason_changes_nothing(verb: Verb) -> None:
    """A port that is taken, or a relay without history, leaves the session as it was."""
    assert after(*PATHS[State.PAUSED], (verb, "ERROR ocupado")).state == "paused"


def test_silence_leaves_both_possibilities_open() -> None:
    """A command without an answer was ignored or carried out, so both sets of commands go."""
    dialogue = after((Verb.CONNECT, ""))
    assert dialogue.state == "unsure"
    assert all(dialogue.allows(verb) for verb in Verb)


def test_the_relays_report_settles_the_state() -> None:
    """`ESTADO` replaces every guess by what the relay says."""
    reply = "OK estado=pausado destino=127.0.0.1:5004 enviados=1 perdidos=0"
    assert after((Verb.CONNECT, ""), (Verb.STATUS, reply)).state == "paused"


def test_an_old_relays_ok_belongs_to_the_command_that_it_knows() -> None:
    """A bare OK never answers ESTADO, which old relays ignore."""
    dialogue = Dialogue()
    dialogue.sent(Verb.STATUS)
    dialogue.sent(Verb.DISCONNECT)
    assert dialogue.answered("OK") is Verb.DISCONNECT
    assert dialogue.waiting is Verb.STATUS


def test_a_reply_that_comes_too_late_makes_unsure() -> None:
    """A reply to a command given up shows that both ends are out of step: nothing is held back."""
    dialogue = after((Verb.CONNECT, "OK"), (Verb.INTERRUPT, ""))
    assert dialogue.answered("OK") is None
    assert dialogue.state == "unsure"
    assert all(dialogue.allows(verb) for verb in Verb)


@pytest.mark.parametrize("reply", ["", "bienvenido", "OKAY", "PING 1"])
def test_other_lines_answer_nothing(reply: str) -> None:
    """Only OK and ERROR are replies; whatever else a relay says is just shown."""
    dialogue = Dialogue()
    dialogue.sent(Verb.CONNECT)
    assert dialogue.answered(reply) is None
    assert (dialogue.waiting, dialogue.state) == (Verb.CONNECT, "idle")


@pytest.mark.parametrize(
    ("line", "wire"),
    [
        (b"CONECTAR", b"CONECTAR 5004\n"),
        (b"  conectar ", b"CONECTAR 5004\n"),
        (b"CONECTAR 6000", b"CONECTAR 6000\n"),
        (b"conectar-6000", b"CONECTAR 6000\n"),
        (b"Conectar6000", b"CONECTAR 6000\n"),
        (b"continuar   diferido", b"CONTINUAR DIFERIDO\n"),
        (b"estado", b"ESTADO\n"),
    ],
)
def test_every_spelling_is_sent_in_the_plain_one(line: bytes, wire: bytes) -> None:
    """Case, blanks and the spellings of CONECTAR do not matter; a bare one takes VLCPORT."""
    request = read_command(line, 5004)
    assert request is not None
    assert encode(request) == wire


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"FOO bar", "unknown command: 'FOO bar' (AYUDA lists them)"),
        (b"CONECTAR 80", "'CONECTAR 80': CONECTAR takes one UDP port, 1024 to 65535, or none"),
        (b"conectar-", "'conectar-': CONECTAR takes one UDP port, 1024 to 65535, or none"),
        (b"INTERRUMPIR ya", "'INTERRUMPIR ya': INTERRUMPIR does not take that"),
        (b"\xc3\xb1\x1b[2J", r"unknown command: '\xc3\xb1\x1b[2J' (AYUDA lists them)"),
    ],
)
def test_a_wrong_line_is_explained(line: bytes, reason: str) -> None:
    """What is no command is not sent, and the person is told why, in one safe line."""
    with pytest.raises(BadCommandError):
        read_command(line, 5004)
    assert explain(line) == reason


@pytest.mark.parametrize("line", [b"", b"  \t", b"\r"])
def test_a_blank_line_is_nothing(line: bytes) -> None:
    """Pressing Enter on an empty line does nothing."""
    assert read_command(line, 5004) is None


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (b"OK estado=pausado", "OK estado=pausado"),
        ("ERROR conexión".encode(), "ERROR conexión"),
        (b"\x1b]0;gotcha\x07\x9b2J\r", r"\x1b]0;gotcha\x07\x9b2J\r"),
        ("\u202eKO\u200b\x85".encode(), r"\u202eKO\u200b\x85"),
    ],
)
def test_nothing_invisible_reaches_the_terminal(line: bytes, text: str) -> None:
    """Readable text is shown as it is; control, C1 and direction characters are spelled out."""
    assert printable(line) == text


def test_help_marks_what_is_valid_now() -> None:
    """AYUDA names every command, the port that a bare CONECTAR takes, and stars the valid ones."""
    lines = after((Verb.CONNECT, "OK")).help(5004)
    assert "default 5004" in lines[1]
    starred = {verb for verb in Verb for line in lines if line.startswith(f"* {verb.value}  ")}
    assert starred == {Verb.INTERRUPT, Verb.DISCONNECT, Verb.STATUS, Verb.HELP}
    assert all(any(verb.value in line for line in lines) for verb in Verb)


def test_requests_without_a_port_stay_without() -> None:
    """Only CONECTAR carries a port on the wire."""
    assert encode(Request(Verb.DISCONNECT)) == b"DESCONECTAR\n"
