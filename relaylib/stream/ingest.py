"""The UDP socket in: who may send the stream, and a bounded batch of it per turn.

The first source to send owns the ingest until it is silent (`source_timeout`). It would be enough
to compare every datagram's sender with the owner, but then a stranger's flood fills the receive
buffer that the stream needs, and the relay spends its time throwing datagrams away. So the kernel
does it: the socket the stream arrives on is connected to its source, which makes it accept nobody
else, and a second socket on the same port, the door, takes what remains. The door is looked at ten
times a second and has a small buffer: it costs next to nothing however hard someone knocks.

Where two sockets cannot share a port like that (no SO_REUSEPORT, or the source sends to another of
our addresses than the one the kernel answers it from) there is only one socket and every datagram's
sender is compared after all: `_checked`.

Reading less often makes batches out of a smooth stream, the same idea as a network card's interrupt
coalescer; the kernel's receive buffer holds what waits. See `Coalescer`.
"""

import socket
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from relaylib.config import Config
from relaylib.net import linux
from relaylib.net.address import Address, show
from relaylib.net.descriptors import Descriptor, adopt, descriptor
from relaylib.net.loop import Loop, Timer
from relaylib.stream.batch import MAX_DATAGRAMS, Batch, Run
from relaylib.stream.coalescer import Coalescer
from relaylib.stream.receive_buffer import DROPS_PERIOD, ReceiveBuffer
from relaylib.stream.source_lock import Strangers

DOOR_BUFFER = 64 << 10
"""Bytes for strangers: a tenth of a second of a standby source, and never much that is stale."""

DOOR_PERIOD = 0.1
"""Seconds between two looks at the door."""

_DOOR_READS = 256
"""Strangers' datagrams counted in one look; the buffer holds about 60 of an MPEG-TS stream."""

log = structlog.get_logger()


@dataclass(slots=True)
class IngestState:
    """What a restart hands over: the sockets, their owner, the counters.

    `last` is when the last datagram came, by the monotonic clock, which all processes share.
    """

    stream: Descriptor
    door: Descriptor | None
    owner: Address | None
    checked: bool
    can_split: bool
    silent: bool
    last: float
    received: int
    strangers: int
    overflowed: int
    drops: int
    door_drops: int


class Ingest:
    """Reads the stream and hands each turn's runs to `forward`.

    A `shared` socket is held by somebody else too, who will want it as it was: never connected.
    `owner` is None until the first datagram comes, and stays until another source takes over.
    `received` counts datagrams, `strangers` those of others.
    """

    def __init__(
        self,
        loop: Loop,
        sock: socket.socket,
        config: Config,
        forward: Callable[[list[Run]], None],
        *,
        shared: bool = False,
    ) -> None:
        self.owner: Address | None = None
        self.received = 0
        self.strangers = Strangers(config.allow_source, loop)
        self._loop = loop
        self._forward = forward
        self._timeout = config.source_timeout
        self._coalescer = Coalescer(config.coalesce)
        self._batch = Batch()
        self._bound = sock.getsockname()
        self._can_split = hasattr(socket, "SO_REUSEPORT") and not shared
        self._door: socket.socket | None = None
        self._door_drops = 0
        self._last = 0.0
        self._silent = False
        self._timer: Timer | None = None
        self.overflow = ReceiveBuffer(loop)
        self._use(sock)
        loop.set_priority_reader(self._read_between)
        loop.call_every(DROPS_PERIOD, self.overflow.look)
        loop.call_every(DOOR_PERIOD, self._answer_door)

    # --- restarting

    def export(self) -> IngestState:
        """Return what the next program needs to go on reading where this one stopped."""
        return IngestState(
            stream=descriptor(self._stream),
            door=None if self._door is None else descriptor(self._door),
            owner=self.owner,
            checked=self._checked,
            can_split=self._can_split,
            silent=self._silent,
            last=self._last,
            received=self.received,
            strangers=self.strangers.total,
            overflowed=self.overflow.total,
            drops=self.overflow.seen,
            door_drops=self._door_drops,
        )

    def restore(self, saved: IngestState) -> None:
        """Go on where the previous program stopped; `sock` was its stream's socket."""
        self.owner = saved.owner
        self.received, self.strangers.total = saved.received, saved.strangers
        self._checked, self._can_split = saved.checked, saved.can_split
        self.overflow.total, self.overflow.seen = saved.overflowed, saved.drops
        self._door_drops = saved.door_drops
        if saved.door is not None:
            self._door = adopt(saved.door)
            self._bound = self._door.getsockname()
        self._silent, self._last = saved.silent, saved.last
        if self.owner is not None and not self.strangers.allows(self.owner):
            self.owner = None  # the configuration has changed: it will be rejected like a stranger
            if self._door is not None:
                self._use_door(self._door)
        elif self.owner is not None and not self._silent:
            self._loop.call_later(0, self._check_silence)

    # --- reading the stream

    def _use(self, sock: socket.socket) -> None:
        """Take the stream from this socket from now on, and trust no sender on it yet."""
        self._stream = sock
        self._checked = True
        self.overflow.use(sock)
        self._loop.watch(sock, self._pump, broken=self._broken)

    def _broken(self, _error: Exception) -> None:
        """Go on: the datagrams that met the bug have been read, the next ones may fare better.

        `_pump` has seen to it that they will be read.
        """

    def _read_between(self) -> None:
        """Read in the middle of a crowded turn, unless datagrams are to gather for longer."""
        if self._timer is None or self._timer.when <= self._loop.time():
            self._pump()

    def _pump(self) -> None:
        """Read a batch, forward it, and decide when to read the next one."""
        started = self._loop.time()
        self._batch.clear()
        full = False
        try:
            full = self._read_checked() if self._checked else self._read()
            if self._batch.count:
                self._arrived(started, self._batch.count)
                self._forward(self._batch.finish())
        finally:  # a bug costs the datagrams that met it, not those that follow
            self._schedule_read(started, 0 if full else self._batch.count)

    def _read(self) -> bool:
        """Fill the batch; return whether it is full, so that more may be waiting.

        Anybody on the LAN can forge an ICMP error that a connected socket then reports (ip(7)). It
        means nothing here: the relay sends nothing on this socket.
        """
        receive, room, add = self._stream.recv_into, self._batch.room, self._batch.add
        try:
            for _ in range(MAX_DATAGRAMS):
                if not add(receive(room())):
                    break
        except OSError:
            return False
        return True

    def _read_checked(self) -> bool:
        """Fill the batch, comparing senders.

        Also the way to begin on a connected socket: what strangers sent before it was connected is
        still in its queue, until the queue has been seen empty once.
        """
        try:
            for _ in range(MAX_DATAGRAMS):
                size, source = self._stream.recvfrom_into(self._batch.room())
                if self._admit(source, size) and not self._batch.add(size):
                    break
        except BlockingIOError:
            self._checked = self._door is None
            return False
        except OSError:  # as in `_read`
            return False
        return True

    def _arrived(self, now: float, count: int) -> None:
        self.received += count
        self._last = now
        if self._silent and self.owner is not None:
            self._silent = False
            self._loop.call_later(self._timeout, self._check_silence)
            log.info("ingest_resumed", source=show(self.owner))

    def _schedule_read(self, started: float, count: int) -> None:
        """Let datagrams gather after a turn with so many; 0: do not, whatever comes."""
        now = self._loop.time()
        wait = self._coalescer.wait(now, now - started, count) if count else 0.0
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(wait, self._pump) if wait else None
        self._loop.interest(self._stream, read=not wait)

    # --- who may send

    def _admit(self, source: Address, size: int) -> bool:
        """Tell whether a datagram belongs to the stream.

        The first one, and the first one after the owner fell silent, makes its sender the owner.
        """
        if source == self.owner:
            return True
        if (self.owner is None or self._silent) and self._may_own(source, size):
            self._lock(source, size)
            return True
        self._reject(source)
        return False

    def _may_own(self, source: Address, size: int) -> bool:
        return size > 0 and self.strangers.allows(source)

    def _lock(self, source: Address, size: int) -> None:
        if self.owner is None:
            log.info("ingest_started", source=show(source), datagram_size=size)
        else:
            log.info("source_takeover", source=show(source), previous=show(self.owner))
        self.owner = source
        self._silent = False
        self._loop.call_later(self._timeout, self._check_silence)
        log.info("source_locked", source=show(source))
        self._split()

    def _split(self) -> None:
        """Connect the stream's socket to the owner and open a new door for everyone else."""
        if not self._can_split or self.owner is None:
            return
        try:
            self._door = linux.split(self._stream, self._bound, self.owner)
        except OSError as error:
            log.debug("ingest_not_split", reason=error.strerror)
            return
        self._door.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, DOOR_BUFFER)
        self._door_drops = linux.dropped(self._door)

    def _reject(self, source: Address) -> None:
        self.strangers.reject(source, locked=bool(self.owner) and not self._silent)

    def _answer_door(self) -> None:
        """Count what strangers sent, unless one of them is to be the next owner."""
        for _ in range(_DOOR_READS):
            if self._door is None:
                return
            try:
                data, source = self._door.recvfrom(65535)
            except BlockingIOError:
                break
            if source == self.owner or (self._silent and self._may_own(source, len(data))):
                self._open_door(data, source)
            else:
                self._reject(source)
        drops = linux.dropped(self._door) if self._door else 0
        self.strangers.total += drops - self._door_drops
        self._door_drops = drops

    def _open_door(self, data: bytes, source: Address) -> None:
        """Read the stream from the door: its owner has changed, or stands there himself.

        The latter happens if the stream is sent to another address of this machine than the one
        that the kernel chose when it connected the socket (a broadcast, an alias): two sockets
        cannot part the traffic then.
        """
        self._pump()
        if self._door is None:
            return
        if source != self.owner and not self._silent:
            self._reject(source)  # the owner is back: its datagrams were waiting
            return
        self._use_door(self._door)
        if self._admit(source, len(data)) and data:
            self._arrived(self._loop.now, 1)
            self._forward([Run(memoryview(data), len(data), 1)])
        self._schedule_read(self._loop.now, 0)

    def _use_door(self, door: socket.socket) -> None:
        """Give up the stream's socket, which is connected, for the one that is open to all."""
        self._loop.discard(self._stream)
        self._door = None
        self._use(door)

    # --- what is not there

    def _check_silence(self) -> None:
        if self._loop.time() - self._last >= self._timeout:
            # This process may have been the one that slept: what was sent meanwhile is waiting.
            self._pump()
        quiet = self._loop.time() - self._last
        if quiet < self._timeout:
            self._loop.call_later(self._timeout - quiet, self._check_silence)
        elif self.owner is not None:
            self._silent = True
            log.warning("ingest_silent", source=show(self.owner), seconds=round(quiet, 1))
