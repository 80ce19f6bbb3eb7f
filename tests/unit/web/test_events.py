"""Server-sent events without a socket: made once for all, in order, and not for who is too slow."""

from typing import Any, cast

import pytest

from relaylib.web.events import KEPT, PERIOD, Events, EventStream
from relaylib.web.reply import StreamEndError
from relaylib.web.request import HttpRequest
from relaylib.web.series import Series
from relaylib.web.status import StatusResource
from relaylib.web.stream_state import StreamState


class FakeStatus:
    """Counts how often it was made."""

    def __init__(self) -> None:
        self.made = 0

    def build(self, since: int = 0) -> dict[str, Any]:
        """Make another one."""
        self.made += 1
        return {"made": self.made, "since": since}

    def encoded(self, _now: float) -> bytes:
        """Return the whole."""
        return b'{"whole":1}'


class FakeSeries:
    """Has come so far."""

    end = 7


@pytest.fixture
def status() -> FakeStatus:
    """What is told."""
    return FakeStatus()


@pytest.fixture
def events(status: FakeStatus) -> Events:
    """The resource."""
    return Events(cast(StatusResource, status), cast(Series, FakeSeries()))


def reader(events: Events, now: float) -> EventStream:
    """Begin to read."""
    stream = events.respond(HttpRequest("/events", {}, {}, "192.0.2.1"), now).body
    assert isinstance(stream, EventStream)
    return stream


def read(stream: EventStream, until: float, a_write: int = 1000) -> bytes:
    """Read what there is, in writes that may end anywhere."""
    got = b""
    while pieces := stream.look(until, 1 << 16):
        taken = bytes(pieces[0][:a_write])
        stream.taken(len(taken))
        got += taken
    return got


def event(number: int) -> bytes:
    """What the event is."""
    return b'event: status\ndata: {"made":%d,"since":7}\n\n' % number


@pytest.mark.parametrize("a_write", [1, 7, 1000])
def test_all_get_the_same(events: Events, status: FakeStatus, a_write: int) -> None:
    """First comes all of it, then one event a period, made once however many read it."""
    readers = [reader(events, 0.0) for _ in range(3)]
    for each in readers:
        got = read(each, 0.0, a_write)
        assert got == b'retry: 1000\n\nevent: status\ndata: {"whole":1}\n\n' + event(1)
    for number in range(2, 12):
        for each in readers:
            assert read(each, (number - 1) * PERIOD, a_write) == event(number)
            assert read(each, (number - 0.5) * PERIOD, a_write) == b""
    assert status.made == 11


def test_who_is_too_slow_is_cut_off(events: Events) -> None:
    """A reader may be as late as events are kept, in the middle of one, too; then it ends."""
    quick, slow, stuck = (reader(events, 0.0) for _ in range(3))
    for each in (quick, slow, stuck):
        read(each, 0.0)
    for number in range(1, KEPT + 1):
        read(quick, number * PERIOD)
    late = KEPT * PERIOD
    assert read(slow, late) == b"".join(event(number) for number in range(2, KEPT + 2))
    stuck.look(late, 1000)
    stuck.taken(5)
    read(quick, late + PERIOD)
    with pytest.raises(StreamEndError, match="too_slow"):
        stuck.look(late + PERIOD, 1000)


def test_a_reader_travels(events: Events, status: FakeStatus) -> None:
    """The next program goes on with what was begun: no event is cut in two."""
    stream = reader(events, 0.0)
    read(stream, 0.0)
    stream.look(PERIOD, 1000)
    stream.taken(5)
    saved = stream.export()
    assert saved == StreamState(0, event(2)[5:])
    following = Events(cast(StatusResource, status), cast(Series, FakeSeries())).restore(saved)
    assert read(following, 100.0) == event(2)[5:] + event(3)
