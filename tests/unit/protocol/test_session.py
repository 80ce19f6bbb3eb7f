"""The session: its table, walked pair by pair, and its protocol without I/O."""

from collections.abc import Iterable

import pytest

from relaylib.errors import OutOfOrderError
from relaylib.protocol.commands import Command, Verb
from relaylib.protocol.session import TABLE, Session, State, step
from tools.lab.framing import in_every_framing

EXPECTED = """
                   IDLE       STREAMING  PAUSED     DEFERRED
CONNECT            STREAMING  STREAMING  STREAMING  STREAMING
INTERRUPT          -          PAUSED     -          PAUSED
CONTINUE           -          -          STREAMING  STREAMING
CONTINUE_DEFERRED  -          -          DEFERRED   -
REWIND             -          DEFERRED   DEFERRED   DEFERRED
DISCONNECT         CLOSED     CLOSED     CLOSED     CLOSED
STATUS             IDLE       STREAMING  PAUSED     DEFERRED
HELP               IDLE       STREAMING  PAUSED     DEFERRED
"""
"""The protocol's description, transcribed by hand; - is an error, as all is once closed."""


def expected() -> dict[tuple[State, Verb], State]:
    """Read the table above."""
    header, *rows = [line.split() for line in EXPECTED.strip().splitlines()]
    return {
        (State[state], Verb[verb]): State[after]
        for verb, *cells in rows
        for state, after in zip(header, cells, strict=True)
        if after != "-"
    }


PAIRS = [(state, verb) for state in State for verb in Verb]


def test_every_pair_is_in_the_table() -> None:
    """The table holds every pair of a state and a command, and nothing else."""
    assert set(TABLE) == set(PAIRS)


@pytest.mark.parametrize(("state", "verb"), PAIRS)
def test_every_pair_does_what_the_protocol_says(state: State, verb: Verb) -> None:
    """Each pair has the next state of the protocol's table, or is one error that names both."""
    after = expected().get((state, verb))
    if after is not None:
        assert step(state, verb) is after
        return
    with pytest.raises(OutOfOrderError) as caught:
        step(state, verb)
    assert str(caught.value) == f"{verb.value} no es valido ahora (estado: {state.word})"
    assert caught.value.kind == "out_of_order"
    assert caught.value.detail == f"{verb.value} while {state.name.lower()}"


def test_state_names_are_what_estado_reports() -> None:
    """The states' names on the wire are Spanish words without blanks, in ASCII."""
    names = [state.word for state in State]
    assert names == ["inactivo", "transmitiendo", "pausado", "diferido", "cerrado"]


# --- the protocol without I/O


def converse(pieces: Iterable[bytes], failing: frozenset[Verb] = frozenset()) -> list[str]:
    """Feed a session; carry out all but the `failing` commands. Return its items, and its end."""
    session, items = Session(), list[str]()
    for piece in pieces:
        session.feed(piece)
        while (item := session.next_item()) is not None:
            if isinstance(item, Command):
                items.append(item.verb.name)
                if item.verb not in failing:
                    session.advance(item.verb)
            else:
                items.append(item.kind)
    return [*items, session.state.name]


@pytest.mark.parametrize(
    ("data", "items"),
    [
        (b"", ["IDLE"]),
        (b"\n \r\n\t\n", ["IDLE"]),
        (b"CONECTAR 5004\nINTERRUMPIR\r\n", ["CONNECT", "INTERRUPT", "PAUSED"]),
        (b"conectar 5004\nESTADO\n" * 2, ["CONNECT", "STATUS"] * 2 + ["STREAMING"]),
        (b"CONTINUAR\nhola\n\nAYUDA\n", ["out_of_order", "unknown_command", "HELP", "IDLE"]),
        (b"CONECTAR 80\nESTADO\n", ["bad_port", "STATUS", "IDLE"]),
        (b"DESCONECTAR\nESTADO\nhola\n", ["DISCONNECT", "CLOSED"]),
        (b"ESTADO\n" + b"x" * 513 + b"\nESTADO\n", ["STATUS", "line_too_long", "CLOSED"]),
        (b"POST / HTTP/1.1\r\n\r\nCONECTAR 5004\n", ["http", "CLOSED"]),
        (b"\nGET /a?b=c HTTP/1.0\r\nESTADO\n", ["http", "CLOSED"]),
        (b"CONECTAR 5004 HTTP/1.1\nCONECTAR 5004\n", ["http", "CLOSED"]),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ["http", "CLOSED"]),
        (b"\x16\x03\x01\x02\x00\x01\x00\nCONECTAR 5004\n", ["tls", "CLOSED"]),
        (b"HTTP/1.1\nhola HTTP/\nESTADO\n", ["unknown_command"] * 2 + ["STATUS", "IDLE"]),
    ],
)  # fmt: skip
def test_each_line_is_one_item(data: bytes, items: list[str]) -> None:
    """Every line that is not blank is a request or an error, in order, until the session closes."""
    assert in_every_framing(converse, data) == items


def test_a_command_that_fails_changes_nothing() -> None:
    """Only a command whose effect succeeded moves the session on."""
    failing = frozenset({Verb.CONTINUE_DEFERRED})
    script = b"CONECTAR 5004\nINTERRUMPIR\nCONTINUAR DIFERIDO\n"
    items = in_every_framing(lambda pieces: converse(pieces, failing), script)
    assert items[-1] == "PAUSED"
    items = in_every_framing(lambda pieces: converse(pieces, frozenset(Verb)), script)
    assert items == ["CONNECT", "out_of_order", "out_of_order", "IDLE"]
