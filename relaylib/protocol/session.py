"""A session: what is valid when, as one table; and its protocol without I/O, in the manner of h11.

Everything a session can do is visible in the table at once, instead of being spread over handlers
full of flags. Effects are one to one with verbs, so the table says only which state follows; None
stands where the command is out of order.
"""

from enum import Enum

from relaylib.errors import FatalPeerError, OutOfOrderError, PeerError
from relaylib.protocol import words
from relaylib.protocol.commands import Command, Verb, parse
from relaylib.protocol.lines import LineReader


class State(Enum):
    """Where a session stands. `words.STATES` has what ESTADO calls it."""

    IDLE = "idle"
    STREAMING = "streaming"
    PAUSED = "paused"
    DEFERRED = "deferred"
    CLOSED = "closed"

    @property
    def word(self) -> str:
        """The state's word on the wire."""
        return words.spanish(words.STATES, self.value)


_IDLE, _STREAMING, _PAUSED, _DEFERRED, _CLOSED = State

# fmt: off
_ROWS: dict[Verb, tuple[State | None, ...]] = {
    # in state:              IDLE        STREAMING   PAUSED      DEFERRED    CLOSED
    Verb.CONNECT:           (_STREAMING, _STREAMING, _STREAMING, _STREAMING, None),
    Verb.INTERRUPT:         (None,       _PAUSED,    None,       _PAUSED,    None),
    Verb.CONTINUE:          (None,       None,       _STREAMING, _STREAMING, None),
    Verb.CONTINUE_DEFERRED: (None,       None,       _DEFERRED,  None,       None),
    Verb.REWIND:            (None,       _DEFERRED,  _DEFERRED,  _DEFERRED,  None),
    Verb.DISCONNECT:        (_CLOSED,    _CLOSED,    _CLOSED,    _CLOSED,    None),
    Verb.STATUS:            (_IDLE,      _STREAMING, _PAUSED,    _DEFERRED,  None),
    Verb.HELP:              (_IDLE,      _STREAMING, _PAUSED,    _DEFERRED,  None),
}
# fmt: on

TABLE: dict[tuple[State, Verb], State | None] = {
    (state, verb): after
    for verb, row in _ROWS.items()
    for state, after in zip(State, row, strict=True)
}


def step(state: State, verb: Verb) -> State:
    """Look up the state that follows when `verb` has had its effect.

    Raises:
        OutOfOrderError: the command is not valid now.
    """
    after = TABLE[state, verb]
    if after is None:
        message = f"{verb.value} no es valido ahora (estado: {state.word})"
        detail = f"{verb.value} while {state.value}"
        raise OutOfOrderError(message, "out_of_order", detail)
    return after


class Session:
    """Turns what a peer sends into commands that are valid now.

    Its owner feeds it bytes, takes one item after another, carries each command out, and calls
    `advance` if that succeeded: a command that fails changes nothing.
    """

    __slots__ = ("lines", "state")

    def __init__(self, state: State = State.IDLE, lines: LineReader | None = None) -> None:
        self.state = state
        self.lines = lines or LineReader()

    def feed(self, data: bytes) -> None:
        """Take the next bytes as they came from the connection."""
        self.lines.feed(data)

    def next_item(self) -> Command | PeerError | None:
        """Return the next command, or what is wrong with the next line; None: feed more.

        Each item gets one reply. A line that is too long, or of another protocol, closes the
        session, and a closed session has no more items.
        """
        try:
            while self.state is not State.CLOSED and (line := self.lines.next_line()) is not None:
                if (command := parse(line)) is not None:
                    step(self.state, command.verb)
                    return command
        except FatalPeerError as error:
            self.close()
            return error
        except PeerError as error:
            return error
        return None

    def advance(self, verb: Verb) -> None:
        """Move on: `verb` has had its effect.

        Raises:
            OutOfOrderError: it is not valid now; the session stays as it is.
        """
        self.state = step(self.state, verb)

    def close(self) -> None:
        """End, whatever the reason."""
        self.state = State.CLOSED
