"""The faults of a transport stream under the names of ETSI TR 101 290, 5.2, and their counts."""

NAMES = (
    "TS_sync_loss",
    "Sync_byte_error",
    "PAT_error_2",
    "Continuity_count_error",
    "PMT_error_2",
    "PID_error",
    "Transport_error",
    "CRC_error",
    "PCR_repetition_error",
    "PCR_discontinuity_indicator_error",
    "PTS_error",
)
"""1.1 to 1.6, then 2.1 to 2.5. The next one, PCR_accuracy_error (500 ns), cannot be judged behind
an IP network, whose jitter is a thousand times that."""

SLACK = 0.02
"""Seconds that a network may add to an interval before it is too long."""

TABLE_LIMIT = 0.5 + SLACK
"""Seconds from one PAT to the next, and from one PMT to the next."""

PTS_LIMIT = 0.7 + SLACK
"""Seconds without a time stamp."""

PID_LIMIT = 5.0
"""Seconds without a packet (the report leaves this one to its user)."""


class Errors:
    """Counts by name."""

    def __init__(self) -> None:
        self.counts = dict.fromkeys(NAMES, 0)
        self.last = dict[str, float]()
        """When each was counted last."""

    def add(self, name: str, now: float) -> None:
        """Count one."""
        self.counts[name] += 1
        self.last[name] = now

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self.counts.values())


class Interval:
    """Counts an error when something that has to come again comes too late, or not at all."""

    __slots__ = ("_errors", "_limit", "_name", "since")

    def __init__(self, errors: Errors, name: str, limit: float, now: float) -> None:
        self._errors = errors
        self._name = name
        self._limit = limit
        self.since = now

    def renew(self, now: float) -> None:
        """It came."""
        self.check(now)
        self.since = now

    def check(self, now: float) -> None:
        """Time passes: called now and then, so that what never comes counts again and again."""
        if now - self.since > self._limit:
            self._errors.add(self._name, now)
            self.since = now
