"""What the reload tests share: a numbered stream, an audience that checks it, people who type."""

import contextlib
import os
import random
import selectors
import signal
import socket
import threading
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Self

from relaylib.net.linux import dropped
from relaylib.protocol.commands import HELP
from tools.lab.altered import Altered
from tools.lab.numbered import Stats, make
from tools.lab.process import PATIENCE, LabError, wait_for
from tools.lab.relay import RelayProcess
from tools.lab.sockets import source
from tools.lab.viewer import TestViewer

RATE = 475
"""Datagrams a second: 5 Mb/s in datagrams of 1316 bytes."""

Script = Iterator[tuple[bytes, str]]
"""Lines to type, each with the beginning of its reply."""


def hang_up(relay: RelayProcess) -> None:
    """Ask for a reload."""
    relay.process.send_signal(signal.SIGHUP)


def reload(relay: RelayProcess) -> None:
    """Reload the relay, and wait until it has."""
    done = len(relay.events("reloaded"))
    hang_up(relay)
    relay.wait_event("reloaded", done + 1)


def descriptors(relay: RelayProcess) -> int:
    """How many descriptors the relay has open."""
    return len(os.listdir(f"/proc/{relay.pid}/fd"))


def children(relay: RelayProcess) -> str:
    """The process IDs of the relay's children, zombies included."""
    return Path(f"/proc/{relay.pid}/task/{relay.pid}/children").read_text()


class Work:
    """Something that goes on in a thread of its own until the block ends."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self.run, daemon=True)

    def run(self) -> None:
        """Do it, until `stopped`."""
        raise NotImplementedError

    def stopped(self, wait: float = 0.0) -> bool:
        """Tell whether it is time to end; wait for that so many seconds."""
        return self._stop.wait(wait)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join(PATIENCE)


class NumberedStream(Work):
    """Sends numbered datagrams; `sent` is how many."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        super().__init__()
        self._to = (port, host)
        self.sent = 0

    def run(self) -> None:
        """Send at `RATE`; what was late is made up for, as encoders do."""
        with source(*self._to) as sock:
            started = time.monotonic()
            while not self.stopped(max(0.0, started + self.sent / RATE - time.monotonic())):
                sock.send(make(self.sent, 1316))
                self.sent += 1


class CountingViewers(Work):
    """Receives for many viewers and keeps account of what each of them got."""

    def __init__(self, viewers: list[TestViewer]) -> None:
        super().__init__()
        self.stats = {viewer: Stats() for viewer in viewers}
        self.longest_gap = 0.0
        self._selector = selectors.DefaultSelector()
        for viewer in viewers:
            viewer.player.setblocking(False)
            self._selector.register(viewer.player, selectors.EVENT_READ, self.stats[viewer])

    def run(self) -> None:
        """Receive; `longest_gap` is the longest time in seconds without anything for anybody."""
        last = 0.0
        while not self.stopped():
            ready = self._selector.select(0.1)
            now = time.monotonic()
            if ready:
                self.longest_gap, last = max(self.longest_gap, now - (last or now)), now
            for key, _ in ready:
                self._drain(key.fileobj, key.data)

    @staticmethod
    def _drain(player: object, stats: Stats) -> None:
        assert isinstance(player, socket.socket)
        with contextlib.suppress(BlockingIOError):
            while True:
                stats.add(player.recv(2048))

    def has(self, sent: int) -> bool:
        """Tell whether so many have come to everyone."""
        return all(
            stats.received + dropped(viewer.player) >= sent for viewer, stats in self.stats.items()
        )

    def expect(self, sent: int) -> None:
        """Assert that everyone gets every datagram from the first to the last, in order, once.

        On a machine with full processors this thread reads too slowly, and the kernel drops what
        has reached a viewer's own socket. The relay has delivered that.
        """
        with contextlib.suppress(LabError):  # what is missing is said below
            wait_for(lambda: self.has(sent), "the stream")
        for viewer, stats in self.stats.items():
            unread = dropped(viewer.player)
            assert stats.whole(sent, unread), (viewer.port, sent, unread, stats)


# --- people who type

_TELNET = (b"\xff\xfb\x01", b"\xff\xfa\x18\x00vt\n\xff\xf0", b"\xff\xf1")
"""Telnet negotiation, a subnegotiation with a line feed in it, and a NOP (RFC 854): not text."""


def nonsense() -> Script:
    """Type lines whose replies tell them apart."""
    for number in count():
        yield b"X%d\n" % number, f"ERROR comando desconocido: 'X{number}' "


def nonsense_by_telnet() -> Script:
    """Type the same in a telnet client that negotiates all the time, also in mid-word."""
    for number, (_, reply) in zip(count(), nonsense(), strict=False):
        telnet = _TELNET[number % len(_TELNET)]
        yield telnet + b"X" + telnet + b"%d\r" % number + telnet + b"\n", reply


def zapping(port: int) -> Script:
    """Pause and resume, and ask for the state each time."""
    yield b"CONECTAR %d\n" % port, "OK"
    while True:
        yield b"interrumpir\n", "OK"
        yield b"ESTADO\r\n", "OK estado=pausado "
        yield b"Continuar\n", "OK"
        yield b"estado\r\n", "OK estado=transmitiendo "


class Typist:
    """Types a script in pieces that end anywhere, and knows what the replies must be."""

    def __init__(self, viewer: TestViewer, script: Script) -> None:
        self.viewer = viewer
        self.viewer.control.setblocking(False)
        self._script = script
        self._untyped = b""
        self._due: list[str] = []
        self._got = b""
        self._random = random.Random(viewer.port)

    def type(self) -> None:
        """Type some bytes more, and read what is there to read."""
        while len(self._untyped) < 16:
            line, reply = next(self._script)
            self._untyped += line
            self._due.append(reply)
        self._type(self._random.randint(1, 16))
        with contextlib.suppress(BlockingIOError):
            self._got += self.viewer.control.recv(65536)

    def _type(self, size: int) -> None:
        self.viewer.send(self._untyped[:size])
        self._untyped = self._untyped[size:]

    def finish(self) -> int:
        """Type the rest, and assert that every line got its reply, in order; return how many."""
        self.viewer.control.settimeout(PATIENCE)
        self._type(len(self._untyped))
        while self._got.count(b"\n") < len(self._due):
            data = self.viewer.control.recv(65536)
            assert data, "the relay closed the connection"
            self._got += data
        replies = self._got.decode("ascii").split("\n")
        assert replies.pop() == ""
        for reply, due in zip(replies, self._due, strict=True):
            assert reply.startswith(due)
        return len(replies)


class Typing(Work):
    """Keeps many people typing at once."""

    def __init__(self, typists: list[Typist]) -> None:
        super().__init__()
        self._typists = typists

    def run(self) -> None:
        """Let each of them type some 400 bytes a second, in 50 pieces."""
        while not self.stopped(0.02):
            for typist in self._typists:
                typist.type()


AYUDA = HELP.decode("ascii").rstrip("\n")

_BURST = 300
"""AYUDAs at once: 31 KiB of replies, half of what the relay keeps for anybody."""

_WAITING = 16 << 10
"""Bytes that shall wait inside the relay."""


def stuff(relay: RelayProcess, viewer: TestViewer) -> int:
    """Ask for help until replies wait inside the relay; return how many replies are unread."""
    unread = calm = 0
    with TestViewer(relay.port) as other:
        while calm < 10:  # the kernel may still find room
            if unread * len(HELP) - _in_kernel(relay, viewer) >= _WAITING:
                calm += 1
                time.sleep(0.01)
                continue
            viewer.send(b"AYUDA\n" * _BURST)
            unread, calm = unread + _BURST, 0
            assert other.command("AYUDA") == AYUDA  # so the burst has been answered, too
    return unread


def _in_kernel(relay: RelayProcess, viewer: TestViewer) -> int:
    """How many bytes of replies are in this viewer's and the relay's socket (proc_net_tcp)."""
    ends, held = (relay.port, viewer.control.getsockname()[1]), 0
    for row in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, _, queues, *_ = row.split()
        ports = tuple(int(address.partition(":")[2], 16) for address in (local, remote))
        sending, receiving = (int(size, 16) for size in queues.split(":"))
        held += sending * (ports == ends) + receiving * (ports == ends[::-1])
    return held


HOLD = """
import os, time
from relaylib.lifecycle.stand_in import StandIn
relieve = StandIn.relieve
def hold(self, saved):
    open({held!r}, "w").close()
    while not os.path.exists({go!r}):
        time.sleep(0.01)
    relieve(self, saved)
StandIn.relieve = hold
"""


class Held:
    """A relay whose new program, when it has built everything, waits for `let_go`."""

    def __init__(self, directory: Path, alteration: str = "") -> None:
        self.program = Altered(directory, alteration)
        # A source that only waits for a loaded machine is not to be silent: it had no stand-in.
        self.relay = RelayProcess("--source-timeout", "60", prefix=self.program.prefix)
        self._held, self._go = directory / "held", directory / "go"

    def hang_up(self) -> int:
        """Ask for a reload; return the stand-in's process ID once the new program is held."""
        self.program.become(HOLD.format(held=str(self._held), go=str(self._go)))
        hang_up(self.relay)
        wait_for(self._held.exists, "the new program")
        return int(children(self.relay))

    def let_go(self) -> None:
        """Let the new program go on, and wait until it relays."""
        self._go.touch()
        self.relay.wait_event("reloaded")
