"""HLS out of a track, without a socket: a URI names the same bytes for as long as it does."""

import contextlib
import json
from collections.abc import Iterator
from itertools import pairwise

import pytest

from relaylib.errors import HttpError
from relaylib.lifecycle import codec
from relaylib.net.loop import Loop
from relaylib.track.track import Entry, Track
from relaylib.web.hls import AT_ONCE, Body, Hls
from relaylib.web.playlist import Playlist
from relaylib.web.reply import Response, StreamEndError
from relaylib.web.request import HttpRequest
from tests.unit.track.tracks import SIZE, TABLES, new_track
from tools.lab.inprocess import running_loop
from tools.lab.web import PACKET, PACKETS, datagram, numbers

RATE = 10
"""Datagrams a second."""

SECONDS = 20.0
BYTES = 1 << 18


class Stage:
    """A relay's track that fills, with an entry point a second, and its HLS."""

    def __init__(self, loop: Loop, track: Track) -> None:
        self.track = track
        self.refreshed = 0
        self.sent, self._loop = 0, loop
        self.hls = self.open(None)

    def open(self, saved: Playlist | None, track: Track | None = None) -> Hls:
        """Make the resource, as a new program does."""
        return Hls(self._loop, track or self.track, self._refresh, saved)

    def _refresh(self) -> None:
        self.refreshed += 1

    def reload(self) -> None:
        """Let the resource go through a reload."""
        self.hls = self.open(codec.read(Playlist, json.loads(codec.encode(self.hls.export()))))

    def send(self, seconds: int) -> None:
        """Let the source go on."""
        for _ in range(seconds * RATE):
            if self.sent % RATE == 3:
                at = self.track.end + 2 * PACKET
                self.track.mark(Entry(at, self.now, None, TABLES, 0))
            self.track.append(datagram(self.sent, in_rtp=False), self.now)
            self.track.heard = self.now
            self.sent += 1

    def look(self) -> None:
        """Let the resource look at the track, as it does twice a second."""
        self.hls._cut(self.track)

    def cut(self) -> None:
        """What comes next need not go on where the stream ended."""
        self.track.cut(self.track.heard)

    @property
    def now(self) -> float:
        return self.sent / RATE

    def get(self, path: str) -> Response:
        return self.hls.respond(HttpRequest(f"/{path}", {}, {}, "192.0.2.1"), self.now)

    def status(self, path: str) -> int:
        """Return the status of what is an error."""
        with pytest.raises(HttpError, match=r"\w+ \w+") as wrong:
            self.get(path)
        return wrong.value.status

    def is_there(self, path: str) -> bool:
        """Tell whether there is such a segment."""
        try:
            return self.get(path).status == 200
        except HttpError as wrong:
            if wrong.status == 404:
                return False
            raise

    def listed(self) -> list[str]:
        """Return what the playlist lists."""
        body = self.get("live.m3u8").body
        assert isinstance(body, bytes)
        return [line for line in body.decode().splitlines() if not line.startswith("#")]

    def body(self, path: str) -> Body:
        body = self.get(path).body
        assert isinstance(body, Body)
        return body

    def fetch(self, path: str, most: int = 3000) -> bytes:
        """Fetch a segment, in writes of which only a part is taken."""
        response, got = self.get(path), b""
        assert isinstance(response.body, Body)
        while pieces := response.body.look(self.now, most):
            taken = b"".join(pieces)[: most - 500]
            response.body.taken(len(taken))
            got += taken
        assert len(got) == response.length
        return got


@contextlib.contextmanager
def staged(byte_count: int = BYTES, seconds: float = SECONDS) -> Iterator[Stage]:
    """A stage in a loop."""
    with running_loop() as loop, new_track(byte_count, seconds) as track:
        yield Stage(loop, track)


def test_a_uri_names_the_same_bytes_as_long_as_it_does() -> None:
    """Slide, reload, change of source: each segment is what it was, and nothing lies between.

    But for what another source sends before its first entry point.
    """
    with staged() as stage:
        known = dict[str, bytes]()
        for round_ in range(30):
            stage.send(2)
            if round_ % 5 == 4:
                stage.cut()
            if round_ % 3 == 0:
                stage.reload()
            for uri in (*stage.listed(), *list(known)[-25:]):
                if stage.is_there(uri):
                    got = stage.fetch(uri)
                    assert known.setdefault(uri, got) == got
                else:
                    assert uri not in stage.listed()
        assert len(known) == 59
        assert all(each.startswith(TABLES) for each in known.values())
        packets = list(numbers(b"".join(each[PACKET:] for each in known.values())))
        steps = [after - before for before, after in pairwise(packets)]
        assert [step for step in steps if step != 1] == [3 * PACKETS + 3] * 5


def test_the_window_is_what_the_track_has_but_for_a_margin() -> None:
    """What is listed will be there for a while yet; what is not any more is 404."""
    with staged() as stage:
        stage.send(60)
        first = stage.listed()[0]
        assert 14 <= len(stage.listed()) <= 17
        stage.send(1)
        assert stage.fetch(first)
        stage.send(20)
        assert stage.status(first) == 404


def test_a_segment_that_is_overtaken_ends_too_soon() -> None:
    """A reader that is too slow gets fewer bytes than were announced, and no wrong ones."""
    with staged() as stage:
        stage.send(5)
        uri = stage.listed()[0]
        whole, body = stage.fetch(uri), stage.body(uri)
        got = b"".join(body.look(stage.now, 1000))
        body.taken(len(got))
        stage.send(30)
        with pytest.raises(StreamEndError, match="overtaken"):
            body.look(stage.now, 1000)
        assert whole.startswith(got)


def test_a_segment_travels_half_sent() -> None:
    """After a reload the rest comes, wherever it was cut."""
    with staged() as stage:
        stage.send(5)
        uri = stage.listed()[1]
        whole = stage.fetch(uri)
        for sent in (0, 1, PACKET - 1, PACKET, PACKET + 1, 5000, len(whole) - 1, len(whole)):
            body = stage.body(uri)
            body.taken(sent)
            rest = stage.hls.restore(body.export()).look(stage.now, 1 << 20)
            assert b"".join(rest) in (whole[sent:], TABLES[sent:])


def test_another_source_and_a_silence_begin_a_new_timeline() -> None:
    """The segment before ends with what the old source sent last."""
    with staged() as stage:
        stage.send(4)
        stage.cut()
        stage.send(4)
        stage.listed()
        stage.sent += 70  # nothing comes for seven seconds
        stage.cut()
        stage.send(4)
        segments = stage.hls.export().segments
        stage.listed()
        assert [each.sequence for each in segments if each.breaks] == [4, 8]
        assert [segments[at].end for at in (3, 7)] == [40 * SIZE, 80 * SIZE]
        assert all(each.duration <= 1.01 for each in segments)


def test_a_run_has_a_name_of_its_own() -> None:
    """A new program without the state, or without the track, does not use the old addresses."""
    with staged() as stage:
        stage.send(5)
        uri, saved = stage.listed()[0], stage.hls.export()
        stage.hls = stage.open(None)
        assert stage.status(uri) == 404
        assert stage.listed()[0] not in ("", uri)
        with new_track(BYTES, SECONDS) as another:
            stage.hls = stage.open(saved, another)
            assert stage.status(uri) == 404
            assert stage.hls.export().run != saved.run


def test_without_a_stream_there_is_no_playlist() -> None:
    """No track, nothing yet, or a stream without entry points: 503, in a sentence."""
    with staged() as stage:
        assert stage.status("live.m3u8") == 503
        stage.send(5)
        assert len(stage.listed()) == 4
        stage.track.entries.clear()
        stage.hls = stage.open(None)
        assert stage.status("live.m3u8") == 503
    with running_loop() as loop:
        with pytest.raises(HttpError, match=r"\w+ \w+") as wrong:
            Hls(loop, None, lambda: None).respond(
                HttpRequest("/live.m3u8", {}, {}, "192.0.2.1"), 0.0
            )
        assert wrong.value.status == 503


def test_who_asks_for_a_playlist_gets_the_newest() -> None:
    """The track is brought up to date for it; for a segment there is no need to."""
    with staged() as stage:
        stage.send(5)
        uri = stage.listed()[0]
        assert stage.refreshed == 1
        stage.fetch(uri)
        assert stage.refreshed == 1


OTHERS = ["hls", "hls/", "hls/0.ts"]
OTHERS += [f"hls/{{run}}/{name}" for name in ("01.ts", "x.ts", "99.ts", "0.ts/", "-1.ts", "0.ts\n")]


@pytest.mark.parametrize("path", OTHERS)
def test_other_names_are_not_found(path: str) -> None:
    """Only what the playlist names is there."""
    with staged() as stage:
        stage.send(5)
        stage.listed()
        assert stage.status(path.format(run=stage.hls.export().run)) == 404


def test_how_long_answers_may_be_kept() -> None:
    """A segment for ever, a playlist for half a target duration; both may be shared (CORS)."""
    with staged() as stage:
        stage.send(5)
        playlist, segment = stage.get("live.m3u8"), stage.get(stage.listed()[0])
        assert playlist.cache == "public, max-age=1"
        assert playlist.compress
        assert "immutable" in segment.cache
        assert playlist.is_media
        assert segment.is_media
        assert playlist.etag != segment.etag


def test_a_stream_that_ended_long_ago_has_no_playlist() -> None:
    """Nothing for as long as the track is kept: 503, in a sentence."""
    with staged() as stage:
        stage.send(5)
        assert len(stage.listed()) == 4
        stage.sent += 300
        assert stage.status("live.m3u8") == 503


def test_the_work_of_a_request_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """After minutes in which nobody asked, and nobody looked, some are taken for each request."""
    looks = list[float]()
    monkeypatch.setattr(Loop, "read_priority", lambda _loop: looks.append(0.0))
    with staged(1 << 22, 300.0) as stage:
        stage.send(240)
        for taken in (AT_ONCE, 2 * AT_ONCE):
            looks.clear()
            listed = stage.listed()
            assert len(listed) == taken - 1
            assert len(looks) == AT_ONCE + len(listed)
            looks.clear()
        stage.fetch(listed[0])
        assert not looks


def test_segments_are_cut_while_nobody_asks() -> None:
    """Who asks first finds all of them, and nothing is left to do."""
    with staged(1 << 22, 300.0) as stage:
        for _ in range(240):
            stage.send(1)
            stage.look()
        before = stage.hls.export().sequence
        assert before >= 238
        stage.listed()
        assert stage.hls.export().sequence == before
