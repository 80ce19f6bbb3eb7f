"""A viewer's session as one table: (state, verb) -> (next state, effect). Pure.

Everything a session can do is visible here at once, instead of being spread over handlers full of
flags. The table holds every pair; None stands where the command is out of order. Whoever carries
out the effect moves the session to the next state only if the effect succeeded, so a command that
fails changes nothing.
"""

from enum import Enum
from typing import NamedTuple

from relaylib.errors import OutOfOrderError
from relaylib.protocol.commands import Verb


class State(Enum):
    """Where a session stands; the value is its name in the ESTADO reply."""

    IDLE = "inactivo"
    STREAMING = "transmitiendo"
    PAUSED = "pausado"
    DEFERRED = "diferido"
    CLOSED = "cerrado"


class Effect(Enum):
    """What a command makes the relay do before it answers."""

    SUBSCRIBE = "subscribe"  # aim the stream at the port, streaming from the next datagram
    PAUSE = "pause"
    RESUME = "resume"  # from the live edge
    DEFER = "defer"  # from where it was paused, out of the time-shift buffer
    CLOSE = "close"
    REPORT = "report"
    HELP = "help"


class Transition(NamedTuple):
    """A table entry: the state that follows and what to do on the way."""

    state: State
    effect: Effect


def _row(
    state: State,
    *,
    interrupt: Transition | None = None,
    resume: Transition | None = None,
    defer: Transition | None = None,
) -> dict[tuple[State, Verb], Transition | None]:
    """One open state's row: what differs between states is named, the rest is always valid."""
    return {
        (state, Verb.CONNECT): Transition(State.STREAMING, Effect.SUBSCRIBE),
        (state, Verb.INTERRUPT): interrupt,
        (state, Verb.CONTINUE): resume,
        (state, Verb.CONTINUE_DEFERRED): defer,
        (state, Verb.DISCONNECT): Transition(State.CLOSED, Effect.CLOSE),
        (state, Verb.STATUS): Transition(state, Effect.REPORT),
        (state, Verb.HELP): Transition(state, Effect.HELP),
    }


_RESUME = Transition(State.STREAMING, Effect.RESUME)

TABLE: dict[tuple[State, Verb], Transition | None] = {
    **_row(State.IDLE),
    **_row(State.STREAMING, interrupt=Transition(State.PAUSED, Effect.PAUSE)),
    **_row(State.PAUSED, resume=_RESUME, defer=Transition(State.DEFERRED, Effect.DEFER)),
    **_row(State.DEFERRED, resume=_RESUME),
    **{(State.CLOSED, verb): None for verb in Verb},
}


def step(state: State, verb: Verb) -> Transition:
    """Look up what `verb` does in `state`.

    Raises:
        OutOfOrderError: the command is not valid now; the session stays as it is.
    """
    transition = TABLE[state, verb]
    if transition is None:
        raise OutOfOrderError(f"{verb.value} no es valido ahora (estado: {state.value})")
    return transition
