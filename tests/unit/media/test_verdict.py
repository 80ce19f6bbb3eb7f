"""Whose fault it is, from counts: each cause has its word, for as long as it lasts and a while."""

from dataclasses import replace

import pytest

from relaylib.media.catalogue import SENTENCES, sentence
from relaylib.media.verdict import (
    EXCUSED,
    FEW_TABLES,
    STALL,
    WINDOW,
    Evidence,
    Judge,
    Remedy,
    Seen,
    Told,
    Verdict,
    Word,
)

PERIOD = 0.4
REMEDY = Told(Remedy.LARGER_BUFFER, {"bytes": 8 << 20})
STOPPED = Told(Evidence.STOPPED, {"source": "192.0.2.1:5004"})


class Stream:
    """What is seen of a stream, step by step."""

    def __init__(self, last: Verdict | None = None, known: dict[str, int] | None = None) -> None:
        self.judge = Judge(REMEDY, last, known)
        self.seen = Seen(100.0)

    def go_on(self, seconds: float, **changes: object) -> list[Word]:
        """Change what is seen, and let it stay so; return the words that were said."""
        self.seen = replace(self.seen, **changes)  # type: ignore[arg-type]
        words = []
        for _ in range(max(1, round(seconds / PERIOD))):
            words.append(self.judge.step(self.seen).word)
            self.seen = replace(self.seen, now=self.seen.now + PERIOD)
        return words

    def count(self, **counts: int) -> dict[str, int]:
        """Return the errors, with so many more."""
        errors = dict(self.seen.errors)
        for name, count in counts.items():
            errors[name] = errors.get(name, 0) + count
        return errors


@pytest.fixture
def stream() -> Stream:
    """A stream that has been well for a while."""
    stream = Stream()
    assert set(stream.go_on(5)) == {Word.HEALTHY}
    return stream


def test_no_source_is_silence_and_ends_at_once() -> None:
    """Before the first datagram, and with it."""
    stream = Stream()
    assert set(stream.go_on(20, silence=Told(Evidence.NO_SOURCE))) == {Word.SILENCE}
    assert set(stream.go_on(20, silence=None)) == {Word.HEALTHY}


@pytest.mark.parametrize(
    "changes",
    [
        {"lost": 3},
        {"errors": {"Continuity_count_error": 3}},
        {"errors": {"TS_sync_loss": 3}},
        {"errors": {"PAT_error_2": FEW_TABLES}},
    ],
    ids=str,
)
def test_what_is_missing_is_the_source_s(stream: Stream, changes: dict[str, object]) -> None:
    """It is told within 2 s, with its count, and forgotten when the window has passed."""
    assert Word.SOURCE in stream.go_on(1.6, **changes)
    evidence = stream.judge.verdict.evidence
    assert evidence.key == Evidence.MISSING
    assert 3 in evidence.values.values()
    words = stream.go_on(WINDOW + 1)
    assert words == sorted(words, reverse=True)  # source, then healthy, and not back
    assert words[-1] is Word.HEALTHY


@pytest.mark.parametrize("name", ["PCR_repetition_error", "PTS_error", "PAT_error_2"])
def test_what_nobody_sees_is_no_fault(stream: Stream, name: str) -> None:
    """Clocks and time stamps that come seldom, or one table too late, are only counted."""
    assert set(stream.go_on(20, errors={name: 1})) == {Word.HEALTHY}


def test_a_late_packet_is_not_lost(stream: Stream) -> None:
    """What was missing and came is as if it had come in time."""
    stream.go_on(1, lost=1)
    stream.go_on(1, lost=0)
    assert stream.judge.verdict.word is Word.HEALTHY


@pytest.mark.parametrize("first", ["overflowed", "lost"])
def test_gaps_after_a_drop_of_ours_are_ours(stream: Stream, first: str) -> None:
    """Whichever is seen first: the full buffer explains what is missing then."""
    later = "lost" if first == "overflowed" else "overflowed"
    words = stream.go_on(PERIOD, **{first: 70})
    words += stream.go_on(PERIOD, **{later: 70})
    words += stream.go_on(EXCUSED / 2, errors=stream.count(Continuity_count_error=9))
    assert Word.RELAY in words
    words += stream.go_on(2 * WINDOW)
    assert set(words) == {Word.HEALTHY, Word.RELAY}
    assert words[-1] is Word.HEALTHY


def test_a_full_buffer_is_told_with_what_helps(stream: Stream) -> None:
    """The evidence has the count, and the remedy is the one that was given."""
    stream.go_on(PERIOD, overflowed=70)
    verdict = stream.judge.verdict
    assert verdict.evidence == Told(Evidence.BUFFER_FULL, {"dropped": 70, "window": WINDOW})
    assert verdict.remedy == REMEDY


def test_losses_long_after_a_drop_of_ours_are_the_source_s_again(stream: Stream) -> None:
    """One word at a time: the graver one first, then the other."""
    stream.go_on(EXCUSED + 2, overflowed=70)
    assert set(stream.go_on(WINDOW - EXCUSED - 3, lost=5)) == {Word.RELAY}
    words = stream.go_on(WINDOW)
    assert Word.SOURCE in words
    assert words[-1] is Word.HEALTHY


def test_standing_still_is_the_relay_s(stream: Stream) -> None:
    """And makes times of arrival worthless: tables that came late are not the source's fault."""
    words = stream.go_on(2 * PERIOD, stalled=STALL, errors={"PAT_error_2": 9})
    assert words == [Word.HEALTHY, Word.RELAY]
    assert set(stream.go_on(5)) == {Word.RELAY}
    assert set(stream.go_on(2 * WINDOW)[-5:]) == {Word.HEALTHY}


@pytest.mark.parametrize(
    ("outputs", "full", "hosts", "word"),
    [
        (1, 1, 1, Word.NETWORK),
        (4, 2, 2, Word.NETWORK),
        (4, 1, 1, Word.HEALTHY),
        (4, 4, 1, Word.NETWORK),
        (4, 4, 4, Word.RELAY),
        (0, 0, 0, Word.HEALTHY),
    ],
)
def test_full_outputs(stream: Stream, outputs: int, full: int, hosts: int, word: Word) -> None:
    """All, of several hosts: the relay's own link. Half, or one host: the ways to them."""
    assert stream.go_on(PERIOD, outputs=outputs, full=full, full_hosts=hosts) == [word]


def test_a_pause_is_not_told_twice(stream: Stream) -> None:
    """When a silent source sends again, what came late because of that is no fault."""
    stream.go_on(5, silence=STOPPED)
    words = stream.go_on(PERIOD, silence=None, errors={"PAT_error_2": 5, "PMT_error_2": 5})
    assert set(words + stream.go_on(20)) == {Word.HEALTHY}


def test_the_next_program_goes_on_with_the_verdict() -> None:
    """It says the same until the window has passed, unless there is something new."""
    last = Verdict(Word.SOURCE, Told(Evidence.MISSING, {"rtp_lost": 3, "window": WINDOW}))
    stream = Stream(last)
    words = stream.go_on(WINDOW - 1)
    assert set(words) == {Word.SOURCE}
    assert stream.judge.verdict == last
    assert stream.go_on(2)[-1] is Word.HEALTHY
    assert Stream(last).go_on(1, silence=STOPPED)[-1] is Word.SILENCE


# --- what comes out


def test_a_source_that_changes_its_port_is_told(stream: Stream) -> None:
    """Its datagrams are turned away while it is quiet: the source's, and what helps is named."""
    assert stream.go_on(PERIOD, turned_away=200) == [Word.SOURCE]
    _, evidence, remedy = stream.judge.verdict
    assert evidence == Told(Evidence.TURNED_AWAY, {"datagrams": 200, "window": WINDOW})
    assert remedy == Told(Remedy.KEEP_THE_PORT)
    assert stream.go_on(WINDOW + 1)[-1] is Word.HEALTHY


def test_it_is_told_through_each_takeover(stream: Stream) -> None:
    """What the same host's new port takes over from is the same source: the word stays."""
    words = []
    for turned_away in (100, 200, 300):
        words += stream.go_on(3, turned_away=turned_away)
        stream.judge.new_source(elsewhere=False)
    assert set(words) == {Word.SOURCE}
    stream.judge.new_source()
    assert stream.go_on(PERIOD) == [Word.HEALTHY]


def test_what_the_relay_s_reading_left_out_is_the_relay_s(stream: Stream) -> None:
    """Viewers by HTTP did not get it: it is not healthy."""
    assert stream.go_on(PERIOD, left_out=40) == [Word.RELAY]
    evidence = stream.judge.verdict.evidence
    assert evidence == Told(Evidence.LEFT_OUT, {"datagrams": 40, "window": WINDOW})


def test_rtp_without_mpeg_ts_is_the_source_s_as_long_as_it_comes(stream: Stream) -> None:
    """The payload type is named; a stream that can be played ends it at once."""
    assert set(stream.go_on(3, payload_type=96)) == {Word.SOURCE}
    evidence = stream.judge.verdict.evidence
    assert sentence(evidence) == "RTP without MPEG-TS (payload type 96)"
    assert stream.go_on(PERIOD, payload_type=None) == [Word.HEALTHY]


# --- the end of a source


@pytest.mark.parametrize("changes", [{"lost": 3}, {"errors": {"Continuity_count_error": 3}}])
def test_what_is_missing_ends_with_its_source(stream: Stream, changes: dict[str, object]) -> None:
    """Another source has nothing to do with it, not even with what is counted late."""
    assert Word.SOURCE in stream.go_on(1.6, **changes)
    stream.judge.new_source()
    later = {"lost": 9} if "lost" in changes else {"errors": {"Continuity_count_error": 9}}
    assert set(stream.go_on(5, **later)) == {Word.HEALTHY}
    later = {"lost": 12} if "lost" in changes else {"errors": {"Continuity_count_error": 12}}
    assert Word.SOURCE in stream.go_on(1.6, **later)


def test_what_this_machine_did_does_not_end_with_a_source(stream: Stream) -> None:
    """A full buffer is the relay's, whoever sends."""
    stream.go_on(PERIOD, overflowed=70)
    stream.judge.new_source()
    assert stream.go_on(PERIOD, overflowed=90) == [Word.RELAY]
    assert stream.judge.verdict.evidence.values["dropped"] == 90


def test_a_verdict_that_was_handed_over_ends_with_its_source() -> None:
    """The previous program's word was about the former source."""
    stream = Stream(Verdict(Word.SOURCE, Told(Evidence.INHERITED)))
    assert stream.go_on(1)[-1] is Word.SOURCE
    stream.judge.new_source()
    assert stream.go_on(PERIOD) == [Word.HEALTHY]


# --- sentences


def test_every_key_has_a_sentence() -> None:
    """Evidence and remedies, all of them, and no other."""
    assert SENTENCES.keys() == {*Evidence, *Remedy}
    assert len(SENTENCES) == len(Evidence) + len(Remedy)


def test_counts_are_told_by_name() -> None:
    """Those of TR 101 290 as they are called there, lost packets in words."""
    told = Told(Evidence.MISSING, {"Continuity_count_error": 3, "rtp_lost": 29, "window": 10.0})
    assert sentence(told) == (
        "before the relay in the last 10 s: 3 Continuity_count_error, 29 RTP packets lost"
    )


def test_what_another_version_says_is_left_out() -> None:
    """A key that is not known here, or lacks a value, has no sentence."""
    assert sentence(Told("sunspots")) == ""
    assert sentence(Told(Evidence.BUFFER_FULL)) == ""
    assert sentence(None) == ""


@pytest.mark.parametrize("name", ["overflowed", "left_out"])
@pytest.mark.parametrize(("total", "word"), [(7, Word.HEALTHY), (9, Word.RELAY)])
def test_what_a_reload_loses_is_its_doing(name: str, total: int, word: Word) -> None:
    """What is more at the first look than the previous program knew was lost meanwhile."""
    healthy = Verdict(Word.HEALTHY, Told(Evidence.NOTHING_MISSING))
    stream = Stream(healthy, {name: 7})
    assert stream.go_on(PERIOD, **{name: total}) == [word]
