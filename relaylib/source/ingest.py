"""Reads the stream from its UDP socket: a bounded batch each turn, at times that it decides.

`gate` decides which sender holds the ingest, `sockets` on which socket its stream comes in; this
file connects them to the loop, the log and the fan-out.

Reading less often makes batches out of a smooth stream, the same idea as a network card's interrupt
coalescing; meanwhile datagrams wait in the kernel's receive buffer. See `coalescer`. While other
sockets take much time, the ingest is read in between (`Loop.add_priority_reader`), since all other
work can wait without a loss.

Only one process may read. In a reload there are two: the program and its stand-in, then the
stand-in and the new program. So the sockets are neither read nor watched before `begin`. After
`stop_reading` they are not read until `begin` is called again. To read then is a bug, and raises.
"""

import math
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import structlog

from relaylib.config import Config
from relaylib.media.form import Form
from relaylib.net.address import Address, show
from relaylib.net.descriptors import NO_DESCRIPTOR
from relaylib.net.loop import Loop, Timer
from relaylib.net.networks import Network
from relaylib.net.source_filter import assemble
from relaylib.source.batch import MAX_DATAGRAMS, Batch, Run
from relaylib.source.coalescer import Coalescer
from relaylib.source.failover import FailoverState, Rivals
from relaylib.source.gate import Decision, Gate, GateState, Presence
from relaylib.source.loop_detection import LoopDetection
from relaylib.source.receive_buffer import DropCount, ReceiveBuffer
from relaylib.source.recognition import Recognition
from relaylib.source.sockets import (
    FOLLOWED_BUFFER,
    STANDBY_BUFFER,
    IngestSockets,
    SocketsState,
)

STANDBY_PERIOD = 0.1
"""Seconds between two looks at the standby socket, at the silence of the source, and at samples of
its stream once it is established."""

FOLLOW_PERIOD = 0.02
"""Seconds between two looks at the standby socket while a standby is followed."""

JUDGE_PERIOD = 1.0
"""Seconds between two judgements of active source and standby."""

NO_SOURCE_AFTER = 10.0
"""Seconds after the start at which the log says that there is no source."""

REJECTED_PERIOD = 60.0
"""Seconds between two log lines about rejected sources."""

_LOOP = (
    "relays send to each other: leave out the --to that leads back here, or let only the encoder "
    "send (--allow-source)"
)

RETRY_PERIOD = 1.0
"""Seconds between two attempts to lock the ingest in the kernel, after one that failed."""

_STANDBY_READS = 256
"""Most datagrams read from the standby socket in one look. `STANDBY_BUFFER` holds about 60 of an
MPEG-TS stream; of a standby that is followed, 256 in each look are 130 Mb/s."""

_STANDBY_TIME = 0.002
"""Most seconds of one look: an attacker can send datagrams that take long to look into. Datagrams
that find the buffer full after it are dropped by the kernel, which counts them."""

_SEND_HERE = (
    "send the stream to UDP port {port} of this host; if it is being sent: is that the address in "
    "the source, does a firewall drop UDP, is the source in --allow-source?"
)

log = structlog.get_logger()


@dataclass(slots=True)
class IngestState:
    """What a reload hands over; `received` counts the datagrams of the stream.

    `no_source_at`: when the lack of a source is to be logged, by the monotonic clock; None: never.
    """

    sockets: SocketsState
    lock: GateState  # of the gate; a reload keeps the name
    overflow: DropCount
    received: int
    no_source_at: float | None = None
    failover: FailoverState = field(default_factory=FailoverState)


def _filter(allowed: tuple[Network, ...]) -> bytes:
    try:
        return assemble(allowed)
    except ValueError:
        log.warning("source_filter_missing", reason="too_many_networks")
        return b""


class NotReadingError(RuntimeError):
    """Raised for a bug: two processes would read one ingest, or write one history."""


class Ingest:
    """Reads the stream and hands each turn's runs to `forward`, with the time of the read.

    A `shared` socket is also held by another program, or receives a group; see `IngestSockets`.
    `received` counts the datagrams of the stream, `full_reads` the batches that were full.
    `on_source` is called when another source becomes the active one; `remedy`, if there is one,
    says what may help when the source has fallen silent. `is_patient` tells whether viewers do not
    notice some milliseconds of delay; see `coalescer`. `errors` returns how many continuity errors
    the active source's stream has had, None if they are not counted. `reads` tells whether this
    process may read.
    """

    def __init__(
        self,
        loop: Loop,
        sock: socket.socket,
        config: Config,
        forward: Callable[[list[Run], float], None],
        *,
        shared: bool = False,
        on_source: Callable[[], None] = lambda: None,
        is_patient: Callable[[], bool] = lambda: False,
        remedy: Callable[[], str] | None = None,
        errors: Callable[[], int | None] = lambda: None,
    ) -> None:
        """Take the socket; `begin` reads from it."""
        self.gate = Gate(config.allow_source, config.source_timeout)
        self.buffer = ReceiveBuffer()
        self.received = 0
        self.full_reads = 0
        self.reads = False
        self._on_source, self._is_patient, self._remedy = on_source, is_patient, remedy
        self._begun_before = False
        program = _filter(config.allow_source)
        follows = config.failover_errors is not None or bool(config.prefer)
        self._rivals = Rivals(config.failover_errors, config.prefer, errors) if follows else None
        self.sockets = IngestSockets(
            sock,
            program,
            shared=shared,
            standby_buffer=FOLLOWED_BUFFER if follows else STANDBY_BUFFER,
        )
        if program and not self.sockets.filtered:
            log.warning("source_filter_missing", reason="declined_by_system")
        self._loop = loop
        self._forward = forward
        self._coalescer = Coalescer(config.coalesce)
        self._batch = Batch()
        self._recognition = Recognition()
        self._loops = LoopDetection()
        self._no_source_at: float | None = loop.time() + NO_SOURCE_AFTER
        self._timer: Timer | None = None
        self._rejected: tuple[Address, Decision] | None = None
        self._report_at = float("-inf")
        self._unlocked = False
        self._sample = self._glance = False
        self._payload_type: int | None = None  # of what comes in RTP
        self._crowded = False
        self._dropped = self._others_dropped = False  # in the second that `_judge` is to judge

    @property
    def form(self) -> Form:
        """The form of the active source's stream, or of its last one; opaque until recognised."""
        return self.gate.state.form

    @property
    def payload_type(self) -> int | None:
        """The payload type of RTP that carries no MPEG-TS; None: another form, or not known."""
        return self._payload_type if self.form is Form.RTP_OTHER else None

    # --- reloading

    def export(self) -> IngestState:
        """Return what the next program needs to go on reading where this one stopped."""
        return IngestState(
            self.sockets.state, self.gate.state, self.buffer.drops, self.received,
            self._no_source_at, self._rivals.failover.state if self._rivals else FailoverState(),
        )  # fmt: skip

    def restore(self, saved: IngestState) -> None:
        """Go on where the previous program stopped, on the same socket."""
        self.sockets.restore(saved.sockets)
        self.gate.restore(saved.lock)
        self.buffer.drops = saved.overflow
        self.received = saved.received
        self._no_source_at = saved.no_source_at
        if self._rivals:
            self._rivals.failover.state = saved.failover

    # --- which process reads

    def begin(self) -> None:
        """Read from now on: no other process does."""
        if not self.reads:
            self.reads = True
            self._loop.add_priority_reader(self._read_between)
        if not self._begun_before:
            self._begun_before = True
            self._watch_stream()
            self._look_after_standby()
            self._set_timers()

    def stop_reading(self) -> None:
        """Stop reading: this process is to end, or another one reads.

        The loop goes on watching the sockets: a fork has the parent's selector (epoll(7)), and a
        reload that fails goes on with `begin`.
        """
        self.reads = False
        self._loop.remove_priority_reader(self._read_between)

    def check_reads(self) -> None:
        """Make sure that this process may read, and pass on what it has read.

        Raises:
            NotReadingError: another process reads; two would tear the stream.
        """
        if not self.reads:
            raise NotReadingError("the ingest is read by another process")

    def _set_timers(self) -> None:
        self._loop.call_in_step(STANDBY_PERIOD, self._look_around)
        self._loop.call_every(RETRY_PERIOD, self._retry)
        if self._rivals:
            self._loop.call_every(FOLLOW_PERIOD, self._read_standby)
            self._loop.call_every(JUDGE_PERIOD, self._judge)

    def _look_after_standby(self) -> None:
        """Go on with the standby socket that the previous program had, if it had one."""
        if self.sockets.standby is None:
            return
        if self.gate.state.active is None:
            self._use_standby()  # the source is no longer allowed: any allowed one may begin
        else:
            self._lock()  # the previous program's order of calls may leak with Linux 6.1
            if self.gate.steady is None:
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
        self.check_reads()
        started = self._loop.time()
        self._batch.clear()
        full = False
        try:
            if self.sockets.state.compare:
                full = self._read_comparing(started)
            else:
                full = self._read_sample(started) if self._sample else self._read()
            self._crowded |= full
            self.full_reads += full
            if self.gate.unsettled:
                self._settle()
            if self._batch.count:
                self._arrived(started, self._batch.count)
                runs = self._batch.finish()
                self._forward(runs, started)
                if self._glance:
                    self._look_for_loop(runs, started)
        finally:  # a bug costs the datagrams that met it, not those that follow
            self._schedule_read(started, 0 if full else self._batch.count)

    def _read(self) -> bool:
        """Fill the batch; return whether it is full, so that more may be waiting.

        A host on the LAN can forge an ICMP error, which a connected socket then reports (ip(7)). It
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
        """Fill the batch, asking the gate about each sender; return as `_read` does."""
        receive, room, add = self.sockets.stream.recvfrom_into, self._batch.room, self._batch.add
        active = self.gate.undisputed
        try:
            for _ in range(MAX_DATAGRAMS):
                size, source = receive(view := room())
                if (source == active or self._offer(source, view[:size], now)) and not add(size):
                    break
        except BlockingIOError:
            if not self.gate.unsettled:  # an unsettled gate counts the datagrams it is offered
                self.sockets.drained()
            return False
        except OSError:  # as in `_read`
            return False
        return True

    def _read_sample(self, now: float) -> bool:
        """Fill the batch, and check that the kernel lets only the active source in."""
        self._sample = False
        before = self.gate.state.rejected
        full = self._read_comparing(now)
        if self.gate.state.rejected != before:
            self.sockets.distrust()
            self._not_locked("strangers_get_in")
        return full

    def _arrived(self, now: float, count: int) -> None:
        self.received += count
        if self.gate.heard(now, count) is Decision.RESUMED:
            self._resumed()

    def _schedule_read(self, started: float, count: int) -> None:
        """Let datagrams gather after a turn with `count` of them; 0: read again at once."""
        now = self._loop.time()
        cost, patient = now - started, self._is_patient()
        wait = self._coalescer.wait(now, cost, count, patient=patient) if count else 0.0
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(wait, self._pump) if wait else None
        self._loop.interest(self.sockets.stream, read=not wait)

    # --- what the senders send

    def _form_of(self, source: Address, datagram: bytes | memoryview) -> Form:
        """Return the form of a sender's datagrams; opaque where it decides nothing."""
        if self.gate.undisputed is not None:
            return Form.OPAQUE
        return self._recognition.look(source, datagram, self.gate.state.active)

    def recognise(self, form: Form, payload_type: int | None = None) -> None:
        """Note the form of the active source's stream, as the walk has recognised it."""
        self.gate.recognise(form)
        self._payload_type = payload_type

    def _look_for_loop(self, runs: list[Run], now: float) -> None:
        """Ten times a second, compare the batch that was forwarded with earlier ones."""
        self._glance, active = False, self.gate.state.active
        if active is None:
            return
        datagrams = [each for run in runs for each in run.datagrams()]
        if self._loops.look(active, datagrams, self.form, self.received, now):
            self._loop.call_soon(partial(self._break_loop, active))

    # --- which sender holds the ingest

    def _break_loop(self, source: Address) -> None:
        """Bar a source that sends what this relay has sent; any other may begin."""
        if source != self.gate.state.active:
            return
        log.warning("loop_detected", source=show(source), remedy=_LOOP)
        self._loops.forget(None)
        self.gate.bar(self._loop.time())
        if self.sockets.standby is not None:
            self._use_standby()

    def _offer(
        self, source: Address, datagram: bytes | memoryview, now: float, form: Form | None = None
    ) -> bool:
        """Tell whether a datagram is part of the stream, and act on the gate's decision.

        `form` is the form of the sender's datagrams, None if it has not been looked for.
        """
        previous = self.gate.state.active
        form = self._form_of(source, datagram) if form is None else form
        decision = self.gate.offer(source, len(datagram), now, form)
        match decision:
            case Decision.STARTED:
                log.info("ingest_started", source=show(source), datagram_size=len(datagram))
                self._on_source()
            case Decision.TAKEOVER:
                assert previous is not None
                self._took_over(source, previous)
            case Decision.RESUMED:
                self._resumed()
            case Decision.LOCKED | Decision.NOT_ALLOWED | Decision.LOOP:
                self._rejected = source, decision
                if self._rivals and decision is Decision.LOCKED:
                    self._rivals.follow(source, datagram, now)
        return decision.accepted

    def _took_over(self, source: Address, previous: Address) -> None:
        reason = self.gate.reason.value
        log.info("source_takeover", source=show(source), previous=show(previous), reason=reason)
        self._on_source()
        if not self.sockets.open and self.gate.holder is None:
            self._lock()  # it is still connected to the previous source
            self._watch_standby()

    def _settle(self) -> None:
        """Lock the ingest when its source is established.

        Until then all datagrams come in on one socket, in order, so that a stream which takes over
        from a stray datagram loses none.
        """
        holder = self.gate.settle()
        if holder is None:
            return
        log.info("source_locked", source=show(holder))
        self._recognition.forget()
        self._unwatch_standby()
        self._unlocked = False
        self._lock()

    def _judge(self) -> None:
        """Decide whether the standby is to take over, with its next datagram."""
        assert self._rivals is not None
        active, successor = self.gate.state.active, None
        if active is not None and self.gate.presence is Presence.ACTIVE:
            successor = self._rivals.judge(
                active, dropped=self._dropped, others_dropped=self._others_dropped
            )
        self.gate.appoint(successor)
        self._dropped = self._others_dropped = False

    def _lock(self) -> None:
        """Have the kernel lock the ingest to the active source."""
        active = self.gate.state.active
        assert active is not None
        was_open = self.sockets.open
        try:
            self.sockets.connect(active)
        except OSError as error:
            reason = "no_descriptors" if error.errno in NO_DESCRIPTOR else "no_second_socket"
            self._not_locked(reason, detail=error.strerror)
        self._count_drops(was_open=was_open)

    def _not_locked(self, reason: str, **details: str | None) -> None:
        """Log, once for each source, that the kernel does not lock the ingest."""
        active = self.gate.state.active
        assert active is not None
        if not self._unlocked:
            log.warning("ingest_not_locked", source=show(active), reason=reason, **details)
        self._unlocked = True

    def _retry(self) -> None:
        self.sockets.reserve()
        if self.sockets.state.pending and self.gate.holder is not None:
            self._lock()
            if not self.sockets.state.pending:
                self._unlocked = False
                log.info("ingest_locked", source=show(self.gate.holder))

    def _resumed(self) -> None:
        self._unwatch_standby()
        assert self.gate.state.active is not None
        log.info("ingest_resumed", source=show(self.gate.state.active))

    # --- what is done ten times a second, and the standby socket

    def _look_around(self) -> None:
        self._check_silence()
        self._read_standby()
        self._count_drops(was_open=self.sockets.open)
        self._report_rejected()
        self.buffer.report(self._loop.now)
        self._report_no_source()
        self._sample = self._glance = True

    def _check_silence(self) -> None:
        self.gate.look(self._loop.time())
        if self.gate.overdue(self._loop.time()):
            self._pump()  # if this process slept, datagrams of the active source are waiting
        if self.gate.overdue(self._loop.time()):
            # To its end, where a standby source's stream is to begin; no stream waits meanwhile.
            self._read_standby(seconds=math.inf)
        now = self._loop.time()
        if self.gate.overdue(now):
            self.gate.fall_silent()
            self._watch_standby()
            active, last = self.gate.state.active, self.gate.state.last
            assert active is not None
            remedy = {} if self._remedy is None else {"remedy": self._remedy()}
            seconds = round(now - last, 1)
            log.warning("ingest_silent", source=show(active), seconds=seconds, **remedy)

    def _watch_standby(self) -> None:
        """While the active source is silent, let the next one begin with its first datagram."""
        if self.sockets.standby is not None:
            self._loop.watch(self.sockets.standby, self._read_standby, broken=self._broken)

    def _unwatch_standby(self) -> None:
        if self.sockets.standby is not None:
            self._loop.unwatch(self.sockets.standby)

    def _read_standby(self, *, seconds: float = _STANDBY_TIME) -> None:
        """Count other senders' datagrams, unless one of them begins the stream."""
        self.check_reads()
        until = self._loop.time() + seconds
        for _ in range(_STANDBY_READS):
            if self.sockets.standby is None:
                return
            if self._loop.time() >= until:
                break
            try:
                data, source = self.sockets.standby.recvfrom(65535)
            except BlockingIOError:
                break
            form = self._form_of(source, data)
            now = self._loop.time()
            if self.gate.accepts(source, len(data), now, form):
                self._pump()  # the active source may be back: its datagrams come first
            if self.gate.accepts(source, len(data), now, form):
                self._begin_at_standby(source, data, now, form)
            else:
                self._offer(source, data, now, form)
        self._count_standby_drops()

    def _begin_at_standby(self, source: Address, data: bytes, now: float, form: Form) -> None:
        """Read the stream from the standby socket, from this datagram on."""
        self._use_standby()
        if source == self.gate.state.active:
            self._not_locked("arrives_at_standby")
        self._offer(source, data, now, form)
        self._settle()
        self._arrived(now, 1)
        runs = [Run(memoryview(data), len(data), 1)]
        self._forward(runs, now)
        self._schedule_read(now, 0)

    def _use_standby(self) -> None:
        self._count_standby_drops()
        self._unwatch_standby()
        former = self.sockets.use_standby()
        self._loop.unwatch(former)
        self._watch_stream()
        former.close()  # at once: a viewer might take its descriptor
        self.sockets.reserve()

    def _count_standby_drops(self) -> None:
        drops = self.sockets.take_standby_drops()
        self.gate.state.rejected += drops
        self._others_dropped |= drops > 0

    def _count_drops(self, *, was_open: bool) -> None:
        """Count the datagrams that the kernel has dropped at the stream's socket.

        `was_open`: the socket took datagrams of every sender. The kernel has one count for those
        that the filter drops, which are rejected, and those that found the buffer full; but a full
        buffer is then read in full batches, which tells the two apart.
        """
        drops = self.buffer.take()
        self._dropped |= drops > 0
        if was_open and self.sockets.filtered and not self._crowded:
            self.gate.state.rejected += drops
        else:
            self.buffer.count(drops)
        self._crowded = False

    def _report_rejected(self) -> None:
        """Log the latest rejected source: at once, then every minute while there are any.

        It is called in a look and not at each datagram, because only a look counts the datagrams
        that the kernel has dropped.
        """
        now = self._loop.now
        if self._rejected is not None and now >= self._report_at:
            source, decision = self._rejected
            total = self.gate.state.rejected
            rate, active_rate = self.gate.rates(source, now)
            log.warning(
                "source_rejected",
                source=show(source),
                reason=decision.value,
                total=total,
                rate=round(rate, 1),
                active_rate=round(active_rate, 1),
            )
            self._rejected = None
            self._report_at = now + REJECTED_PERIOD

    def _report_no_source(self) -> None:
        """Log once, some time after the start, that there has been no source."""
        if self._no_source_at is None:
            return
        if self.gate.holder is not None:
            self._no_source_at = None
        elif self._loop.now >= self._no_source_at and self.gate.presence is Presence.ABSENT:
            self._no_source_at = None
            port = self.sockets.stream.getsockname()[1]
            log.warning(
                "no_source",
                seconds=NO_SOURCE_AFTER,
                rejected=self.gate.state.rejected,
                remedy=self._remedy() if self._remedy else _SEND_HERE.format(port=port),
            )
