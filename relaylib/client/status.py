"""The state of the session as a person reads it: a few rows, for a given width. Pure.

It is made of the pairs of ESTADO. Relays of other versions tell fewer pairs or others: what is
missing has no row, and a word that is not known is shown as it came.
"""

import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from relaylib.client.dialogue import NO_MPEG_TS, SECONDS
from relaylib.client.messages import say, text
from relaylib.protocol import words

NARROWEST = 8
"""Columns that a value gets at least, however narrow the terminal."""

RULE = 60
"""Columns of the rule above the rows, and of a value: longer lines are hard to read."""

SHORT = 0.5
"""Seconds between two reports that are too few to tell a rate from."""


class Tone(StrEnum):
    """The meaning of a span, for its painter."""

    PLAIN = "plain"
    LABEL = "label"
    GOOD = "good"
    WARN = "warn"
    BAD = "bad"


Span = tuple[str, Tone]
Row = tuple[Span, ...]

_STATES: dict[str, tuple[str, Tone]] = {
    "idle": (text("idle: CONECTAR brings the stream"), Tone.PLAIN),
    "streaming": (text("streaming"), Tone.GOOD),
    "paused": (text("paused: CONTINUAR goes on"), Tone.WARN),
    "deferred": (text("behind live: CONTINUAR is live again"), Tone.GOOD),
}
_SOURCES: dict[str, tuple[str, Tone]] = {
    "active": (text("sending"), Tone.GOOD),
    "silent": (text("silent: nothing comes until it sends again"), Tone.BAD),
    "absent": (text("none: nothing comes until somebody sends a stream"), Tone.BAD),
}
_FORMS = {
    "rtp": text("RTP"),
    "ts": text("MPEG-TS"),
    "opaque": text("not recognised"),
}
_HEALTH: dict[str, tuple[str, Tone]] = {
    "healthy": (text("good: nothing is missing"), Tone.GOOD),
    "source": (
        text("the source: what comes from it has gaps or damage; look at the encoder, and at the "
             "network before the relay"),
        Tone.BAD,
    ),
    "relay": (
        text("the relay: it dropped something or stood still; its log says what helps"),
        Tone.BAD,
    ),
    "network": (
        text("your network: not everything gets through to you; look at the link and the player"),
        Tone.BAD,
    ),
    "silence": (text("no stream: start the source"), Tone.WARN),
    "unknown": (text("not looked at (--no-inspect)"), Tone.PLAIN),
}  # fmt: skip


@dataclass(slots=True)
class Counter:
    """A count of the relay's, and how fast it grows: None until that is known."""

    count: int | None = None
    rate: float | None = None
    _at: float = 0.0

    def take(self, word: str | None, now: float) -> None:
        """Take the count as the relay told it; a smaller one is of another session."""
        count = int(word) if word is not None and word.isascii() and word.isdecimal() else None
        before, self.count = self.count, count
        if before is None or count is None or count < before:
            self.rate = None
        elif now - self._at < SHORT:
            self.count = before  # and wait for a better look
            return
        else:
            self.rate = (count - before) / (now - self._at)
        self._at = now


class ToldStatus:
    """The relay's last report. `away`, where not empty, says why it tells nothing at present."""

    def __init__(self, relay: str) -> None:
        self.facts: Mapping[str, str] = {}
        self.away = ""
        self._relay = relay
        self._sent = Counter()
        self._lost = Counter()

    def take(self, facts: Mapping[str, str], now: float) -> None:
        """Take the pairs of a report that came now."""
        self.facts, self.away = facts, ""
        self._sent.take(facts.get("enviados"), now)
        self._lost.take(facts.get("perdidos"), now)

    def shape(self) -> tuple[object, ...]:
        """What is worth another block where blocks are printed one below the other."""
        changing = ("enviados", "retraso")
        kept = {key: value for key, value in self.facts.items() if key not in changing}
        return (bool(self.away), kept)

    def rows(self, width: int, height: int = 100) -> list[Row]:
        """Lay the block out in rows of less than `width` columns, at most `height` of them."""
        items = [(label, *value) for label, value in self._items()]
        indent = max((len(label) for label, _, _ in items), default=0) + 2
        indent = min(indent, max(0, width - 1 - NARROWEST))
        rows = [self._title(width)]
        for label, said, tone in items:
            rows += _item(label[: max(0, indent - 1)], said, tone, indent, width)
        return rows[: max(0, height)]

    def _title(self, width: int) -> Row:
        name = _safe(self._relay)[: max(0, width - 5)]
        rule = "-" * min(RULE - len(name), width - 5 - len(name))
        return (("-- ", Tone.LABEL), (name, Tone.PLAIN), (f" {rule}", Tone.LABEL))

    def _items(self) -> Iterator[tuple[str, tuple[str, Tone]]]:
        facts = self.facts
        if self.away:
            yield say("relay"), (self.away, Tone.BAD)
            return
        if word := facts.get("estado"):
            yield say("state"), _known(_STATES, words.STATES, word)
        if (word := facts.get("destino")) and word != "-":
            yield say("goes to"), (_safe(word), Tone.PLAIN)
        if self._sent.count is not None:
            yield say("sent"), (_counted(self._sent), Tone.PLAIN)
        if self._lost.count is not None:
            tone = Tone.BAD if self._lost.rate else Tone.PLAIN
            yield say("lost"), (_counted(self._lost), tone)
        if word := facts.get("fuente"):
            yield say("source"), _known(_SOURCES, words.PRESENCES, word)
        if word := facts.get("forma"):
            yield say("form"), self._form(word)
        if word := facts.get("salud"):
            yield say("health"), self._health(word)
        if (word := facts.get("retraso")) and word != "-":
            yield say("delay"), (_delay(word), Tone.PLAIN)

    def _form(self, word: str) -> tuple[str, Tone]:
        value = words.english(words.FORMS, word)
        if value == "rtp_other":
            return say(NO_MPEG_TS, kind=_safe(self.facts.get("tipo", "?"))), Tone.BAD
        known = _FORMS.get(value)
        return (say(known) if known else _safe(word)), Tone.PLAIN

    def _health(self, word: str) -> tuple[str, Tone]:
        wrong_form = words.english(words.FORMS, self.facts.get("forma", "")) == "rtp_other"
        if wrong_form and words.english(words.HEALTH, word) == "source":
            return say("the source: nobody can play the form of its stream like this"), Tone.BAD
        return _known(_HEALTH, words.HEALTH, word)


def _known(
    table: Mapping[str, tuple[str, Tone]], values: Mapping[str, str], word: str
) -> tuple[str, Tone]:
    known = table.get(words.english(values, word))
    return (say(known[0]), known[1]) if known else (_safe(word), Tone.PLAIN)


def _safe(word: str) -> str:
    """The relay's words are ASCII: then a character is a column."""
    return word.encode("ascii", "backslashreplace").decode("ascii")


def _counted(counter: Counter) -> str:
    count = say("{count} datagrams", count=_grouped(counter.count or 0))
    if counter.rate is None:
        return count
    return say("{count}, {rate}/s", count=count, rate=_grouped(round(counter.rate)))


def _grouped(number: int) -> str:
    return f"{number:,}".replace(",", say(","))


def _delay(word: str) -> str:
    if not SECONDS.fullmatch(word):
        return _safe(word)
    if not (seconds := float(word)):
        return say("none: live")
    return say("{seconds:.0f} s behind live", seconds=seconds)


def _item(label: str, said: str, tone: Tone, indent: int, width: int) -> Iterator[Row]:
    lines = textwrap.wrap(said, max(NARROWEST, min(RULE, width - 1 - indent))) or [""]
    for line in lines:
        yield ((label.ljust(indent), Tone.LABEL), (line, tone))
        label = ""
