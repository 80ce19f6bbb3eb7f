"""Access rules and limits for peers, by TCP and by HTTP. Pure: time comes in as `now`.

An open relay is found within hours and abused, so by default only peers that cannot come from the
Internet are served. Everything that one address could exhaust has a limit of its own, far above
what a household or a classroom behind one address needs, far below what would disturb the stream.
Loopback peers are exempt from the limits per address: they are local tools, and a program that can
open local sockets can do more harm than these limits prevent.
"""

import ipaddress
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from relaylib.errors import DeclinedError
from relaylib.net.networks import PRIVATE, Network, contains

_TRACKED = 4096
"""Most addresses whose buckets are remembered: those that came last."""


@dataclass(frozen=True, slots=True)
class Rate:
    """A token bucket's shape: `burst` at once, `per_second` in the long run."""

    per_second: float
    burst: float


CONNECTIONS = Rate(per_second=10, burst=64)
"""A classroom that arrives at once behind one address, then no more than a retry loop."""

HTTP_CONNECTIONS = Rate(per_second=50, burst=300)
"""The same for HTTP, where a player may open a connection for each segment of the stream."""

COMMANDS = Rate(per_second=50, burst=500)
"""Commands of an address beyond `OWN_COMMANDS` of its connections: a script, once in a while."""

OWN_COMMANDS = Rate(per_second=2, burst=20)
"""Commands of each connection, whatever others on its address do: as fast as a person types."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What `Access` enforces; see `config` for the options and the reasons."""

    allow: tuple[Network, ...] = PRIVATE
    max_clients: int = 1000
    max_clients_per_ip: int = 32
    exempt: tuple[Network, ...] = ()
    """Networks without limits per address, beside loopback: proxies with many viewers behind."""
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
    """A token bucket for each key. With too many keys, the one unused for longest is forgotten."""

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

        If there is no place, `make_room` closes another connection (and calls `left`), or returns
        False. It is called last, so that no connection is closed for one that is declined anyway.

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

        `is_own` tells whether the address is one of this machine's. Those are always allowed: a
        person at the relay need not know by which address to reach it. It is called only if the
        allowed networks do not contain the address.

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
        """Stop counting a connection."""
        self._present -= 1
        self._clients[ip] -= 1
        if not self._clients[ip]:
            del self._clients[ip]

    def own_commands(self, now: float) -> Bucket:
        """Return a new connection's own bucket, for `command`."""
        return Bucket(self._limits.own_commands, now)

    def command(self, ip: str, own: Bucket, now: float) -> None:
        """Admit a command of a connection whose own bucket is `own`.

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
    """Tell whether an address has no limits: it is loopback's, or in one of these networks."""
    return ipaddress.ip_address(ip.partition("%")[0]).is_loopback or contains(exempt, ip)
