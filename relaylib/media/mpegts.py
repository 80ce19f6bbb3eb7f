"""MPEG transport streams (ISO/IEC 13818-1): finding packets in a file, and when to send each. Pure.

A file has no time but the one inside it: the PCR, a 27 MHz clock that a few packets of one program
carry. Packets between two PCRs are spread evenly between their times, which is how the standard
defines their arrival (2.4.2.2), so `paced` must look ahead to the next PCR before it lets go of the
packets in between. Jumps of the clock (an edited file, an encoder that restarted) are bridged at
the rate found last; nothing is waited for across them.
"""

from collections.abc import Iterable, Iterator
from typing import BinaryIO

from relaylib.errors import SetupError

Timed = tuple[int, bytes]
"""When to send, in nanoseconds since the start of the replay, and what."""

PACKET = 188
SYNC = 0x47
PER_DATAGRAM = 7
"""Packets in a datagram, as VLC, ffmpeg and everyone do: 1316 bytes, the most that fits in 1500."""

PCR_WRAP = 300 << 33
"""The PCR counts 27 MHz ticks modulo this (26.5 hours)."""

MAX_PCR_GAP = 5 * 27_000_000
"""Ticks. The standard asks for 0.1 s, some encoders take a second; more is a jump, not a gap."""

MAX_HELD = 65536
"""Packets held back to wait for a PCR: 12 MB, over a second of the fastest stream in use."""

_STRIDES = (188, 192, 204)
"""Packet spacing: plain, with a time code in front (M2TS), with Reed-Solomon bytes behind (DVB)."""

_CONFIRM = 5
"""Sync bytes in a row that make a stream: one in 10^12 places of random bytes has them."""

_WINDOW = (_CONFIRM + 1) * max(_STRIDES)
"""Bytes ahead of a place that are enough to judge it."""

_CHUNK = 1 << 16

MAX_GARBAGE = 16 << 20
"""Bytes in a row without a packet that are searched: what is longer is no damage but another file,
or one without end."""


class MediaError(SetupError):
    """A file that cannot be replayed as asked; `str()` says why."""


class PacketReader:
    """Iterates over the packets of a file, finding the way back to them after garbage."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.skipped = 0
        """Bytes that belong to no packet, among them a packet cut short at the end of the file."""

    def __iter__(self) -> Iterator[bytes]:
        data, at, stride, final = b"", 0, 0, False
        garbage = 0
        while True:
            if not final and len(data) - at < _WINDOW:
                chunk = self._file.read(_CHUNK)
                data, at, final = data[at:] + chunk, 0, not chunk
            elif len(data) - at < PACKET:
                break
            elif stride and data[at] == SYNC:
                yield data[at : at + PACKET]
                at += stride
                garbage = 0
            else:
                start, stride = _find_sync(data, at, final)
                self.skipped += start - at
                garbage += start - at
                at = start
                if garbage > MAX_GARBAGE:
                    raise MediaError(f"no MPEG-TS in {MAX_GARBAGE >> 20} MiB of it")
        self.skipped += max(0, len(data) - at)


def _find_sync(data: bytes, start: int, final: bool) -> tuple[int, int]:
    """Find where packets follow each other: offset and spacing, 0 if not in what can be judged."""
    at = data.find(SYNC, start)
    while at >= 0:
        for stride in _STRIDES:
            if _confirmed(data, at, stride, final):
                return at, stride
        at = data.find(SYNC, at + 1)
    return len(data) if final else len(data) - _WINDOW + 1, 0


def _confirmed(data: bytes, at: int, stride: int, final: bool) -> bool:
    places = range(at, len(data), stride)[:_CONFIRM]
    if len(places) == _CONFIRM:
        return all(data[place] == SYNC for place in places)
    # At the end of the file fewer will do, but they must fill it to the last byte.
    whole = (len(data) - at) % stride in (0, PACKET)
    return final and whole and all(data[place] == SYNC for place in places)


def pid_of(packet: bytes) -> int:
    """Return the packet identifier."""
    return (packet[1] & 0x1F) << 8 | packet[2]


def pcr_of(packet: bytes) -> int | None:
    """Return the packet's PCR in 27 MHz ticks, or None (2.4.3.4, 2.4.3.5)."""
    if packet[3] & 0x20 and packet[4] >= 7 and packet[5] & 0x10:
        base = int.from_bytes(packet[6:11], "big") >> 7
        return base * 300 + ((packet[10] & 1) << 8 | packet[11])
    return None


class _Clock:
    """Follows the PCR of one program and measures the rate of the packets between two of them."""

    def __init__(self) -> None:
        self._pid: int | None = None
        self._last = 0
        self._since = 0  # packets since the last PCR
        self.pace: tuple[int, int] | None = None
        """Nanoseconds and the number of packets that took them; None: not known yet."""

    def tick(self, packet: bytes) -> bool:
        """Take the next packet; tell whether it closes an interval."""
        self._since += 1
        pcr, pid = pcr_of(packet), pid_of(packet)
        if pcr is None or self._pid not in (None, pid):
            return False
        gap = (pcr - self._last) % PCR_WRAP
        first, jump = self._pid is None, packet[5] & 0x80 or not 0 < gap <= MAX_PCR_GAP
        if not first and not jump:
            self.pace = (gap * 1000 // 27, self._since)
        self._pid, self._last, self._since = pid, pcr, 0
        return not first

    def lost(self) -> None:
        """Follow whichever program has the next PCR: this one has had none for too long."""
        self._pid = None


def paced(packets: Iterable[bytes]) -> Iterator[Timed]:
    """Give every packet its time, from 0, after the PCR of the first program that has one.

    Raises:
        MediaError: no two PCRs to measure the rate with.
    """
    clock, now, held = _Clock(), 0, list[bytes]()
    for packet in packets:
        if clock.tick(packet) or len(held) >= MAX_HELD:
            if len(held) >= MAX_HELD:
                clock.lost()
                _check(clock)
            if clock.pace is not None:
                yield from _spread(held, now, clock.pace)
                now += len(held) * clock.pace[0] // clock.pace[1]
                held = []
        held.append(packet)
    if held:
        yield from _spread(held, now, _check(clock))


def _check(clock: _Clock) -> tuple[int, int]:
    if clock.pace is None:
        raise MediaError("no clock (PCR) to pace the stream by; give its rate with --bitrate")
    return clock.pace


def _spread(packets: list[bytes], start: int, pace: tuple[int, int]) -> Iterator[Timed]:
    duration, count = pace
    for index, packet in enumerate(packets):
        yield start + index * duration // count, packet


def at_bitrate(chunks: Iterable[bytes], bits_per_second: float) -> Iterator[Timed]:
    """Give every chunk its time at a constant rate, from 0."""
    sent = 0
    for chunk in chunks:
        yield int(sent * 8e9 / bits_per_second), chunk
        sent += len(chunk)


def datagrams(packets: Iterable[Timed]) -> Iterator[Timed]:
    """Put packets together seven to a datagram, which leaves when its first packet is due."""
    due, group = 0, list[bytes]()
    for time, packet in packets:
        if not group:
            due = time
        group.append(packet)
        if len(group) == PER_DATAGRAM:
            yield due, b"".join(group)
            group = []
    if group:
        yield due, b"".join(group)
