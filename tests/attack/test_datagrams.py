"""Datagrams meant to deceive: forged ICMP errors, and what a player sends back."""

from pathlib import Path

from tools.lab.icmp import raw_icmp, unreachable
from tools.lab.relay import RelayProcess
from tools.lab.sockets import source
from tools.lab.viewer import TestViewer

HOST = "127.0.0.1"


def waiting(port: int) -> int:
    """Bytes in the receive queue of the UDP socket that is bound to this port (proc_net_udp(5))."""
    for line in Path("/proc/net/udp").read_text().splitlines()[1:]:
        local, queues = line.split()[1], line.split()[4]
        if int(local.split(":")[1], 16) == port:
            return int(queues.split(":")[1], 16)
    raise AssertionError(f"no socket on UDP port {port}")


def test_a_forged_icmp_error_does_not_touch_the_ingest(relay: RelayProcess) -> None:
    """Someone on the LAN who claims that the source's port is closed changes nothing."""
    with (
        raw_icmp() as forger,
        TestViewer(relay.port) as viewer,
        source(relay.ingest_port) as sender,
    ):
        viewer.subscribe()
        forged = unreachable((HOST, relay.ingest_port), sender.getsockname())
        for number in range(100):
            sender.send(b"%d" % number)
            forger.sendto(forged, (HOST, 0))
        assert viewer.receive_all(100) == [b"%d" % number for number in range(100)]
        assert relay.events("bug") == []


def test_a_forged_icmp_error_costs_a_viewer_nothing(relay: RelayProcess) -> None:
    """A viewer whose port is said to be closed, before every datagram, gets every datagram."""
    with (
        raw_icmp() as forger,
        TestViewer(relay.port) as viewer,
        source(relay.ingest_port) as sender,
    ):
        viewer.subscribe()
        sender.send(b"first")
        _, stream = viewer.player.recvfrom(100)
        for number in range(6):
            forger.sendto(unreachable(stream, (HOST, viewer.port)), (HOST, 0))
            sender.send(b"%d" % number)
            assert viewer.receive() == b"%d" % number
        assert relay.events("bug") == []


def test_what_a_player_sends_back_does_not_pile_up(relay: RelayProcess) -> None:
    """A player that floods the socket its stream comes from fills no memory and gets its stream."""
    with TestViewer(relay.port) as viewer, source(relay.ingest_port) as sender:
        viewer.subscribe()
        sender.send(b"first")
        assert viewer.receive() == b"first"
        sender.send(b"second")
        _, stream = viewer.player.recvfrom(100)
        for _ in range(1000):
            viewer.player.sendto(b"x" * 1316, stream)
        assert waiting(stream[1]) < 16 << 10
        sender.send(b"third")
        assert viewer.receive() == b"third"
