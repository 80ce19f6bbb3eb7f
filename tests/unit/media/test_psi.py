"""Program tables: put together from packets, checked, read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaylib.media import psi
from tests.unit.media.streams import crc32, pat, pmt, section

STREAMS: dict[int, int | tuple[int, bytes]] = {
    0x100 + index: (0x1B, b"\x0a\x04spa\0") for index in range(30)
}
LONG = pmt(7, 256, STREAMS)


def test_the_crc_is_that_of_the_standard() -> None:
    """It is the published check value, holds over whole sections, and over no damaged one."""
    assert crc32(b"123456789") == 0x0376E6E7
    for whole in (pat({1: 4096}), LONG):
        assert psi.crc_holds(whole)
        for at in range(len(whole)):
            assert not psi.crc_holds(whole[:at] + bytes((whole[at] ^ 1,)) + whole[at + 1 :])


def pieces(data: bytes, size: int) -> list[tuple[bytes, bool]]:
    """Cut sections up into payloads, as a muxer does with one section after the other."""
    return [
        ((b"\0" if not at else b"") + data[at : at + size], not at)
        for at in range(0, len(data), size)
    ]


@pytest.mark.parametrize("size", [1, 2, 3, 100, 183, 2000])
def test_sections_are_put_together(size: int) -> None:
    """Over as many packets as it takes, with stuffing behind them."""
    sections = psi.Sections()
    found = [each for part in pieces(LONG + b"\xff" * 20, size) for each in sections.add(*part)]
    assert found == [LONG]


def test_a_packet_may_end_one_section_and_begin_another() -> None:
    """The pointer tells where the next one begins, behind the end of the last; more may follow."""
    sections, end = psi.Sections(), LONG[180:]
    assert sections.add(b"\0" + LONG[:180], True) == []
    joined = bytes((len(end) % 256,)) + end
    assert len(end) < 256
    small = [pat({2: 32}), pat({3: 33})]
    assert sections.add(joined + small[0] + small[1], True) == [LONG, *small]


def test_a_section_with_a_hole_is_dropped() -> None:
    """After a loss nothing is glued together that does not belong together."""
    sections = psi.Sections()
    sections.add(b"\0" + LONG[:100], True)
    sections.drop()
    assert sections.add(LONG[150:], False) == []
    assert sections.add(b"\0" + LONG, True) == [LONG]


def test_tables_are_read() -> None:
    """Programs, PIDs, stream types and descriptors come back; the network's PID is no program."""
    found = psi.pat(pat({0: 16, 1: 4096, 65535: 8190}, version=3))
    assert found == (3, 0, {1: 4096, 65535: 8190})
    read = psi.pmt(LONG)
    assert read is not None
    assert read[:2] == (7, 256)
    assert {each.pid: (each.type, each.descriptors) for each in read.streams} == STREAMS


def test_what_is_not_in_force_yet_is_left() -> None:
    """A table that announces the next one is none; nor is another table."""
    later = bytearray(pat({1: 4096}))
    later[5] &= 0xFE
    assert psi.pat(bytes(later)) is None
    assert psi.pat(LONG) is None
    assert psi.pmt(pat({1: 4096})) is None


@given(st.lists(st.tuples(st.binary(max_size=184), st.booleans()), max_size=8))
def test_arbitrary_payloads(payloads: list[tuple[bytes, bool]]) -> None:
    """No bytes make a reader fail."""
    sections = psi.Sections()
    for payload, starts in payloads:
        for each in sections.add(payload, starts):
            psi.crc_holds(each)
            psi.has_crc(each)
            psi.pat(each)
            psi.pmt(each)


@given(st.integers(0, 3), st.binary(max_size=60))
def test_arbitrary_tables(table: int, body: bytes) -> None:
    """A section whose CRC holds may still say anything."""
    psi.pat(section(table, 1, body))
    psi.pmt(section(table, 1, body))
