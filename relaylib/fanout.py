"""Subscribers, and sending them the stream: one connected UDP socket each.

One shared socket would save descriptors and hurt viewers: datagrams for a host that has vanished
from the LAN wait for its ARP answer, charged to the shared send buffer, until nothing is left for
the others; and a port that refuses makes the next send fail, to whomever it goes. With a socket
each, whatever happens to one subscriber happens to its socket alone. A connected socket also keeps
its route, and tells when the player's port is closed.

A run of equal datagrams is one system call a subscriber (`UDP_SEGMENT`). Nothing is queued and
nothing is sent twice: what the kernel does not take now is dropped and counted, because in a live
stream late is as good as never.

A subscriber stands in one lane at a time:

- `_batched`: gets whole runs;
- `_single`: gets one datagram a call, for ever, since its path refused a run (a segment larger than
  its MTU) or since the system cannot segment;
- `_refusing`: its port is closed. It gets one datagram every `PROBE_PERIOD` and comes back as soon
  as one was not refused. A host limits how often it says so (Linux: once a second after the first
  six), so coming back too early is possible, and harmless: it costs what a healthy viewer costs.

Paused subscribers stand in none, and cost nothing.
"""

import contextlib
import errno
import socket
from collections.abc import Callable

import structlog

from relaylib import kernel
from relaylib.address import show
from relaylib.batch import MAX_BYTES, Run
from relaylib.handover import SubscriberState, adopt
from relaylib.subscriber import Lane, Subscriber

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
    """Sends every run to every subscriber in a lane.

    `forwarded` counts the datagrams of the stream, `on_refused` is told of a subscriber that was
    taken out because its port stayed closed.
    """

    def __init__(self, *, segmentation: bool) -> None:
        self.forwarded = 0
        self.on_refused: Callable[[Subscriber], None] = lambda _subscriber: None
        self._segmentation = segmentation and kernel.can_segment()
        self._batched: Lane = []
        self._single: Lane = []
        self._refusing: Lane = []
        self._segment = 0
        self._failed: list[tuple[Subscriber, OSError, int]] = []

    # --- subscribers

    def resume(self, subscriber: Subscriber) -> None:
        """Send to this subscriber from the next datagram on; also how a new one is added."""
        single = subscriber.single or not self._segmentation
        if not single:
            kernel.set_segment(subscriber.sock, self._segment)
        self._move(subscriber, self._single if single else self._batched)

    def pause(self, subscriber: Subscriber) -> None:
        """Send nothing more to this subscriber; also before it is forgotten."""
        self._move(subscriber, None)

    def export(self, subscriber: Subscriber) -> SubscriberState:
        """Return what the next program needs to go on with this subscriber."""
        self.settle(subscriber)
        return SubscriberState(
            fd=subscriber.sock.fileno(),
            destination=list(subscriber.destination),
            paused=subscriber.lane is None,
            single=subscriber.single,
            offered=subscriber.offered,
            dropped=subscriber.dropped,
            refused=subscriber.refused,
        )

    def restore(self, saved: SubscriberState) -> Subscriber:
        """Make the subscriber that `export` described, and send to it unless it is paused."""
        subscriber = Subscriber(tuple(saved.destination), adopt(saved.fd))
        subscriber.single = saved.single
        subscriber.offered = saved.offered
        subscriber.dropped, subscriber.refused = saved.dropped, saved.refused
        with contextlib.suppress(OSError):  # a system that cannot segment
            kernel.set_segment(subscriber.sock, 0)
        if not saved.paused:
            self.resume(subscriber)
        return subscriber

    def settle(self, subscriber: Subscriber) -> None:
        """Bring its counters up to date.

        Sending counts nothing for the subscribers that get everything, which saves an addition a
        datagram: what they were offered is the distance that `forwarded` has covered.
        """
        if subscriber.lane is not None:
            offered = self.forwarded - subscriber.base
            subscriber.offered += offered
            if subscriber.lane is self._refusing:
                subscriber.refused += offered
        subscriber.base = self.forwarded

    def _move(self, subscriber: Subscriber, lane: Lane | None) -> None:
        self.settle(subscriber)
        if subscriber.lane is not None:
            subscriber.lane.remove(subscriber)
        if lane is not None:
            lane.append(subscriber)
        subscriber.lane = lane

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
        """The loop that everything else exists for: one system call a subscriber."""
        if self._segment != run.size and (run.count > 1 or 0 < self._segment < run.size):
            self._set_segment(run.size if run.count > 1 else 0)
        view = run.view
        for subscriber in self._batched:
            try:
                subscriber.send(view)
            except BlockingIOError:
                subscriber.dropped += run.count
            except OSError as error:
                self._failed.append((subscriber, error, run.count))

    def _set_segment(self, size: int) -> None:
        """Change the segment size, on all sockets at once: it changes when the stream does."""
        self._segment = size
        for subscriber in self._batched:
            kernel.set_segment(subscriber.sock, size)

    def _send_datagrams(self, run: Run) -> None:
        datagrams = run.datagrams()
        for subscriber in self._single:
            self._send_each(subscriber, datagrams)

    def _send_each(self, subscriber: Subscriber, datagrams: list[memoryview]) -> None:
        for index, datagram in enumerate(datagrams):
            try:
                subscriber.send(datagram)
            except BlockingIOError:
                subscriber.dropped += 1
            except OSError as error:
                if error.errno != errno.EMSGSIZE:  # too large for any UDP packet of this family
                    self._failed.append((subscriber, error, len(datagrams) - index))
                    return
                subscriber.dropped += 1
                subscriber.last_error = str(error.strerror)

    def _handle_failures(self, run: Run, now: float) -> None:
        """Deal with sends that failed for a reason of the subscriber's own."""
        while self._failed:
            subscriber, error, missed = self._failed.pop()
            subscriber.last_error = str(error.strerror)
            # An IPv6 source can send what no IPv4 packet holds.
            too_large = error.errno == errno.EMSGSIZE and run.size > MAX_BYTES
            if too_large or error.errno == errno.ENOBUFS:
                subscriber.dropped += missed
            elif error.errno in _RUN_REFUSED and subscriber.lane is self._batched:
                self._send_singly(subscriber, run)
            else:
                self._refuse(subscriber, missed, now)

    def _send_singly(self, subscriber: Subscriber, run: Run) -> None:
        """Move a subscriber whose path does not take runs, and send it this one again."""
        log.info(
            "segmentation_refused",
            destination=show(subscriber.destination),
            reason=subscriber.last_error,
            segment=run.size,
        )
        subscriber.single = True
        kernel.set_segment(subscriber.sock, 0)
        self._move(subscriber, self._single)
        self._send_each(subscriber, run.datagrams())

    # --- closed ports

    def _refuse(self, subscriber: Subscriber, missed: int, now: float) -> None:
        """Stop sending to a port that refused, but for a probe now and then."""
        subscriber.refused += missed
        subscriber.probing = False
        subscriber.due = now
        if self._segmentation:
            kernel.set_segment(subscriber.sock, 0)
        self._move(subscriber, self._refusing)
        self._note_refusal(subscriber, now)

    def _note_refusal(self, subscriber: Subscriber, now: float) -> None:
        """Take a subscriber out whose port has been closed for too long, and forget about it.

        While the source is silent no port can refuse anything, so that time does not count.
        """
        if now - subscriber.refused_at > REFUSAL_ENDS:
            subscriber.refused_since = now
        subscriber.refused_at = now
        if now - subscriber.refused_since >= REFUSED_LIMIT:
            subscriber.refused_at = float("-inf")
            self.pause(subscriber)
            self.on_refused(subscriber)

    def _probe(self, run: Run, now: float) -> None:
        """Judge the probes that have had time to be refused, and send those that are due."""
        datagram = run.view[: run.size]
        for subscriber in [each for each in self._refusing if each.due <= now]:
            if subscriber.probing:
                self._judge(subscriber, now)
            else:
                self._send_probe(subscriber, datagram, now)

    def _send_probe(self, subscriber: Subscriber, datagram: memoryview, now: float) -> None:
        try:
            subscriber.send(datagram)
        except BlockingIOError:
            subscriber.due = now + PROBE_ANSWER
        except OSError as error:  # an older one's refusal, or no way there at all
            subscriber.last_error = str(error.strerror)
            subscriber.due = now + PROBE_PERIOD
            self._note_refusal(subscriber, now)
        else:
            subscriber.probing = True
            subscriber.due = now + PROBE_ANSWER

    def _judge(self, subscriber: Subscriber, now: float) -> None:
        subscriber.probing = False
        if not subscriber.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            subscriber.refused -= 1  # the probe, which `settle` takes for refused
            self.resume(subscriber)
            return
        subscriber.due = now + PROBE_PERIOD - PROBE_ANSWER
        self._note_refusal(subscriber, now)
