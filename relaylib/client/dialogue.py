"""What a viewer knows of its session at the relay, from the replies alone. Pure.

The client says that a command is out of order before it sends it, so it must follow the session
from afar, and may be wrong: an old relay answers nothing to a command that it does not accept, a
reply may be late, and a relay pauses by itself a player that keeps refusing datagrams. So what is
known is a set of states that the session may be in, worked out with the relay's own table: a reply
narrows it down, silence widens it, `ESTADO` settles it. A command is held back only if no state
that the session can be in accepts it; a wrong guess never keeps a viewer from a valid command.
"""

import re

from relaylib.protocol.commands import MAX_PORT, MIN_PORT, Request, Verb, parse, shown
from relaylib.protocol.session import TABLE, State

_DRIFT: dict[State, tuple[State, ...]] = {
    State.STREAMING: (State.PAUSED,),
    State.DEFERRED: (State.STREAMING, State.PAUSED),
}
"""Where a relay may take a session unasked: it pauses a player that is not there, and a deferred
stream whose history ended goes on live."""

_REPORT = re.compile(r"OK\s(?:.*\s)?estado=(\S+)", re.ASCII | re.IGNORECASE)

_MEANING = {
    Verb.CONNECT: "the stream comes to this UDP port of this host (default {port})",
    Verb.INTERRUPT: "pause: nothing is sent until CONTINUAR",
    Verb.CONTINUE: "resume live",
    Verb.CONTINUE_DEFERRED: "resume from where it was paused, if the relay keeps that much",
    Verb.DISCONNECT: "end the stream and leave; so do Ctrl-D and Ctrl-C",
    Verb.STATUS: "ask the relay how the session stands",
    Verb.HELP: "show this list",
}


def read_command(line: bytes, port: int) -> Request | None:
    """Make a command of what a viewer typed; a bare CONECTAR asks for `port`. None if blank.

    Raises:
        BadCommandError: the line is no command; `explain` says why in the viewer's terms.
    """
    if line.strip().upper() == Verb.CONNECT.value.encode():
        return Request(Verb.CONNECT, port)
    return parse(line)


def explain(line: bytes) -> str:
    """Say what is wrong with a line that `read_command` rejected."""
    word = line.split()[0].upper().decode("ascii", "replace")
    if word.startswith(Verb.CONNECT.value):
        return f"{shown(line)}: CONECTAR takes one UDP port, {MIN_PORT} to {MAX_PORT}, or none"
    if any(word == verb.value for verb in Verb):
        return f"{shown(line)}: {word} does not take that"
    return f"unknown command: {shown(line)} (AYUDA lists them)"


def encode(request: Request) -> bytes:
    """Spell a command for the wire, in the spelling that every relay knows."""
    port = "" if request.port is None else f" {request.port}"
    return f"{request.verb.value}{port}\n".encode("ascii")


def printable(line: bytes) -> str:
    """Decode a relay's line for a terminal: control and other invisible characters are escaped."""
    text = line.decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class Dialogue:
    """The commands still unanswered, and the states that the session may be in.

    `agreed` tells whether the relay's last reply was an OK; a farewell is an ERROR.
    """

    def __init__(self) -> None:
        self.agreed = False
        self._known = frozenset({State.IDLE})
        self._unanswered: list[Verb] = []

    @property
    def waiting(self) -> Verb | None:
        """The oldest command without a reply."""
        return self._unanswered[0] if self._unanswered else None

    @property
    def state(self) -> str:
        """The state in a word, for a person."""
        states = [state.name.lower() for state in self._known]
        return states[0] if len(states) == 1 else "unsure"

    def expects(self, verb: Verb) -> bool:
        """Tell whether the command is valid as far as is known."""
        return bool(_accepting(self._known, verb))

    def allows(self, verb: Verb) -> bool:
        """Tell whether the command may be valid, also where the relay moved on by itself."""
        return bool(_accepting(self._possible(), verb))

    def sent(self, verb: Verb) -> None:
        """Note that a command is on its way."""
        self._unanswered.append(verb)

    def answered(self, reply: str) -> Verb | None:
        """Learn from a reply; return the command that it answers, None if it answers none."""
        verb = self._match(reply)
        if _word(reply) in ("OK", "ERROR"):
            self.agreed = _is_ok(reply)
        if verb is not None:
            self._unanswered.remove(verb)
            self._known = self._outcome(verb) if _is_ok(reply) else self._rejecting(verb)
        elif _word(reply) in ("OK", "ERROR"):
            self._known = _OPEN  # it answers a command given up: the two ends are out of step
        if (report := _REPORT.match(reply)) and (state := _STATES.get(report[1].lower())):
            self._known = frozenset({state})
        return verb

    def silence(self) -> None:
        """Stop waiting: each command was either ignored, or carried out and its reply lost."""
        for verb in self._unanswered:
            self._known |= self._outcome(verb)
        self._unanswered.clear()

    def _possible(self) -> frozenset[State]:
        return self._known.union(*(_DRIFT.get(state, ()) for state in self._known))

    def _outcome(self, verb: Verb) -> frozenset[State]:
        before = _accepting(self._known, verb) or _accepting(self._possible(), verb)
        return frozenset(after for state in before if (after := TABLE[state, verb]))

    def _rejecting(self, verb: Verb) -> frozenset[State]:
        # No such state: the relay had another reason (port taken), which leaves the session as is.
        possible = self._possible()
        return possible - _accepting(possible, verb) or self._known

    def _match(self, reply: str) -> Verb | None:
        """Find the command that a reply answers.

        Relays answer in order, but an old one skips ESTADO and then answers OK to the next.
        """
        if _is_ok(reply):
            report = _REPORT.match(reply) is not None
            return next((v for v in self._unanswered if (v is Verb.STATUS) is report), None)
        return self.waiting if _word(reply) == "ERROR" else None

    def help(self, port: int) -> list[str]:
        """List the commands with their meaning; a star marks those that are valid now."""
        return [f"commands (* valid now: {self.state}):"] + [
            f"{'*' if self.expects(verb) else ' '} {_usage(verb):18}  {meaning.format(port=port)}"
            for verb, meaning in _MEANING.items()
        ]


_STATES = {state.value: state for state in State}
_OPEN = frozenset(State) - {State.CLOSED}


def _accepting(states: frozenset[State], verb: Verb) -> frozenset[State]:
    return frozenset(state for state in states if TABLE[state, verb] is not None)


def _word(reply: str) -> str:
    return reply.partition(" ")[0].strip().upper()


def _is_ok(reply: str) -> bool:
    return _word(reply) == "OK"


def _usage(verb: Verb) -> str:
    return "CONECTAR [PORT]" if verb is Verb.CONNECT else verb.value
