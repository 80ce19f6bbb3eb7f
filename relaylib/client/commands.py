"""The commands that were given: in a queue, carried out one at a time, judged by their replies.

What is not valid now is not sent, because relays of the original design answer nothing to that; but
the relay is asked first, because it may have changed the state by itself. Without a person a
command that fails makes the exit status 1; in a script it is the last one.
"""

from collections import deque
from typing import Protocol

from relaylib.client.console import Console
from relaylib.client.dialogue import encode, explain, read_command
from relaylib.client.exchange import PATIENCE, Exchange
from relaylib.client.messages import HELP, say, text
from relaylib.client.reconnect import FAREWELL
from relaylib.client.script import Step
from relaylib.client.status import ToldStatus
from relaylib.errors import PeerError
from relaylib.net.loop import Loop, Timer
from relaylib.protocol.commands import Command, Verb
from relaylib.protocol.session import State

QUEUE = 64
"""Commands that may wait for their turn before no more are read."""

_STATES = {
    State.IDLE: text("idle"),
    State.STREAMING: text("streaming"),
    State.PAUSED: text("paused"),
    State.DEFERRED: text("deferred"),
    State.CLOSED: text("closed"),
}


class CommandOwner(Protocol):
    """The owner of the session."""

    @property
    def leaving(self) -> bool:
        """Whether it is ending."""

    def disconnect(self) -> None:
        """End the session: that was the command."""

    def succeeded(self, command: Command) -> None:
        """Note that the relay did what was asked."""

    def unsuccessful(self) -> None:
        """Note that a command was not carried out."""

    def failed(self, reason: str) -> None:
        """End the session: a script failed."""


class Commands:
    """Those that wait, and the one whose reply is awaited. `ready`: there is a session.

    With `farewells` an ERROR may be about the connection instead: that is known when it has lasted
    a little longer. If it has not, the command is sent again (`resume`) when the session is back.
    """

    def __init__(
        self,
        loop: Loop,
        console: Console,
        exchange: Exchange,
        status: ToldStatus,
        owner: CommandOwner,
        *,
        port: int,
        script: tuple[Step, ...],
        farewells: bool,
    ) -> None:
        self.ready = False
        self._loop = loop
        self._console = console
        self._exchange = exchange
        self._status = status
        self._owner = owner
        self._port = port
        self._farewells = farewells
        self._queue: deque[bytes | Step] = deque(script)
        self._current: tuple[Command, str] | None = None  # being carried out, and its place
        self._doubtful = False  # it is out of order, unless ESTADO tells otherwise
        self._declined = ""  # its reply, unless that is a farewell
        self._pause: Timer | None = None  # until which no command is sent

    @property
    def over(self) -> bool:
        """Whether there is nothing to do and nothing to wait for."""
        return not self._queue and not self._busy

    @property
    def _busy(self) -> bool:
        waits = self._current is not None or self._pause is not None
        return waits or not self.ready or self._exchange.busy

    def add(self, line: bytes) -> None:
        """Let a line wait for its turn."""
        self._queue.append(line)

    def advance(self) -> None:
        """Carry out what can be carried out now."""
        while self._queue and not self._busy:
            self._begin(self._queue.popleft())
        self._console.listen(len(self._queue) < QUEUE)

    def resume(self) -> None:
        """Begin, or go on after the connection was lost."""
        self.ready = True
        if self._current is not None:
            self._carry_out(*self._current)

    def interrupt(self) -> None:
        """The connection was lost; an ERROR that is not judged yet was the relay's farewell."""
        self.ready = False
        if self._declined:
            self._declined = ""
            self._stop_pause()

    def drop(self) -> bool:
        """Forget all commands; return whether one was not sent."""
        unsent = bool(self._queue) or self._doubtful
        if self._declined:
            self._decline()
        self._stop_pause()
        self._doubtful = False
        self._queue.clear()
        return unsent

    def _stop_pause(self) -> None:
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None

    def _begin(self, entry: bytes | Step) -> None:
        if isinstance(entry, Step):
            self._console.echo(entry.text)
            if entry.command is not None:
                self._carry_out(entry.command, entry.place)
            else:
                self._hold(entry.seconds)
            return
        self._console.echo(entry.decode("ascii", "replace"))
        if self._owner.leaving:  # a failed `echo` makes us leave
            return
        try:
            command = read_command(entry, self._port)
        except PeerError:
            self._not_sent(explain(entry))
            return
        if command is not None:
            self._carry_out(command)

    def _hold(self, seconds: float) -> None:
        """Send no command for so long."""
        self._pause = self._loop.call_later(seconds, self._go_on)

    def _go_on(self) -> None:
        self._pause = None
        if self._declined:
            self._decline()
        self.advance()

    def _carry_out(self, command: Command, place: str = "") -> None:
        if command.verb is Verb.HELP:
            listed = say(HELP) if self._console.interactive else HELP
            self._console.reply(listed.format(port=self._port))
        elif command.verb is Verb.DISCONNECT:
            self._queue.clear()  # ignored, as what follows `exit` in a script
            self._owner.disconnect()
        else:
            self._current = command, place
            self._doubtful = not self._exchange.dialogue.allows(command.verb)
            if self._doubtful:
                self._exchange.ask(self._settle_doubt)
            else:
                self._exchange.send(command, self._judge)

    def _settle_doubt(self, reply: str | None) -> None:
        """Send the doubtful command after all, or say that it is out of order."""
        self.show_error(reply)
        if self._current is None or not self._doubtful:
            return
        command, place = self._current
        self._doubtful = False
        state = self._exchange.dialogue.state
        if state is None or self._exchange.dialogue.allows(command.verb):
            self._exchange.send(command, self._judge)
            return
        self._current = None
        self._not_sent(
            say("{command} is not valid now ({state})",
                command=command.verb.value, state=say(_STATES[state])),
            place,
        )  # fmt: skip

    def _judge(self, reply: str | None) -> None:
        """Take the reply to the current command."""
        assert self._current is not None
        command, place = self._current
        if reply is None:
            self._current = None
            self._fail(self._silence(command), place)
        elif not self._exchange.dialogue.declined:
            self._current = None
            self._show(command, reply)
            self._owner.succeeded(command)
        else:
            self._declined = reply
            if self._farewells and not self._owner.leaving:
                self._hold(FAREWELL)
            else:
                self._decline()

    def _silence(self, command: Command) -> str:
        hangs = text("no answer to {command} in {seconds:g} s: it hangs")
        ignores = text(
            "no answer to {command} in {seconds:g} s: it hangs, or ignores what it rejects"
        )
        explicit = self._exchange.dialogue.explicit
        verb = command.verb.value
        return say(hangs if explicit else ignores, command=verb, seconds=PATIENCE)

    def _decline(self) -> None:
        """Take the ERROR as the reply to the current command."""
        assert self._current is not None
        (command, place), self._current = self._current, None
        reply, self._declined = self._declined, ""
        self._console.reply(reply)
        self._fail(f"{encode(command).decode().rstrip()}: {reply}" if place else "", place)

    def _not_sent(self, reason: str, place: str = "") -> None:
        self._fail(say("{reason}: not sent", reason=reason), place)

    def _fail(self, reason: str, place: str) -> None:
        """Say what went wrong with a command. Without a person it counts; it ends a script."""
        if place:
            self._queue.clear()
            self._owner.failed(f"{place}: {reason}")
            return
        if reason:
            self._console.note(reason)
        self._owner.unsuccessful()

    def show_error(self, reply: str | None) -> None:
        """Print the line that came to a question of the client's own, if it is no answer."""
        if reply is not None and self._exchange.dialogue.declined:
            self._console.reply(reply)

    def _show(self, command: Command, reply: str) -> None:
        person = self._console.interactive and self._console.readable
        if command.verb is Verb.STATUS and person:
            self._status.take(self._exchange.dialogue.facts, self._loop.now)
            self._console.block(self._status)
        else:
            self._console.reply(reply)
