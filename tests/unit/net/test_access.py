"""Who may, and how much: networks, limits and token buckets, with a clock made of numbers."""

import contextlib
import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaylib.errors import DeclinedError
from relaylib.net.access import Access, Bucket, Buckets, Limits, Rate
from relaylib.net.networks import ANY, PRIVATE, contains

HOST, OTHER = "192.168.1.7", "192.168.1.8"


def declined(access: Access, ip: str, now: float = 0.0, *, own: bool = False) -> str:
    """Let a connection arrive; return why it is declined, "" if it is not."""
    try:
        access.admit(ip, now, lambda: own, lambda: False)
    except DeclinedError as error:
        return str(error)
    access.arrived(ip)
    return ""


# --- networks


@pytest.mark.parametrize(
    "ip",
    [
        "127.0.0.1", "127.255.255.255", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.0.1",
        "169.254.1.1", "::1", "fe80::1", "fe80::1%eth0", "fd00::1", "fc00::1",
    ],
)  # fmt: skip
def test_private_peers_may_by_default(ip: str) -> None:
    """Loopback, private and link-local addresses are served (RFC 1122, 1918, 3927, 4193, 4291)."""
    assert declined(Access(Limits()), ip) == ""


@pytest.mark.parametrize(
    "ip",
    [
        "8.8.8.8", "192.0.2.1", "172.15.255.255", "172.32.0.0", "192.167.255.255", "169.253.0.1",
        "100.64.0.1", "0.0.0.0", "128.0.0.1", "2001:db8::1", "::", "::2", "fec0::1", "fe00::1",
    ],
)  # fmt: skip
def test_the_internet_may_not_by_default(ip: str) -> None:
    """Any other address is declined, with a reason that names it."""
    access = Access(Limits())
    assert declined(access, ip) == f"acceso no permitido desde {ip} (--allow)"


def test_only_what_is_allowed_may() -> None:
    """Networks that are given replace the default ones, both families apart."""
    one = (ipaddress.ip_network("203.0.113.0/24"), ipaddress.ip_network("2001:db8::/32"))
    assert contains(one, "203.0.113.9")
    assert contains(one, "2001:db8:1::1%eth0")
    assert not contains(one, "203.0.114.9")
    assert not contains(one, "127.0.0.1")
    assert contains(ANY, "8.8.8.8")
    assert contains(ANY, "2001:db8::1")
    assert not contains((), "127.0.0.1")


def test_own_addresses_always_may() -> None:
    """Whoever sits at the relay is served whatever is allowed, by every address of the machine."""
    access = Access(Limits(allow=(ipaddress.ip_network("203.0.113.0/24"),)))
    for ip in ("127.0.0.1", "8.8.8.8", "2001:db8::1"):
        assert declined(access, ip) == f"acceso no permitido desde {ip} (--allow)"
        assert declined(access, ip, own=True) == ""


@given(st.ip_addresses())
def test_private_means_what_the_registries_say(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    """Whatever is served by default is an address that the Internet does not route."""
    if contains(PRIVATE, str(address)):
        assert address.is_private or address.is_link_local or address.is_loopback


# --- how many


def test_the_total_is_limited_for_everyone() -> None:
    """One more than `max_clients` is declined, from the loopback as well, until somebody leaves."""
    access = Access(Limits(max_clients=2))
    assert [declined(access, ip) for ip in (HOST, "127.0.0.1")] == ["", ""]
    assert declined(access, "127.0.0.1") == "relay lleno (2 conexiones)"
    assert declined(access, OTHER) == "relay lleno (2 conexiones)"
    access.left(HOST)
    assert declined(access, OTHER) == ""


def test_each_address_has_its_own_limit() -> None:
    """One more than `max_clients_per_ip` is declined; others and the loopback go on."""
    access = Access(Limits(max_clients_per_ip=2))
    assert [declined(access, HOST) for _ in range(2)] == ["", ""]
    assert declined(access, HOST) == f"demasiadas conexiones desde {HOST} (2 como mucho)"
    assert declined(access, OTHER) == ""
    assert [declined(access, "127.0.0.1") for _ in range(9)] == [""] * 9
    assert [declined(access, "::1") for _ in range(9)] == [""] * 9
    access.left(HOST)
    assert declined(access, HOST) == ""


def test_those_who_were_there_before_count() -> None:
    """Connections that a previous program admitted fill the limits too."""
    access = Access(Limits(max_clients=3, max_clients_per_ip=2))
    access.arrived(HOST)
    access.arrived(HOST)
    assert declined(access, HOST) == f"demasiadas conexiones desde {HOST} (2 como mucho)"
    access.arrived(OTHER)
    assert declined(access, OTHER) == "relay lleno (3 conexiones)"


def test_a_declined_connection_takes_no_place() -> None:
    """Being declined does not fill the relay, and who is not allowed costs nobody a token."""
    access = Access(Limits(max_clients=1))
    for _ in range(5):
        assert declined(access, "8.8.8.8") != ""
    assert declined(access, HOST) == ""
    for _ in range(5):
        assert declined(access, OTHER) == "relay lleno (1 conexiones)"
    access.left(HOST)
    assert declined(access, OTHER) == ""


def test_room_is_made_for_whoever_may_stay_and_for_nobody_else() -> None:
    """In a full relay somebody gives way, but not for a newcomer whom another limit declines."""
    access = Access(
        Limits(max_clients=2, max_clients_per_ip=2, connections=Rate(per_second=1, burst=2))
    )
    asked = list[str]()

    def make_room() -> bool:
        asked.append("made")
        access.left(OTHER)
        return True

    for ip in (OTHER, HOST):
        access.admit(ip, 0.0, lambda: False, make_room)
        access.arrived(ip)
    assert asked == []
    access.admit(HOST, 0.0, lambda: False, make_room)
    access.arrived(HOST)
    assert asked == ["made"]
    for ip, kind in ((HOST, "per_ip"), ("8.8.8.8", "not_allowed")):
        with pytest.raises(DeclinedError) as declined:
            access.admit(ip, 9.0, lambda: False, make_room)
        assert declined.value.kind == kind
    access.left(HOST)
    access.arrived(OTHER)
    for _ in range(2):
        with pytest.raises(DeclinedError) as declined:
            access.admit(HOST, 0.0, lambda: False, make_room)
        assert declined.value.kind == "connection_rate"
    assert asked == ["made"]


# --- how often


def test_connections_come_in_a_burst_and_then_at_a_rate() -> None:
    """An address may connect `burst` times at once, and again when time has refilled its bucket."""
    access = Access(Limits(connections=Rate(per_second=10, burst=3)))
    reasons = [declined(access, HOST, now=100.0) for _ in range(5)]
    declining = f"demasiadas conexiones por segundo desde {HOST}: espere un poco"
    assert reasons == ["", "", "", declining, declining]
    assert declined(access, OTHER, now=100.0) == ""
    assert declined(access, HOST, now=100.09) != ""
    assert declined(access, HOST, now=100.21) == ""
    assert [declined(access, HOST, now=200.0) for _ in range(4)][2:] == ["", reasons[-1]]


def commands(access: Access, ip: str, own: Bucket, count: int, now: float = 0.0) -> int:
    """Ask so many times; return how many commands are admitted."""
    admitted = 0
    for _ in range(count):
        with contextlib.suppress(DeclinedError):
            access.command(ip, own, now)
            admitted += 1
    return admitted


COMMANDS = Limits(commands=Rate(per_second=1, burst=5), own_commands=Rate(per_second=2, burst=3))


def test_commands_are_limited_for_each_connection_and_then_its_address() -> None:
    """Beyond a connection's own commands its address has some; loopback peers are not limited."""
    access = Access(COMMANDS)
    first, second = access.own_commands(0.0), access.own_commands(0.0)
    assert commands(access, HOST, first, 99) == 3 + 5
    assert commands(access, HOST, second, 99) == 3
    assert commands(access, OTHER, access.own_commands(0.0), 99) == 3 + 5
    assert commands(access, HOST, first, 99, now=1.0) == 2 + 1
    with pytest.raises(DeclinedError, match=f"demasiados comandos por segundo desde {HOST}"):
        access.command(HOST, first, 1.0)
    assert commands(access, "127.0.0.1", access.own_commands(0.0), 999) == 999


def test_a_neighbour_cannot_make_my_commands_fail() -> None:
    """However much others of an address ask, a connection that asks little is never declined."""
    access = Access(COMMANDS)
    mine = access.own_commands(0.0)
    for second in range(20):
        now = float(second)
        for flooding in [access.own_commands(now) for _ in range(9)]:
            commands(access, HOST, flooding, 99, now)
        assert commands(access, HOST, mine, 2, now) == 2


@given(
    st.floats(0.1, 100),
    st.integers(1, 50),
    st.lists(st.floats(0, 10), min_size=1, max_size=200),
)
def test_a_bucket_never_gives_more_than_its_shape(
    per_second: float, burst: int, gaps: list[float]
) -> None:
    """In any stretch of time no more tokens are had than the burst and what the rate adds."""
    buckets, now, taken = Buckets(Rate(per_second, burst)), 0.0, []
    for gap in gaps:
        now += gap
        if buckets.take("one", now):
            taken.append(now)
    for first, since in enumerate(taken):
        for last, until in enumerate(taken[first:], first):
            assert last - first + 1 <= burst + (until - since) * per_second + 1e-6


def test_a_crowd_of_addresses_costs_bounded_memory_and_time() -> None:
    """However many addresses come, only the last ones are remembered."""
    buckets = Buckets(Rate(per_second=0.001, burst=2))
    now = 100.0
    for number in range(100_000):
        assert buckets.take(f"10.{number}", now)
    assert len(buckets._buckets) <= 4096
    assert [buckets.take(HOST, now) for _ in range(3)] == [True, True, False]
    for number in range(10_000):
        buckets.take(f"10.{number}", now)
        if number % 4000 == 0:
            assert not buckets.take(HOST, now)
