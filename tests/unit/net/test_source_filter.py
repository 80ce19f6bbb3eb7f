"""Lists of networks as BPF programs, run by an interpreter of the few instructions they use."""

import ipaddress
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaylib.net.networks import ANY, PRIVATE, Network, contains
from relaylib.net.source_filter import MAX_INSTRUCTIONS, SAMPLE, assemble

NET, RANDOM = 0xFFF00000, 0xFFFFF038
"""SKF_NET_OFF, and SKF_AD_OFF + SKF_AD_RANDOM, in <linux/filter.h>."""

V4_HEADER = struct.Struct("!12x4s4x")
V6_HEADER = struct.Struct("!8x16s16x")


def header(address: str) -> bytes:
    """Make an IP header of which only the version and the source are filled in."""
    source = ipaddress.ip_address(address)
    layout = V4_HEADER if source.version == 4 else V6_HEADER
    made = bytearray(layout.pack(source.packed))
    made[0] = source.version << 4 | 5
    return bytes(made)


def run(program: bytes, packet: bytes, chance: int) -> int:
    """Return what the program returns for a packet with this IP header."""
    code = list(struct.iter_unpack("=HBBI", program))
    place = accumulator = 0
    while True:
        operation, true, false, operand = code[place]
        place += 1
        match operation:
            case 0x20 if operand == RANDOM:
                accumulator = chance
            case 0x20:
                (accumulator,) = struct.unpack_from("!I", packet, operand - NET)
            case 0x30:
                accumulator = packet[operand - NET]
            case 0x54:
                accumulator &= operand
            case 0x74:
                accumulator >>= operand
            case 0x05:
                place += operand
            case 0x15:
                place += true if accumulator == operand else false
            case 0x06:
                return int(operand)
            case _:
                pytest.fail(f"instruction {operation:#x}")


def networks(version: int) -> st.SearchStrategy[Network]:
    """Networks of every length, many of them near each other."""
    bits, kind = (32, ipaddress.IPv4Network) if version == 4 else (128, ipaddress.IPv6Network)
    numbers = st.one_of(st.integers(0, 2**bits - 1), st.integers(0, 255))
    return st.builds(
        lambda number, length: kind((number, length), strict=False), numbers, st.integers(0, bits)
    )


NETWORKS = st.lists(st.one_of(networks(4), networks(6)), max_size=6)


@given(NETWORKS, st.data())
def test_who_is_in_a_network_gets_in(listed: list[Network], data: st.DataObject) -> None:
    """The kernel's verdict is that of `contains`, at the networks' edges, too."""
    if not (program := assemble(tuple(listed))):
        return
    edges = [
        str(edge)
        for net in listed
        for number in (int(net[0]) - 1, int(net[0]), int(net[-1]), int(net[-1]) + 1)
        if 0 <= number < 2**net.max_prefixlen
        for edge in [type(net.network_address)(number)]
    ]
    others = st.ip_addresses().map(str)
    address = data.draw(st.one_of(st.sampled_from(edges), others) if edges else others)
    if getattr(ipaddress.ip_address(address), "ipv4_mapped", None) is not None:
        return  # has an IPv4 header
    chance = data.draw(st.integers(1, SAMPLE - 1))
    assert (run(program, header(address), chance) > 0) is contains(tuple(listed), address)


MAPPED = ipaddress.ip_network("::ffff:0:0/96")


def test_one_of_many_others_gets_in() -> None:
    """A sample of those that are not allowed can be named; it is chance that chooses."""
    program = assemble(PRIVATE)
    accepted = [run(program, header("198.51.100.1"), chance) > 0 for chance in range(4 * SAMPLE)]
    assert accepted.count(True) == 4


def test_anybody_needs_no_filter() -> None:
    """Where everybody may send there is no program; for one family alone there is."""
    assert assemble(ANY) == assemble((*PRIVATE, *ANY)) == b""
    assert assemble(ANY[:1]) != b""
    assert len(assemble(())) > 0


def test_a_list_that_is_too_long() -> None:
    """The kernel takes no more than 4,096 instructions; over that there is no program."""
    longest = 1000 * (ipaddress.ip_network("192.0.2.1/32"),)
    assert len(assemble(longest)) // 8 <= MAX_INSTRUCTIONS
    with pytest.raises(ValueError, match="1100 networks"):
        assemble(longest + longest[:100])
