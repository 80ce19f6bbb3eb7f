"""Viewers who come and go: they join, pause, resume, ask, and leave in every way.

A process of its own. Between their pauses they must lose nothing either, and every command must get
its reply.

`python -m tools.attackers.crowd PORT SEED` goes on until SIGTERM and prints its counts as
JSON. Killed, it leaves a crowd of sessions behind whose peer is gone.
"""

import contextlib
import json
import os
import random
import socket
import struct
import sys
from collections import Counter

from tools.attackers.audience import Seat
from tools.attackers.stream import MARK
from tools.replay.program import Interruption

SEATS = 12
"""Sessions at once."""

PAUSE = 0.02
"""Seconds between two things that happen: about three sessions a second."""

_RESET = struct.pack("ii", 1, 0)
_COMMANDS = {"pause": "INTERRUMPIR", "resume": "CONTINUAR", "ask": "ESTADO"}


class Guest(Seat):
    """A viewer who will not stay."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.ledger.restart()
        self.paused = False

    def read(self) -> None:
        """Take note of what has arrived."""
        with contextlib.suppress(BlockingIOError):
            while True:
                epoch, number, _ = MARK.unpack(self.player.recv(MARK.size))
                self.ledger.note(epoch, number)

    def do(self, what: str) -> bool:
        """Send a command; return whether it was answered as it must be."""
        reply = self.command(_COMMANDS[what])
        self.read()
        if what in ("pause", "resume"):
            self.paused = what == "pause"
            self.ledger.restart()
        return reply.startswith("OK")

    def leave(self, how: str) -> bool:
        """Leave politely, by closing, in the middle of a line, or with a reset."""
        polite = how != "politely" or (self.command("DESCONECTAR"), self.command("")) == ("OK", "")
        with contextlib.suppress(OSError):
            if how == "reset":
                self.control.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            elif how == "in a line":
                self.control.sendall(b"INTERRUM")
        self.close()
        return polite


class Crowd:
    """Up to `SEATS` guests; `counts` says what they did and what went wrong."""

    def __init__(self, port: int, chance: random.Random) -> None:
        self.counts: Counter[str] = Counter()
        self._port = port
        self._chance = chance
        self._guests: list[Guest] = []

    def step(self) -> None:
        """Let something happen."""
        for guest in self._guests:
            guest.read()
        if self._chance.random() * SEATS > len(self._guests):
            self._guests.append(Guest(self._port))
            self.counts["joined"] += 1
            return
        guest = self._chance.choice(self._guests)
        if self._chance.random() < 0.15:
            self._part(guest, self._chance.choice(("politely", "closed", "in a line", "reset")))
        else:
            what = "resume" if guest.paused else self._chance.choice(("pause", "ask"))
            self._note(what, guest.do(what))

    def _part(self, guest: Guest, how: str) -> None:
        self._guests.remove(guest)
        guest.read()
        self._note(how, guest.leave(how))
        self.counts["received"] += guest.ledger.received
        self.counts["lost"] += guest.ledger.faults

    def _note(self, what: str, answered: bool) -> None:
        self.counts[what] += 1
        self.counts["unanswered"] += not answered

    def end(self) -> None:
        """Send everybody home."""
        for guest in list(self._guests):
            self._part(guest, "politely")


def main() -> None:
    """Be a crowd."""
    port, seed = map(int, sys.argv[1:])
    crowd = Crowd(port, random.Random(seed))
    parent = os.getppid()
    with Interruption() as stop:
        while stop.signum is None and os.getppid() == parent:
            crowd.step()
            stop.wait(PAUSE)
        crowd.end()
    print(json.dumps(crowd.counts))


if __name__ == "__main__":
    main()
