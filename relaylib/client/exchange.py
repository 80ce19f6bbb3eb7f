"""Commands out, replies in: each command has a callback for its reply.

A reply is awaited for `PATIENCE`, then it is None: relays of the original design answer nothing to
a command that they do not accept.
"""

from collections.abc import Callable
from typing import Protocol

from relaylib.client.dialogue import Dialogue, encode, printable
from relaylib.net.loop import Loop, Timer
from relaylib.protocol.commands import Command, Verb
from relaylib.protocol.lines import LineReader

PATIENCE = 2.0
"""Seconds that a reply may take: several round trips to the far side of the world."""

FRESH = 1.0
"""Seconds between a farewell and the end of the connection, at most."""

Answered = Callable[[str | None], None]
"""Takes a reply, or None when there was none."""


class ExchangeOwner(Protocol):
    """The giver of the commands."""

    def remark(self, line: str) -> None:
        """Take a line that answers nothing."""

    def unconfirmed(self) -> None:
        """Note that DESCONECTAR was not answered."""

    def settled(self) -> None:
        """Note that a reply, or its absence, has been dealt with."""


class Exchange:
    """What is said over one connection after another; `dialogue` is what is known of this one."""

    def __init__(self, loop: Loop, owner: ExchangeOwner, write: Callable[[bytes], None]) -> None:
        self._loop = loop
        self._owner = owner
        self._write = write
        self._timer: Timer | None = None
        self.begin()

    def begin(self) -> None:
        """Know nothing: this is another connection, or there is none."""
        self._stop_waiting()
        self.dialogue = Dialogue()
        self._replies = LineReader()
        self._answers: dict[Verb, Answered] = {}
        self._error, self._error_at = "", self._loop.now

    @property
    def farewell(self) -> str:
        """An ERROR that came just now: if the connection ends, it says why."""
        return self._error if self._loop.now - self._error_at < FRESH else ""

    @property
    def busy(self) -> bool:
        """Whether a reply is awaited."""
        return bool(self.dialogue.unanswered)

    def send(self, command: Command, answered: Answered) -> None:
        """Send a command; `answered` gets its reply."""
        self._write(encode(command))
        self.dialogue.sent(command.verb)
        self._answers[command.verb] = answered
        self._stop_waiting()
        self._timer = self._loop.call_later(PATIENCE, self._patience_over)

    def ask(self, answered: Answered) -> None:
        """Ask how the session stands."""
        self.send(Command(Verb.STATUS), answered)

    def received(self, data: bytes) -> None:
        """Take what came.

        Raises:
            LineTooLongError: it is no relay that answers.
        """
        replies = self._replies
        replies.feed(data)
        while replies is self._replies and (line := replies.next_line()) is not None:
            self._take(printable(line))

    def end_line(self) -> None:
        """Take an unfinished line as complete: some relays never end it."""
        if self._replies.pending:
            self.received(b"\n")

    def _take(self, line: str) -> None:
        verb = self.dialogue.answered(line)
        if line.upper().startswith("ERROR"):
            self._error, self._error_at = line, self._loop.now
        if not self.busy:
            self._stop_waiting()
        answered = self._answers.pop(verb, None) if verb is not None else None
        if answered is None:
            self._owner.remark(line)
        else:
            answered(line)
        self._owner.settled()

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _patience_over(self) -> None:
        self._stop_waiting()
        self.end_line()
        if not self.busy or self._timer is not None:
            return  # that was the answer
        if Verb.DISCONNECT in self.dialogue.unanswered:
            self._owner.unconfirmed()
            return
        answered = self._answers.pop(self.dialogue.unanswered[0])
        self.dialogue.give_up()
        answered(None)
        self._owner.settled()
