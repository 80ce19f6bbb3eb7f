"""Measurements by HTTP: what viewers over TCP cost, and what they are to those over UDP.

The viewers are processes on the other cores: drain.py here, and tools/hls_viewers.py.
"""

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from tools.attackers.attack import Worker
from tools.benchmarks.plan import ATTACKS, SEGMENTS, SIZE, STREAMS, HttpLoad, Load
from tools.benchmarks.results import WebSample
from tools.benchmarks.servers import HLS, MP4, NGINX, TARGETS, Serving, serving
from tools.benchmarks.sinks import STAMP
from tools.benchmarks.stream import make_film, streaming
from tools.lab.machine import cpu_seconds
from tools.lab.media import NULL_PID, PACKET, pid_of
from tools.lab.process import PATIENCE, ChildProcess, wait_for
from tools.lab.relay import RelayProcess
from tools.lab.sockets import source
from tools.lab.web import HttpViewer, http_port

GATHER = 0.7
"""Seconds after which those who came are up with the stream."""

CUTTING = 3.0
"""Seconds of stream after which there are two segments of HLS."""

COMING = 2.0
"""Seconds in which `hls_viewers` come, one after the other."""

LEAST = 0.5
"""Share of the stream without which nobody can be said to be served. MP4 takes less room."""

ENOUGH = 0.9
"""Share of the stream that viewers beside those over UDP must get: or they are no company."""


class Reading(NamedTuple):
    """How many bytes each viewer has got by a time of CLOCK_MONOTONIC in seconds."""

    time: float
    byte_count: list[int]

    def megabits(self, before: "Reading") -> list[float]:
        """Return what each viewer got since then, in Mb/s."""
        scale = 8e-6 / (self.time - before.time)
        return [(b - a) * scale for a, b in zip(before.byte_count, self.byte_count, strict=True)]


class HttpViewers(ChildProcess):
    """Viewers of one stream; see drain.py."""

    def __init__(self, port: int, target: str, count: int) -> None:
        words = (sys.executable, "-m", "tools.benchmarks.drain", port, target, count)
        super().__init__(*map(str, words), stdin=subprocess.PIPE)

    def read(self) -> Reading:
        """Ask how far they are, once all of them have begun."""
        said = len(self._wait_said(1))
        assert self.process.stdin is not None
        self.process.stdin.write(b"?")
        self.process.stdin.flush()
        return Reading(*json.loads(self._wait_said(said + 1)[-1]))

    def _wait_said(self, lines: int) -> list[str]:
        def said() -> bool:
            assert self.process.poll() is None, "".join(self.stderr[-1:])
            return len(self.stdout) >= lines

        wait_for(said, "the viewers")
        return self.stdout


def web_sample(name: str, audience: HttpLoad, seconds: float, core: Sequence[str]) -> WebSample:
    """Measure over a window of `seconds`.

    Raises:
        FAILURES: the server cannot serve these at all, or is not installed.
    """
    measure = _segments if name in (HLS, NGINX) else _stream
    film = make_film(audience.rate, stamped=name == HLS)
    with (
        serving(name, core) as server,
        source(server.ingest_port) as sock,
        streaming(sock, audience.rate, 2 * PATIENCE, film),
    ):
        return measure(name, server, audience, seconds)


def _stream(name: str, server: Serving, audience: HttpLoad, seconds: float) -> WebSample:
    pid, is_relay = server.program.pid, isinstance(server.program, RelayProcess)
    if is_relay:  # it has to know the codecs
        wait_for(lambda: _status(server.port, TARGETS[name]) == 200, "the stream")
    with HttpViewers(server.port, TARGETS[name], audience.viewers) as viewers:
        _catch_up(viewers, audience.megabits)
        before, cpu = viewers.read(), cpu_seconds(pid)
        time.sleep(seconds)
        after, cpu_after = viewers.read(), cpu_seconds(pid)
    got = after.megabits(before)
    share = min(got) / audience.megabits
    assert share > LEAST, f"somebody got {share:.0%} of the stream"
    return WebSample(
        server=name,
        audience=str(audience),
        megabits=sum(got),
        cpu=(cpu_after - cpu) / (after.time - before.time),
        slowest=None if name == MP4 else share,
        skipped=_skipped(server.port) if is_relay else None,
    )


def _catch_up(viewers: HttpViewers, megabits: float) -> None:
    """Let those who began in the past come up with the stream: until then they get it faster."""
    before = viewers.read()
    for _ in range(20):
        time.sleep(GATHER / 2)
        after = viewers.read()
        if max(after.megabits(before)) < 1.25 * megabits:
            return
        before = after


def _status(port: int, target: str) -> int:
    with contextlib.suppress(ConnectionRefusedError), HttpViewer(port) as browser:
        return browser.get(target, "HEAD").status
    return 0


def _skipped(port: int) -> int:
    """Ask a relay how often it left something out, for those by HTTP together."""
    with HttpViewer(port) as browser:
        lines = browser.get("/metrics").body.decode().splitlines()
    [value] = [line for line in lines if line.startswith('relay_overtaken_total{kind="http"}')]
    return round(float(value.split()[-1]))


# --- HLS


def _segments(name: str, server: Serving, audience: HttpLoad, seconds: float) -> WebSample:
    pid = server.program.pid
    wait_for(lambda: _status(server.port, "/live.m3u8") == 200, "a playlist")
    with HttpViewer(server.port) as browser:
        wait_for(lambda: len(_playlist(browser)[0]) >= 2, "two segments")
        cpu, began = cpu_seconds(pid), time.monotonic()
        with _hls_viewers(server.port, audience.viewers, COMING + seconds) as viewers:
            delay = _follow(browser, COMING + seconds) if name == HLS else None
            byte_count = _bytes(viewers)
        cpu, took = cpu_seconds(pid) - cpu, time.monotonic() - began
    return WebSample(name, str(audience), byte_count * 8e-6 / took, cpu / took, delay=delay)


def _hls_viewers(port: int, count: int, seconds: float) -> ChildProcess:
    words = ("127.0.0.1", port, "--viewers", count, "--seconds", seconds)
    return ChildProcess(sys.executable, "tools/hls_viewers.py", *map(str, words))


def _bytes(viewers: ChildProcess) -> int:
    """Wait for the end of viewers of HLS; return what they got."""
    viewers.wait()
    assert viewers.stdout, "".join(viewers.stderr[-1:])
    tally = json.loads(viewers.stdout[-1])
    assert not tally["failures"], f"viewers of HLS: {tally['failures']}"
    byte_count: int = tally["byte_count"]
    return byte_count


def _playlist(browser: HttpViewer) -> tuple[list[str], float]:
    """Return the segments of the playlist and its target duration; nothing, if there is none."""
    lines = browser.get("/live.m3u8").body.decode().split("\n")
    targets = [line.partition(":")[2] for line in lines if line.startswith("#EXT-X-TARGET")]
    if not targets:
        return [], 1.0
    return [line for line in lines if line and not line.startswith("#")], float(targets[0])


def _follow(browser: HttpViewer, seconds: float) -> float:
    """Follow the playlist from its end, as RFC 8216 (6.3.4) has it.

    Return the longest time from when something was sent to when its segment was here, as a multiple
    of the target duration.
    """
    end, last, delays = time.monotonic() + seconds, "", [0.0]
    while time.monotonic() < end:
        listed, target = _playlist(browser)
        new = listed[listed.index(last) + 1 :] if last in listed else listed[-1:]
        for each in new:
            sent = _first_stamp(browser.get(f"/{each}").body)
            delays.append((time.time() - sent) / target)
        last = listed[-1]
        time.sleep(target if new else target / 2)
    return max(delays)


def _first_stamp(data: bytes) -> float:
    """Return when the first datagram of which there is a stamp was sent."""
    for at in range(0, len(data), PACKET):
        packet = data[at : at + PACKET]
        if pid_of(packet) == NULL_PID and (stamp := STAMP.unpack_from(packet)[0]) > 0:
            return float(stamp) / 1e9
    raise AssertionError("a segment without a stamp")


# --- beside those over UDP


def arrival(load: Load) -> float:
    """Return the seconds in which whoever else is there comes."""
    return {"": 0.0, SEGMENTS: CUTTING + COMING}.get(load.beside, GATHER)


@contextlib.contextmanager
def company(
    load: Load, relay: ChildProcess, seconds: float, watch: Callable[[float], None]
) -> Iterator[None]:
    """Whoever else is there. They have come after `arrival`, and stay for so many seconds.

    `watch` lets time pass. Raises LabError or AssertionError when they do not get the stream.
    """
    if not load.beside:
        yield
        return
    assert isinstance(relay, RelayProcess)
    port, megabits = http_port(relay), load.rate * SIZE * 8e-6
    if load.beside == STREAMS:
        with HttpViewers(port, "/live.ts", load.guests) as viewers:
            watch(GATHER)
            before = viewers.read()
            yield
            share = min(viewers.read().megabits(before)) / megabits
            assert share > ENOUGH, f"somebody got {share:.0%} of the stream"
    elif load.beside == SEGMENTS:
        watch(CUTTING)
        with _hls_viewers(port, load.guests, COMING + seconds) as viewers:
            watch(COMING)
            yield
            share = _bytes(viewers) * 8e-6 / (COMING + seconds) / megabits / load.guests
            assert share > ENOUGH, f"they got {share:.0%} of the stream"
    elif load.beside in ATTACKS:
        with Worker("hostile", load.beside.replace("-", "_"), port, seconds + 1, relay.pid):
            watch(GATHER)
            yield
    else:
        watch(GATHER)
        yield
