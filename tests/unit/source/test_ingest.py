"""The ingest on real sockets, in a loop whose clock the test puts forward."""

import contextlib
import ipaddress
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from structlog.testing import capture_logs

from relaylib.config import Config
from relaylib.media.form import Form
from relaylib.media.health import Monitor
from relaylib.net import linux
from relaylib.net.address import Address, show
from relaylib.net.loop import Loop
from relaylib.net.networks import ANY, Network
from relaylib.source.batch import Run
from relaylib.source.failover import FAULTY, HEALTHY, Rivals
from relaylib.source.gate import ESTABLISHED, Gate, Presence
from relaylib.source.ingest import (
    _STANDBY_TIME,
    NO_SOURCE_AFTER,
    REJECTED_PERIOD,
    RETRY_PERIOD,
    STANDBY_PERIOD,
    Ingest,
)
from tests.unit.media.streams import Camera
from tools.lab.inprocess import no_descriptors, turn_until, unexpected
from tools.lab.sockets import source, udp_socket

LOCAL: tuple[Network, ...] = (ipaddress.ip_network("127.0.0.1"),)
TIMEOUT = Config().source_timeout
STREAM = [b"%d" % index * 100 for index in range(200)]
"""More than two batches, and opaque."""
TS = 7 * (b"\x47\x1f\xff\x10" + bytes(184))
"""A datagram that is recognised: its sender is established."""


class FastClock(Loop):
    """A loop whose clock can be put forward."""

    ahead = 0.0

    def time(self) -> float:  # type: ignore[override]
        """Return the time that the test has made it."""
        return time.monotonic() + self.ahead


@dataclass
class Station:
    """An ingest, what it has forwarded since the last look, the sources that it told of, and what
    was logged.
    """

    loop: FastClock
    ingest: Ingest
    forwarded: list[bytes]
    told: list[tuple[Address | None, Form]]
    logs: list[Any]
    stack: contextlib.ExitStack

    def source(self) -> socket.socket:
        """Open a source."""
        port = self.ingest.sockets.stream.getsockname()[1]
        return self.stack.enter_context(source(port))

    def expect(self, *datagrams: bytes) -> None:
        """Turn until as many datagrams have been forwarded; they have to be these."""
        turn_until(self.loop, lambda: len(self.forwarded) >= len(datagrams), "the stream")
        assert self.forwarded == list(datagrams)
        self.forwarded.clear()

    def rejects(self, total: int) -> None:
        """Turn until so many datagrams have been rejected, and nothing was forwarded."""
        turn_until(self.loop, lambda: self.ingest.gate.state.rejected >= total, "the rejection")
        assert (self.ingest.gate.state.rejected, self.forwarded) == (total, [])

    def rejects_without_loss(self, total: int) -> None:
        """Turn until so many have been rejected, none of them for a full buffer."""
        self.rejects(total)
        assert self.ingest.buffer.drops.total == 0
        assert self.events("ingest_overflow") == []

    def pass_time(self, seconds: float) -> None:
        """Put the clock forward, and turn once: the ingest finds out what happened meanwhile."""
        self.loop.ahead += seconds
        self.loop.call_soon(self.loop.stop)
        self.loop.run()

    def events(self, *names: str) -> list[Any]:
        """Return what was logged under these names."""
        return [each for each in self.logs if each["event"] in names]


@contextlib.contextmanager
def station(
    host: str = "127.0.0.1",
    *,
    shared: bool = False,
    allow: tuple[Network, ...] = ANY,
    config: Config | None = None,
) -> Iterator[Station]:
    """Start an ingest that lets nothing gather; if it is shared, on one socket for everybody."""
    with contextlib.ExitStack() as stack:
        loop = stack.enter_context(contextlib.closing(FastClock(unexpected)))
        logs = stack.enter_context(capture_logs())
        forwarded: list[bytes] = []
        told: list[tuple[Address | None, Form]] = []

        monitor = Monitor()

        def forward(runs: list[Run], now: float) -> None:
            for each in (bytes(each) for run in runs for each in run.datagrams()):
                forwarded.append(each)
                monitor.feed(each, now)

        def errors() -> int:
            return monitor.transport.errors.counts["Continuity_count_error"]

        def note_source() -> None:
            told.append((ingest.gate.state.active, ingest.form))

        sock = udp_socket(host)
        sock.setblocking(False)
        config = config or Config(coalesce=0.0, allow_source=allow)
        ingest = Ingest(
            loop, sock, config, forward, shared=shared, on_source=note_source, errors=errors
        )
        ingest.begin()
        yield Station(loop, ingest, forwarded, told, logs, stack)
        ingest.sockets.close()


@pytest.fixture(params=[False, True], ids=["two sockets", "one socket"])
def here(request: pytest.FixtureRequest) -> Iterator[Station]:
    """An ingest whose senders the kernel parts, and one that compares them."""
    with station(shared=request.param) as made:
        yield made


def name(sender: socket.socket) -> str:
    """Return a sender's address as the log shows it."""
    return show(sender.getsockname())


def test_a_stranger_is_never_forwarded(here: Station) -> None:
    """While one source sends, another's datagrams are rejected, counted, and logged once."""
    active, stranger = here.source(), here.source()
    active.send(TS)
    stranger.send(b"early")
    here.expect(TS)
    for count in range(1, 11):
        for each in STREAM:
            active.send(each)
            stranger.send(b"splice")
            here.pass_time(0)
        here.expect(*STREAM)
        here.rejects(1 + 200 * count)
    here.pass_time(STANDBY_PERIOD)
    assert here.ingest.received == 2001
    assert here.events("ingest_started", "source_locked", "source_takeover") == [
        {"event": "ingest_started", "log_level": "info", "source": name(active),
         "datagram_size": len(TS)},
        {"event": "source_locked", "log_level": "info", "source": name(active)},
    ]  # fmt: skip
    [rejected] = here.events("source_rejected")
    assert (rejected["source"], rejected["reason"]) == (name(stranger), "locked")


def test_a_standby_takes_over_after_silence(here: Station) -> None:
    """When the active source has been silent for the time-out, the next one becomes the stream."""
    first, second = here.source(), here.source()
    first.send(TS)
    here.expect(TS)
    here.pass_time(TIMEOUT - 0.5)
    second.send(b"too early")
    here.rejects(1)
    here.pass_time(0.5)
    [silent] = here.events("ingest_silent")
    assert (silent["source"], silent["seconds"] >= TIMEOUT) == (name(first), True)
    for each in STREAM[:50]:  # the standby buffer is small
        second.send(each)
    here.expect(*STREAM[:50])
    [takeover] = here.events("source_takeover")
    assert (takeover["source"], takeover["previous"]) == (name(second), name(first))
    assert takeover["reason"] == "silence"
    assert [active for active, _ in here.told] == [first.getsockname(), second.getsockname()]
    here.pass_time(0)  # the first one's socket is closed at the end of the turn
    first.send(b"too late")
    here.rejects(2)
    second.send(b"second")
    here.expect(b"second")
    assert [each["source"] for each in here.events("source_locked")] == [name(first), name(second)]
    assert len(here.events("ingest_started")) == 1


def test_a_standby_source_begins_with_what_is_new() -> None:
    """What a second source sent before, of which most found no room, is no part of the stream."""
    with station() as here:
        first, second = here.source(), here.source()
        first.send(TS)
        here.expect(TS)
        for _ in range(500):
            second.send(bytes(1316))
        here.pass_time(TIMEOUT)
        here.pass_time(STANDBY_PERIOD)
        assert len(here.events("ingest_silent")) == 1
        assert here.forwarded == []
        second.send(b"new")
        here.expect(b"new")


def test_a_source_that_resumes_keeps_its_stream(here: Station) -> None:
    """A pause of the source is logged at both ends, once, and changes nothing else."""
    active, standby = here.source(), here.source()
    for _ in range(2):
        active.send(TS)
        here.expect(TS)
        here.pass_time(TIMEOUT)
        here.pass_time(TIMEOUT)
    active.send(b"back")
    standby.send(b"a moment later")
    here.expect(b"back")
    here.rejects(1)
    here.pass_time(STANDBY_PERIOD)
    assert [each["event"] for each in here.logs] == [
        "ingest_started", "source_locked", "ingest_silent", "ingest_resumed", "ingest_silent",
        "ingest_resumed", "source_rejected",
    ]  # fmt: skip
    assert {each["source"] for each in here.logs[:6]} == {name(active)}


def test_a_relay_that_slept_blames_nobody(here: Station) -> None:
    """What came while this process was stopped is forwarded, and was no silence of the source."""
    active, standby = here.source(), here.source()
    active.send(b"stream")
    here.expect(b"stream")
    active.send(b"meanwhile")
    standby.send(b"splice")
    here.pass_time(10 * TIMEOUT)
    here.expect(b"meanwhile")
    here.rejects(1)
    assert here.events("ingest_silent", "source_takeover") == []


def test_a_rejected_source_is_logged_once_a_minute(here: Station) -> None:
    """The first is logged at once, with the total; later ones together when a minute is over."""
    active, stranger = here.source(), here.source()
    active.send(b"stream")
    here.expect(b"stream")
    totals = []
    for rejected, pause in ((3, STANDBY_PERIOD), (5, 1.0), (7, REJECTED_PERIOD), (7, 1000.0)):
        while here.ingest.gate.state.rejected < rejected:
            stranger.send(b"splice")
            here.rejects(here.ingest.gate.state.rejected + 1)
        here.pass_time(pause)
        totals.append([each["total"] for each in here.events("source_rejected")])
    assert totals[1:] == [totals[0], [*totals[0], 7], [*totals[0], 7]]
    assert len(totals[0]) == 1


def test_a_source_that_may_not_send_is_rejected() -> None:
    """Outside of --allow-source nobody begins a stream, and the log says why."""
    with station() as here:
        here.ingest.gate = Gate((), TIMEOUT)
        here.source().send(b"stream")
        here.rejects(1)
        here.pass_time(STANDBY_PERIOD)
        assert [each["reason"] for each in here.events("source_rejected")] == ["not_allowed"]


@pytest.mark.skipif(not linux.LINUX, reason="only Linux filters")
@pytest.mark.parametrize("locked", [False, True])
def test_a_flood_from_outside_the_allow_list_is_dropped_by_the_kernel(locked: bool) -> None:
    """It is not queued, but counted as rejected, not as lost; one of the many is named."""
    with (
        station("0.0.0.0", allow=LOCAL) as here,
        udp_socket("127.0.0.2") as stranger,
    ):
        active, sent = here.source(), 0
        if locked:
            active.send(TS)
            here.expect(TS)
        while not here.events("source_rejected"):
            for _ in range(1000):
                stranger.sendto(bytes(1316), active.getpeername())
            sent += 1000
            here.pass_time(STANDBY_PERIOD)
        here.rejects(sent)
        assert here.events("source_rejected")[0]["reason"] == "not_allowed"
        for _ in range(10_000):  # more than either buffer has room for
            stranger.sendto(bytes(1316), active.getpeername())
        active.send(b"goes on")
        here.expect(b"goes on")
        here.rejects_without_loss(sent + 10_000)


def test_without_a_filter_the_relay_compares(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system has none, or the list is too long for one, the list holds all the same."""
    monkeypatch.setattr(linux, "set_filter", lambda _sock, _program: False)
    for allow, reason in ((LOCAL, "declined_by_system"), (2000 * LOCAL, "too_many_networks")):
        with station("0.0.0.0", allow=allow) as here, udp_socket("127.0.0.2") as stranger:
            active = here.source()
            stranger.sendto(b"splice", active.getpeername())
            here.rejects(1)
            active.send(b"stream")
            here.expect(b"stream")
            assert [each["reason"] for each in here.events("source_filter_missing")] == [reason]


@pytest.mark.skipif(not linux.LINUX, reason="only Linux filters")
def test_an_overflow_behind_a_filter_is_not_taken_for_strangers() -> None:
    """What found the buffer full on an open, filtered socket is lost, and logged as that."""
    with station(shared=True, allow=LOCAL) as here:
        active, stream = here.source(), here.ingest.sockets.stream
        active.send(b"stream")
        here.expect(b"stream")
        before = linux.dropped(stream)
        while linux.dropped(stream) == before:
            active.send(bytes(1316))
        lost = linux.dropped(stream)
        turn_until(here.loop, lambda: here.events("ingest_overflow"), "the report")
        assert (here.ingest.buffer.drops.total, here.ingest.gate.state.rejected) == (lost, 0)


# --- what the kernel does not lock


def test_a_lock_that_failed_is_tried_again() -> None:
    """Without a descriptor the relay compares senders, says so once, and retries until it can."""
    with station() as here:
        active, stranger = here.source(), here.source()
        here.ingest.sockets.release()
        with no_descriptors():
            active.send(TS)
            here.expect(TS)
            here.pass_time(RETRY_PERIOD)  # fails again
        active.send(b"stream")
        here.expect(b"stream")
        stranger.send(b"splice")
        here.rejects(1)
        [failed] = here.events("ingest_not_locked")
        assert (failed["reason"], failed["source"]) == ("no_descriptors", name(active))
        assert failed["log_level"] == "warning"
        here.pass_time(RETRY_PERIOD)
        assert [each["source"] for each in here.events("ingest_locked")] == [name(active)]
        assert not here.ingest.sockets.open


def test_strangers_on_the_connected_socket_are_noticed() -> None:
    """A kernel that lets them in is found out by a sample; from then on senders are compared."""
    with station() as here:
        active, stranger = here.source(), here.source()
        active.send(TS)
        here.expect(TS)
        here.pass_time(STANDBY_PERIOD)
        here.ingest.sockets.stream.connect(stranger.getsockname())  # as if it were not connected
        for count in (1, 2, 3):
            stranger.send(b"splice")
            here.rejects(count)
        [found] = here.events("ingest_not_locked")
        assert (found["reason"], found["source"]) == ("strangers_get_in", name(active))


def test_an_empty_datagram_begins_nothing(here: Station) -> None:
    """Who sends nothing is not the active source, nor reported until somebody else is."""
    active, other = here.source(), here.source()
    other.send(b"")
    here.rejects(1)
    here.pass_time(STANDBY_PERIOD)
    assert here.logs == []
    for datagram in (b"", b"one", b"", b"two"):
        active.send(datagram)
    here.expect(b"one", b"two")
    other.send(b"")
    here.rejects(3)
    here.pass_time(STANDBY_PERIOD)
    assert [each["reason"] for each in here.events("source_rejected")] == ["locked"]


def test_the_active_source_may_send_to_another_of_our_addresses() -> None:
    """It is known by where it sends from, whichever local address it sends to."""
    with station("0.0.0.0") as here, udp_socket() as active:
        stranger, port = here.source(), here.ingest.sockets.stream.getsockname()[1]
        for host in ("127.0.0.1", "127.0.0.2", "127.0.0.1", "127.0.0.2"):
            for each in (TS, *STREAM[:20]):
                active.sendto(each, (host, port))
                here.expect(each)
            stranger.send(b"splice")
        here.rejects(4)
        assert here.events("source_takeover", "ingest_silent") == []
        assert [each["reason"] for each in here.events("ingest_not_locked")] == [
            "arrives_at_standby"
        ]


def test_a_forged_icmp_error_stops_nothing() -> None:
    """An error on the connected socket is no reason not to read what comes behind it."""
    with station() as here:
        active = here.source()
        active.send(TS)
        here.expect(TS)
        here.ingest.sockets.stream.send(b"to a port that then closes")
        address = active.getsockname()
        active.close()
        here.ingest.sockets.stream.send(b"refused")  # leaves an error on the socket
        with udp_socket(*address) as again:
            again.sendto(b"goes on", here.ingest.sockets.stream.getsockname())
            here.expect(b"goes on")


@pytest.mark.parametrize("sender", [0, 1])
def test_a_reload_goes_on_with_the_same_source(here: Station, sender: int) -> None:
    """The successor forwards the active source's datagrams, rejects others, and counts on."""
    sources = here.source(), here.source()
    sources[0].send(TS)
    here.expect(TS)
    sources[1].send(b"splice")
    here.rejects(1)
    here.loop.unwatch(here.ingest.sockets.stream)
    saved = here.ingest.export()
    with contextlib.closing(FastClock(unexpected)) as loop:
        sock = here.ingest.sockets.stream
        successor = Ingest(loop, sock, Config(coalesce=0.0), lambda _runs, _now: None, shared=False)
        successor.restore(saved)
        successor.begin()
        before = successor.received, successor.gate.state.rejected
        sources[sender].send(b"after")
        turn_until(
            loop,
            lambda: (successor.received, successor.gate.state.rejected) != before,
            "the datagram",
        )
        assert before == (1, 1)
        assert successor.received == 2 - sender
        assert successor.gate.state.rejected == 1 + sender
        if successor.sockets.standby is not None:
            successor.sockets.standby.detach()  # the predecessor's, which the station closes
        successor.sockets.release()


# --- what is recognised, and who may have the ingest for that

RTP = [b"\x80\x60" + index.to_bytes(2, "big") + bytes(100) for index in range(9)]
"""RTP with something else inside than a transport stream: three in a row are recognised."""


@pytest.mark.parametrize(
    ("strays", "stream", "lost"),
    [
        ([b"hello\n"], [TS, *STREAM], 0),
        ([b"hello\n"] * (ESTABLISHED - 1), [TS, *STREAM], 0),
        ([b"hello\n"], [STREAM[0], TS, *STREAM], 1),
        ([b"hello\n"], RTP, 2),
    ],
)
def test_a_recognised_stream_takes_over_from_a_stray_at_once(
    here: Station, strays: list[bytes], stream: list[bytes], lost: int
) -> None:
    """From its first recognised datagram on all of it is forwarded; the stray's rest is not."""
    stray, active = here.source(), here.source()
    for each in strays:
        stray.send(each)
    for each in stream:
        active.send(each)
        if each is stream[lost]:
            stray.send(b"again")
    here.expect(*strays, *stream[lost:])
    here.rejects(lost + 1)
    [takeover] = here.events("source_takeover")
    assert (takeover["source"], takeover["reason"]) == (name(active), "form")
    assert [each["source"] for each in here.events("source_locked")] == [name(active)]
    assert here.ingest.gate.presence is Presence.ACTIVE
    assert here.ingest.form is not Form.OPAQUE


@pytest.mark.parametrize("first", [[TS], [b"opaque"] * ESTABLISHED])
def test_an_established_source_is_not_displaced_by_form(here: Station, first: list[bytes]) -> None:
    """Neither a recognised one nor one of unknown form that has sent 50 datagrams."""
    active, stranger = here.source(), here.source()
    for each in first:
        active.send(each)
    here.expect(*first)
    for count in range(1, 9):
        stranger.send(TS)
        here.rejects(count)
        active.send(b"goes on")
        here.expect(b"goes on")


def test_a_source_is_recognised_later(here: Station) -> None:
    """Who has looked at all that an established source sends says what it is."""
    active = here.source()
    for _ in range(ESTABLISHED):
        active.send(STREAM[0])
    here.expect(*[STREAM[0]] * ESTABLISHED)
    forms = [here.ingest.form]
    for told in (Form.TS, Form.RTP, Form.OPAQUE):
        here.ingest.recognise(told)
        forms.append(here.ingest.form)
    active.send(TS)
    here.expect(TS)
    here.pass_time(STANDBY_PERIOD)
    assert [*forms, here.ingest.form] == [Form.OPAQUE, Form.TS, *[Form.RTP] * 3]


def test_a_stranger_takes_little_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long it takes to look into what it sends: the rest waits for the next look."""
    with station(config=Config(coalesce=0.0, failover_errors=5)) as here:
        active, stranger = here.source(), here.source()
        active.send(TS)
        here.expect(TS)

        def slow(_rivals: Rivals, _source: Address, _datagram: bytes, _now: float) -> None:
            here.loop.ahead += _STANDBY_TIME

        monkeypatch.setattr(Rivals, "follow", slow)
        for _ in range(5):
            stranger.send(TS)
        for looks in range(1, 6):
            here.ingest._read_standby()
            assert here.ingest.gate.state.rejected == looks


@pytest.mark.parametrize("shared", [False, True])
def test_a_silent_source_is_back_before_a_stray_counts(shared: bool) -> None:
    """A stray datagram that comes in a pause of the source keeps it out for no moment."""
    with station(shared=shared) as here:
        active, stray = here.source(), here.source()
        active.send(TS)
        here.expect(TS)
        here.pass_time(TIMEOUT)
        stray.send(b"hello")
        here.expect(b"hello")
        for each in (TS, *STREAM):
            active.send(each)
        here.expect(TS, *STREAM)
        assert [each["reason"] for each in here.events("source_takeover")] == ["silence", "form"]
        assert here.ingest.sockets.open is shared


def test_many_strangers_are_not_remembered(here: Station) -> None:
    """However many send beside a stray, one of them is followed, and a stream is found."""
    here.source().send(b"hello")
    here.expect(b"hello")
    for count in range(1, 200):
        here.source().send(RTP[0])
        here.rejects(count)
    assert len(here.ingest._recognition._known) <= 2
    here.source().send(TS)
    here.expect(TS)


def test_no_source_is_told_once() -> None:
    """Ten seconds after the start, unless there was a source by then; a stray is none."""
    for first, told in ((b"stray", 1), (TS, 0)):
        with station() as here:
            here.source().send(first)
            here.expect(first)
            here.pass_time(NO_SOURCE_AFTER - 1)
            here.pass_time(STANDBY_PERIOD)
            assert here.events("no_source") == []
            for _ in range(3):
                here.pass_time(NO_SOURCE_AFTER)
            assert len(here.events("no_source")) == told
            assert here.ingest.export().no_source_at is None


# --- rivals


def follows(*, prefer: tuple[Network, ...] = ()) -> Config:
    """Fail over at more than 5 errors a second."""
    return Config(coalesce=0.0, failover_errors=5, prefer=prefer)


@pytest.mark.parametrize("shared", [False, True])
def test_a_source_with_errors_gives_way_to_a_clean_standby(shared: bool) -> None:
    """After some seconds, with the standby's next datagram; nothing after that is lost or mixed."""
    with station(shared=shared, config=follows()) as here:
        active, standby, bad, good = here.source(), here.source(), Camera(), Camera()
        sent: list[bytes] = []
        began = here.loop.time()
        while not here.events("source_takeover"):
            sent.append(bad.datagram(skip=1))
            active.send(sent[-1])
            standby.send(good.datagram())
            here.pass_time(0.05)
            assert here.loop.ahead < 30
        [takeover] = here.events("source_takeover")
        assert (takeover["source"], takeover["reason"]) == (name(standby), "errors")
        assert here.loop.time() - began >= FAULTY
        turn_until(here.loop, lambda: len(here.forwarded) >= len(sent), "the stream")
        here.forwarded.clear()
        stream = [good.datagram() for _ in range(100)]
        for each in stream:
            standby.send(each)
            active.send(bad.datagram())
        here.expect(*stream)


def test_a_preferred_source_gets_the_ingest_back() -> None:
    """When it has been healthy for ten seconds; nobody else does, however healthy."""
    preferred = (ipaddress.ip_network("127.0.0.2"),)
    with (
        station("0.0.0.0", config=follows(prefer=preferred)) as here,
        udp_socket("127.0.0.2") as other,
    ):
        active, one, two = here.source(), Camera(), Camera()
        other.connect(active.getpeername())
        began = here.loop.time()
        while not here.events("source_takeover"):
            active.send(one.datagram())
            other.send(two.datagram())
            here.pass_time(0.05)
            assert here.loop.ahead < 30
        [takeover] = here.events("source_takeover")
        assert (takeover["source"], takeover["reason"]) == (name(other), "preferred")
        assert here.loop.time() - began >= HEALTHY
