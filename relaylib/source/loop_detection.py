"""Notices that the active source sends what this relay has sent: relays that send to each other.

Two relays with `--to` at each other, over groups or over a third one, are harmless as long as an
encoder holds the ingest of one of them. When it pauses, what is still under way may be the first to
come in there. Then relays are each other's active source, a burst goes round for ever, as fast as
the machines can, and the encoder is locked out.

What comes in was forwarded; so in a circle the same datagrams come in again within milliseconds.
No source sends such: headers of RTP count up, and so do the packets of a transport stream, but for
stuffing and tables, which do not count here. So ten times a second the batch that was just
forwarded is looked at, and compared with those of the last second. In a circle most looks find
something again; where thousands of datagrams go round, some do. The data path pays nothing: a look
is at one batch, and a checksum takes a microsecond.

Of a stream of unknown form nobody knows what may come twice: silence may be the same bytes again
and again. So all of five looks in a row has to be known, and more has to come than a source of such
sends.

What is not found: a few datagrams of unknown form that go round slowly, because a relay on the way
has many viewers and lets datagrams gather; and a circle that takes more than a second.

Rejected: a number of hops in the datagrams, which are not ours to change; remembering each of them;
to pause the stream as a test, which costs every viewer a gap; to believe addresses, because a host
may well send the stream and be sent it. Pure.
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

REPEATS = 3
"""Looks of these that have found something again, where no datagram may come twice. Fewer may be a
network that sends some of them twice, late."""

OPAQUE_REPEATS = 5
"""Looks in a row that have found everything again, of a stream of unknown form."""

OPAQUE_RATE = 2000.0
"""Datagrams a second that are no source's if they are always the same: 21 Mb/s of silence."""

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
        known = prints.keys() & set[int]().union(*(each for _, each in self._looks))
        rate = (received - self._received) / (now - self._since) if now > self._since else 0.0
        self._received, self._since = received, now
        self._looks.append((now, frozenset(prints)))
        if form is Form.OPAQUE:
            self._in_row = self._in_row + 1 if len(known) == len(prints) else 0
            return self._in_row >= OPAQUE_REPEATS and rate >= OPAQUE_RATE
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
    """Tell whether no source sends a datagram of RTP or MPEG-TS a second time.

    Of a transport stream those may come again that have only tables, the last of which is filled
    up, and stuffing.
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
