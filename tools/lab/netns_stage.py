"""The relay, a source and viewers, each on a host of a made network."""

import contextlib
from collections.abc import Iterator
from typing import Any

from tools.lab.netns import Host, Network, ask
from tools.lab.process import Program, wait_for
from tools.lab.relay import Relay

PROGRAM = "tools.lab.netns_viewer"


class Watcher:
    """A viewer on a host, and the program that plays it there."""

    def __init__(self, host: Host, program: Program) -> None:
        self.host = host
        self.program = program

    def command(self, text: str) -> str:
        """Give the relay a command and return its reply."""
        return str(ask(self.program, text)["reply"])

    def open(self) -> float:
        """Open the player's port; return when, in seconds on the monotonic clock."""
        return float(ask(self.program, "open")["opened_at"])

    def stats(self) -> dict[str, Any]:
        """What it has received so far: the fields of `numbered.Stats`."""
        return ask(self.program, "stats")

    def subscribe(self) -> None:
        """Ask for the stream."""
        assert self.command("CONECTAR {port}") == "OK"

    def count(self, key: str) -> int:
        """Ask for one of the counters in ESTADO."""
        return int(self.command("ESTADO").split(f"{key}=")[1].split()[0])

    def wait_first(self) -> dict[str, Any]:
        """Wait until the stream is here."""
        return wait_for(lambda: (found := self.stats())["received"] and found, "the stream")

    def wait_last(self, sent: int) -> dict[str, Any]:
        """Wait until the last of so many datagrams is here."""
        name = self.host.name
        wait_for(lambda: self.stats()["last"] == sent - 1, f"the last datagram at {name}")
        return self.stats()


class Stage(Network):
    """A network with a relay and a source on it."""

    def __init__(self, stack: contextlib.ExitStack, *options: str) -> None:
        super().__init__(stack)
        self.watchers: list[Watcher] = []
        self.relay_host = self.host("relay")
        self.source_host = self.host("source")
        self.relay = stack.enter_context(Relay(*options, host="::", prefix=self.relay_host.prefix))

    def watcher(self, host: Host, relay: str = "") -> Watcher:
        """Connect a viewer to the relay, at its address on the LAN unless another is given."""
        relay = relay or self.relay_host.address
        program = self.start(host, PROGRAM, relay, str(self.relay.port))
        watcher = Watcher(host, program)
        assert watcher.command("ESTADO").startswith("OK")  # it is connected
        self.watchers.append(watcher)
        return watcher

    def watch(self, host: Host, relay: str = "") -> Watcher:
        """Connect a viewer that wants the stream and has its player open."""
        watcher = self.watcher(host, relay)
        watcher.open()
        watcher.subscribe()
        return watcher

    def stream(self) -> Program:
        """Start the source."""
        words = (self.relay_host.address, str(self.relay.ingest_port))
        return self.start(self.source_host, "tools.lab.netns_source", *words)


@contextlib.contextmanager
def set_up(*options: str) -> Iterator[Stage]:
    """Set the stage, for a relay with these options; clear it away even if that failed."""
    with contextlib.ExitStack() as stack:
        yield Stage(stack, *options)


def finish(source: Program) -> int:
    """End the source; return how many datagrams it has sent."""
    return int(ask(source, "end")["sent"])


def assert_got_everything(watchers: list[Watcher], sent: int) -> None:
    """Assert that viewers who were there from the first datagram got each one, once, in order."""
    for watcher in watchers:
        name, stats = watcher.host.name, watcher.wait_last(sent)
        assert stats["received"] == sent, (name, stats)
        assert stats["missing"] == stats["disordered"] == stats["damaged"] == 0, (name, stats)
