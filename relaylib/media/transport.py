"""The health of a transport stream.

Most packets of a stream are like the one before: same PID, payload only, the counter one higher. So
every PID knows the header that it expects next, and one comparison of 32 bits settles such a
packet: sync byte, error flag, scrambling and continuity with it. Only what differs is looked at.
Read this file from `Transport.feed` on.

Times are those of arrival, which is all there is behind a network.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from struct import Struct
from typing import NamedTuple

from relaylib.media import mpegts, psi
from relaylib.media.alignment import Alignment
from relaylib.media.clock import Clock
from relaylib.media.codecs import codec
from relaylib.media.elementary import ElementaryStream
from relaylib.media.meter import Meter
from relaylib.media.mpegts import PACKET_SIZE, SYNC_BYTE
from relaylib.media.tables import Tables
from relaylib.media.tr101290 import PID_LIMIT, TABLE_LIMIT, Errors

RESYNC = 5
"""Good sync bytes in a row that end a loss of sync (TR 101 290, 1.1)."""

MAX_PIDS = 512
"""PIDs that are followed, beside those that tables name. A multiplex has some dozens; damage can
have 8192, of which those that do not come again are forgotten."""

MAX_CHANGES = 64
"""Changes of the programs that are followed at once, in a second. More wait for its end."""

MAX_SEQUENCES = 512
"""Sequences of headers that are known by sight: sixteen for each PID that fills whole datagrams."""

NULL_PID = 0x1FFF

_TICK = 0.1

_NEAR = 32 * PACKET_SIZE
"""Bytes back in which the packet is looked for that a duplicate repeats."""

# The header of a packet as one number (2.4.3.2).
_ERROR, _START, _SCRAMBLED, _FIELD, _PAYLOAD = 0x800000, 0x400000, 0xC0, 0x20, 0x10
_SAME = 0xFF3FFF00
"""The bits that a packet has in common with the next one of its PID."""
_NO_SYNC = 0x00FFFFFF
"""No header is equal without its sync byte: of a PID that expects that, all is looked at."""

_UNKNOWN = -1
_RANDOM_ACCESS, _CLOCK, _DISCONTINUITY = 0x40, 0x10, 0x80


class Pid:
    """What is known of one PID."""

    __slots__ = (
        "doubled", "elementary", "expected", "meter", "number", "packets", "scrambled", "sections",
        "seen", "seen_at",
    )  # fmt: skip

    def __init__(self, number: int, now: float) -> None:
        self.number = number
        self.expected = _UNKNOWN
        """The header of a next packet that is no surprise; its lowest bits are the counter."""
        self.packets = 0
        self.scrambled = 0
        self.doubled = 0
        """How many packets there were at the last duplicate."""
        self.sections: psi.Sections | None = None
        self.elementary: ElementaryStream | None = None
        self.meter = Meter()
        """Rate in packets."""
        self.seen, self.seen_at = 0, now
        """Packets at the last look, and the time when a look last found more than before."""


@lru_cache(maxsize=512)
def _headers(count: int) -> Struct:
    return Struct(">" + "I184x" * count)


class DecodingStart(NamedTuple):
    """A packet with which decoding can start: of this PID, behind so many bytes of whole packets of
    its piece, at this position, with this DTS (or PTS, in ticks of PTS_HZ) if it has one.
    """

    pid: Pid
    offset: int
    position: int
    stamp: int | None


def ignore(*_found: object) -> None:
    """Take a callback's arguments, and do nothing."""


class Transport:
    """Watches one transport stream.

    `on_start` is told of each packet with which decoding can start, and when it arrived. Then
    `on_packets` is given what was whole in the piece: packets that begin with a sync byte, and when
    they arrived.
    """

    def __init__(
        self,
        on_start: Callable[[DecodingStart, float], None] = ignore,
        on_packets: Callable[[bytes, float], None] = ignore,
    ) -> None:
        self._on_start, self._on_packets = on_start, on_packets
        self.errors = Errors()
        self.tables = Tables(self.errors)
        self.pids = dict[int, Pid]()
        self.clocks = dict[int, Clock]()
        """By PID."""
        self.packets = 0
        self._by_number: list[Pid | None] = [None] * (NULL_PID + 1)
        self._others = Pid(NULL_PID, 0.0)
        self._named = self.tables.pids
        self._scrambled = 0  # of PIDs that are forgotten
        self._now = self._tick_at = self._second_at = -math.inf
        self._alignment = Alignment()
        self._first = self._start = 0  # positions of the block's first packet, and of the others
        self._damaged = 0  # bytes of packets without a sync byte in the block
        self._sequences = dict[tuple[int, ...], tuple[Pid, int]]()
        self._block = self._before = b""
        self._bad, self._lost_sync = -RESYNC, False
        self._anew = False
        self._stale, self._changes = False, 0  # the programs changed; how often in this second

    def feed(self, data: bytes, now: float, position: int = 0) -> None:
        """Take the next piece of the stream, datagrams' payload, that arrived `now` (seconds).

        `position` is what `on_start` is to be told of the first byte; of one that is n bytes
        behind it, n more.
        """
        if now > self._tick_at or self._anew:
            self._tick(now)
        self._now = max(self._now, now)
        self._first = self._start = position
        count, rest = divmod(len(data), PACKET_SIZE)
        if (
            rest
            or self._alignment.waits
            or not count
            or not data[0] == data[-PACKET_SIZE] == SYNC_BYTE
        ):
            data = self._aligned(data, position)
            count = len(data) // PACKET_SIZE
            if not count:
                return
        self._before, self._block = self._block, data
        headers = _headers(count).unpack(data)
        known = self._sequences.get(headers)
        if known is not None and known[0].expected == headers[0]:
            known[0].packets += count
            known[0].expected = known[1]
        else:
            self._walk(headers)
        self.packets += count
        self._on_packets(self._with_sync(data) if self._damaged else data, now)

    def _walk(self, headers: tuple[int, ...]) -> None:
        """Take the packets of a block one by one."""
        by_number, at = self._by_number, 0
        for header in headers:
            pid = by_number[header >> 8 & NULL_PID]
            if pid is not None and pid.expected == header:
                pid.expected = header & ~15 | header + 1 & 15
                pid.packets += 1
            else:
                self._look(header, at)
            at += PACKET_SIZE
        if headers and headers[0] >> 8 == headers[-1] >> 8:
            self._learn(headers)

    def _with_sync(self, data: bytes) -> bytes:
        """Leave out the packets whose sync byte is damaged."""
        self._damaged = 0
        packets = [data[at : at + PACKET_SIZE] for at in range(0, len(data), PACKET_SIZE)]
        return b"".join(each for each in packets if each[0] == SYNC_BYTE)

    def _learn(self, headers: tuple[int, ...]) -> None:
        """Remember headers of one PID that follow each other, and with which one it goes on.

        Most datagrams are such a sequence, and of one PID and length there are sixteen.
        """
        first, pid = headers[0], self._by_number[headers[0] >> 8 & NULL_PID]
        following = [first & ~15 | first + index & 15 for index in range(len(headers) + 1)]
        if pid is not None and headers == tuple(following[:-1]) and pid.expected == following[-1]:
            if len(self._sequences) >= MAX_SEQUENCES:
                self._sequences.clear()
            self._sequences[headers] = (pid, following[-1])

    def begin_anew(self) -> None:
        """The sender started again: accept any next counters and clocks.

        What was missed meanwhile is not missing, and none of its tables has been seen yet.
        """
        self._alignment.begin_anew()
        self._anew = True
        for pid in self.pids.values():
            pid.expected = _UNKNOWN
            if pid.sections:
                pid.sections.drop()
                pid.sections.packets = b""
        for clock in self.clocks.values():
            clock.begin_anew()

    @property
    def scrambled(self) -> int:
        """Packets whose payload cannot be read."""
        return self._scrambled + sum(pid.scrambled for pid in self.pids.values())

    def tables_of(self, number: int) -> bytes:
        """Return the latest packets of the PAT, and of the PMT that names this PID; b"": none."""
        for program in self.tables.programs.values():
            if any(stream.pid == number for stream in program.streams):
                return self._packets_of(psi.PAT_PID, program.pmt_pid)
        return b""

    def _packets_of(self, *numbers: int) -> bytes:
        known = [self.pids.get(number) for number in numbers]
        packets = [pid.sections.packets if pid and pid.sections else b"" for pid in known]
        return b"".join(packets) if all(packets) else b""

    # --- pieces that are not whole packets

    @property
    def foreign(self) -> int:
        """Pieces that are no part of the stream."""
        return self._alignment.foreign

    def _aligned(self, data: bytes, position: int) -> bytes:
        """Return whole packets; the rest is kept until the next piece comes."""
        alignment, torn = self._alignment, self._alignment.torn
        packets = alignment.take(data, position, len(self._block))
        self._first, self._start = alignment.first, alignment.start
        if alignment.torn > torn:
            self.errors.add("Sync_byte_error", self._now)
        return packets

    # --- a packet that is not just the next one

    def _look(self, header: int, at: int) -> None:
        if header >> 24 != SYNC_BYTE:
            self._without_sync(self.packets + at // PACKET_SIZE)
            return
        pid = self._pid(header >> 8 & NULL_PID)
        pid.packets += 1
        if pid.number == NULL_PID:
            return
        if header & _ERROR:  # nothing in it can be trusted: no other error is made of it
            self.errors.add("Transport_error", self._now)
            pid.expected = _UNKNOWN
            return
        packet = self._block[at : at + PACKET_SIZE]
        flags = packet[5] if header & _FIELD and packet[4] else 0
        if not flags & _DISCONTINUITY and not self._continues(pid, header, packet, at):
            return
        following = header & _SAME | _PAYLOAD | header + 1 & 15
        pid.expected = following & _NO_SYNC if pid.sections else following
        if flags & _CLOCK:
            self._clock(pid.number, packet, at, bool(flags & _DISCONTINUITY))
        if header & _SCRAMBLED:
            pid.scrambled += 1
            self.tables.scrambled(pid.number, self._now)
        elif pid.sections and header & _PAYLOAD:
            self._sections(pid, pid.sections, packet)
        if pid.elementary and header & _START:
            self._begin(pid, pid.elementary, packet, bool(flags & _RANDOM_ACCESS), at)

    def _begin(
        self, pid: Pid, elementary: ElementaryStream, packet: bytes, flagged: bool, at: int
    ) -> None:
        if elementary.begin(packet, flagged, self._now):
            header = mpegts.pes_header(packet)
            stamp = mpegts.stamp(packet, header.stamps[-1]) if header else None
            position = self._start + at if at else self._first
            self._on_start(DecodingStart(pid, at - self._damaged, position, stamp), self._now)

    def _pid(self, number: int) -> Pid:
        known = self._by_number[number]
        if known is None:
            if len(self.pids) >= MAX_PIDS and number not in self._named:
                return self._others
            known = self._by_number[number] = self.pids[number] = Pid(number, self._now)
            if number in self.tables.pids:
                known.sections = psi.Sections()
        return known

    def _without_sync(self, place: int) -> None:
        self._damaged += PACKET_SIZE
        self.errors.add("Sync_byte_error", self._now)
        if place - self._bad > RESYNC:
            self._lost_sync = False
        elif place - self._bad == 1 and not self._lost_sync:
            self._lost_sync = True
            self.errors.add("TS_sync_loss", self._now)
        self._bad = place

    def _continues(self, pid: Pid, header: int, packet: bytes, at: int) -> bool:
        """Check the continuity counter (2.4.3.3); False for a packet that came before."""
        if pid.expected == _UNKNOWN:
            return True
        behind = (pid.expected - header) & 15
        if behind == bool(not header & _PAYLOAD):
            return True
        once = pid.packets > pid.doubled + 1
        if behind == 1 and once and self._repeats(packet, at):
            pid.doubled = pid.packets
            return False
        self.errors.add("Continuity_count_error", self._now)
        if pid.sections:
            pid.sections.drop()
        return True

    def _repeats(self, packet: bytes, at: int) -> bool:
        """Tell whether the last packet of the PID has the same payload: not so if 16 were lost."""
        number, payload = mpegts.pid(packet), packet[mpegts.payload_at(packet) :]
        before = self._before[-_NEAR:] + self._block[max(0, at - _NEAR) : at]
        for start in range(len(before) - PACKET_SIZE, -1, -PACKET_SIZE):
            other = before[start : start + PACKET_SIZE]
            if mpegts.pid(other) == number:
                return other[mpegts.payload_at(other) :] == payload
        return False

    def _clock(self, number: int, packet: bytes, at: int, announced: bool) -> None:
        if (value := mpegts.pcr(packet)) is not None:
            if number not in self.clocks:
                self.clocks[number] = Clock(self.errors)
            place = self.packets + at // PACKET_SIZE
            self.clocks[number].tick(value, announced, place, self._now)

    def _sections(self, pid: Pid, sections: psi.Sections, packet: bytes) -> None:
        payload = packet[mpegts.payload_at(packet) :]
        starts = mpegts.starts_unit(packet)
        whole = sections.add(payload, starts)
        sections.keep(packet, starts, bool(whole))
        for section in whole:
            self._stale |= self.tables.take(pid.number, section, self._now)
        if self._stale and self._changes < MAX_CHANGES:
            self._changes += 1
            self._refer()

    def _refer(self) -> None:
        """The programs changed: tell every PID what it is now."""
        self._stale = False
        named = {
            stream.pid: codec(stream.type, stream.descriptors)
            for program in self.tables.programs.values()
            for stream in program.streams
        }
        tables = self.tables.pids
        self._named = {*named, *tables}
        for number in {*self.pids, *self._named}:
            pid = self._pid(number)
            if (number in tables) != (pid.sections is not None):
                pid.sections = psi.Sections() if number in tables else None
                pid.expected = _UNKNOWN
            what = named.get(number)
            if what is None:
                pid.elementary = None
            elif pid.elementary is None or pid.elementary.named != what:
                pid.elementary = ElementaryStream(what, self.errors, self._now)
                pid.seen_at = self._now

    # --- time

    def _tick(self, now: float) -> None:
        """Look after what does not come. What comes is looked at when it does."""
        if self._anew:
            self.tables.begin_anew(now)
        if self._anew or (self.packets and now - self._now > TABLE_LIMIT):
            self._resume(now)
        self._anew = False
        self.tables.check(now)
        for pid in self.pids.values():
            if pid.elementary:
                pid.elementary.check(now)
        self._tick_at = now + _TICK
        if now >= self._second_at:
            self._second(now)
            self._second_at = now + 1

    def _resume(self, now: float) -> None:
        """Nothing came for a while. One error tells that; not one for each thing that is late."""
        self.tables.resume(now)
        for pid in self.pids.values():
            pid.seen_at = now
            if pid.elementary:
                pid.elementary.resume(now)

    def _second(self, now: float) -> None:
        self._changes = 0
        if self._stale:
            self._refer()
        for clock in self.clocks.values():
            clock.second()
        for pid in self.pids.values():
            pid.meter.mark(now, pid.packets)
            self._look_for(pid, now)
        if len(self.pids) >= MAX_PIDS:
            self._forget(now)

    def _forget(self, now: float) -> None:
        """Make room: forget PIDs that no table names and that do not come any more."""
        old = [
            pid
            for pid in self.pids.values()
            if pid.number not in self._named and now - pid.seen_at > PID_LIMIT
        ]
        for pid in old:
            self._scrambled += pid.scrambled
            self._by_number[pid.number] = None
            del self.pids[pid.number]
            self.clocks.pop(pid.number, None)
        self._sequences.clear()

    def _look_for(self, pid: Pid, now: float) -> None:
        """Count a PID_error if sound or picture that a program names does not come."""
        if pid.packets > pid.seen:
            pid.seen, pid.seen_at = pid.packets, now
        elif pid.elementary and pid.elementary.is_timed and now - pid.seen_at > PID_LIMIT:
            self.errors.add("PID_error", now)
            pid.seen_at = now
