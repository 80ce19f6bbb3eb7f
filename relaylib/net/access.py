"""Who may use the relay, by TCP or by HTTP, and how much of it. Pure: time comes in as `now`.

An open relay is found within hours and abused, so by default only peers that cannot come from the
Internet are served. Everything that one address could exhaust has a limit of its own, far above
what a household or a classroom behind one address needs, far below what would disturb the stream.
Loopback peers are exempt from the limits per address: they are local tools, and whoever can open
local sockets can do worse than this.
"""

import ipaddress
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from relaylib.errors import DeclinedError
from relaylib.net.networks import PRIVATE, Network, contains

_TRACKED = 4096
"""Addresses whose buckets are remembered: those that came last."""


@dataclass(frozen=True, slots=True)
class Rate:
    """A token bucket's shape: `burst` at once, `per_second` in the long run."""

    per_second: float
    burst: float


CONNECTIONS = Rate(per_second=10, burst=64)
"""A classroom that arrives at once behind one address, then no more than a retry loop."""

HTTP_CONNECTIONS = Rate(per_second=50, burst=300)
"""The same by HTTP, where a player may take a connection for each piece of the stream."""

COMMANDS = Rate(per_second=50, burst=500)
"""What an address may ask beyond `OWN_COMMANDS`: somebody's script, once in a while."""

OWN_COMMANDS = Rate(per_second=2, burst=20)
"""What each connection may ask, whatever others do on its address: as fast as a person types."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What `Access` enforces; see `config` for the options and the reasons."""

    allow: tuple[Network, ...] = PRIVATE
    max_clients: int = 1000
    max_clients_per_ip: int = 32
    exempt: tuple[Network, ...] = ()
    """Beside the loopback, where no limit per address holds: proxies, behind which many are."""
    connections: Rate = CONNECTIONS
    commands: Rate = COMMANDS
    own_commands: Rate = OWN_COMMANDS


class Bucket:
    """A token bucket, full at first."""

    __slots__ = ("_level", "_rate", "_since")

    def __init__(self, rate: Rate, now: float) -> None:
        self._rate = rate
        self._level = rate.burst
        self._since = now

    def take(self, now: float) -> bool:
        """Take a token, or return False if there is none."""
        gained = (now - self._since) * self._rate.per_second
        self._level, self._since = min(self._rate.burst, self._level + gained), now
        if self._level < 1:
            return False
        self._level -= 1
        return True


class Buckets:
    """A token bucket for each key; of those not heard of lately nothing is remembered."""

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self._buckets: dict[str, Bucket] = {}

    def take(self, key: str, now: float) -> bool:
        """Take a token, or return False if there is none."""
        bucket = self._buckets.pop(key, None) or Bucket(self._rate, now)
        if len(self._buckets) >= _TRACKED:
            del self._buckets[next(iter(self._buckets))]  # unused for longest: as good as full
        self._buckets[key] = bucket
        return bucket.take(now)


class Access:
    """Admits connections and commands within the limits."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._clients: Counter[str] = Counter()
        self._present = 0
        self._connections = Buckets(limits.connections)
        self._commands = Buckets(limits.commands)

    def admit(
        self, ip: str, now: float, is_own: Callable[[], bool], make_room: Callable[[], bool]
    ) -> None:
        """Make sure that a new connection from `ip` may stay; if it does, `arrived` must follow.

        If there is no place, `make_room` has somebody give way (and calls `left`), or returns
        False. It comes last: nobody has to go for a newcomer who may not stay anyway.

        Raises:
            DeclinedError: it may not.
        """
        limits = self._limits
        self.check_allowed(ip, is_own)
        if not self._is_exempt(ip):
            if self._clients[ip] >= limits.max_clients_per_ip:
                most = f"{limits.max_clients_per_ip} como mucho"
                raise DeclinedError(f"demasiadas conexiones desde {ip} ({most})", "per_ip")
            if not self._connections.take(ip, now):
                reason = f"demasiadas conexiones por segundo desde {ip}: espere un poco"
                raise DeclinedError(reason, "connection_rate")
        if self._present >= limits.max_clients and not make_room():
            raise DeclinedError(f"relay lleno ({limits.max_clients} conexiones)", "full")

    def check_allowed(self, ip: str, is_own: Callable[[], bool]) -> None:
        """Make sure that peers from this address may use the relay at all.

        `is_own` tells whether it is one of this machine's, which always may: who sits at the relay
        need not be told how to reach it. It is asked only if the networks say no.

        Raises:
            DeclinedError: they may not.
        """
        if not contains(self._limits.allow, ip) and not is_own():
            raise DeclinedError(f"acceso no permitido desde {ip} (--allow)", "not_allowed")

    def arrived(self, ip: str) -> None:
        """Count a connection; `left` must follow when it is over."""
        self._clients[ip] += 1
        self._present += 1

    def left(self, ip: str) -> None:
        """Count a connection no more."""
        self._present -= 1
        self._clients[ip] -= 1
        if not self._clients[ip]:
            del self._clients[ip]

    def own_commands(self, now: float) -> Bucket:
        """Return what a connection may ask whatever others do, for `command`."""
        return Bucket(self._limits.own_commands, now)

    def command(self, ip: str, own: Bucket, now: float) -> None:
        """Admit a command of a connection that has this bucket of its own.

        The connection's bucket comes first: a neighbour on the same address can empty only the
        other one.

        Raises:
            DeclinedError: too many from this connection and its address lately.
        """
        if not self._is_exempt(ip) and not own.take(now) and not self._commands.take(ip, now):
            reason = f"demasiados comandos por segundo desde {ip}: espere un poco"
            raise DeclinedError(reason, "command_rate")

    def _is_exempt(self, ip: str) -> bool:
        return is_exempt(ip, self._limits.exempt)


def is_exempt(ip: str, exempt: tuple[Network, ...]) -> bool:
    """Tell whether no limit per address holds: it is loopback's, or in one of these networks."""
    return ipaddress.ip_address(ip.partition("%")[0]).is_loopback or contains(exempt, ip)
