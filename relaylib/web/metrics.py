"""`/metrics`: the state of the relay for Prometheus. docs/STATUS.md has the table.

Numbers are read when they are asked for; only the times of the loop's turns are counted for this
alone. No label names a viewer or an address: there are about 150 series, for any number of viewers.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from relaylib import __version__
from relaylib.media.form import Form
from relaylib.media.tr101290 import NAMES
from relaylib.media.verdict import Word
from relaylib.net.histogram import Histogram
from relaylib.outputs.viewer_row import STATES
from relaylib.snapshot import Snapshot
from relaylib.source.gate import Presence
from relaylib.track.walk import Counts
from relaylib.web.parts import Parts
from relaylib.web.reply import Response
from relaylib.web.request import HttpRequest

FRESH = 0.25
"""Seconds for which one answer is given again."""

Samples = float | Mapping[str, float] | Mapping[tuple[str, ...], float]


class Metrics:
    """The resource `/metrics`."""

    def __init__(self, parts: Parts) -> None:
        registry = CollectorRegistry()
        registry.register(_Relay(parts))
        ProcessCollector(registry=registry)
        self._registry = registry
        self._made_at = -math.inf
        self._made = b""

    def respond(self, _request: HttpRequest, now: float) -> Response:
        """Tell everything."""
        if now - self._made_at >= FRESH:
            self._made, self._made_at = generate_latest(self._registry), now
        return Response(self._made, CONTENT_TYPE_LATEST, compress=True)


class _Relay(Collector):
    """The collector that prometheus_client asks at each scrape."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._lost = 0

    def describe(self) -> Iterable[Metric]:
        """Announce no metrics: each scrape shows what there is."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield everything."""
        now = self._parts.channel.observer.snapshot()
        yield from _of_relay(now)
        yield from _of_ingest(now)
        yield from self._of_health(now)
        yield from _of_history(now)
        yield from self._of_egress(now)
        yield from self._of_web()
        yield from self._of_loop()

    def _of_health(self, now: Snapshot) -> Iterator[Metric]:
        if now.verdict is None or now.totals.found is None:
            return
        words = {word.value: float(word is now.verdict.word) for word in Word}
        yield _gauge("verdict", "Whose fault it is: 1 at the word that holds", words, "word")
        yield from self._of_counts(now.totals.found)
        jitter = now.contents.rtp_jitter or 0.0
        yield _gauge("rtp_jitter_seconds", "RFC 3550, 6.4.1", jitter)
        jitter = now.contents.pcr_jitter or 0.0
        yield _gauge("pcr_jitter_seconds", "Least to most delayed PCR in ten seconds", jitter)

    def _of_counts(self, counts: Counts) -> Iterator[Metric]:
        errors = {name: counts.errors.get(name, 0) for name in NAMES}
        yield _counter("stream_errors", "Errors by their names in TR 101 290", errors, "name")
        self._lost = max(self._lost, counts.lost)  # a packet that comes late is not lost any more
        yield _counter("rtp_lost_packets", "RTP packets that did not come", self._lost)
        yield _counter("rtp_reordered_packets", "RTP packets that came late", counts.reordered)
        yield _counter("rtp_duplicated_packets", "RTP packets come twice", counts.duplicated)
        yield _counter("stream_scrambled_packets", "TS packets scrambled", counts.scrambled)
        yield _counter("stream_access_points", "Entry points", counts.access_points)
        yield _counter("stream_unseen_datagrams", "Datagrams not looked at", counts.unseen)

    def _of_egress(self, now: Snapshot) -> Iterator[Metric]:
        web, totals = self._parts.web(), now.totals
        counted = self._parts.channel.observer.audience().counts
        viewers: dict[tuple[str, ...], float] = {
            (kind, state): counted.get((kind, state), 0)
            for kind in STATES
            for state in STATES[kind]
        }
        yield _gauge("viewers", "Who gets the stream, or asked for it", viewers, "kind", "state")
        yield _counter("egress_datagrams", "Datagrams sent to all outputs", totals.sent)
        yield _counter(
            "dropped_datagrams",
            "Datagrams lost in the relay or its kernel, or sent to a closed port",
            {
                "receive_buffer": totals.overflowed,
                "send_buffer": totals.dropped,
                "unreachable": totals.unreachable,
            },
            "cause",
        )
        yield _counter(
            "overtaken",
            "How often who was behind had to leave something out",
            {"udp": totals.overtaken, "http": web.skipped_in_all},
            "kind",
        )
        door = self._parts.door()
        yield _counter("accepted_connections", "Connections let in",
                       {"control": door.accepted, "http": web.accepted}, "side")  # fmt: skip
        declined: dict[tuple[str, ...], float] = {
            (side, reason): count
            for side, counts in (("control", door.declined), ("http", web.declined))
            for reason, count in counts.items()
        }
        yield _counter("declined", "Connections and requests turned away", declined,
                       "side", "reason")  # fmt: skip

    def _of_web(self) -> Iterator[Metric]:
        web = self._parts.web()
        requests = dict[str, float](web.requests)
        yield _counter("http_responses", "Responses by status", requests, "status")
        yield _counter(
            "http_stream_bytes", "Bytes of streams and segments written", web.bytes_in_all
        )
        yield _gauge("http_connections", "Connections by HTTP", len(web.connections))

    def _of_loop(self) -> Iterator[Metric]:
        turns = self._parts.loop.turns
        yield _counter("loop_busy_seconds", "Time the loop worked: its rate is a share", turns.sum)
        yield _histogram("loop_turn_seconds", "A turn of the loop, waiting left out", turns)
        text = "From the read of a batch until all live outputs were sent it"
        yield _histogram("forward_seconds", text, self._parts.channel.forwarding)


def _of_relay(now: Snapshot) -> Iterator[Metric]:
    yield _gauge("build_info", "The program", {__version__: 1}, "version")
    uptime = now.time - now.begun
    yield _gauge("uptime_seconds", "Since the relay began, reloads included", uptime)


def _of_ingest(now: Snapshot) -> Iterator[Metric]:
    source, totals = now.source, now.totals
    active = source.presence is Presence.ACTIVE
    yield _gauge("source_active", "Whether a source sends", active)
    sent = source.form or Form.OPAQUE
    forms = {form.value: float(form is sent) for form in Form}
    yield _gauge("source_form", "What the source sends, or sent last", forms, "form")
    yield _counter("ingest_datagrams", "Datagrams of the stream that came", totals.received)
    yield _counter("ingest_bytes", "Bytes of the stream that came", totals.byte_count)
    rejected = source.rejected
    yield _counter("ingest_rejected_datagrams", "Others' datagrams, turned away", rejected)
    text = "Of these, from another port of the source's host, while the source was quiet"
    yield _counter("ingest_port_changed_datagrams", text, source.turned_away)


def _of_history(now: Snapshot) -> Iterator[Metric]:
    yield _gauge("history_seconds", "How much of the stream is kept", now.history.seconds)
    yield _gauge("history_bytes", "How much of the stream is kept", now.history.byte_count)


def _counter(name: str, text: str, samples: Samples, *labels: str) -> Metric:
    return _fill(CounterMetricFamily(f"relay_{name}", text, labels=labels), samples)


def _gauge(name: str, text: str, samples: Samples, *labels: str) -> Metric:
    return _fill(GaugeMetricFamily(f"relay_{name}", text, labels=labels), samples)


def _fill(family: CounterMetricFamily | GaugeMetricFamily, samples: Samples) -> Metric:
    if isinstance(samples, Mapping):
        for label, value in samples.items():
            family.add_metric((label,) if isinstance(label, str) else label, value)
    else:
        family.add_metric((), samples)
    return family


def _histogram(name: str, text: str, histogram: Histogram) -> Metric:
    bounds = [*map(str, histogram.bounds), "+Inf"]
    buckets = list(zip(bounds, accumulate(histogram.counts), strict=True))
    family = HistogramMetricFamily(f"relay_{name}", text)
    family.add_metric((), buckets, histogram.sum)
    return family
