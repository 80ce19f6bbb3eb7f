"""Whole transport stream packets out of pieces that are cut anywhere. Pure.

Most senders put whole packets into a datagram. Some fill datagrams to the brim (ffmpeg without
`pkt_size`), and a packet goes on in the next one. What belongs together is known by the sync bytes:
the sync bytes of a piece must be at their places behind the rest of the last one. Other things come
in between (keepalives, text), and must neither be taken for a part of a packet nor end one.
"""

from relaylib.media.form import aligned, phase
from relaylib.media.mpegts import PACKET_SIZE, SYNC_BYTE

_SEARCHED = 5 * PACKET_SIZE
"""Bytes of short pieces that are searched for packets when their beginnings are unknown."""


class Alignment:
    """Keeps packets whole. `first` and `start` are positions in what `take` has returned: that of
    its first packet, and the one to which the others' offsets are added.
    """

    def __init__(self) -> None:
        self.foreign = 0
        """Pieces that are no part of the stream."""
        self.torn = 0
        """How often a packet could not be completed."""
        self.first = self.start = 0
        self._rest = b""  # the beginning of a packet, which came behind whole ones if `_is_certain`
        self._rest_at = 0
        self._is_certain = False
        self._doubtful = b""  # may follow `_rest`: that is known when more comes
        self._searched = b""  # pieces that do not follow

    @property
    def waits(self) -> bool:
        """Whether a packet has begun that is not complete."""
        return bool(self._rest)

    def begin_anew(self) -> None:
        """Accept any next piece: it need not follow."""
        self._rest = self._doubtful = self._searched = b""
        self._is_certain = False

    def take(self, data: bytes, position: int, usual: int = 0) -> bytes:
        """Take the next piece, whose first byte is at `position`; return the packets that are
        whole with it. Those without a sync byte are damaged.

        Pieces of whole packets have had the `usual` length.
        """
        self.first = self.start = position
        is_whole = len(self._rest) + len(self._doubtful) == PACKET_SIZE  # by the last piece
        if (aligned(data) and not is_whole) or (not self._rest and _has_packets(data, usual)):
            self.torn += self._is_certain
            self.begin_anew()
            return data
        for begun in dict.fromkeys((self._rest + self._doubtful, self._rest)):
            if _follows(begun, data):
                return self._join(begun, data, position)
        if self._rest and len(self._rest) + len(self._doubtful) + len(data) <= PACKET_SIZE:
            self._doubtful += data
            return b""
        return self._find_back(data, position)

    def _join(self, begun: bytes, data: bytes, position: int) -> bytes:
        """Return what is whole of what follows what has begun; keep the rest."""
        joined, self._doubtful, self._searched = begun + data, b"", b""
        whole = len(joined) - len(joined) % PACKET_SIZE
        self.start = position - len(begun)
        self.first = self._rest_at if begun else position
        self._rest, self._rest_at = joined[whole:], self.start + whole if whole else self.first
        self._is_certain = bool(self._rest) and (self._is_certain or whole > 0)
        return joined[:whole]

    def _find_back(self, data: bytes, position: int) -> bytes:
        """Take a piece that does not follow: something is missing before it, or it is foreign."""
        at = phase(data)
        if at is None and len(data) < _SEARCHED:
            self._searched = (self._searched + data)[-_SEARCHED:]
            position -= len(self._searched) - len(data)
            data = self._searched
            at = phase(data)
        if at is None:
            self.foreign += 1
            return b""
        self.torn += self._is_certain
        return self._join(b"", data[at:], position + at)


def _has_packets(data: bytes, usual: int) -> bool:
    """Tell whether these are whole packets, of which some have lost their sync byte.

    A piece of whole packets' length may begin inside one, too.
    """
    if len(data) % PACKET_SIZE or phase(data) is not None:
        return False
    return SYNC_BYTE in data[::PACKET_SIZE] or 0 < usual == len(data)


def _follows(begun: bytes, data: bytes) -> bool:
    """Tell whether a piece goes on where another one ended: most sync bytes are at their places."""
    places = data[-len(begun) % PACKET_SIZE :: PACKET_SIZE]
    return 2 * places.count(SYNC_BYTE) > len(places)
