"""Notices that the active source sends what this relay has sent: relays that send to each other.

Two relays with `--to` at each other, over groups or over a third one, are harmless as long as an
encoder holds the ingest of one of them. When it pauses, a datagram that is still under way may be
the first to come in there. Then the relays are each other's active source, a burst goes round for
ever, as fast as the machines can, and the encoder is locked out.

A relay forwards what comes in; so in a circle the same datagrams come in again within milliseconds.
No source sends a datagram twice: headers of RTP count up, and so do the packets of a transport
stream, except stuffing and tables, which are left out here. Only a short clip that is played over
and over without RTP comes again, but slower than any circle: so in a bare stream of usual rate a
datagram has to come again within `CLIP` seconds. So ten times a second the batch that
was just forwarded is compared with those of the last second. In a circle most looks find a datagram
again; where thousands of datagrams go round, some looks do. The data path costs no more for it: a
look is at one batch, and a checksum takes a microsecond.

In a stream of unknown form any datagram may come twice: silence may be the same bytes again and
again. So five looks in a row have to find all their datagrams again, at a rate that no source of
silence has.

Not found: a few datagrams of unknown form that go round slowly, because a relay on the way has many
viewers and lets datagrams gather; and a circle that takes more than a second.

Rejected: a number of hops in the datagrams, which the relay must not change; remembering each
datagram; pausing the stream as a test, which costs every viewer a gap; comparing addresses, because
one host may send the stream and also receive it. Pure.
"""

import zlib
from collections import deque
from collections.abc import Iterable, Sequence

from relaylib.media import rtp
from relaylib.media.form import Form
from relaylib.media.mpegts import PACKET_SIZE, SYNC_BYTE
from relaylib.net.address import Address

MEMORY = 1.0
"""Seconds for which a look is remembered. More would be no better: a circle takes milliseconds."""

CLIP = 0.4
"""Seconds of the shortest clip that anybody plays over and over: ten pictures."""

REPEATS = 3
"""Looks within `MEMORY` that have found a datagram again, in a form where none comes twice. Fewer
may be a network that duplicates and delays datagrams."""

OPAQUE_REPEATS = 5
"""Looks in a row that have found all their datagrams again, in a stream of unknown form."""

FAST = 2000.0
"""Datagrams a second above which no source repeats the same bytes: 21 Mb/s of silence, or of a clip
that is shorter than a second."""

_RESERVED = 0x20
"""PIDs below are those of tables (ISO/IEC 13818-1, table 2-3; ETSI EN 300 468, table 1)."""
_NULL = 0x1FFF

_Datagram = bytes | memoryview


class LoopDetection:
    """Compares one look with those before."""

    def __init__(self) -> None:
        self._source: Address | None = None
        self._looks = deque[tuple[float, frozenset[int]]]()
        self._repeats = deque[float]()
        self._in_row = 0
        self._received, self._since = 0, 0.0

    def look(
        self, source: Address, datagrams: Sequence[_Datagram], form: Form, received: int, now: float
    ) -> bool:
        """Look at some datagrams of the active source; tell whether they go in a circle.

        `received` counts all datagrams of the stream until now.
        """
        if source != self._source:
            self.forget(source)
        while self._looks and now - self._looks[0][0] > MEMORY:
            self._looks.popleft()
        while self._repeats and now - self._repeats[0] > MEMORY:
            self._repeats.popleft()
        prints = {zlib.crc32(each): each for each in datagrams}
        rate = (received - self._received) / (now - self._since) if now > self._since else 0.0
        span = CLIP if form is Form.TS and rate < FAST else MEMORY
        recent = (each for then, each in self._looks if now - then <= span)
        known = prints.keys() & set[int]().union(*recent)
        self._received, self._since = received, now
        self._looks.append((now, frozenset(prints)))
        if form is Form.OPAQUE:
            self._in_row = self._in_row + 1 if len(known) == len(prints) else 0
            return self._in_row >= OPAQUE_REPEATS and rate >= FAST
        if any(bears_media(prints[each]) for each in known):
            self._repeats.append(now)
        return len(self._repeats) >= REPEATS

    def forget(self, source: Address | None) -> None:
        """Begin anew, with this source."""
        self._source = source
        self._looks.clear()
        self._repeats.clear()
        self._in_row = 0


def bears_media(datagram: _Datagram) -> bool:
    """Tell whether a datagram of RTP or MPEG-TS is one that no source sends a second time.

    A transport stream may repeat datagrams that have only stuffing and tables, the last of which is
    filled up.
    """
    if rtp.parse(datagram):
        return True
    return any(map(_has_payload, _packets(datagram)))


def _packets(datagram: _Datagram) -> Iterable[_Datagram]:
    starts = range(0, len(datagram) - PACKET_SIZE + 1, PACKET_SIZE)
    return (datagram[at : at + PACKET_SIZE] for at in starts)


def _has_payload(packet: _Datagram) -> bool:
    if packet[0] != SYNC_BYTE:
        return False
    pid = (packet[1] & 0x1F) << 8 | packet[2]
    return _RESERVED <= pid < _NULL and bytes(packet[-4:]) != b"\xff\xff\xff\xff"
