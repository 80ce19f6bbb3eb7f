"""Sending the stream to every output, each by a connected UDP socket of its own.

Rejected: one shared socket. It would save descriptors and hurt viewers: datagrams for a host that
has vanished from the LAN wait for its ARP answer, charged to the shared send buffer, until nothing
is left for the others; and a pending ICMP error makes the next send fail, to whomever it goes. With
a socket each, whatever happens to one output happens to its socket alone. A connected socket also
keeps its route, and tells when the port is closed.

A run of equal datagrams is one system call an output (`UDP_SEGMENT`). Rejected: `sendmmsg`, which
Python does not have, and which still costs the kernel's work for each datagram.

Nothing is queued and nothing is sent twice: what the kernel does not take now is dropped and
counted, because in a live stream late is as good as never.

An output is in one list at a time, by how it is sent to:

- `_segmented`: gets whole runs;
- `_unsegmented`: gets one datagram a call, since its path took no run (a segment larger than its
  MTU) or since the system cannot segment;
- `_closed`: its port is closed, it only gets a probe now and then; see `port_probe`;
- `_restored`: another program may still be sending to it. Its socket is left alone until `go_on`,
  for the segment size belongs to the socket: who changed it would cut what the other one sends.

Paused outputs are in none, and cost nothing.
"""

import contextlib
import errno
from collections.abc import Callable

import structlog

from relaylib.net import linux
from relaylib.net.address import show
from relaylib.net.descriptors import adopt, descriptor
from relaylib.stream.batch import MAX_BYTES, Run
from relaylib.stream.output import Output, OutputList, OutputState
from relaylib.stream.port_probe import Port

_UNSEGMENTABLE = {errno.EMSGSIZE, errno.EINVAL, errno.EIO}
"""What udp(7) answers to a segment that the route, or the device, cannot take."""

log = structlog.get_logger()


class Fanout:
    """Sends every run to every output that is not paused. `forwarded` counts the datagrams in.

    Times are the loop's, in seconds.
    """

    def __init__(self, *, segmentation: bool) -> None:
        self.forwarded = 0
        self._segmentation = segmentation and linux.can_segment()
        self._segmented: OutputList = []
        self._unsegmented: OutputList = []
        self._closed: OutputList = []
        self._restored: OutputList = []
        self._segment = 0
        self._failed: list[tuple[Output, OSError, int]] = []

    # --- outputs

    def resume(self, output: Output) -> None:
        """Send to this output from the next datagram on; also how a new one is added."""
        if self._takes_runs(output):
            linux.set_segment(output.sock, self._segment)
            self._move(output, self._segmented)
        else:
            with contextlib.suppress(OSError):  # a system that cannot segment
                linux.set_segment(output.sock, 0)
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
        )

    def restore(self, saved: OutputState, on_port_closed: Callable[[], None]) -> Output:
        """Make the output that `export` described; unless it is paused, `go_on` will send to it."""
        output = Output(saved.destination, adopt(saved.sock), on_port_closed)
        output.unsegmentable = saved.unsegmentable
        output.counters = saved.counters
        if not saved.paused:
            self._move(output, self._restored)
        return output

    def go_on(self) -> None:
        """Send to every output that is not paused: nobody else, who did meanwhile, does any more.

        Whoever did may have been another program or a copy of this one.
        """
        for output in [*self._restored, *self._segmented, *self._unsegmented, *self._closed]:
            self.resume(output)

    def update_counters(self, output: Output) -> None:
        """Bring its counters up to date.

        Sending counts nothing for the outputs that get everything, which saves an addition a
        datagram: what they were offered is the distance that `forwarded` has covered.
        """
        if output.member_of is not None:
            offered = self.forwarded - output.counted_to
            output.counters.offered += offered
            if output.member_of is self._closed:
                output.counters.unreachable += offered
        output.counted_to = self.forwarded

    def _takes_runs(self, output: Output) -> bool:
        """The one place that decides in which of the first two lists an output belongs."""
        return self._segmentation and not output.unsegmentable

    def _move(self, output: Output, to: OutputList | None) -> None:
        self.update_counters(output)
        if output.member_of is not None:
            output.member_of.remove(output)
        if to is not None:
            to.append(output)
        output.member_of = to

    # --- sending

    def forward(self, runs: list[Run], now: float) -> None:
        """Send the runs, in order, to everyone."""
        if self._closed:
            self._probe_closed(runs[0], now)
        for run in runs:
            self.forwarded += run.count
            if self._segmented:
                self._send_run(run)
            if self._unsegmented:
                self._send_datagrams(run)
            if self._failed:
                self._handle_failures(run, now)

    def _send_run(self, run: Run) -> None:
        """The loop that everything else exists for: one system call an output."""
        if self._segment != run.size and (run.count > 1 or 0 < self._segment < run.size):
            self._set_segment(run.size if run.count > 1 else 0)
        view = run.view
        for output in self._segmented:
            try:
                output.send(view)
            except BlockingIOError:
                output.counters.dropped += run.count
            except OSError as error:
                self._failed.append((output, error, run.count))

    def _set_segment(self, size: int) -> None:
        """Change the segment size, on all sockets at once: it changes when the stream does."""
        self._segment = size
        for output in self._segmented:
            linux.set_segment(output.sock, size)

    def _send_datagrams(self, run: Run) -> None:
        datagrams = run.datagrams()
        for output in self._unsegmented:
            self._send_each(output, datagrams)

    def _send_each(self, output: Output, datagrams: list[memoryview]) -> None:
        for index, datagram in enumerate(datagrams):
            try:
                output.send(datagram)
            except BlockingIOError:
                output.counters.dropped += 1
            except OSError as error:
                if error.errno != errno.EMSGSIZE:  # too large for any UDP packet of this family
                    self._failed.append((output, error, len(datagrams) - index))
                    return
                output.counters.dropped += 1

    def _handle_failures(self, run: Run, now: float) -> None:
        """Deal with sends that failed for a reason of the output's own."""
        while self._failed:
            output, error, missed = self._failed.pop()
            output.last_error = str(error.strerror)
            # An IPv6 source can send what no IPv4 packet holds.
            too_large = error.errno == errno.EMSGSIZE and run.size > MAX_BYTES
            if too_large or error.errno == errno.ENOBUFS:
                output.counters.dropped += missed
            elif error.errno in _UNSEGMENTABLE and output.member_of is self._segmented:
                self._stop_segmenting(output, run)
            else:
                self._port_closed(output, missed, now)

    def _stop_segmenting(self, output: Output, run: Run) -> None:
        """Move an output whose path does not take runs, and send it this one again."""
        log.info(
            "path_unsegmentable",
            destination=show(output.destination),
            reason=output.last_error,
            segment=run.size,
        )
        output.unsegmentable = True
        linux.set_segment(output.sock, 0)
        self._move(output, self._unsegmented)
        self._send_each(output, run.datagrams())

    # --- closed ports

    def _port_closed(self, output: Output, missed: int, now: float) -> None:
        """Only probe an output from now on whose port is closed, or to which there is no way."""
        output.counters.unreachable += missed
        if self._segmentation:
            linux.set_segment(output.sock, 0)
        self._move(output, self._closed)
        self._judge(output, output.port.closed(now))

    def _probe_closed(self, run: Run, now: float) -> None:
        datagram = run.view[: run.size]
        for output in [each for each in self._closed if each.port.due <= now]:
            self._judge(output, output.port.step(output.send, datagram, now))

    def _judge(self, output: Output, port: Port) -> None:
        if port is Port.OPEN:
            self.resume(output)
            output.counters.unreachable -= 1  # the probe, which was counted with all the others
        elif port is Port.GIVEN_UP:
            self.pause(output)
            output.on_port_closed()
