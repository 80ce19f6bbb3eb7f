"""What a reload takes over from the command line and from changed options, and what it cannot."""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.lab.altered import Altered
from tools.lab.process import ChildProcess, wait_for
from tools.lab.relay import RelayProcess
from tools.lab.reloads import AYUDA, descriptors, hang_up, reload
from tools.lab.sockets import source, udp_socket
from tools.lab.viewer import TestViewer


def command_line(relay: RelayProcess) -> list[str]:
    """The words that the relay was started with, without the interpreter's own name."""
    return Path(f"/proc/{relay.pid}/cmdline").read_text().split("\0")[1:]


@contextlib.contextmanager
def configured(directory: Path, text: str) -> Iterator[tuple[RelayProcess, Path]]:
    """A relay whose options are in a file."""
    conf = directory / "relay.conf"
    conf.write_text(text)
    with RelayProcess(f"@{conf}") as relay:
        yield relay, conf


# --- changed options


def test_changed_options_take_effect(tmp_path: Path) -> None:
    """Timeouts and coalescer are those of the file at the time of the reload."""
    with (
        configured(tmp_path, "--source-timeout 600\n") as (relay, conf),
        source(relay.ingest_port) as encoder,
        TestViewer(relay.port) as viewer,
    ):
        viewer.subscribe()
        encoder.send(b"first")
        relay.wait_event("ingest_started")
        conf.write_text("--source-timeout 0.2\n--idle-timeout 0.2  # shorter\n--coalesce 5\n")
        reload(relay)
        relay.wait_event("ingest_silent")
        with TestViewer(relay.port) as idler:
            assert idler.reply() == "ERROR demasiado tiempo sin CONECTAR (0.2 s)"
        encoder.send(b"second")
        assert viewer.receive_all(2) == [b"first", b"second"]


@pytest.mark.long
def test_fewer_clients_than_are_there(tmp_path: Path) -> None:
    """A lower limit refuses newcomers and leaves those who are there alone."""
    with configured(tmp_path, "--max-clients 3\n") as (relay, conf):
        with TestViewer(relay.port) as first, TestViewer(relay.port) as second:
            first.subscribe()
            second.subscribe()
            conf.write_text("--max-clients 1\n")
            reload(relay)
            with TestViewer(relay.port) as third:
                assert third.reply() == "ERROR relay lleno (1 conexiones)"
            assert first.command("AYUDA").startswith("OK")
            assert second.command("AYUDA").startswith("OK")
        reload(relay)
        assert relay.stop() == 0
        assert relay.events("stopped")[0]["declined"] == {"full": 1}


def test_a_narrower_allow_source_is_for_the_present_source_too(tmp_path: Path) -> None:
    """A source that may not any more is rejected, an allowed one may begin; this host may watch."""
    with (
        configured(tmp_path, "") as (relay, conf),
        source(relay.ingest_port) as encoder,
        TestViewer(relay.port) as viewer,
    ):
        viewer.subscribe()
        encoder.send(b"first")
        assert viewer.receive() == b"first"
        conf.write_text("--allow-source 127.0.0.9 --allow 127.0.0.8\n")
        reload(relay)
        assert viewer.command("ESTADO").startswith("OK estado=transmitiendo")

        def is_refused() -> bool:
            """Send enough that the filter, which passes one in 1,024, lets some be named."""
            for _ in range(200):
                encoder.send(b"more")
            return bool(relay.events("source_rejected"))

        wait_for(is_refused, "the refusal")
        assert relay.wait_event("source_rejected")["reason"] == "not_allowed"
        with udp_socket("127.0.0.9") as other:
            other.sendto(b"allowed", ("127.0.0.1", relay.ingest_port))
            relay.wait_event("ingest_started", count=2)
        assert viewer.receive() == b"allowed"


def test_segmentation_switched_off_for_those_who_had_it(tmp_path: Path) -> None:
    """Datagrams larger than the former segments are not cut after --no-segmentation came."""
    with (
        configured(tmp_path, "--coalesce 20\n") as (relay, conf),
        source(relay.ingest_port) as encoder,
        TestViewer(relay.port) as viewer,
    ):
        viewer.subscribe()
        for _ in range(20):
            encoder.send(bytes(188))
        assert viewer.receive_all(20) == [bytes(188)] * 20
        conf.write_text("--no-segmentation\n")
        reload(relay)
        for _ in range(2):
            encoder.send(bytes(1316))
        assert viewer.receive_all(2) == [bytes(1316)] * 2


BREAK = """
from relaylib.lifecycle.reload import Reload
become = Reload._become
def broken(*words):
    open({conf!r}, "w").write("--nonsense")
    become(*words)
Reload._become = broken
"""


def test_the_options_that_were_checked_are_those_to_run_with(tmp_path: Path) -> None:
    """A file that is broken after it was checked ends nobody, and the next reload complains."""
    conf = tmp_path / "relay.conf"
    conf.write_text("--max-clients 3\n")
    program = Altered(tmp_path, BREAK.format(conf=str(conf)))
    with RelayProcess(f"@{conf}", prefix=program.prefix) as relay, TestViewer(relay.port) as viewer:
        viewer.subscribe()
        conf.write_text("--max-clients 1\n")
        reload(relay)
        assert viewer.command("ESTADO").startswith("OK estado=transmitiendo")
        with TestViewer(relay.port) as second:
            assert second.reply() == "ERROR relay lleno (1 conexiones)"
        hang_up(relay)
        assert "--nonsense" in relay.wait_event("reload_failed")["reason"]


@pytest.mark.long
def test_a_changed_address_waits_for_a_real_restart(tmp_path: Path) -> None:
    """Another host or port in the options is named in a warning; the sockets stay as they are."""
    with configured(tmp_path, "\n") as (relay, conf):
        reload(relay)
        assert not relay.events("address_unchanged")
        conf.write_text("--ingest-port 5000\n")
        for times in (1, 2):
            reload(relay)
            warning = relay.wait_event("address_unchanged", times)
            assert warning["asked"] == ["127.0.0.1", 0, 5000]
            assert warning["used"] == ["127.0.0.1", 0, None]
        conf.write_text("--ingest udp://@239.1.1.1:5000\n")
        reload(relay)
        warning = relay.wait_event("address_unchanged", 3)
        assert warning["asked"] == ["127.0.0.1", 0, "udp://@239.1.1.1:5000"]
        conf.write_text("\n")
        reload(relay)
        assert len(relay.events("address_unchanged")) == 3
        with TestViewer(relay.port) as viewer:
            assert viewer.command("AYUDA").startswith("OK")


# --- how it was started


@pytest.mark.long
def test_the_interpreter_gets_its_options_again() -> None:
    """A relative path and the interpreter's own options are the same after each reload."""
    options = "-X dev -X importtime -W error -u"
    run = f'cd tools; python=$1; shift 2; exec "$python" {options} ../relay.py "$@"'
    with RelayProcess(prefix=("sh", "-c", run, "sh")) as relay:
        before = command_line(relay)
        assert before[:8] == [*options.split(), "../relay.py"]
        reload(relay)
        reload(relay)
        assert command_line(relay) == before


def without(*names: str) -> tuple[str, ...]:
    """The prefix for a `RelayProcess` where these parts of the standard library are lacking."""
    lack = f"import os, runpy, signal, sys; del {', '.join(names)}; "
    run = "sys.argv = sys.argv[2:]; sys.path.insert(0, '.'); "
    return (sys.executable, "-c", lack + run + "runpy.run_path('relay.py', run_name='__main__')")


def test_a_system_without_anonymous_memory() -> None:
    """Where there is no memfd_create(2) the state travels in a temporary file."""
    with RelayProcess(prefix=without("os.memfd_create")) as relay, TestViewer(relay.port) as viewer:
        viewer.send(b"AYU")
        reload(relay)
        viewer.send(b"DA\n")
        assert viewer.reply() == AYUDA


def test_a_descriptor_of_a_state_that_is_none() -> None:
    """A relay that is told to take over from nothing says so in one line, and ends."""
    program = ChildProcess(
        sys.executable, "relay.py", env={**os.environ, "RELAY_HANDOVER_FD": "nonsense"}
    )
    with program:
        assert program.wait() == 1
        assert program.stderr == [
            "relay.py: cannot take over from the running relay: "
            "RELAY_HANDOVER_FD=nonsense names no file\n"
        ]


def test_a_system_without_hang_ups() -> None:
    """Where there is no SIGHUP the relay works, and cannot be reloaded."""
    missing = ("signal.SIGHUP", "signal.pthread_sigmask")
    with RelayProcess(prefix=without(*missing)) as relay, TestViewer(relay.port) as viewer:
        assert viewer.command("AYUDA") == AYUDA
        assert relay.stop() == 0


def test_closed_standard_descriptors() -> None:
    """A relay started without stdin and stdout reloads, and gives their numbers to no socket."""
    with (
        RelayProcess(prefix=("sh", "-c", 'exec "$@" <&- >&-', "sh")) as relay,
        TestViewer(relay.port) as viewer,
    ):
        viewer.subscribe()
        reload(relay)
        before = descriptors(relay)
        reload(relay)
        assert descriptors(relay) == before
        for fd in (0, 1):
            assert os.readlink(f"/proc/{relay.pid}/fd/{fd}") == os.devnull
        with source(relay.ingest_port) as encoder:
            encoder.send(b"picture")
        assert viewer.receive() == b"picture"


def test_check_in_the_file_of_options_ends_nobody(tmp_path: Path) -> None:
    """A stray --check in the options is a question for a person, not an end for the viewers."""
    options = tmp_path / "relay.conf"
    options.write_text("--max-clients 10\n")
    with RelayProcess(f"@{options}") as relay, TestViewer(relay.port) as viewer:
        viewer.subscribe()
        options.write_text("--check\n")
        relay.process.send_signal(signal.SIGHUP)
        relay.wait_event("reloaded")
        assert viewer.command("ESTADO").startswith("OK estado=transmitiendo")
