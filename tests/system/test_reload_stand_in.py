"""Who relays while the relay becomes another program, and what becomes of that stand-in."""

import os
import signal
from pathlib import Path

import pytest

from relaylib.source.gate import ESTABLISHED
from tools.lab.altered import Altered
from tools.lab.process import wait_for
from tools.lab.relay import RelayProcess
from tools.lab.reloads import (
    CountingViewers,
    Held,
    NumberedStream,
    children,
    descriptors,
    hang_up,
    reload,
)
from tools.lab.sockets import is_bound, source
from tools.lab.traffic import exchange, numbered
from tools.lab.viewer import TestViewer


def state(pid: int) -> str:
    """A process's state, such as Z for one that has ended (proc(5)); empty if it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def test_the_stream_goes_on_while_the_new_program_begins(held: Held) -> None:
    """Viewers get all of it, whatever the sizes, however long it takes; and all is counted."""
    relay = held.relay
    with (
        TestViewer(relay.port) as first,
        TestViewer(relay.port) as second,
        TestViewer(relay.port) as paused,
        source(relay.ingest_port) as encoder,
    ):
        for viewer in (first, second, paused):
            viewer.subscribe()
        exchange(encoder, [first, second, paused], numbered([1316] * 100))
        assert paused.command("INTERRUMPIR") == "OK"
        before = descriptors(relay)
        held.hang_up()
        exchange(encoder, [first, second], numbered([1316] * 500 + [188, 1472] * 50 + [188] * 99))
        first.send(b"ESTA")
        held.let_go()
        exchange(encoder, [first, second], numbered([1316] * 101 + [7, 1472] * 50))
        first.send(b"DO\n")
        assert "enviados=1000 perdidos=0 " in first.reply()
        assert "enviados=1000 perdidos=0 " in second.command("ESTADO")
        assert "enviados=100 perdidos=0 " in paused.command("ESTADO")
        assert paused.nothing_arrives(0.01)
        assert not children(relay)
        assert descriptors(relay) == before
    assert relay.stop() == 0
    assert relay.events("stopped")[0]["received"] == 1000
    assert not relay.events("stand_in_lost")


def test_a_stand_in_ends_with_the_new_program(held: Held) -> None:
    """If the new program dies, the stand-in ends too, and the ports are free."""
    relay = held.relay
    with TestViewer(relay.port) as viewer, source(relay.ingest_port) as encoder:
        viewer.subscribe()
        exchange(encoder, [viewer], numbered([1316] * ESTABLISHED))
        stand_in = held.hang_up()
        relay.process.kill()
        relay.wait()
        wait_for(lambda: state(stand_in) in ("", "Z"), "the stand-in to end")
        assert viewer.reply() == ""
    assert not is_bound(relay.ingest_port)


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGSTOP])
def test_a_stand_in_that_does_not_answer(held: Held, signum: signal.Signals) -> None:
    """Its counters are lost, which is logged; the new program relays on."""
    relay = held.relay
    with TestViewer(relay.port) as viewer, source(relay.ingest_port) as encoder:
        viewer.subscribe()
        exchange(encoder, [viewer], numbered([1316] * ESTABLISHED))
        stand_in = held.hang_up()
        exchange(encoder, [viewer], numbered([1316] * 20))
        os.kill(stand_in, signum)
        held.let_go()
        exchange(encoder, [viewer], numbered([188] * 40))
        assert f"enviados={ESTABLISHED + 40} perdidos=0 " in viewer.command("ESTADO")
    assert relay.wait_event("stand_in_lost")["pid"] == stand_in
    assert not children(relay)


def test_a_stand_in_that_has_waited_too_long(tmp_path: Path) -> None:
    """It ends by itself; what it has counted is there, and the kernel keeps what comes after it."""
    held = Held(tmp_path, "from relaylib.lifecycle import stand_in; stand_in.LIMIT = 0.2")
    relay = held.relay
    with relay, TestViewer(relay.port) as viewer, source(relay.ingest_port) as encoder:
        viewer.subscribe()
        exchange(encoder, [viewer], numbered([1316] * ESTABLISHED))
        stand_in = held.hang_up()
        wait_for(lambda: state(stand_in) == "Z", "the stand-in to end")
        for datagram in numbered([1316] * 20):
            encoder.send(datagram)
        held.let_go()
        assert viewer.receive_all(20) == numbered([1316] * 20)
        assert f"enviados={ESTABLISHED + 20} perdidos=0 " in viewer.command("ESTADO")


TALK = """
from relaylib.lifecycle import stand_in
report = stand_in.StandIn._report
def tell(self, *counts):
    stand_in.log.warning("told_by_the_stand_in")
    print("told", flush=True)
    return report(self, *counts)
stand_in.StandIn._report = tell
"""


def test_a_stand_in_says_nothing(tmp_path: Path) -> None:
    """What happens in it, such as a port that is found closed, is not for the log to tell."""
    with (
        RelayProcess(prefix=Altered(tmp_path, TALK).prefix) as relay,
        source(relay.ingest_port) as encoder,
    ):
        for _ in range(ESTABLISHED):
            encoder.send(b"stream")
        relay.wait_event("source_locked")
        reload(relay)
        assert relay.stop() == 0
    assert not relay.events("told_by_the_stand_in")
    assert not relay.events("stand_in_lost")
    assert relay.stdout == []


NO_FORK = """
import errno, os
fork, forks = os.fork, []
def one_fork():
    if forks:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    forks.append(1)
    return fork()
os.fork = one_fork
"""

NO_EXEC = """
import errno, os
execve = os.execve
def no_execve(path, words, environment):
    if "--check" in words:
        execve(path, words, environment)
    raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
os.execve = no_execve
"""


def test_no_process_for_a_stand_in(tmp_path: Path) -> None:
    """Where the system gives none, the kernel holds the stream as long as it can."""
    with (
        RelayProcess(prefix=Altered(tmp_path, NO_FORK).prefix) as relay,
        TestViewer(relay.port) as viewer,
    ):
        viewer.subscribe()
        with CountingViewers([viewer]) as audience, NumberedStream(relay.ingest_port) as stream:
            relay.wait_event("ingest_started")
            reload(relay)
            stream.__exit__()
            audience.expect(stream.sent)
        assert relay.events("no_stand_in", reason="Resource temporarily unavailable")


def test_an_exec_that_fails_in_the_end(tmp_path: Path) -> None:
    """The old program takes over from its stand-in, and has counted everything."""
    with (
        RelayProcess(prefix=Altered(tmp_path, NO_EXEC).prefix) as relay,
        TestViewer(relay.port) as viewer,
    ):
        viewer.subscribe()
        with CountingViewers([viewer]) as audience, NumberedStream(relay.ingest_port) as stream:
            relay.wait_event("source_locked")
            before = descriptors(relay)
            hang_up(relay)
            assert relay.wait_event("reload_failed")["reason"] == "Cannot allocate memory"
            stream.__exit__()
            audience.expect(stream.sent)
        assert f"enviados={stream.sent} perdidos=0 " in viewer.command("ESTADO")
        wait_for(lambda: descriptors(relay) == before, "the descriptors to be as before")
        assert not children(relay)
