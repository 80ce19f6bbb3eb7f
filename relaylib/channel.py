"""One stream with its source, outputs, history, track and verdict. The datagram's way:

    source/ingest       reads a batch of datagrams from the active source (see `source/gate`)
      |
    outputs/fanout      sends it to every live output: viewers' ports, hosts, groups
      |
    history/history     keeps it for a while
      :
      : pull, each at its own time:
      :-- outputs/behind      sends it to the outputs that are behind
      :-- history/recorder    writes the stream around a fault to a file
      :-- track/walk          reads it once: `media/health` takes datagrams apart and judges them
            |
          track/track         keeps the stream's packets, whole and in order, and where to begin

    track/health        looks at all of these some times a second, and makes the verdict

Nothing stands between the read and the send. Readers of the history may be late: they only lose
runs that the history has overwritten, and the walk skips datagrams if it is late and the track is
not being read. Viewers by HTTP (`web`) read the track, and have the walk catch up before they do.

A channel has no door. The doors (`viewers`, `web`) use the channel; it does not know them. Another
stream would be another channel, with doors of its own.

In a reload the channel is made while a stand-in still relays; `lifecycle/stand_in` says how. Until
`begin` is called, the channel opens sockets, restores state and counts, but does not read: two
readers would tear the stream.
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
from relaylib.outputs.viewer_row import ViewerRow
from relaylib.snapshot import Observer, Snapshot
from relaylib.source.batch import Run
from relaylib.source.group import Group, remedy
from relaylib.source.ingest import Ingest, IngestState
from relaylib.track.health import Health, HealthState
from relaylib.track.track import Entry, TrackState, open_track
from relaylib.track.walk import Walk, WalkState


@dataclass(slots=True)
class ChannelState:
    """What a reload hands over of a stream. A new field has a default, for older programs."""

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

    `address` is the ingest's. `taken` are the viewers' destinations; the doors keep this set.
    `claimed` are those of fixed outputs. `forwarding` has the seconds from the read of a batch to
    its last send.
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
        viewer_rows: Callable[[], Iterable[ViewerRow]] = lambda: (),
        saved: ChannelState | None = None,
    ) -> None:
        """Make the parts; `begin` lets the stream flow.

        The stream comes in on `sock`. `shared`: another program holds it, too. `membership`: the
        group that it receives, if any. `viewers` returns the outputs of sessions,
        `viewer_rows` all rows of the list of viewers but those of fixed outputs.

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
            viewer_rows=lambda: chain(self.fixed.viewer_rows(), viewer_rows()),
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
        """Make source, outputs, history and track."""
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
            config, saved.history if saved else None, reloaded=saved is not None
        )
        self.track = open_track(config, saved.track if saved else None, reloaded=saved is not None)
        self.deferred = Deferred(loop, self.fanout, self.history, self._entry, config)

    def _open_judging(self, config: Config, saved: ChannelState | None) -> None:
        """Make the walk, the recorder and the verdict, which read the history."""
        loop = self._loop
        self.walk: Walk | None = None
        if self.history is not None and self.track is not None:
            self.walk = Walk(
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
            config, loop, self.history, self._endpoints, saved.recorder if saved else None
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
        """Send runs that were read at time `now` to the live outputs, then keep them.

        Raises:
            NotReadingError: another process sends, and writes the history.
        """
        self.ingest.check_reads()
        self.fanout.forward(runs, now)
        self.forwarding.add(self._loop.time() - now)
        if self.history is not None:
            self.history.append(runs, now)

    def _on_source(self) -> None:
        """Forget limits, tables and faults of the last source: another one has become active."""
        self.fanout.forget_limits()
        if self.walk is not None:
            self.walk.new_source()
        self.health.new_source()

    def _entry(self, time: float, since: float) -> Entry | None:
        return self.track.entry_since(time, since) if self.track else None

    def _continuity_errors(self) -> int | None:
        return self.walk.continuity_errors() if self.walk else None

    def _is_patient(self) -> bool:
        """Tell whether all viewers watch by HTTP, where some milliseconds are not noticed."""
        return self._watched_by_http and not self.fanout.active

    # --- its state

    def snapshot(self) -> Snapshot:
        """Return the state of the stream as one value; `observer` also has the viewers."""
        return self.observer.snapshot()

    def outputs(self) -> list[Output]:
        """Return all outputs that are open, paused ones included."""
        return [*self.fixed.outputs, *self._viewers()]

    def _endpoints(self) -> tuple[Address | None, Address]:
        return self.ingest.gate.state.active, self.ingest.sockets.stream.getsockname()

    # --- its life

    def begin(self) -> None:
        """Read and send from now on: no other process does any more.

        Called when all outputs have been made, and again after a reload that failed.
        """
        if self.history is not None:
            self.history.refresh()
        self.ingest.begin()
        self.fanout.go_on()
        self.deferred.begin()

    def stop_reading(self) -> None:
        """Leave the stream to another process: from now on, to read it raises NotReadingError.

        The state can still be exported.
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
        """End the stream: complete a recording, and close every socket of the channel.

        The loop must not run after that. Counts can still be read.
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
    """Return the totals of faults in the relay itself at the end of the previous program."""
    left_out = saved.walk.counts.left_out if saved.walk else 0
    return {"overflowed": saved.ingest.overflow.total, "left_out": left_out}
