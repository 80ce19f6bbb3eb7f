"""The session's table, walked pair by pair against the protocol's own table."""

import pytest

from relaylib.errors import OutOfOrderError
from relaylib.protocol.commands import Verb
from relaylib.protocol.session import TABLE, Effect, State, Transition, step

EXPECTED = """
             IDLE                 STREAMING            PAUSED               DEFERRED
CONNECT      STREAMING/SUBSCRIBE  STREAMING/SUBSCRIBE  STREAMING/SUBSCRIBE  STREAMING/SUBSCRIBE
INTERRUPT    -                    PAUSED/PAUSE         -                    -
CONTINUE     -                    -                    STREAMING/RESUME     STREAMING/RESUME
CONTINUE_DEFERRED  -              -                    DEFERRED/DEFER       -
DISCONNECT   CLOSED/CLOSE         CLOSED/CLOSE         CLOSED/CLOSE         CLOSED/CLOSE
STATUS       IDLE/REPORT          STREAMING/REPORT     PAUSED/REPORT        DEFERRED/REPORT
HELP         IDLE/HELP            STREAMING/HELP       PAUSED/HELP          DEFERRED/HELP
"""
"""The protocol's description, transcribed by hand: next state/effect, or - for an error."""


def expected() -> dict[tuple[State, Verb], Transition | None]:
    """Read the table above; the row of a closed session is not in it."""
    header, *rows = [line.split() for line in EXPECTED.strip().splitlines()]
    table = dict[tuple[State, Verb], Transition | None]()
    for verb, *cells in rows:
        for state, cell in zip(header, cells, strict=True):
            after, _, effect = cell.partition("/")
            table[State[state], Verb[verb]] = (
                Transition(State[after], Effect[effect]) if effect else None
            )
    return table


PAIRS = [(state, verb) for state in State for verb in Verb]


def test_every_pair_is_in_the_table() -> None:
    """The table holds every pair of a state and a command, and nothing else."""
    assert set(TABLE) == set(PAIRS)


@pytest.mark.parametrize(("state", "verb"), PAIRS)
def test_every_pair_does_what_the_protocol_says(state: State, verb: Verb) -> None:
    """Each pair has the next state and the effect of the protocol's table, or is an error."""
    transition = expected().get((state, verb))
    if transition is not None:
        assert step(state, verb) == transition
        return
    with pytest.raises(OutOfOrderError) as refusal:
        step(state, verb)
    assert str(refusal.value) == f"{verb.value} no es valido ahora (estado: {state.value})"
    assert str(refusal.value).isascii()


@pytest.mark.parametrize("verb", Verb)
def test_a_closed_session_takes_no_command(verb: Verb) -> None:
    """Nothing is valid any more once a session is closed."""
    with pytest.raises(OutOfOrderError):
        step(State.CLOSED, verb)


def test_state_names_are_what_estado_reports() -> None:
    """The states' names on the wire are Spanish words without blanks, in ASCII."""
    names = [state.value for state in State]
    assert names == ["inactivo", "transmitiendo", "pausado", "diferido", "cerrado"]
