"""`/status.json`: everything that the page shows. docs/STATUS.md says what each name means.

It is made at most four times a second, whoever asks how often, and of no more viewers than a page
can show; so what it costs is bounded. Whoever may watch may read it: addresses of other people are
told only as far as they name a network.
"""

import functools
import heapq
import ipaddress
import json
import math
from collections import Counter
from collections.abc import Hashable
from typing import Any, NamedTuple

from relaylib import __version__
from relaylib.media.form import Form
from relaylib.media.health import Monitor
from relaylib.media.mpegts import PACKET_SIZE
from relaylib.media.selection import select
from relaylib.media.tables import Program
from relaylib.media.tr101290 import NAMES
from relaylib.net.address import Address, show
from relaylib.net.networks import PRIVATE, contains
from relaylib.stream.source_lock import Presence
from relaylib.stream.watcher import FIXED, HTTP, KINDS, Watcher
from relaylib.web.parts import Parts
from relaylib.web.reply import Response
from relaylib.web.request import Request
from relaylib.web.series import Series

KIND = "application/json"

FRESH = 0.25
"""Seconds for which what was made is good enough."""

LISTED = 100
"""Viewers that are listed: 25 KB, and more than anybody reads."""

PROGRAMS, STREAMS = 32, 32
"""Programs, and streams of each, that are listed: a source of damage might name thousands."""

SAMPLE = 0.7
"""Seconds over which a viewer's rate is measured, at least."""

_ANY = ("0.0.0.0", "::", "")


class _Sample(NamedTuple):
    """What is remembered of a viewer who was listed."""

    number: int
    time: float
    sent: int
    rate: float | None = None


class Status:
    """The resource."""

    def __init__(self, parts: Parts, series: Series) -> None:
        self._parts = parts
        self._series = series
        self._made_at = -math.inf
        self._made = b""
        self._samples: dict[Hashable, _Sample] = {}
        self._numbers = 0

    def respond(self, _request: Request, now: float) -> Response:
        """Tell everything."""
        return Response(self.encoded(now), KIND, compress=True)

    def encoded(self, now: float) -> bytes:
        """Return the whole object as JSON."""
        if now - self._made_at >= FRESH:
            self._made, self._made_at = encode(self.build()), now
        return self._made

    def build(self, since: int = 0) -> dict[str, Any]:
        """Make the object, with the points of the series behind the second `since`."""
        parts, now = self._parts, self._parts.loop.time()
        return {
            "version": __version__,
            "now": round(parts.loop.wall_time(), 3),
            "uptime_s": round(now - parts.health.begun, 1),
            "verdict": self._verdict(),
            "source": self._source(),
            "stream": self._stream(),
            "errors": self._errors(),
            "history": self._history(),
            "viewers": self._viewers(now),
            "egress": self._egress(),
            "relay": {"busy": round(self._series.busy, 4)},
            "watch": self._watch(),
            "series": self._series.since(since),
        }

    def _date(self, time: float | None) -> float | None:
        """Make a date of a time of the loop's clock."""
        return None if time is None else round(time + self._parts.loop.epoch() / 1e9, 3)

    # --- the stream

    def _verdict(self) -> dict[str, Any]:
        health, presence = self._parts.health, self._parts.ingest.lock.presence
        verdict = health.verdict
        if verdict is None:
            return {"word": presence.value, "evidence": "", "remedy": "", "since": None}
        word, evidence, remedy = verdict
        active = self._parts.ingest.lock.state.active
        evidence = discreet(evidence, active) if active else evidence
        since = self._date(health.since)
        return {"word": word.value, "evidence": evidence, "remedy": remedy, "since": since}

    def _source(self) -> dict[str, Any]:
        lock = self._parts.ingest.lock
        state = lock.state
        there = state.active is not None
        return {
            "presence": lock.presence.value,
            "address": shortened(state.active) if state.active else None,
            "form": self._parts.ingest.form.value if there else None,
            "since": self._date(state.since) if there else None,
            "rejected": state.rejected,
        }

    def _stream(self) -> dict[str, Any]:
        health = self._parts.health
        monitor = health.inspection.monitor if health.inspection else None
        is_rtp = monitor is not None and monitor.form is Form.RTP
        main = monitor.main_stream if monitor else None
        clock = monitor.clock if monitor else None
        interval = main.elementary.random_access.interval if main and main.elementary else None
        rates = health.rates()
        return {
            "bitrate": round(health.bits_in),
            "bitrate_10s": round(rates.bits_in),
            "datagrams_s": round(rates.datagrams_in, 1),
            "programs": self._programs(monitor) if monitor else [],
            "unplayable": _unplayable(monitor) if monitor else None,
            "random_access_s": None if interval is None else round(interval, 3),
            "rtp_jitter_ms": _ms(monitor.reception.jitter) if monitor and is_rtp else None,
            "pcr_jitter_ms": _ms(clock.jitter) if clock else None,
        }

    def _programs(self, monitor: Monitor) -> list[dict[str, Any]]:
        programs = list(monitor.transport.tables.programs.values())
        return [
            {
                "number": program.number,
                "pmt_pid": program.pmt_pid,
                "pcr_pid": program.pcr_pid,
                "streams": self._streams(monitor, program),
            }
            for program in programs[:PROGRAMS]
        ]

    def _streams(self, monitor: Monitor, program: Program) -> list[dict[str, Any]]:
        flows = self._parts.ingest.lock.presence is Presence.ACTIVE
        found = []
        for each in program.streams[:STREAMS]:
            pid = monitor.transport.pids.get(each.pid)
            if pid is None or pid.elementary is None:
                continue
            codec, size = pid.elementary.codec, pid.elementary.format
            fps = (size.rate if size else 0.0) or pid.elementary.rate
            is_video = pid.elementary.named.kind.value == "video"
            found.append({
                "pid": each.pid,
                "kind": codec.kind.value,
                "codec": codec.name,
                "width": size.width if size else None,
                "height": size.height if size else None,
                "fps": round(fps, 2) if fps and is_video else None,
                "bitrate": round(pid.meter.rate() * PACKET_SIZE * 8) if flows else 0,
            })  # fmt: skip
        return found

    def _errors(self) -> dict[str, Any]:
        inspection = self._parts.health.inspection
        counts = inspection.counts if inspection else None
        found = counts.errors if counts else {}
        return {
            "tr_101_290": {name: found.get(name, 0) for name in NAMES},
            "lost": counts.lost if counts else 0,
            "reordered": counts.reordered if counts else 0,
            "duplicated": counts.duplicated if counts else 0,
            "scrambled": counts.scrambled if counts else 0,
            "overflowed": self._parts.ingest.buffer.drops.total,
            "unseen": counts.unseen if counts else 0,
        }

    def _history(self) -> dict[str, Any]:
        history = self._parts.history
        if history is None:
            return {"seconds": 0, "bytes": 0, "limit_s": None, "limit_bytes": 0, "points": 0}
        seconds, octets = self._parts.kept()
        return {
            "seconds": round(seconds, 1),
            "bytes": octets,
            "limit_s": history.seconds if math.isfinite(history.seconds) else None,
            "limit_bytes": history.capacity,
            "points": len(self._parts.walk.track.entries) if self._parts.walk else 0,
        }

    # --- who watches

    def _viewers(self, now: float) -> dict[str, Any]:
        counts: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}
        everyone = list(self._parts.each_watcher())
        for each in everyone:
            counts[each.kind][each.state] += 1
        chosen = _worst(everyone)
        rates = self._parts.health.rates()
        size = rates.bits_in / rates.datagrams_in if rates.datagrams_in else 0.0
        self._sample(chosen, now, size)
        return {
            "total": len(everyone),
            "counts": counts,
            "list": [self._viewer(each, now) for each in chosen],
        }

    def _sample(self, chosen: list[Watcher], now: float, size: float) -> None:
        """Measure what they are sent; `size` is that of a datagram, in bits."""
        samples = {}
        for each in chosen:
            last = self._samples.get(each.same)
            if last is None:
                self._numbers += 1
                last = _Sample(self._numbers, now, each.sent)
            elif now - last.time >= SAMPLE:
                unit = 8.0 if each.kind == HTTP else size
                sent = max(0, each.sent - last.sent)  # it may have another output now
                last = _Sample(last.number, now, each.sent, sent * unit / (now - last.time))
            samples[each.same] = last
        self._samples = samples

    def _viewer(self, watcher: Watcher, now: float) -> dict[str, Any]:
        sample, where = self._samples[watcher.same], watcher.destination
        return {
            "id": f"{watcher.kind}{sample.number}",
            "kind": watcher.kind,
            "client": shortened(watcher.client) if watcher.client else None,
            "destination": shortened(where) if isinstance(where, tuple) else where,
            "state": watcher.state,
            "delay_s": None if watcher.delay is None else round(watcher.delay, 2),
            "bitrate": None if sample.rate is None else round(sample.rate),
            "sent": watcher.sent,
            "dropped": watcher.lost,
            "unit": "bytes" if watcher.kind == HTTP else "datagrams",
            "seconds": round(max(0.0, now - watcher.since), 1),
        }

    def _egress(self) -> dict[str, Any]:
        udp, http = self._parts.health.rates().bits_out, self._series.http_bitrate
        return {
            "bitrate": round(udp + http),
            "udp_bitrate": round(udp),
            "http_bitrate": round(http),
        }

    def _watch(self) -> dict[str, Any]:
        control, ingest = self._parts.control, self._parts.ingest_address
        return {
            "host": None if control[0] in _ANY else control[0],
            "control_port": control[1],
            "ingest_host": None if ingest[0] in _ANY else ingest[0],
            "ingest_port": ingest[1],
        }


def encode(status: dict[str, Any]) -> bytes:
    """Write it as compact JSON, of ASCII."""
    return json.dumps(status, separators=(",", ":"), allow_nan=False).encode()


@functools.lru_cache(4 * LISTED)
def shortened(address: Address) -> str:
    """Write an address as all may read it; port 0 is left out."""
    host, port = address[0].partition("%")[0], address[1]
    ip = ipaddress.ip_address(host)
    ip = getattr(ip, "ipv4_mapped", None) or ip
    host = str(ip)
    if not contains(PRIVATE, host) and not ip.is_multicast:
        if ip.version == 4:
            host = host.rpartition(".")[0] + ".x"
        else:
            host = ":".join(ip.exploded.split(":")[:3]) + "::x"
    return show((host, port)) if port else host


def _unplayable(monitor: Monitor) -> str | None:
    """Return the codec because of which no browser plays this stream, as far as tables tell."""
    selection = select(monitor.transport.tables.programs, None, patient=False)
    return selection.obstacle.name if selection and selection.obstacle else None


def discreet(evidence: str, source: Address) -> str:
    """Name the source in a sentence as all may read it."""
    return evidence.replace(show(source), shortened(source))


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)


def _worst(watchers: list[Watcher]) -> list[Watcher]:
    """Choose those to list, in the order in which they are."""
    if len(watchers) <= LISTED:
        return watchers
    rank = [(each.kind != FIXED, -each.lost, at) for at, each in enumerate(watchers)]
    return [watchers[at] for at in sorted(each[2] for each in heapq.nsmallest(LISTED, rank))]
