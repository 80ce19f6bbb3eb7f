"""`/status.json`: everything that the page shows. docs/STATUS.md says what each name means.

It is made at most four times a second, for any number of requests, and of no more viewers than a
page can show; so its cost is bounded. All who may watch may read it: other clients' addresses are
shortened to their networks.
"""

import functools
import heapq
import ipaddress
import json
import math
from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

from relaylib import __version__
from relaylib.media.tr101290 import NAMES
from relaylib.media.verdict import Told
from relaylib.net.address import Address, show
from relaylib.net.networks import PRIVATE, contains
from relaylib.outputs.viewer_row import FIXED, HTTP, KINDS, ViewerRow
from relaylib.snapshot import Audience, ElementaryFacts, Kept, ProgramFacts, Snapshot, SourceFacts
from relaylib.track.walk import Counts
from relaylib.web.parts import Parts
from relaylib.web.reply import Response
from relaylib.web.request import HttpRequest
from relaylib.web.series import Series

VERSION = 2
"""Version of the object. 1 had the wire's Spanish words, English sentences, and no own number."""

KIND = "application/json"

FRESH = 0.25
"""Seconds for which one answer is given again."""

LISTED = 100
"""Viewers that are listed: 25 KB, and more than a person reads."""

SAMPLE = 0.7
"""Seconds over which a viewer's rate is measured, at least."""

_ANY = ("0.0.0.0", "::", "")


class _Sample(NamedTuple):
    """The last measurement of a listed viewer."""

    number: int
    time: float
    sent: int
    rate: float | None = None


class StatusResource:
    """The resource `/status.json`."""

    def __init__(self, parts: Parts, series: Series) -> None:
        self._parts = parts
        self._series = series
        self._made_at = -math.inf
        self._made = b""
        self._samples: dict[Hashable, _Sample] = {}
        self._numbers = 0

    def respond(self, _request: HttpRequest, now: float) -> Response:
        """Tell everything."""
        return Response(self.encoded(now), KIND, compress=True)

    def encoded(self, now: float) -> bytes:
        """Return the whole object as JSON."""
        if now - self._made_at >= FRESH:
            self._made, self._made_at = encode(self.build()), now
        return self._made

    def build(self, since: int = 0) -> dict[str, Any]:
        """Make the object, with the points of the series behind the second `since`."""
        observer = self._parts.channel.observer
        now, audience = observer.snapshot(), observer.audience()
        return {
            "version": VERSION,
            "now": round(now.date, 3),
            "uptime_s": round(now.time - now.begun, 1),
            "verdict": self._verdict(now),
            "source": self._source(now.source),
            "stream": _stream(now),
            "errors": _errors(now.errors),
            "totals": {
                **_errors(now.totals.found),
                "overflowed": now.totals.overflowed,
                "received": now.totals.received,
            },
            "history": _history(now.history),
            "viewers": self._viewers(audience, now),
            "egress": self._egress(now),
            "relay": {"version": __version__, "busy": round(self._series.busy, 4)},
            "watch": self._watch(),
            "series": self._series.since(since),
        }

    def _date(self, time: float | None) -> float | None:
        """Convert a time of the loop's clock to a date."""
        return None if time is None else round(time + self._parts.loop.epoch() / 1e9, 3)

    # --- the stream

    def _verdict(self, now: Snapshot) -> dict[str, Any]:
        if now.verdict is None:
            return {"word": now.word, "evidence": None, "remedy": None, "since": None}
        _, evidence, remedy = now.verdict
        return {
            "word": now.word,
            "evidence": _told(evidence, now.source.address),
            "remedy": _told(remedy, now.source.address),
            "since": self._date(now.since),
        }

    def _source(self, source: SourceFacts) -> dict[str, Any]:
        return {
            "presence": source.presence.value,
            "address": shortened(source.address) if source.address else None,
            "form": source.form.value if source.form else None,
            "payload_type": source.payload_type,
            "since": self._date(source.since),
            "rejected": source.rejected,
            "turned_away": source.turned_away,
        }

    # --- the viewers

    def _viewers(self, audience: Audience, now: Snapshot) -> dict[str, Any]:
        chosen, rates = _worst(audience.rows), now.rates
        size = rates.bits_in / rates.datagrams_in if rates.datagrams_in else 0.0
        self._sample(chosen, now.time, size)
        return {
            "total": len(audience.rows),
            "counts": {kind: audience.states(kind) for kind in KINDS},
            "list": [self._viewer(each, now.time) for each in chosen],
        }

    def _sample(self, chosen: Sequence[ViewerRow], now: float, size: float) -> None:
        """Measure what viewers are sent; `size` is that of a datagram, in bits."""
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

    def _viewer(self, row: ViewerRow, now: float) -> dict[str, Any]:
        sample, where = self._samples[row.same], row.destination
        return {
            "id": f"{row.kind}{sample.number}",
            "kind": row.kind,
            "client": shortened(row.client) if row.client else None,
            "destination": shortened(where) if isinstance(where, tuple) else where,
            "state": row.state,
            "delay_s": None if row.delay is None else round(row.delay, 2),
            "bitrate": None if sample.rate is None else round(sample.rate),
            "sent": row.sent,
            "dropped": row.lost,
            "unit": "bytes" if row.kind == HTTP else "datagrams",
            "seconds": round(max(0.0, now - row.since), 1),
        }

    def _egress(self, now: Snapshot) -> dict[str, Any]:
        udp, http = now.rates.bits_out, self._series.http_bitrate
        return {
            "bitrate": round(udp + http),
            "udp_bitrate": round(udp),
            "http_bitrate": round(http),
        }

    def _watch(self) -> dict[str, Any]:
        control, ingest = self._parts.door().address, self._parts.channel.address
        return {
            "host": None if control[0] in _ANY else control[0],
            "control_port": control[1],
            "ingest_host": None if ingest[0] in _ANY else ingest[0],
            "ingest_port": ingest[1],
        }


def encode(status: dict[str, Any]) -> bytes:
    """Write the object as compact JSON, in ASCII."""
    return json.dumps(status, separators=(",", ":"), allow_nan=False).encode()


@functools.lru_cache(4 * LISTED)
def shortened(address: Address) -> str:
    """Write an address as all may read it, without port 0."""
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


def _told(told: Told | None, source: Address | None) -> dict[str, Any] | None:
    """Write evidence or a remedy; the source's address is shortened."""
    if told is None:
        return None
    values = dict(told.values)
    if "source" in values and source is not None:
        values["source"] = shortened(source)
    return {"key": str(told.key), "values": values}


def _stream(now: Snapshot) -> dict[str, Any]:
    contents, rates = now.contents, now.rates
    return {
        "bitrate": round(now.bits_in),
        "bitrate_10s": round(rates.bits_in),
        "datagrams_s": round(rates.datagrams_in, 1),
        "programs": [_program(each) for each in contents.programs],
        "unplayable": contents.unplayable,
        "random_access_s": _rounded(contents.random_access),
        "rtp_jitter_ms": _ms(contents.rtp_jitter),
        "pcr_jitter_ms": _ms(contents.pcr_jitter),
    }


def _program(program: ProgramFacts) -> dict[str, Any]:
    return {
        "number": program.number,
        "pmt_pid": program.pmt_pid,
        "pcr_pid": program.pcr_pid,
        "streams": [_elementary(each) for each in program.streams],
    }


def _elementary(stream: ElementaryFacts) -> dict[str, Any]:
    return {
        "pid": stream.pid,
        "kind": stream.kind,
        "codec": stream.codec,
        "width": stream.width,
        "height": stream.height,
        "fps": None if stream.fps is None else round(stream.fps, 2),
        "bitrate": round(stream.bitrate),
    }


def _errors(counts: Counts | None) -> dict[str, Any]:
    counts = counts or Counts()
    return {
        "tr_101_290": {name: counts.errors.get(name, 0) for name in NAMES},
        "lost": counts.lost,
        "reordered": counts.reordered,
        "duplicated": counts.duplicated,
        "scrambled": counts.scrambled,
        "unseen": counts.unseen,
    }


def _history(kept: Kept) -> dict[str, Any]:
    return {
        "seconds": round(kept.seconds, 1),
        "bytes": kept.byte_count,
        "limit_s": kept.limit_s,
        "limit_bytes": kept.limit_bytes,
        "points": kept.points,
    }


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, 3)


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)


def _worst(rows: Sequence[ViewerRow]) -> Sequence[ViewerRow]:
    """Choose the viewers to list, worst first."""
    if len(rows) <= LISTED:
        return rows
    rank = [(each.kind != FIXED, -each.lost, at) for at, each in enumerate(rows)]
    return [rows[at] for at in sorted(each[2] for each in heapq.nsmallest(LISTED, rank))]
