"""What a viewer by HTTP gets, without a socket: where it begins, and what if it is slow."""

from collections.abc import Iterator
from itertools import pairwise

import pytest

from relaylib.errors import HttpError
from relaylib.media.form import Form
from relaylib.track.track import Track
from relaylib.web.live import STALE, Live, LiveStream
from relaylib.web.request import HttpRequest
from relaylib.web.stream_state import StreamState
from tests.unit.track.tracks import TABLES, entry, fill, new_track
from tools.lab.web import PACKET, PACKETS, numbers


@pytest.fixture
def track() -> Iterator[Track]:
    """A track with room for about 190 datagrams."""
    with new_track(1 << 18) as track:
        yield track


def open_stream(track: Track, now: float, back: str = "0") -> LiveStream:
    """Ask for `/live.ts`."""
    response = Live(track, list).respond(
        HttpRequest("/live.ts", {"back": back}, {}, "192.0.2.1"), now
    )
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


@pytest.mark.parametrize("form", [Form.TS, Form.RTP])
def test_it_begins_at_the_latest_point(track: Track, form: Form) -> None:
    """First come the tables, then the packet where decoding can start, and all that follows."""
    fill(track, 0, 50)
    track.form = form
    for number in (10, 40):
        track.mark(entry(number, packets=3))
    got = read(open_stream(track, 49.0))
    assert got.startswith(TABLES)
    assert list(numbers(got[PACKET:])) == list(range(40 * PACKETS + 3, 50 * PACKETS))


def test_it_may_begin_in_the_past(track: Track) -> None:
    """`?back=` chooses the point before that time; as far as there is none, the oldest."""
    fill(track, 0, 50)
    for number in (10, 20, 40):
        track.mark(entry(number, tables=b""))
    for back, first in (("12", 20), ("29", 20), ("30", 10), ("1e6", 10)):
        assert next(numbers(read(open_stream(track, 49.0, back)))) == first * PACKETS


def test_without_points_it_begins_with_what_comes(track: Track) -> None:
    """Where nobody knows of points, live is what comes next, and the past is that time."""
    fill(track, 0, 50)
    live, past = open_stream(track, 49.0), open_stream(track, 49.0, "9")
    fill(track, 50, 60)
    assert next(numbers(read(live))) == 50 * PACKETS
    assert next(numbers(read(past))) == 40 * PACKETS


def test_who_is_overtaken_goes_on_at_the_newest_point(track: Track) -> None:
    """The packet that was begun is filled up, so that the next ones are where they must be."""
    fill(track, 0, 50)
    stream = open_stream(track, 49.0, "49")
    begun = b"".join(stream.look(1e9, 4000))[:1000]
    stream.taken(len(begun))
    fill(track, 50, 400)
    track.mark(entry(390))
    rest = read(stream)
    filling = -1000 % PACKET
    assert stream.skipped == 1
    assert rest[:filling] == b"\xff" * filling
    assert rest[filling:].startswith(TABLES)
    assert next(numbers(rest[filling + PACKET :])) == 390 * PACKETS


def test_who_is_overtaken_in_the_tables_has_them_filled_up(track: Track) -> None:
    """What was begun of them is one packet, and then they come anew."""
    fill(track, 0, 50)
    track.mark(entry(40))
    stream = open_stream(track, 49.0)
    stream.look(1e9, 4000)
    stream.taken(100)
    fill(track, 50, 400)
    track.mark(entry(390))
    rest = read(stream)
    assert rest.startswith(b"\xff" * (PACKET - 100) + TABLES)
    assert next(numbers(rest[2 * PACKET - 100 :])) == 390 * PACKETS


@pytest.mark.parametrize("writes", [1000, 1316, 100_000])
def test_it_travels(track: Track, writes: int) -> None:
    """Exported and restored after any write, it goes on with the next byte."""
    live = Live(track, list)
    fill(track, 0, 50)
    track.mark(entry(10))
    stream, got = open_stream(track, 49.0), b""
    while pieces := stream.look(1e9, 1 << 20):
        taken = b"".join(pieces)[:writes]
        stream.taken(len(taken))
        got += taken
        state = stream.export()
        stream = live.restore(StreamState(state.at, state.first, state.skipped))
    assert got[:PACKET] == TABLES
    assert all(after - before == 1 for before, after in pairwise(numbers(got[PACKET:])))
    assert len(got) == PACKET + 40 * PACKETS * PACKET


def test_a_track_that_has_begun_anew(track: Track) -> None:
    """Where a reload could not hand the track over, a stream goes on with the new one."""
    fill(track, 0, 5)
    live = Live(track, list)
    stream = live.restore(StreamState(900 * PACKETS * PACKET))
    assert stream.look(5.0, 1) == []
    fill(track, 5, 9)
    assert list(numbers(read(stream))) == list(range(5 * PACKETS, 9 * PACKETS))
    assert stream.skipped == 1


def test_a_track_that_has_begun_anew_may_soon_be_as_long(track: Track) -> None:
    """What is then at the place where a viewer was, in the middle of a packet, does not follow."""
    stream = Live(track, list).restore(StreamState(3 * PACKETS * PACKET + 100))
    fill(track, 0, 5)
    rest = read(stream)
    assert rest.startswith(b"\xff" * (PACKET - 100) + b"G")
    assert next(numbers(rest[PACKET - 100 :])) == 0
    assert stream.skipped == 1


@pytest.mark.parametrize("back", ["", "-1", "x", "nan", "inf", "1e999"])
def test_back_is_a_number_of_seconds(track: Track, back: str) -> None:
    """Anything else is 400."""
    fill(track, 0, 5)
    with pytest.raises(HttpError) as wrong:
        open_stream(track, 5.0, back)
    assert wrong.value.status == 400


def refusal(track: Track | None, now: float) -> str:
    """Return the sentence in which a request is refused, for now."""
    with pytest.raises(HttpError, match=r"\w+ \w+") as wrong:
        Live(track, list).respond(HttpRequest("/live.ts", {}, {}, "192.0.2.1"), now)
    assert wrong.value.status == 503
    return str(wrong.value)


def test_without_a_stream_there_is_none(track: Track) -> None:
    """No track, no source, a stale one, an opaque one and RTP with anything else are 503.

    A sentence says which it is.
    """
    refused = {refusal(None, 0.0), refusal(track, 0.0)}
    fill(track, 0, 5)
    assert refusal(track, 4.1 + STALE) in refused
    track.form = Form.OPAQUE
    refused.add(refusal(track, 4.0))
    track.form, track.payload_type = Form.RTP_OTHER, 96
    assert "96" in refusal(track, 4.0)
    assert len(refused) == 3
