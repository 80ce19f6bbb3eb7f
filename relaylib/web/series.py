"""What came in and what went wrong in each of the last seconds, for graphs; kept at all times."""

from collections import deque

from relaylib.media.verdict import FAULTS, TABLES
from relaylib.snapshot import Totals
from relaylib.web.parts import Parts
from relaylib.web.state import SeriesState

POINTS = 300
"""Seconds that are remembered."""

_SEEN_BY_VIEWERS = (*FAULTS, *TABLES)

_LATE = 0.005
"""Seconds after the full second: a timer may be early, and its point would be of another second."""


class Series:
    """Points, one a second; `end` is the second (since 1970) of the last one.

    `busy` is the share of a core that the loop took in the last second, `http_bitrate` the bits
    that streams by HTTP were written.
    """

    def __init__(self, parts: Parts, saved: SeriesState | None) -> None:
        saved = saved or SeriesState()
        self.end = saved.end
        self.bitrate = deque(saved.bitrate, POINTS)
        self.errors = deque(saved.errors, POINTS)
        self.busy = self.http_bitrate = 0.0
        self._loop = parts.loop
        self._observer = observer = parts.channel.observer
        self._web = parts.web
        self._at = self._loop.time()
        self._bytes = observer.fresh().totals.byte_count
        self._faults: int | None = None
        self._worked, self._http_bytes = self._loop.turns.sum, 0
        self._arm()

    def export(self) -> SeriesState:
        """Return what the next program needs to go on."""
        return SeriesState(self.end, list(self.bitrate), list(self.errors))

    def since(self, end: int) -> dict[str, object]:
        """Return the points after a second, as `/status.json` has them."""
        new = max(0, self.end - end)
        bitrate, errors = list(self.bitrate), list(self.errors)
        first = max(0, len(bitrate) - new)
        return {
            "end": self.end,
            "step_s": 1,
            "bitrate": bitrate[first:],
            "errors": errors[first:],
        }

    def _arm(self) -> None:
        delay = 1 - self._loop.wall_time() % 1 + _LATE
        self._loop.call_later(delay, self._second)

    def _second(self) -> None:
        self._arm()
        end = int(self._loop.wall_time())
        if end == self.end:  # the clock was set back a little
            return
        missing = end - self.end - 1
        if not 0 <= missing <= POINTS:  # it jumped, or this is the first one
            self.bitrate.clear()
            self.errors.clear()
            missing = 0
        self.end = end
        bits, faults = self._measure()
        self.bitrate.extend([bits] * (missing + 1))
        self.errors.extend([0] * missing + [faults])

    def _measure(self) -> tuple[int, int]:
        """Return the bits a second and the faults since the last call."""
        now, totals = self._loop.time(), self._observer.fresh().totals
        elapsed, self._at = max(now - self._at, 0.001), now
        byte_count, self._bytes = totals.byte_count - self._bytes, totals.byte_count
        worked, self._worked = self._loop.turns.sum - self._worked, self._loop.turns.sum
        self.busy = min(1.0, worked / elapsed)
        http = self._web().bytes_in_all
        self.http_bitrate = (http - self._http_bytes) * 8 / elapsed if self._http_bytes else 0.0
        self._http_bytes = http
        total = _faults(totals)
        before = total if self._faults is None else self._faults
        self._faults = max(total, before)  # a packet that was late is not lost any more
        return round(byte_count * 8 / elapsed), self._faults - before


def _faults(totals: Totals) -> int:
    """Return the number of faults up to now that a viewer sees."""
    found = totals.found
    if found is None:
        return totals.overflowed
    return totals.overflowed + found.lost + sum(found.errors.get(n, 0) for n in _SEEN_BY_VIEWERS)
