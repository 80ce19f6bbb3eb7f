"""One line of everything, when asked for or regularly; a sentence for the service manager."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import structlog

from relaylib.channel import Channel
from relaylib.lifecycle import systemd
from relaylib.net.address import show
from relaylib.net.loop import Loop
from relaylib.viewers.server import Server

STATUS_PERIOD = 5.0
"""Seconds between two sentences to the service manager, which is told what changed."""

log = structlog.get_logger()


class Report:
    """Says how everything is.

    `failure` tells why the last restart failed, if it did.
    """

    def __init__(
        self, loop: Loop, channel: Channel, server: Server, *, failure: Callable[[], str]
    ) -> None:
        self._loop = loop
        self._health = channel.health
        self._server = server
        self._ingest = channel.ingest
        self._history = channel.history
        self._outputs = channel.outputs
        self._failure = failure
        self._said = ""

    def begin(self, period: float | None) -> None:
        """Keep the service manager informed, and log the line every `period` seconds."""
        self._loop.call_every(STATUS_PERIOD, self._inform)
        if period is not None:
            self._loop.call_every(period, self.log)

    # --- the line

    def log(self) -> None:
        """Log it."""
        rates, server, ingest = self._health.rates(), self._server, self._ingest
        counters = [output.counters for output in self._outputs()]
        active = ingest.lock.state.active
        log.info(
            "report",
            uptime_s=round(self._loop.time() - self._health.begun),
            source=show(active) if active else None,
            in_mbps=round(rates.bits_in / 1e6, 2),
            in_datagrams_s=round(rates.datagrams_in, 1),
            out_mbps=round(rates.bits_out / 1e6, 2),
            out_datagrams_s=round(rates.datagrams_out, 1),
            received=ingest.received,
            overflowed=ingest.buffer.drops.total,
            rejected=ingest.lock.state.rejected,
            viewers=self._viewers(),
            accepted=server.accepted,
            declined=dict(server.declined),
            dropped=sum(each.dropped for each in counters),
            unreachable=sum(each.unreachable for each in counters),
            **self._of_health(),
            **self._of_history(),
        )

    def _viewers(self) -> dict[str, int]:
        """Count them by state, in the log's language."""
        return dict(Counter(each.session.state.name.lower() for each in self._server.clients))

    def _of_health(self) -> dict[str, Any]:
        inspection, verdict = self._health.inspection, self._health.verdict
        if inspection is None or verdict is None:
            return {}
        counts, report = inspection.counts, inspection.monitor.report()
        return {
            "verdict": verdict.word.value,
            "evidence": verdict.evidence,
            "form": report.form.value if report.form else None,
            "bitrate": report.ts.bitrate if report.ts else None,
            "errors": {name: count for name, count in counts.errors.items() if count},
            "lost": counts.lost,
            "reordered": counts.reordered,
            "duplicated": counts.duplicated,
            "jitter_ms": report.rtp.jitter_ms if report.rtp else None,
            "access_points": counts.access_points,
            "scrambled": counts.scrambled,
            "unseen": counts.unseen,
        }

    def _of_history(self) -> dict[str, Any]:
        history = self._history
        if history is None or history.oldest == history.end:
            return {}
        first, last = history[history.oldest], history[history.end - 1]
        octets = last.start + last.octets - first.start
        return {
            "history_s": round(last.time - first.time, 1),
            "history_mib": round(octets / (1 << 20), 1),
        }

    # --- the sentence

    def _inform(self) -> None:
        sentence = self.sentence()
        if sentence != self._said:
            self._said = sentence
            systemd.notify(f"STATUS={sentence}")

    def sentence(self) -> str:
        """Say how it is; first of all that the last restart failed."""
        verdict, rate = self._health.verdict, self._health.rates().bits_in
        states = self._viewers()
        watching = states.get("streaming", 0) + states.get("deferred", 0)
        parts = [f"{rate / 1e6:.1f} Mb/s in", f"{watching} of {len(self._server.clients)} viewers"]
        word = f"{verdict.word.value} ({verdict.evidence}): " if verdict else ""
        failure = self._failure()
        return (f"{failure}; " if failure else "") + word + ", ".join(parts)
