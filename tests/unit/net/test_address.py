"""Addresses as values."""

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
    assert address.with_port(plain, 9) == (plain[0], 9, *plain[2:])
