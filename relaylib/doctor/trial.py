"""The self-test: a stream through a real relay, on the loopback, to real viewers.

First a stream of 5 Mb/s to one viewer: are the bytes those that were sent, is one missing, and how
long do they take? Then the same to many, for a second: what that costs the relay tells how many it
could carry. `loopback` has the relay that is tested, its source and its viewers.

What is measured is the processor's part. On the loopback the kernel hands each datagram to its
receiver within the relay's send, so that is in it; a network card's driver is not. Nor is the link,
whose share is only arithmetic.
"""

import contextlib
import socket
from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

from relaylib.config import Config
from relaylib.doctor.finding import Figure, Finding, Grade, read_number, time
from relaylib.doctor.loopback import (
    DRAIN_EVERY,
    HOST,
    RATE,
    TrialError,
    TrialRelay,
    TrialViewer,
    datagram,
    number_of,
    paced,
)
from relaylib.lifecycle.handover import own_command
from relaylib.net.descriptors import descriptor_limit
from relaylib.net.interfaces import is_running
from relaylib.net.loop import Loop

SECONDS = 1.5
"""For which one viewer is sent the stream."""

MANY, MANY_SECONDS = (100, 400), 1.0
"""Viewers whose cost is measured, and for how long: the more, the less does each one cost."""

FULL = 0.7
"""Share of a processor that may be planned with: the rest is for bursts, and for HTTP."""

_LINK = 0.9
"""The same of a link: the stream leaves in bursts."""

_MEGABITS = 5.2
"""Mb/s of the stream with the headers of UDP, IPv4 and Ethernet."""

_LATE = 0.1
"""Seconds: half of what players buffer at least."""

_LOST = 0.01
"""Share that is too much of a stream that never left this machine."""


def trial(config: Config, *, alone: bool) -> Iterator[Finding]:
    """Test; unless another relay runs here (not `alone`), find out what this machine carries."""
    try:
        with TrialRelay(config) as relay:
            yield one_viewer(relay)
            if alone:
                yield many_viewers(relay)
    except (TrialError, OSError) as error:
        found = f"no relay can be tested: {error}"
        advice = "Start one by hand and read its log:"
        command = (" ".join([*own_command(), HOST, "0"]),)
        yield Finding("selftest", "self-test", found, Grade.WRONG, advice, command)
        return
    if not alone:
        found = "not measured, so as not to disturb the relay that runs"
        yield Finding("capacity", "capacity", found, figures={"viewers": None, "core_share": None})


# --- one viewer


def one_viewer(relay: TrialRelay) -> Finding:
    """Send the stream to one viewer."""
    with TrialViewer(relay.port, grow=True) as viewer:
        sent = list[float]()
        arrived = dict[int, float]()
        wrong = 0
        for number in paced(SECONDS, viewer.sock):
            if number is not None:
                sent.append(Loop.time())
                relay.send(datagram(number))
            for each in viewer.read():
                index = number_of(each)
                wrong += index is None or index >= len(sent) or each != datagram(index)
                if index is not None:
                    arrived.setdefault(index, Loop.time())
    return judge_one(sent, arrived, wrong)


def judge_one(sent: Sequence[float], arrived: dict[int, float], wrong: int) -> Finding:
    """Say how it went: when each was sent, when those that came arrived, and how many differ."""
    late = sorted(when - sent[number] for number, when in arrived.items() if number < len(sent))
    lost = len(sent) - len(late)
    p50, p99 = (_quantile(late, q) if late else float("nan") for q in (0.5, 0.99))
    figures = {
        "sent": len(sent),
        "lost": lost,
        "identical": not wrong,
        "p50_ms": round(p50 * 1000, 2) if late else None,
        "p99_ms": round(p99 * 1000, 2) if late else None,
    }
    make = partial(Finding, "selftest", "self-test", figures=figures)
    if not late:
        return make(f"{len(sent)} datagrams sent, none arrived", Grade.WRONG, _BROKEN)
    found = (
        f"{len(late)} of {len(sent)} datagrams arrived, "
        + (f"{wrong} of them altered" if wrong else "bytes identical")
        + f"; latency {time(p50)} (p50), {time(p99)} (p99)"
    )
    if wrong or lost > _LOST * len(sent):
        return make(found, Grade.WRONG, _BROKEN)
    if lost or p99 > _LATE:
        return make(found, Grade.HINT, "This machine is busy: try again when it is not.")
    return make(found)


_BROKEN = "Something on this machine is in the way of UDP on the loopback, or the relay is broken."


def _quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


# --- many viewers


class TrialLoad(NamedTuple):
    """The load of so many viewers: a share of one processor, None if unknown, and the share of the
    datagrams that was lost.
    """

    viewers: int
    busy: float | None
    lost: float


def many_viewers(relay: TrialRelay) -> Finding:
    """Send the stream to more and more viewers, and measure what that costs the relay."""
    limit = descriptor_limit()
    most = MANY[-1] if limit is None else max(1, (limit - 64) // 4)  # two there, two here
    loads = list[TrialLoad]()
    with contextlib.ExitStack() as stack:
        viewers = list[TrialViewer]()
        for count in MANY:
            while len(viewers) < min(count, most):
                viewers.append(stack.enter_context(TrialViewer(relay.port)))
            loads.append(_load(relay, viewers))
            if loads[-1].lost > _LOST or (loads[-1].busy or 1) > FULL / 2:
                break
    held = [load for load in loads if load.lost <= _LOST]
    return judge_many(held[-1] if held else loads[-1], _fastest_link())


def _load(relay: TrialRelay, viewers: Sequence[TrialViewer]) -> TrialLoad:
    sent = received = 0
    used, drain_at = relay.cpu(), Loop.time()
    for number in paced(MANY_SECONDS):
        if number is not None:
            relay.send(datagram(number))
            sent += 1
        if number is None or Loop.time() >= drain_at:
            received += sum(len(viewer.read()) for viewer in viewers)
            drain_at = Loop.time() + DRAIN_EVERY
    spent = relay.cpu()
    busy = None if used is None or spent is None else (spent - used) * RATE / sent
    return TrialLoad(len(viewers), busy, max(0.0, 1 - received / (sent * len(viewers))))


def judge_many(load: TrialLoad, link: tuple[str, int] | None) -> Finding:
    """Say how many viewers fit; the link, if its speed is known, has a name and Mb/s."""
    figures: dict[str, Figure] = {
        "tried": load.viewers,
        "core_share": None if load.busy is None else round(load.busy, 3),
        "lost_share": round(load.lost, 4),
        "viewers": None,
        "link_viewers": None,
    }
    make = partial(Finding, "capacity", "capacity", figures=figures)
    if load.lost > _LOST:
        found = f"not known: of a stream to {load.viewers} viewers {load.lost:.0%} was lost here"
        return make(found, Grade.HINT, "This machine is busy: try again when it is not.")
    if not load.busy:
        return make(f"{load.viewers} viewers at 5 Mb/s; the system does not tell what they cost")
    figures["viewers"] = fit = _about(load.viewers / load.busy * FULL)
    found = (
        f"about {fit} viewers at 5 Mb/s: {load.viewers} took {load.busy:.0%} of one processor, "
        f"of which {FULL:.0%} may be planned with"
    )
    if link is not None:
        figures["link_viewers"] = carried = _about(link[1] * _LINK / _MEGABITS)
        found += f"; {link[0]}, {link[1]} Mb/s, carries {carried}"
    return make(found)


def _about(number: float) -> int:
    """Round down to a digit, or two of which the last is 5: 340 to 300, 870 to 850."""
    step = 5 * 10 ** max(0, len(str(int(number))) - 2)
    return int(number // step * step)


def _fastest_link() -> tuple[str, int] | None:
    """Return the name and the Mb/s of the fastest link that is up and tells."""
    links = []
    with contextlib.suppress(OSError):
        for _, name in socket.if_nameindex():
            speed = read_number(f"/sys/class/net/{name}/speed")
            if speed and name != "lo" and is_running(name):
                links.append((name, speed))
    return max(links, key=lambda link: link[1], default=None)
