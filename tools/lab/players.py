"""Players that record, and a tap on the wire beside them."""

import contextlib
import itertools
import os
import threading
from pathlib import Path
from typing import Self

from tools.lab.media import NOBODY
from tools.lab.process import ChildProcess, need, wait_for
from tools.lab.sockets import is_bound
from tools.lab.viewer import TestViewer

VLC_KEEPS = 30
"""Frames at the end that a VLC may keep to itself when it is stopped: its buffers hold a second."""


SOUT = {
    "rtp": "#rtp{{proto=udp,mux=ts,dst=127.0.0.1,port={port}}}",
    "udp": "#std{{access=udp,mux=ts,dst=127.0.0.1:{port}}}",
}


class Vlc(ChildProcess):
    """VLC without a window, as somebody else if we are root. `home` must be from `studio`."""

    def __init__(self, home: Path, *words: str) -> None:
        need("cvlc", "setpriv")
        drop = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        super().__init__(
            *(drop if os.geteuid() == 0 else []),
            *("cvlc", "--no-color", "-vv"),
            *words,
            env={**os.environ, "HOME": str(home)},
        )

    @classmethod
    def recording(cls, scheme: str, port: int, to: Path, group: str = "") -> Self:
        """A player that records `rtp://@:PORT` or `udp://@:PORT`, remuxed; listening already.

        Or a group, as it arrives at the loopback interface.
        """
        sout = f"#std{{access=file,mux=ts,dst={to}}}"
        words = [f"{scheme}://@{group}:{port}", "--sout", sout, *["--miface=lo"] * bool(group)]
        return cls(to.parent, *words)._listening(port)

    @classmethod
    def dumping(cls, port: int, to: Path) -> Self:
        """A player that records `udp://@:PORT` byte for byte; listening already."""
        dump = ("--demux=dump", f"--demuxdump-file={to}")
        return cls(to.parent, f"udp://@:{port}", *dump)._listening(port)

    @classmethod
    def streaming(cls, scheme: str, clip: Path, port: int) -> Self:
        """A source: `--sout-keep` lets it send what it holds when the clip ends."""
        return cls(clip.parent, str(clip), "--sout-keep", "--sout", SOUT[scheme].format(port=port))

    def _listening(self, port: int) -> Self:
        try:
            wait_for(lambda: is_bound(port), f"VLC to listen on {port}")
        except BaseException:
            self.__exit__()
            raise
        return self

    def complaints(self) -> list[str]:
        """What the player noticed about the network: lost packets, discontinuities."""
        signs = ("packet(s) lost", "late packet", "duplicate packet", "discontinuity")
        return [line for line in self.stderr if any(sign in line for sign in signs)]


class PlayerTap(contextlib.AbstractContextManager["PlayerTap"]):
    """Collects every datagram that reaches a plain viewer's player, in a thread, until closed."""

    def __init__(self, viewer: TestViewer) -> None:
        self.datagrams: list[bytes] = []
        self._socket = viewer.player
        self._socket.settimeout(0.05)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._collect)
        self._thread.start()

    def _collect(self) -> None:
        while True:
            try:
                self.datagrams.append(self._socket.recv(65536))
            except TimeoutError:
                if self._ended.is_set():
                    return

    def __exit__(self, *exc: object) -> None:
        self._ended.set()
        self._thread.join()

    def save(self, to: Path) -> Path:
        """Write the transport stream that the datagrams carried."""
        to.write_bytes(b"".join(payload(datagram) for datagram in self.datagrams))
        return to


def payload(datagram: bytes) -> bytes:
    """Return the transport stream in a datagram, with or without RTP around it (RFC 3550, 5.1)."""
    if datagram[0] == 0x47:
        return datagram
    assert datagram[0] >> 4 == 0x8, f"neither RTP nor a transport stream: {datagram[:12].hex()}"
    return datagram[12 + 4 * (datagram[0] & 0x0F) :]


def sequence_gaps(datagrams: list[bytes]) -> int:
    """Count the places where RTP's sequence number is not the next one; 0 without RTP."""
    numbers = [int.from_bytes(each[2:4], "big") for each in datagrams if each[0] != 0x47]
    return sum((after - before) & 0xFFFF != 1 for before, after in itertools.pairwise(numbers))


# --- players that record what they get by HTTP


def ffmpeg(url: str, to: Path, *options: str) -> ChildProcess:
    """Record with ffmpeg."""
    need("ffmpeg")
    words = ("-v", "warning", "-i", url, "-map", "0", "-c", "copy", *options)
    return ChildProcess("ffmpeg", *words, str(to))


def vlc(url: str, to: Path, *options: str) -> ChildProcess:
    """Record with VLC."""
    return Vlc(to.parent, url, *options, "--sout", f"#std{{access=file,mux=ts,dst={to}}}")


def mpv(url: str, to: Path, *options: str) -> ChildProcess:
    """Record with mpv, which plays it meanwhile."""
    need("mpv")
    silent = ("--no-config", "--vo=null", "--ao=null", "--really-quiet", *options)
    return ChildProcess("mpv", *silent, f"--stream-record={to}", url)
