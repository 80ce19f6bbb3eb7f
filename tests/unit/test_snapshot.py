"""How everything is, as one value: made seldom, and never of a source that is gone."""

import dataclasses
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from relaylib.media.form import Form
from relaylib.media.verdict import Evidence, Told, Verdict, Word
from relaylib.outputs.viewer_row import UDP, ViewerRow
from relaylib.snapshot import _AT_ONCE, FRESH, Contents, Observer
from relaylib.source.gate import Presence
from relaylib.track.health import Rates
from relaylib.track.walk import Counts

SOURCE = ("192.0.2.1", 5004)


class Parts:
    """A relay whose parts are as they are told to be."""

    def __init__(self, viewers: int = 0) -> None:
        self.now, self.reads, self.walks = 100.0, 0, 0
        self.loop = SimpleNamespace(
            time=lambda: self.now, wall_time=lambda: 1000.0 + self.now, read_priority=self.read
        )
        self.gate = SimpleNamespace(
            presence=Presence.ACTIVE,
            state=SimpleNamespace(active=SOURCE, since=90.0, rejected=3, turned_away=1),
        )
        self.ingest = SimpleNamespace(
            gate=self.gate,
            form=Form.TS,
            payload_type=None,
            received=7,
            buffer=SimpleNamespace(drops=SimpleNamespace(total=2)),
        )
        self.monitor = SimpleNamespace(datagrams=7, form=Form.TS)
        self.walk = SimpleNamespace(
            counts=Counts(lost=5), of_source=lambda: Counts(lost=1), present=self.monitor
        )
        self.health = SimpleNamespace(
            begun=10.0,
            since=95.0,
            verdict=Verdict(Word.HEALTHY, Told(Evidence.NOTHING_MISSING)),
            walk=self.walk,
            bits_in=8.0,
            rates=lambda: Rates(8.0, 1.0, 16.0, 2.0),
            sent=1,
            dropped=2,
            unreachable=3,
        )
        self.viewers = viewers
        self.observer = Observer(
            cast(Any, self.loop),
            cast(Any, self.ingest),
            cast(Any, SimpleNamespace(byte_count=1316)),
            cast(Any, self.health),
            history=None,
            track=None,
            by_http=True,
            deferred=cast(Any, SimpleNamespace(overtaken=0)),
            viewer_rows=self.everyone,
            outputs=lambda: (),
        )

    def read(self) -> None:
        """Be the ingest."""
        self.reads += 1

    def everyone(self) -> Iterator[ViewerRow]:
        """Tell of each viewer."""
        self.walks += 1
        for number in range(self.viewers):
            yield ViewerRow(number, UDP, "paused" if number % 4 else "streaming", SOURCE)


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> Parts:
    """A relay with a source; what is in the stream is not looked at."""
    monkeypatch.setattr(Observer, "_contents", lambda _self: Contents())
    return Parts()


def test_it_is_made_a_few_times_a_second_at_most(parts: Parts) -> None:
    """However many ask, until it is not fresh any more; nothing in it can be set."""
    first = parts.observer.snapshot()
    parts.now += FRESH / 2
    assert parts.observer.snapshot() is first
    parts.now += FRESH
    assert parts.observer.snapshot() is not first
    with pytest.raises(dataclasses.FrozenInstanceError):
        first.time = 0.0  # type: ignore[misc]


@pytest.mark.parametrize("change", ["presence", "active", "form", "verdict"])
def test_what_changes_the_answer_shows_at_once(parts: Parts, change: str) -> None:
    """Who asks ESTADO just when a source has come is told so."""
    first = parts.observer.snapshot()
    match change:
        case "presence":
            parts.gate.presence = Presence.SILENT
        case "active":
            parts.gate.state.active = ("192.0.2.2", 5004)
        case "form":
            parts.ingest.form = Form.RTP
        case "verdict":
            parts.health.verdict = Verdict(Word.SOURCE, Told(Evidence.CANNOT_TELL))
    assert parts.observer.snapshot() is not first


def test_values_are_what_the_parts_say(parts: Parts) -> None:
    """Errors are the present source's; what was before it is in the totals."""
    now = parts.observer.snapshot()
    assert (now.word, now.source.address, now.source.form) == ("healthy", SOURCE, Form.TS)
    assert now.errors is not None
    assert now.totals.found is not None
    assert (now.errors.lost, now.totals.found.lost, now.totals.overflowed) == (1, 5, 2)
    parts.health.verdict = None
    assert parts.observer.snapshot().word == "active"


@pytest.mark.parametrize(
    ("presence", "known", "form"),
    [
        (Presence.SILENT, True, Form.TS),
        (Presence.ABSENT, True, Form.TS),
        (Presence.ACTIVE, False, Form.TS),
        (Presence.ACTIVE, True, Form.OPAQUE),
        (Presence.ACTIVE, True, Form.RTP_OTHER),
    ],
)
def test_nothing_is_told_of_a_stream_that_does_not_come(
    presence: Presence, known: bool, form: Form
) -> None:
    """A source that is silent, or has just taken over, or sends no MPEG-TS, has no programs."""
    parts = Parts()
    parts.gate.presence, parts.monitor.form = presence, form
    parts.walk.present = parts.monitor if known else None
    assert parts.observer.snapshot().contents == Contents()


def test_viewers_are_looked_at_once_and_the_stream_passes_in_between() -> None:
    """A thousand of them are one walk for all who ask, with looks at the ingest in it."""
    parts = Parts(viewers=1000)
    audience = parts.observer.audience()
    assert parts.observer.audience() is audience
    assert (parts.walks, parts.reads) == (1, 1000 // _AT_ONCE)
    assert audience.states(UDP) == {"streaming": 250, "paused": 750}
    parts.now += FRESH
    assert parts.observer.audience() is not audience
    assert parts.walks == 2
