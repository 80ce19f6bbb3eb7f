"""What the computer gives: Python, buffers, descriptors, memory, disk, processors, clocks."""

import contextlib
import ctypes
import importlib.metadata
import os
import platform
import shutil
import socket
import sys
from collections.abc import Iterator
from functools import partial

from relaylib.config import Config
from relaylib.doctor.finding import (
    DATAGRAM,
    Figures,
    Finding,
    Grade,
    read,
    read_number,
    size,
    time,
)
from relaylib.history.history import measures
from relaylib.history.recordings import why_not_private
from relaylib.net import linux
from relaylib.net.descriptors import descriptor_limit
from relaylib.net.loop import Loop
from relaylib.outputs.output import SEND_BUFFER
from relaylib.source.receive_buffer import RECEIVE_BUFFER

PACKAGES = ("structlog", "h11", "prometheus_client")

_BOOKED = 2304
"""Bytes that the kernel counts in a receive buffer for one such datagram (`skb->truesize`, on the
loopback; some network drivers need twice as much)."""

_OWN_DESCRIPTORS = 64
"""Descriptors beside those of the audience: listeners, log, selector, and some in reserve."""

_OWN_MEMORY = 32 << 20
"""Bytes that the program takes without history and viewers."""

_A_VIEWER = 4 << 10
"""Bytes that a session takes."""

_SLOW_CLOCK = 1e-6
"""Seconds to read the clock above which it is not the processor's own, and costs."""

_TIME_ERROR = 5
"""adjtimex(2): the clock is not synchronised."""


def machine(config: Config) -> Iterator[Finding]:
    """Look at the computer."""
    yield python()
    yield segmentation(config.segmentation and _segments(), asked=config.segmentation)
    yield receive_buffer(*_granted(RECEIVE_BUFFER))
    yield send_buffer(read_number("/proc/sys/net/core/wmem_max"))
    yield descriptors(config, descriptor_limit())
    yield memory(config, available_memory())
    if config.record_faults is not None:
        yield disk(config, *_space(config.record_faults))
        yield recordings(config.record_faults, why_not_private(config.record_faults))
    yield cores(_cores(), _load(), _quota())
    yield clock(
        read("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        _clock_cost(),
        _is_synchronised(),
        names_files=config.record_faults is not None,
    )


def python() -> Finding:
    """Say which Python it is; that it is new enough, and complete, the program has seen before."""
    packages = {name: importlib.metadata.version(name) for name in PACKAGES}
    found = ", ".join(f"{name} {version}" for name, version in packages.items())
    version = platform.python_version()
    return Finding(
        "python", "Python", f"{version}; {found}", figures={"version": version, **packages}
    )


# --- sending and receiving


def segmentation(works: bool, *, asked: bool) -> Finding:
    """Tell whether one send leaves as many datagrams."""
    make = partial(Finding, "segmentation", "UDP_SEGMENT", figures={"works": works})
    if works:
        return make("the kernel cuts one send into many datagrams")
    if not asked:
        return make("not used (--no-segmentation): each datagram is a system call", Grade.HINT)
    advice = "Each datagram is a system call, four times the work. It takes Linux 4.18."
    return make("this kernel does not cut one send into datagrams", Grade.HINT, advice)


def _segments() -> bool:
    """Try it: a kernel may know the option, and a sandbox forbid it."""
    with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
        there, here = (
            stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(2)
        )
        there.settimeout(0.2)
        there.bind(("127.0.0.1", 0))
        here.connect(there.getsockname())
        linux.set_segment(here, DATAGRAM)
        here.send(bytes(2 * DATAGRAM))
        return [len(there.recv(2 * DATAGRAM)) for _ in range(2)] == [DATAGRAM, DATAGRAM]
    return False


def standstill(buffer: int, bits: float) -> float:
    """Return for how many seconds a receive buffer holds a stream of so many bits a second."""
    return 2 * buffer / _BOOKED * DATAGRAM * 8 / bits  # the kernel doubles what is asked, socket(7)


def receive_buffer(granted: int, limit: int | None) -> Finding:
    """Tell how long the machine may stand still before the stream has a hole."""
    found = f"{size(granted)} hold {time(standstill(granted, 50e6))} of a 50 Mb/s stream"
    if granted < 1 << 20:
        found = f"{found}, {time(standstill(granted, 5e6))} at 5 Mb/s"
    make = partial(
        Finding,
        "receive_buffer",
        "receive buffer",
        figures={"granted": granted, "wanted": RECEIVE_BUFFER, "rmem_max": limit},
    )
    if granted >= RECEIVE_BUFFER:
        if limit is None or limit >= RECEIVE_BUFFER:
            return make(found)
        advice = f"Without root it would be {size(limit)} (net.core.rmem_max)."
        return make(found, advice=advice)
    wanted = size(RECEIVE_BUFFER)
    advice = f"Should the machine be busy for longer, datagrams are lost. For {wanted}, as root:"
    return make(found, Grade.HINT, advice, _sysctl("rmem_max", RECEIVE_BUFFER))


def send_buffer(limit: int | None) -> Finding:
    """Tell whether whole batches find room on their way out."""
    make = partial(Finding, "send_buffer", "send buffer", figures={"wmem_max": limit})
    if limit is None:
        return make("the system does not tell its limit")
    found = f"up to {size(limit)} (net.core.wmem_max)"
    if limit >= SEND_BUFFER // 2:  # one and a half whole batches
        return make(found)
    advice = "Datagrams may be dropped for viewers whose link is fast enough. As root:"
    return make(found, Grade.HINT, advice, _sysctl("wmem_max", SEND_BUFFER))


def _sysctl(name: str, value: int) -> tuple[str, ...]:
    line = f"net.core.{name}={value}"
    return f"sysctl -w {line}", f"echo {line} >>/etc/sysctl.d/60-relay.conf"


def _granted(wanted: int) -> tuple[int, int | None]:
    """Return what buffer a socket gets, and the limit for those without privilege."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        return linux.grow_receive_buffer(probe, wanted), read_number("/proc/sys/net/core/rmem_max")


# --- descriptors, memory, disk


def descriptors(config: Config, limit: int | None) -> Finding:
    """Tell whether there are as many descriptors as viewers are let in."""
    http = config.max_http_clients if config.http else 0
    needed = 2 * config.max_clients + http + len(config.to) + _OWN_DESCRIPTORS
    make = partial(
        Finding, "descriptors", "descriptors", figures={"limit": limit, "needed": needed}
    )
    if limit is None:
        return make("this system has no limit for them")
    audience = f"{config.max_clients} viewers" + f" and {http} by HTTP" * bool(http)
    if limit >= needed:
        return make(f"{limit}, enough for {audience}")
    room = max(0, limit - http - len(config.to) - _OWN_DESCRIPTORS) // 2
    advice = f"There is room for {room} viewers. Raise it, or let fewer in (--max-clients):"
    commands = (f"ulimit -n {needed}", f"LimitNOFILE={needed}    # in relay.service")
    return make(f"{limit}, but {needed} for {audience}", Grade.HINT, advice, commands)


def memory(config: Config, available: int | None) -> Finding:
    """Tell whether the history will fit when it has filled."""
    history = measures(config)[1] if config.timeshift or config.inspect else 0
    needed = history + _OWN_MEMORY + config.max_clients * _A_VIEWER
    make = partial(Finding, "memory", "memory", figures={"available": available, "needed": needed})
    need = f"up to {size(needed)}, {size(history)} of it history"
    if available is None:
        return make(f"{need}; the system does not tell what is free")
    if available >= needed:
        return make(f"{need}; {size(available)} are free")
    least = max(1, (available - needed + history) * 8 // 10 >> 20)
    advice = "When the history has filled, the system ends the relay. Keep less, or add memory:"
    commands = (f"--timeshift-mib {least}",) if config.timeshift else ()
    return make(f"{need}, but only {size(available)} are free", Grade.WRONG, advice, commands)


def available_memory() -> int | None:
    """Return how many bytes this process may still have, by the machine and by its cgroups (v2)."""
    bounds = [_cgroup_free(folder) for folder in _cgroups()]
    for line in read("/proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            bounds.append(int(line.split()[1]) << 10)
    return min((bound for bound in bounds if bound is not None), default=None)


def _cgroup_free(folder: str) -> int | None:
    most, used = (read_number(f"{folder}/memory.{name}") for name in ("max", "current"))
    return None if most is None or used is None else max(0, most - used)


def _cgroups() -> Iterator[str]:
    """Yield the folders of this process's cgroup and of those that it is in."""
    for line in read("/proc/self/cgroup").splitlines():
        if line.startswith("0::/"):
            path = line.removeprefix("0::").rstrip("/")
            while path:
                yield f"/sys/fs/cgroup{path}"
                path = path.rpartition("/")[0]
            yield "/sys/fs/cgroup"


def disk(config: Config, free: int, files: int) -> Finding:
    """Tell whether there is room for recordings; that they may be written there is seen before."""
    needed = config.record_mib << 20
    make = partial(Finding, "disk", "disk", figures={"free": free, "needed": needed})
    found = f"{size(free)} free in {config.record_faults}, for {size(needed)} of recordings"
    if free >= needed and files:
        return make(found)
    advice = "A recording that finds the disk full is lost. Make room, or keep less:"
    least = max(1, free * 8 // 10 >> 20)
    grade = Grade.HINT if free > needed // 8 and files else Grade.WRONG
    return make(found, grade, advice, (f"df -h {config.record_faults}", f"--record-mib {least}"))


def recordings(folder: str, reason: str) -> Finding:
    """Tell whether other users can delete recordings, or put other files in their place."""
    make = partial(Finding, "recordings", "recordings", figures={"private": not reason})
    if not reason:
        return make(f"nobody else may write to {folder}")
    advice = "Others may delete recordings, or put files in their place. Take one of the relay's:"
    return make(reason, Grade.HINT, advice, ("mkdir -m 700 /var/lib/relay",))


def _space(folder: str) -> tuple[int, int]:
    """Return bytes that are free for us, and whether any file is (some file systems do not say)."""
    if not hasattr(os, "statvfs"):
        return shutil.disk_usage(folder).free, 1
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize, found.f_favail if found.f_files else 1


# --- processors and clocks


def cores(count: int, load: float | None, quota: float | None) -> Finding:
    """Tell whether the relay, which uses one, has a processor to itself."""
    figures: Figures = {"cores": count, "load": load, "quota": quota}
    make = partial(Finding, "cores", "processors", figures=figures)
    found = f"{count}" + (f", load average {load:.1f}" if load is not None else "")
    if quota is not None and quota < 1:
        advice = "It stands still whenever it has used that up, and the stream with it."
        return make(f"the cgroup grants {quota:.2g} of one (cpu.max)", Grade.HINT, advice)
    if load is not None and load > count:
        advice = "The relay uses one, and waits for it now. What keeps them busy:"
        return make(found, Grade.HINT, advice, ("top -o %CPU",))
    return make(f"{found}; the relay uses one")


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _load() -> float | None:
    try:
        return round(os.getloadavg()[0], 2)
    except (AttributeError, OSError):
        return None


def _quota() -> float | None:
    """Return how many processors the cgroups grant; None: as many as there are."""
    bounds = []
    for folder in _cgroups():
        words = read(f"{folder}/cpu.max").split()
        if len(words) == 2 and words[0].isdecimal():
            bounds.append(int(words[0]) / int(words[1]))
    return min(bounds, default=None)


def clock(source: str, cost: float, synchronised: bool | None, *, names_files: bool) -> Finding:
    """Tell what it costs to read the clock, and whether recordings will have the right names."""
    figures: Figures = {
        "source": source,
        "cost_ns": round(cost * 1e9),
        "synchronised": synchronised,
    }
    make = partial(Finding, "clock", "clock", figures=figures)
    found = f"{source}, " * bool(source) + f"{cost * 1e9:.0f} ns a look"
    if synchronised is not None:
        found += "; synchronised" if synchronised else "; not synchronised"
    if cost > _SLOW_CLOCK:
        advice = "That is slow: the kernel does not trust the processor's clock. It may say why:"
        return make(found, Grade.HINT, advice, ("dmesg | grep -i -e tsc -e clocksource",))
    if synchronised is False and names_files:
        advice = "The stream does not mind, but recordings are named after the time of day."
        return make(found, Grade.HINT, advice, ("timedatectl set-ntp true",))
    return make(found + ", which only dates in the log show" * (synchronised is False))


def _clock_cost() -> float:
    """Return how long it takes to read the clock, in seconds: the best of some rounds."""
    look, rounds, looks = Loop.time, 5, 1000
    best = float("inf")
    for _ in range(rounds):
        begun = look()
        for _ in range(looks):
            look()
        best = min(best, (look() - begun) / looks)
    return best


def _is_synchronised() -> bool | None:
    """Ask the kernel whether its clock is kept right (adjtimex(2)); None: it cannot tell."""
    if sys.platform != "linux":
        return None
    try:
        # A `struct timex` of zeros, of which more is there than any system needs: only a question.
        state: int = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512))
    except (OSError, AttributeError):
        return None
    return None if state < 0 else state != _TIME_ERROR
