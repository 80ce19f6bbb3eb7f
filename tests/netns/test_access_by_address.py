"""Who may, and how much, from other hosts: the loopback is exempt from most of it.

The hosts are network namespaces on one LAN; to make them takes root.
"""

import pytest

from tools.lab.netns import (
    LAN,
    LAN6,
    NetnsViewers,
    Stage,
    assert_got_everything,
    finish,
    set_up,
)
from tools.lab.process import wait_for

STATUS = (
    "OK estado=inactivo destino=- enviados=0 perdidos=0 "
    "fuente=ausente forma=opaca salud=silencio retraso=-"
)


def loopback(stage: Stage) -> NetnsViewers:
    """A viewer on the relay's own host."""
    return stage.peer(stage.relay_host, "127.0.0.1")


def test_connections_of_one_address() -> None:
    """An address may hold so many connections; others, its IPv6 one, and the loopback go on."""
    with set_up("--max-clients-per-ip", "3") as stage:
        one, other = stage.host("one"), stage.host("other")
        greedy = stage.peer(one)
        refused = f"ERROR demasiadas conexiones desde {one.address} (3 como mucho)"
        assert greedy.do("connect", 5) == [STATUS] * 3 + [refused] * 2
        assert greedy.do("ending", 4) == ""
        assert stage.peer(other).do("connect", 3) == [STATUS] * 3
        assert stage.peer(one, stage.relay_host.address6).do("connect", 3) == [STATUS] * 3
        assert loopback(stage).do("connect", 20) == [STATUS] * 20
        greedy.do("close")
        stage.relay.wait_event("client_gone", 3, reason="disconnected")
        assert greedy.do("connect", 4) == [STATUS] * 3 + [refused]
        assert stage.relay.wait_event("client_declined", 3)["reason"] == "per_ip"
        assert stage.relay.stop() == 0
        assert stage.relay.wait_event("stopped")["declined"] == {"per_ip": 3}


def test_how_often_one_address_may_ask() -> None:
    """Whoever floods is answered with ERROR after 520 commands; a neighbour's are not."""
    with set_up() as stage:
        one = stage.host("one")
        eager = stage.peer(one)
        refused = f"ERROR demasiados comandos por segundo desde {one.address}: espere un poco"
        assert eager.do("connect", 3) == [STATUS] * 3
        replies = eager.do("say", 0, 900, "ESTADO")
        assert set(replies) == {STATUS, refused}
        assert replies[STATUS] >= 517
        assert refused in eager.do("say", 1, 100, "ESTADO")
        assert eager.do("say", 2, 15, "ESTADO") == {STATUS: 15}
        assert stage.peer(stage.host("other")).do("connect", 1) == [STATUS]
        local = loopback(stage)
        assert local.do("connect", 1) == [STATUS]
        assert local.do("say", 0, 2000, "ESTADO") == {STATUS: 2000}
        assert len(stage.relay.events("command_declined")) < 20


# --- who


def test_only_allowed_peers() -> None:
    """With --allow those named are served, in both families, and besides them the host itself."""
    with set_up("--allow", f"{LAN}.3", "--allow", f"{LAN6}::3/128") as stage:
        for host, allowed in ((stage.source_host, True), (stage.host("stranger"), False)):
            for relay, address in (
                (stage.relay_host.address, host.address),
                (stage.relay_host.address6, host.address6),
            ):
                expected = (
                    STATUS if allowed else f"ERROR acceso no permitido desde {address} (--allow)"
                )
                assert stage.peer(host, relay).do("connect", 1) == [expected]
        assert loopback(stage).do("connect", 1) == [STATUS]
        assert stage.relay.wait_event("client_declined", 2)["reason"] == "not_allowed"


@pytest.mark.parametrize(("options", "allowed"), [((), False), (("--allow", "any"), True)])
def test_the_internet(options: tuple[str, ...], allowed: bool) -> None:
    """Peers from the Internet are served only if anybody may; the relay's own host always is."""
    with set_up(*options) as stage:
        one = stage.host("one")
        for host, number in ((stage.relay_host, 1), (one, 2)):
            host.up("eth0", f"203.0.113.{number}/24", f"2001:db8::{number}/64")
        for relay, address in (("203.0.113.1", "203.0.113.2"), ("2001:db8::1", "2001:db8::2")):
            expected = STATUS if allowed else f"ERROR acceso no permitido desde {address} (--allow)"
            assert stage.peer(one, relay).do("connect", 1) == [expected]
            assert stage.peer(stage.relay_host, relay).do("connect", 1) == [STATUS]
        assert stage.peer(one).do("connect", 1) == [STATUS]


def test_link_local_peers() -> None:
    """A viewer with nothing but a link-local address is served, and the stream finds it."""
    with set_up() as stage:
        one = stage.host("one")
        viewer = stage.watch(one, f"{stage.relay_host.link_local()}%eth0")
        source = stage.stream()
        viewer.wait_received()
        status = viewer.command("ESTADO")
        assert f"destino=[{one.link_local()}]:" in status, status
        assert_got_everything([viewer], finish(source))


def test_only_allowed_sources() -> None:
    """With --allow-source nobody else owns the ingest, not even while it is nobody's.

    The kernel drops what others send, in both families, but lets a few through to be named.
    """
    with set_up("--allow-source", f"{LAN}.3", "--allow-source", f"{LAN6}::3") as stage:
        viewer = stage.watch(stage.host("viewer"))
        stranger = stage.host("stranger")
        peers = [
            stage.peer(stranger, relay)
            for relay in (stage.relay_host.address, stage.relay_host.address6)
        ]

        def named() -> bool:
            for peer in peers:
                peer.do("datagram", stage.relay.ingest_port, "splice", 1000)
            return len(stage.relay.events("source_rejected", reason="not_allowed")) > 0

        wait_for(named, "a stranger to be named")
        source = stage.stream()
        viewer.wait_received()
        stage.peer(stranger).do("datagram", stage.relay.ingest_port, "splice")
        assert_got_everything([viewer], finish(source))
        assert stage.relay.wait_event("source_locked")["source"].startswith(f"{LAN}.3:")


# --- for how long
