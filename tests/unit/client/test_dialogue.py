"""What the client knows of its session, without a socket."""

import pytest

from relaylib.client.dialogue import Dialogue, encode, explain, printable, read_command
from relaylib.errors import BadCommandError
from relaylib.protocol.commands import Verb
from relaylib.protocol.session import TABLE, State

PATHS: dict[State, list[Verb]] = {
    State.IDLE: [],
    State.STREAMING: [Verb.CONNECT],
    State.PAUSED: [Verb.CONNECT, Verb.INTERRUPT],
    State.DEFERRED: [Verb.CONNECT, Verb.INTERRUPT, Verb.CONTINUE_DEFERRED],
    State.CLOSED: [Verb.DISCONNECT],
}
"""The commands that lead to each state."""


def after(state: State, *exchange: tuple[Verb, str]) -> Dialogue:
    """A dialogue that led to a state, then these commands and replies; an empty one is silence."""
    dialogue = Dialogue()
    for verb, reply in [*((verb, "OK") for verb in PATHS[state]), *exchange]:
        dialogue.sent(verb)
        if reply:
            assert dialogue.answered(reply) is verb
        else:
            dialogue.give_up()
        assert not dialogue.unanswered
    return dialogue


@pytest.mark.parametrize("state", State)
def test_what_is_allowed_follows_the_relays_own_table(state: State) -> None:
    """The replies lead to the relay's state, and there exactly what it accepts is allowed."""
    dialogue = after(state)
    assert dialogue.state is state
    accepted = {verb for verb in Verb if TABLE[state, verb] is not None}
    assert {verb for verb in Verb if dialogue.allows(verb)} == accepted


@pytest.mark.parametrize("verb", [Verb.CONNECT, Verb.CONTINUE_DEFERRED, Verb.STATUS])
def test_an_error_changes_nothing(verb: Verb) -> None:
    """A port that is taken, or a relay without history, leaves the session as it was."""
    dialogue = after(State.PAUSED, (verb, "ERROR ocupado"))
    assert dialogue.state is State.PAUSED
    assert dialogue.declined


def test_after_silence_everything_is_allowed() -> None:
    """A command without an answer was ignored or carried out: nothing is known any more."""
    dialogue = after(State.IDLE, (Verb.CONNECT, ""))
    assert dialogue.state is None
    assert all(dialogue.allows(verb) for verb in Verb)


@pytest.mark.parametrize(
    ("word", "state"), [("pausado", State.PAUSED), ("DIFERIDO", State.DEFERRED), ("ido", None)]
)
def test_the_relays_report_is_the_state(word: str, state: State | None) -> None:
    """`ESTADO` replaces what was known, whatever it was; a word from the future is not known."""
    reply = f"OK estado={word} destino=127.0.0.1:5004 enviados=1 perdidos=0"
    assert after(State.STREAMING, (Verb.STATUS, reply)).state is state


def test_an_old_relays_ok_belongs_to_the_command_that_it_knows() -> None:
    """A bare OK never answers ESTADO, which old relays ignore."""
    dialogue = Dialogue()
    dialogue.sent(Verb.STATUS)
    dialogue.sent(Verb.DISCONNECT)
    assert dialogue.answered("OK") is Verb.DISCONNECT
    assert dialogue.unanswered == [Verb.STATUS]
    assert not dialogue.explicit


def test_a_farewell_does_not_answer_the_goodbye() -> None:
    """DESCONECTAR is always valid, so an ERROR that comes instead of its OK is not about it."""
    dialogue = after(State.STREAMING)
    dialogue.sent(Verb.DISCONNECT)
    assert dialogue.answered("ERROR el relay se detiene") is None
    assert dialogue.unanswered == [Verb.DISCONNECT]
    assert dialogue.declined


def test_after_a_reply_that_comes_too_late_everything_is_allowed() -> None:
    """A reply to a command given up shows that both ends are out of step: nothing is known."""
    dialogue = after(State.IDLE, (Verb.CONNECT, ""), (Verb.CONNECT, "OK"))
    assert dialogue.state is State.STREAMING
    assert dialogue.answered("OK") is None
    assert dialogue.state is None


@pytest.mark.parametrize("reply", ["", "bienvenido", "OKAY", "PING 1"])
def test_other_lines_answer_nothing(reply: str) -> None:
    """Only OK and ERROR are replies; whatever else a relay says is just shown."""
    dialogue = Dialogue()
    dialogue.sent(Verb.CONNECT)
    assert dialogue.answered(reply) is None
    assert (dialogue.unanswered, dialogue.state) == ([Verb.CONNECT], State.IDLE)


@pytest.mark.parametrize(
    ("line", "wire"),
    [
        (b"CONECTAR", b"CONECTAR 5004\n"),
        (b"  conectar ", b"CONECTAR 5004\n"),
        (b"CONECTAR 6000", b"CONECTAR 6000\n"),
        (b"conectar-6000", b"CONECTAR 6000\n"),
        (b"Conectar6000", b"CONECTAR 6000\n"),
        (b"continuar   diferido", b"CONTINUAR DIFERIDO\n"),
        (b"retroceder 2,50", b"RETROCEDER 2.5\n"),
        (b"RETROCEDER  86400", b"RETROCEDER 86400\n"),
        (b"estado", b"ESTADO\n"),
        (b"desconectar\r", b"DESCONECTAR\n"),
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
        (
            b"retroceder mucho",
            "'retroceder mucho': RETROCEDER takes seconds, more than 0 and up to 86400",
        ),
        (b"INTERRUMPIR ya", "'INTERRUMPIR ya': INTERRUMPIR does not take that"),
        (b"\xc3\xb1\x1b[2J", r"unknown command: '\xc3\xb1\x1b[2J' (AYUDA lists them)"),
    ],
)
def test_a_wrong_line_is_explained(line: bytes, reason: str) -> None:
    """What is no command is not sent, and the person is told why, in one safe line."""
    with pytest.raises(BadCommandError):
        read_command(line, 5004)
    assert explain(line) == reason


@pytest.mark.parametrize(
    ("word", "behind"),
    [("61.7", 61.7), ("0.0", 0.0), ("-", None), ("nan", None), ("-5", None), ("9e99", None)],
)
def test_how_far_behind_is_seconds_or_not_known(word: str, behind: float | None) -> None:
    """What a relay says for the delay is given back to it: only a plain number may be."""
    reply = f"OK estado=diferido destino=x enviados=1 perdidos=0 retraso={word}"
    assert after(State.STREAMING, (Verb.STATUS, reply)).behind == behind


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


@pytest.mark.parametrize(
    ("facts", "scheme", "reason"),
    [
        ("", "udp", ""),
        (" fuente=activa forma=rtp", "rtp", ""),
        (" FUENTE=Activa FORMA=ts salud=sano", "udp", ""),
        (" fuente=ausente forma=opaca", "udp", "the relay has no source"),
        (" fuente=silencio forma=rtp", "rtp", "the source is silent"),
        (" fuente=otra forma=otra x = =", "udp", ""),
    ],
)
def test_the_report_names_the_address_for_a_player(facts: str, scheme: str, reason: str) -> None:
    """The source's form decides between rtp:// and udp://; that there is none is said."""
    reply = "OK estado=transmitiendo destino=127.0.0.1:5004 enviados=1 perdidos=0" + facts
    dialogue = after(State.STREAMING, (Verb.STATUS, reply))
    assert dialogue.scheme == scheme
    assert dialogue.no_source.partition(":")[0] == reason
