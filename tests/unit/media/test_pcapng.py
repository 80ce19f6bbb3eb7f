"""Captures made here: what other programs read in them is what went in."""

import io
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaylib.media.pcapng import FlowBlocks, head
from tools.lab.process import need
from tools.replay import packets
from tools.replay.captures import Record, records
from tools.replay.packets import Datagram, encode, library

NOW = 1_700_000_000_123_456_789
REASON = "fuente: faltan 12 paquetes"

PORTS = st.integers(0, 65535)


def flows(byte_count: int) -> st.SearchStrategy[packets.Flow]:
    addresses = st.binary(min_size=byte_count, max_size=byte_count)
    return st.builds(packets.Flow, addresses, PORTS, addresses, PORTS)


def capture(flow: packets.Flow, timed: list[tuple[int, bytes]]) -> bytes:
    """Make a capture of datagrams and their times."""
    blocks = FlowBlocks(*flow)
    return head(REASON, "relay") + b"".join(blocks.block(time, each) for time, each in timed)


def comments(data: bytes) -> list[bytes]:
    """Return the options of a capture's first block."""
    section = library().pcapng.SectionHeaderBlockLE(data[: int.from_bytes(data[4:8], "little")])
    return [option.data for option in section.opts]


@given(
    st.one_of(flows(4), flows(16)),
    st.lists(st.tuples(st.integers(0, (1 << 63) - 1), st.binary(min_size=1, max_size=2000))),
)
def test_what_was_put_in_is_read(flow: packets.Flow, timed: list[tuple[int, bytes]]) -> None:
    """A reader finds each packet, with its time, as dpkt makes it: headers, lengths, checksums."""
    assert list(records(io.BytesIO(capture(flow, timed)))) == [
        Record(time, packets.LINK_RAW, encode(Datagram(flow, payload))) for time, payload in timed
    ]


FOUR = packets.Flow(bytes([192, 0, 2, 1]), 40000, bytes([239, 1, 1, 1]), 5004)
SIX = packets.Flow(bytes(15) + b"\1", 40000, bytes(15) + b"\2", 5004)


@pytest.mark.parametrize("flow", [FOUR, SIX], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("size", [1, 1316, 65507])
def test_tcpdump_reads_it(flow: packets.Flow, size: int, tmp_path: Path) -> None:
    """Tcpdump finds the addresses, the size and a correct checksum, and no error."""
    need("tcpdump")
    file = tmp_path / "capture"
    file.write_bytes(capture(flow, [(NOW, bytes(size))]))
    said = subprocess.run(["tcpdump", "-nvv", "-r", file], capture_output=True, check=True)
    text = said.stdout.decode()
    assert (
        " > ".join(end.replace("]", "").replace("[", "") for end in flow.ends)
        .replace(":40000", ".40000")
        .replace(":5004", ".5004")
        in text
    )
    assert f"[udp sum ok] UDP, length {size}" in text
    assert "truncated" not in text + said.stderr.decode()


@pytest.mark.parametrize("flow", [FOUR, SIX], ids=["IPv4", "IPv6"])
def test_a_checksum_of_0_is_written_as_its_other_zero(flow: packets.Flow) -> None:
    """In UDP, 0 says that there is no checksum: what adds up to it is sent as 65535 (RFC 768)."""
    [record] = records(io.BytesIO(capture(flow, [(NOW, bytes(2))])))
    checksum = record.frame[-4:-2]
    [record] = records(io.BytesIO(capture(flow, [(NOW, checksum)])))
    assert record.frame[-4:-2] == b"\xff\xff"


def test_the_reason_is_its_comment() -> None:
    """The first block of a capture says why it was made, and by which program."""
    assert comments(capture(FOUR, [])) == [REASON.encode(), b"relay", b""]
