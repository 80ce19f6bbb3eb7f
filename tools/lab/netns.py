"""A network made for a test: hosts in namespaces of their own, joined by a bridge or by wires.

Everything is named after this process and is removed when the test ends, however it ends. It takes
root. What runs on a host is a program that is told what to do by lines of its standard input, and
answers each with a line of JSON: `netns_viewer`, `netns_source`, `netns_wire`.
"""

import contextlib
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

from tools.lab.numbered import Stats
from tools.lab.process import PATIENCE, ChildProcess, LabError, NeedError, need, wait_for
from tools.lab.relay import RelayProcess

LAN = "10.77.0"
LAN6 = "fd77"


class CommandError(LabError):
    """A command that configures the network failed; `str()` says which and how."""


def need_namespaces() -> None:
    """Go on if namespaces can be made.

    Raises:
        NeedError: they cannot.
    """
    need("ip", "tc")
    probe = f"relay{os.getpid()}-probe"
    try:
        run("ip", "netns", "add", probe)
    except CommandError as error:
        raise NeedError(f"needs root, to make network namespaces: {error}") from error
    run("ip", "netns", "delete", probe)


def run(*words: str) -> str:
    """Run a command and return its output.

    Raises:
        CommandError: it failed.
    """
    done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE, check=False)
    if done.returncode:
        raise CommandError(f"{' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


class Host:
    """A network namespace. `address` is its place on the LAN."""

    def __init__(self, name: str, number: int) -> None:
        self.name = name
        self.namespace = f"relay{os.getpid()}-{name}"
        self.address = f"{LAN}.{number}"
        self.address6 = f"{LAN6}::{number}"

    def create(self) -> None:
        """Make the namespace usable."""
        # Duplicate address detection would keep IPv6 addresses from being used for a second.
        self.set("ipv6/conf/default/accept_dad", 0)
        self.ip("link", "set", "lo", "up")

    @property
    def prefix(self) -> tuple[str, ...]:
        """What goes before a command to run it in here."""
        return ("ip", "netns", "exec", self.namespace)

    def exec(self, *words: str) -> str:
        """Run a command in here."""
        return run(*self.prefix, *words)

    def ip(self, *words: str) -> None:
        """Configure the network in here, ip(8)."""
        run("ip", "-n", self.namespace, *words)

    def set(self, key: str, value: int) -> None:
        """Set a network parameter in here, its name under /proc/sys/net."""
        self.exec("sh", "-c", f"echo {value} >/proc/sys/net/{key}")

    def up(self, device: str, *addresses: str) -> None:
        """Give a device addresses and switch it on."""
        for address in addresses:
            self.ip("address", "add", address, "dev", device)
        self.ip("link", "set", device, "up")

    def wait_up(self, device: str) -> None:
        """Wait until the device has found the other end: before, the kernel has no route there."""
        state = f"/sys/class/net/{device}/carrier"
        wait_for(lambda: self.exec("cat", state) == "1\n", f"{device} of {self.name} to be up")

    def link_local(self, device: str = "eth0") -> str:
        """Return the link-local address of a device (RFC 4291, 2.5.6)."""
        shown = run("ip", "-n", self.namespace, "-json", "address", "show", "dev", device)
        infos = json.loads(shown)[0]["addr_info"]
        return str(next(info["local"] for info in infos if info["scope"] == "link"))

    def packets_received(self, device: str = "eth0") -> int:
        """How many packets a device handed over; a batch not cut up yet counts once."""
        return int(self.exec("cat", f"/sys/class/net/{device}/statistics/rx_packets"))


class Network:
    """A bridge (the switch of a LAN) and the hosts that are added; `stack` removes them all."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        need_namespaces()
        self.stack = stack
        self._numbers = itertools.count(1)
        self.switch = self._add("switch")
        self.switch.ip("link", "add", "lan", "type", "bridge")
        self.switch.up("lan")

    def _add(self, name: str) -> Host:
        host = Host(name, next(self._numbers))
        run("ip", "netns", "add", host.namespace)
        self.stack.callback(run, "ip", "netns", "delete", host.namespace)
        host.create()
        return host

    def host(self, name: str) -> Host:
        """Add a host with a cable to the switch, where the port is named like the host."""
        host = self._add(name)
        self.add_cable(host)
        return host

    def add_cable(self, host: Host) -> None:
        """Join a host to the switch by a new interface, eth0."""
        words = ("type", "veth", "peer", "name", "eth0", "netns", host.namespace)
        self.switch.ip("link", "add", host.name, *words)
        self._plug_in(host)

    def replace_cable(self, host: Host, number: int) -> None:
        """Give a host another interface, with another address, in the place of its own."""
        self.switch.ip("link", "delete", host.name)
        host.address, host.address6 = f"{LAN}.{number}", f"{LAN6}::{number}"
        self.add_cable(host)

    def far_host(self, name: str) -> tuple[Host, Callable[[int, float], object]]:
        """Add a host whose cable may delay what it carries and lose some, both ways.

        Returns: the host, and a function that sets the delay in ms and the share that is lost.
        """
        host = self.host(name)

        def netem(delay_ms: int, loss: float, verb: str = "change") -> None:
            words = ("root", "netem", "delay", f"{delay_ms}ms", "loss", f"{loss:.0%}")
            for end, device in ((self.switch, name), (host, "eth0")):
                end.exec("tc", "qdisc", verb, "dev", device, *words, "limit", "9999")

        try:
            netem(0, 0, "add")
        except CommandError as error:
            print(f"this kernel has no netem, a program takes its place ({error})")
            wire = self._replace_cable(host)
            return host, lambda delay_ms, loss: ask(wire, f"{delay_ms} {loss}")
        return host, netem

    def _replace_cable(self, host: Host) -> ChildProcess:
        self.switch.ip("link", "delete", host.name)
        wire = self.start(self.switch, "tools.lab.netns_wire", host.name, "eth0")
        ask(wire, "0 0")  # the ends are there
        self.switch.ip("link", "set", "eth0", "netns", host.namespace)
        self._plug_in(host)
        return wire

    def _plug_in(self, host: Host) -> None:
        self.switch.ip("link", "set", host.name, "master", "lan", "up")
        host.up("eth0", f"{host.address}/24", f"{host.address6}/64")
        host.wait_up("eth0")

    def wire(self, one: Host, other: Host, number: int, mtu: int = 1500) -> tuple[str, str]:
        """Join two hosts by a wire of its own, eth1 at both ends; return their addresses on it."""
        words = ("type", "veth", "peer", "name", "eth1", "netns", other.namespace)
        one.ip("link", "add", "eth1", *words)
        addresses = (f"10.77.{number}.1", f"10.77.{number}.2")
        for host, address in zip((one, other), addresses, strict=True):
            host.ip("link", "set", "eth1", "mtu", str(mtu))
            host.up("eth1", f"{address}/24")
        for host in (one, other):
            host.wait_up("eth1")
        return addresses

    def start(self, host: Host, module: str, *words: str) -> ChildProcess:
        """Run a module of the lab on a host until the end."""
        argv = (*host.prefix, sys.executable, "-m", module, *words)
        return self.stack.enter_context(ChildProcess(*argv, stdin=subprocess.PIPE))


def ask(program: ChildProcess, line: str) -> dict[str, Any]:
    """Say a line to a program on a host; return the JSON that it answers with.

    Raises:
        LabError: it has ended, or does not answer.
    """
    answers = len(program.stdout)
    assert program.process.stdin is not None
    program.process.stdin.write(f"{line}\n".encode())
    program.process.stdin.flush()
    wait_for(lambda: program.stdout[answers:] or program.process.poll() is not None, line)
    if not program.stdout[answers:]:
        raise LabError(f"the program ended: {''.join(program.stderr)}")
    answer: dict[str, Any] = json.loads(program.stdout[answers])
    return answer


# --- the relay, a source and viewers, each on a host of its own


class NetnsViewers:
    """Viewers on a host: connections to the relay and a player; see `netns_viewer`."""

    def __init__(self, host: Host, program: ChildProcess) -> None:
        self.host = host
        self.program = program

    def do(self, name: str, *arguments: str | int) -> Any:
        """Let it do something; return the answer, which has one value, or several."""
        answer = ask(self.program, json.dumps([name, *arguments]))
        return next(iter(answer.values())) if len(answer) == 1 else answer

    def command(self, text: str) -> str:
        """Give the relay a command on the first connection and return its reply."""
        return str(self.do("command", text))

    def open(self) -> float:
        """Open the player's port; return when, in seconds on the monotonic clock."""
        return float(self.do("open"))

    def stats(self) -> dict[str, Any]:
        """What it has received so far: the fields of `numbered.Stats`."""
        return dict(self.do("stats"))

    def subscribe(self) -> None:
        """Ask for the stream."""
        assert self.command("CONECTAR {port}") == "OK"

    def count(self, key: str) -> int:
        """Ask for one of the counters in ESTADO."""
        return int(self.command("ESTADO").split(f"{key}=")[1].split()[0])

    def wait_received(self, count: int = 1) -> dict[str, Any]:
        """Wait until so many datagrams are here."""
        what = f"{count} datagrams at {self.host.name}"
        return wait_for(lambda: (found := self.stats())["received"] >= count and found, what)

    def wait_last(self, sent: int) -> dict[str, Any]:
        """Wait until the last of so many datagrams is here."""
        what = f"the last datagram at {self.host.name}"
        return wait_for(lambda: (found := self.stats())["last"] == sent - 1 and found, what)


class Stage(Network):
    """A network with a relay and a source on it."""

    def __init__(self, stack: contextlib.ExitStack, *options: str) -> None:
        super().__init__(stack)
        self.viewers: list[NetnsViewers] = []
        self.relay_host = self.host("relay")
        self.source_host = self.host("source")
        self.relay = stack.enter_context(
            RelayProcess(*options, host="::", prefix=self.relay_host.prefix)
        )

    def peer(self, host: Host, relay: str = "") -> NetnsViewers:
        """Put a viewer on a host that knows the relay's address on the LAN, or another one."""
        words = (relay or self.relay_host.address, str(self.relay.port))
        return NetnsViewers(host, self.start(host, "tools.lab.netns_viewer", *words))

    def connect(self, host: Host, relay: str = "") -> NetnsViewers:
        """Connect a viewer to the relay."""
        viewer = self.peer(host, relay)
        assert viewer.do("connect", 1)[0].startswith("OK")
        self.viewers.append(viewer)
        return viewer

    def screen(self, host: Host, mrl: str) -> NetnsViewers:
        """Put a screen on a host, which shows what comes and asks for nothing."""
        viewer = self.peer(host)
        viewer.do("watch", mrl)
        return viewer

    def watch(self, host: Host, relay: str = "") -> NetnsViewers:
        """Connect a viewer that wants the stream and has its player open."""
        viewer = self.connect(host, relay)
        viewer.open()
        viewer.subscribe()
        return viewer

    def stream(self) -> ChildProcess:
        """Start the source."""
        words = (self.relay_host.address, str(self.relay.ingest_port))
        return self.start(self.source_host, "tools.lab.netns_source", *words)


@contextlib.contextmanager
def set_up(*options: str) -> Iterator[Stage]:
    """Make the network, for a relay with these options; remove it even if that failed."""
    with contextlib.ExitStack() as stack:
        yield Stage(stack, *options)


def finish(source: ChildProcess) -> int:
    """End the source; return how many datagrams it has sent."""
    return int(ask(source, "end")["sent"])


def assert_got_everything(viewers: list[NetnsViewers], sent: int) -> None:
    """Assert that viewers who were there from the first datagram got each one, once, in order."""
    for viewer in viewers:
        name, stats = viewer.host.name, viewer.wait_last(sent)
        assert Stats(**stats).whole(sent), (name, sent, stats)
