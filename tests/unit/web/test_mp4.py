"""What a viewer of MP4 gets, without a socket: where it begins, what it shares, when it ends."""

import contextlib
import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import pytest

from relaylib.errors import HttpError
from relaylib.media import mpegts, rtp
from relaylib.media.form import Form
from relaylib.media.health import FoundEntry, Monitor
from relaylib.mp4.remuxer import Remuxer
from relaylib.net.loop import Loop
from relaylib.track.track import Entry, Track
from relaylib.web import mp4 as module
from relaylib.web.budget import SHARE
from relaylib.web.mp4 import KEPT, LATE, LEAD, LINGER, MOST_PAST, Mp4, Mp4Stream
from relaylib.web.reply import Response, StreamEndError
from relaylib.web.request import HttpRequest
from tests.unit.media import streams
from tests.unit.mp4 import mp4 as reader
from tests.unit.track.tracks import new_track
from tools.lab.inprocess import running_loop
from tools.lab.process import ROOT

SECONDS = 8.0
PACKETS = 7
SIZE = PACKETS * mpegts.PACKET_SIZE
DATA = (ROOT / "tools/sample/sample.ts").read_bytes()
SAMPLE = [DATA[at : at + SIZE] for at in range(0, len(DATA), SIZE)][:-1]
MIME = 'video/mp4; codecs="avc1.4d401e, mp4a.40.2"'
VIDEO_PID = 0x100


class Part(NamedTuple):
    """An init segment (without samples), or a fragment."""

    data: bytes
    key: bool


def parts(data: bytes) -> list[Part]:
    """Cut what a viewer got into its parts, all of whose boxes must be whole."""
    found, before = list[Part](), b""
    for kind, body in reader.boxes(data):
        box = (len(body) + 8).to_bytes(4, "big") + kind + body
        if kind in (b"ftyp", b"moof"):
            before = box
        elif kind == b"moov":
            reader.walk(before + box)
            found.append(Part(before + box, key=False))
        else:
            assert kind == b"mdat"
            first = next(iter(reader.samples(before + box).items()))
            found.append(Part(before + box, first[0] == 1 and first[1][0].sync))
    return found


def with_streams(**types: int) -> list[bytes]:
    """Return the sample with another map of its program: pid_TYPE."""
    rows: dict[int, int | tuple[int, bytes]] = {
        int(pid.removeprefix("pid_"), 16): kind for pid, kind in types.items()
    }
    table = streams.table_packet(0x1000, streams.pmt(1, VIDEO_PID, rows, 5))
    size = mpegts.PACKET_SIZE
    packets = [DATA[at : at + size] for at in range(0, len(DATA), size)]
    changed = [table if mpegts.pid(each) == 0x1000 else each for each in packets]
    return [b"".join(changed[at : at + PACKETS]) for at in range(0, len(changed), PACKETS)][:-1]


class Air:
    """A stream that comes in as told, a track of it, and the resource; the clock stands still."""

    def __init__(self, loop: Loop, track: Track, *, in_rtp: bool = False) -> None:
        self.now = self.step = 0.0
        self.track = track
        self.refreshed = 0
        self.mp4 = Mp4(loop, track, self._refresh)
        self._in_rtp, self._sent = in_rtp, 0
        self._monitor = Monitor(self._mark, track.append, self._cut)

    def clock(self) -> float:
        """Return the time, which passes while it is looked at if there is a `step`."""
        self.now += self.step
        return self.now

    def send(self, datagrams: list[bytes]) -> None:
        """Let all of it arrive, at its own pace."""
        for datagram in datagrams:
            self.now += SECONDS / len(SAMPLE)
            header = rtp.header(self._sent, self._sent, 7) if self._in_rtp else b""
            self._monitor.feed(header + datagram, self.now)
            self._sent += 1
            self.track.heard = self.now
            self.track.form = self._monitor.form or Form.OPAQUE

    def _refresh(self) -> None:
        self.refreshed += 1

    def another_source(self) -> None:
        """What comes next is from another one."""
        self._monitor.begin_anew()
        self._cut()

    def _cut(self) -> None:
        self.track.cut(self.track.heard)

    def _mark(self, access: FoundEntry) -> None:
        at = self.track.end + access.offset
        self.track.mark(Entry(at, access.time, access.stamp, access.tables, 0))

    def ask(self, back: str = "0", client: str = "192.0.2.1") -> Response:
        """Ask for it."""
        request = HttpRequest("/live.mp4", {"back": back}, {}, client)
        return self.mp4.respond(request, self.now)

    def watch(self, back: str = "0", client: str = "192.0.2.1") -> Mp4Stream:
        """Begin to watch."""
        body = self.ask(back, client).body
        assert isinstance(body, Mp4Stream)
        return body

    def show(self, stream: Mp4Stream, seconds: int) -> bytes:
        """Send and read so many seconds."""
        got, a_second = b"", len(SAMPLE) // int(SECONDS)
        for second in range(seconds):
            at = second % int(SECONDS) * a_second
            self.send(SAMPLE[at : at + a_second])
            got += self.read(stream)
        return got

    def read(self, stream: Mp4Stream, a_write: int = 1 << 30, most: int = 1 << 16) -> bytes:
        """Read what there is, in writes of so many bytes at most."""
        got = b""
        while pieces := stream.look(self.clock(), most):
            taken = b"".join(pieces)[:a_write]
            stream.taken(len(taken))
            got += taken
        return got


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Air]]:
    """Make an `Air`; of several, the last one has the clock."""
    with contextlib.ExitStack() as stack:
        loop = stack.enter_context(running_loop())

        def new(byte_count: int = 8 << 20, *, in_rtp: bool = False) -> Air:
            air = Air(loop, stack.enter_context(new_track(byte_count, 60.0)), in_rtp=in_rtp)
            monkeypatch.setattr(Loop, "time", staticmethod(air.clock))
            return air

        yield new


@pytest.fixture
def air(make: Callable[..., Air]) -> Air:
    return make()


@pytest.mark.parametrize("in_rtp", [False, True])
def test_it_begins_where_decoding_can_start(make: Callable[..., Air], in_rtp: bool) -> None:
    """An init segment, a fragment with a picture that needs no other, and all up to the edge."""
    air = make(in_rtp=in_rtp)
    air.send(SAMPLE[:300])
    response = air.ask()
    assert (response.status, response.kind) == (200, MIME)
    assert isinstance(response.body, Mp4Stream)
    first, second, *rest = parts(air.read(response.body))
    assert b"moov" in first.data
    assert second.key
    times = [reader.samples(each.data)[1][0].time for each in (second, *rest)]
    assert (max(times) - min(times)) / 90_000 == pytest.approx(
        float(response.headers["X-Behind"]), abs=0.5
    )


@pytest.mark.parametrize("a_write", [1, 100, 5000])
def test_a_write_may_end_anywhere(air: Air, a_write: int) -> None:
    """However little is taken at once, each viewer gets the same bytes."""
    air.send(SAMPLE[:100])
    whole, cut = air.watch(), air.watch()
    assert air.read(cut, a_write, most=1) == air.read(whole)


def test_all_share_one_remuxer(air: Air, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who comes later begins with the latest such fragment, and gets the same from there on."""
    made = list[Remuxer]()

    def make() -> Remuxer:
        made.append(Remuxer())
        return made[-1]

    monkeypatch.setattr(module, "Remuxer", make)
    air.send(SAMPLE[:200])
    early = air.watch()
    before = air.read(early)
    air.send(SAMPLE[200:430])
    before += air.read(early)
    late = air.watch()
    air.send(SAMPLE[430:])
    got, all_of_it = parts(air.read(late)), parts(before + air.read(early))
    assert len(made) == 1
    assert got[0] == all_of_it[0]
    assert got[1].key
    assert got[1:] == all_of_it[-len(got[1:]) :]
    assert len(got) < len(all_of_it) / 2


def test_a_slow_machine_remuxes_a_little_for_each_write(air: Air) -> None:
    """What there was no time for comes with the next writes, and nothing is left out."""
    air.send(SAMPLE[:500])
    stream = air.watch("7")
    air.step = module.SHARE
    got, looks = b"", 0
    while looks < 1000:
        pieces = stream.look(air.clock(), 1 << 20)
        stream.taken(sum(map(len, pieces)))
        got += b"".join(pieces)
        looks += 1
    numbers = [int.from_bytes(reader.find(p.data, b"moof", b"mfhd")[0][4:]) for p in parts(got)[1:]]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert stream.skipped == 0


def test_a_slow_machine_does_it_once_for_all(air: Air) -> None:
    """For one write little is remuxed, and nothing for those who are written in the same turn."""
    air.send(SAMPLE)
    air.step = module.SHARE
    quick, other = air.watch(), air.watch()
    shared, now = air.mp4._shared, air.clock()
    assert shared is not None
    before = shared._at
    quick.look(now, 1)
    after = shared._at
    assert before < after < before + 20 * SIZE
    other.look(now, 1)
    assert shared._at == after


def test_the_past_comes_as_fast_as_it_came(air: Air) -> None:
    """It begins at the point before that time, some seconds are given at once, the rest in time."""
    air.send(SAMPLE)
    response = air.ask("6")
    assert 6 <= float(response.headers["X-Behind"]) <= 7.1
    stream = response.body
    assert isinstance(stream, Mp4Stream)
    got = air.read(stream)
    for _ in range(3):
        shown = sum(s.duration for p in parts(got)[1:] for s in reader.samples(p.data)[1]) / 90_000
        assert shown == pytest.approx(air.now - SECONDS + LEAD, abs=0.5)
        air.now += 1.0
        got += air.read(stream)


def test_viewers_in_the_past_are_few(air: Air) -> None:
    """Each costs what all of the present do; one that goes makes room."""
    air.send(SAMPLE)
    watching = [air.watch("3", "127.0.0.1") for _ in range(MOST_PAST)]
    with pytest.raises(HttpError) as wrong:
        air.ask("3", "127.0.0.1")
    assert wrong.value.status == 503
    assert air.ask().status == 200
    watching.pop()
    assert air.ask("3", "127.0.0.1").status == 200


def test_an_address_leaves_places_in_the_past_to_others(air: Air) -> None:
    """It has half of them at most, and whoever comes from elsewhere goes back, too."""
    air.send(SAMPLE)
    watching = [air.watch("3") for _ in range(MOST_PAST // 2)]
    with pytest.raises(HttpError, match=r"192\.0\.2\.1") as wrong:
        air.ask("3")
    assert wrong.value.status == 503
    assert air.ask("3", "192.0.2.2").status == 200
    watching.pop()
    assert air.ask("3").status == 200


def test_an_address_that_has_had_its_share_gets_its_past_more_slowly(air: Air) -> None:
    """Nothing is remuxed for it until its work is paid for; those of the present do not wait."""
    air.send(SAMPLE)
    past, live = air.watch("6"), air.watch()
    air.read(past)
    air.mp4._budget.spend("192.0.2.1", 10.0, air.now)
    air.now += 1.0
    assert not air.read(past)
    air.send(SAMPLE[:200])
    assert air.read(live)
    air.now += 10.0 / SHARE
    air.mp4._track.heard = air.now  # type: ignore[union-attr]
    assert past.look(air.now, 1 << 16)


@pytest.mark.parametrize("first", [300, 303])
@pytest.mark.parametrize("following", [SAMPLE[:300], SAMPLE[303:]], ids=["another", "the same"])
def test_another_source_goes_on_in_place(air: Air, first: int, following: list[bytes]) -> None:
    """With the same codecs an init segment comes, and times go on."""
    air.send(SAMPLE[:290])
    stream = air.watch()
    got = air.read(stream)
    air.send(SAMPLE[290:first])
    air.another_source()
    air.send(following)
    found = parts(got + air.read(stream))
    assert [each.data for each in found].count(found[0].data) == 2
    times = [reader.samples(each.data)[1][0].time for each in found if b"moof" in each.data[:8]]
    assert times == sorted(times)


def test_other_codecs_end_it(air: Air) -> None:
    """What there was comes first; who asks again gets the new ones."""
    air.send(SAMPLE[:300])
    stream = air.watch()
    air.another_source()
    air.send(with_streams(pid_100=0x1B)[:300])
    got = b""
    with pytest.raises(StreamEndError):
        got = got + air.read(stream) + air.read(stream)
    assert air.ask().kind == 'video/mp4; codecs="avc1.4d401e"'


def test_sound_that_no_browser_plays_is_named(air: Air) -> None:
    """The picture comes without."""
    air.send(with_streams(pid_100=0x1B, pid_102=0x81)[:300])
    response = air.ask()
    assert response.status == 200
    assert response.headers["X-Left-Out"] == "AC-3"


def test_what_no_browser_plays(air: Air) -> None:
    """It ends who is watching; who asks is told the codec, until something else comes."""
    air.send(SAMPLE[:300])
    stream = air.watch()
    air.another_source()
    air.send(with_streams(pid_100=0x02)[:300])
    with pytest.raises(StreamEndError):
        air.read(stream)
    for _ in range(2):
        answer = air.ask()
        assert answer.status == 415
        assert isinstance(answer.body, bytes)
        assert json.loads(answer.body)["codec"] == "MPEG-2 video"
    air.another_source()
    air.send(SAMPLE[:300])
    assert (air.ask().status, air.ask().kind) == (200, MIME)


def test_who_is_overtaken_goes_on_at_the_newest(air: Air, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fragment that was begun is finished before."""
    monkeypatch.setattr(module, "BYTES", 200_000)
    air.send(SAMPLE[:200])
    slow, quick = air.watch(), air.watch()
    got = b"".join(slow.look(air.now, 1 << 20))[:3000]
    slow.taken(len(got))
    air.show(quick, 10)
    found = parts(got + air.read(slow))
    assert slow.skipped == 1
    assert quick.skipped == 0
    assert found[2].data == found[0].data
    assert found[3].key


def test_what_was_overwritten_is_left_out(make: Callable[..., Air]) -> None:
    """If the track has gone on before anybody remuxed it, one goes on where decoding can start."""
    air = make(byte_count=1 << 18)
    air.send(SAMPLE[:150])
    stream = air.watch()
    got = air.read(stream)
    air.send(SAMPLE)
    found = parts(got + air.read(stream))
    again = [at for at, each in enumerate(found) if each.data == found[0].data]
    assert len(again) == 2
    assert found[again[1] + 1].key


def test_who_is_too_late_to_remux_leaves_out(air: Air) -> None:
    """A machine without time for all of it shows what comes now, instead of ever older pictures."""
    air.send(SAMPLE[:100])
    stream = air.watch()
    seen = air.read(stream)
    air.send(SAMPLE[100:])
    air.now += LATE
    found = parts(seen + air.read(stream))
    assert [each.data for each in found].count(found[0].data) == 2


def test_nothing_is_done_for_nobody(air: Air, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without readers nothing is remuxed, and soon all that was is forgotten."""
    later = list[Callable[[], None]]()
    monkeypatch.setattr(Loop, "call_later", lambda _loop, _delay, call: later.append(call))
    air.send(SAMPLE[:300])
    stream = air.watch()
    air.read(stream)
    air.now += LINGER / 2
    later.pop()()
    shared = air.mp4._shared
    assert shared is not None
    end = shared.end
    air.send(SAMPLE[:50])
    assert shared.end == end
    air.now += LINGER * 2
    later.pop()()
    assert air.mp4._shared is None
    assert not later


def test_fragments_are_kept_for_a_while(air: Air) -> None:
    """Those of the last seconds; who reads too slowly for that is overtaken."""
    air.send(SAMPLE)
    air.show(air.watch(), int(KEPT) * 2)
    shared = air.mp4._shared
    assert shared is not None
    assert air.now - KEPT - 2 < shared[shared.oldest].began < air.now - KEPT + 2


def test_who_asks_gets_the_newest(air: Air) -> None:
    """The track is brought up to date for a response, and not for what is read then."""
    air.send(SAMPLE[:300])
    stream = air.watch()
    assert air.refreshed == 1
    air.read(stream)
    assert air.refreshed == 1


def test_without_codecs_there_is_nothing_yet(air: Air) -> None:
    """A stream that has just begun is 503, and so is none; a wrong `back` is 400."""
    for expected, ask in ((503, air.ask), (400, partial(air.ask, "x"))):
        with pytest.raises(HttpError, match=r"\w+ \w+") as wrong:
            ask()
        assert wrong.value.status == expected
    air.send(SAMPLE[:3])
    with pytest.raises(HttpError, match="codecs"):
        air.ask()
    air.send(SAMPLE[3:100])
    assert air.ask().status == 200


def test_packets_that_datagrams_cut_in_two(make: Callable[..., Air]) -> None:
    """Senders that fill datagrams to the brim are understood, and one that is lost is no end."""
    data, got = b"".join(SAMPLE[:300]), list[list[Part]]()
    for size, lost in ((SIZE, 1000), (1400, 1000), (1400, 200)):
        air = make()
        datagrams = [data[at : at + size] for at in range(0, len(data), size)]
        air.send([*datagrams[:lost], *datagrams[lost + 1 :]])
        got.append(parts(air.read(air.watch("2"))))
    whole, cut, damaged = got
    assert cut[:8] == whole[:8]
    assert sum(each.key for each in damaged) == sum(each.key for each in whole)
