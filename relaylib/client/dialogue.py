"""The client's side of the control protocol: what was typed, what was sent, what came back. Pure.

The client says that a command is out of order instead of sending it, because relays of the original
design answer nothing to such a command. What it knows of its session is what the relay told last,
and may be out of date: a relay pauses a session by itself when the player's port stays closed. So
before a command is held back the relay is asked again (`commands` sends ESTADO).
"""

import re
from collections.abc import Mapping

from relaylib.client.messages import say, text
from relaylib.protocol.commands import MAX_PORT, MAX_SECONDS, MIN_PORT, Command, Verb, parse, shown
from relaylib.protocol.session import TABLE, State
from relaylib.protocol.words import FORMS, PRESENCES, english

_OUTCOME = {
    Verb.CONNECT: State.STREAMING,
    Verb.INTERRUPT: State.PAUSED,
    Verb.CONTINUE: State.STREAMING,
    Verb.CONTINUE_DEFERRED: State.DEFERRED,
    Verb.REWIND: State.DEFERRED,
    Verb.DISCONNECT: State.CLOSED,
}
"""Where an OK to the command puts the session, whatever its state was before."""

_REPORT = re.compile(r"OK\s(?:.*\s)?estado=(\S+)", re.ASCII | re.IGNORECASE)
SECONDS = re.compile(r"\d{1,9}(\.\d{1,9})?", re.ASCII)
"""A delay as ESTADO tells it."""

_PAIR = re.compile(r"(\S+?)=(\S+)", re.ASCII)
_NO_SOURCE = {
    "absent": text("the relay has no source: nothing comes until somebody sends it a stream"),
    "silent": text("the source is silent: nothing comes until it sends again"),
}
NO_MPEG_TS = text("RTP without MPEG-TS (payload type {kind}): send rtp_mpegts")
_STATES = {state.word: state for state in State}


def read_command(line: bytes, port: int) -> Command | None:
    """Make a command of what a viewer typed; a bare CONECTAR asks for `port`. None if blank.

    Raises:
        BadCommandError: the line is no command; `explain` says why in the viewer's terms.
    """
    if line.strip().upper() == Verb.CONNECT.value.encode():
        return Command(Verb.CONNECT, port)
    return parse(line)


def explain(line: bytes) -> str:
    """Say what is wrong with a line that `read_command` rejected."""
    word = line.split()[0].upper().decode("ascii", "replace")
    if word.startswith(Verb.CONNECT.value):
        return say(
            "{line}: CONECTAR takes one UDP port, {low} to {high}, or none",
            line=shown(line), low=MIN_PORT, high=MAX_PORT,
        )  # fmt: skip
    if word == Verb.REWIND.value:
        return say(
            "{line}: RETROCEDER takes seconds, more than 0 and up to {most}",
            line=shown(line), most=MAX_SECONDS,
        )  # fmt: skip
    if any(word == verb.value for verb in Verb):
        return say("{line}: {word} does not take that", line=shown(line), word=word)
    return say("unknown command: {line} (AYUDA lists them)", line=shown(line))


def encode(command: Command) -> bytes:
    """Spell a command for the wire, in the spelling that every relay knows."""
    words = [command.verb.value]
    if command.port is not None:
        words.append(str(command.port))
    if command.seconds is not None:
        words.append(f"{command.seconds:.3f}".rstrip("0").rstrip("."))
    return f"{' '.join(words)}\n".encode("ascii")


def printable(line: bytes) -> str:
    """Decode a relay's line for a terminal: control and other invisible characters are escaped."""
    text = line.decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class Dialogue:
    """The commands that still wait for a reply, and the session's state as the relay told it last.

    `state` is None where nothing is known. `declined`: the last reply was an ERROR, as a farewell
    is. `explicit`: the relay has answered more than OK, so it is not of the original design.
    `facts` are the pairs of its last report; older relays tell fewer.
    """

    def __init__(self) -> None:
        self.state: State | None = State.IDLE
        self.unanswered: list[Verb] = []
        self.declined = False
        self.explicit = False
        self.facts: dict[str, str] = {}

    def allows(self, verb: Verb) -> bool:
        """Tell whether a command is valid, or may be, by what is known."""
        return self.state is None or TABLE.get((self.state, verb)) is not None

    def sent(self, verb: Verb) -> None:
        """Note that a command is on its way."""
        self.unanswered.append(verb)

    def answered(self, line: str) -> Verb | None:
        """Learn from a line; return the command that it answers, None if it answers none."""
        word = line.partition(" ")[0].strip().upper()
        if word not in ("OK", "ERROR"):
            return None
        self.declined = word == "ERROR"
        report = _REPORT.match(line)
        self.explicit |= report is not None or self.declined
        verb = self._match(report is not None)
        if verb is not None:
            self.unanswered.remove(verb)
        if report is not None:
            self.state = _STATES.get(report[1].lower())
            self.facts = dict(_PAIR.findall(line.lower()))
        elif verb is None:
            self.state = None  # it answers a command given up: the two ends are out of step
        elif not self.declined:
            self.state = _OUTCOME.get(verb, self.state)
        return verb

    @property
    def scheme(self) -> str:
        """The one of the address that a player opens for what the source sends."""
        return "rtp" if self._value(FORMS, "forma") == "rtp" else "udp"

    @property
    def no_source(self) -> str:
        """Why there is nothing to see, if the relay has said so."""
        reason = _NO_SOURCE.get(self._value(PRESENCES, "fuente"))
        if reason is None and self._value(FORMS, "forma") == "rtp_other":
            return say(NO_MPEG_TS, kind=self.facts.get("tipo", "?"))
        return say(reason) if reason else ""

    def _value(self, table: Mapping[str, str], key: str) -> str:
        """Return what the word of a pair stands for; "": the relay has not said it."""
        return english(table, self.facts.get(key, ""))

    @property
    def behind(self) -> float | None:
        """How many seconds behind live the session is, by the last report."""
        word = self.facts.get("retraso", "")
        return float(word) if SECONDS.fullmatch(word) else None

    def give_up(self) -> None:
        """Stop waiting: each command was either ignored, or carried out and its reply lost."""
        self.unanswered.clear()
        self.state = None

    def _match(self, report: bool) -> Verb | None:
        """Find the command that the last reply answers.

        Relays answer in order, but an old one skips ESTADO and then answers OK to the next. An
        ERROR never answers DESCONECTAR, which is always valid: it is a farewell.
        """
        for verb in self.unanswered:
            if self.declined:
                return None if verb is Verb.DISCONNECT else verb
            if (verb is Verb.STATUS) is report:
                return verb
        return None
