"""What an address may have: in the long run a share, at once a little, of few places some."""

import pytest

from relaylib.net.networks import PRIVATE
from relaylib.web.budget import AT_ONCE, SHARE, Budget, Places

ONE, OTHER = "192.0.2.1", "2001:db8::1"


def test_an_address_gets_its_share_in_the_long_run() -> None:
    """However much it asks for, and however long each thing takes."""
    for each in (0.0002, 0.05):
        budget, now, worked = Budget(), 0.0, 0.0
        while now < 100:
            now += budget.wait(ONE, now) or each
            if not budget.wait(ONE, now):
                budget.spend(ONE, each, now)
                worked += each
        assert 100 * SHARE <= worked <= 100 * SHARE + AT_ONCE + 2 * each


def test_some_may_be_had_at_once() -> None:
    """After a rest as much as ever, and no more than that."""
    budget = Budget()
    for now in (0.0, 1000.0):
        assert budget.wait(ONE, now) == 0
        budget.spend(ONE, AT_ONCE, now)
        assert budget.wait(ONE, now) == 0
        budget.spend(ONE, SHARE, now)
        assert budget.wait(ONE, now) == pytest.approx(1.0)


def test_nobody_waits_for_another() -> None:
    """Nor does who is exempt, whatever was done for it."""
    budget = Budget((PRIVATE[1],))
    for each in (ONE, "127.0.0.1", "::1", "10.0.0.1"):
        budget.spend(each, 100.0, 0.0)
    assert budget.wait(ONE, 0.0) > 0
    assert budget.wait(OTHER, 0.0) == 0
    assert budget.wait("127.0.0.1", 0.0) == budget.wait("::1", 0.0) == 0
    assert budget.wait("10.0.0.1", 0.0) == 0


def test_accounts_are_bounded() -> None:
    """Of very many addresses those are forgotten that were not heard of for longest."""
    budget = Budget()
    budget.spend(OTHER, 100.0, 0.0)
    for number in range(10_000):
        budget.spend(ONE, 0.01, 0.0)
        budget.spend(f"10.0.{number // 256}.{number % 256}", 1.0, 0.0)
    assert len(budget._paid_until) <= 4096
    assert budget.wait(ONE, 0.0) > 0
    assert budget.wait(OTHER, 0.0) == 0


def test_places_are_left_to_others() -> None:
    """The first address gets half of eight, and each that follows some, until all are taken."""
    places, got = Places(8, lambda _address: False), []
    for address in "abcdef":
        count = 0
        while places.may_take(address):
            places.take(address)
            count += 1
        got.append(count)
    assert got == [4, 2, 1, 1, 0, 0]
    places.leave("a")
    assert places.may_take("f")
    assert not places.may_take("b")


def test_who_is_exempt_may_take_all_places() -> None:
    """But not more than there are."""
    places = Places(3, lambda address: address == "a")
    for _ in range(3):
        assert places.may_take("a")
        places.take("a")
    assert not places.may_take("a")
