"""A viewer's remote control: lines from a person to the relay, and its replies back.

One command is sent at a time and its reply awaited before the next, so that each is judged by what
the relay said and not by a guess; what is typed or piped meanwhile waits in a queue. Relays of the
original design answer nothing to a command that they do not accept: the wait is bounded, after
`PATIENCE` the remote control says so and goes on.
"""

import signal
import socket
from collections import deque

from relaylib.client.console import open_console
from relaylib.client.dialogue import Dialogue, encode, explain, printable, read_command
from relaylib.client.player import Player
from relaylib.errors import BadCommandError, LineTooLongError
from relaylib.net.connection import Connection
from relaylib.net.loop import Loop, Timer
from relaylib.protocol.commands import Request, Verb
from relaylib.protocol.lines import LineReader

PATIENCE = 2.0
"""Seconds that a reply may take: several round trips to the far side of the world."""

QUEUE = 64
"""Commands that may wait for their turn before no more are read."""


_BROKEN = {"reset": "reset by peer", "vanished": "peer vanished"}
"""How a connection's end is told to a person."""


class Remote:
    """Joins the console, the connection and what is known of the session; stops the loop to end.

    `status` is the exit status then: 0 only if the relay agreed to our leaving. It answers OK to
    DESCONECTAR, or, as old relays do, it hears that and closes, its last reply being an OK.
    """

    def __init__(self, loop: Loop, sock: socket.socket, port: int) -> None:
        self.status = 0
        self._loop = loop
        self._port = port
        self._dialogue = Dialogue()
        self._replies = LineReader()
        self._commands: deque[bytes] = deque()
        self._input_over = self._leaving = self._over = False
        self._timer: Timer | None = None
        self._player: Player | None = None
        self._console = open_console(loop, self, tuple(verb.value for verb in Verb))
        self._connection = Connection(loop, sock, self)
        self._update_prompt()

    def play(self, path: str, url: str) -> None:
        """Open the player, and notice when the viewer closes it.

        Raises:
            SetupError: it cannot be started.
        """
        self._loop.on_signal(signal.SIGCHLD, self._child_ended)
        self._player = Player(path, url)

    def greet(self, text: str) -> None:
        """Tell a person at a terminal where they are; a script needs no greeting."""
        if self._console.interactive:
            self._console.note(text)

    def interrupt(self) -> None:
        """Leave politely; the second time, at once."""
        if self._leaving:
            self.status = 130
            self._end()
        else:
            self.leave()

    def leave(self) -> None:
        """Leave politely, ahead of what waits; said twice it is the same."""
        if not self._leaving:
            self._leaving = True
            self._commands.clear()
            self._send(Request(Verb.DISCONNECT))

    def close(self) -> None:
        """Give back the terminal and close the player."""
        self._console.close()
        if self._player is not None:
            self._player.close()

    # --- the person

    def entered(self, line: bytes) -> None:
        """Take a line of input; it waits until the commands before it are answered."""
        if not self._leaving:
            self._commands.append(line)
            self._advance()

    def ended(self) -> None:
        """Leave when the last command is answered."""
        self._input_over = True
        self._advance()

    def failed(self, reason: str) -> None:
        """Leave politely, but not with success."""
        self.status = 1
        self._console.note(f"client.py: {reason}")
        self.leave()

    def _advance(self) -> None:
        while self._commands and self._dialogue.waiting is None:
            self._obey(self._commands.popleft())
        if self._input_over and not self._commands and self._dialogue.waiting is None:
            self.leave()
        self._console.listen(len(self._commands) < QUEUE)

    def _obey(self, line: bytes) -> None:
        try:
            request = read_command(line, self._port)
        except BadCommandError:
            self._console.note(explain(line))
            return
        if request is None:
            return
        if request.verb is Verb.HELP:
            self._console.reply("\n".join(self._dialogue.help(self._port)))
        elif request.verb is Verb.DISCONNECT:
            self.leave()
        elif self._is_sensible(request.verb):
            self._send(request)

    def _is_sensible(self, verb: Verb) -> bool:
        state = self._dialogue.state
        if not self._dialogue.allows(verb):
            self._console.note(f"{verb.value} is not valid now ({state}): not sent")
            return False
        if not self._dialogue.expects(verb):
            self._console.note(f"{verb.value} is not expected now ({state}): asking the relay")
        return True

    # --- the relay

    def _send(self, request: Request) -> None:
        self._connection.write(encode(request))
        self._dialogue.sent(request.verb)
        self._stop_waiting()
        self._timer = self._loop.call_later(PATIENCE, self._unanswered)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _unanswered(self) -> None:
        self._stop_waiting()
        self._end_line()  # some relays never do
        waiting = self._dialogue.waiting
        if self._over or waiting is None or self._timer is not None:
            return  # that was the answer
        if self._leaving:
            self._lost("no answer to DESCONECTAR")
            return
        self._dialogue.silence()
        self._update_prompt()
        self._console.note(
            f"no answer to {waiting.value} (old relays ignore what they do not accept)"
        )
        self._advance()

    def received(self, data: bytes) -> None:
        """Take bytes from the relay."""
        self._replies.feed(data)
        try:
            while not self._over and (line := self._replies.next_line()) is not None:
                self._show(line)
        except LineTooLongError:
            self._lost("it sends lines that are too long: not a relay?")

    def _end_line(self) -> None:
        """Take what has come of a line as the whole of it."""
        if self._replies.pending:
            self.received(b"\n")

    def _show(self, line: bytes) -> None:
        text = printable(line)
        verb = self._dialogue.answered(text)
        self._update_prompt()
        self._console.reply(text)
        if self._dialogue.waiting is None:
            self._stop_waiting()
        if verb is not Verb.DISCONNECT:
            self._advance()
        elif self._dialogue.agreed:
            self._end()
        else:
            self._lost("it answered DESCONECTAR with an error")

    def finished(self) -> None:
        """The relay closed, perhaps in the middle of a line, perhaps because we leave."""
        self._end_line()
        heard = self._leaving and not self._connection.unsent
        if heard and self._dialogue.agreed:
            self._end()
        else:
            self._lost("it closed the connection")

    def gone(self, reason: str) -> None:
        """The connection broke, perhaps in the middle of a line."""
        self._end_line()
        self._lost(_BROKEN.get(reason, reason))

    def _lost(self, reason: str) -> None:
        if not self._over:
            self.status = 1
            self._console.note(f"client.py: the relay is gone: {reason}")
        self._end()

    # --- the rest

    def _update_prompt(self) -> None:
        self._console.prompt = f"{self._dialogue.state}> "

    def _child_ended(self) -> None:
        if self._player is not None and self._player.ended() and not self._over:
            self._console.note(f"the player {self._player.why_ended()}; the session goes on")
            self._player = None

    def _end(self) -> None:
        self._over = True
        self._loop.stop()
