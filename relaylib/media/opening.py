"""The opening of a stream for a viewer in its middle: first the tables, then an entry point.

A decoder that gets a transport stream from anywhere waits for the next PAT and PMT, and then for
the next entry point. So it is first given the latest tables, and then the stream from the
packet of the entry point on. What came before that packet in its datagram is left out.
"""

from relaylib.media import rtp
from relaylib.media.form import aligned
from relaylib.media.mpegts import PACKET_SIZE

MOST_PACKETS = 7
"""In a datagram: more do not fit an Ethernet frame."""

_PADDING = 0x20


def opening(tables: bytes, datagram: bytes, offset: int) -> list[bytes]:
    """Make the datagrams that open a stream at the packet `offset` bytes into this datagram of it.

    They are no larger than that one. If it is RTP, they are, too, and their sequence numbers end
    with its own, so that nothing seems to be missing behind them.
    """
    packet = rtp.parse(datagram)
    if packet is None or not aligned(bytes(packet.payload)):
        return _cut(tables + datagram[offset:], len(datagram))
    padding = datagram[-1] if datagram[0] & _PADDING else 0
    start = len(datagram) - padding - len(packet.payload)
    pieces = _cut(tables + bytes(packet.payload[offset - start :]), len(packet.payload))
    first = packet.sequence - len(pieces) + 1
    return [
        rtp.header(number, packet.timestamp, packet.ssrc, packet.payload_type) + piece
        for number, piece in enumerate(pieces, first)
    ]


def _cut(data: bytes, room: int) -> list[bytes]:
    """Cut what begins with whole packets into pieces of whole packets, but for the last one."""
    size = PACKET_SIZE * min(MOST_PACKETS, max(1, room // PACKET_SIZE))
    return [data[at : at + size] for at in range(0, len(data), size)]
