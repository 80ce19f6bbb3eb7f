"""The instruments of `make soak` and `make attacks`: they must notice what they are there for."""

import signal
import sys

import pytest

from tools.attackers.viewers import Ledger
from tools.lab.process import ChildProcess, wait_for
from tools.soak import NOISE, rise


@pytest.mark.parametrize(
    ("numbers", "sent", "faults"),
    [
        ((0, 1, 2), 3, 0),
        ((), 2, 2),
        ((1, 2), 3, 1),  # the first
        ((0, 2), 3, 1),  # one between
        ((0, 1), 3, 1),  # the last
        ((0, 1, 1, 2), 3, 1),  # twice
        ((0, 2, 1), 3, 2),  # late: first missing, then out of order
    ],
)
def test_the_ledger_notices_every_fault(numbers: tuple[int, ...], sent: int, faults: int) -> None:
    """A datagram that is missing anywhere, comes twice or comes late is a fault."""
    ledger = Ledger()
    for number in numbers:
        ledger.note(0, number)
    ledger.end(0, sent)
    assert ledger.faults == faults


def test_a_source_that_follows_may_begin_anywhere() -> None:
    """What a standby sent before it took over is not missing; what it sends then is.

    Nor is anything missing after a pause, in the same epoch too.
    """
    ledger = Ledger()
    for epoch, number in ((0, 0), (0, 1), (1, 500), (1, 501), (1, 503)):
        ledger.note(epoch, number)
    assert ledger.faults == 1
    ledger.note(0, 2)
    assert ledger.faults == 2, "a datagram of the source before is spliced in"
    ledger.begin_anew()
    ledger.note(1, 600)
    assert ledger.faults == 2
    ledger.end(1, 602)
    assert ledger.faults == 3


@pytest.mark.parametrize(("step", "leaking"), [(0, False), (1, False), (100, True)])
def test_a_leak_is_what_rises_above_noise(step: int, leaking: bool) -> None:
    """Memory that rises steadily is a leak when the rise is more than CPython's own steps."""
    samples = [(float(second), 20_000.0 + step * second) for second in range(60)]
    assert rise(samples) == pytest.approx(59 * step)
    assert (rise(samples) > NOISE) is leaking
    assert rise(samples[:2]) == 0


def test_soak_ends_by_itself() -> None:
    """A few seconds of everything: nothing is lost, and the summary says so."""
    with ChildProcess(sys.executable, "tools/soak.py", "6") as soak:
        assert soak.wait(60) == 0, "".join(soak.stderr)
        summary = "".join(soak.stdout)
        assert " 0 of " in summary
        assert "exceptions 0" in summary
        assert "+0 at the end" in summary


def test_soak_can_be_interrupted() -> None:
    """Ctrl-C ends it in order, with the summary of what has been."""
    with ChildProcess(sys.executable, "tools/soak.py", "600") as soak:
        wait_for(lambda: "received" in "".join(soak.stderr), "the first report")
        assert soak.stop(signal.SIGINT) == 130, "".join(soak.stderr)
        assert "steady viewers" in soak.stdout[0]


def test_attacks_prints_a_table() -> None:
    """A row for each attack: what was tried, what was lost, how late, how much memory."""
    words = ("--only", "storm,clock", "--seconds", "0.5", "--quiet", "0.3", "--viewers", "3")
    with ChildProcess(sys.executable, "tools/attacks.py", *words) as attacks:
        assert attacks.wait(60) == 0, "".join(attacks.stderr)
        _, _, storm, clock = attacks.stdout
        assert "500 connections" in storm
        assert "0/" in clock
        assert "MiB" in clock


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (("tools/soak.py", "soon"), 2),
        (("tools/attacks.py", "--only", "magic"), 2),
        (("tools/attacks.py", "--only", "storm", "--", "--coalesce", "never"), 1),
    ],
)
def test_what_cannot_be_is_a_line(words: tuple[str, ...], status: int) -> None:
    """A wrong word is a line and status 2; a relay that does not start is one and status 1."""
    with ChildProcess(sys.executable, *words) as program:
        assert program.wait() == status
        assert len(program.stderr) == 1
        assert words[-1] in program.stderr[0]
