"""What is told of whom: addresses as all may read them, and which viewers are listed."""

import pytest

from relaylib.media.verdict import Evidence, Told
from relaylib.net.address import Address
from relaylib.net.histogram import Histogram
from relaylib.outputs.viewer_row import FIXED, UDP, ViewerRow
from relaylib.web.status import LISTED, _told, _worst, shortened


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        (("192.168.1.7", 5004), "192.168.1.7:5004"),
        (("127.0.0.1", 5004), "127.0.0.1:5004"),
        (("239.1.2.3", 5004), "239.1.2.3:5004"),
        (("ff15::7", 5004, 0, 0), "[ff15::7]:5004"),
        (("fe80::7%eth0", 5004, 0, 2), "[fe80::7]:5004"),
        (("fd00::7", 5004, 0, 0), "[fd00::7]:5004"),
        (("::ffff:10.0.0.7", 5004, 0, 0), "10.0.0.7:5004"),
        (("203.0.113.77", 5004), "203.0.113.x:5004"),
        (("203.0.113.77", 0), "203.0.113.x"),
        (("::ffff:203.0.113.77", 5004, 0, 0), "203.0.113.x:5004"),
        (("2001:db8:7:8::9", 5004, 0, 0), "[2001:0db8:0007::x]:5004"),
    ],
)
def test_addresses(address: Address, shown: str) -> None:
    """Private ones and groups are told whole, of others the network: /24, /48."""
    assert shortened(address) == shown


def test_the_evidence_tells_no_address() -> None:
    """Of a source elsewhere, that has stopped, only the network is named."""
    told = Told(Evidence.STOPPED, {"source": "203.0.113.77:5004"})
    assert _told(told, ("203.0.113.77", 5004)) == {
        "key": "stopped",
        "values": {"source": "203.0.113.x:5004"},
    }


def test_who_is_listed() -> None:
    """Fixed outputs, and those that lost most, in the order in which they are."""
    everyone = [ViewerRow(n, UDP, "streaming", None, lost=n % 7) for n in range(1000)]
    assert _worst(everyone[:LISTED]) == everyone[:LISTED]
    everyone[900:900] = [ViewerRow("screen", FIXED, "streaming", None)]
    listed = _worst(everyone)
    assert len(listed) == LISTED
    assert everyone[900] in listed
    assert {each.lost for each in listed if each.kind == UDP} == {6}
    assert [everyone.index(each) for each in listed] == sorted(map(everyone.index, listed))


def test_a_histogram() -> None:
    """A value is counted at the least bound that it does not exceed."""
    histogram = Histogram((1.0, 2.0))
    for each in (0.0, 1.0, 1.5, 2.0, 2.5):
        histogram.add(each)
    assert (histogram.counts, histogram.sum) == ([2, 2, 1], 7.0)
