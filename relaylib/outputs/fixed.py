"""Fixed outputs (`--to`): screens and groups that get the stream for as long as the relay runs.

To the fan-out they are outputs like any other. But no viewer would ask for them again, so they are
never given up. A closed port is probed until it opens. Where there is no route, one is looked for
every `LOOK_PERIOD`, with a new socket, since an interface that comes back may have another index,
and this machine another address. There is no viewer to tell either, so the log says when the stream
no longer gets there, and when it does again.

Two MRLs that differ in the interface are two outputs: several may send to one group. How many hops
it may go changes with a reload, while the stream goes on.
"""

import contextlib
import socket
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import structlog

from relaylib.errors import SetupError
from relaylib.log import Throttle
from relaylib.net.address import Address, show
from relaylib.net.interfaces import index_of
from relaylib.net.lookup import comes_back, family_of
from relaylib.net.loop import Loop
from relaylib.net.mrl import Mrl
from relaylib.net.multicast import find_interface, group_address, has_scope, set_sending
from relaylib.outputs.fanout import Fanout
from relaylib.outputs.output import Counters, Output, OutputState, open_socket
from relaylib.outputs.viewer_row import FIXED, STREAMING, UNREACHABLE, ViewerRow

LOOK_PERIOD = 2.0
"""Seconds between two looks at the counters of an output, and two attempts where there is no way.
"""

CALM = 5.0
"""Seconds without an error after which an output counts as reachable again: a host that is switched
off causes an error every three seconds, when ARP gives up."""

CHANGES, CHANGES_PERIOD = 10, 600.0
"""Most lines of the log about one output in a period, and the length of the period in seconds."""

_ANY: dict[socket.AddressFamily, Address] = {
    socket.AF_INET: ("0.0.0.0", 0),
    socket.AF_INET6: ("::", 0),
}
"""Local address by family: the route decides it, because a fixed output expects none of ours."""

_DEFAULT_TTL = -1
"""The ttl that restores the system's default (RFC 3493, 5.2)."""

log = structlog.get_logger()


@dataclass(slots=True)
class FixedState:
    """What a reload hands over of a fixed output that is open. `unreachable`: the log says so.

    `since`: when it came, by the monotonic clock; None if an older program did not know.
    """

    mrl: Mrl
    output: OutputState
    unreachable: bool = False
    since: float | None = None


class _Fixed:
    """An MRL and its output, None while there is none.

    `unreachable`: the log says so. `seen` are its counters at the last look. `missed_at` is the
    time of the last look that found datagrams which had not got there.
    """

    __slots__ = ("log", "missed_at", "mrl", "output", "seen", "since", "unreachable")

    def __init__(self, loop: Loop, mrl: Mrl) -> None:
        self.mrl = mrl
        self.output: Output | None = None
        self.unreachable = False
        self.seen = Counters()
        self.since = loop.now
        self.missed_at = loop.now
        self.log = Throttle(loop.call_later, CHANGES, CHANGES_PERIOD)

    @property
    def where(self) -> str:
        """Its destination, for the log."""
        return show((self.mrl.host, self.mrl.port))


class FixedOutputs:
    """Opens an output for each MRL, looks after it, and closes it when it is configured no more.

    `ingest` is where the stream comes in: never a destination. Destinations that viewers have
    `taken` are not used while they are; `claimed` are the destinations of the fixed outputs.
    """

    def __init__(
        self,
        loop: Loop,
        fanout: Fanout,
        ingest: Address,
        mrls: Sequence[Mrl],
        saved: Iterable[FixedState] = (),
        *,
        taken: set[Address],
        claimed: set[Address],
    ) -> None:
        self._loop = loop
        self._fanout = fanout
        self._ingest = ingest
        self._taken = taken
        self._claimed = claimed
        former = {each.mrl.way: each for each in saved}
        self._fixed = [self._make(mrl, former.pop(mrl.way, None)) for mrl in mrls]
        self._gone = [self._make(each.mrl, each) for each in former.values()]
        loop.call_soon(self._begin)  # until then a stand-in sends to all former outputs
        if mrls:
            loop.call_every(LOOK_PERIOD, self._look)

    @property
    def outputs(self) -> list[Output]:
        """All outputs that are open."""
        return [each.output for each in (*self._fixed, *self._gone) if each.output is not None]

    def viewer_rows(self) -> Iterator[ViewerRow]:
        """Yield a row for each fixed output."""
        for each in self._fixed:
            output = each.output
            counters = Counters()
            if output is not None:
                self._fanout.update_counters(output)
                counters = output.counters
            yield ViewerRow(
                each,
                FIXED,
                UNREACHABLE if output is None or each.unreachable else STREAMING,
                None,
                (each.mrl.host, each.mrl.port),
                None if output is None else 0.0,
                counters.sent,
                counters.lost,
                each.since,
            )

    def export(self) -> list[FixedState]:
        """Return what the next program needs to go on with the open outputs."""
        return [
            FixedState(each.mrl, self._fanout.export(each.output), each.unreachable, each.since)
            for each in self._fixed
            if each.output is not None
        ]

    def close(self) -> None:
        """Close all fixed outputs."""
        for each in self._fixed:
            self._remove(each)

    # --- opening and closing

    def _make(self, mrl: Mrl, saved: FixedState | None) -> _Fixed:
        fixed = _Fixed(self._loop, mrl)
        if saved is not None:
            fixed.output = output = self._fanout.restore(saved.output, None)
            fixed.unreachable = saved.unreachable
            fixed.since = fixed.since if saved.since is None else saved.since
            fixed.seen = replace(output.counters)
            ttl = _DEFAULT_TTL if mrl.ttl is None else mrl.ttl
            with contextlib.suppress(OSError):  # its interface is gone
                set_sending(output.sock, replace(mrl, ttl=ttl))
            self._claimed.add(output.destination)
        return fixed

    def _begin(self) -> None:
        while self._gone:
            self._remove(self._gone.pop())
        for each in self._fixed:
            if each.output is None:
                self._open(each)

    def _open(self, fixed: _Fixed) -> None:
        try:
            destination = _resolve(fixed.mrl)
            if reason := self._conflict(destination):
                self._missed(fixed, reason)
                return
            sock = _connect(fixed.mrl, destination)
        except OSError as error:
            self._missed(fixed, str(error.strerror))
            return
        fixed.output = Output(destination, sock, None)
        fixed.unreachable = False
        self._claimed.add(destination)
        self._fanout.resume(fixed.output)
        log.info("output_added", destination=fixed.where, iface=fixed.mrl.iface, fixed=True)

    def _conflict(self, destination: Address) -> str:
        """Say why the stream must not go there, "" if it may."""
        if comes_back(destination, self._ingest):
            return "the stream comes in there"
        return "a viewer has it" if destination in self._taken else ""

    def _remove(self, fixed: _Fixed) -> None:
        if fixed.output is None:
            return
        output, fixed.output = fixed.output, None
        self._fanout.pause(output)
        self._claimed.discard(output.destination)
        output.sock.close()
        log.info(
            "output_removed",
            destination=fixed.where,
            iface=fixed.mrl.iface,
            fixed=True,
            sent=output.counters.sent,
            dropped=output.counters.dropped,
            unreachable=output.counters.unreachable,
        )

    # --- looking after them

    def _look(self) -> None:
        for each in self._fixed:
            if each.output is None:
                self._open(each)
            else:
                self._check(each, each.output)

    def _check(self, fixed: _Fixed, output: Output) -> None:
        self._fanout.update_counters(output)
        before, fixed.seen = fixed.seen, replace(output.counters)
        now = self._loop.now
        if fixed.seen.unreachable > before.unreachable:
            fixed.missed_at = now
            self._missed(fixed, output.last_error)
            if output.probe.no_way:
                self._renew(fixed, output)
        elif fixed.seen.offered == before.offered:
            fixed.missed_at = now  # a source that is silent proves nothing
        elif fixed.unreachable and now - fixed.missed_at >= CALM:
            fixed.unreachable = False
            fixed.log.log(
                log.info, "output_reachable", destination=fixed.where, iface=fixed.mrl.iface
            )

    def _missed(self, fixed: _Fixed, reason: str) -> None:
        if not fixed.unreachable:
            fixed.unreachable = True
            fixed.log.log(
                log.warning,
                "output_unreachable",
                destination=fixed.where,
                iface=fixed.mrl.iface,
                reason=reason,
            )

    def _renew(self, fixed: _Fixed, output: Output) -> None:
        """Send by another socket if there is a way now."""
        with contextlib.suppress(OSError):
            sock = _connect(fixed.mrl, output.destination)
            output.sock.close()
            output.use(sock)
            self._fanout.resume(output)


def check_outputs(mrls: Iterable[Mrl], ingest: Address) -> None:
    """Make sure that these can be the fixed outputs of a relay with this ingest.

    A missing route is no fault: there may be one later.

    Raises:
        SetupError: an interface does not exist (status 1), or one leads into the ingest (2).
    """
    for mrl in mrls:
        where = show((mrl.host, mrl.port))
        try:
            destination = _resolve(mrl)
            with socket.socket(family_of(destination), socket.SOCK_DGRAM) as probe:
                set_sending(probe, mrl)
            loop = comes_back(destination, ingest)
        except OSError as error:
            raise SetupError(f"cannot send to {where}: {error.strerror}") from None
        if loop:
            raise SetupError(f"cannot send to {where}: the stream comes in there", 2)


def _resolve(mrl: Mrl) -> Address:
    """Return the address to connect to.

    Raises:
        OSError: its zone, or the interface of a link-local group, does not exist.
    """
    if mrl.is_group:
        return group_address(mrl, find_interface(mrl) if has_scope(mrl.host) else 0)
    host, _, zone = mrl.host.partition("%")
    if ":" not in host:
        return host, mrl.port
    return host, mrl.port, 0, index_of(zone) if zone else 0


def _connect(mrl: Mrl, destination: Address) -> socket.socket:
    prepare = partial(set_sending, mrl=mrl)
    return open_socket(destination, _ANY[family_of(destination)], prepare)
