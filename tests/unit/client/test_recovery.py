"""What is done and said when a lost connection is back."""

import pytest

from relaylib.client.dialogue import encode
from relaylib.client.recovery import Recovery
from relaylib.protocol.session import State


@pytest.mark.parametrize(
    ("state", "commands"),
    [
        (State.IDLE, ""),
        (State.STREAMING, "CONECTAR 6000\n"),
        (State.PAUSED, "CONECTAR 6000\nINTERRUMPIR\n"),
        (State.DEFERRED, "CONECTAR 6000\nRETROCEDER 37.5\n"),
    ],
)
def test_the_session_is_led_to_where_it_stood(state: State, commands: str) -> None:
    """To the same port and state; who was behind goes back by the time of absence, too."""
    recovery = Recovery(6000, state, behind=30.0)
    recovery.lost(100.0)
    recovery.lost(103.0)  # another attempt, not another loss
    assert b"".join(map(encode, recovery.steps(107.5))).decode() == commands


def test_no_relay_keeps_more_than_a_day() -> None:
    """After a weekend the command to go back is still a valid one."""
    recovery = Recovery(6000, State.DEFERRED, behind=30.0, since=0.0)
    assert [encode(step) for step in recovery.steps(200_000.0)][1] == b"RETROCEDER 86400\n"


@pytest.mark.parametrize(
    ("state", "behind", "story"),
    [
        (State.IDLE, None, ""),
        (
            State.STREAMING,
            None,
            ": the stream comes to UDP port 6000 again; what came meanwhile is lost",
        ),
        (State.PAUSED, None, ": paused again, from now on"),
        (State.DEFERRED, 39.4, ": 39 s behind live; nothing is lost"),
        (State.DEFERRED, 9.6, ": 10 s behind live; 30 s are lost: the relay keeps no more"),
        (State.DEFERRED, None, ": live now: the relay has nothing left of what you were watching"),
    ],
)
def test_what_was_lost_is_told(state: State, behind: float | None, story: str) -> None:
    """One line says for how long the relay was away, how the session stands, and what is lost."""
    recovery = Recovery(6000, state, behind=30.0, since=10.0, told={"a reason"})
    assert recovery.back(20.0, behind) == f"connected again after 10 s{story}"
    assert (recovery.since, recovery.told) == (None, set())
