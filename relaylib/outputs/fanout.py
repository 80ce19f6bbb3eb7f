"""Sending the stream to every output, each by a connected UDP socket of its own.

Rejected: one shared socket. It would save descriptors and hurt viewers: datagrams for a host that
has vanished from the LAN wait for its ARP answer, charged to the shared send buffer, until nothing
is left for the others; and a pending ICMP error makes the next send fail, to whomever it goes. With
a socket each, whatever happens to one output happens to its socket alone. A connected socket also
keeps its route, and tells when the port is closed.

A run of equal datagrams is one system call an output (`UDP_SEGMENT`). The size of the segments is
an option of the socket: docs/DESIGN.md has what ancillary data would cost at each send. Rejected:
`sendmmsg`, which Python does not have, and which still costs the kernel's work for each datagram.

The option is set before the first send that needs another one, and not known until then: during a
reload another program may send by the same socket, so nothing but sending changes anything there.

Nothing is queued and nothing is sent twice: what the kernel does not take now is dropped and
counted, because in a live stream late data is useless.

An output is in one lane at a time, by how it is sent to:

- `_segmented`: gets whole runs;
- `_unsegmented`: gets one datagram a call, since the system cannot segment, or since its path has
  refused such a run (a segment larger than its MTU). Runs of smaller datagrams it gets whole, and
  after `LIMIT_FORGOTTEN` it is tried anew, so that a few large datagrams cost nobody for long;
- `_closed`: its port seems to be closed, it only gets a probe now and then; see `port_probe`;
- `_deferred`: is behind, and gets by `send` what `deferred` takes out of the history, in the way of
  `_unsegmented`; `_deferred_closed`: the same, of which the port seems to be closed.

Paused outputs are in none, and cost nothing. In which order a lane is sent to says `lane`.

A send can fail for what was sent before: an ICMP error waits at the socket, the next send reports
it and sends nothing, and then it is gone (ip(7)). So what failed is sent again at once, and whoever
forges such errors costs the viewer nothing.
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
"""Seconds after which runs of every size are tried again: at most one send more an output."""

_UNSEGMENTABLE = {errno.EMSGSIZE, errno.EINVAL, errno.EIO}
"""What udp(7) answers to a segment that the route, or the device, cannot take."""

_FULL = {errno.EAGAIN, errno.ENOBUFS}
"""The send buffer, or the link's queue, is full: what was sent is lost."""

_REPEATED = 3
"""Times that a send is repeated which has met an error: by then it is its own."""

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
        self._segment = UNKNOWN  # of all that are segmented
        self._forget_limits_at = float("inf")
        self._turn = 0  # calls of `forward`
        self._failed: list[tuple[Output, OSError]] = []  # sends of a run
        self._errors: list[tuple[Output, int]] = []  # that were met, and the datagrams they cost
        self._limit_log = Throttle(call_later)
        self._forged_log = Throttle(call_later)

    # --- outputs

    @property
    def active(self) -> int:
        """How many outputs are not paused."""
        return sum(map(len, self._lanes))

    def deferred(self) -> list[Output]:
        """Return the outputs that are to get by `send` what is next, in the order of a lane."""
        self._deferred.rotate()
        return [*self._deferred, *self._deferred_closed]

    @property
    def _lanes(self) -> tuple[Lane[Output], ...]:
        live = self._segmented, self._unsegmented, self._closed
        return (*live, self._deferred, self._deferred_closed)

    def resume(self, output: Output) -> None:
        """Send to this output from the next datagram on; also how a new one is added.

        If it is `behind`, it gets what `send` is given for it instead.
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
        """Send nothing more to this output; also before it is forgotten."""
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
        """Make the output that `export` described; another program may still be sending to it."""
        output = Output(saved.destination, adopt(saved.sock), on_port_closed)
        output.unsegmentable = saved.unsegmentable
        output.counters = saved.counters
        output.behind = saved.behind
        if not saved.paused:
            self.resume(output)
        return output

    def go_on(self) -> None:
        """Send to every output that is not paused: nobody else, who did meanwhile, does any more.

        Whoever did may have been another program or a copy of this one.
        """
        for output in [output for lane in self._lanes for output in lane]:
            linux.report_drops(output.sock)  # an older program has not asked for it
            self.resume(output)

    def update_counters(self, output: Output) -> None:
        """Bring its counters up to date.

        Sending counts nothing for the outputs that get everything, which saves an addition a
        datagram: what they were offered is the distance that `forwarded` has covered.
        """
        if output.member_of is not None and not self.is_deferred(output):
            offered = self.forwarded - output.counted_to
            output.counters.offered += offered
            if output.member_of is self._closed:
                output.counters.unreachable += offered
        output.counted_to = self.forwarded

    def forget_limits(self) -> None:
        """Send runs of every size again, whatever was refused: the source may be another one."""
        self._forget_limits_at = float("inf")
        if self._segmentation:
            for output in list(self._unsegmented):
                self.resume(output)
            for output in self._deferred:
                output.segment_limit = UNCUT

    def is_deferred(self, output: Output) -> bool:
        """Tell whether it is one of `deferred`."""
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
        """Send the runs, in order, to everyone."""
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
        """Send a run to one output that is behind: what `forward` does for the others."""
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
        """Send a run to an output that may differ from the others: whole, if its path takes it."""
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
        """Send a run again that was not sent whole."""
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
        """Repeat a send that has failed; return what it fails with itself, None: it was sent."""
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
        """Only probe an output from now on whose port seems closed, or to which there is no way."""
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
    """Let its socket cut at `segment` what is sent from now on."""
    if output.segment != segment:
        with contextlib.suppress(OSError):  # a system that cannot segment
            linux.set_segment(output.sock, 0 if segment == UNCUT else segment)
        output.segment = segment
