"""Viewers who come and go: they join, pause, resume, ask, and leave in every way.

Between their pauses they must lose nothing either, and every command must get its reply.

`python -m tools.attackers.guests PORT SEED` goes on until its standard input ends, and prints its
counts as JSON. Killed, it leaves a dozen sessions behind whose peer is gone.
"""

import contextlib
import json
import random
import socket
import struct
import sys
from collections import Counter

from tools.attackers.stream import stopped
from tools.attackers.viewers import LedgerViewer

GUESTS = 12
"""Sessions at once."""

PAUSE = 0.02
"""Seconds between two things that happen: about three sessions a second."""

RESET = struct.pack("ii", 1, 0)
"""SO_LINGER with no time: closing resets the connection (socket(7))."""

COMMANDS = {"pause": "INTERRUMPIR", "resume": "CONTINUAR", "ask": "ESTADO"}
WAYS_OUT = ("politely", "closed", "in a line", "reset")


class Guest(LedgerViewer):
    """A viewer who will not stay."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.ledger.begin_anew()
        self.paused = False

    def do(self, what: str) -> bool:
        """Send a command; return whether it was answered as it must be."""
        reply = self.command(COMMANDS[what])
        self.read()
        if what != "ask":
            self.paused = what == "pause"
            self.ledger.begin_anew()
        return reply.startswith("OK")

    def leave(self, how: str) -> bool:
        """Leave in one of the ways; return whether DESCONECTAR was answered as it must be."""
        self.read()
        polite = how != "politely" or (self.command("DESCONECTAR"), self.reply()) == ("OK", "")
        with contextlib.suppress(OSError):
            if how == "reset":
                self.control.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            elif how == "in a line":
                self.send(b"INTERRUM")
        self.close()
        return polite


def come_and_go(port: int, chance: random.Random) -> Counter[str]:
    """Let up to `GUESTS` come and go until standard input ends; count what they did."""
    counts: Counter[str] = Counter()
    guests: list[Guest] = []

    def leave(guest: Guest, how: str) -> None:
        guests.remove(guest)
        counts["unanswered"] += not guest.leave(how)
        counts.update({how: 1, "received": guest.ledger.received, "lost": guest.ledger.faults})

    while not stopped(PAUSE):
        for guest in guests:
            guest.read()
        if chance.random() * GUESTS > len(guests):
            guests.append(Guest(port))
            counts["joined"] += 1
            continue
        guest = chance.choice(guests)
        if chance.random() < 0.15:
            leave(guest, chance.choice(WAYS_OUT))
        else:
            what = "resume" if guest.paused else chance.choice(("pause", "ask"))
            counts["unanswered"] += not guest.do(what)
            counts[what] += 1
    for guest in list(guests):
        leave(guest, "politely")
    return counts


if __name__ == "__main__":
    port, seed = map(int, sys.argv[1:])
    print(json.dumps(come_and_go(port, random.Random(seed))))
