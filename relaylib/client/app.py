"""The client itself: lines from a person or a script to the relay, and its replies back.

One command is sent at a time and its reply awaited before the next, so that each is judged by what
the relay said and not by a guess; what is typed, pasted or piped meanwhile waits in a queue. Relays
of the original design answer nothing to a command that they do not accept: so after `PATIENCE` the
client says that there was no answer and goes on.
"""

import signal
import socket
from collections import deque

from relaylib.cli import program_name
from relaylib.client.console import open_console
from relaylib.client.dialogue import HELP, Dialogue, encode, explain, printable, read_command
from relaylib.client.player import Player
from relaylib.errors import BadCommandError, LineTooLongError
from relaylib.net.address import player_url
from relaylib.net.connection import Connection
from relaylib.net.loop import Loop, Timer
from relaylib.protocol.commands import Request, Verb
from relaylib.protocol.lines import LineReader

PATIENCE = 2.0
"""Seconds that a reply may take: several round trips to the far side of the world."""

QUEUE = 64
"""Commands that may wait for their turn before no more are read."""

_LOST = {"reset": "the relay reset it", "vanished": "the relay's host does not answer any more"}
"""How a connection's end is told to a person."""


class App:
    """Joins the console, the connection and what is known of the session; stops the loop to end.

    `status` is then the exit status. It is 0 if the relay answered DESCONECTAR with OK or, as old
    relays do, by closing. Without a person at the console, a command that was answered with ERROR
    or not at all, or was not sent, makes it 1.
    """

    def __init__(self, loop: Loop, sock: socket.socket, port: int) -> None:
        self.status = 0
        self._loop = loop
        self._port = port
        self._dialogue = Dialogue()
        self._replies = LineReader()
        self._commands: deque[bytes] = deque()
        self._doubtful: Request | None = None  # out of order, unless ESTADO tells otherwise
        self._input_over = self._leaving = self._over = False
        self._timer: Timer | None = None
        self._player: Player | None = None
        self._player_path = ""  # of one that is to be opened when it is known what the source sends
        self._asking = False  # ESTADO has been sent to find that out
        self._ipv6 = sock.family == socket.AF_INET6
        self._console = open_console(loop, self, tuple(verb.value for verb in Verb))
        self._connection = Connection(loop, sock, self)

    def play(self, path: str, scheme: str = "") -> None:
        """Open the player, and notice when the viewer closes it.

        Without a scheme it is opened after CONECTAR, at the address for what the source sends.

        Raises:
            SetupError: it cannot be started.
        """
        self._loop.on_signal(signal.SIGCHLD, self._child_ended)
        if scheme:
            self._player = Player(path, self._url(scheme))
        else:
            self._player_path = path

    def _url(self, scheme: str) -> str:
        return player_url(scheme, self._port, ipv6=self._ipv6)

    def greet(self, text: str) -> None:
        """Tell a person where they are; a script needs no greeting."""
        if self._console.interactive:
            self._console.note(text)

    def interrupt(self) -> None:
        """Send DESCONECTAR and wait for the reply; the second time, end at once."""
        if self._leaving:
            self.status = 130
            self._end()
        else:
            self.leave()

    def leave(self) -> None:
        """Send DESCONECTAR ahead of the commands that wait; a second call changes nothing."""
        if not self._leaving:
            self._console.echo(Verb.DISCONNECT.value)
            self._disconnect()

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
        """Leave as `leave` does, with exit status 1."""
        self.status = 1
        self._console.note(f"{program_name()}: {reason}")
        self.leave()

    def _advance(self) -> None:
        while self._commands and not self._dialogue.unanswered:
            line = self._commands.popleft()
            self._console.echo(line.decode("ascii", "replace"))
            if not self._leaving:  # a failed `echo` makes us leave
                self._obey(line)
        if self._input_over and not self._commands and not self._dialogue.unanswered:
            self.leave()
        self._console.listen(len(self._commands) < QUEUE)

    def _obey(self, line: bytes) -> None:
        try:
            request = read_command(line, self._port)
        except BadCommandError:
            self._not_sent(explain(line))
            return
        if request is None:
            return
        if request.verb is Verb.HELP:
            self._console.reply(HELP.format(port=self._port))
        elif request.verb is Verb.DISCONNECT:
            self._commands.clear()  # ignored, as what follows `exit` in a script
            self._disconnect()
        elif self._dialogue.allows(request.verb):
            self._send(request)
        else:
            self._doubtful = request
            self._send(Request(Verb.STATUS))

    def _settle_doubt(self) -> None:
        """Send the doubtful command after all, or say that it is out of order."""
        request, self._doubtful = self._doubtful, None
        if request is None:
            return
        if self._dialogue.allows(request.verb):
            self._send(request)
        elif (state := self._dialogue.state) is not None:
            self._not_sent(f"{request.verb.value} is not valid now ({state.name.lower()})")

    def _not_sent(self, reason: str) -> None:
        self._console.note(f"{reason}: not sent")
        self._count_failure()

    def _count_failure(self) -> None:
        if not self._console.interactive:
            self.status = 1

    # --- what the source sends

    def _ask(self) -> None:
        """After CONECTAR: is there a source, and what does it send?

        Old relays do not answer that. They are asked only if a player waits, and once.
        """
        talks = self._dialogue.explicit and self._console.interactive
        if not self._leaving and (self._player_path or talks):
            self._asking = True
            self._send(Request(Verb.STATUS))

    def _use_facts(self) -> None:
        """Open the player that waits, or name the address for one; say if there is no source."""
        self._asking = False
        if self._leaving:
            return
        path, self._player_path = self._player_path, ""
        url = self._url(self._dialogue.scheme)
        if path:
            self._player = Player(path, url)
        elif self._player is None and self._dialogue.facts.get("fuente"):
            self._console.note(f"open {url} in VLC to watch")
        if self._dialogue.no_source:
            self._console.note(self._dialogue.no_source)

    # --- the relay

    def _disconnect(self) -> None:
        if self._commands or self._doubtful:
            self._count_failure()
        self._leaving = True
        self._commands.clear()
        self._doubtful = None
        self._console.close()  # whoever types now types for the shell
        self._send(Request(Verb.DISCONNECT))

    def _send(self, request: Request) -> None:
        self._connection.write(encode(request))
        self._dialogue.sent(request.verb)
        self._stop_waiting()
        self._timer = self._loop.call_later(PATIENCE, self._patience_over)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _patience_over(self) -> None:
        self._stop_waiting()
        self._end_line()  # some relays never end it
        if self._over or not self._dialogue.unanswered or self._timer is not None:
            return  # that was the answer
        if self._leaving:
            self._lost(f"the relay did not confirm DESCONECTAR in {PATIENCE:g} s")
            return
        verb = self._dialogue.unanswered[0]
        self._dialogue.give_up()
        if self._asking:
            self._use_facts()
        elif self._doubtful is None:
            why = "it hangs" if self._dialogue.explicit else "it hangs, or ignores what it rejects"
            self._console.note(f"no answer to {verb.value} in {PATIENCE:g} s: {why}")
            self._count_failure()
        self._settle_doubt()
        self._advance()

    def received(self, data: bytes) -> None:
        self._replies.feed(data)
        try:
            while not self._over and (line := self._replies.next_line()) is not None:
                self._take_line(printable(line))
        except LineTooLongError:
            self._lost("what answers sends lines that are too long: it is not a relay")

    def _end_line(self) -> None:
        """Take an unfinished line as complete."""
        if self._replies.pending:
            self.received(b"\n")

    def _take_line(self, text: str) -> None:
        verb = self._dialogue.answered(text)
        if not self._dialogue.unanswered:
            self._stop_waiting()
        asked_by_us = (self._asking or self._doubtful is not None) and verb is Verb.STATUS
        if not asked_by_us or self._dialogue.declined:
            self._console.reply(text)
        if self._dialogue.declined and verb is not None:
            self._count_failure()
        if verb is Verb.DISCONNECT:
            self._end()
            return
        if verb is Verb.CONNECT and not self._dialogue.declined:
            self._ask()
        elif asked_by_us and self._asking:
            self._use_facts()
        elif asked_by_us:
            self._settle_doubt()
        self._advance()

    def finished(self) -> None:
        """The relay closed, perhaps in the middle of a line, perhaps because we leave."""
        self._end_line()
        heard = self._leaving and not self._connection.unsent
        if self._dialogue.declined:
            self._lost("the relay ended the session")
        elif heard and self._dialogue.unanswered == [Verb.DISCONNECT]:
            self._end()
        else:
            self._lost("the relay closed the connection and did not say why")

    def gone(self, reason: str) -> None:
        """The connection broke, perhaps in the middle of a line."""
        self._end_line()
        self._lost(f"connection lost: {_LOST.get(reason, reason)}")

    def _lost(self, reason: str) -> None:
        if not self._over:
            self.status = 1
            self._console.note(f"{program_name()}: {reason}")
        self._end()

    # --- the rest

    def _child_ended(self) -> None:
        if self._player is not None and self._player.ended() and not self._over:
            self._console.note(f"the player {self._player.why_ended()}; the session goes on")
            self._player = None

    def _end(self) -> None:
        self._over = True
        self._loop.stop()
