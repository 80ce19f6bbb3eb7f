"""The ports the relay would listen on: whether they are its own, free, or held (proc(5))."""

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from relaylib.config import HTTP_PORT, Config
from relaylib.doctor.finding import Finding, Grade, read
from relaylib.errors import SetupError
from relaylib.net.address import Address, show
from relaylib.net.listen import bind, resolve_own

_LISTENING = "0A"
"""TCP_LISTEN in /proc/net/tcp."""

_SYSTEMD = 1
"""The process that holds the ports of a `relay.socket`, and starts the relay when a peer comes."""


class Holder(NamedTuple):
    """A process that has a port."""

    pid: int
    command: str

    def __str__(self) -> str:
        return f"process {self.pid} ({self.command})"


@dataclass
class BoundPorts:
    """What the relay would listen on, as far as it could be had.

    `control` and `ingest` are the sockets, None if they could not be bound, and `findings` why;
    one for a group is not opened.
    `address` is that of control, None if it is no address of ours. If another process has it, it is
    `taken`, and `holder` is that process, if known.
    """

    control: socket.socket | None = None
    ingest: socket.socket | None = None
    findings: list[Finding] = field(default_factory=list)
    address: Address | None = None
    taken: bool = False
    holder: Holder | None = None

    def close(self) -> None:
        """Free the ports."""
        for sock in (self.control, self.ingest):
            if sock is not None:
                sock.close()


def open_door(config: Config) -> BoundPorts:
    """Listen as the relay would, as far as that can be."""
    door = BoundPorts()
    try:
        _, control = resolve_own(config.host, config.port)
    except SetupError as error:
        advice = "Name an address of this machine, or 0.0.0.0 for all of them."
        door.findings.append(Finding("host", "HOST", str(error), Grade.WRONG, advice))
        return door
    try:
        door.control = bind(config.host, config.port, socket.SOCK_STREAM)
        door.address = door.control.getsockname()
        door.findings.append(_free("control_port", "control", "TCP", door.control))
    except SetupError as error:
        finding, holder = taken("control_port", "control", "TCP", error, control)
        door.findings.append(finding)
        if _in_use(error):
            door.address, door.taken, door.holder = control, True, holder
    if config.ingest is not None and config.ingest.is_group:
        return door  # `groups` looks at that
    try:
        door.ingest = _bind_ingest(config, door.control)
        door.findings.append(_free("ingest_port", "ingest", "UDP", door.ingest))
    except SetupError as error:
        port = config.ingest.port if config.ingest else config.ingest_port or config.port
        door.findings.append(taken("ingest_port", "ingest", "UDP", error, (control[0], port))[0])
    return door


def _bind_ingest(config: Config, control: socket.socket | None) -> socket.socket:
    """Open what the stream comes in by.

    Raises:
        SetupError: it cannot be had.
    """
    where = config.ingest
    if where is None:
        same = control.getsockname()[1] if control else config.port
        port = same if config.ingest_port is None else config.ingest_port
        return bind(config.host, port, socket.SOCK_DGRAM)
    anywhere = "::" if resolve_own(config.host, 0)[0] == socket.AF_INET6 else "0.0.0.0"
    return bind(where.host or anywhere, where.port, socket.SOCK_DGRAM)


def http_port(config: Config) -> Finding:
    """Tell whether the port for HTTP is free."""
    assert config.http is not None
    host, port = config.http
    wanted = HTTP_PORT if port is None else port
    try:
        with bind(host, wanted, socket.SOCK_STREAM) as sock:
            return _free("http_port", "HTTP", "TCP", sock)
    except SetupError as error:
        finding, _ = taken("http_port", "HTTP", "TCP", error, (host, wanted))
        if port is not None or not _in_use(error):
            return finding
        found = f"{finding.found}; the relay takes another one, and its log tells which"
        return Finding("http_port", "HTTP", found, figures=finding.figures)


def _free(name: str, about: str, protocol: str, sock: socket.socket) -> Finding:
    address = sock.getsockname()
    figures = {"address": show(address), "holder": None, "pid": None}
    return Finding(name, about, f"{protocol} {show(address)} is free", figures=figures)


def _in_use(error: SetupError) -> bool:
    cause = error.__context__
    return isinstance(cause, OSError) and cause.errno == errno.EADDRINUSE


def taken(
    name: str, about: str, protocol: str, error: SetupError, address: Address
) -> tuple[Finding, Holder | None]:
    """Say why a port cannot be had, and name its holder, if there is one and it is known."""
    where = f"{protocol} {show(address)}"
    make = partial(Finding, name, about, grade=Grade.WRONG)
    figures: dict[str, int | str | None] = {"address": show(address), "holder": None, "pid": None}
    if not _in_use(error):
        cause = error.__context__
        privileged = isinstance(cause, OSError) and cause.errno == errno.EACCES
        advice = "Choose a port from 1024 up, or run the relay by systemd." if privileged else ""
        return make(str(error), advice=advice, figures=figures), None
    holder = next(holders(protocol, address[1]), None)
    if holder is None:
        found = f"{where} is taken, by another user's process, or one in a container"
        look = f"ss -Hlpn{protocol[0].lower()} sport = :{address[1]}"
        advice = "End that, or choose another port. Who it is, as root:"
        return make(found, advice=advice, commands=(look,), figures=figures), None
    figures |= {"holder": holder.command, "pid": holder.pid}
    advice = "End that, or choose another port."
    return make(f"{where} is taken by {holder}", advice=advice, figures=figures), holder


def excused(finding: Finding, holder: Holder | None, *, relay: bool) -> Finding:
    """Make no fault of it that a port is taken by the relay that runs, or by systemd for one."""
    if finding.grade is not Grade.WRONG or "pid" not in finding.figures:
        return finding
    pid, address = finding.figures["pid"], finding.figures["address"]
    if pid == _SYSTEMD:
        found = f"{address}: systemd waits there to start the relay (relay.socket)"
    elif relay and pid == (holder.pid if holder else None):
        found = f"{address}: the relay that runs has it" + f" (process {pid})" * (pid is not None)
    else:
        return finding
    return replace(finding, found=found, grade=Grade.OK, advice="", commands=())


def is_systemd(holder: Holder | None) -> bool:
    """Tell whether it is the service manager, which waits to start the relay."""
    return holder is not None and holder.pid == _SYSTEMD


# --- holders of a port


def holders(protocol: str, port: int) -> Iterator[Holder]:
    """Yield the processes that have a port, as far as this user may know."""
    sockets = {inode for at, inode in _ports(protocol) if at == port}
    for pid, inode in _sockets_of(None) if sockets else ():
        if inode in sockets:
            yield Holder(pid, command(pid))


def listens(pid: int) -> Iterator[int]:
    """Yield the TCP ports that a process listens on."""
    mine = {inode for _, inode in _sockets_of(pid)}
    yield from (port for port, inode in _ports("TCP") if inode in mine)


def command(pid: int) -> str:
    """Return a process's command line, shortened."""
    words = read(f"/proc/{pid}/cmdline").replace("\0", " ").strip()
    text = words or read(f"/proc/{pid}/comm") or "?"
    return text if len(text) <= 60 else f"{text[:57]}..."


def _ports(protocol: str) -> Iterator[tuple[int, str]]:
    """Yield the ports that sockets are bound to, and the sockets' inodes."""
    for table in (protocol.lower(), f"{protocol.lower()}6"):
        for line in read(f"/proc/net/{table}").splitlines()[1:]:
            words = line.split()
            if protocol == "UDP" or words[3] == _LISTENING:
                yield int(words[1].rpartition(":")[2], 16), words[9]


def _sockets_of(pid: int | None) -> Iterator[tuple[int, str]]:
    """Yield processes and the inodes of their sockets; None: of every process that may be seen."""
    every = (path.name for path in Path("/proc").glob("[0-9]*")) if pid is None else (str(pid),)
    for each in every:
        with suppress(OSError):
            for entry in os.scandir(f"/proc/{each}/fd"):
                with suppress(OSError):
                    link = os.readlink(entry.path)
                    if link.startswith("socket:["):
                        yield int(each), link[8:-1]
