"""Viewers who must lose nothing: what each of them received, and how late.

One thread reads for all of them: some hundred thousand datagrams a second, ten times what comes.
Receive buffers hold seconds of the stream, so that a busy machine does not lose for the relay.
"""

import array
import contextlib
import selectors
import threading
import time
from collections.abc import Iterator

from relaylib.net.linux import grow_receive_buffer
from tools.attackers.stream import EPOCH
from tools.lab.numbered import HEADER
from tools.lab.process import PATIENCE, wait_for
from tools.lab.stamps import receive, stamp
from tools.lab.viewer import TestViewer

_BUFFER = 16 << 20
"""Bytes asked for: several seconds of a 5 Mb/s stream."""


class Ledger:
    """What arrived of a stream: `received`, and `faults`, which are missing, double or late.

    None of the first source's datagrams may be missing (its epoch is 0). A source that follows
    another begins with whatever number it has reached, and none may be missing from then on.
    """

    def __init__(self) -> None:
        self.received = self.faults = 0
        self.epoch = self.next = 0

    def note(self, epoch: int, number: int) -> None:
        """Take note of a datagram."""
        self.received += 1
        if epoch > self.epoch:
            self.epoch, self.next = epoch, number
        if epoch == self.epoch and number >= self.next:
            self.faults += number - self.next
            self.next = number + 1
        else:
            self.faults += 1

    def begin_anew(self) -> None:
        """Let the stream begin anywhere: after a pause, or for a late comer."""
        self.epoch = -1

    def end(self, epoch: int, sent: int) -> None:
        """Count what is still missing of a source that has ended after `sent` datagrams."""
        missing = sent - self.next if epoch == self.epoch else sent
        self.faults += missing
        self.next += missing


class LedgerViewer(TestViewer):
    """A viewer who watches, and keeps a ledger."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.ledger = Ledger()
        grow_receive_buffer(self.player, _BUFFER)
        stamp(self.player)
        self.subscribe()

    def read(self) -> list[int]:
        """Take note of what has arrived; return how many nanoseconds each took to come."""
        latencies = []
        clock = time.time_ns() - time.monotonic_ns()  # the kernel's stamps are of the wall clock
        with contextlib.suppress(BlockingIOError):
            while True:
                data, came = receive(self.player, HEADER.size)
                number, sent, _ = HEADER.unpack(data)
                self.ledger.note(number >> EPOCH, number & (1 << EPOCH) - 1)
                latencies.append(came - clock - sent)
        return latencies

    def answered(self) -> bool:
        """Tell whether ESTADO is still answered as to somebody who watches."""
        with contextlib.suppress(OSError):
            return self.command("ESTADO").startswith("OK estado=transmitiendo")
        return False


class HealthyViewers:
    """All the viewers of one relay together, read by one thread; see `watching`."""

    def __init__(self, viewers: list[LedgerViewer]) -> None:
        self.all = viewers
        self._latencies = array.array("q")

    def read(self, ended: threading.Event) -> None:
        """Read for everybody until the end."""
        with selectors.DefaultSelector() as selector:
            for viewer in self.all:
                selector.register(viewer.player, selectors.EVENT_READ, viewer)
            while not ended.is_set():
                for key, _ in selector.select(0.1):
                    self._latencies.extend(key.data.read())

    @property
    def received(self) -> int:
        """Datagrams that all of them received together."""
        return sum(viewer.ledger.received for viewer in self.all)

    @property
    def faults(self) -> int:
        """Datagrams that any of them missed, or received twice or too late."""
        return sum(viewer.ledger.faults for viewer in self.all)

    def unanswered(self) -> int:
        """How many of them get no answer any more; the first of those is waited for longest."""
        silent = 0
        for viewer in self.all:
            viewer.control.settimeout(1.0 if silent else PATIENCE)
            silent += not viewer.answered()
        return silent

    def wait_started(self, epoch: int = 0) -> None:
        """Wait until everybody has received something of this source."""
        ledgers = [viewer.ledger for viewer in self.all]
        wait_for(
            lambda: all(each.received and each.epoch >= epoch for each in ledgers),
            f"source {epoch} to reach every viewer",
        )

    def begin_anew(self) -> None:
        """Forget what has been: for everybody the stream begins now."""
        for viewer in self.all:
            viewer.ledger = Ledger()
            viewer.ledger.begin_anew()

    def end(self, epoch: int, sent: int) -> None:
        """Wait for the rest of a source that ended, then count what is missing."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and any(v.ledger.next < sent for v in self.all):
            time.sleep(0.01)
        for viewer in self.all:
            viewer.ledger.end(epoch, sent)

    def latencies(self) -> list[float]:
        """Sorted one-way latencies, in seconds, since this was asked last."""
        taken, self._latencies = self._latencies, array.array("q")
        return sorted(latency / 1e9 for latency in taken)


@contextlib.contextmanager
def watching(port: int, count: int) -> Iterator[HealthyViewers]:
    """So many viewers of the relay on this port, read from now on."""
    with contextlib.ExitStack() as stack:
        viewers = HealthyViewers([stack.enter_context(LedgerViewer(port)) for _ in range(count)])
        ended = threading.Event()
        thread = threading.Thread(target=viewers.read, args=[ended], daemon=True)
        thread.start()
        stack.callback(thread.join)
        stack.callback(ended.set)
        yield viewers
