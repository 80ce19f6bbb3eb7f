"""Whether the way out has room for one more viewer. Pure: time comes in as `now`.

A link that is full spoils the picture of everyone behind it, so newcomers are declined instead. The
relay cannot see the link; it knows what it sends, which is the stream's rate times the outputs that
are sent to, as the network counts it, headers included. What goes out by HTTP is not in it.

Nobody who is being sent the stream is cut off, not even if its rate rises: that is in the hands of
whoever runs the encoder. Nobody is declined before the rate is known. While the stream is silent
the rate stays what it was, since its viewers will want it again.

Rejected: keeping room for who has paused. A place held for nothing is a place that somebody else
does not get; so CONTINUAR asks again, as CONECTAR does.
"""

from relaylib.errors import DeclinedError

SAMPLE_PERIOD = 1.0
"""Seconds between two calls of `measure`: many frames of any encoder."""

_WEIGHT = 1 / 8
"""Of the newest sample in the average, which so covers some eight seconds: a still scene is over
before it lets too many in."""

_HEADERS = 42
"""Bytes of Ethernet, IPv4 and UDP (RFC 894, 791, 768) around a datagram."""


class Egress:
    """Knows the stream's rate, and admits outputs while all together stay below `limit` bits/s."""

    def __init__(self, limit: float | None) -> None:
        self.rate = 0.0
        self._limit = limit
        self._last = (0.0, 0, 0)
        self._flowing = False

    def measure(self, now: float, datagrams: int, octets: int) -> None:
        """Take another sample of how much of the stream there has been in all.

        A period in which the stream began says nothing: it may have been its last moment.
        """
        then, datagrams_then, octets_then = self._last
        self._last = now, datagrams, octets
        flowed, self._flowing = self._flowing, datagrams > datagrams_then
        if flowed and self._flowing and now > then:
            size = octets - octets_then + (datagrams - datagrams_then) * _HEADERS
            sample = 8 * size / (now - then)
            self.rate += (sample - self.rate) * (_WEIGHT if self.rate else 1)

    def admit(self, outputs: int) -> None:
        """Make sure that there is room for one more, when so many are sent to.

        Raises:
            DeclinedError: there is none.
        """
        if self._limit is not None and (outputs + 1) * self.rate > self._limit:
            used, limit = (f"{bits / 1e6:.1f}" for bits in (outputs * self.rate, self._limit))
            one = f"{self.rate / 1e6:.1f}"
            message = f"salida llena: se envian {used} de {limit} Mb/s y hacen falta {one} mas"
            raise DeclinedError(message, "egress", f"{outputs} outputs of {one} Mb/s")
