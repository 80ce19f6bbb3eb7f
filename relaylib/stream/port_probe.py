"""Probing a closed port: is somebody listening there by now?

A player that is not open yet, or not any more, answers each datagram with an ICMP error. Sending it
the whole stream would cost a send a datagram for nothing. So a closed port gets one datagram every
`PROBE_PERIOD`, and the whole stream again as soon as one was not answered by an error.

A host limits how often it says so (Linux: once a second after the first six), so a probe without
an answer may still have met a closed port. The stream then comes back too early, which is harmless:
it costs what a healthy output costs, until the next error. Rejected: waiting until several probes
went without an answer, because everybody who opens a player would have to wait for them, too.
"""

import socket
from collections.abc import Callable
from enum import Enum, auto

PROBE_PERIOD = 0.250
"""Seconds between probes of a closed port: a player that opens waits this long at most."""

PROBE_ANSWER = 0.025
"""Seconds that an ICMP error may take to come back: more than any LAN's round trip."""

CLOSED_LIMIT = 60.0
"""Seconds after which nobody is expected to open the player any more."""

CLOSED_ENDS = 5.0
"""Seconds without an error after which the next one begins a new count of `CLOSED_LIMIT`."""

_NEVER = float("-inf")


class Port(Enum):
    """What is known of a port."""

    OPEN = auto()
    """A probe was not answered by an error."""
    CLOSED = auto()
    """It is closed, or the answer to a probe may still come."""
    GIVEN_UP = auto()
    """It has been closed for `CLOSED_LIMIT`."""


class PortProbe:
    """One output's port: since when it is closed, and when to take the next step.

    `due` is that time. All times are the loop's, in seconds. While the source is silent nothing is
    sent, so no port can answer: that time does not count.
    """

    __slots__ = ("_closed_at", "_closed_since", "_sock", "_waiting", "due")

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._waiting = False  # for an answer
        self.due = self._closed_at = self._closed_since = _NEVER

    def closed(self, now: float) -> Port:
        """Begin: a send of the stream was answered by an error. The first probe is due at once."""
        self._waiting = False
        return self._still_closed(now, due=now)

    def step(self, send: Callable[[memoryview], int], datagram: memoryview, now: float) -> Port:
        """Judge the probe that is out, or send one; a step is to be taken when it is `due`."""
        if self._waiting:
            self._waiting = False
            if not self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                return Port.OPEN
            return self._still_closed(now, due=now + PROBE_PERIOD - PROBE_ANSWER)
        try:
            send(datagram)
        except BlockingIOError:
            self.due = now + PROBE_ANSWER
        except OSError:  # the answer to an older probe, or no way there at all
            return self._still_closed(now, due=now + PROBE_PERIOD)
        else:
            self._waiting = True
            self.due = now + PROBE_ANSWER
        return Port.CLOSED

    def _still_closed(self, now: float, due: float) -> Port:
        self.due = due
        if now - self._closed_at > CLOSED_ENDS:
            self._closed_since = now
        self._closed_at = now
        if now - self._closed_since < CLOSED_LIMIT:
            return Port.CLOSED
        self._closed_at = _NEVER
        return Port.GIVEN_UP
