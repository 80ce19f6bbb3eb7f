"""Strangers who flood the ingest, in moments when that used to cost the stream.

The relay is stopped while they send, so that whatever shares a buffer with them is lost for sure,
on a machine of any speed.
"""

import contextlib
import signal
import socket
from collections.abc import Iterator

import pytest

from relaylib.net import linux
from tools.lab.attacks import leave_descriptors
from tools.lab.relay import RelayProcess
from tools.lab.sockets import source, udp_socket
from tools.lab.viewer import TestViewer

pytestmark = pytest.mark.skipif(not linux.LINUX, reason="other systems part senders otherwise")

FLOOD = 20_000
"""Datagrams: more than any receive buffer of the relay has room for."""

STREAM = [b"%d" % index * 100 for index in range(20)]
TS = 7 * (b"\x47\x1f\xff\x10" + bytes(184))
"""A datagram that is recognised: its sender has the ingest at once."""
ONLY = ("--allow-source", "127.0.0.1")


@contextlib.contextmanager
def flooded(relay: RelayProcess, stranger: socket.socket) -> Iterator[None]:
    """Stop the relay, let a stranger flood it; go on when the block ends."""
    relay.process.send_signal(signal.SIGSTOP)
    try:
        for _ in range(FLOOD):
            stranger.sendto(bytes(1316), ("127.0.0.1", relay.ingest_port))
        yield
    finally:
        relay.process.send_signal(signal.SIGCONT)


def test_a_source_that_begins_without_descriptors_is_locked() -> None:
    """The socket that keeps strangers out of the stream's buffer was there before the viewers."""
    with (
        RelayProcess() as relay,
        TestViewer(relay.port) as viewer,
        source(relay.ingest_port) as active,
        udp_socket() as stranger,
    ):
        viewer.subscribe()
        leave_descriptors(relay, 0)
        active.send(TS)
        assert viewer.receive() == TS
        with flooded(relay, stranger):
            for each in STREAM:
                active.send(each)
        assert viewer.receive_all(len(STREAM)) == STREAM
        assert relay.events("ingest_not_locked") == []


def test_a_source_that_begins_amid_a_flood_from_outside_the_allow_list() -> None:
    """While there is no active source the allow-list keeps the buffer free for the next one."""
    with (
        RelayProcess(*ONLY, host="0.0.0.0") as relay,
        TestViewer(relay.port) as viewer,
        source(relay.ingest_port) as active,
        udp_socket("127.0.0.2") as stranger,
    ):
        viewer.subscribe()
        with flooded(relay, stranger):
            for each in STREAM:
                active.send(each)
        assert viewer.receive_all(len(STREAM)) == STREAM
        relay.stop()
        [stopped] = relay.events("stopped")
        assert (stopped["rejected"], stopped["overflowed"]) == (FLOOD, 0)


def test_a_takeover_amid_a_flood_from_outside_the_allow_list() -> None:
    """The small buffer in which a standby source is heard is kept free for it, too."""
    with (
        RelayProcess(*ONLY, "--source-timeout", "0.2", host="0.0.0.0") as relay,
        TestViewer(relay.port) as viewer,
        source(relay.ingest_port) as first,
        source(relay.ingest_port) as second,
        udp_socket("127.0.0.2") as stranger,
    ):
        viewer.subscribe()
        first.send(TS)
        assert viewer.receive() == TS
        relay.wait_event("ingest_silent")
        with flooded(relay, stranger):
            for each in STREAM:
                second.send(each)
        assert viewer.receive_all(len(STREAM)) == STREAM
        relay.wait_event("source_takeover")
        assert len(relay.events("source_takeover")) == 1
