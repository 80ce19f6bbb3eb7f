"""Packets laid end to end in a ring of memory, with their times of arrival.

A place is the number of bytes since the stream began, so whether it has been overwritten follows
from arithmetic alone. The size of the ring is a multiple of a packet's, so that no packet is cut
where the memory ends. The bytes between two places are one piece of memory, or two if they go round
its end.

The time of a byte is exact to `GRAIN`: the index has an entry for each moment, not for each
datagram.

       index   | time, place | time, place | ...           a ring of its own
       data    | packet | packet | packet | ...            `byte_count` bytes, a multiple of 188
"""

import bisect
import math
import struct
from dataclasses import dataclass

from relaylib.media.mpegts import PACKET_SIZE
from relaylib.net.descriptors import Descriptor
from relaylib.net.memory import PAGE, SharedMemory

GRAIN = 0.005
"""Seconds that share an entry of the index."""

_MOMENT = struct.Struct("<dQ")
"""A moment: its time, in seconds of the loop's clock, and the place of its first byte."""

_BYTES_A_MOMENT = 512
"""Bytes of data for each entry of the index. A stream of fewer bytes in each `GRAIN` fills the
index first, so that it is kept for a shorter time."""


@dataclass(slots=True)
class RingState:
    """What a reload hands over: the memory and its size, the places that it holds, and the numbers
    of its moments.
    """

    memory: Descriptor
    octets: int
    oldest: int
    end: int
    first: int
    following: int


class Ring:
    """The bytes from place `oldest` to place `end`: the last `seconds`, as far as there is room."""

    def __init__(self, seconds: float, byte_count: int, saved: RingState | None = None) -> None:
        """Begin an empty ring, or go on with one of the same size.

        Raises:
            OSError: there is no memory.
        """
        self.byte_count = byte_count - byte_count % PACKET_SIZE
        self.seconds = seconds
        self._moments = max(1, self.byte_count // _BYTES_A_MOMENT)
        self._data_at = -(-self._moments * _MOMENT.size // PAGE) * PAGE
        size = self._data_at + self.byte_count
        self._memory = SharedMemory(size, "relay-track", saved.memory if saved else None)
        self._view = self._memory.view
        self.oldest, self.end = (saved.oldest, saved.end) if saved else (0, 0)
        self._first, self._next = (saved.first, saved.following) if saved else (0, 0)
        self._moment = -math.inf  # the latest one

    def export(self) -> RingState | None:
        """Return what the next program needs to go on; None: the memory cannot be handed over."""
        if self._memory.file is None:
            return None
        return RingState(
            self._memory.file, self.byte_count, self.oldest, self.end, self._first, self._next
        )

    def close(self) -> None:
        """Release the memory."""
        self._memory.close()

    # --- writing

    def append(self, packets: bytes, time: float) -> None:
        """Add whole packets that came at a time; they must be smaller than the ring."""
        if time - self._moment >= GRAIN:
            self._begin_moment(time)
        at, length = self.end % self.byte_count, len(packets)
        if at + length <= self.byte_count:
            at += self._data_at
            self._view[at : at + length] = packets
        else:
            self._wrap(at, packets)
        self.end += length
        self.oldest = max(self.oldest, self.end - self.byte_count)

    def _wrap(self, at: int, packets: bytes) -> None:
        """Write packets that do not fit before the end of the memory: the rest at its beginning."""
        first = self.byte_count - at
        self._view[self._data_at + at : self._data_at + self.byte_count] = packets[:first]
        self._view[self._data_at : self._data_at + len(packets) - first] = packets[first:]

    def _begin_moment(self, time: float) -> None:
        if self._next - self._first == self._moments:
            self._drop_moment()
        self._moment = time
        slot = self._next % self._moments * _MOMENT.size
        _MOMENT.pack_into(self._view, slot, time, self.end)
        self._next += 1
        while self._next - self._first > 1 and (
            self._read(self._first + 1)[1] <= self.oldest
            or self._read(self._first)[0] < time - self.seconds
        ):
            self._drop_moment()

    def _drop_moment(self) -> None:
        """Forget the oldest moment, and its bytes."""
        self._first += 1
        if self._first < self._next:
            self.oldest = max(self.oldest, self._read(self._first)[1])

    # --- reading

    def pieces(self, begin: int, end: int) -> list[memoryview]:
        """Return the bytes between two places that are kept, until they are overwritten."""
        at, length = begin % self.byte_count, end - begin
        if length <= 0:
            return []
        first = min(length, self.byte_count - at)
        at += self._data_at
        found = [self._view[at : at + first]]
        if first < length:
            found.append(self._view[self._data_at : self._data_at + length - first])
        return found

    def time(self, place: int) -> float:
        """Return when the byte at a place came; at the end, the latest. The ring is not empty."""
        numbers = range(self._first, self._next)
        found = bisect.bisect_right(numbers, place, key=lambda number: self._read(number)[1])
        return self._read(max(self._first, self._first + found - 1))[0]

    def find(self, time: float) -> int:
        """Return the first place whose byte came at `time` or later; the end if there is none."""
        numbers = range(self._first, self._next)
        found = bisect.bisect_left(numbers, time, key=lambda number: self._read(number)[0])
        number = self._first + found
        return self.end if number == self._next else max(self.oldest, self._read(number)[1])

    def _read(self, number: int) -> tuple[float, int]:
        slot = number % self._moments * _MOMENT.size
        time, place = _MOMENT.unpack_from(self._view, slot)
        return time, place
