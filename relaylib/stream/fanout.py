"""Subscribers, and sending them the stream: one connected UDP socket each.

One shared socket would save descriptors and hurt viewers: datagrams for a host that has vanished
from the LAN wait for its ARP answer, charged to the shared send buffer, until nothing is left for
the others; and a port that refuses makes the next send fail, to whomever it goes. With a socket
each, whatever happens to one output happens to its socket alone. A connected socket also keeps
its route, and tells when the player's port is closed.

A run of equal datagrams is one system call a output (`UDP_SEGMENT`). Nothing is queued and
nothing is sent twice: what the kernel does not take now is dropped and counted, because in a live
stream late is as good as never.

A output stands in one lane at a time:

- `_batched`: gets whole runs;
- `_single`: gets one datagram a call, for ever, since its path refused a run (a segment larger than
  its MTU) or since the system cannot segment;
- `_refusing`: its port is closed. It gets one datagram every `PROBE_PERIOD` and comes back as soon
  as one was not refused. A host limits how often it says so (Linux: once a second after the first
  six), so coming back too early is possible, and harmless: it costs what a healthy viewer costs.

Paused outputs stand in none, and cost nothing.
"""

import contextlib
import errno
import socket
from collections.abc import Callable

import structlog

from relaylib.net import linux
from relaylib.net.address import show
from relaylib.net.descriptors import adopt, descriptor
from relaylib.stream.batch import MAX_BYTES, Run
from relaylib.stream.output import Lane, Output, OutputState

PROBE_PERIOD = 0.250
"""Seconds between probes of a closed port: a player that opens waits this long at most."""

PROBE_ANSWER = 0.025
"""Seconds that a refusal may take to come back: more than any LAN's round trip."""

REFUSED_LIMIT = 60.0
"""Seconds of refusal after which nobody is expected to open the player any more."""

REFUSAL_ENDS = 5.0
"""Seconds without a refusal after which the next one is a new story."""

_RUN_REFUSED = {errno.EMSGSIZE, errno.EINVAL, errno.EIO}
"""What udp(7) answers to a segment that the route, or the device, cannot take."""

log = structlog.get_logger()


class Fanout:
    """Sends every run to every output in a lane.

    `forwarded` counts the datagrams of the stream.
    """

    def __init__(self, *, segmentation: bool) -> None:
        self.forwarded = 0
        self._segmentation = segmentation and linux.can_segment()
        self._batched: Lane = []
        self._single: Lane = []
        self._refusing: Lane = []
        self._segment = 0
        self._failed: list[tuple[Output, OSError, int]] = []

    # --- outputs

    def resume(self, output: Output) -> None:
        """Send to this output from the next datagram on; also how a new one is added."""
        single = output.single or not self._segmentation
        if not single:
            linux.set_segment(output.sock, self._segment)
        self._move(output, self._single if single else self._batched)

    def pause(self, output: Output) -> None:
        """Send nothing more to this output; also before it is forgotten."""
        self._move(output, None)

    def export(self, output: Output) -> OutputState:
        """Return what the next program needs to go on with this output."""
        self.update_counters(output)
        return OutputState(
            sock=descriptor(output.sock),
            destination=output.destination,
            paused=output.lane is None,
            single=output.single,
            offered=output.offered,
            dropped=output.dropped,
            refused=output.refused,
        )

    def restore(self, saved: OutputState, on_port_closed: Callable[[], None]) -> Output:
        """Make the output that `export` described, and send to it unless it is paused."""
        output = Output(saved.destination, adopt(saved.sock), on_port_closed)
        output.single = saved.single
        output.offered = saved.offered
        output.dropped, output.refused = saved.dropped, saved.refused
        with contextlib.suppress(OSError):  # a system that cannot segment
            linux.set_segment(output.sock, 0)
        if not saved.paused:
            self.resume(output)
        return output

    def update_counters(self, output: Output) -> None:
        """Bring its counters up to date.

        Sending counts nothing for the outputs that get everything, which saves an addition a
        datagram: what they were offered is the distance that `forwarded` has covered.
        """
        if output.lane is not None:
            offered = self.forwarded - output.base
            output.offered += offered
            if output.lane is self._refusing:
                output.refused += offered
        output.base = self.forwarded

    def _move(self, output: Output, lane: Lane | None) -> None:
        self.update_counters(output)
        if output.lane is not None:
            output.lane.remove(output)
        if lane is not None:
            lane.append(output)
        output.lane = lane

    # --- sending

    def forward(self, runs: list[Run], now: float) -> None:
        """Send the runs, in order, to everyone."""
        if self._refusing:
            self._probe(runs[0], now)
        for run in runs:
            self.forwarded += run.count
            if self._batched:
                self._send_run(run)
            if self._single:
                self._send_datagrams(run)
            if self._failed:
                self._handle_failures(run, now)

    def _send_run(self, run: Run) -> None:
        """The loop that everything else exists for: one system call a output."""
        if self._segment != run.size and (run.count > 1 or 0 < self._segment < run.size):
            self._set_segment(run.size if run.count > 1 else 0)
        view = run.view
        for output in self._batched:
            try:
                output.send(view)
            except BlockingIOError:
                output.dropped += run.count
            except OSError as error:
                self._failed.append((output, error, run.count))

    def _set_segment(self, size: int) -> None:
        """Change the segment size, on all sockets at once: it changes when the stream does."""
        self._segment = size
        for output in self._batched:
            linux.set_segment(output.sock, size)

    def _send_datagrams(self, run: Run) -> None:
        datagrams = run.datagrams()
        for output in self._single:
            self._send_each(output, datagrams)

    def _send_each(self, output: Output, datagrams: list[memoryview]) -> None:
        for index, datagram in enumerate(datagrams):
            try:
                output.send(datagram)
            except BlockingIOError:
                output.dropped += 1
            except OSError as error:
                if error.errno != errno.EMSGSIZE:  # too large for any UDP packet of this family
                    self._failed.append((output, error, len(datagrams) - index))
                    return
                output.dropped += 1
                output.last_error = str(error.strerror)

    def _handle_failures(self, run: Run, now: float) -> None:
        """Deal with sends that failed for a reason of the output's own."""
        while self._failed:
            output, error, missed = self._failed.pop()
            output.last_error = str(error.strerror)
            # An IPv6 source can send what no IPv4 packet holds.
            too_large = error.errno == errno.EMSGSIZE and run.size > MAX_BYTES
            if too_large or error.errno == errno.ENOBUFS:
                output.dropped += missed
            elif error.errno in _RUN_REFUSED and output.lane is self._batched:
                self._send_singly(output, run)
            else:
                self._refuse(output, missed, now)

    def _send_singly(self, output: Output, run: Run) -> None:
        """Move a output whose path does not take runs, and send it this one again."""
        log.info(
            "segmentation_refused",
            destination=show(output.destination),
            reason=output.last_error,
            segment=run.size,
        )
        output.single = True
        linux.set_segment(output.sock, 0)
        self._move(output, self._single)
        self._send_each(output, run.datagrams())

    # --- closed ports

    def _refuse(self, output: Output, missed: int, now: float) -> None:
        """Stop sending to a port that refused, but for a probe now and then."""
        output.refused += missed
        output.probing = False
        output.due = now
        if self._segmentation:
            linux.set_segment(output.sock, 0)
        self._move(output, self._refusing)
        self._note_refusal(output, now)

    def _note_refusal(self, output: Output, now: float) -> None:
        """Take a output out whose port has been closed for too long, and forget about it.

        While the source is silent no port can refuse anything, so that time does not count.
        """
        if now - output.refused_at > REFUSAL_ENDS:
            output.refused_since = now
        output.refused_at = now
        if now - output.refused_since >= REFUSED_LIMIT:
            output.refused_at = float("-inf")
            self.pause(output)
            output.on_port_closed()

    def _probe(self, run: Run, now: float) -> None:
        """Judge the probes that have had time to be refused, and send those that are due."""
        datagram = run.view[: run.size]
        for output in [each for each in self._refusing if each.due <= now]:
            if output.probing:
                self._judge(output, now)
            else:
                self._send_probe(output, datagram, now)

    def _send_probe(self, output: Output, datagram: memoryview, now: float) -> None:
        try:
            output.send(datagram)
        except BlockingIOError:
            output.due = now + PROBE_ANSWER
        except OSError as error:  # an older one's refusal, or no way there at all
            output.last_error = str(error.strerror)
            output.due = now + PROBE_PERIOD
            self._note_refusal(output, now)
        else:
            output.probing = True
            output.due = now + PROBE_ANSWER

    def _judge(self, output: Output, now: float) -> None:
        output.probing = False
        if not output.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            output.refused -= 1  # the probe, which `update_counters` takes for refused
            self.resume(output)
            return
        output.due = now + PROBE_PERIOD - PROBE_ANSWER
        self._note_refusal(output, now)
