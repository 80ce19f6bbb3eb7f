"""The wire's words: each value of the program has one, and is found again by it."""

from collections.abc import Mapping
from enum import Enum

import pytest

from relaylib.media.form import Form
from relaylib.media.verdict import Word
from relaylib.protocol import words
from relaylib.protocol.session import State
from relaylib.source.gate import Presence
from relaylib.track.health import UNKNOWN


@pytest.mark.parametrize(
    ("table", "values"),
    [
        (words.STATES, State),
        (words.PRESENCES, Presence),
        (words.FORMS, Form),
        (words.HEALTH, Word),
    ],
)
def test_every_value_has_a_word(table: Mapping[str, str], values: type[Enum]) -> None:
    """And no two have the same one: who reads it knows the value."""
    known = {each.value for each in values}
    assert known == table.keys() - {UNKNOWN}
    for value, word in table.items():
        assert word.isascii()
        assert words.english(table, word) == value
        assert words.spanish(table, value) == word


def test_what_is_not_known_stays_as_it_is() -> None:
    """Relays and clients of other versions have other words."""
    assert words.english(words.HEALTH, "regular") == "regular"
    assert words.spanish(words.FORMS, "srt") == "srt"


def test_the_pairs_of_the_stream() -> None:
    """As PROTOCOL.md has them; the payload type only where there is one."""
    assert words.stream_pairs("absent", "opaque", None, "silence") == (
        "fuente=ausente forma=opaca salud=silencio"
    )
    assert words.stream_pairs("active", "rtp_other", 96, "source") == (
        "fuente=activa forma=rtp-sin-ts tipo=96 salud=fuente"
    )
    assert words.stream_pairs("active", "ts", None, UNKNOWN).endswith(" salud=-")
