"""How many viewers the way out has room for, with a stream and a clock made of numbers."""

import pytest

from relaylib.errors import DeclinedError
from relaylib.viewers.egress import Egress

SIZE = 1250 - 42
"""Bytes of a datagram that takes 10,000 bits on the wire."""


class Stream:
    """A stream that an `Egress` measures once a second."""

    def __init__(self, limit: float | None) -> None:
        self.watching = 0
        self.egress = Egress(limit, lambda: self.watching)
        self._now, self._datagrams = 1000.0, 77

    def flow(self, datagrams: int, seconds: int = 1) -> float:
        """Let so many datagrams come in each of so many seconds; return the rate in Mb/s."""
        for _ in range(seconds):
            self._now += 1.0
            self._datagrams += datagrams
            self.egress.measure(self._now, self._datagrams, self._datagrams * SIZE)
        return self.egress.rate / 1e6


def admitted(stream: Stream) -> int:
    """How many viewers are admitted, one after another."""
    for stream.watching in range(100):
        try:
            stream.egress.admit()
        except DeclinedError:
            return stream.watching
    return 100


def test_as_many_as_there_is_room_for() -> None:
    """Viewers are admitted while their streams, headers included, stay within the limit."""
    stream = Stream(50e6)
    assert stream.flow(500, seconds=3) == pytest.approx(5.0)
    assert admitted(stream) == 10
    with pytest.raises(DeclinedError) as declined:
        stream.egress.admit()
    message = "salida llena: se envian 50.0 de 50.0 Mb/s y hacen falta 5.0 mas"
    assert (str(declined.value), declined.value.kind) == (message, "egress")


def test_nobody_is_declined_without_a_limit_or_before_the_rate_is_known() -> None:
    """A stream that has just begun, perhaps in the last moment of a period, has no rate yet."""
    assert admitted(Stream(1e3)) == 100
    stream = Stream(1e3)
    assert stream.flow(0, seconds=5) == stream.flow(1) == 0.0
    assert admitted(stream) == 100
    stream.flow(500)
    assert admitted(stream) == 0
    unlimited = Stream(None)
    unlimited.flow(500, seconds=5)
    assert admitted(unlimited) == 100


def test_the_rate_follows_the_stream_but_not_into_silence() -> None:
    """Another rate is the new one after a while; a silent stream will be wanted as it was."""
    stream = Stream(50e6)
    stream.flow(500, seconds=9)
    assert 5.0 < stream.flow(1000) < 6.0
    assert stream.flow(1000, seconds=40) == pytest.approx(10.0, rel=0.02)
    before = stream.egress.rate
    stream.flow(0, seconds=600)
    assert stream.flow(1) * 1e6 == before, "the last moment of a second is no rate"
    assert stream.flow(100, seconds=60) == pytest.approx(1.0, rel=0.02)


def test_a_late_measure_is_no_other_rate() -> None:
    """What counts is the time that has passed, not the time that should have."""
    egress = Egress(1e9, lambda: 0)
    for now, datagrams in ((0.0, 0), (1.0, 100), (2.0, 200), (4.5, 450), (4.5, 460)):
        egress.measure(now, datagrams, datagrams * SIZE)
    assert egress.rate == pytest.approx(1e6)
