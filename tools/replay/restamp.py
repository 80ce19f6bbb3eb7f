"""Playing a transport stream again and again without a seam. Pure.

Sent twice as it is, a file jumps back in time and breaks every continuity counter. Receivers are
free to treat that as damage, and they do: a decoder resets, a recorder writes overlapping times.
A discontinuity flag (ISO/IEC 13818-1, 2.4.3.5) would be legal and smaller, but needs an adaptation
field in the first packet of every PID, which files do not have, and libavformat ignores it. So from
the second pass on the clocks (PCR, PTS, DTS) and the counters go on from where they were. The first
pass is passed on untouched, byte for byte.
"""

from collections.abc import Iterator

from relaylib.media.mpegts import pcr_of, pid_of

WRAP = 1 << 33
"""PTS, DTS and the base of the PCR count 90 kHz ticks modulo this."""

_MAX_PAUSE = 90_000
"""Ticks by which the pictures may outlast the clock of the file; more means that one of them jumped
and the clock alone is believed."""

_BARE = frozenset((0xBC, 0xBE, 0xBF, 0xF0, 0xF1, 0xF2, 0xF8, 0xFF))
"""Stream IDs whose PES packets have no header with times (table 2-21)."""


class _Track:
    """A clock in the stream: its first and latest value, and its latest step, in 90 kHz ticks."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._first: int | None = None
        self._last = 0
        self._step = 0

    def add(self, value: int) -> None:
        if self._first is None:
            self._first = value
        else:
            self._step = (value - self._last) % WRAP
        self._last = value

    def span(self) -> int:
        """Ticks from the first value to where the next one is due."""
        return 0 if self._first is None else (self._last - self._first + self._step) % WRAP


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
        """The file starts again: choose what to add so that all goes on."""
        if not self._passes:
            self._period = self._measure()
        self._passes += 1
        self._shift = self._passes * self._period % WRAP
        self._offsets.clear()

    def _measure(self) -> int:
        period = self._pcr.span() if self._pcr else 0
        if self._video:
            longer = (self._video.span() - period) % WRAP
            if not self._pcr or longer <= _MAX_PAUSE:
                period += longer
        return period % WRAP

    def rewrite(self, packet: bytes) -> bytes:
        """Return the packet as it has to be sent in this pass."""
        pid = pid_of(packet)
        if not self._passes:
            self._observe(pid, packet)
            return packet
        out = bytearray(packet)
        for at in _stamps(packet):
            _write_stamp(out, at, (_read_stamp(packet, at) + self._shift) % WRAP)
        if (pcr := pcr_of(packet)) is not None:
            base = (pcr // 300 + self._shift) % WRAP
            out[6:11] = (base << 7 | packet[10] & 0x7F).to_bytes(5, "big")
        out[3] = packet[3] & 0xF0 | self._count(pid, packet)
        return bytes(out)

    def _observe(self, pid: int, packet: bytes) -> None:
        self._counters[pid] = packet[3] & 0x0F
        if (pcr := pcr_of(packet)) is not None:
            self._pcr = self._pcr or _Track(pid)
            if self._pcr.pid == pid:
                self._pcr.add(pcr // 300)
        if (stamps := list(_stamps(packet))) and _is_video(packet):
            self._video = self._video or _Track(pid)
            if self._video.pid == pid:
                self._video.add(_read_stamp(packet, stamps[-1]))

    def _count(self, pid: int, packet: bytes) -> int:
        """Return the continuity counter: it counts the packets with a payload (2.4.3.3)."""
        counter = packet[3] & 0x0F
        if pid not in self._offsets:
            due = self._counters.get(pid, counter) + (1 if packet[3] & 0x10 else 0)
            self._offsets[pid] = due - counter
        self._counters[pid] = (counter + self._offsets[pid]) & 0x0F
        return self._counters[pid]


def _payload(packet: bytes) -> int:
    """Return the offset of the payload."""
    return 5 + packet[4] if packet[3] & 0x20 else 4


def _stamps(packet: bytes) -> Iterator[int]:
    """Yield the offsets of the PTS, and of the DTS if there is one (2.4.3.6)."""
    at = _payload(packet)
    starts = packet[1] & 0x40 and packet[3] & 0xD0 == 0x10  # a PES packet or table, not scrambled
    room = len(packet) - at - 9
    if not starts or room < 5 or packet[at : at + 3] != b"\0\0\1" or packet[at + 3] in _BARE:
        return
    if packet[at + 7] & 0x80:
        yield at + 9
        if packet[at + 7] & 0x40 and room >= 10:
            yield at + 14


def _is_video(packet: bytes) -> bool:
    return packet[_payload(packet) + 3] & 0xF0 == 0xE0


def _read_stamp(packet: bytes, at: int) -> int:
    a, b, c, d, e = packet[at : at + 5]
    return (a & 0x0E) << 29 | b << 22 | (c & 0xFE) << 14 | d << 7 | e >> 1


def _write_stamp(packet: bytearray, at: int, value: int) -> None:
    packet[at : at + 5] = (
        packet[at] & 0xF1 | value >> 29 & 0x0E,
        value >> 22 & 0xFF,
        value >> 14 & 0xFE | 1,
        value >> 7 & 0xFF,
        value << 1 & 0xFE | 1,
    )
