"""Datagrams laid end to end in one buffer, and the runs that they form. Pure.

A run is what `UDP_SEGMENT` can send with one system call: datagrams of one size, of which the last
may be shorter. The receiver writes straight to where the next datagram belongs, so that a whole run
is one slice of memory and never copied; and because a view of that memory is kept for every place
where a datagram has ever begun, a steady stream allocates nothing for each datagram.

Rejected: an object for each datagram, as `recv` returns it. To send a run, they would have to be
joined, which is a copy, or gathered by `sendmsg`, which looks at each of them for every output.
"""

MAX_DATAGRAMS = 64
"""Most segments the kernel makes of one send (UDP_MAX_SEGMENTS in older kernels, udp(7))."""

MAX_BYTES = 65507
"""Most bytes of one send: an IPv4 packet's 65,535 less the headers (RFC 791, RFC 768)."""

_LARGEST = 65535
"""Bytes of the largest datagram: with this much room none is ever truncated."""

_KEPT_VIEWS = 1024
"""Most places whose views are kept. A TS stream uses fewer than 350: all are multiples of 188."""


class Run:
    """`count` datagrams of `size` bytes in `view`; the last one may be shorter."""

    __slots__ = ("_datagrams", "count", "size", "view")

    def __init__(self, view: memoryview, size: int, count: int) -> None:
        self.view = view
        self.size = size
        self.count = count
        self._datagrams: list[memoryview] = []

    def datagrams(self) -> list[memoryview]:
        """Return the run cut into its datagrams. The list is shared: do not change it."""
        if not self._datagrams:
            starts = range(0, len(self.view), self.size)
            self._datagrams = [self.view[start : start + self.size] for start in starts]
        return self._datagrams


class Batch:
    """The datagrams of one read of the ingest: at most `MAX_DATAGRAMS`, about `MAX_BYTES`."""

    __slots__ = ("_buffer", "_count", "_end", "_open", "_size", "_start", "_views", "count", "runs")

    def __init__(self) -> None:
        self._buffer = memoryview(bytearray(MAX_BYTES + _LARGEST))
        self._views: dict[int, memoryview] = {}
        self.clear()

    def clear(self) -> None:
        """Forget the datagrams; views and runs handed out before are overwritten next."""
        self.runs: list[Run] = []
        self.count = 0
        self._start = self._end = 0  # of the run that is being made
        self._size = self._count = 0
        self._open = False

    def room(self) -> memoryview:
        """Return the memory for the next datagram, with room for one of any size."""
        view = self._views.get(self._end)
        if view is None:
            if len(self._views) >= _KEPT_VIEWS:
                self._views.clear()
            view = self._views[self._end] = self._buffer[self._end :][:_LARGEST]
        return view

    def add(self, size: int) -> bool:
        """Take note of a datagram of `size` bytes in `room()`; return whether more may follow.

        An empty datagram carries nothing to forward and is not taken.
        """
        if not size:
            return True
        if not self._open or size > self._size:
            self._finish_run()
            self._size = size
        self._open = size == self._size
        self._end += size
        self._count += 1
        self.count += 1
        return self.count < MAX_DATAGRAMS and self._end + self._size <= MAX_BYTES

    def _finish_run(self) -> None:
        if self._count:
            self.runs.append(Run(self._buffer[self._start : self._end], self._size, self._count))
        self._start = self._end
        self._count = 0

    def finish(self) -> list[Run]:
        """Close the last run and return them all, in order of arrival."""
        self._finish_run()
        self._open = False
        return self.runs
