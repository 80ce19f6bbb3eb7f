"""The waits between two attempts."""

import pytest

from relaylib.client.link import Backoff


@pytest.mark.parametrize(("dice", "share"), [(0.0, 0.5), (1.0, 1.0)])
def test_waits_double_up_to_a_limit(dice: float, share: float) -> None:
    """From half a second to 15 s, of which the dice take off half at most; then from the start."""
    backoff = Backoff(lambda: dice)
    longest = [0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0]
    assert [backoff.wait() for _ in longest] == [wait * share for wait in longest]
    backoff.reset()
    assert backoff.wait() == 0.5 * share
