"""The state of the relay: a line in the log, and a sentence for the service manager."""

from collections.abc import Callable, Mapping
from typing import Any

import structlog

from relaylib.lifecycle import systemd
from relaylib.media.catalogue import sentence
from relaylib.net.address import show
from relaylib.net.loop import Loop
from relaylib.outputs.viewer_row import DEFERRED, STREAMING, UDP
from relaylib.snapshot import Kept, Observer, Snapshot

STATUS_PERIOD = 5.0
"""Seconds between two sentences to the service manager, which is told what changed."""

log = structlog.get_logger()


class Report:
    """Reports the state of the relay.

    `door` tells how many control connections were let in, and, by reason, what was declined;
    `failure` tells why the last reload failed, if it did.
    """

    def __init__(
        self,
        loop: Loop,
        observer: Observer,
        *,
        door: Callable[[], tuple[int, Mapping[str, int]]],
        failure: Callable[[], str],
    ) -> None:
        self._loop = loop
        self._observer = observer
        self._door = door
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
        now, audience = self._observer.fresh(), self._observer.audience()
        accepted, declined = self._door()
        active, rates, totals = now.source.address, now.rates, now.totals
        log.info(
            "report",
            uptime_s=round(now.time - now.begun),
            source=show(active) if active else None,
            in_mbps=round(rates.bits_in / 1e6, 2),
            in_datagrams_s=round(rates.datagrams_in, 1),
            out_mbps=round(rates.bits_out / 1e6, 2),
            out_datagrams_s=round(rates.datagrams_out, 1),
            received=totals.received,
            overflowed=totals.overflowed,
            rejected=now.source.rejected,
            viewers=audience.states(UDP),
            accepted=accepted,
            declined=dict(declined),
            dropped=audience.dropped,
            unreachable=audience.unreachable,
            **_of_stream(now),
            **_of_history(now.history),
        )

    # --- the sentence

    def _inform(self) -> None:
        sentence = self.sentence()
        if sentence != self._said:
            self._said = sentence
            systemd.notify(f"STATUS={sentence}")

    def sentence(self) -> str:
        """Say how it is; first of all that the last reload failed."""
        now, states = self._observer.snapshot(), self._observer.audience().states(UDP)
        watching = states.get(STREAMING, 0) + states.get(DEFERRED, 0)
        told = f"{now.word} ({sentence(now.verdict.evidence)}): " if now.verdict else ""
        failure = self._failure()
        return (
            f"{failure}; " * bool(failure)
            + f"{told}{now.bits_in / 1e6:.1f} Mb/s in, {watching} of {sum(states.values())} viewers"
        )


def _of_stream(now: Snapshot) -> dict[str, Any]:
    found, contents, source = now.totals.found, now.contents, now.source
    if now.verdict is None or found is None:
        return {}
    jitter = contents.rtp_jitter
    return {
        "verdict": now.word,
        "evidence": sentence(now.verdict.evidence),
        "form": source.form.value if source.form else None,
        "bitrate": contents.bitrate,
        "errors": {name: count for name, count in found.errors.items() if count},
        "lost": found.lost,
        "reordered": found.reordered,
        "duplicated": found.duplicated,
        "jitter_ms": None if jitter is None else round(jitter * 1000, 3),
        "access_points": found.access_points,
        "scrambled": found.scrambled,
        "unseen": found.unseen,
    }


def _of_history(kept: Kept) -> dict[str, Any]:
    if not kept.byte_count:
        return {}
    return {
        "history_s": round(kept.seconds, 1),
        "history_mib": round(kept.byte_count / (1 << 20), 1),
    }
