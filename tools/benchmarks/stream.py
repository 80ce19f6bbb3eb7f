"""The stream that everybody is measured with: sent by source.c, made up by it, or a film.

A film is for those who need one: HLS is cut at its keyframes, MP4 made of its pictures and sound.
It has a constant rate, so the source sends it evenly without knowing its time stamps, a keyframe a
second, and sound.
"""

import contextlib
import functools
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from tools.benchmarks.plan import FLOODED, FRAME, SIZE
from tools.lab.machine import compile_c
from tools.lab.media import PACKET
from tools.lab.process import PATIENCE, ROOT, ChildProcess, need, wait_for

FILM_SECONDS = 20
"""Longer than a measurement: a second showing begins with a jump of the clock."""

_NULL = b"\x47\x1f\xff\x10".ljust(PACKET, b"\0")


@contextlib.contextmanager
def streaming(
    sock: socket.socket, rate: int, seconds: float, *film: Path, frames: bool = False
) -> Iterator[Callable[[], int]]:
    """A stream of so many seconds, in bursts if it is a flood; of a film, if there is one.

    `frames`: as ffmpeg sends, a burst a frame, of which the last datagram is shorter.

    Yields what waits for its end, and returns how many datagrams were sent.
    """
    burst = FRAME if frames else (16 if rate >= FLOODED else 1, 7)
    words = map(str, (rate, *burst, seconds, *film))
    with ChildProcess(compile_c("source.c"), *words, stdin=sock.fileno()) as program:

        def sent() -> int:
            said = wait_for(lambda: program.stdout, "the source to end", seconds + PATIENCE)
            return int(said[-1])

        yield sent


@functools.cache
def make_film(rate: int, *, stamped: bool = False) -> Path:
    """Make a film of `rate` datagrams a second.

    `stamped`: the first packet of each is a null packet, where source.c leaves the time.

    Raises:
        NeedError: there is no ffmpeg.
    """
    need("ffmpeg")
    film = ROOT / "build" / f"film-{rate}{'-stamped' * stamped}.ts"
    film.parent.mkdir(exist_ok=True)
    fresh = film.with_name(f"{film.name}.{os.getpid()}")  # others may be making it, too
    size = SIZE - stamped * PACKET
    total = rate * size * 8
    words = ["ffmpeg", "-v", "error", "-y"]
    for made_up in ("testsrc2=size=640x360:rate=25,noise=alls=80:allf=t", "sine=frequency=440"):
        words += ["-f", "lavfi", "-i", made_up]
    video = str(round(0.85 * total - 128_000))
    words += ["-t", str(FILM_SECONDS), "-c:v", "libx264", "-preset", "ultrafast"]
    words += ["-tune", "zerolatency", "-g", "25", "-b:v", video, "-maxrate", video]
    words += ["-bufsize", str(total // 5), "-c:a", "aac", "-b:a", "96k"]
    words += ["-muxrate", str(total), "-f", "mpegts", str(fresh)]
    subprocess.run(words, check=True, timeout=60)
    if stamped:
        data = fresh.read_bytes()
        pieces = (data[at : at + size] for at in range(0, len(data) - size + 1, size))
        fresh.write_bytes(b"".join(_NULL + piece for piece in pieces))
    return fresh.replace(film)
