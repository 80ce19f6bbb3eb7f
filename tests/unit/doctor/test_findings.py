"""What the doctor makes of what it has measured: every grade, and what it says to type."""

import json
import re
import socket
from typing import Any

import pytest

from relaylib.config import Config, parse
from relaylib.doctor import machine, network, ports, running, show, trial
from relaylib.doctor.finding import Figure, Finding, Grade, size, time
from relaylib.doctor.trial import TrialLoad
from relaylib.protocol.words import HEALTH, english
from tools.lab.process import ROOT

MIB = 1 << 20


def config(*words: str) -> Config:
    """Make a configuration."""
    return parse(words)


@pytest.mark.parametrize(
    ("finding", "grade", "said"),
    [
        (machine.segmentation(True, asked=True), "ok", "one send"),
        (machine.segmentation(False, asked=True), "hint", "Linux 4.18"),
        (machine.segmentation(False, asked=False), "hint", "--no-segmentation"),
        (machine.receive_buffer(8 * MIB, 8 * MIB), "ok", "8 MiB hold 1.5 s of a 50 Mb/s"),
        (machine.receive_buffer(8 * MIB, 212_992), "ok", "Without root it would be 208 KiB"),
        (
            machine.receive_buffer(212_992, 212_992),
            "hint",
            "39 ms of a 50 Mb/s stream, 390 ms at 5",
        ),
        (machine.receive_buffer(212_992, None), "hint", "sysctl -w net.core.rmem_max=8388608"),
        (machine.send_buffer(212_992), "ok", "208 KiB"),
        (machine.send_buffer(65_536), "hint", "sysctl -w net.core.wmem_max=262144"),
        (machine.send_buffer(None), "ok", "does not tell"),
        (machine.descriptors(config(), 4096), "ok", "enough for 1000 viewers"),
        (machine.descriptors(config(), 1024), "hint", "room for 480 viewers"),
        (machine.descriptors(config(), 1024), "hint", "ulimit -n 2064"),
        (machine.descriptors(config("--http", "1"), 2500), "hint", "and 1000 by HTTP"),
        (machine.descriptors(config("--max-clients", "9"), 100), "ok", "9 viewers"),
        (machine.descriptors(config(), None), "ok", "no limit"),
        (machine.memory(config("--timeshift", "60"), 400 * MIB), "ok", "256 MiB of it history"),
        (machine.memory(config("--timeshift", "60"), 200 * MIB), "wrong", "--timeshift-mib 131"),
        (machine.memory(config(), None), "ok", "does not tell what is free"),
        (machine.disk(config("--record-faults", "."), 300 * MIB, 9), "ok", "300 MiB free in ."),
        (machine.disk(config("--record-faults", "."), 100 * MIB, 9), "hint", "--record-mib 80"),
        (machine.disk(config("--record-faults", "."), MIB, 9), "wrong", "df -h ."),
        (machine.disk(config("--record-faults", "."), 300 * MIB, 0), "wrong", "df -h ."),
        (machine.recordings(".", ""), "ok", "nobody else"),
        (machine.recordings("/tmp", "others may write to /tmp"), "hint", "mkdir -m 700"),
        (machine.cores(4, 0.5, None), "ok", "4, load average 0.5; the relay uses one"),
        (machine.cores(2, 2.5, None), "hint", "top -o %CPU"),
        (machine.cores(4, 0.5, 0.5), "hint", "grants 0.5 of one"),
        (machine.clock("tsc", 45e-9, True, names_files=True), "ok", "tsc, 45 ns a look; synchro"),
        (machine.clock("hpet", 2e-6, True, names_files=False), "hint", "dmesg"),
        (machine.clock("tsc", 45e-9, False, names_files=False), "ok", "not synchronised"),
        (machine.clock("tsc", 45e-9, False, names_files=True), "hint", "timedatectl set-ntp"),
        (machine.clock("", 45e-9, None, names_files=True), "ok", "45 ns a look"),
        (trial.judge_many(TrialLoad(400, 0.35, 0.0), None), "ok", "about 800 viewers"),
        (trial.judge_many(TrialLoad(400, 0.35, 0.0), ("eth0", 1000)), "ok", "eth0, 1000 Mb/s, ca"),
        (trial.judge_many(TrialLoad(400, 0.35, 0.2), None), "hint", "20% was lost"),
        (trial.judge_many(TrialLoad(400, None, 0.0), None), "ok", "does not tell"),
        (trial.judge_one([0.0], {0: 0.002}, 0), "ok", "1 of 1 datagrams arrived, bytes identical"),
        (trial.judge_one([0.0], {0: 0.2}, 0), "hint", "200 ms (p99)"),
        (trial.judge_one([0.0] * 200, dict.fromkeys(range(199), 0.001), 0), "hint", "199 of 200"),
        (trial.judge_one([0.0] * 9, dict.fromkeys(range(5), 0.001), 0), "wrong", "5 of 9"),
        (trial.judge_one([0.0], {0: 0.002}, 1), "wrong", "1 of them altered"),
        (trial.judge_one([0.0], {}, 0), "wrong", "none arrived"),
    ],
    ids=lambda each: getattr(each, "name", each),
)
def test_what_is_measured_is_judged(finding: Finding, grade: str, said: str) -> None:
    """Each measure is fine, or has a grade and what to do about it."""
    text = " ".join([finding.found, finding.advice, *finding.commands])
    assert (finding.grade.value, said in text) == (grade, True), text
    assert bool(finding.advice or finding.commands) or finding.grade is not Grade.WRONG


@pytest.mark.parametrize(
    ("number", "about"), [(3, 0), (9.9, 5), (97, 95), (340, 300), (870, 850), (12_345, 10_000)]
)
def test_an_estimate_is_rounded_down(number: float, about: int) -> None:
    """It promises no more than was measured, and no digits that nobody can know."""
    assert trial._about(number) == about


@pytest.mark.parametrize(
    ("text", "written"),
    [
        (size(500), "500 bytes"),
        (size(212_992), "208 KiB"),
        (size(1.5 * (1 << 30)), "1.5 GiB"),
        (time(0.00045), "0.45 ms"),
        (time(0.7712), "770 ms"),
        (time(12.3), "12 s"),
    ],
)
def test_figures_are_written_as_people_do(text: str, written: str) -> None:
    """Two or three digits, and a unit that fits."""
    assert text == written


def test_every_finding_is_documented() -> None:
    """docs/DOCTOR.md has a row for each name that programs may find, and none besides."""
    code = "".join(path.read_text() for path in (ROOT / "relaylib/doctor").glob("*.py"))
    names = set(re.findall(r'(?:Finding\(|Finding,|_free\(|taken\()\s*"([a-z_]+)"', code))
    rows = re.findall(r"^\| `([a-z_]+)` \|", (ROOT / "docs/DOCTOR.md").read_text(), re.MULTILINE)
    assert sorted(rows) == sorted(names)


# --- a relay that runs

ANSWER = "OK estado=inactivo destino=- enviados=0 perdidos=0 fuente={} forma=ts salud={} retraso=-"
INGEST = ("192.0.2.1", 9000)


def told(word: str, **source: Any) -> dict[str, Any]:
    """Make what /status.json has."""
    return {
        "verdict": {
            "word": word,
            "evidence": {"key": "missing", "values": {"Continuity_count_error": 3, "window": 10}},
            "remedy": {"key": "look_before", "values": {}},
        },
        "source": {"address": "10.0.0.5:5004", "rejected": 0} | source,
        "watch": {"ingest_host": None, "ingest_port": 5000, "control_port": 9000},
        "viewers": {"total": 2, "list": [viewer("10.0.0.7:5004", 0), viewer("10.0.0.8:5004", 60)]},
    }


def viewer(destination: str, dropped: int) -> dict[str, Any]:
    """Make a viewer of /status.json."""
    return {"destination": destination, "dropped": dropped, "sent": 940, "unit": "datagrams"}


@pytest.mark.parametrize(
    ("presence", "word", "grade", "advice"),
    [
        ("activa", "sano", "ok", ""),
        ("activa", "-", "ok", ""),
        ("activa", "fuente", "wrong", "encoder"),
        ("activa", "rele", "wrong", "health_changed"),
        ("activa", "red", "hint", "lower bitrate"),
        ("silencio", "silencio", "hint", "start it again"),
        ("ausente", "silencio", "hint", "firewalls"),
        ("ausente", "-", "hint", "firewalls"),
    ],
)
def test_a_relay_without_http_tells_its_verdict(
    presence: str, word: str, grade: str, advice: str
) -> None:
    """What ESTADO answers is enough for a grade and an advice."""
    (finding,) = running.running(ANSWER.format(presence, word), None, INGEST, 0)
    assert finding.grade.value == grade
    assert advice in finding.advice
    assert finding.figures["verdict"] == english(HEALTH, word)
    assert any("udp://192.0.2.1:9000" in each for each in finding.commands) == (
        presence != "activa"
    )


def test_a_stream_that_comes_to_another_port_is_told() -> None:
    """Where nothing has come, but much where nobody listens, the source's port is wrong."""
    (finding,) = running.running(ANSWER.format("ausente", "silencio"), None, INGEST, 150)
    assert "150 datagrams have just come to another port" in finding.advice


def test_a_relay_with_http_tells_more() -> None:
    """The evidence and the remedy are the relay's own; a second source and losses are named."""
    answer = ANSWER.format("activa", "fuente")
    relay, others, viewers = running.running(answer, told("source", rejected=12), INGEST, 0)
    assert "3 Continuity_count_error" in relay.found
    assert relay.advice.startswith("look at the encoder")
    assert "12 datagrams of others than 10.0.0.5:5004" in others.found
    assert viewers.figures["losing"] == ["10.0.0.8:5004 (60 of 1000)"]


def test_rtp_without_mpeg_ts_is_told_with_what_to_send() -> None:
    """ESTADO alone is enough to name the payload type, and how to send instead."""
    answer = ANSWER.replace("forma=ts", "forma=rtp-sin-ts tipo=96").format("activa", "fuente")
    (finding,) = running.running(answer, None, INGEST, 0)
    assert "RTP without MPEG-TS (payload type 96)" in finding.found
    assert finding.advice == "send rtp_mpegts"
    assert finding.commands
    assert finding.grade is Grade.WRONG


def test_a_relay_that_declines_is_a_relay() -> None:
    """One that is full, or turns this machine away, says so."""
    assert running.is_relay("ERROR relay lleno (1 conexiones)")
    assert not running.is_relay("220 mail.example.org ESMTP")
    (finding,) = running.running("ERROR relay lleno (1 conexiones)", None, INGEST, 0)
    assert "relay lleno" in finding.found


# --- ports and addresses


def test_systemd_and_the_relay_may_have_the_port() -> None:
    """A port that systemd keeps for the relay, or the relay itself has, is no fault."""
    figures: dict[str, Figure] = {"address": "0.0.0.0:9000", "holder": "x", "pid": 1}
    taken = Finding("control_port", "control", "taken", Grade.WRONG, figures=figures)
    assert ports.excused(taken, None, relay=False).grade is Grade.OK
    other = Finding("ingest_port", "ingest", "taken", Grade.WRONG, figures=figures | {"pid": 7})
    assert ports.excused(other, ports.Holder(7, "relay"), relay=True).grade is Grade.OK
    assert ports.excused(other, ports.Holder(8, "relay"), relay=True) is other


def test_an_address_of_others_is_said_so() -> None:
    """A HOST that is not this machine's, or unknown, is one finding."""
    for host, said in (("192.0.2.77", "not an address"), ("nobody.invalid", "unknown host")):
        door = ports.open_door(config(host, "0"))
        door.close()
        assert door.findings[0].grade is Grade.WRONG
        assert said in door.findings[0].found


def test_a_public_address_needs_allow() -> None:
    """Viewers cannot come from where --allow does not let them; on the loopback, from nowhere."""
    public, private = (network.LocalAddress(host, "eth0") for host in ("203.0.113.9", "10.0.0.9"))
    for words, here, said in (
        ((), [public], "--allow private"),
        (("--allow", "any"), [public], "client.py 203.0.113.9 9000"),
        ((), [private], "client.py 10.0.0.9 9000"),
        ((), [network.LocalAddress("127.0.0.1", "lo")], "Only this machine"),
    ):
        finding = network.addresses(config(*words), ("0.0.0.0", 9000), here)
        assert said in " ".join([finding.advice, *finding.commands])


def test_an_ingest_that_anybody_reaches_is_a_hint() -> None:
    """Where other machines reach it, and --allow-source names nobody."""
    far, near = network.LocalAddress("10.0.0.9", "eth0"), network.LocalAddress("127.0.0.1", "lo")
    for words, place, grade in (
        ((), far, Grade.HINT),
        (("--allow-source", "any"), far, Grade.HINT),
        ((), near, Grade.OK),
        (("--allow-source", "10.0.0.5"), far, Grade.OK),
    ):
        finding = network.senders(config(*words), [place])
        assert finding.grade is grade
        assert any("--allow-source" in each for each in finding.commands) is (grade is Grade.HINT)


def test_nobody_answers_where_nobody_listens() -> None:
    """A refused connection is a fault, unless a relay runs that may listen elsewhere."""
    here = [network.LocalAddress("127.0.0.1", "lo")]
    with socket.socket() as bound:  # which does not listen
        bound.bind(("127.0.0.1", 0))
        control = bound.getsockname()
        finding = network.firewall(here, control, None, running=False)
        assert finding.grade is Grade.WRONG
        assert network.firewall(here, control, None, running=True).grade is Grade.HINT


# --- how it is shown

SAMPLES = [
    Finding("a", "receive buffer", "word " * 30, Grade.HINT, "Type this:", ("x" * 70, "short")),
    Finding("b", "clock", "tsc", Grade.WRONG),
]


def test_a_person_reads_lines_that_fit(capfd: pytest.CaptureFixture[str]) -> None:
    """No line is wider than the terminal, all text has one margin, and a command stays whole."""
    screen = show.FindingsView(colour=False, width=80)
    for finding in SAMPLES:
        screen.finding(finding)
    screen.conclusion(SAMPLES)
    lines = capfd.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].startswith("  hint   receive buffer  word")
    assert lines[1].startswith(" " * 25 + "word")
    assert [line.strip() for line in lines[4:6]] == ["x" * 70, "short"]
    assert lines[-1] == "Something is wrong: clock; 1 hint."


@pytest.mark.parametrize(
    ("environment", "coloured"),
    [
        ({"TERM": "xterm"}, True),
        ({"TERM": "xterm", "NO_COLOR": "1"}, False),
        ({"TERM": "dumb"}, False),
    ],
)
def test_colours_are_for_a_terminal(
    environment: dict[str, str],
    coloured: bool,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Grades have colours on a terminal that has some, unless NO_COLOR is set; a file has none."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    show.screen().finding(SAMPLES[1])
    assert "\033" not in capfd.readouterr().out
    monkeypatch.setattr("os.isatty", lambda fd: fd == 1)
    show.screen().finding(SAMPLES[1])
    assert ("\033[1;31mwrong" in capfd.readouterr().out) == coloured


def test_a_program_reads_one_object() -> None:
    """All that is known is in it, and the status that the program ends with."""
    found = json.loads(show.as_json(SAMPLES))
    assert found["status"] == 1
    assert [check["name"] for check in found["checks"]] == ["a", "b"]
    assert json.loads(show.as_json(SAMPLES[:1]))["status"] == 0


@pytest.mark.parametrize(
    "told",
    [
        {"watch": []},
        {"watch": {}},
        {"watch": {"control_port": 9}, "verdict": None},
        {"watch": {"control_port": 9}, "verdict": {}, "viewers": {"list": [3], "total": 1}},
    ],
)
def test_status_of_another_program(monkeypatch: pytest.MonkeyPatch, told: dict[str, Any]) -> None:
    """What another program tells at the port of the web is no status, whatever its shape."""
    monkeypatch.setattr(running, "_get", lambda _address: {"source": {}, "viewers": {}} | told)
    assert running.status(("127.0.0.1", 9), [8080]) is None


def test_findings_command_no_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    """What a relay tells is shown without control characters."""
    finding = Finding("relay", "relay", "\x1b]0;owned\x07", Grade.OK, "\x9b2J", ("\x1b[2J",))
    show.FindingsView(colour=False, width=80).finding(finding)
    assert not re.search(r"[^\n -~]", capfd.readouterr().out)
