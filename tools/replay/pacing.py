"""When to send what: packets by their clock or at a constant rate, in datagrams, in RTP. Pure.

A file has no time but the one inside it: the PCR, a 27 MHz clock that a few packets of one program
carry. Packets between two PCRs are spread evenly between their times, which is how the standard
defines their arrival (ISO/IEC 13818-1, 2.4.2.2), so `paced` must look ahead to the next PCR before
it lets go of the packets in between. Jumps of the clock (an edited file, an encoder that restarted)
are bridged at the rate found last; nothing is waited for across them.
"""

import random
from collections.abc import Iterable, Iterator

from relaylib.media import mpegts, rtp
from tools.replay.program import ReplayError

Timed = tuple[int, bytes]
"""When to send, in nanoseconds since the start of the replay, and what."""

PER_DATAGRAM = 7
"""Packets in a datagram, as VLC, ffmpeg and everyone do: 1316 bytes, the most that fits in 1500."""

MAX_PCR_GAP = 5 * mpegts.PCR_HZ
"""Ticks. The standard asks for 0.1 s, some encoders take a second; more is a jump, not a gap."""

MAX_HELD = 65536
"""Packets held back to wait for a PCR: 12 MB, over a second of the fastest stream in use."""


class _PcrClock:
    """Follows the PCR of one program and measures the rate of the packets between two of them."""

    def __init__(self) -> None:
        self._pid: int | None = None
        self._last = 0
        self._since = 0  # packets since the last PCR
        self._pace: tuple[int, int] | None = None

    @property
    def pace(self) -> tuple[int, int]:
        """Nanoseconds and the number of packets that took them.

        Raises:
            ReplayError: not known yet.
        """
        if self._pace is None:
            raise ReplayError("no clock (PCR) to pace the stream by; give its rate with --bitrate")
        return self._pace

    def tick(self, packet: bytes) -> bool:
        """Take the next packet; tell whether the pace up to here is known with it."""
        self._since += 1
        pcr, pid = mpegts.pcr(packet), mpegts.pid(packet)
        if pcr is None or self._pid not in (None, pid):
            return False
        gap = (pcr - self._last) % mpegts.PCR_WRAP
        first, jump = self._pid is None, mpegts.discontinuity(packet) or not 0 < gap <= MAX_PCR_GAP
        if not first and not jump:
            self._pace = (gap * 1000 // 27, self._since)
        self._pid, self._last, self._since = pid, pcr, 0
        return not first and self._pace is not None

    def lost(self) -> None:
        """Follow whichever program has the next PCR: this one has had none for too long."""
        self._pid = None


def paced(packets: Iterable[bytes]) -> Iterator[Timed]:
    """Give every packet its time, from 0, after the PCR of the first program that has one.

    Raises:
        ReplayError: no two PCRs to measure the rate with.
    """
    clock, now, held = _PcrClock(), 0, list[bytes]()
    for packet in packets:
        known, full = clock.tick(packet), len(held) >= MAX_HELD
        if full:
            clock.lost()
        if known or full:
            yield from _spread(held, now, clock.pace)
            now += len(held) * clock.pace[0] // clock.pace[1]
            held = []
        held.append(packet)
    if held:
        yield from _spread(held, now, clock.pace)


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


def in_rtp(datagrams: Iterable[Timed], rng: random.Random) -> Iterator[Timed]:
    """Put an RTP header before each datagram.

    The time stamp is when the datagram is due (RFC 2250, 2: the target time of transmission). It,
    the sequence number and the SSRC start at random (RFC 3550, 5.1).

    Raises:
        ReplayError: a datagram that is not whole MPEG-TS packets.
    """
    sequence, origin, ssrc = (rng.getrandbits(bits) for bits in (16, 32, 32))
    for number, (due, payload) in enumerate(datagrams, sequence):
        if payload[:1] != b"\x47" or len(payload) % mpegts.PACKET_SIZE:
            raise ReplayError("--rtp wraps MPEG-TS, and a datagram here is something else")
        yield due, rtp.header(number, origin + due * rtp.CLOCK_HZ // 10**9, ssrc) + payload
