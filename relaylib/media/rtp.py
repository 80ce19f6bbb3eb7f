"""MPEG-TS in RTP (RFC 3550, 5.1; RFC 2250, 2). Pure."""

import random
import struct
from collections.abc import Iterable, Iterator

from relaylib.media.mpegts import PACKET, SYNC, MediaError, Timed

PAYLOAD_TYPE = 33
"""MP2T (RFC 3551, table 5)."""

_VERSION = 2 << 6


def wrap(datagrams: Iterable[Timed], rng: random.Random) -> Iterator[Timed]:
    """Put an RTP header before each datagram.

    The time stamp is when the datagram is due, in 90 kHz ticks (RFC 2250, 2: the target time of
    transmission). It, the sequence number and the SSRC start at random (RFC 3550, 5.1).

    Raises:
        MediaError: a datagram that is not whole MPEG-TS packets.
    """
    sequence, origin, ssrc = (rng.getrandbits(bits) for bits in (16, 32, 32))
    for due, payload in datagrams:
        if not payload or payload[0] != SYNC or len(payload) % PACKET:
            raise MediaError("--rtp wraps MPEG-TS, and a datagram here is something else")
        stamp = (origin + due * 9 // 100_000) & 0xFFFFFFFF
        header = struct.pack(">BBHII", _VERSION, PAYLOAD_TYPE, sequence, stamp, ssrc)
        yield due, header + payload
        sequence = (sequence + 1) & 0xFFFF
