"""Finds out whether an output's port is closed, from ICMP errors, which may be forged.

The host of a player that is not open answers each datagram with an ICMP error. Sending it the whole
stream would cost a send for each datagram for nothing. But any host can forge such an error, so it
proves nothing: the stream goes on, and errors are only counted. Once they look like a closed port
(`ANSWERED_TURNS` turns in a row, or for `CLOSED_LIMIT`), the port is tested by cause and effect: a
closed port answers each datagram that it is sent, and does not answer while it is sent none.

So the stream stops, and answers that were still on their way may come in. A quiet follows: an error
in the quiet was forged, so the stream goes on at once, and errors are ignored for a while. Without
such an error one datagram is sent, the probe. While probes are answered the port is closed, and
gets only a probe every `PROBE_PERIOD`; when a probe is not answered, the stream goes on.

Most hosts limit how often they answer (Linux: once a second after the first six). There a probe
without an answer may still have met a closed port, and the stream goes on too early. That is
harmless: it costs as much as a healthy output. But before such an output is given up, its host gets
a quiet that is long enough for its limit to allow an answer again.

A lasting output (a fixed one, for which no viewer asks again) is not given up, but probed at that
slower pace until its port opens.

Rejected: counting errors alone, since forged ones can be as many as the sends; and comparing what
the errors quote with what was sent (`MSG_ERRQUEUE`, ip(7)), since every viewer knows the stream.
"""

import errno
import socket
from collections.abc import Callable
from enum import Enum, auto

ANSWERED_TURNS = 8
"""Turns in a row, each with an error, that begin the test: more than a host with a limit answers.
"""

PROBE_PERIOD = 0.250
"""Seconds between probes of a closed port: a player that opens waits this long at most."""

PATIENT_PERIOD = 1.250
"""Seconds between probes of a host whose limit may allow one answer a second."""

PROBE_ANSWER = 0.1
"""Share of the period that an ICMP error may take to come back: 25 ms, more than a LAN needs."""

QUIET = 0.5
"""Share of the period after which no answer is on its way any more: an error is forged then."""

CLOSED_LIMIT = 60.0
"""Seconds after which a viewer is not expected to open the player any more."""

CLOSED_ENDS = 5.0
"""Seconds without an error after which the next one begins a new count of `CLOSED_LIMIT`."""

CONFIRMED = 3
"""Probes in a row that must be answered before a port is given up: now and then a forged error may
happen to follow a probe."""

DISTRUST = 10.0
"""Seconds for which errors are ignored after a forged one. A test costs the viewer a part of
`PROBE_PERIOD`, so forged errors cost at most a fortieth of the stream."""

Send = Callable[[memoryview], int]

_NEVER = float("-inf")
_FULL = (errno.EAGAIN, errno.ENOBUFS)


class PortState(Enum):
    """The result of a step of the test."""

    OPEN = auto()
    """A probe was not answered by an error."""
    FORGED = auto()
    """An error came in the quiet, when there was no datagram to answer."""
    CLOSED = auto()
    """The port is closed, or the test goes on."""
    GIVEN_UP = auto()
    """The port has been closed for `CLOSED_LIMIT`."""


class PortProbe:
    """One output's port: it counts errors and carries out the test, whose next step is `due` then.

    A `lasting` one is never given up. `no_way`: the last datagram could not be sent at all.

    All times are the loop's, in seconds. While the source is silent nothing is sent, so no port can
    answer: that time does not count.
    """

    __slots__ = (
        "_answered", "_distrust_until", "_error_at", "_errors_since", "_lasting", "_period",
        "_probe_at", "_quiet", "_sock", "_turn", "_turns", "_waiting", "due", "no_way",
    )  # fmt: skip

    def __init__(self, sock: socket.socket, *, lasting: bool = False) -> None:
        self._sock = sock
        self._lasting = lasting
        self._turn = self._turns = 0  # the last turn with an error, and the number in a row
        self._error_at = self._errors_since = self._distrust_until = _NEVER
        self._period = PROBE_PERIOD
        self._waiting = False  # for the answer to a probe
        self._quiet = False
        self._answered = 0  # probes in a row
        self.no_way = False
        self.due = self._probe_at = _NEVER

    # --- while the stream goes on

    def distrusts(self, now: float) -> bool:
        """Tell whether errors are ignored at present, because one was forged."""
        return now < self._distrust_until

    def error(self, turn: int, now: float) -> bool:
        """Count an error that a send of this turn has met; return whether the test begins."""
        if turn != self._turn:
            self._turns = self._turns + 1 if turn == self._turn + 1 else 1
            self._turn = turn
        self._note(now)
        if self._turns >= ANSWERED_TURNS:
            self._begin(PROBE_PERIOD, now)
        elif now - self._errors_since >= CLOSED_LIMIT:
            self._begin(PATIENT_PERIOD, now)
        else:
            return False
        return True

    def unreachable(self, now: float) -> None:
        """Begin the test, because no datagram leaves at all."""
        self.no_way = True
        self._note(now)
        self._begin(PROBE_PERIOD, now)

    def _note(self, now: float) -> None:
        if now - self._error_at > CLOSED_ENDS:
            self._errors_since = now
        self._error_at = now

    # --- the test

    def _begin(self, period: float, now: float) -> None:
        self._period = period
        self._turns = self._answered = 0
        self._wait(now, period)

    def _wait(self, now: float, until_probe: float) -> None:
        self._waiting = self._quiet = False
        self._probe_at = now + until_probe
        self.due = now + self._period * QUIET

    def step(self, send: Send, datagram: memoryview, now: float) -> PortState:
        """Look for an error, or send a probe; to be called when a step is `due`."""
        error = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if self._waiting:
            return self._still_closed(now) if error else self._open()
        if error and self._quiet:
            self._distrust_until = now + DISTRUST
            self._error_at = _NEVER
            return PortState.FORGED
        if self._quiet:
            return self._probe(send, datagram, now)
        self._quiet = True  # from now on: an error that has come until now may be an answer
        self.due = self._probe_at
        return PortState.CLOSED

    def _probe(self, send: Send, datagram: memoryview, now: float) -> PortState:
        try:
            send(datagram)
        except OSError as error:
            if error.errno not in _FULL:
                self.no_way = True
                return self._still_closed(now)
        else:
            self.no_way = False
            self._waiting = True
        self.due = now + self._period * PROBE_ANSWER
        return PortState.CLOSED

    def _still_closed(self, now: float) -> PortState:
        self._note(now)
        self._answered += 1
        if self._answered >= CONFIRMED and now - self._errors_since >= CLOSED_LIMIT:
            if not self._lasting:
                self._error_at = _NEVER
                return PortState.GIVEN_UP
            self._period = PATIENT_PERIOD
        self._wait(now, self._period * (1 - PROBE_ANSWER))
        return PortState.CLOSED

    def _open(self) -> PortState:
        if self._period == PATIENT_PERIOD:
            self._error_at = _NEVER
        return PortState.OPEN
