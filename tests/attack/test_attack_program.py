"""The instruments of `make soak` and tools/attacks.py: they must notice what they are there for."""

import signal
import sys
import time

import pytest

from tools.attackers.audience import Ledger
from tools.attackers.life import NOISE, Memory
from tools.attackers.relay import Relay
from tools.attackers.siege import percentile
from tools.lab.process import Program, wait_for


def ledger(*numbers: int, epoch: int = 0) -> Ledger:
    """A ledger in which these datagrams have been noted."""
    made = Ledger()
    for number in numbers:
        made.note(epoch, number)
    return made


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
    made = ledger(*numbers)
    made.end(0, sent)
    assert made.faults == faults


def test_a_source_that_follows_may_begin_anywhere() -> None:
    """What a standby sent before it took over is not missing; what it sends then is."""
    made = ledger(0, 1)
    made.end(0, 2)
    for number in (500, 501, 503):
        made.note(1, number)
    assert made.faults == 1
    made.note(0, 1)
    assert made.faults == 2, "a datagram of the source before is spliced in"
    made.end(1, 505)
    assert made.faults == 3


def test_a_pause_is_no_loss() -> None:
    """After a pause the stream may begin anywhere, in the same epoch too."""
    made = ledger(0, 1)
    made.restart()
    made.note(0, 7)
    made.note(0, 8)
    assert made.faults == 0


def test_percentiles() -> None:
    """The 99th percentile of a hundred values is the largest; of none there is none."""
    assert percentile([float(value) for value in range(100)], 0.99) == 99.0
    assert percentile([float(value) for value in range(1000)], 0.99) == 990.0
    assert percentile([], 0.99) != percentile([], 0.99)


class Swelling:
    """A relay that takes more memory whenever it is looked at."""

    def __init__(self, step: int) -> None:
        self.step = step
        self.size = 20_000

    def memory(self) -> int:
        """KiB."""
        self.size += self.step
        return self.size


@pytest.mark.parametrize(("step", "leaking"), [(0, False), (1, False), (100, True)])
def test_a_leak_is_what_rises_above_noise(
    monkeypatch: pytest.MonkeyPatch, step: int, leaking: bool
) -> None:
    """Memory that rises steadily is a leak when the rise is more than CPython's own steps."""
    clock = iter(range(1000))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))
    memory = Memory(Swelling(step))  # type: ignore[arg-type]
    for _ in range(60):
        memory.sample()
    assert memory.window == 59
    assert memory.slope == pytest.approx(60 * step)
    assert memory.leaking is leaking
    assert leaking == (59 * step > NOISE)


def test_the_log_is_read_piece_by_piece() -> None:
    """Events are found whenever they are asked for, whether the relay is new or restarted."""
    with Relay() as relay:
        wait_for(lambda: len(relay.events("listening")) == 1, "the relay's first event")
        relay.reload()
        assert len(relay.events("listening")) == 2
        assert relay.stop() == 0
        assert [event["event"] for event in relay.log()][-1] == "stopped"


# --- the programs


def test_soak_ends_by_itself() -> None:
    """A few seconds of everything: nothing is lost, and the summary says so."""
    with Program(sys.executable, "tools/soak.py", "6") as soak:
        assert soak.wait(60) == 0, "".join(soak.stderr)
        summary = "".join(soak.stdout)
        assert " 0 of " in summary
        assert "exceptions 0" in summary
        assert "+0 at the end" in summary


def test_soak_can_be_interrupted() -> None:
    """Ctrl-C ends it in order, with the summary of what has been."""
    with Program(sys.executable, "tools/soak.py", "600") as soak:
        while not any("received" in line for line in soak.stderr):
            time.sleep(0.05)
            assert soak.process.poll() is None
        assert soak.stop(signal.SIGINT) == 130, "".join(soak.stderr)
        assert "steady viewers" in soak.stdout[0]


def test_attacks_prints_a_table() -> None:
    """A row for each attack: what was tried, what was lost, how late, how much memory."""
    words = ("--only", "storm,clock", "--seconds", "0.5", "--quiet", "0.3", "--viewers", "3")
    with Program(sys.executable, "tools/attacks.py", *words) as attacks:
        assert attacks.wait(60) == 0, "".join(attacks.stderr)
        _, _, storm, clock = attacks.stdout
        assert "500 connections" in storm
        assert "0/" in clock
        assert "MiB" in clock


@pytest.mark.parametrize(
    "words",
    [
        ("tools/soak.py", "soon"),
        ("tools/soak.py", "-1"),
        ("tools/attacks.py", "--only", "magic"),
        ("tools/attacks.py", "--viewers", "0"),
    ],
)
def test_a_wrong_word_is_one_line(words: tuple[str, ...]) -> None:
    """A wrong argument is one line on stderr and status 2."""
    with Program(sys.executable, *words) as program:
        assert program.wait() == 2
        assert len(program.stderr) == 1


def test_a_relay_that_does_not_start_is_one_line() -> None:
    """Options that the relay refuses are its line and ours, and status 1."""
    words = ("tools/attacks.py", "--only", "storm", "--", "--coalesce", "never")
    with Program(sys.executable, *words) as attacks:
        assert attacks.wait() == 1
        assert "storm: the relay ended with status 2" in attacks.stderr[-1]
