"""The HLS playlist (RFC 8216): where the stream is cut, and what describes its segments. Pure.

A segment begins where decoding can start, and the next one begins at the first such place that is
`LEAST` seconds of video later. Its length comes from the time stamps, not from the network. Where
the video does not go on (another source, a silence, a clock that jumped, other streams in it) a
segment ends early, and the next one is a discontinuity (4.3.2.3).

The numbers of segments only grow, and a number stands for the same bytes as long as the run has
its name. The playlist is a value, so a reload hands it over as it is.

RFC 8216 wants the target duration to stay as it is (6.2.1), and no segment to be longer (4.3.3.1).
A live source may make both impossible: VLC's next group of pictures may be four times as long as
any before. Then the second rule is kept, as players need it: the target duration grows, and never
shrinks. To keep the first rule, segments would have to begin where no decoder can start.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from relaylib.media import psi
from relaylib.media.mpegts import PTS_HZ, PTS_WRAP

LEAST = 0.95
"""Seconds of video in a segment, or more: with a keyframe every second, a segment a second."""

TARGET = 2
"""Seconds of target duration, at least. Players begin three such durations before the end
(6.3.3)."""

DOUBT = 1.0
"""Seconds that time stamps may be ahead of the time that passed before they have jumped."""

CATCH_UP = 10.0
"""Seconds that time stamps may make up besides: packets held up on their way come in a burst."""

_DRIFT = 0.5
"""Seconds between the sum of the segments and the wall clock above which the clock is followed."""

_SHORTEST, _FADES = 0.001, 0.99


@dataclass(frozen=True, slots=True)
class Mark:
    """A place where decoding can start, after `tables`: place `at` of the track, which arrived at
    `time` (seconds of the loop's clock) and has the time stamp `stamp` (ticks of PTS_HZ).

    `ended`: the stream before does not lead here; it ended at this place. `before` is when the last
    byte before arrived.
    """

    at: int
    time: float
    stamp: int | None
    tables: bytes
    before: float
    ended: int | None = None


@dataclass(frozen=True, slots=True)
class Segment:
    """The track from one place to another, after `tables`. It arrived from `time` on, and lasts
    `duration` seconds.

    `date` is that of its beginning, in seconds since 1970. `timeline` counts discontinuities up to
    here; if it `breaks`, the last of them is at this segment.
    """

    sequence: int
    begin: int
    end: int
    tables: bytes
    time: float
    duration: float
    date: float
    timeline: int
    breaks: bool


@dataclass(slots=True)
class Playlist:
    """The segments of a `run`. `target` is the target duration; 0 until a playlist was given out.

    `segments` are those whose bytes are there, `sequence` is the number of the next one, which
    began at `begun` and lasts `elapsed` seconds up to `latest`. `late`: seconds by which that
    mark was late.
    """

    run: str
    target: int = 0
    segments: list[Segment] = field(default_factory=list)
    sequence: int = 0
    timeline: int = 0
    begun: Mark | None = None
    latest: Mark | None = None
    elapsed: float = 0.0
    date: float = 0.0
    breaks: bool = False
    late: float = 0.0

    # --- cutting

    def take(self, mark: Mark, epoch: float) -> None:
        """Take the next place where decoding can start; `epoch` is the date of the loop's zero."""
        if self.begun is None or self.latest is None:
            self._begin(mark, epoch, breaks=self.sequence > 0)
        else:
            lost = mark.ended is not None or self._jumped(self.latest, mark)
            self.late = self._late(self.latest, mark)
            self.elapsed += (self._tail if lost else _step)(self.latest, mark)
            breaks = lost or _other_streams(self.latest, mark)
            if breaks or self.elapsed >= LEAST:
                self._close(self.begun, mark.at if mark.ended is None else mark.ended)
                self._begin(mark, epoch, breaks=breaks)
        self.latest = mark

    def abandon(self) -> None:
        """Forget the segment under way: its bytes are gone."""
        self.begun = self.latest = None

    def forget(self, oldest: int) -> None:
        """Forget the segments that begin before this place: their bytes are gone."""
        while self.segments and self.segments[0].begin < oldest:
            del self.segments[0]
        if self.begun is not None and self.begun.at < oldest:
            self.abandon()

    def _begin(self, mark: Mark, epoch: float, *, breaks: bool) -> None:
        expected, arrived = self.date + self.elapsed, mark.time + epoch
        goes_on = not breaks and abs(expected - arrived) < _DRIFT
        self.date = expected if goes_on else arrived
        self.begun, self.elapsed, self.breaks = mark, 0.0, breaks
        self.timeline += breaks

    def _jumped(self, latest: Mark, mark: Mark) -> bool:
        """Tell whether the clock jumped: backwards, or further than time has passed."""
        return self._late(latest, mark) < -DOUBT

    def _late(self, latest: Mark, mark: Mark) -> float:
        late = _FADES * max(0.0, self.late)  # otherwise a slow clock would add up
        return min(CATCH_UP, late + mark.time - latest.time - _step(latest, mark))

    def _tail(self, latest: Mark, mark: Mark) -> float:
        """Estimate the video behind the latest mark: nothing after that has a known time."""
        tail = max(0.0, mark.before - latest.time)
        return min(tail, max(0.0, self.target - self.elapsed)) if self.target else tail

    def _close(self, begun: Mark, end: int) -> None:
        self.elapsed = max(_SHORTEST, self.elapsed)
        self.segments.append(
            Segment(
                self.sequence, begun.at, end, begun.tables, begun.time,
                self.elapsed, self.date, self.timeline, self.breaks,
            )
        )  # fmt: skip
        self.sequence += 1
        if self.target:
            self.target = max(self.target, _rounded(self.elapsed))

    # --- telling

    def find(self, sequence: int) -> Segment | None:
        """Return a segment whose bytes are there."""
        at = sequence - self.segments[0].sequence if self.segments else -1
        return self.segments[at] if 0 <= at < len(self.segments) else None

    def listed(self, since: float) -> list[Segment]:
        """Return the segments that arrived from `since` on."""
        return [each for each in self.segments if each.time >= since]

    def text(self, listed: list[Segment], prefix: str, dated: Callable[[float], str]) -> str:
        """Write the playlist of these segments, of which there is at least one; `prefix` is the
        path before their names, `dated` writes seconds since 1970 as ISO 8601.
        """
        self.target = self.target or max(TARGET, *(_rounded(each.duration) for each in listed))
        return "\n".join([*self._lines(listed, prefix, dated), ""])

    def _lines(
        self, listed: list[Segment], prefix: str, dated: Callable[[float], str]
    ) -> Iterator[str]:
        first = listed[0]
        yield "#EXTM3U"
        yield "#EXT-X-VERSION:3"
        yield f"#EXT-X-TARGETDURATION:{self.target}"
        yield f"#EXT-X-MEDIA-SEQUENCE:{first.sequence}"
        yield f"#EXT-X-DISCONTINUITY-SEQUENCE:{first.timeline - first.breaks}"
        yield "#EXT-X-INDEPENDENT-SEGMENTS"
        for each in listed:
            if each.breaks:
                yield "#EXT-X-DISCONTINUITY"
            yield f"#EXT-X-PROGRAM-DATE-TIME:{dated(each.date)}"
            yield f"#EXTINF:{each.duration:.3f},"
            yield f"{prefix}{self.run}/{each.sequence}.ts"


def _step(latest: Mark, mark: Mark) -> float:
    """Return the seconds of video between two marks of one timeline."""
    if latest.stamp is None or mark.stamp is None or latest.stamp == mark.stamp:
        return mark.time - latest.time
    return (mark.stamp - latest.stamp) % PTS_WRAP / PTS_HZ


def _other_streams(latest: Mark, mark: Mark) -> bool:
    """Tell whether a program has other streams. Tables mostly differ by their counters only."""
    before, now = psi.maps(latest.tables), psi.maps(mark.tables)
    return any(before[number] != now[number] for number in before.keys() & now.keys())


def _rounded(duration: float) -> int:
    """Round as the target duration has to be (4.3.3.1)."""
    return int(duration + 0.5)
