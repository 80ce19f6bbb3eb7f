"""Looking at the session once a second: `--watch`."""

from collections.abc import Callable

from relaylib.client.console import Console
from relaylib.client.exchange import Exchange
from relaylib.client.messages import say
from relaylib.client.status import ToldStatus
from relaylib.net.loop import Loop

PERIOD = 1.0
"""Seconds: half of what a relay lets a connection ask in the long run."""


class StatusWatch:
    """Keeps the status that the console shows up to date.

    `away` says why the relay cannot be asked at present, or nothing. For a program the relay's own
    line is printed instead.
    """

    def __init__(
        self,
        loop: Loop,
        console: Console,
        exchange: Exchange,
        status: ToldStatus,
        away: Callable[[], str],
    ) -> None:
        self._loop = loop
        self._console = console
        self._exchange = exchange
        self._status = status
        self._away = away
        self._asking = True
        self._shown: object = None  # the report
        loop.call_every(PERIOD, self.tick)

    def tick(self) -> None:
        """Look now."""
        if away := self._away():
            self._status.away = away
            self._console.panel(self._status)
        elif self._asking and not self._exchange.busy:
            self._exchange.ask(self._answered)

    def _answered(self, reply: str | None) -> None:
        dialogue = self._exchange.dialogue
        if reply is not None and not self._console.readable:
            self._console.reply(reply)
        elif reply is None and not dialogue.explicit:
            self._asking = False
            self._console.note(say("this relay does not answer ESTADO: there is nothing to watch"))
        elif reply is None or dialogue.declined:
            self._status.away = reply or say("it does not answer")
            self._console.panel(self._status)

    def refresh(self) -> None:
        """Show a report that has come, whatever asked for it."""
        facts = self._exchange.dialogue.facts
        if facts and facts is not self._shown and self._console.readable:
            self._shown = facts
            self._status.take(facts, self._loop.now)
            self._console.panel(self._status)
