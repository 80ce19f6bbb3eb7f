"""Which form a stream has, told from its datagrams: nobody says so, and senders differ.

One datagram of transport stream packets is proof enough, bare or behind an RTP header: sync bytes
at their distance do not come by chance. RTP with anything else inside is two bits and a guess, so
that takes some datagrams that follow each other. All the rest is opaque, and no fault.
"""

from enum import StrEnum

from relaylib.media import rtp
from relaylib.media.mpegts import PACKET_SIZE, SYNC_BYTE

CONFIRM = 3
"""Datagrams with RTP headers that follow each other: chance makes one in 10^11 such triples."""

_STEP = 16
"""Most that sequence numbers of neighbours may be apart: a few were lost."""

_PLACES = 3
"""Sync bytes that a datagram needs if it does not begin with a packet."""

_SYNC = bytes((SYNC_BYTE,))


class Form(StrEnum):
    """What the datagrams are."""

    RTP = "rtp"
    TS = "ts"
    OPAQUE = "opaque"


def aligned(data: bytes) -> bool:
    """Tell whether these are whole transport stream packets and nothing else."""
    count, rest = divmod(len(data), PACKET_SIZE)
    return count > 0 and not rest and data[::PACKET_SIZE] == _SYNC * count


def phase(data: bytes) -> int | None:
    """Find where the first packet begins in a piece of a transport stream; None if it is none.

    Some senders fill datagrams to the brim, and cut packets in two.
    """
    at = data.find(SYNC_BYTE, 0, PACKET_SIZE)
    while at >= 0:
        places = data[at::PACKET_SIZE]
        if len(places) >= _PLACES and places == _SYNC * len(places):
            return at
        at = data.find(SYNC_BYTE, at + 1, PACKET_SIZE)
    return None


def is_ts(data: bytes) -> bool:
    """Tell whether a datagram is a piece of a transport stream."""
    return aligned(data) or phase(data) is not None


class Recogniser:
    """Finds out the form of one sender's stream. What is found once stays."""

    def __init__(self) -> None:
        self.form = Form.OPAQUE
        self._last: rtp.Packet | None = None
        self._run = 0

    def feed(self, datagram: bytes) -> Form:
        """Take the next datagram; return the form as far as it is known."""
        if self.form is Form.OPAQUE:
            self.form = self._look(datagram)
        return self.form

    def _look(self, datagram: bytes) -> Form:
        packet = rtp.parse(datagram)
        if packet and is_ts(bytes(packet.payload)):
            return Form.RTP
        if is_ts(datagram):
            return Form.TS
        self._run = self._run + 1 if packet and self._follows(packet) else int(packet is not None)
        self._last = packet
        return Form.RTP if self._run >= CONFIRM else Form.OPAQUE

    def _follows(self, packet: rtp.Packet) -> bool:
        last = self._last
        return (
            last is not None
            and (packet.ssrc, packet.payload_type) == (last.ssrc, last.payload_type)
            and 0 < (packet.sequence - last.sequence) & 0xFFFF <= _STEP
        )
