"""The program as a whole: how it starts, what it says, and how it ends."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from datetime import datetime, timedelta
from ipaddress import ip_network
from pathlib import Path

import pytest

from relaylib import __version__
from relaylib.lifecycle.guide import guide
from relaylib.net.lookup import reachable_host
from relaylib.net.networks import ANY, PRIVATE, Network
from tools.lab.client import PseudoTerminal
from tools.lab.process import PATIENCE, ROOT, ChildProcess, need, need_ipv6, wait_for
from tools.lab.relay import RelayProcess
from tools.lab.sockets import udp_socket, unused_port
from tools.lab.viewer import TestViewer

FAREWELL = "ERROR el relay se detiene"


def run(*words: str, prefix: tuple[str, ...] = ()) -> tuple[int, str, str]:
    """Run the relay until it ends by itself; return status, stdout and stderr."""
    done = subprocess.run(
        [*prefix, sys.executable, "relay.py", *words],
        capture_output=True,
        timeout=PATIENCE,
        cwd=ROOT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def assert_one_line(stderr: str, *words: str) -> None:
    """Check that a program said in one line what was wrong, naming these words."""
    assert stderr.startswith("relay.py: ")
    assert stderr.count("\n") == 1
    for word in words:
        assert word in stderr


# --- words


def test_help_shows_every_option_and_examples() -> None:
    """--help explains itself, with an example of each use."""
    status, out, err = run("--help")
    assert (status, err) == (0, "")
    for word in ("HOST", "PORT", "--ingest-port", "--log-format", "--log-level", "--version"):
        assert word in out
    assert out.count("\n  relay.py ") >= 5


def test_version() -> None:
    """--version says which relay this is."""
    assert run("--version") == (0, f"relay {__version__}\n", "")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--nonsense"], "--nonsense"),
        (["9000"], "HOST comes before PORT"),
        (["127.0.0.1", "65536"], "'65536'"),
        (["--coalesce", "soon"], "'soon'"),
    ],
)
def test_a_wrong_option_is_one_line(words: list[str], named: str) -> None:
    """A wrong option or argument is one line that names it, and exit status 2."""
    status, out, err = run(*words)
    assert (status, out) == (2, "")
    assert_one_line(err, named)


def test_without_its_library_it_says_how_to_get_it() -> None:
    """Under an interpreter without structlog there is a line that says what to do instead."""
    command = [sys.executable, "-S", "relay.py", "--help"]
    done = subprocess.run(command, capture_output=True, cwd=ROOT, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert_one_line(done.stderr, "structlog", "make setup", ".venv/bin/python relay.py")


def test_ctrl_c_while_it_starts_is_no_traceback(tmp_path: Path) -> None:
    """SIGINT before the relay has anything to undo ends it at once, without a word."""
    (tmp_path / "structlog.py").write_text("import os\nos.kill(os.getpid(), 2)\n")
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    with ChildProcess(sys.executable, "relay.py", env=env) as program:
        assert (program.wait(), program.stderr) == (-signal.SIGINT, [])


# --- ports


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_a_busy_port_is_one_line(kind: socket.SocketKind) -> None:
    """A port that somebody else has is said in one line, and exit status 1."""
    with socket.socket(socket.AF_INET, kind) as taken:
        port = unused_port()
        taken.bind(("127.0.0.1", port))
        if kind == socket.SOCK_STREAM:
            taken.listen()
        status, out, err = run("127.0.0.1", str(port))
    assert (status, out) == (1, "")
    protocol = "TCP" if kind == socket.SOCK_STREAM else "UDP"
    assert_one_line(err, protocol, "already in use", f"127.0.0.1:{port}")


@pytest.mark.parametrize(
    ("host", "says"),
    [
        ("192.0.2.77", "not an address of this machine: 192.0.2.77:0"),
        ("2001:db8::77", "[2001:db8::77]:0"),
        ("relay..invalid", "unknown host: relay..invalid"),
        ("no such host", "unknown host: no such host"),
        ("x" * 300, "unknown host: xxx"),
    ],
)
def test_a_bad_host_is_one_line(host: str, says: str) -> None:
    """A host that is unknown, or is another machine's, is said in one line."""
    status, out, err = run(host, "0")
    assert (status, out) == (1, "")
    assert_one_line(err, says)


def test_a_low_port_needs_privilege() -> None:
    """Without the privilege a port below 1024 is one line that says so."""
    first = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
    if not first.exists() or int(first.read_text()) <= 80:
        pytest.skip("ports below 1024 need no privilege here")
    prefix: tuple[str, ...] = ()
    if os.geteuid() == 0:
        need("setpriv")
        prefix = ("setpriv", "--bounding-set=-net_bind_service")
    status, out, err = run("127.0.0.1", "80", prefix=prefix)
    assert (status, out) == (1, "")
    assert_one_line(err, "127.0.0.1:80", "need root")


@pytest.mark.parametrize("limit", range(5, 9))
def test_too_few_descriptors_are_one_line(limit: int) -> None:
    """A limit under which there is not even a listener is one line and exit status 1."""
    limited = ("sh", "-c", f'ulimit -n {limit}; exec "$@"', "sh")
    status, out, err = run("127.0.0.1", "0", prefix=limited)
    assert (status, out) == (1, "")
    assert_one_line(err, "Too many open files")


def test_the_ingest_may_have_a_port_of_its_own() -> None:
    """--ingest-port separates the stream's port from the control port."""
    port = unused_port()
    with RelayProcess("--ingest-port", str(port)) as relay, TestViewer(relay.port) as viewer:
        assert relay.ingest_port == port != relay.port
        viewer.subscribe()
        with udp_socket() as sender:
            sender.sendto(b"x", ("127.0.0.1", port))
        assert viewer.receive() == b"x"


# --- the end


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_in_order(signum: signal.Signals) -> None:
    """Each session reads one farewell line and its end; totals are logged; exit status 0."""
    with RelayProcess() as relay, TestViewer(relay.port) as one, TestViewer(relay.port) as other:
        one.subscribe()
        other.send(b"CONEC")
        relay.wait_event("client_connected", count=2)
        relay.process.send_signal(signum)
        for viewer in (one, other):
            assert viewer.reply() == FAREWELL
            assert viewer.reply() == ""
        assert relay.wait() == 0
        assert relay.events("shutting_down", clients=2)
        assert relay.events("stopped", accepted=2, received=0)
        with pytest.raises(ConnectionRefusedError):
            TestViewer(relay.port)


def test_a_stubborn_client_does_not_hold_the_end_up(relay: RelayProcess) -> None:
    """A client that neither reads nor closes delays the end by half a second, not by more."""
    with TestViewer(relay.port):
        relay.wait_event("client_connected")
        assert relay.stop() == 0
        [began], [ended] = relay.events("shutting_down"), relay.events("stopped")
        held_up = datetime.fromisoformat(ended["timestamp"]) - datetime.fromisoformat(
            began["timestamp"]
        )
        assert held_up < timedelta(seconds=1.9)  # 2 s is what a connection may linger otherwise


def test_a_second_signal_ends_at_once() -> None:
    """While the farewells are on their way a second signal kills."""
    for _ in range(5):  # a test that is too slow with the second signal has seen nothing
        with RelayProcess() as relay, TestViewer(relay.port):
            relay.wait_event("client_connected")
            relay.process.send_signal(signal.SIGTERM)
            relay.wait_event("shutting_down")
            relay.process.send_signal(signal.SIGTERM)
            if relay.wait() == -signal.SIGTERM:
                assert relay.events("stopped") == []
                return
    pytest.fail("five relays went on after a second signal")


def test_the_end_comes_in_time_under_load(relay: RelayProcess) -> None:
    """With many sessions open each still gets its farewell."""
    viewers = [TestViewer(relay.port) for _ in range(100)]
    for viewer in viewers:
        viewer.subscribe()
    relay.process.send_signal(signal.SIGTERM)
    assert [viewer.reply() for viewer in viewers] == [FAREWELL] * 100
    assert relay.wait() == 0
    for viewer in viewers:
        viewer.close()


# --- what it says


def test_a_person_sees_what_to_type_next() -> None:
    """On a terminal the relay shows the commands for source and viewer, address filled in."""
    with PseudoTerminal(sys.executable, "relay.py", "127.0.0.1", "0") as terminal:
        terminal.contains("Ctrl-C ends the relay.")
        terminal.contains("listening")
        text = terminal.text
        port = re.findall(r"Relay listening on 127\.0\.0\.1:(\d+)", text)[0]
        assert f"'#rtp{{proto=udp,mux=ts,dst=127.0.0.1,port={port}}}'" in text
        assert f"client.py 127.0.0.1 {port} 5004" in text
        assert "udp://@:5004      (rtp://@:5004 is better" in text
        assert "--allow" not in text
        assert '{"' not in text  # the log is for people too
        terminal.type("\x03")
        assert terminal.process.wait(PATIENCE) == 0


def test_the_guide_names_an_address_that_others_can_reach() -> None:
    """A relay on every address shows a real one in its guide."""
    with PseudoTerminal(sys.executable, "relay.py", "0.0.0.0", "0") as terminal:
        terminal.contains("Ctrl-C ends the relay.")
        assert f"dst={reachable_host('0.0.0.0')},port=" in terminal.text
        assert "dst=0.0.0.0" not in terminal.text


def test_the_guide_of_a_relay_on_ipv6() -> None:
    """Where viewers come by IPv6 the player is told to listen there."""
    need_ipv6("::1")
    with PseudoTerminal(sys.executable, "relay.py", "[::1]", "0") as terminal:
        terminal.contains("Ctrl-C ends the relay.")
        port = re.findall(r"Relay listening on \[::1\]:(\d+)", terminal.text)[0]
        assert f"client.py ::1 {port} 5004" in terminal.text
        assert "udp://@[::]:5004      (rtp://@[::]:5004 is" in terminal.text


@pytest.mark.parametrize(
    ("host", "allow", "told"),
    [
        ("203.0.113.7", PRIVATE, True),
        ("2001:db8::7", PRIVATE, True),
        ("203.0.113.7", (ip_network("203.0.113.0/24"),), False),
        ("203.0.113.7", ANY, False),
        ("192.168.1.5", PRIVATE, False),
        ("192.168.1.5", (ip_network("203.0.113.0/24"),), False),
    ],
)
def test_the_guide_of_a_public_host_says_who_is_declined(
    host: str, allow: tuple[Network, ...], told: bool
) -> None:
    """Where the address for viewers is public and not allowed, the guide names the option."""
    text = guide((host, 9000), host, (host, 9000), allow)
    assert (f"{host} is a public address that --allow does not cover" in text) is told


@pytest.mark.parametrize(
    ("host", "allow_source", "told"),
    [
        ("192.168.1.5", ANY, True),
        ("192.168.1.5", (ip_network("192.168.1.7"),), False),
        ("127.0.0.1", ANY, False),
        ("::1", ANY, False),
    ],
)
def test_the_guide_says_that_anybody_may_send(
    host: str, allow_source: tuple[Network, ...], told: bool
) -> None:
    """Where other machines reach the ingest, and nobody is named, it names the option."""
    text = guide((host, 9000), host, (host, 9000), PRIVATE, allow_source=allow_source)
    assert ("--allow-source" in text) is told


def test_only_a_terminal_gets_the_guide(relay: RelayProcess) -> None:
    """Piped or under a service manager stdout stays empty."""
    assert relay.stop() == 0
    assert relay.stdout == []


@pytest.mark.parametrize(("form", "is_json"), [("json", True), ("console", False), ("auto", True)])
def test_log_formats(form: str, is_json: bool) -> None:
    """Not on a terminal, auto is JSON lines; console is text without colours."""
    with ChildProcess(
        sys.executable, "relay.py", "127.0.0.1", "0", "--log-format", form
    ) as program:
        wait_for(lambda: program.stderr, "the first line")
        assert program.stop() == 0
        for line in program.stderr:
            assert "\x1b" not in line
            assert line.startswith("{") == is_json
        if is_json:
            first = json.loads(program.stderr[0])
            assert (first["event"], first["level"], first["host"]) == (
                "listening", "info", "127.0.0.1",
            )  # fmt: skip
            assert first["timestamp"].endswith("Z")


def test_log_level_hides_what_is_below_it() -> None:
    """With --log-level warning an ordinary run logs nothing."""
    words = ("relay.py", "127.0.0.1", "0", "--log-level", "warning")
    with PseudoTerminal(sys.executable, *words) as terminal:
        terminal.contains("Ctrl-C ends the relay.")
        terminal.type("\x03")
        assert terminal.process.wait(PATIENCE) == 0
        for event in ("ingest_port", "shutting_down", "stopped"):
            assert event not in terminal.text
