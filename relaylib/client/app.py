"""The client itself: joins the person, the commands and the connection, and ends.

One command is sent at a time and its reply awaited before the next, so that each is judged by what
the relay said and not by a guess; what is typed, pasted or piped meanwhile waits (`commands`).
"""

import signal
import socket
from dataclasses import dataclass

from relaylib.cli import program_name
from relaylib.client.commands import Commands
from relaylib.client.console import Console
from relaylib.client.exchange import PATIENCE, Exchange
from relaylib.client.link import Backoff, Link
from relaylib.client.messages import say, text
from relaylib.client.player import Player
from relaylib.client.reconnect import Reconnect
from relaylib.client.script import Step
from relaylib.client.status import ToldStatus
from relaylib.client.watch import StatusWatch
from relaylib.errors import LineTooLongError
from relaylib.net.address import player_url, show
from relaylib.net.loop import Loop
from relaylib.protocol.commands import Command, Verb

NOT_ALLOWED = "ERROR acceso no permitido"
"""How the farewell begins to those that a relay will never let in."""

_LOST = {
    "reset": text("the relay reset it"),
    "vanished": text("the relay's host does not answer any more"),
}
"""The messages to a person about the end of a connection."""


@dataclass(frozen=True, slots=True)
class ClientPlan:
    """What was asked for: where the relay is, where the player listens, and how to go about it.

    `lasting`: --reconnect. `player` is its path, "" for none; `scheme` is "" where the player's
    address depends on what the source sends. `script` is None where commands are typed or piped.
    """

    host: str
    port: int
    vlcport: int
    lasting: bool = False
    watch: bool = False
    player: str = ""
    scheme: str = ""
    script: tuple[Step, ...] | None = None


class App:
    """Joins the console, the connection and what is known of the session; stops the loop to end.

    `status` is then the exit status. It is 0 if the relay answered DESCONECTAR with OK or, as old
    relays do, by closing; with --reconnect also if it was not there. Without a person at the
    console, a command that was answered with ERROR or not at all, or was not sent, makes it 1.
    """

    def __init__(self, loop: Loop, plan: ClientPlan, backoff: Backoff) -> None:
        self.status = 0
        self._loop = loop
        self._plan = plan
        self._console: Console
        self._link = Link(loop, plan.host, plan.port, self, backoff)
        self._exchange = Exchange(loop, self, self._link.write)
        self._reconnect: Reconnect | None = None
        self._commands: Commands
        self._greeted = False
        self._input_over = False
        self.leaving = self._over = False
        self._status = ToldStatus(show((plan.host, plan.port)))
        self._watch: StatusWatch | None = None
        self._player: Player | None = None
        self._player_path = plan.player  # of one that is to be opened

    def start(self, console: Console, sock: socket.socket | None) -> None:
        """Begin with a connection, or seek one."""
        self._console = console
        self._input_over = self._plan.script is not None and not console.interactive
        self._commands = Commands(
            self._loop, console, self._exchange, self._status, self,
            port=self._plan.vlcport, script=self._plan.script or (), farewells=self._plan.lasting,
        )  # fmt: skip
        if self._plan.player:
            self._loop.on_signal(signal.SIGCHLD, self._child_ended)
        if self._plan.lasting:
            self._reconnect = Reconnect(
                self._loop, self._link, self._exchange, self._plan.vlcport,
                ready=self._begin, note=self._warn,
            )  # fmt: skip
        if self._plan.watch:
            self._watch = StatusWatch(self._loop, console, self._exchange, self._status, self._away)
        if sock is None:
            self._loop.call_soon(self._link.seek)
        else:
            self._link.adopt(sock)

    def interrupt(self) -> None:
        """Send DESCONECTAR and wait for the reply; the second time, end at once."""
        if self.leaving:
            self.status = 130
            self._end()
        else:
            self.leave()

    def leave(self) -> None:
        """Send DESCONECTAR ahead of the commands that wait; a second call changes nothing."""
        if not self.leaving:
            self._console.echo(Verb.DISCONNECT.value)
            self.disconnect()

    def close(self) -> None:
        """Give back the terminal and close the player."""
        self._console.close()
        if self._player is not None:
            self._player.close()

    # --- the person

    def entered(self, line: bytes) -> None:
        """Take a line of input; it waits until the commands before it are answered."""
        if self.leaving:
            return
        if not self._commands.ready and self._console.interactive and line.strip():
            if line.strip().upper() == Verb.DISCONNECT.value.encode():
                self.leave()
                return
            self._console.note(say("not connected: this waits until the relay is back"))
        self._commands.add(line)
        self._advance()

    def ended(self) -> None:
        """Leave when the last command is answered; a person does not wait for the relay."""
        self._input_over = True
        if self._console.interactive and not self._commands.ready:
            self.leave()
        self._advance()

    def failed(self, reason: str) -> None:
        """Leave as `leave` does, with exit status 1."""
        self.status = 1
        self._warn(reason)
        self.leave()

    def unsuccessful(self) -> None:
        """Let the exit status tell of a command that was not carried out; a person has seen it."""
        if not self._console.interactive:
            self.status = 1

    def _warn(self, reason: str) -> None:
        self._console.note(f"{program_name()}: {reason}")

    # --- commands

    @property
    def _stays(self) -> bool:
        """Whether the session goes on when the commands are over."""
        return (self._plan.lasting or self._plan.watch) and not self._console.interactive

    def _advance(self) -> None:
        self._commands.advance()
        if self._input_over and self._commands.over and not self._stays:
            self.leave()

    def succeeded(self, command: Command) -> None:
        """Note where the session stands now, and find out what goes with it."""
        dialogue = self._exchange.dialogue
        if self._reconnect:
            self._reconnect.remember(command)
        if self.leaving:
            return
        if command.verb is Verb.CONNECT:
            # Old relays do not answer ESTADO. They are asked only if a player waits, and once.
            if self._player_path or (dialogue.explicit and self._console.interactive):
                self._exchange.ask(self._use_facts)
        elif command.verb is not Verb.STATUS and self._reconnect and dialogue.explicit:
            self._exchange.ask(self._commands.show_error)  # how far it is behind

    # --- what the source sends

    def _use_facts(self, reply: str | None) -> None:
        """Open the player that waits, or name the address for one; say if there is no source."""
        self._commands.show_error(reply)
        if self.leaving:
            return
        path, self._player_path = self._player_path, ""
        dialogue = self._exchange.dialogue
        url = self._url(dialogue.scheme)
        if path:
            self._player = Player(path, url)
        elif self._player is None and dialogue.facts.get("fuente"):
            self._console.note(say("open {url} in VLC to watch", url=url))
        if dialogue.no_source:
            self._console.note(dialogue.no_source)

    def _url(self, scheme: str) -> str:
        return player_url(scheme, self._plan.vlcport, ipv6=self._link.ipv6)

    def _child_ended(self) -> None:
        if self._player is not None and self._player.ended() and not self._over:
            self._console.note(self._player.why_ended())
            self._player = None

    # --- the connection

    def connected(self) -> None:
        """Begin, or find out first whether the relay lets us in."""
        self._exchange.begin()
        if self._reconnect:
            self._reconnect.connected()
        else:
            self._begin()

    def _begin(self) -> None:
        """The session stands: go on where commands wait."""
        if not self._greeted:
            self._greet()
        self._commands.resume()
        if self._watch:
            self._watch.tick()
        self._advance()

    def _greet(self) -> None:
        """Open the player; tell a person where they are. A script needs no greeting."""
        self._greeted = True
        relay = show((self._plan.host, self._plan.port))
        scheme, path = self._plan.scheme, self._player_path
        if path and scheme:
            self._player_path, self._player = "", Player(path, self._url(scheme))
        if not self._console.interactive:
            if self._reconnect:
                self._reconnect.attend()
                self._warn(say("connected to {relay}", relay=relay))
            return
        note, port = self._console.note, self._plan.vlcport
        note(say("connected to {relay}", relay=relay))
        note(say("CONECTAR brings the stream to UDP port {port} of this host", port=port))
        if not path:
            udp, rtp = self._url("udp"), self._url("rtp")
            note(say("open {udp} in VLC to watch ({rtp} if you know that it is RTP)",
                     udp=udp, rtp=rtp))  # fmt: skip
        note(say("AYUDA lists the commands, Ctrl-D leaves"))

    def received(self, data: bytes) -> None:
        try:
            self._exchange.received(data)
        except LineTooLongError:
            self._fall(say("what answers sends lines that are too long: it is not a relay"))

    def remark(self, line: str) -> None:
        """Print a line that answers nothing, unless it may be a farewell that is told anyway."""
        if not (self._reconnect and line == self._exchange.farewell):
            self._console.reply(line)

    def settled(self) -> None:
        if self._reconnect and self._commands.ready:
            self._reconnect.measure()
        if self._watch:
            self._watch.refresh()
        if not self._over:
            self._advance()

    def unconfirmed(self) -> None:
        self._lost(say("the relay did not confirm DESCONECTAR in {seconds:g} s", seconds=PATIENCE))

    def finished(self) -> None:
        """The relay closed, perhaps in the middle of a line, perhaps because we leave."""
        heard = self.leaving and not self._link.unsent
        self._end_line()
        dialogue = self._exchange.dialogue
        if dialogue.declined:
            self._lost(say("the relay ended the session"), self._exchange.farewell)
        elif heard and dialogue.unanswered == [Verb.DISCONNECT]:
            self._end()
        else:
            self._lost(say("the relay closed the connection and did not say why"))

    def gone(self, reason: str) -> None:
        """The connection broke, perhaps in the middle of a line."""
        self._end_line()
        why = say(_LOST[reason]) if reason in _LOST else reason
        self._lost(say("connection lost: {reason}", reason=why), self._exchange.farewell)

    def unreachable(self, reason: str) -> None:
        """An attempt failed: try again, unless we are leaving."""
        if self._reconnect and not self._over:
            self._reconnect.unreachable(reason)

    def hopeless(self, reason: str) -> None:
        self._fall(reason)

    def _end_line(self) -> None:
        try:
            self._exchange.end_line()
        except LineTooLongError:
            return

    def _lost(self, reason: str, farewell: str = "") -> None:
        """The connection is over: seek another one, or end."""
        if self._over:
            return
        if self._reconnect and not self.leaving:
            self._commands.interrupt()
        allowed = not farewell.startswith(NOT_ALLOWED)
        if not self._reconnect or (not allowed and not self.leaving):
            self._fall(f"{reason}: {farewell}" if farewell and self._reconnect else reason)
        elif self.leaving:
            self._warn(reason)
            self._end()
        else:
            self._reconnect.lost(f"{reason} ({farewell})" if farewell else reason)

    def _fall(self, reason: str) -> None:
        if not self._over:
            self.status = 1
            self._warn(reason)
        self._end()

    def _away(self) -> str:
        """Say that there is no relay at present, and what is done about it; "" if there is."""
        if self._commands.ready or not self._reconnect:
            return ""
        return self._reconnect.away()

    # --- the end

    def disconnect(self) -> None:
        """Send DESCONECTAR and wait for the reply."""
        if self._commands.drop() and not self._reconnect:
            self.unsuccessful()
        self.leaving = True
        self._console.close()  # from now on the shell gets the keys
        if self._link.up:
            self._exchange.send(Command(Verb.DISCONNECT), self._confirmed)
        else:
            self._end()

    def _confirmed(self, reply: str | None) -> None:
        self._console.reply(reply or "")
        self._end()

    def _end(self) -> None:
        self._over = True
        self._exchange.begin()
        self._link.close()
        self._loop.stop()
