"""The form of a stream, found out from its datagrams: no header names it, and senders differ.

Three transport stream packets are proof enough, bare or behind an RTP header: sync bytes at their
distance do not come by chance. One packet is a guess, and so is RTP with anything else inside, two
bits: these take some datagrams in a row. Everything else is opaque, which is no fault.

A piece of a bare stream that begins inside a packet may look like an RTP header with packets behind
it. So packets behind such a header are proof only where they are whole, and the header says that
they are a transport stream; otherwise the header has to go on from datagram to datagram, too.

A form that is known changes only when many datagrams in a row say so: other things come in on the
same port (FEC, RTCP, STUN, keepalives, text), and end nothing.
"""

from enum import StrEnum
from typing import NamedTuple

from relaylib.media import rtp
from relaylib.media.mpegts import PACKET_SIZE, SYNC_BYTE

CONFIRM = 3
"""Datagrams in a row that make a guess certain: by chance, once in ten million for packets."""

CHANGE = 16
"""Datagrams in a row that prove another form than the known one: more than a burst of FEC has."""

_STEP = 16
"""Most that sequence numbers of neighbours may be apart: a few were lost."""

_PLACES = 3
"""Sync bytes that a datagram needs to be certain alone."""

_SYNC = bytes((SYNC_BYTE,))


class Form(StrEnum):
    """What the datagrams are."""

    RTP = "rtp"
    """RTP that carries a transport stream."""
    TS = "ts"
    """A bare transport stream."""
    RTP_OTHER = "rtp_other"
    """RTP that carries something else: what a player needs an SDP file for."""
    OPAQUE = "opaque"

    @property
    def has_packets(self) -> bool:
        """Whether there are packets of a transport stream in it."""
        return self in (Form.RTP, Form.TS)


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


class _Look(NamedTuple):
    """What one datagram seems to be, and whether it is proof alone."""

    form: Form
    certain: bool
    packet: rtp.Packet | None = None


_NOTHING = _Look(Form.OPAQUE, certain=False)


class Recogniser:
    """Finds out the form of one sender's stream, and when it becomes another one."""

    def __init__(self) -> None:
        self.form = Form.OPAQUE
        self.payload_type = -1
        """Payload type of the RTP packets that are the stream; -1: it is not in RTP."""
        self._look = _NOTHING
        self.row = 0
        """Datagrams in a row that agree with the latest one."""
        self._number = 0

    def feed(self, datagram: bytes, number: int | None = None) -> Form:
        """Take a datagram; return the form as far as it is known.

        A caller that feeds only some of the datagrams numbers them all: those in between, which
        were of the known form, end a row of others.
        """
        before, self._number = self._number, self._number + 1 if number is None else number
        look = _look_at(datagram)
        goes_on = self._number == before + 1 and _goes_on(self._look, look)
        self._look, self.row = look, self.row + 1 if goes_on else 1
        if look.form is not Form.OPAQUE and self._is_convincing(look):
            self.form = look.form
            self.payload_type = look.packet.payload_type if look.packet else -1
        return self.form

    def _is_convincing(self, look: _Look) -> bool:
        """Tell whether this look settles the form, or replaces the known one."""
        if not self.form.has_packets:
            return look.certain or self.row >= CONFIRM
        return self.row >= CHANGE


def _look_at(datagram: bytes) -> _Look:
    packet = rtp.parse(datagram)
    if packet is not None:
        payload = bytes(packet.payload)
        if aligned(payload):
            named = packet.payload_type == rtp.MP2T
            return _Look(Form.RTP, named or len(payload) >= _PLACES * PACKET_SIZE, packet)
        if phase(payload) == 0:
            return _Look(Form.RTP, certain=False, packet=packet)
    if phase(datagram) is not None:
        return _Look(Form.TS, certain=True)
    if aligned(datagram):
        return _Look(Form.TS, certain=False)
    return _Look(Form.RTP_OTHER, certain=False, packet=packet) if packet else _NOTHING


def _goes_on(before: _Look, look: _Look) -> bool:
    """Tell whether one look continues the other: in RTP, the same stream and the next numbers."""
    if look.form is not before.form:
        return False
    if look.packet is None or before.packet is None:
        return look.packet is before.packet
    return (look.packet.ssrc, look.packet.payload_type) == (
        before.packet.ssrc,
        before.packet.payload_type,
    ) and 0 < (look.packet.sequence - before.packet.sequence) & 0xFFFF <= _STEP
