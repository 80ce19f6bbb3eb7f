"""What the tests of hostile input share: attacks that no viewer may notice, and forged ICMP errors.

The attacks themselves, with the healthy viewers and the stream, are those of `tools/attacks.py`.
"""

import contextlib
import os
import resource
import socket
import struct
from collections.abc import Iterator

from relaylib.net.descriptors import raise_descriptor_limit
from tools.attackers.attack import ATTACKS, Outcome, attack
from tools.lab.process import NeedError, need
from tools.lab.relay import Relay

VIEWERS = 20
MEMORY_LIMIT = 60 * 1024
"""KiB that the relay may take at its worst."""


def attack_relay(name: str, seconds: float, *options: str) -> Outcome:
    """Attack, and check that no healthy viewer lost anything and that the relay still works."""
    need("cc", "bash")
    raise_descriptor_limit()
    outcome = attack(ATTACKS[name], seconds, *options, viewers=VIEWERS)
    assert outcome.lost == 0
    assert outcome.received == VIEWERS * outcome.sent > 0
    assert outcome.silent == 0
    assert outcome.bugs == 0
    assert outcome.status == 0
    assert outcome.memory < MEMORY_LIMIT
    return outcome


def _checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071) of an even number of bytes."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return 0xFFFF - total


def unreachable(source: tuple[str, int], destination: tuple[str, int]) -> bytes:
    """Forge an ICMP error: the datagram from `source` found a closed port (RFC 792, RFC 1122)."""
    addresses = socket.inet_aton(source[0]), socket.inet_aton(destination[0])
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 28, 0, 0, 64, socket.IPPROTO_UDP, 0, *addresses)
    udp = struct.pack("!4H", source[1], destination[1], 8, 0)
    checksum = _checksum(struct.pack("!BBHI", 3, 3, 0, 0) + ip + udp)
    return struct.pack("!BBHI", 3, 3, checksum, 0) + ip + udp


def leave_descriptors(relay: Relay, count: int) -> None:
    """Lower the relay's limit: it can open so many descriptors more."""
    numbers = [int(fd) for fd in os.listdir(f"/proc/{relay.pid}/fd")]
    limit = max(numbers) + 1 + count
    _, hard = resource.prlimit(relay.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(relay.pid, resource.RLIMIT_NOFILE, (limit, hard))


@contextlib.contextmanager
def raw_icmp() -> Iterator[socket.socket]:
    """A raw socket, to send forged ICMP errors.

    Raises:
        NeedError: it takes root.
    """
    try:
        sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    except PermissionError as error:
        raise NeedError("needs root, to forge ICMP") from error
    with sock:
        yield sock
