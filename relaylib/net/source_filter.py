"""A list of networks as a program for the kernel, which drops datagrams from elsewhere. Pure.

A sender that is not allowed must not cost a system call a datagram, nor fill the buffer that the
next allowed one needs. So the list is assembled to classic BPF, which Linux runs for each datagram
before it is queued (SO_ATTACH_FILTER, socket(7)); on IPv6 sockets, too, and without privilege. The
instructions are those of <linux/bpf_common.h> and Documentation/networking/filter.rst.

One in `SAMPLE` of the other datagrams is let in all the same, so that the log can name the sender.
A program keeps no state, so it chooses at random (SKF_AD_RANDOM, Linux 3.15).

Rejected: extended BPF, which could count and take a set of networks as a map: it needs privilege.
"""

import struct

from relaylib.net.networks import Network, is_any

SAMPLE = 1024
"""Datagrams of which one is let in; a power of two. An encoder that sends 500/s is named in the log
within about 2 s, a flood at once; of 500,000/s too few get in to fill the standby socket's buffer
between two looks."""

MAX_INSTRUCTIONS = 4096
"""BPF_MAXINSNS; over 300 IPv6 networks, or 1,000 of IPv4."""

_LOAD_WORD, _LOAD_BYTE = 0x20, 0x30  # BPF_LD | BPF_ABS, with BPF_W or BPF_B
_AND, _SHIFT_RIGHT = 0x54, 0x74  # BPF_ALU | BPF_K
_JUMP, _JUMP_IF_EQUAL = 0x05, 0x15
_RETURN = 0x06

_NETWORK_HEADER = -0x100000  # SKF_NET_OFF: offsets from here on are in the IP header
_RANDOM = -0x1000 + 56  # SKF_AD_OFF + SKF_AD_RANDOM

_SOURCE_AT = {4: 12, 6: 8}
"""Offset of the sender's address in the header, by IP version (RFC 791, RFC 8200)."""

_WORD = 4
_WHOLE = 0xFFFFFFFF

Code = list[bytes]


def assemble(networks: tuple[Network, ...]) -> bytes:
    """Return the program, an array of `struct sock_filter`; b"" if every address is allowed.

    An IPv4 datagram on an IPv6 socket has an IPv4 header: IPv4 networks apply to it.

    Raises:
        ValueError: the program for so many networks would be longer than `MAX_INSTRUCTIONS`.
    """
    if is_any(networks):
        return b""
    code = _program(networks)
    if len(code) > MAX_INSTRUCTIONS:
        raise ValueError(f"{len(networks)} networks are too many for a socket filter")
    return b"".join(code)


def _program(networks: tuple[Network, ...]) -> Code:
    v4, v6 = (
        [each for net in networks if net.version == v for each in _match(net)] for v in (4, 6)
    )
    return [
        _step(_LOAD_BYTE, _NETWORK_HEADER),
        _step(_SHIFT_RIGHT, 4),
        _step(_JUMP_IF_EQUAL, 4, true=1),
        _step(_JUMP, len(v4) + 1),
        *v4,
        _step(_JUMP, len(v6)),
        *v6,
        _step(_LOAD_WORD, _RANDOM),
        _step(_AND, SAMPLE - 1),
        _step(_JUMP_IF_EQUAL, 0, false=1),
        _step(_RETURN, _WHOLE),
        _step(_RETURN, 0),
    ]


def _match(network: Network) -> Code:
    """Let in senders of this network; for others go on with the next instruction."""
    at = _NETWORK_HEADER + _SOURCE_AT[network.version]
    code = [_step(_RETURN, _WHOLE)]
    for offset in reversed(range(0, len(network.netmask.packed), _WORD)):
        (mask,) = struct.unpack_from("!I", network.netmask.packed, offset)
        (value,) = struct.unpack_from("!I", network.network_address.packed, offset)
        if mask:
            test = _step(_JUMP_IF_EQUAL, value, false=len(code))
            code = [_step(_LOAD_WORD, at + offset), _step(_AND, mask), test, *code]
    return code


def _step(operation: int, operand: int, *, true: int = 0, false: int = 0) -> bytes:
    """Return one instruction; `true` and `false`: instructions to skip in that case."""
    return struct.pack("=HBBI", operation, true, false, operand & _WHOLE)
