"""The report for people: what the stream is, how it comes, what is wrong with it, in that order."""

import os
from collections.abc import Iterator
from typing import NamedTuple

from relaylib.media.codecs import Kind
from relaylib.media.elementary import ElementaryStream
from relaylib.media.form import Form
from relaylib.media.health import Monitor, MonitorReport, ProgramReport, RtpReport, TsReport
from relaylib.media.meter import LONG, SHORT
from relaylib.media.mpegts import PACKET_SIZE
from tools.replay.program import amount, rate

WORDS = {
    "TS_sync_loss": "packets do not follow each other",
    "Sync_byte_error": "a packet does not begin with 0x47",
    "PAT_error_2": "the list of programs (PAT) missing for over 0.5 s, or not readable",
    "Continuity_count_error": "packets missing, too often, or out of order",
    "PMT_error_2": "a program's map (PMT) missing for over 0.5 s, or scrambled",
    "PID_error": "sound or picture that a program names did not come for 5 s",
    "Transport_error": "damaged before it was sent: the sender says so",
    "CRC_error": "a table is damaged",
    "PCR_repetition_error": "the clock (PCR) missing for over 0.1 s",
    "PCR_discontinuity_indicator_error": "the clock (PCR) jumped without saying so",
    "PTS_error": "sound or picture without a time (PTS) for over 0.7 s",
}
NOT_JUDGED = "not judged: the network's jitter hides it"
PRIORITIES = {"TS_sync_loss": "1", "Transport_error": "2"}
"""Where a priority of TR 101 290 begins."""

MARGIN, CELL = 15, 19
"""Width of a line's name, and of each fact in it."""

FORMS = {
    Form.RTP: "RTP",
    Form.TS: "MPEG-TS",
    Form.RTP_OTHER: "RTP without MPEG-TS",
    Form.OPAQUE: "neither RTP nor MPEG-TS",
    None: "",
}


class View(NamedTuple):
    """What to show beside the monitor's findings."""

    title: str
    source: str = ""
    live: bool = False
    timed: bool = True
    """Whether there are times of arrival: a transport stream file has only its clock."""
    silent: float = 0.0
    unread: int = 0
    others: int = 0


class Style:
    """Colours, where they can be seen."""

    def __init__(self, on: bool) -> None:
        self._on = on and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"

    def _paint(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._on else text

    def good(self, text: str) -> str:
        return self._paint("1;32", text)

    def bad(self, text: str) -> str:
        return self._paint("1;31", text)

    def head(self, text: str) -> str:
        return self._paint("1", text)

    def faint(self, text: str) -> str:
        return self._paint("2", text)


def table(monitor: Monitor, view: View, style: Style) -> list[str]:
    """Return the lines of the report."""
    report = monitor.report()
    return [
        *_heading(report, view, style),
        "",
        *_arrival(monitor, report, view, style),
        *(_programs(monitor, report.ts.programs, view, style) if report.ts else ()),
        *(_errors(monitor, report.ts.tr_101_290, style) if report.ts else ()),
    ]


def verdict(report: MonitorReport) -> tuple[str, list[str]]:
    """Say in a word and in reasons how the stream is."""
    if not report.datagrams:
        return "NOTHING", ["no datagram has arrived"]
    if report.form is Form.OPAQUE:
        return "UNKNOWN", ["neither RTP nor MPEG-TS: it cannot be judged"]
    if report.is_healthy:
        return "HEALTHY", []
    reasons = [f"{report.rtp.lost:,} datagrams lost"] if report.rtp and report.rtp.lost else []
    if report.rtp and report.form is Form.RTP_OTHER:
        kind = report.rtp.payload_type
        reasons.append(f"RTP without MPEG-TS (payload type {kind}): send rtp_mpegts")
    if report.ts:
        counts = report.ts.tr_101_290.items()
        reasons += [f"{name} {count:,}" for name, count in counts if count]
        reasons += [] if report.ts.programs else ["no program"]
    return "NOT HEALTHY", reasons


def _heading(report: MonitorReport, view: View, style: Style) -> Iterator[str]:
    source = f"  from {view.source}" if view.source else ""
    yield style.head(view.title) + style.faint(source)
    word, reasons = verdict(report)
    paint = style.good if word == "HEALTHY" else style.bad
    silence = [f"silent for {view.silent:.0f} s"] if view.silent >= 1 else []
    why = ", ".join(reasons + silence)
    yield paint(word) + (f"  {why}" if why else "")


def _row(name: str, *facts: str, style: Style, bad: int = -1) -> str:
    """Return a line of facts in columns; number `bad` is one that should be 0."""
    cells = [f"{fact:<{CELL}}" for fact in facts if fact]
    cells = [style.bad(cell) if index == bad else cell for index, cell in enumerate(cells)]
    return style.faint(f"{name:<{MARGIN}}") + "".join(cells).rstrip()


def _arrival(monitor: Monitor, report: MonitorReport, view: View, style: Style) -> Iterator[str]:
    inside = " with MPEG-TS" if report.rtp and report.ts else ""
    yield _row("form", FORMS[report.form] + inside, style=style)
    gap = f"longest gap {_milliseconds(monitor.longest_gap)}" if view.timed else ""
    facts = (
        f"{report.datagrams:,} datagrams",
        amount(report.bytes),
        f"{report.seconds:.1f} s",
        gap,
    )
    yield _row("arrived" if view.timed else "read", *facts, style=style)
    yield _row("rate", *_rates(monitor, report, view), style=style)
    if report.rtp:
        yield _rtp(report.rtp, style)
    if report.ts:
        yield from _transport(monitor, report.ts, view, style)
    if view.others:
        yield _row("others", f"{view.others:,} datagrams of another source, left out", style=style)
    if view.unread:
        yield _row("not read", f"{view.unread:,} datagrams: this machine is too slow", style=style)


def _rates(monitor: Monitor, report: MonitorReport, view: View) -> Iterator[str]:
    yield rate(report.bytes, report.seconds)
    if view.live:
        for span in (SHORT, LONG):
            yield f"{span} s  {_bits(monitor.meter.rate(span))}"


def _rtp(found: RtpReport, style: Style) -> str:
    facts = (
        f"lost {found.lost:,}",
        f"reordered {found.reordered:,}",
        f"duplicated {found.duplicated:,}",
        f"jitter {found.jitter_ms:.1f} ms",
        f"SSRC {found.ssrc:08x}",
    )
    return _row("RTP", *facts, style=style, bad=0 if found.lost else -1)


def _transport(monitor: Monitor, found: TsReport, view: View, style: Style) -> Iterator[str]:
    yield _row(
        "MPEG-TS", f"{found.packets:,} packets", f"{found.scrambled:,} scrambled", style=style
    )
    if clock := monitor.clock:
        spread = f"arrives within {_milliseconds(clock.jitter)}" if view.timed else ""
        own = f"{_bits(found.bitrate / 8)} by it"
        yield _row("clock (PCR)", own, spread, style=style)
    else:
        yield _row("clock (PCR)", "none", style=style)
    access = found.random_access
    every = f"every {access.interval_s:.2f} s" if access.interval_s else ""
    yield _row("random access", f"{access.count:,} points", every, style=style)


def _programs(
    monitor: Monitor, programs: list[ProgramReport], view: View, style: Style
) -> Iterator[str]:
    yield ""
    rates = f"{'1 s':>12}{'10 s':>12}" if view.live else ""
    yield style.faint(f"{'PID':>7}  {'type':<6}{'codec':<16}{'detail':<26}{rates}{'average':>12}")
    for program in programs:
        clock = "none" if program.pcr_pid is None else str(program.pcr_pid)
        yield style.head(f"program {program.number}") + style.faint(
            f"  map (PMT) {program.pmt_pid}, clock (PCR) {clock}"
        )
        for stream in program.streams:
            pid = monitor.transport.pids.get(stream.pid)
            kind = f"{stream.pid:>7}  0x{stream.type:02x}  {stream.codec:<16}"
            detail = _detail(pid.elementary) if pid and pid.elementary else ""
            scrambled = "scrambled " if pid and pid.scrambled else ""
            yield kind + f"{scrambled + detail:<26}" + _pid_rates(monitor, stream.pid, view.live)
    if not programs:
        yield "        none yet"


def _pid_rates(monitor: Monitor, number: int, live: bool) -> str:
    pid = monitor.transport.pids.get(number)
    if pid is None or not pid.packets:
        return f"{'-':>12}" * (3 if live else 1)
    average = rate(pid.packets * PACKET_SIZE, monitor.seconds)
    recent = [_bits(pid.meter.rate(span) * PACKET_SIZE) for span in (SHORT, LONG)]
    return "".join(f"{each:>12}" for each in (*(recent if live else ()), average))


def _detail(stream: ElementaryStream) -> str:
    if stream.named.kind is not Kind.VIDEO:
        return ""
    size = f"{stream.format.width}x{stream.format.height}" if stream.format else ""
    told = stream.format.rate if stream.format else 0.0
    pictures = told or stream.rate
    return ", ".join(filter(None, (size, f"{pictures:.4g} pictures/s" if pictures else "")))


def _errors(monitor: Monitor, counts: dict[str, int], style: Style) -> Iterator[str]:
    yield ""
    yield style.faint(f"{'TR 101 290':<38}{'errors':>8}{'last at':>10}")
    for name, count in counts.items():
        line = f"{PRIORITIES.get(name, ' ')}  {name:<35}{count:>8,}"
        if count:
            last = max(0.0, monitor.transport.errors.last[name] - monitor.begun)
            line = f"{style.bad(line)}{_position(last):>10}  {WORDS[name]}"
        yield line
    yield style.faint(f"   {'PCR_accuracy_error':<35}{'-':>8}{'':>10}  {NOT_JUDGED}")


def _position(seconds: float) -> str:
    return f"{int(seconds) // 60}:{seconds % 60:04.1f}"


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:.1f} s"


def _bits(bytes_per_second: float) -> str:
    return rate(round(bytes_per_second), 1.0)
