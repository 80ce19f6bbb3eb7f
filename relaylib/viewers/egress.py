"""Whether the way out has room for one more viewer. Pure: time comes in as `now`.

A full link spoils the picture of everyone behind it, so newcomers are declined instead. The relay
cannot see the link; it knows what it sends: the stream's rate times the outputs and the streams by
HTTP, as the network counts it, headers included. Segments of HLS are not counted: their client may
be a cache for thousands, and declining it would stop viewers that have begun to watch.

No viewer that is being sent the stream is cut off, even if its rate rises: the rate is in the
hands of the encoder's operator. No viewer is declined before the rate is known. While the stream
is silent the rate stays what it was, since its viewers will want it again.

Rejected: keeping room for paused viewers. A place held for nothing is a place that another viewer
does not get; so CONTINUAR asks again, as CONECTAR does.
"""

from collections.abc import Callable

from relaylib.errors import DeclinedError

SAMPLE_PERIOD = 1.0
"""Seconds between two calls of `measure`: many frames of any encoder."""

_WEIGHT = 1 / 8
"""Weight of the newest sample in the average, which so covers some eight seconds: a still scene
ends before it lets too many in."""

_HEADERS = 42
"""Bytes of Ethernet, IPv4 and UDP (RFC 894, 791, 768) around a datagram; TCP takes about as many
for the same payload."""


class Egress:
    """Knows the stream's rate, and admits viewers while all together stay below `limit` bits/s.

    `streams` returns how many times the stream is sent, in every way.
    """

    def __init__(self, limit: float | None, streams: Callable[[], int]) -> None:
        self.rate = 0.0
        self._streams = streams
        self._limit = limit
        self._last = (0.0, 0, 0)
        self._flowing = False

    def measure(self, now: float, datagrams: int, byte_count: int) -> None:
        """Take a sample: the datagrams and bytes of the stream since the start.

        A period in which the stream began says nothing: it may have been its last moment.
        """
        then, datagrams_then, bytes_then = self._last
        self._last = now, datagrams, byte_count
        flowed, self._flowing = self._flowing, datagrams > datagrams_then
        if flowed and self._flowing and now > then:
            size = byte_count - bytes_then + (datagrams - datagrams_then) * _HEADERS
            sample = 8 * size / (now - then)
            self.rate += (sample - self.rate) * (_WEIGHT if self.rate else 1)

    def admit(self) -> None:
        """Make sure that there is room for one more.

        Raises:
            DeclinedError: there is none.
        """
        if self._limit is None:
            return
        streams = self._streams()
        if (streams + 1) * self.rate > self._limit:
            used, limit = (f"{bits / 1e6:.1f}" for bits in (streams * self.rate, self._limit))
            one = f"{self.rate / 1e6:.1f}"
            message = f"salida llena: se envian {used} de {limit} Mb/s y hacen falta {one} mas"
            raise DeclinedError(message, "egress", f"{streams} streams of {one} Mb/s")
