"""Networks in CIDR notation: where viewers and sources may come from. Pure."""

import ipaddress

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

PRIVATE: tuple[Network, ...] = tuple(
    ipaddress.ip_network(text)
    for text in (
        "127.0.0.0/8",  # loopback, RFC 1122
        "10.0.0.0/8",  # private, RFC 1918
        "172.16.0.0/12",
        "192.168.0.0/16",
        "169.254.0.0/16",  # link-local, RFC 3927
        "::1/128",  # loopback, RFC 4291
        "fe80::/10",  # link-local, RFC 4291
        "fc00::/7",  # unique local, RFC 4193
    )
)
ANY: tuple[Network, ...] = (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0"))


def contains(networks: tuple[Network, ...], ip: str) -> bool:
    """Tell whether an address is in one of the networks.

    It may have a zone, and may be an IPv4 address mapped to IPv6 (RFC 4291, 2.5.5.2).
    """
    address = ipaddress.ip_address(ip.partition("%")[0])
    address = getattr(address, "ipv4_mapped", None) or address
    return any(address in network for network in networks)


def is_any(networks: tuple[Network, ...]) -> bool:
    """Tell whether the networks contain `ANY`, and so every address."""
    return set(ANY) <= set(networks)
