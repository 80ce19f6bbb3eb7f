"""What a viewer by HTTP gets, without a socket: where it begins, and what if it is slow."""

from itertools import pairwise

import pytest

from relaylib.errors import HttpError
from relaylib.media.form import Form
from relaylib.stream.batch import Batch
from relaylib.stream.history import AccessPoint, History
from relaylib.web.live import STALE, Live, LiveStream
from relaylib.web.request import Request
from relaylib.web.stream_state import StreamState
from tools.lab.web import PACKET, PACKETS, datagram, numbers

TABLES = b"\x47\x00\x00\x10" + bytes(184)


def fill(history: History, first: int, last: int, *, in_rtp: bool = False) -> None:
    """Append these datagrams, one a second."""
    for number in range(first, last):
        batch = Batch()
        data = datagram(number, in_rtp=in_rtp)
        batch.room()[: len(data)] = data
        batch.add(len(data))
        history.append(batch.finish(), float(number))


@pytest.fixture
def history() -> History:
    """A history with room for about 190 datagrams."""
    return History(1000.0, 1 << 18)


def open_stream(history: History, now: float, back: str = "0", form: Form = Form.TS) -> LiveStream:
    """Ask for `/live.ts`."""
    live = Live(history, lambda: form)
    response = live.respond(Request("/live.ts", {"back": back}, {}, "192.0.2.1"), now)
    assert isinstance(response.body, LiveStream)
    return response.body


def read(stream: LiveStream, a_write: int = 5000, most: int = 1 << 20) -> bytes:
    """Read what there is, in writes that end anywhere."""
    got = b""
    while pieces := stream.look(1e9, most):
        taken = b"".join(pieces)[:a_write]
        stream.taken(len(taken))
        got += taken
    return got


@pytest.mark.parametrize("in_rtp", [False, True])
def test_it_begins_at_the_latest_point(history: History, in_rtp: bool) -> None:
    """First come the tables, then the packet where decoding can start, and all that follows."""
    fill(history, 0, 50, in_rtp=in_rtp)
    header = 12 if in_rtp else 0
    for number in (10, 40):
        history.mark(AccessPoint(number, 0, header + 3 * PACKET, TABLES, float(number)))
    got = read(open_stream(history, 49.0, form=Form.RTP if in_rtp else Form.TS))
    assert got.startswith(TABLES)
    assert list(numbers(got[PACKET:])) == list(range(40 * PACKETS + 3, 50 * PACKETS))


def test_it_may_begin_in_the_past(history: History) -> None:
    """`?back=` chooses the point before that time; as far as there is none, the oldest."""
    fill(history, 0, 50)
    for number in (10, 20, 40):
        history.mark(AccessPoint(number, 0, 0, b"", float(number)))
    for back, first in (("12", 20), ("29", 20), ("30", 10), ("1e6", 10)):
        assert next(numbers(read(open_stream(history, 49.0, back)))) == first * PACKETS


def test_without_points_it_begins_with_what_comes(history: History) -> None:
    """Where nobody knows of points, live is what comes next, and the past is that time."""
    fill(history, 0, 50)
    live, past = open_stream(history, 49.0), open_stream(history, 49.0, "9")
    fill(history, 50, 60)
    assert next(numbers(read(live))) == 50 * PACKETS
    assert next(numbers(read(past))) == 40 * PACKETS


def test_who_is_overtaken_goes_on_at_the_newest_point(history: History) -> None:
    """The packet that was begun is filled up, so that the next ones are where they must be."""
    fill(history, 0, 50)
    stream = open_stream(history, 49.0, "49")
    begun = b"".join(stream.look(1e9, 4000))[:1000]
    stream.taken(len(begun))
    fill(history, 50, 400)
    history.mark(AccessPoint(390, 0, 0, TABLES, 390.0))
    rest = read(stream)
    filling = -1000 % PACKET
    assert stream.skipped == 1
    assert rest[:filling] == b"\xff" * filling
    assert rest[filling:].startswith(TABLES)
    assert next(numbers(rest[filling + PACKET :])) == 390 * PACKETS


@pytest.mark.parametrize("writes", [1000, 1316, 100_000])
def test_it_travels(history: History, writes: int) -> None:
    """Exported and restored after any write, it goes on with the next octet."""
    live = Live(history, lambda: Form.TS)
    fill(history, 0, 50)
    history.mark(AccessPoint(10, 0, 0, TABLES, 10.0))
    stream, got = open_stream(history, 49.0), b""
    while pieces := stream.look(1e9, 1 << 20):
        taken = b"".join(pieces)[:writes]
        stream.taken(len(taken))
        got += taken
        state = stream.export()
        stream = live.restore(StreamState(list(state.place), state.first, state.skipped))
    assert got[:PACKET] == TABLES
    assert all(after - before == 1 for before, after in pairwise(numbers(got[PACKET:])))
    assert len(got) == PACKET + 40 * PACKETS * PACKET


def test_a_history_that_has_begun_anew(history: History) -> None:
    """Where a restart could not hand the history over, a stream goes on with the new one."""
    fill(history, 0, 5)
    live = Live(history, lambda: Form.TS)
    stream = live.restore(StreamState([900, 0, 0]))
    assert stream.look(5.0, 1) == []
    fill(history, 5, 9)
    assert list(numbers(read(stream))) == list(range(5 * PACKETS, 9 * PACKETS))
    assert stream.skipped == 1


@pytest.mark.parametrize("back", ["", "-1", "x", "nan", "inf", "1e999"])
def test_back_is_a_number_of_seconds(history: History, back: str) -> None:
    """Anything else is 400."""
    fill(history, 0, 5)
    with pytest.raises(HttpError) as wrong:
        open_stream(history, 5.0, back)
    assert wrong.value.status == 400


def test_without_a_stream_there_is_none(history: History) -> None:
    """No history, no source, a stale one and an opaque one are 503, in a sentence."""
    request = Request("/live.ts", {}, {}, "192.0.2.1")
    live, opaque = Live(history, lambda: Form.TS), Live(history, lambda: Form.OPAQUE)
    for resource, now in ((Live(None, lambda: Form.TS), 0.0), (live, 0.0)):
        with pytest.raises(HttpError, match=r"\w+ \w+") as wrong:
            resource.respond(request, now)
        assert wrong.value.status == 503
    fill(history, 0, 5)
    for resource, now in ((live, 4.1 + STALE), (opaque, 4.0)):
        with pytest.raises(HttpError, match=r"\w+ \w+") as wrong:
            resource.respond(request, now)
        assert wrong.value.status == 503
