"""What the kernel had to drop: counted once, reported now and then, with what helps."""

import socket

import pytest
from structlog.testing import capture_logs

from relaylib.net import linux
from relaylib.source.receive_buffer import RECEIVE_BUFFER, REPORT_PERIOD, ReceiveBuffer
from tools.lab.sockets import source, udp_socket

pytestmark = pytest.mark.skipif(not linux.LINUX, reason="only Linux counts drops by socket")


def overflow(sock: socket.socket) -> int:
    """Send to this socket, which nobody reads, until the kernel drops; return its count."""
    before = linux.dropped(sock)
    with source(sock.getsockname()[1]) as sender:
        while linux.dropped(sock) == before:
            sender.send(bytes(60_000))
    return linux.dropped(sock)


def look(buffer: ReceiveBuffer, now: float) -> None:
    """Count and report, as the ingest does now and then."""
    buffer.count(buffer.take())
    buffer.report(now)


@pytest.mark.parametrize(
    ("granted", "remedy"),
    [
        (RECEIVE_BUFFER - 1, "sysctl -w net.core.rmem_max=8388608, then reload"),
        (RECEIVE_BUFFER, "fewer viewers, or a larger --coalesce: the buffer is as large as asked"),
    ],
)
def test_the_remedy_is_what_is_short(
    granted: int, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A buffer smaller than asked for can be made larger; otherwise the work has to get less."""
    monkeypatch.setattr(linux, "grow_receive_buffer", lambda _sock, _size: granted)
    buffer = ReceiveBuffer()
    with udp_socket() as sock, capture_logs() as logs:
        buffer.use(sock)
        drops = overflow(sock)
        look(buffer, 0.0)
    assert logs == [
        {
            "event": "ingest_overflow",
            "log_level": "warning",
            "dropped": drops,
            "total": drops,
            "buffer_asked": RECEIVE_BUFFER,
            "buffer_granted": granted,
            "remedy": remedy,
        }
    ]


def test_drops_are_reported_now_and_then() -> None:
    """The first are reported at once, later ones together when the period has passed."""
    buffer, totals = ReceiveBuffer(), []
    with udp_socket() as sock, capture_logs() as logs:
        buffer.use(sock)
        for now in (0.0, 1.0, REPORT_PERIOD - 1, REPORT_PERIOD):
            totals.append(overflow(sock))
            look(buffer, now)
        look(buffer, 3 * REPORT_PERIOD)
    first, last = totals[0], totals[-1]
    assert [(event["dropped"], event["total"]) for event in logs] == [
        (first, first),
        (last - first, last),
    ]


def test_drops_before_a_takeover_are_counted() -> None:
    """When the stream moves to another socket, the former one's drops are not forgotten."""
    buffer = ReceiveBuffer()
    with udp_socket() as first, udp_socket() as second:
        buffer.use(first)
        drops = overflow(first)
        overflow(second)  # before it was the stream's: not ours to count
        buffer.use(second)
        assert buffer.drops.total == drops
        assert overflow(second) > buffer.drops.seen
