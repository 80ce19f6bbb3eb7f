"""The UDP socket in: a bounded batch of the stream each turn, and when to read the next one.

Who may send is decided by `source_lock`, and which socket the stream comes in on is the business of
`ingest_sockets`; here they meet the loop, the log and the fan-out.

Reading less often makes batches out of a smooth stream, the same idea as a network card's interrupt
coalescing; the kernel's receive buffer holds what waits. See `coalescer`. While other sockets have
much to do, the ingest is read in between (`Loop.set_priority_reader`), since nothing else in the
relay loses anything by waiting.
"""

import socket
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from relaylib.config import Config
from relaylib.net.address import Address, show
from relaylib.net.descriptors import NO_DESCRIPTOR
from relaylib.net.loop import Loop, Timer
from relaylib.net.networks import Network
from relaylib.net.source_filter import assemble
from relaylib.stream.batch import MAX_DATAGRAMS, Batch, Run
from relaylib.stream.coalescer import Coalescer
from relaylib.stream.ingest_sockets import IngestSockets, SocketsState
from relaylib.stream.receive_buffer import DropCount, ReceiveBuffer
from relaylib.stream.source_lock import LockState, SourceLock, Verdict

STANDBY_PERIOD = 0.1
"""Seconds between two looks at the standby socket, and at whether the source has fallen silent."""

REJECTED_PERIOD = 60.0
"""Seconds between two log lines about rejected sources."""

RETRY_PERIOD = 1.0
"""Seconds between two attempts to have the kernel lock the ingest, after one that failed."""

_STANDBY_READS = 256
"""Strangers' datagrams counted in one look; the buffer holds about 60 of an MPEG-TS stream."""

log = structlog.get_logger()


@dataclass(slots=True)
class IngestState:
    """What a restart hands over; `received` counts the datagrams of the stream."""

    sockets: SocketsState
    lock: LockState
    overflow: DropCount
    received: int


def _filter(allowed: tuple[Network, ...]) -> bytes:
    try:
        return assemble(allowed)
    except ValueError:
        log.warning("source_filter_missing", reason="too_many_networks")
        return b""


class Ingest:
    """Reads the stream and hands each turn's runs to `forward`, and when they were read.

    A `shared` socket is held by somebody else, too; see `IngestSockets`. `received` counts the
    datagrams of the stream. `on_source` is called when another source becomes the active one,
    `remedy`, if there is one, says what may help when it has fallen silent. Where `is_patient`,
    those who get the stream do not notice if it comes some milliseconds later.
    """

    def __init__(
        self,
        loop: Loop,
        sock: socket.socket,
        config: Config,
        forward: Callable[[list[Run], float], None],
        *,
        shared: bool = False,
    ) -> None:
        self.lock = SourceLock(config.allow_source, config.source_timeout)
        self.buffer = ReceiveBuffer()
        self.received = 0
        self.on_source: Callable[[], None] = lambda: None
        self.is_patient: Callable[[], bool] = lambda: False
        self.remedy: Callable[[], str] | None = None
        program = _filter(config.allow_source)
        self.sockets = IngestSockets(sock, program, shared=shared)
        if program and not self.sockets.filtered:
            log.warning("source_filter_missing", reason="declined_by_system")
        self._loop = loop
        self._forward = forward
        self._coalescer = Coalescer(config.coalesce)
        self._batch = Batch()
        self._timer: Timer | None = None
        self._rejected: tuple[Address, Verdict] | None = None
        self._report_at = float("-inf")
        self._unlocked = False
        self._sample = False
        self._crowded = False
        self._watch_stream()
        loop.set_priority_reader(self._read_between)
        loop.call_every(STANDBY_PERIOD, self._look_around)
        loop.call_every(RETRY_PERIOD, self._retry)

    # --- restarting

    def export(self) -> IngestState:
        """Return what the next program needs to go on reading where this one stopped."""
        return IngestState(self.sockets.state, self.lock.state, self.buffer.drops, self.received)

    def restore(self, saved: IngestState) -> None:
        """Go on where the previous program stopped, whose stream came in on the same socket."""
        self.sockets.restore(saved.sockets)
        self.lock.restore(saved.lock)
        self.buffer.drops = saved.overflow
        self.received = saved.received
        if self.sockets.standby is None:
            return
        if self.lock.state.active is None:
            self._use_standby()  # the configuration has changed: anybody else may begin
        else:
            self._lock()  # the previous program may have done it in an order that Linux 6.1 forgets
            if self.lock.state.silent:
                self._watch_standby()

    # --- reading the stream

    def _watch_stream(self) -> None:
        self.buffer.use(self.sockets.stream)
        self._loop.watch(self.sockets.stream, self._pump, broken=self._broken)

    def _broken(self, _error: Exception) -> None:
        """Do nothing: the datagrams that met the bug are gone, and the next read is scheduled."""

    def _read_between(self) -> None:
        """Read in the middle of a long turn, unless datagrams are to gather for longer."""
        if self._timer is None or self._timer.when <= self._loop.time():
            self._pump()

    def _pump(self) -> None:
        """Read a batch, forward it, and decide when to read the next one."""
        started = self._loop.time()
        self._batch.clear()
        full = False
        try:
            if self.sockets.state.compare:
                full = self._read_comparing(started)
            else:
                full = self._read_sample(started) if self._sample else self._read()
            self._crowded |= full
            if self._batch.count:
                self._arrived(started, self._batch.count)
                self._forward(self._batch.finish(), started)
        finally:  # a bug costs the datagrams that met it, not those that follow
            self._schedule_read(started, 0 if full else self._batch.count)

    def _read(self) -> bool:
        """Fill the batch; return whether it is full, so that more may be waiting.

        Anybody on the LAN can forge an ICMP error that a connected socket then reports (ip(7)). It
        means nothing here: the relay sends nothing on this socket.
        """
        receive, room, add = self.sockets.stream.recv_into, self._batch.room, self._batch.add
        try:
            for _ in range(MAX_DATAGRAMS):
                if not add(receive(room())):
                    break
        except OSError:
            return False
        return True

    def _read_comparing(self, now: float) -> bool:
        """Fill the batch, asking the lock about each sender; return as `_read` does."""
        receive, room, add = self.sockets.stream.recvfrom_into, self._batch.room, self._batch.add
        active = self.lock.undisputed
        try:
            for _ in range(MAX_DATAGRAMS):
                size, source = receive(room())
                if (source == active or self._offer(source, size, now)) and not add(size):
                    break
        except BlockingIOError:
            self.sockets.drained()
            return False
        except OSError:  # as in `_read`
            return False
        return True

    def _read_sample(self, now: float) -> bool:
        """Fill the batch and see whether the kernel lets nobody but the active source in."""
        self._sample = False
        before = self.lock.state.rejected
        full = self._read_comparing(now)
        if self.lock.state.rejected != before:
            self.sockets.distrust()
            self._not_locked("strangers_get_in")
        return full

    def _arrived(self, now: float, count: int) -> None:
        self.received += count
        if self.lock.heard(now) is Verdict.RESUMED:
            self._resumed()

    def _schedule_read(self, started: float, count: int) -> None:
        """Let datagrams gather after a turn with so many; 0: do not, whatever comes."""
        now = self._loop.time()
        cost, patient = now - started, self.is_patient()
        wait = self._coalescer.wait(now, cost, count, patient=patient) if count else 0.0
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(wait, self._pump) if wait else None
        self._loop.interest(self.sockets.stream, read=not wait)

    # --- who sends

    def _offer(self, source: Address, size: int, now: float) -> bool:
        """Tell whether a datagram is part of the stream, and do what follows from it."""
        previous = self.lock.state.active
        verdict = self.lock.offer(source, size, now)
        match verdict:
            case Verdict.STARTED:
                log.info("ingest_started", source=show(source), datagram_size=size)
                self._locked(source)
            case Verdict.TAKEOVER:
                assert previous is not None
                log.info("source_takeover", source=show(source), previous=show(previous))
                self._locked(source)
            case Verdict.RESUMED:
                self._resumed()
            case Verdict.LOCKED | Verdict.NOT_ALLOWED:
                self._rejected = source, verdict
        return verdict.accepted

    def _locked(self, source: Address) -> None:
        log.info("source_locked", source=show(source))
        self.on_source()
        self._unlocked = False
        self._lock()

    def _lock(self) -> None:
        """Have the kernel lock the ingest to the active source."""
        active = self.lock.state.active
        assert active is not None
        was_open = self.sockets.open
        try:
            self.sockets.connect(active)
        except OSError as error:
            reason = "no_descriptors" if error.errno in NO_DESCRIPTOR else "no_second_socket"
            self._not_locked(reason, detail=error.strerror)
        self._count_drops(was_open=was_open)

    def _not_locked(self, reason: str, **details: str | None) -> None:
        """Log it, once for each source."""
        active = self.lock.state.active
        assert active is not None
        if not self._unlocked:
            log.warning("ingest_not_locked", source=show(active), reason=reason, **details)
        self._unlocked = True

    def _retry(self) -> None:
        self.sockets.reserve()
        if self.sockets.state.pending and self.lock.state.active is not None:
            self._lock()
            if not self.sockets.state.pending:
                self._unlocked = False
                log.info("ingest_locked", source=show(self.lock.state.active))

    def _resumed(self) -> None:
        self._unwatch_standby()
        assert self.lock.state.active is not None
        log.info("ingest_resumed", source=show(self.lock.state.active))

    # --- ten times a second, and the standby socket

    def _look_around(self) -> None:
        self._check_silence()
        self._read_standby()
        self._count_drops(was_open=self.sockets.open)
        self._report_rejected()
        self.buffer.report(self._loop.now)
        self._sample = True

    def _check_silence(self) -> None:
        if self.lock.overdue(self._loop.time()):
            self._pump()  # it may be this process that slept: what was sent meanwhile is waiting
        if self.lock.overdue(self._loop.time()):
            self._read_standby()  # to its end, where a standby source's stream is to begin
        now = self._loop.time()
        if self.lock.overdue(now):
            self.lock.fall_silent()
            self._watch_standby()
            active, last = self.lock.state.active, self.lock.state.last
            assert active is not None
            remedy = {} if self.remedy is None else {"remedy": self.remedy()}
            seconds = round(now - last, 1)
            log.warning("ingest_silent", source=show(active), seconds=seconds, **remedy)

    def _watch_standby(self) -> None:
        """While the active source is silent, let the next one begin with its first datagram."""
        if self.sockets.standby is not None:
            self._loop.watch(self.sockets.standby, self._read_standby, broken=self._broken)

    def _unwatch_standby(self) -> None:
        if self.sockets.standby is not None:
            self._loop.unwatch(self.sockets.standby)

    def _read_standby(self) -> None:
        """Count what strangers sent, unless one of them is to be the next active source."""
        for _ in range(_STANDBY_READS):
            if self.sockets.standby is None:
                return
            try:
                data, source = self.sockets.standby.recvfrom(65535)
            except BlockingIOError:
                break
            if self.lock.accepts(source, len(data)):
                self._pump()  # the active source may be back: its datagrams come first
            if self.lock.accepts(source, len(data)):
                self._begin_at_standby(source, data)
            else:
                self._offer(source, len(data), self._loop.time())
        self.lock.state.rejected += self.sockets.take_standby_drops()

    def _begin_at_standby(self, source: Address, data: bytes) -> None:
        """Read the stream from the standby socket, on which this datagram of it has come in."""
        self._use_standby()
        if source == self.lock.state.active:
            self._not_locked("arrives_at_standby")
        now = self._loop.time()
        self._offer(source, len(data), now)
        self._arrived(now, 1)
        self._forward([Run(memoryview(data), len(data), 1)], now)
        self._schedule_read(now, 0)

    def _use_standby(self) -> None:
        self.lock.state.rejected += self.sockets.take_standby_drops()
        self._unwatch_standby()
        former = self.sockets.use_standby()
        self._loop.unwatch(former)
        self._watch_stream()
        former.close()  # at once: a viewer might take its descriptor
        self.sockets.reserve()

    def _count_drops(self, *, was_open: bool) -> None:
        """Count what the kernel has dropped of the stream's socket, which was open to everybody.

        Or was not. The kernel has one count for what the filter drops, which is rejected, and for
        what found the buffer full; but that buffer is then read in full batches.
        """
        drops = self.buffer.take()
        if was_open and self.sockets.filtered and not self._crowded:
            self.lock.state.rejected += drops
        else:
            self.buffer.count(drops)
        self._crowded = False

    def _report_rejected(self) -> None:
        """Log the latest rejected source: at once, then every minute while there are any.

        Not at each datagram: what the kernel dropped of them is known only then, too.
        """
        now = self._loop.now
        if self._rejected is not None and now >= self._report_at:
            source, verdict = self._rejected
            total = self.lock.state.rejected
            log.warning("source_rejected", source=show(source), reason=verdict.value, total=total)
            self._rejected = None
            self._report_at = now + REJECTED_PERIOD
