"""Coming back after a lost connection: `--reconnect`.

On a new connection the relay is asked ESTADO before anything else: a relay that is full accepts,
says ERROR and closes, and only an answer shows that it lets us in. (An old one answers nothing, and
costs `PATIENCE`.) Then the session is led to where it stood, by the commands of `recovery`.

A relay pauses a session by itself when the player's port has been closed for long. A person sees
that and says CONTINUAR; where there is none, `attend` does, when the port is open again.
"""

import errno
import socket
from collections.abc import Callable, Iterator
from functools import partial

from relaylib.client.dialogue import encode
from relaylib.client.exchange import Exchange
from relaylib.client.link import Link
from relaylib.client.messages import say
from relaylib.client.recovery import Recovery
from relaylib.net.loop import Loop, Timer
from relaylib.protocol.commands import Command, Verb
from relaylib.protocol.session import State

FAREWELL = 0.2
"""Seconds after an ERROR in which the connection may end: then that was about the connection, and
no reply. Otherwise a script would fail because the relay stops."""

LOOK = 10.0
"""Seconds between two looks at a session without a person."""


def is_open(port: int) -> bool:
    """Tell whether a program listens at a UDP port of this host."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("", port))
        except OSError as error:
            return error.errno == errno.EADDRINUSE
    return False


class Reconnect:
    """Brings the session back; `ready` is called each time it stands, `note` tells the person."""

    def __init__(
        self,
        loop: Loop,
        link: Link,
        exchange: Exchange,
        port: int,
        *,
        ready: Callable[[], None],
        note: Callable[[str], None],
    ) -> None:
        self._loop = loop
        self._link = link
        self._exchange = exchange
        self._ready = ready
        self._note = note
        self._recovery = Recovery(port)
        self._met = False  # the relay has let us in before
        self._standing = False  # the session stands as it should
        self._steps: Iterator[Command] = iter(())
        self._timer: Timer | None = None

    def remember(self, command: Command) -> None:
        """Take where a command that succeeded has led; what the relay does by itself, it undoes."""
        recovery, state = self._recovery, self._exchange.dialogue.state
        if command.port is not None:
            recovery.port = command.port
        if command.verb is not Verb.STATUS and state is not None:
            recovery.state = state

    def measure(self) -> None:
        """Take how far behind live the session is."""
        if self._recovery.state is State.DEFERRED:
            self._recovery.behind = self._exchange.dialogue.behind or self._recovery.behind

    def attend(self) -> None:
        """Go on by ourselves from now on when the relay has paused what was to be streaming."""
        self._loop.call_every(LOOK, self._look)

    def _look(self) -> None:
        if self._standing and self._recovery.state is State.STREAMING and not self._exchange.busy:
            self._exchange.ask(self._looked)

    def _looked(self, _reply: str | None) -> None:
        port = self._recovery.port
        if self._exchange.dialogue.state is State.PAUSED and is_open(port):
            self._note(say("UDP port {port} is open again: CONTINUAR", port=port))
            self._exchange.send(Command(Verb.CONTINUE), lambda _reply: None)

    def away(self) -> str:
        """Say for how long the relay has been away, and what is done about it."""
        now, at = self._loop.now, self._link.next_at
        away = round(self._recovery.away(now))
        if at is None:
            return say("not connected for {seconds} s; trying now", seconds=away)
        return say(
            "not connected for {seconds} s; next attempt in {wait} s",
            seconds=away, wait=max(1, round(at - now)),
        )  # fmt: skip

    def unreachable(self, reason: str) -> None:
        """Try again after a while; tell why only if nothing has been said of it yet."""
        self._again(reason, news=not self._recovery.told)

    def lost(self, reason: str) -> None:
        """Try again after a while; tell the reason if it is a new one."""
        self._again(reason, news=reason not in self._recovery.told)

    def _again(self, reason: str, *, news: bool) -> None:
        self._stop()
        self._standing = False
        self._recovery.lost(self._loop.now)
        self._exchange.begin()
        self._link.again()
        self._recovery.told.add(reason)
        if news:
            self._note(say("{reason}; trying again", reason=reason))

    def connected(self) -> None:
        """Find out whether the relay lets us in."""
        self._exchange.ask(self._let_in)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _let_in(self, _reply: str | None) -> None:
        if self._exchange.dialogue.declined:
            self._timer = self._loop.call_later(FAREWELL, self._restore)
        else:
            self._restore()

    def _restore(self) -> None:
        self._steps = self._recovery.steps(self._loop.now)
        self._step()

    def _step(self) -> None:
        command = next(self._steps, None)
        if command is not None:
            self._exchange.send(command, partial(self._stepped, command))
        elif self._exchange.dialogue.state is State.DEFERRED:
            self._exchange.ask(self._back)
        else:
            self._back(None)

    def _stepped(self, command: Command, reply: str | None) -> None:
        if reply is None or not self._exchange.dialogue.declined:
            self._step()
        elif command.verb is Verb.CONNECT:
            line = encode(command).decode().rstrip()
            self.lost(say("{command} got {reply}", command=line, reply=reply))
        else:
            self._back(None)  # no going back: it stays live

    def _back(self, reply: str | None) -> None:
        behind = None if reply is None else self._exchange.dialogue.behind
        story = self._recovery.back(self._loop.now, behind)
        if self._met:
            self._note(story)
        self._met = self._standing = True
        self._ready()
