"""Sending the stream to every output, each by a connected UDP socket of its own.

Rejected: one shared socket. It would save descriptors and hurt viewers: datagrams for a host that
has vanished from the LAN wait for its ARP answer, charged to the shared send buffer, until no room
is left for the others; and a pending ICMP error makes the next send fail, to any destination. With
a socket for each output, a fault of one output stays with its socket. A connected socket also keeps
its route, and reports when the port is closed.

A run of equal datagrams is one system call an output (`UDP_SEGMENT`). The size of the segments is
an option of the socket: docs/DESIGN.md has what ancillary data would cost at each send. Rejected:
`sendmmsg`, which Python does not have, and which still costs the kernel's work for each datagram.

The option is set just before a send that needs another size, and is taken as unknown until then:
during a reload another program may send by the same socket, so only a send may change the option.

No datagram is queued and none is sent twice: a datagram that the kernel does not take now is
dropped and counted, because in a live stream late data is useless.

An output is in one lane at a time, by how it is sent to:

- `_segmented`: gets whole runs;
- `_unsegmented`: gets one datagram a call, since the system cannot segment, or since its path is
  unsegmentable at this size (a segment larger than its MTU). It gets runs of smaller datagrams
  whole, and larger ones are tried again after `LIMIT_FORGOTTEN`, so that a few large datagrams do
  not make it expensive for long;
- `_closed`: its port seems to be closed, so it only gets a probe now and then; see `port_probe`;
- `_deferred`: is behind, and gets datagrams from the history (`behind`) by `send`, in the way of
  `_unsegmented`; `_deferred_closed`: the same for an output whose port seems to be closed.

A paused output is in no lane, and costs nothing. `lane` has the order in which a lane is sent to.

A send can fail for an earlier one: an ICMP error waits at the socket, the next send reports it and
sends nothing, and then the error is gone (ip(7)). So a send that failed is repeated at once, and an
attacker that forges such errors costs the viewer no datagram.
"""

import contextlib
import errno
from collections.abc import Callable, Iterable
from functools import partial

import structlog

from relaylib.log import CallLater, Throttle
from relaylib.net import linux
from relaylib.net.address import show
from relaylib.net.descriptors import adopt, descriptor
from relaylib.outputs.lane import Lane
from relaylib.outputs.output import UNCUT, UNKNOWN, Output, OutputState
from relaylib.outputs.port_probe import PortState
from relaylib.source.batch import Run

LIMIT_FORGOTTEN = 60.0
"""Seconds after which runs of every size are tried again: at most one more send for each output."""

_UNSEGMENTABLE = {errno.EMSGSIZE, errno.EINVAL, errno.EIO}
"""Errors of udp(7) for a segment that the route, or the device, cannot take."""

_FULL = {errno.EAGAIN, errno.ENOBUFS}
"""The send buffer, or the link's queue, is full: what was sent is lost."""

_REPEATED = 3
"""Most repetitions of a send that has met an error: one that is left then is its own."""

log = structlog.get_logger()


class Fanout:
    """Sends every run to every output that is not paused.

    `forwarded` counts the datagrams that came in, `byte_count` the bytes in them.

    Times are the loop's, in seconds.
    """

    def __init__(self, call_later: CallLater, *, segmentation: bool) -> None:
        self.forwarded = 0
        self.byte_count = 0
        self._segmentation = segmentation and linux.can_segment()
        self._segmented: Lane[Output] = Lane()
        self._unsegmented: Lane[Output] = Lane()
        self._closed: Lane[Output] = Lane()
        self._deferred: Lane[Output] = Lane()
        self._deferred_closed: Lane[Output] = Lane()
        self._segment = UNKNOWN  # the segment size of all outputs in `_segmented`
        self._forget_limits_at = float("inf")
        self._turn = 0  # calls of `forward`
        self._failed: list[tuple[Output, OSError]] = []  # sends of a run that have failed
        self._errors: list[tuple[Output, int]] = []  # outputs with an error, datagrams not sent
        self._limit_log = Throttle(call_later)
        self._forged_log = Throttle(call_later)

    # --- outputs

    @property
    def active(self) -> int:
        """How many outputs are not paused."""
        return sum(map(len, self._lanes))

    def deferred(self) -> list[Output]:
        """Return the outputs that are behind and are served by `send`, in the order of a lane."""
        self._deferred.rotate()
        return [*self._deferred, *self._deferred_closed]

    @property
    def _lanes(self) -> tuple[Lane[Output], ...]:
        live = self._segmented, self._unsegmented, self._closed
        return (*live, self._deferred, self._deferred_closed)

    def resume(self, output: Output) -> None:
        """Send to this output, which may be a new one, from the next datagram on.

        An output that is `behind` gets the runs that `send` is called with instead.
        """
        output.segment_limit = UNCUT
        output.segment = UNKNOWN
        if output.behind is not None:
            self._move(output, self._deferred)
        elif self._segmentation:
            self._move(output, self._segmented)
            self._segment = UNKNOWN
        else:
            self._move(output, self._unsegmented)

    def pause(self, output: Output) -> None:
        """Stop sending to this output; also called before it is removed."""
        self._move(output, None)

    def export(self, output: Output) -> OutputState:
        """Return what the next program needs to go on with this output."""
        self.update_counters(output)
        return OutputState(
            descriptor(output.sock),
            output.destination,
            output.paused,
            output.unsegmentable,
            output.counters,
            output.behind,
        )

    def restore(self, saved: OutputState, on_port_closed: Callable[[], None] | None) -> Output:
        """Make an output of its exported state; another program may still be sending to it."""
        output = Output(saved.destination, adopt(saved.sock), on_port_closed)
        output.unsegmentable = saved.unsegmentable
        output.counters = saved.counters
        output.behind = saved.behind
        if not saved.paused:
            self.resume(output)
        return output

    def go_on(self) -> None:
        """Send again to every output that is not paused: the other process has stopped sending.

        That process was another program, or a copy of this one.
        """
        for output in [output for lane in self._lanes for output in lane]:
            linux.report_drops(output.sock)  # an older program may not have set it
            self.resume(output)

    def update_counters(self, output: Output) -> None:
        """Bring its counters up to date.

        A send counts nothing for the outputs that get every datagram, which saves an addition for
        each: what they were offered is how far `forwarded` has gone since the last update.
        """
        if output.member_of is not None and not self.is_deferred(output):
            offered = self.forwarded - output.counted_to
            output.counters.offered += offered
            if output.member_of is self._closed:
                output.counters.unreachable += offered
        output.counted_to = self.forwarded

    def forget_limits(self) -> None:
        """Try runs of every size again: the source may be another one, or the path."""
        self._forget_limits_at = float("inf")
        if self._segmentation:
            for output in list(self._unsegmented):
                self.resume(output)
            for output in self._deferred:
                output.segment_limit = UNCUT

    def is_deferred(self, output: Output) -> bool:
        """Tell whether an output is one of `deferred`."""
        return output.member_of in (self._deferred, self._deferred_closed)

    def _move(self, output: Output, to: Lane[Output] | None) -> None:
        self.update_counters(output)
        if output.member_of is not None:
            output.member_of.remove(output)
        if to is not None:
            to.add(output)
        output.member_of = to

    # --- sending

    def forward(self, runs: list[Run], now: float) -> None:
        """Send the runs, in order, to every live output."""
        self._turn += 1
        if self._closed.first:
            self._probe(self._closed, runs[0], now)
        if now >= self._forget_limits_at:
            self.forget_limits()
        for run in runs:
            self.forwarded += run.count
            self.byte_count += len(run.view)
            self._send(run)
            if self._failed or self._errors:
                self._handle_failures(run, now)

    def send(self, output: Output, run: Run, now: float) -> None:
        """Send a run to one output that is behind."""
        output.turn += 1
        output.counters.offered += run.count
        if output.member_of is self._deferred_closed:
            output.counters.unreachable += run.count
            self._probe((output,), run, now)
            return
        self._send_alone(output, run)
        if self._failed or self._errors:
            self._handle_failures(run, now)

    def _send(self, run: Run) -> None:
        segmented, unsegmented = self._segmented, self._unsegmented
        if segmented.first:
            if run.size != self._segment and (run.count > 1 or run.size > self._segment):
                self._fit_all(UNCUT if run.count == 1 else run.size)
            segmented.rotate()
            self._send_run(segmented.first, run)
        if unsegmented.first:
            unsegmented.rotate()
            for output in unsegmented.first:
                self._send_alone(output, run)
        if segmented.rest:
            self._send_run(segmented.rest, run)
        for output in unsegmented.rest:
            self._send_alone(output, run)

    def _send_run(self, outputs: Iterable[Output], run: Run) -> None:
        """The hot path: one system call an output."""
        view = run.view
        for output in outputs:
            try:
                output.send(view)
            except OSError as error:
                if error.errno in _FULL:
                    output.counters.dropped += run.count
                else:
                    self._failed.append((output, error))

    def _fit_all(self, segment: int) -> None:
        self._segment = segment
        size = 0 if segment == UNCUT else segment
        for output in self._segmented:
            if output.segment != segment:
                linux.set_segment(output.sock, size)
                output.segment = segment

    def _send_alone(self, output: Output, run: Run) -> None:
        """Send a run to one output: whole, if its path takes segments of this size."""
        if run.count == 1:
            if run.size > output.segment:
                _fit(output, UNCUT)
            self._send_run((output,), run)
        elif self._segmentation and run.size < output.segment_limit:
            _fit(output, run.size)
            self._send_run((output,), run)
        else:
            _fit(output, UNCUT)
            self._send_each(output, run.datagrams())

    def _send_each(self, output: Output, datagrams: list[memoryview]) -> None:
        met_error = False
        for index, datagram in enumerate(datagrams):
            try:
                output.send(datagram)
            except OSError as error:
                left = self._repeat(output, partial(output.send, datagram), error)
                if left is None:
                    met_error = True
                elif left.errno in _FULL or left.errno == errno.EMSGSIZE:
                    output.counters.dropped += 1  # the latter: too large for any UDP packet
                else:
                    self._errors.append((output, len(datagrams) - index))
                    return
        if met_error:
            self._errors.append((output, 0))

    # --- failures

    def _handle_failures(self, run: Run, now: float) -> None:
        """Deal with sends that failed for a reason of the output's own."""
        while self._failed:
            output, error = self._failed.pop()
            self._send_again(output, error, run, now)
        while self._errors:
            output, missed = self._errors.pop()
            port, counters = output.probe, output.counters
            if port.distrusts(now):
                counters.unreachable += missed
                continue
            counters.unreachable += missed or 1  # the datagram that the error is about
            if missed:
                port.unreachable(now)
                self._test_port(output)
            elif port.error(output.turn if self.is_deferred(output) else self._turn, now):
                self._test_port(output)

    def _send_again(self, output: Output, error: OSError, run: Run, now: float) -> None:
        """Send a run again after a send of it has failed."""
        left = self._repeat(output, partial(output.send, run.view), error)
        if left is None:
            self._errors.append((output, 0))
        elif left.errno in _UNSEGMENTABLE and output.segment != UNCUT:
            self._limit(output, now)
            self._send_each(output, run.datagrams())
        elif left.errno in _FULL or left.errno == errno.EMSGSIZE:
            output.counters.dropped += run.count  # the latter: an IPv6 source's, too large for IPv4
        else:
            self._errors.append((output, run.count))

    @staticmethod
    def _repeat(output: Output, send: Callable[[], object], error: OSError) -> OSError | None:
        """Repeat a send that has failed; return its own error, None if it was sent."""
        for _ in range(_REPEATED):
            if error.errno in _FULL:
                break
            output.last_error = str(error.strerror)
            try:
                send()
            except OSError as another:
                error = another
            else:
                return None
        return error

    def _limit(self, output: Output, now: float) -> None:
        """Send an output no more segments of this size, or larger ones, for a while."""
        if not output.unsegmentable:
            self._limit_log.log(
                log.info,
                "path_unsegmentable",
                destination=show(output.destination),
                reason=output.last_error,
                segment=output.segment,
            )
        output.unsegmentable = True
        output.segment_limit = output.segment
        _fit(output, UNCUT)
        if output.member_of is self._segmented:
            self._move(output, self._unsegmented)
        self._forget_limits_at = min(self._forget_limits_at, now + LIMIT_FORGOTTEN)

    # --- closed ports

    def _test_port(self, output: Output) -> None:
        """From now on only probe an output: its port seems closed, or there is no way to it."""
        _fit(output, UNCUT)  # a probe is one datagram of any size
        self._move(output, self._deferred_closed if self.is_deferred(output) else self._closed)

    def _probe(self, outputs: Iterable[Output], run: Run, now: float) -> None:
        datagram = run.view[: run.size]
        for output in [each for each in outputs if each.probe.due <= now]:
            self._judge(output, output.probe.step(output.send, datagram, now), now)

    def _judge(self, output: Output, port: PortState, now: float) -> None:
        match port:
            case PortState.OPEN:
                self.resume(output)
                output.counters.unreachable -= 1  # the probe, which was counted with all the others
            case PortState.FORGED:
                self.resume(output)
                self._forged_log.log(
                    log.warning, "icmp_forged", destination=show(output.destination)
                )
            case PortState.GIVEN_UP:
                self.pause(output)
                assert output.on_port_closed is not None  # or its probe would go on
                output.on_port_closed()


def _fit(output: Output, segment: int) -> None:
    """Set the segment size of an output's socket for the sends that follow."""
    if output.segment != segment:
        with contextlib.suppress(OSError):  # a system that cannot segment
            linux.set_segment(output.sock, 0 if segment == UNCUT else segment)
        output.segment = segment
