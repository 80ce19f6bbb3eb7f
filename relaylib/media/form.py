"""Which form a stream has, told from its datagrams: nobody says so, and senders differ.

Three transport stream packets are proof enough, bare or behind an RTP header: sync bytes at their
distance do not come by chance. One packet is a guess, and so is RTP with anything else inside, two
bits: these take some datagrams in a row. All the rest is opaque, and no fault.
"""

from enum import StrEnum

from relaylib.media import rtp
from relaylib.media.mpegts import PACKET_SIZE, SYNC_BYTE

CONFIRM = 3
"""Datagrams in a row that make a guess certain: by chance, once in ten million for packets."""

_STEP = 16
"""Most that sequence numbers of neighbours may be apart: a few were lost."""

_PLACES = 3
"""Sync bytes that a datagram needs to be certain alone."""

_SYNC = bytes((SYNC_BYTE,))


class Form(StrEnum):
    """What the datagrams are."""

    RTP = "rtp"
    TS = "ts"
    RTP_OTHER = "rtp_other"
    """RTP that carries no transport stream."""
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


class Recogniser:
    """Finds out the form of one sender's stream. What is found once stays."""

    def __init__(self) -> None:
        self.form = Form.OPAQUE
        self._guess = Form.OPAQUE
        self._run = 0  # datagrams that made the same guess
        self._last: rtp.Packet | None = None

    def feed(self, datagram: bytes) -> Form:
        """Take the next datagram; return the form as far as it is known."""
        if self.form is Form.OPAQUE:
            self.form = self._look(datagram)
        return self.form

    def _look(self, datagram: bytes) -> Form:
        packet = rtp.parse(datagram)
        if packet and _carries_ts(packet):
            return Form.RTP
        if phase(datagram) is not None:
            return Form.TS
        guess = Form.TS if aligned(datagram) else Form.RTP if packet else Form.OPAQUE
        goes_on = guess is self._guess and (guess is Form.TS or self._follows(packet))
        self._run = self._run + 1 if goes_on else 1
        self._guess, self._last = guess, packet
        return guess if self._run >= CONFIRM else Form.OPAQUE

    def _follows(self, packet: rtp.Packet | None) -> bool:
        last = self._last
        return (
            last is not None
            and packet is not None
            and (packet.ssrc, packet.payload_type) == (last.ssrc, last.payload_type)
            and 0 < (packet.sequence - last.sequence) & 0xFFFF <= _STEP
        )


def _carries_ts(packet: rtp.Packet) -> bool:
    payload = bytes(packet.payload)
    return phase(payload) is not None or (packet.payload_type == rtp.MP2T and aligned(payload))
