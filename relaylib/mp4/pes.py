"""PES packets put together from the packets of one PID (ISO/IEC 13818-1, 2.4.3.6).

`Assembler.expected` is the header that the next packet usually has. The code that walks the stream
compares: if it is equal, it appends the payload to `parts`; all else goes to `look`.
"""

from typing import NamedTuple

from relaylib.media import mpegts

# The header of a packet as one number (2.4.3.2).
_ERROR, _START, _SCRAMBLED, _FIELD, _PAYLOAD = 0x800000, 0x400000, 0xC0, 0x20, 0x10
_SAME = 0xFF3FFF00
"""The bits that a packet has in common with the next one of its PID."""
_NO_SYNC = 0x00FFFFFF
"""No header is equal without its sync byte: of a PID that expects that, `look` sees all."""

_UNKNOWN = -1
_DISCONTINUITY = 0x80

MAX_PARTS = 1 << 15
"""Packets of a unit, 6 MB: more than a picture at the highest levels. The rest of such is lost."""

MAX_PARTS_BY_LENGTH = 1 << 10
"""The same limit for packets that state their length, 64 KiB at most: 357 full packets."""


class Unit(NamedTuple):
    """A PES packet's payload; with that of following packets without times, which belong to it."""

    data: bytes
    pts: int
    dts: int
    whole: bool
    """False: this is what came before a packet was lost."""
    following: int | None
    """The DTS of the next one, where that has begun."""


class Assembler:
    """The packets of one PID.

    With `by_length` a unit is there as soon as its last byte is, if its header says where that is;
    without, when the next one begins, whose time it then knows.
    """

    __slots__ = (
        "_by_length",
        "_bytes",
        "_counted",
        "_dts",
        "_last",
        "_open",
        "_pts",
        "_size",
        "expected",
        "losses",
        "parts",
    )

    def __init__(self, by_length: bool) -> None:
        self.expected = _UNKNOWN
        self.parts = list[bytes]()
        self.losses = 0
        """How often something was missing."""
        self._by_length = by_length
        self._open = False
        self._pts = self._dts = self._size = 0
        self._counted = self._bytes = 0  # parts that have been counted, and their bytes
        self._last = b""  # payload of the last packet that was no expected one

    def look(self, header: int, content: bytes) -> Unit | None:
        """Take a packet: its first 4 bytes, and the rest. Return the unit that ends with it."""
        if header >> 24 != mpegts.SYNC_BYTE or header & (_ERROR | _SCRAMBLED):
            self.expected = _UNKNOWN
            self.losses += 1
            return self._close(whole=False)
        if not header & _PAYLOAD:
            return None
        at = 1 + content[0] if header & _FIELD else 0
        payload, done = content[at:], None
        if self.expected != _UNKNOWN and (self.expected ^ header) & 15:
            if (self.expected - header) & 15 == 1 and payload in (self._last, *self.parts[-1:]):
                return None  # 2.4.3.3: a packet may come twice
            if not (at > 1 and content[1] & _DISCONTINUITY):
                self.losses += 1
                done = self._close(whole=False)
        self._last = payload
        self.expected = header & _SAME | _PAYLOAD | header + 1 & 15
        if header & _START:
            begun = self._begin(payload)
            done = done or begun
        elif self._open:
            self.parts.append(payload)
            done = self._end()
        if not self._open:
            self.expected &= _NO_SYNC
        return done

    def finish(self) -> Unit | None:
        """There are no more packets: return what there is."""
        return self._close(whole=True)

    def drop_if_endless(self) -> None:
        """Forget a unit that no stream can have."""
        if len(self.parts) > (MAX_PARTS_BY_LENGTH if self._by_length else MAX_PARTS):
            self.losses += 1
            self._close(whole=False)
            self.expected &= _NO_SYNC

    def _begin(self, payload: bytes) -> Unit | None:
        behind = 9 + payload[8] if len(payload) >= 9 else len(payload) + 1
        if payload[:3] != b"\0\0\1" or payload[3] in mpegts.BARE_STREAMS or behind > len(payload):
            return self._close(whole=False)
        times = payload[7] >> 6 if behind >= 14 else 0
        if times < 2:  # none: these bytes belong to the unit before (or to none)
            if self._open:
                self.parts.append(payload[behind:])
                self._size = 0
            return None
        pts = mpegts.stamp(payload, 9)
        dts = mpegts.stamp(payload, 14) if times == 3 and behind >= 19 else pts
        done = self._close(whole=True, following=dts)
        size = int.from_bytes(payload[4:6], "big")
        self._open, self._pts, self._dts = True, pts, dts
        self._size = 6 + size - behind if size else 0
        self.parts.append(payload[behind:])
        if done is None:
            return self._end()
        return done

    def _end(self) -> Unit | None:
        if not (self._by_length and self._size):
            return None
        self._bytes += sum(map(len, self.parts[self._counted :]))
        self._counted = len(self.parts)
        return self._close(whole=True) if self._bytes >= self._size else None

    def _close(self, *, whole: bool, following: int | None = None) -> Unit | None:
        parts, self.parts = self.parts, []
        self._counted = self._bytes = 0
        if not self._open:
            return None
        self._open = False
        data = b"".join(parts)
        whole = whole and len(data) >= self._size
        return Unit(data, self._pts, self._dts, whole, following)
