"""The parts of a reload: the check's verdict, and an exec that fails."""

import contextlib
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Sequence

import pytest

from relaylib.channel import ChannelState
from relaylib.lifecycle import signals
from relaylib.lifecycle.check import Check, reason
from relaylib.lifecycle.handover import RelayState
from relaylib.lifecycle.reload import replace_program
from relaylib.net.descriptors import Descriptor, descriptor
from relaylib.net.loop import Loop
from relaylib.source.gate import GateState
from relaylib.source.ingest import IngestState
from relaylib.source.receive_buffer import DropCount
from relaylib.source.sockets import SocketsState
from tools.lab.inprocess import running_loop, tcp_pair, turn_until

SILENCE = IngestState(SocketsState(Descriptor(4), None, False), GateState(), DropCount(), 0)
EMPTY = RelayState(Descriptor(3), ("::", 0, None), ChannelState(SILENCE), 0, {}, [])

# --- the check

SYNTAX = """\
Traceback (most recent call last):
  File "/opt/relay/relay.py", line 27, in <module>
    from relaylib.config import Config, parse
  File "/opt/relay/relaylib/config.py", line 9
    import argparse argparse
                    ^^^^^^^^
SyntaxError: invalid syntax
"""
CHAINED = """\
Traceback (most recent call last):
  File "/opt/relay/relay.py", line 1, in <module>
    {}['x']
    ~~^^^^^
KeyError: 'x'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/opt/relay/relay.py", line 3, in <module>
    import numby
ModuleNotFoundError: No module named 'numby'
a note on it
"""


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("", ""),
        ("on my way\nrelay.py: relay.conf, line 3: no\n", "relay.py: relay.conf, line 3: no"),
        (SYNTAX, "SyntaxError: invalid syntax (/opt/relay/relaylib/config.py, line 9)"),
        (SYNTAX[-150:], "SyntaxError: invalid syntax (/opt/relay/relaylib/config.py, line 9)"),
        (
            CHAINED,
            "ModuleNotFoundError: No module named 'numby' a note on it"
            " (/opt/relay/relay.py, line 3)",
        ),
    ],
)
def test_the_reason_is_what_helps(output: str, expected: str) -> None:
    """It is the last line, or of a traceback the error with the file and line it comes from."""
    assert reason(output.splitlines()) == expected


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_bug_in_the_check_does_not_end_reloading(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever goes wrong while the new program is tried, the one who asked is told."""
    reasons: list[str] = []
    bugs: list[Exception] = []

    def bug(_check: Check) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(Check, "_reap", bug)
    monkeypatch.setattr(sys, "orig_argv", [sys.executable, "-c", ""])
    monkeypatch.setattr(sys, "argv", ["-c"])
    loop = Loop(bugs.append)
    with contextlib.closing(loop):
        Check(loop, lambda: EMPTY, lambda reason, _words: reasons.append(reason))
        turn_until(loop, lambda: reasons, "the reason")
    assert reasons == ["a bug"]
    assert len(bugs) == 1


# --- the exec


def test_an_exec_that_fails_is_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Signals come through again, also those that came meanwhile, and no descriptor leaks out."""
    called: list[int] = []
    handler = signal.getsignal(signal.SIGHUP)
    with running_loop() as loop, tcp_pair() as sockets:
        loop.on_signal(signal.SIGHUP, lambda: called.append(signal.SIGHUP))
        os.kill(os.getpid(), signal.SIGHUP)  # noticed, not called back yet
        try:
            monkeypatch.setattr(sys, "executable", "/nonexistent/python")
            with pytest.raises(FileNotFoundError):
                become_another(loop, sockets)
            turn_until(loop, lambda: called, "the signal to be called back")
        finally:
            signal.signal(signal.SIGHUP, handler)
        assert not any(os.get_inheritable(sock.fileno()) for sock in sockets)
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()
    assert "RELAY_HANDOVER_FD" not in os.environ


def test_a_descriptor_that_is_gone_is_no_trap(monkeypatch: pytest.MonkeyPatch) -> None:
    """If a socket cannot be handed over nothing is replaced, and signals come through again."""
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    with running_loop() as loop, tcp_pair() as sockets:
        loop.on_signal(signal.SIGUSR1, lambda: None)
        sockets[1].close()
        with pytest.raises(OSError, match="Bad file descriptor"):
            become_another(loop, sockets)
        loop.default_signal(signal.SIGUSR1)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()


def become_another(loop: Loop, sockets: Sequence[socket.socket]) -> None:
    """Replace this program, keeping these sockets; must fail."""
    with tempfile.TemporaryFile() as state, signals.blocked():
        replace_program(loop, state, [descriptor(sock) for sock in sockets])
