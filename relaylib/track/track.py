"""The track: the stream's packets in order, with its entry points and breaks.

A place in it is one number, the bytes since the stream began. A viewer by HTTP has a place, a
segment is between two, and a write to a viewer is a slice of memory. Entry points and breaks are
found once, while the stream is read (`walk`), and remembered here, so that no reader has to search
the packets for them.
"""

import bisect
import math
import os
from collections import deque
from dataclasses import dataclass, field
from itertools import islice

import structlog

from relaylib.config import Config
from relaylib.errors import SetupError
from relaylib.history.history import MARGIN, SMALLER, no_memory
from relaylib.media.form import Form
from relaylib.media.mpegts import PACKET_SIZE
from relaylib.track.ring import Ring, RingState

MAX_ENTRIES = 1024
"""Most entry points that are remembered: with more, some are left out."""

MAX_BREAKS = 256
"""Most breaks that are remembered. A reader that is so far behind does not see an older one."""

LIVE = 16 << 20
"""Bytes that are kept where viewers cannot go back: four segments of HLS at 16 Mb/s."""

UNREAD = 1 << 18
"""Bytes that are kept without HTTP: more than comes at once."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Entry:
    """Where decoding can start, after `tables`: packets of the latest PAT and PMT.

    The packet at place `at` came at `time`, with the DTS (or PTS) `stamp` in ticks of PTS_HZ, if it
    has one. `origin` is the byte of the history with which it began.
    """

    at: int
    time: float
    stamp: int | None
    tables: bytes
    origin: int


@dataclass(frozen=True, slots=True)
class Break:
    """The packets from place `at` on do not go on where the stream ended before: the source is
    another one or has begun anew, or sent nothing for a while. The last datagram before the break
    came at `before`.
    """

    at: int
    before: float


@dataclass(slots=True)
class TrackState:
    """What a reload hands over."""

    ring: RingState
    entries: list[Entry] = field(default_factory=list)
    breaks: list[Break] = field(default_factory=list)


class Track:
    """The latest packets of the stream, from place `oldest` to place `end`; see `Ring`.

    `form` is the form of the stream, `payload_type` that of RTP; `heard` is when the last datagram
    came that the walk has read.
    """

    def __init__(self, ring: Ring, spacing: float, saved: TrackState | None = None) -> None:
        """Begin a track, or go on with one. Entry points are at least `spacing` seconds apart."""
        self.ring = ring
        self.append = ring.append
        """Add whole packets that came at a time."""
        self.form = Form.OPAQUE
        self.payload_type: int | None = None
        self.heard = -math.inf
        self._spacing = spacing
        self.entries = deque(saved.entries if saved else (), MAX_ENTRIES)
        self.breaks = deque(saved.breaks if saved else (), MAX_BREAKS)

    def export(self) -> TrackState | None:
        """Return what the next program needs to go on; None: it cannot."""
        ring = self.ring.export()
        return TrackState(ring, list(self.entries), list(self.breaks)) if ring else None

    @property
    def seconds(self) -> float:
        """How long packets are kept."""
        return self.ring.seconds

    @property
    def span(self) -> float:
        """Seconds from the oldest packet to the newest."""
        return self.time(self.end) - self.time(self.oldest) if self.end > self.oldest else 0.0

    @property
    def oldest(self) -> int:
        """The first place that is kept."""
        return self.ring.oldest

    @property
    def end(self) -> int:
        """The place of the next packet."""
        return self.ring.end

    # --- writing

    def mark(self, entry: Entry) -> None:
        """Remember an entry point; they come in order."""
        if not self.entries or entry.time - self.entries[-1].time >= self._spacing:
            self.entries.append(entry)

    def cut(self, before: float) -> None:
        """Mark a break: the next packet need not fit the last one, which came at `before`."""
        if self.end and not (self.breaks and self.breaks[-1].at == self.end):
            self.breaks.append(Break(self.end, before))

    # --- reading

    def entry(self, time: float) -> Entry | None:
        """Return the latest entry point that came by a time, or else the first one after that.

        None: there is none.
        """
        return self._entry(time, bisect.bisect_left(self.entries, self.oldest, key=_place))

    def entry_since(self, time: float, since: float) -> Entry | None:
        """Return the same of the entry points since a time, also if their packets are gone here."""
        return self._entry(time, bisect.bisect_left(self.entries, since, key=_time))

    def _entry(self, time: float, first: int) -> Entry | None:
        behind = bisect.bisect_right(self.entries, time, first, key=_time)
        number = max(first, behind - 1)
        return self.entries[number] if number < len(self.entries) else None

    def entries_behind(self, place: int) -> list[Entry]:
        """Return the entry points behind a place, in order."""
        first = bisect.bisect_right(self.entries, place, key=_place)
        return list(islice(self.entries, first, None))

    def break_behind(self, place: int) -> Break | None:
        """Return the first break behind a place."""
        at = bisect.bisect_right(self.breaks, place, key=lambda each: each.at)
        return self.breaks[at] if at < len(self.breaks) else None

    def pieces(self, begin: int, end: int) -> list[memoryview]:
        """Return the bytes between two places that are kept: at most two pieces of memory."""
        return self.ring.pieces(begin, end)

    def find(self, time: float) -> int:
        """Return the first place whose byte came at `time` or later; the end if there is none."""
        return self.ring.find(time)

    def time(self, place: int) -> float:
        """Return when the byte at a place came; at the end, the latest. The track is not empty."""
        return self.ring.time(place)


def _place(entry: Entry) -> int:
    return entry.at


def _time(entry: Entry) -> float:
    return entry.time


def open_track(config: Config, saved: TrackState | None, *, reloaded: bool = False) -> Track | None:
    """Begin a track, or go on with the saved one if it has the size that is wanted now.

    None: the configuration needs no look into the stream; or a `reloaded` program has no memory for
    the track, and goes on without one.

    Raises:
        SetupError: there is no memory for it.
    """
    seconds, byte_count = measures(config)
    if not config.looks:
        if saved is not None:
            os.close(saved.ring.memory)
        return None
    spacing = 0.0 if math.isinf(seconds) else seconds / MAX_ENTRIES
    if saved is not None and saved.ring.octets != byte_count:
        os.close(saved.ring.memory)
        saved = None
    try:
        return Track(Ring(seconds, byte_count, saved.ring if saved else None), spacing, saved)
    except OSError as error:
        if not reloaded:
            raise SetupError(no_memory("track", byte_count, error)) from None
        log.warning("track_unavailable", reason=error.strerror, remedy=SMALLER)
        return None


def measures(config: Config) -> tuple[float, int]:
    """Return the seconds and bytes that a track is to keep."""
    if config.http is None:
        return math.inf, _whole(UNREAD)
    if not config.timeshift:
        return math.inf, _whole(LIVE)
    return config.timeshift + MARGIN, _whole(config.timeshift_mib << 19)


def _whole(byte_count: int) -> int:
    return byte_count - byte_count % PACKET_SIZE
