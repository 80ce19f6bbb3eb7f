"""Keeps the group that the stream comes from joined, also while it is silent.

Linux keeps a membership while its interface is down and reports it to the network again when it
comes up. A membership does not survive the end of its interface: one that is created again, under
the same name, is a new interface. So while nothing comes, the interface is looked up every few
seconds, and the group is joined on the one that has the name now.

While nothing comes, the group is also joined anew on the same interface now and then. Each time the
kernel sends a membership report. A switch without an IGMP querier forgets its members after some
minutes; at the report it forwards the group again. That restores the stream each time, but the
cause stays, so the log has a remedy.
"""

import structlog

from relaylib.net import interfaces
from relaylib.net.address import show
from relaylib.net.loop import Loop
from relaylib.net.multicast import Membership, MembershipState
from relaylib.source.ingest import Ingest

LOOK_PERIOD = 2.0
"""Seconds between two looks at whether datagrams come: as long as a source may be silent."""

REPORT_PERIOD = 10.0
"""Seconds of silence between two membership reports. A switch without a querier forgets a member
after some minutes, and two packets in ten seconds are no load."""

NO_QUERIER = (
    "if the source still sends: enable an IGMP querier (IPv6: an MLD querier) on the switch or "
    "router, or switch IGMP snooping off"
)

log = structlog.get_logger()


def remedy(membership: Membership) -> str:
    """Say what may help when the group has gone silent."""
    index, name = membership.state.index, membership.interface
    if index == 0:  # the system's choice, and it does not say which
        return NO_QUERIER
    if index is None or not interfaces.name_of(index):
        return f"the interface is gone: {name}" if name else "the interface is gone"
    return NO_QUERIER if interfaces.is_running(name) else f"interface {name} is down"


class Group:
    """Keeps the ingest's group joined, on the loop's timer."""

    def __init__(self, loop: Loop, ingest: Ingest, membership: Membership) -> None:
        self._loop = loop
        self._ingest = ingest
        self._membership = membership
        self._heard = self._count()
        self._report_at = loop.now
        self._lost = False
        loop.call_every(LOOK_PERIOD, self._look)

    def export(self) -> MembershipState:
        """Return what the next program needs to go on with this membership."""
        return self._membership.state

    def leave(self) -> None:
        """Leave the group, because the relay ends."""
        self._membership.leave()

    def _count(self) -> int:
        return self._ingest.received + self._ingest.gate.state.rejected

    def _look(self) -> None:
        heard, now = self._count(), self._loop.now
        if heard != self._heard:
            self._heard = heard
            self._report_at = now
        elif now >= self._report_at or self._moved():
            self._report_at = now + REPORT_PERIOD
            self._join()

    def _moved(self) -> bool:
        """Tell whether the group's interface has changed, or has just disappeared."""
        try:
            return self._membership.find() != self._membership.state.index
        except OSError:
            return not self._lost

    def _join(self) -> None:
        before = self._membership.state.index
        interface = self._membership.interface
        try:
            self._membership.join()
        except OSError as error:
            if not self._lost:
                log.warning("group_lost", group=self._name, interface=interface,
                            detail=error.strerror)  # fmt: skip
            self._lost = True
            return
        if self._lost or self._membership.state.index != before:
            log.info("group_joined", group=self._name, interface=self._membership.interface)
        self._lost = False

    @property
    def _name(self) -> str:
        return show(self._membership.address)
