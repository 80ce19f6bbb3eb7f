"""Addresses: shown, compared, looked up."""

import socket

import pytest

from relaylib.net import address
from relaylib.net.address import Address


@pytest.mark.parametrize(
    ("raw", "shown", "plain"),
    [
        (("192.0.2.1", 5004), "192.0.2.1:5004", ("192.0.2.1", 5004)),
        (("2001:db8::1", 5004, 0, 0), "[2001:db8::1]:5004", ("2001:db8::1", 5004, 0, 0)),
        (("::ffff:192.0.2.1", 5004, 0, 0), "192.0.2.1:5004", ("192.0.2.1", 5004)),
        (("fe80::1%eth0", 9, 0, 2), "[fe80::1%eth0]:9", ("fe80::1%eth0", 9, 0, 2)),
    ],
)
def test_addresses_are_shown_as_people_write_them(raw: Address, shown: str, plain: Address) -> None:
    """IPv6 is bracketed, and an IPv4-mapped address is the IPv4 address that it means."""
    assert address.show(raw) == shown
    assert address.unmapped(raw) == plain
    expected = socket.AF_INET6 if ":" in plain[0] else socket.AF_INET
    assert address.family_of(plain) == expected


def test_only_our_own_addresses_are_local() -> None:
    """An address is local if it can be bound here, whatever its port."""
    assert address.is_local(("127.0.0.1", 80))
    assert address.is_local(("127.3.2.1", 5004))
    assert not address.is_local(("192.0.2.1", 5004))
    assert not address.is_local(("2001:db8::1", 5004, 0, 0))
