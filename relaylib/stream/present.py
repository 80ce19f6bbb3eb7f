"""What was found of the present source: all that the inspection found, less what was before.

The inspection reads behind the stream. So who took over is counted from the next look on, by when
nothing of the former source is left to be read: none of its errors is the new one's, which may lose
some tenths of a second of its own.
"""

from typing import NamedTuple

from relaylib.media.clock import Clock
from relaylib.media.elementary import RandomAccess
from relaylib.media.health import Monitor
from relaylib.media.mpegts import PACKET_SIZE, PCR_HZ
from relaylib.stream.inspection import Counts, Inspection


class _Points(NamedTuple):
    """The random access points of a stream at a moment: how many, and from first to last."""

    of: RandomAccess
    number: int
    seconds: float


class _Ticked(NamedTuple):
    """A clock of the stream at a moment: how many ticks have passed, in how many packets."""

    by: Clock
    ticks: int
    packets: int


class Present:
    """The present source; `known`: it has been looked at since it took over.

    `before` is what had been found by then. A restart hands it over.
    """

    def __init__(self, before: Counts | None = None) -> None:
        self.known = True
        self.before = before or Counts()
        self._base: _Points | None = None
        self._ticked: _Ticked | None = None
        self._waits = False  # for the first random access point that is this source's

    def new_source(self) -> None:
        """Note that another source sends from now on."""
        self.known = False

    def look(self, inspection: Inspection) -> None:
        """Begin to count, if another source sends since the last look."""
        now = _points(inspection.monitor)
        if not self.known:
            self.known, self._waits = True, True
            self.before, self._base = inspection.counts, now
            self._ticked = _ticked(inspection.monitor)
        elif self._waits and now and (not self._is_of(now) or now.number > self._count):
            self._base, self._waits = now if self._is_of(now) else None, False

    def counts(self, inspection: Inspection) -> Counts:
        """Return what was found since it sends."""
        if not self.known:
            return Counts()
        counts = inspection.counts.combine(self.before, -1)
        counts.lost = max(0, counts.lost)  # who comes late is not lost any more
        return counts

    def interval(self, monitor: Monitor) -> float | None:
        """Return the seconds from one random access point to the next; None: not known yet."""
        now, count, seconds = _points(monitor), 1, 0.0
        if now is None or not self.known:
            return None
        if self._base and self._is_of(now):
            if self._waits:
                return None
            count, seconds = self._base.number, self._base.seconds
        return (now.seconds - seconds) / (now.number - count) if now.number > count else None

    def bitrate(self, monitor: Monitor) -> int | None:
        """Return the bits a second of the transport stream, by its own clock if it has one."""
        now, before = _ticked(monitor), self._ticked
        if now is None or before is None or now.by is not before.by:
            report = monitor.report()
            return report.ts.bitrate if report.ts else None
        ticks = now.ticks - before.ticks
        bits = (now.packets - before.packets) * PACKET_SIZE * 8
        return round(bits * PCR_HZ / ticks) if ticks else None

    @property
    def _count(self) -> int:
        return self._base.number if self._base else 0

    def _is_of(self, now: _Points) -> bool:
        return self._base is not None and self._base.of is now.of


def _points(monitor: Monitor) -> _Points | None:
    main = monitor.main_stream
    if main is None or main.elementary is None:
        return None
    access = main.elementary.random_access
    return _Points(access, access.count, (access.interval or 0.0) * (access.count - 1))


def _ticked(monitor: Monitor) -> _Ticked | None:
    clock = monitor.clock
    return _Ticked(clock, clock.ticks, clock.packets) if clock else None
