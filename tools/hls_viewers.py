#!/usr/bin/env python3
"""Watch HLS as many viewers would, each over a connection of its own: playlist, segments, playlist.

They reload the playlist as RFC 8216 (6.3.4) has it, fetch each new segment once, whole, and throw
it away. At the end: what they asked for, by what the cache said (X-Cache), as JSON.
"""

import argparse
import json
import resource
import selectors
import socket
import sys
import time
from collections import Counter
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

BEHIND = 3
"""Segments from the end where a viewer begins."""

READ_SIZE = 1 << 18


class HlsTally:
    """What all viewers saw. `late` is the longest that any waited for a response, in seconds."""

    def __init__(self) -> None:
        self.playlists: Counter[str] = Counter()
        self.segments: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.byte_count = 0
        self.late = 0.0
        self.asked: Counter[str] = Counter()
        self.fetched: Counter[str] = Counter()


class HlsViewer:
    """One viewer; it asks for the next thing when `due`, if it is not `waiting` for one."""

    def __init__(self, address: tuple[str, int], due: float, tally: HlsTally) -> None:
        self.sock = socket.create_connection(address)
        self.due, self.waiting = due, False
        self._tally = tally
        self._asked, self._asked_at = "", 0.0
        self._queue: list[str] = []
        self._last: str | None = None
        self._data, self._left, self._cache = b"", -1, ""
        self._target = 1.0

    def ask(self, now: float) -> None:
        """Ask for the next segment, or else for the playlist."""
        self._asked = self._queue.pop(0) if self._queue else "live.m3u8"
        self._asked_at, self.waiting = now, True
        self._tally.asked[self._asked] += 1
        self.sock.sendall(f"GET /{self._asked} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())

    def read(self, now: float) -> None:
        """Take what has come of a response."""
        data = self.sock.recv(READ_SIZE)
        if not data:
            raise ConnectionError("closed")
        if self._left < 0:
            data = self._head(data)
        if self._left < 0:
            return
        self._left -= len(data)
        self._tally.byte_count += len(data)
        if self._asked.endswith(".m3u8"):
            self._data += data
        if self._left == 0:
            self._whole(now)

    def _head(self, data: bytes) -> bytes:
        """Read the head, if all of it is there; return what is behind it."""
        head, end, body = (self._data + data).partition(b"\r\n\r\n")
        if not end:
            self._data += data
            return b""
        self._data = b""
        status, *lines = head.decode("latin-1").lower().split("\r\n")
        fields = dict(line.split(": ", 1) for line in lines)
        self._left, self._cache = int(fields["content-length"]), fields.get("x-cache", "none")
        if " 200 " not in status:
            self._tally.failures[status] += 1
        return body

    def _whole(self, now: float) -> None:
        self._left, self.waiting = -1, False
        self._tally.late = max(self._tally.late, now - self._asked_at)
        if self._asked.endswith(".m3u8"):
            self._tally.playlists[self._cache] += 1
            text, self._data = self._data.decode(), b""
            self._plan(text.split("\n"), now)
        else:
            self._tally.segments[self._cache] += 1
            self._tally.fetched[self._asked] += 1
            self.due = now if self._queue else self.due

    def _plan(self, lines: list[str], now: float) -> None:
        """See what is new, and when to ask again."""
        listed = [line for line in lines if line and not line.startswith("#")]
        targets = [line for line in lines if line.startswith("#EXT-X-TARGETDURATION:")]
        self._target = float(targets[0].partition(":")[2]) if targets else self._target
        seen = (
            listed.index(self._last) + 1 if self._last in listed else max(0, len(listed) - BEHIND)
        )
        self._queue = listed[seen:]
        self._last = listed[-1] if listed else self._last
        self.due = now + self._target / (1 if self._queue else 2)
        if self._queue:
            self.ask(now)


def watch(address: tuple[str, int], viewers: int, seconds: float) -> HlsTally:
    """Let so many viewers watch for a while."""
    tally, selector = HlsTally(), selectors.DefaultSelector()
    start = time.monotonic()
    everyone = []
    for number in range(viewers):
        viewer = HlsViewer(address, start + 2.0 * number / viewers, tally)
        selector.register(viewer.sock, selectors.EVENT_READ, viewer)
        everyone.append(viewer)
    while (now := time.monotonic()) < start + seconds:
        for viewer in everyone:
            if viewer.due <= now and not viewer.waiting:
                viewer.ask(now)
        for key, _ in selector.select(0.01):
            try:
                key.data.read(time.monotonic())
            except OSError as error:
                tally.failures[str(error)] += 1
                selector.unregister(key.fileobj)
                everyone.remove(key.data)
    for viewer in everyone:
        viewer.sock.close()
    return tally


def main() -> None:
    """Run the program."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("--viewers", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=20.0)
    options = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, options.viewers + 64)), hard))
    try:
        tally = watch((options.host, options.port), options.viewers, options.seconds)
    except OSError as error:  # nobody is there, or the machine has no room for so many
        where = f"{options.host}:{options.port}"
        sys.exit(f"hls_viewers.py: cannot connect {options.viewers} viewers to {where}: {error}")
    print(
        json.dumps(
            {
                "playlists": tally.playlists,
                "segments": tally.segments,
                "different": len(tally.fetched),
                "failures": tally.failures,
                "byte_count": tally.byte_count,
                "megabits_a_second": round(tally.byte_count * 8e-6 / options.seconds, 1),
                "latest_response_s": round(tally.late, 3),
            }
        )
    )


if __name__ == "__main__":
    main()
