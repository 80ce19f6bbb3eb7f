"""A relay as a real process, its log read as events."""

import json
import sys
from pathlib import Path
from typing import Any

from tools.lab.process import ChildProcess, LabError, wait_for


class RelayProcess(ChildProcess):
    """A relay process, on a free port unless one is given, its JSON log read as events.

    `options` are command line words; `prefix` goes before the interpreter (`ip netns exec ...`).
    """

    def __init__(
        self,
        *options: str,
        host: str = "127.0.0.1",
        port: int = 0,
        prefix: tuple[str, ...] = (),
        **popen: Any,
    ) -> None:
        self.host = host
        words = (*prefix, sys.executable, "relay.py", host, str(port), "--log-format", "json")
        super().__init__(*words, *options, **popen)
        try:
            listening = self.wait_event("listening")
        except BaseException:
            self.__exit__()
            raise
        self.port: int = listening["port"]
        self.ingest_port: int = listening["ingest_port"]

    @property
    def log(self) -> list[dict[str, Any]]:
        """Every log event so far, oldest first."""
        return [json.loads(line) for line in self.stderr if line.startswith("{")]

    def events(self, name: str, **fields: object) -> list[dict[str, Any]]:
        """The events of one name that have at least these fields."""
        return [
            event
            for event in self.log
            if event["event"] == name and fields.items() <= event.items()
        ]

    def wait_event(self, name: str, count: int = 1, **fields: object) -> dict[str, Any]:
        """Wait until the event was logged `count` times; return the newest."""

        def found() -> list[dict[str, Any]]:
            if self.process.poll() is not None and not self.events(name, **fields):
                self.wait()
                raise LabError(f"the relay ended: {''.join(self.stderr)}")
            events = self.events(name, **fields)
            return events if len(events) >= count else []

        return wait_for(found, f"log event {name} {fields}")[-1]

    def rss(self) -> int:
        """Resident set size in KiB, without the history, whose size is an option."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        resident, shared = (
            int(status.split(f"{name}:")[1].split()[0]) for name in ("VmRSS", "RssShmem")
        )
        return resident - shared
