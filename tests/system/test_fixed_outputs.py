"""Fixed outputs (`--to`) of a real relay."""

import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from tools.lab.process import ChildProcess
from tools.lab.relay import RelayProcess
from tools.lab.reloads import CountingViewers, NumberedStream, descriptors, hang_up, reload
from tools.lab.sockets import unused_port
from tools.lab.viewer import TestViewer


def to(*viewers: TestViewer) -> str:
    """The options that make the ports of these viewers fixed outputs."""
    return "".join(f"--to udp://127.0.0.1:{viewer.port}\n" for viewer in viewers)


def test_reloads_keep_add_and_remove_outputs(tmp_path: Path) -> None:
    """What stays configured misses nothing and counts on; the others come and go, and are told."""
    conf = tmp_path / "relay.conf"
    with ExitStack() as stack:
        # A relay for the viewers' control connections, which nobody uses: only the ports matter.
        other = stack.enter_context(RelayProcess())
        stays, goes, comes = (stack.enter_context(TestViewer(other.port)) for _ in range(3))
        conf.write_text(to(stays, goes))
        relay = stack.enter_context(RelayProcess(f"@{conf}"))
        relay.wait_event("output_added", 2, fixed=True)
        audience = stack.enter_context(CountingViewers([stays]))
        stream = stack.enter_context(NumberedStream(relay.ingest_port))
        goes.receive()
        relay.wait_event("source_locked")  # which takes a descriptor
        before = descriptors(relay)
        reload(relay)
        conf.write_text(to(comes, stays))
        reload(relay)
        removed = relay.wait_event("output_removed", destination=f"127.0.0.1:{goes.port}")
        assert removed["sent"] > 0 == removed["unreachable"]
        comes.receive()
        assert descriptors(relay) == before
        stream.__exit__()
        audience.expect(stream.sent)
        assert relay.stop() == 0
        end = relay.events("output_removed", destination=f"127.0.0.1:{stays.port}")
        assert [(each["sent"], each["dropped"]) for each in end] == [(stream.sent, 0)]
        assert len(relay.events("output_added")) == 3


def test_a_viewer_cannot_have_the_place_of_a_screen() -> None:
    """The stream goes there already: a viewer who asks for it is told so, and chooses another."""
    port = unused_port()
    with RelayProcess("--to", f"udp://127.0.0.1:{port}") as relay, TestViewer(relay.port) as viewer:
        relay.wait_event("output_added")
        reply = viewer.command(f"CONECTAR {port}")
        assert reply == f"ERROR destino ocupado por una salida fija: 127.0.0.1:{port}"
        viewer.subscribe()


def test_a_reload_into_a_loop_is_declined(tmp_path: Path) -> None:
    """New options that lead the stream back in are named, and the old ones stay."""
    conf = tmp_path / "relay.conf"
    ingest = unused_port()
    conf.write_text(f"--ingest-port {ingest}\n")
    with RelayProcess(f"@{conf}") as relay:
        conf.write_text(f"--ingest-port {ingest}\n--to udp://127.0.0.1:{ingest}\n")
        hang_up(relay)
        reason = relay.wait_event("reload_failed")["reason"]
        assert reason == f"relay.py: cannot send to 127.0.0.1:{ingest}: the stream comes in there"


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("--to", "udp://127.0.0.1:{port}"), 2, "cannot send to 127.0.0.1:{port}: the stream "),
        (("--to", "udp://239.2.2.2?iface=nowhere"), 1, "there is no interface nowhere\n"),
        (
            ("--check", "--to", "udp://239.2.2.2?iface=nowhere"),
            1,
            "there is no interface nowhere\n",
        ),
        (
            ("--check", "--ingest", "udp://@239.1.1.1?iface=nowhere"),
            1,
            "cannot join 239.1.1.1:1234: there is no interface nowhere\n",
        ),
        (("--to", "udp://239.2.2.2?ttl=256"), 2, "argument --to: not a ttl (0 to 255): '256'"),
    ],
)
def test_a_wrong_output_is_one_line(words: tuple[str, ...], status: int, said: str) -> None:
    """It ends the relay before it begins, with a reason."""
    port = unused_port()
    words = tuple(word.format(port=port) for word in words)
    with ChildProcess(sys.executable, "relay.py", "127.0.0.1", str(port), *words) as program:
        assert program.wait() == status
        (line,) = program.stderr
        assert said.format(port=port) in line
