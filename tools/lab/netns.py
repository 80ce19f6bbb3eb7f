"""A network made for a test: hosts in namespaces of their own, joined by a bridge or by wires.

Everything is named after this process and is removed when the test ends, however it ends. It takes
root.
"""

import contextlib
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from tools.lab.process import PATIENCE, NeedError, Program, need, wait_for

LAN = "10.77.0"
LAN6 = "fd77"


class CommandError(Exception):
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
        state = f"/sys/class/net/{device}/operstate"
        wait_for(lambda: self.exec("cat", state) == "up\n", f"{device} of {self.name} to be up")

    def link_local(self, device: str = "eth0") -> str:
        """Return the link-local address of a device (RFC 4291, 2.5.6)."""
        shown = run("ip", "-n", self.namespace, "-json", "address", "show", "dev", device)
        infos = json.loads(shown)[0]["addr_info"]
        return str(next(info["local"] for info in infos if info["scope"] == "link"))

    def packets_received(self, device: str = "eth0") -> int:
        """How many packets a device handed over; one that arrives unsegmented counts once."""
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
        words = ("type", "veth", "peer", "name", "eth0", "netns", host.namespace)
        self.switch.ip("link", "add", name, *words)
        self._plug_in(host)
        return host

    def far_host(self, name: str, delay_ms: int) -> tuple[Host, Callable[[float], object]]:
        """Add a host whose cable delays what it carries, both ways.

        Returns: the host, and a function that sets the share which the cable loses.
        """
        host = self.host(name)

        def netem(loss: float, verb: str = "change") -> None:
            words = ("root", "netem", "delay", f"{delay_ms}ms", "loss", f"{loss:.0%}")
            for end, device in ((self.switch, name), (host, "eth0")):
                end.exec("tc", "qdisc", verb, "dev", device, *words, "limit", "9999")

        try:
            netem(0, "add")
        except CommandError as error:
            print(f"this kernel has no netem, a program takes its place ({error})")
            wire = self._replace_cable(host, delay_ms)
            return host, lambda loss: ask(wire, str(loss))
        return host, netem

    def _replace_cable(self, host: Host, delay_ms: int) -> Program:
        self.switch.ip("link", "delete", host.name)
        wire = self.start(self.switch, "tools.lab.netns_wire", host.name, "eth0", str(delay_ms))
        ask(wire, "0")  # the ends are there
        self.switch.ip("link", "set", "eth0", "netns", host.namespace)
        self._plug_in(host)
        return wire

    def _plug_in(self, host: Host) -> None:
        self.switch.ip("link", "set", host.name, "master", "lan", "up")
        host.up("eth0", f"{host.address}/24", f"{host.address6}/64")

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

    def start(self, host: Host, module: str, *words: str) -> Program:
        """Run a module of the tests on a host until the end."""
        argv = (*host.prefix, sys.executable, "-m", module, *words)
        return self.stack.enter_context(Program(*argv, stdin=subprocess.PIPE))


def ask(program: Program, line: str) -> dict[str, Any]:
    """Say a line to a program on a host; return the JSON that it answers with."""
    answers = len(program.stdout)
    assert program.process.stdin is not None
    program.process.stdin.write(f"{line}\n".encode())
    program.process.stdin.flush()
    wait_for(lambda: program.stdout[answers:] or program.process.poll() is not None, line)
    assert program.stdout[answers:], f"the program ended: {''.join(program.stderr)}"
    answer: dict[str, Any] = json.loads(program.stdout[answers])
    return answer
