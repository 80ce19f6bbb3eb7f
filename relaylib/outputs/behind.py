"""Outputs that are behind the live stream: which datagrams they get next, and when.

Datagrams behind an output's place in the history are sent `delay` seconds after they came, so at
the pace at which they came. One timer serves all these outputs, as long as there are any. The
ingest is read between two outputs, because the live stream comes first. For each output a turn
sends the datagrams that have become due since the last turn, in whole runs, so that outputs which
are behind cost about as much as live ones.

An output that starts at an entry point is `catching_up`: it gets the datagrams faster than they
came, until it has all of them. Then it joins the live outputs, in the same turn, so that no
datagram is missing in between and none comes twice.

A datagram that is overwritten before its turn, or while the output is paused, is lost for the
output. It goes on at an entry point near the oldest datagram, or at a datagram where no entry point
is known; not at the very oldest, which would be overwritten next. At an entry point the tables come
first.

A place that is remembered while an output is paused is exact, because no command is carried out
during a send: all datagrams that are in the history at that time have been sent.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol

import structlog

from relaylib.config import Config
from relaylib.history.history import START, History, Place
from relaylib.log import Throttle
from relaylib.media.opening import opening as opening_of
from relaylib.net.address import show
from relaylib.net.loop import Loop, Timer
from relaylib.outputs.fanout import Fanout
from relaylib.outputs.output import Behind, Output
from relaylib.source.batch import Run

TICK = 0.015
"""Seconds between two turns: a little longer than live datagrams may gather, so that an output
which is behind costs about as much as a live one."""

SPEED = 3
"""Factor of the stream's pace at which an output catches up."""

_SENDS = 16
"""Most sends to one output in one turn: if more are due, the next turn follows at once."""

log = structlog.get_logger()


class _Opening(NamedTuple):
    """Where decoding can start, after `tables`: `offset` bytes into the datagram at this place."""

    place: Place
    offset: int
    tables: bytes


class EntryPoint(Protocol):
    """Where decoding can start, after `tables`: `origin` is a byte of the history."""

    @property
    def origin(self) -> int: ...

    @property
    def tables(self) -> bytes: ...


FindEntry = Callable[[float, float], EntryPoint | None]
"""Finds the latest entry point up to a first time and not before a second one, or else the first
entry point after the first time."""


class Deferred:
    """Sends to the outputs that are behind; keeps the place of each, also while it is paused.

    `keeps`: the relay keeps a history for viewers. `overtaken` counts how often datagrams of an
    output were overwritten before it got them. Without a history every output is live or paused.
    `entry` finds entry points.
    """

    def __init__(
        self,
        loop: Loop,
        fanout: Fanout,
        history: History | None,
        entry: FindEntry,
        config: Config,
    ) -> None:
        self.keeps = history is not None and config.timeshift > 0
        self.overtaken = 0
        self._loop = loop
        self._fanout = fanout
        self._keyframe = config.start == "keyframe"
        self._history = history if self.keeps or self._keyframe else None
        self._entry = entry
        self._timer: Timer | None = None
        self._last = loop.now
        self._overtaken_log = Throttle(loop.call_later)

    @property
    def active(self) -> bool:
        """Whether any output is behind."""
        return bool(self._fanout.deferred())

    # --- what viewers ask for

    def start(self, output: Output) -> None:
        """Send live to an output: a new one, or one that was paused or deferred.

        Where viewers start at an entry point, the output goes back to the latest one and catches
        up; if it is nearer to live already, it catches up from its own place.
        """
        here = output.behind
        if not output.paused and (here is None or here.catching_up):  # live, or on its way there
            self._fanout.resume(output)
            return
        output.behind, now = None, self._loop.time()
        opening = self._latest(now)
        if opening is None:
            self._fanout.resume(output)
        elif not output.paused and here and here.place > opening.place:
            here.catching_up = True
            self._go_on(output, here)
        else:
            self._open(output, opening, now, catching_up=True)

    def pause(self, output: Output) -> None:
        """Stop sending to an output, and remember its place."""
        self._fanout.pause(output)
        if not self.keeps:
            output.behind = None
        elif output.behind is None:
            output.behind = Behind(self._end())

    def go_on(self, output: Output) -> None:
        """Send to a paused output from where it was paused."""
        assert self._history is not None
        behind = output.behind or Behind(self._end())
        self._go_on(output, Behind(behind.place, self._age(behind.place)))

    def rewind(self, output: Output, seconds: float) -> bool:
        """Move an output back by `seconds` from its place; return False if the history is empty.

        The output goes on at an entry point, unless none is known there.
        """
        history, now = self._history, self._loop.time()
        assert history is not None
        if history.oldest == history.end:
            return False
        here = output.behind.place if output.behind else self._end()
        floor = history.floor()
        time = max(history.time(here) - seconds, floor)
        opening = self._opening(time, floor)
        if opening and (here not in history or opening.place <= here):
            self._open(output, opening, now)
        else:
            place = min(history.find(time), max(here, Place(history.oldest)))
            self._go_on(output, Behind(place, self._age(place)))
        return True

    def delay(self, output: Output) -> float | None:
        """Return how many seconds an output is behind, or would be if it went on now.

        None: its place is not known.
        """
        behind = output.behind
        if behind is None:
            return None if output.paused else 0.0
        if not output.paused:
            return max(0.0, behind.delay)
        return self._age(behind.place)

    # --- reloading

    def put(self, output: Output, behind: Behind | None) -> None:
        """Set the place that another program has kept for an output, if there is a history here."""
        lasting = self.keeps or (behind is not None and behind.catching_up)
        output.behind = behind if self._history is not None and lasting else None

    def begin(self) -> None:
        """Serve the outputs of the fan-out: no other process does any more.

        Also called in the stand-in, which has none of the timers, and after a reload that failed.
        """
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._last = self._loop.time()
        self._arm(0)

    # --- pacing

    def _arm(self, delay: float) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(delay, self._tick)

    def _tick(self) -> None:
        """Serve every output that is behind once; other work of the relay follows."""
        self._timer = None
        outputs = self._fanout.deferred()
        if not outputs:
            return
        self._arm(TICK)  # whatever happens below
        now = self._loop.time()
        gained, self._last = (SPEED - 1) * min(now - self._last, 2 * TICK), now
        more = False
        for output in outputs:
            if not output.paused and output.behind is not None:
                if output.behind.catching_up:
                    output.behind.delay -= gained
                more |= self._serve(output, output.behind, now)
                self._loop.read_priority()
        if more and self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._arm(0)

    def _serve(self, output: Output, behind: Behind, now: float) -> bool:
        """Send the datagrams that are due; return whether more of them are."""
        history = self._history
        assert history is not None
        if behind.place not in history:
            behind = self._skip(output, behind)
        until = now - max(0.0, behind.delay)
        for _ in range(_SENDS):
            found = history.read(behind.place, until)
            if found is None:
                break
            run, place = found
            self._fanout.send(output, run, now)
            if output.paused:  # its port stayed closed
                return False
            behind.place = place
        else:
            return True
        if behind.catching_up and behind.place.number == history.end:
            output.behind = None
            self._fanout.resume(output)
        return False

    # --- places

    def _end(self) -> Place:
        assert self._history is not None
        return Place(self._history.end)

    def _latest(self, now: float) -> _Opening | None:
        """Return the opening at which a viewer starts live; None: with the next datagram."""
        return self._opening(now, now - START) if self._keyframe else None

    def _opening(self, time: float, since: float) -> _Opening | None:
        """Return the latest opening from `since` to `time`, or else the first one after `time`;
        None: there is none.
        """
        if self._history is None:
            return None
        entry = self._entry(time, since)
        found = entry and self._history.locate(entry.origin)
        return _Opening(*found, entry.tables) if entry and found else None

    def _age(self, place: Place) -> float:
        """Return how many seconds ago the datagram behind a place came; 0 at the end."""
        assert self._history is not None
        waiting = place.number < self._history.end
        return self._loop.time() - self._history.time(place) if waiting else 0.0

    def _go_on(self, output: Output, behind: Behind) -> Behind:
        output.behind = behind
        if not self._fanout.is_deferred(output):
            self._fanout.resume(output)
            self._arm(0)
        return behind

    def _open(
        self, output: Output, opening: _Opening, now: float, *, catching_up: bool = False
    ) -> Behind:
        """Send the tables and the rest of the first datagram; those that follow are paced."""
        history = self._history
        assert history is not None
        number, datagram = opening.place
        place = history.behind(number, datagram)
        behind = self._go_on(output, Behind(place, now - history[number].time, catching_up))
        first = bytes(history.run(number).datagrams()[datagram])
        for each in opening_of(opening.tables, first, opening.offset):
            self._fanout.send(output, Run(memoryview(each), len(each), 1), now)
        return behind

    def _skip(self, output: Output, behind: Behind) -> Behind:
        """Go on near the beginning of the history: the output's place has been overwritten."""
        history = self._history
        assert history is not None
        self.overtaken += 1
        self._overtaken_log.log(
            log.warning,
            "history_overtaken",
            destination=show(output.destination),
            runs=max(0, history.oldest - behind.place.number),
            total=self.overtaken,
        )
        if history.oldest == history.end:  # a new history, which is still empty
            return self._go_on(output, Behind(self._end()))
        floor, catching_up = history.floor(), behind.catching_up
        opening = self._opening(floor, floor)
        if opening is not None:
            return self._open(output, opening, self._loop.time(), catching_up=catching_up)
        place = history.find(floor)
        return self._go_on(output, Behind(place, self._age(place), catching_up))
