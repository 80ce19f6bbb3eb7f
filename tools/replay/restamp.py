"""Playing a transport stream again and again without a seam. Pure.

Sent twice as it is, a file jumps back in time and breaks every continuity counter. Receivers are
free to treat that as damage, and they do: a decoder resets, a recorder writes overlapping times.
A discontinuity flag (ISO/IEC 13818-1, 2.4.3.5) would be legal and smaller, but needs an adaptation
field in the first packet of every PID, which files do not have, and libavformat ignores it. So from
the second pass on the clocks (PCR, PTS, DTS) and the counters go on from where they were. The first
pass is passed on untouched, byte for byte.
"""

from relaylib.media import mpegts
from relaylib.media.mpegts import PTS_WRAP

_PCR_PER_PTS = mpegts.PCR_HZ // mpegts.PTS_HZ

_MAX_PAUSE = 90_000
"""Ticks by which the pictures may outlast the clock of the file. More means that one of the two
jumped; then only the clock is used."""


class _Track:
    """A clock in the stream: its first and latest value and its latest step, in ticks of PTS_HZ."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._first: int | None = None
        self._last = 0
        self._step = 0

    def add(self, value: int) -> None:
        if self._first is None:
            self._first = value
        else:
            self._step = (value - self._last) % PTS_WRAP
        self._last = value

    def span(self) -> int:
        """Ticks from the first value to where the next one is due."""
        return 0 if self._first is None else (self._last - self._first + self._step) % PTS_WRAP


class Restamper:
    """Rewrites the packets of every pass but the first. Call `rewind` between passes."""

    def __init__(self) -> None:
        self._passes = 0
        self._shift = 0
        self._pcr: _Track | None = None
        self._video: _Track | None = None
        self._counters: dict[int, int] = {}  # PID -> counter of the last packet sent
        self._offsets: dict[int, int] = {}  # PID -> what this pass adds to its counters

    def rewind(self) -> None:
        """Note that the file starts again: its clocks and counters go on from where they were."""
        if not self._passes:
            self._period = self._measure()
        self._passes += 1
        self._shift = self._passes * self._period % PTS_WRAP
        self._offsets.clear()

    def _measure(self) -> int:
        period = self._pcr.span() if self._pcr else 0
        if self._video:
            longer = (self._video.span() - period) % PTS_WRAP
            if not self._pcr or longer <= _MAX_PAUSE:
                period += longer
        return period % PTS_WRAP

    def rewrite(self, packet: bytes) -> bytes:
        """Return the packet as it has to be sent in this pass."""
        if not self._passes:
            self._observe(packet)
            return packet
        out = bytearray(packet)
        if pes := mpegts.pes_header(packet):
            for at in pes.stamps:
                _write_stamp(out, at, (mpegts.stamp(packet, at) + self._shift) % PTS_WRAP)
        if (pcr := mpegts.pcr(packet)) is not None:
            base = (pcr // _PCR_PER_PTS + self._shift) % PTS_WRAP
            out[6:11] = (base << 7 | packet[10] & 0x7F).to_bytes(5, "big")
        out[3] = packet[3] & 0xF0 | self._count(packet)
        return bytes(out)

    def _observe(self, packet: bytes) -> None:
        pid = mpegts.pid(packet)
        self._counters[pid] = mpegts.counter(packet)
        if (pcr := mpegts.pcr(packet)) is not None:
            self._pcr = self._pcr or _Track(pid)
            if self._pcr.pid == pid:
                self._pcr.add(pcr // _PCR_PER_PTS)
        if (pes := mpegts.pes_header(packet)) and pes.is_video:
            self._video = self._video or _Track(pid)
            if self._video.pid == pid:
                self._video.add(mpegts.stamp(packet, pes.stamps[-1]))

    def _count(self, packet: bytes) -> int:
        pid, counter = mpegts.pid(packet), mpegts.counter(packet)
        if pid not in self._offsets:
            due = self._counters.get(pid, counter) + mpegts.has_payload(packet)
            self._offsets[pid] = due - counter
        self._counters[pid] = (counter + self._offsets[pid]) & 0x0F
        return self._counters[pid]


def _write_stamp(packet: bytearray, at: int, value: int) -> None:
    packet[at : at + 5] = (
        packet[at] & 0xF1 | value >> 29 & 0x0E,
        value >> 22 & 0xFF,
        value >> 14 & 0xFE | 1,
        value >> 7 & 0xFF,
        value << 1 & 0xFE | 1,
    )
