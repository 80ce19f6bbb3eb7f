"""The programs of a transport stream, as its tables name them again and again; their faults."""

from dataclasses import dataclass
from itertools import islice

from relaylib.media import psi
from relaylib.media.tr101290 import TABLE_LIMIT, Errors, Interval

MAX_PROGRAMS = 256
"""More are left out: a multiplex has some dozens."""

MAX_STREAMS = 512
"""Streams of all programs together; more are left out. They are gone through at every change of the
programs, and wherever decoding can start."""


@dataclass(slots=True)
class Program:
    """A program; `pcr_pid` is None and there are no streams until its map has been read."""

    number: int
    pmt_pid: int
    pcr_pid: int | None = None
    streams: tuple[psi.MapEntry, ...] = ()


class Tables:
    """Reads the sections of the PAT, and of the PMTs that it names."""

    def __init__(self, errors: Errors) -> None:
        self._programs = dict[int, Program]()
        self._changed_at: float | None = None
        """When the PAT changed, if that has not been followed yet."""
        self._errors = errors
        self._pat: Interval | None = None
        self._pmts = dict[int, Interval]()  # by PID
        self._parts = dict[int, dict[int, int]]()  # the PAT by its sections
        self._version = -1
        self._room = MAX_PROGRAMS  # for programs
        self._known = dict[tuple[int, int], bytes]()  # (PID, part or program) -> its last section

    @property
    def programs(self) -> dict[int, Program]:
        """By number."""
        self._settle()
        return self._programs

    @property
    def pids(self) -> set[int]:
        """PIDs that carry tables."""
        self._settle()
        return {psi.PAT_PID, *psi.SI_PIDS, *self._pmts}

    def check(self, now: float) -> None:
        """Time passes. The first call begins it."""
        self._settle()
        if self._pat is None:
            self._pat = Interval(self._errors, "PAT_error_2", TABLE_LIMIT, now)
        for each in (self._pat, *self._pmts.values()):
            each.check(now)

    def begin_anew(self, now: float) -> None:
        """Forget the tables that have come, and their times.

        The programs stay until the next PAT, which need not be a part of the one before.
        """
        if self._pat is not None:
            self._pat.since = now
        self._version = -1
        self._known = {key: last for key, last in self._known.items() if key[0] != psi.PAT_PID}

    def resume(self, now: float) -> None:
        """Nothing came for longer than tables may be apart: that is one error, the first one's."""
        self._settle()
        for each in self._pmts.values():
            each.since = now

    def scrambled(self, pid: int, now: float) -> None:
        """A packet of this PID is scrambled, which a table may not be."""
        self._settle()
        if pid == psi.PAT_PID:
            self._errors.add("PAT_error_2", now)
        elif pid in self._pmts:
            self._errors.add("PMT_error_2", now)

    def take(self, pid: int, section: bytes, now: float) -> bool:
        """Take a section; tell whether the programs, or their streams, may be others with it."""
        if psi.has_crc(section) and not psi.crc_holds(section):
            self._errors.add("CRC_error", now)
            return False
        if pid == psi.PAT_PID:
            return self._associate(section, now)
        self._settle()
        if pid in self._pmts and section[0] == psi.PMT_TABLE:
            return self._map(pid, section, now)
        return False

    def _associate(self, section: bytes, now: float) -> bool:
        if section[0] != psi.PAT_TABLE:
            self._errors.add("PAT_error_2", now)
            return False
        if self._pat:
            self._pat.renew(now)
        found = psi.pat(section)
        if found is None or not self._is_new(psi.PAT_PID, found.section, section):
            return False
        if found.version != self._version:
            self._version, self._room = found.version, MAX_PROGRAMS
            self._parts.clear()
        self._room += len(self._parts.pop(found.section, ()))
        self._parts[found.section] = part = dict(islice(found.programs.items(), self._room))
        self._room -= len(part)
        self._changed_at = now
        return True

    def _settle(self) -> None:
        """Follow the PAT, which changed: once for all of its sections that came meanwhile.

        To go through all programs for each would take milliseconds a packet, where it is full of
        sections.
        """
        if self._changed_at is None:
            return
        now, self._changed_at = self._changed_at, None
        named = {number: pid for part in self._parts.values() for number, pid in part.items()}
        self._follow(dict(sorted(named.items())), now)

    def _follow(self, named: dict[int, int], now: float) -> None:
        """Keep the programs that go on as they were, and forget the others."""
        for number, program in list(self._programs.items()):
            if named.get(number) != program.pmt_pid:
                del self._programs[number]
                self._known.pop((program.pmt_pid, number), None)
        self._programs = {
            number: self._programs.get(number) or Program(number, pid)
            for number, pid in named.items()
        }
        self._pmts = {
            pid: self._pmts.get(pid) or Interval(self._errors, "PMT_error_2", TABLE_LIMIT, now)
            for pid in named.values()
        }

    def _map(self, pid: int, section: bytes, now: float) -> bool:
        self._pmts[pid].renew(now)
        found = psi.pmt(section)
        program = found and self._programs.get(found.number)
        if not (found and program and program.pmt_pid == pid):
            return False
        if not self._is_new(pid, found.number, section):
            return False
        others = sum(len(each.streams) for each in self._programs.values() if each is not program)
        program.pcr_pid, program.streams = found.pcr_pid, found.streams[: MAX_STREAMS - others]
        return True

    def _is_new(self, pid: int, part: int, section: bytes) -> bool:
        """Tell a new section from the one before, come again as it has to."""
        if self._known.get((pid, part)) == section:
            return False
        self._known[pid, part] = section
        return True
