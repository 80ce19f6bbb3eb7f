"""One stream: where it comes in, where it goes, who looks at it. The datagram's way stands here.

    ingest      reads a batch of datagrams; only the active source's, see `source_lock`
      |
    fanout      sends it to every output that is live: viewers' ports, screens, groups
      |
    history     keeps it for a while, for all who are not live or only look:
      |
      +-- deferred      viewers by UDP who are behind
      +-- recorder      writes what was around a fault to a file
      |
    walk        reads it once: what it is, what is wrong with it, where decoding can start;
      |         `health` makes a verdict of that
    track       has its packets as they belong, for all who watch by HTTP (`web`)

Nothing stands between the read and the send. What comes after that may be late, and loses nothing
by it as long as the history is long enough.

A channel owns no way to ask for the stream: the doors (`viewers`, `web`) read it, and it does not
know them. Another stream would be another channel.

In a reload the channel is made while a stand-in still relays; `lifecycle/stand_in` says how. Until
`begin` it opens, restores and counts, and reads nothing: two readers would tear the stream.
"""

import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from itertools import chain

from relaylib.config import Config
from relaylib.history.history import HistoryState, open_history
from relaylib.history.recorder import RecorderState, open_recorder
from relaylib.net.address import Address
from relaylib.net.histogram import Histogram
from relaylib.net.loop import Loop
from relaylib.net.multicast import Membership, MembershipState
from relaylib.outputs.behind import Deferred
from relaylib.outputs.fanout import Fanout
from relaylib.outputs.fixed import FixedOutputs, FixedState, check_outputs
from relaylib.outputs.output import Output
from relaylib.outputs.watcher import Watcher
from relaylib.snapshot import Observer, Snapshot
from relaylib.source.batch import Run
from relaylib.source.group import Group, remedy
from relaylib.source.ingest import Ingest, IngestState
from relaylib.track.health import Health, HealthState
from relaylib.track.track import Entry, TrackState, open_track
from relaylib.track.walk import WalkState, open_walk


@dataclass(slots=True)
class ChannelState:
    """What a reload hands over of a stream. A field that comes new has a default."""

    ingest: IngestState
    history: HistoryState | None = None
    group: MembershipState | None = None
    fixed: list[FixedState] = field(default_factory=list)
    track: TrackState | None = None
    walk: WalkState | None = None
    health: HealthState | None = None
    recorder: RecorderState | None = None


class Channel:
    """The parts of one stream, joined; new, or going on where a previous program stopped.

    `address` is where the stream comes in. `taken` are the destinations that viewers have, which is
    for the doors to keep, `claimed` those of fixed outputs. `forwarding` has the seconds from the
    read of a batch until every output has been sent it.
    """

    def __init__(
        self,
        loop: Loop,
        config: Config,
        sock: socket.socket,
        membership: Membership | None = None,
        *,
        shared: bool = False,
        viewers: Callable[[], Iterable[Output]],
        watchers: Callable[[], Iterable[Watcher]] = lambda: (),
        saved: ChannelState | None = None,
    ) -> None:
        """Make the parts; `begin` lets the stream flow.

        The stream comes in on `sock`, which somebody else may hold, too (`shared`), or which
        receives a group, as its `membership` says. `viewers` tells the outputs of those who asked,
        `watchers` of everyone who watches.

        Raises:
            SetupError: the stream cannot be sent where it should be, or there is no memory.
        """
        self.address: Address = sock.getsockname()
        if saved is None:
            check_outputs(config.to, self.address)
        self._loop, self._viewers = loop, viewers
        self.forwarding = Histogram()
        self.taken, self.claimed = set[Address](), set[Address]()
        self._watched_by_http = config.http is not None
        self._open_way(config, sock, membership, shared, saved)
        self._open_judging(config, saved)
        self.observer = Observer(
            loop,
            self.ingest,
            self.fanout,
            self.health,
            history=self.history,
            track=self.track,
            by_http=config.http is not None,
            deferred=self.deferred,
            watchers=lambda: chain(self.fixed.watchers(), watchers()),
            outputs=self.outputs,
        )
        if saved is not None:
            self.ingest.restore(saved.ingest)

    def _open_way(
        self,
        config: Config,
        sock: socket.socket,
        membership: Membership | None,
        shared: bool,
        saved: ChannelState | None,
    ) -> None:
        """Make what a datagram meets."""
        loop = self._loop
        self.ingest = Ingest(
            loop,
            sock,
            config,
            self._forward,
            shared=shared or membership is not None,
            on_source=self._on_source,
            is_patient=self._is_patient,
            remedy=partial(remedy, membership) if membership else None,
            errors=self._continuity_errors,
        )
        self._group = Group(loop, self.ingest, membership) if membership else None
        self.fanout = Fanout(loop.call_later, segmentation=config.segmentation)
        self.fixed = FixedOutputs(
            loop,
            self.fanout,
            self.address,
            config.to,
            saved.fixed if saved else (),
            taken=self.taken,
            claimed=self.claimed,
        )
        self.history = open_history(
            config, saved.history if saved else None, restarted=saved is not None
        )
        self.track = open_track(config, saved.track if saved else None, reloaded=saved is not None)
        self.deferred = Deferred(loop, self.fanout, self.history, self._entry, config)

    def _open_judging(self, config: Config, saved: ChannelState | None) -> None:
        """Make those who look at the stream afterwards, in the history."""
        loop = self._loop
        self.walk = open_walk(
            loop,
            self.history,
            self.track,
            passed=lambda: self.ingest.received,
            full_reads=lambda: self.ingest.full_reads,
            reads=lambda: self.ingest.reads,
            on_form=self.ingest.recognise,
            saved=saved.walk if saved else None,
        )
        self._recorder = recorder = open_recorder(
            config, loop, self.history, self._ends, saved.recorder if saved else None
        )
        self.health = Health(
            loop,
            self.ingest,
            self.fanout,
            self.walk if config.inspect else None,
            outputs=self.outputs,
            on_change=recorder.verdict_changed if recorder else None,
            saved=saved.health if saved else None,
            known=_known(saved) if saved else None,
        )

    # --- the datagram's way

    def _forward(self, runs: list[Run], now: float) -> None:
        """Take what `ingest` has read `now` on its way: first to who is live, then to all others.

        Raises:
            NotReadingError: another process sends, and writes the history.
        """
        self.ingest.check_reads()
        self.fanout.forward(runs, now)
        self.forwarding.add(self._loop.time() - now)
        if self.history is not None:
            self.history.append(runs, now)

    def _on_source(self) -> None:
        """Expect another stream: another source sends."""
        self.fanout.forget_limits()
        if self.walk is not None:
            self.walk.new_source()
        self.health.new_source()

    def _entry(self, time: float, since: float) -> Entry | None:
        return self.track.entry_since(time, since) if self.track else None

    def _continuity_errors(self) -> int | None:
        return self.walk.continuity_errors() if self.walk else None

    def _is_patient(self) -> bool:
        """Tell whether everyone watches by HTTP, where some milliseconds are not noticed."""
        return self._watched_by_http and not self.fanout.active

    # --- what is told about it

    def snapshot(self) -> Snapshot:
        """Return how the stream is, as one value; `observer` also knows who watches."""
        return self.observer.snapshot()

    def outputs(self) -> list[Output]:
        """Return all outputs that are open, paused ones included."""
        return [*self.fixed.outputs, *self._viewers()]

    def _ends(self) -> tuple[Address | None, Address]:
        return self.ingest.lock.state.active, self.ingest.sockets.stream.getsockname()

    # --- its life

    def begin(self) -> None:
        """Read and send from now on: no other process does any more.

        Called once all outputs are there; again after a reload that failed.
        """
        if self.history is not None:
            self.history.refresh()
        self.ingest.begin()
        self.fanout.go_on()
        self.deferred.begin()

    def stop_reading(self) -> None:
        """Leave the stream to another process; to read it, or to write the history, is a bug now.

        What there is can still be exported.
        """
        self.ingest.stop_reading()

    def export(self) -> ChannelState:
        """Return what the next program needs to go on with this stream."""
        return ChannelState(
            ingest=self.ingest.export(),
            history=self.history.export() if self.history else None,
            group=self._group.export() if self._group else None,
            fixed=self.fixed.export(),
            track=self.track.export() if self.track else None,
            walk=self.walk.export() if self.walk else None,
            health=self.health.export(),
            recorder=self._recorder.export() if self._recorder else None,
        )

    def close(self) -> None:
        """End the stream: complete what is recorded, and close every socket of its own.

        The loop is not to run any more. Counts can still be read.
        """
        self.ingest.stop_reading()
        if self._group is not None:
            self._group.leave()
        if self._recorder is not None:
            self._recorder.close()
        self.fixed.close()
        self.ingest.sockets.close()
        if self.history is not None:
            self.history.close()
        if self.track is not None:
            self.track.ring.close()


def _known(saved: ChannelState) -> dict[str, int]:
    """Return what the previous program knew of its own doing."""
    left_out = saved.walk.counts.left_out if saved.walk else 0
    return {"overflowed": saved.ingest.overflow.total, "left_out": left_out}
