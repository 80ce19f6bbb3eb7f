"""Real video for the tests: a clip, players that record it, and a check of the recordings.

The check asks for more than a decoder without complaints. Everything is sent without transcoding,
so each frame decoded from a recording must be bit for bit a frame of the clip: their hashes tell
which frames arrived, in which order, and where a hole is.

A recording of a live stream ends where it was stopped, in the middle of a frame. What is cut there
is no error, so the last access unit of every elementary stream is left out (`whole_units`); its
beginning is whole, because every viewer here is listening before the source starts.
"""

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from tools.lab.process import need

PACKET = 188
NULL_PID = 0x1FFF
NOBODY = 65534
"""Who VLC runs as when the tests run as root, which it refuses."""

RATE = 25
"""Frames a second of the clip."""

GOP = 10
"""Frames from one keyframe to the next."""


@contextlib.contextmanager
def studio() -> Iterator[Path]:
    """A directory that VLC may write to, whoever it runs as, removed at the end."""
    with tempfile.TemporaryDirectory(prefix="relay-media-") as name:
        if os.geteuid() == 0:
            os.chown(name, NOBODY, NOBODY)
        yield Path(name)


def make_clip(directory: Path, seconds: int) -> Path:
    """Make an MPEG-TS clip of H.264 and AAC with ffmpeg's test sources, no two frames alike."""
    need("ffmpeg")
    clip = directory / "clip.ts"
    video = f"testsrc2=size=320x240:rate={RATE}"
    words = ["-f", "lavfi", "-i", video, "-f", "lavfi", "-i", "sine=frequency=440"]
    words += ["-t", str(seconds), "-c:v", "libx264", "-preset", "ultrafast", "-g", str(GOP)]
    words += ["-bf", "0", "-b:v", "900k", "-c:a", "aac", "-f", "mpegts", str(clip)]
    subprocess.run(["ffmpeg", "-v", "error", *words], check=True, timeout=60)
    clip.chmod(0o644)
    return clip


# --- judging


class FrameCheck(NamedTuple):
    """What a recording holds. `frames`: each decoded frame's place in the clip, None if in none."""

    frames: list[int | None]
    decode_errors: list[str]
    continuity_errors: list[str]


def judge(recording: Path, clip: Path) -> FrameCheck:
    """Decode a recording and compare it with the clip."""
    data = recording.read_bytes()
    assert data, f"nothing was recorded in {recording.name}"
    packets = split_packets([data])
    units = recording.with_suffix(".units.ts")
    units.write_bytes(b"".join(whole_units(packets)))
    place = {frame: index for index, frame in enumerate(_decode(clip)[0])}
    frames, errors = _decode(units)
    return FrameCheck([place.get(frame) for frame in frames], errors, continuity_errors(packets))


def assert_faultless(verdict: FrameCheck, at_least: int) -> None:
    """Assert that a recording is so many first frames of the clip, or more, without a fault."""
    assert verdict.decode_errors == []
    assert verdict.continuity_errors == []
    assert verdict.frames == list(range(len(verdict.frames)))
    assert len(verdict.frames) >= at_least


def _decode(path: Path) -> tuple[list[str], list[str]]:
    """Decode the video; return the hash of each frame, and what the decoder complained about."""
    words = ["-i", str(path), "-map", "0:v", "-fps_mode", "passthrough", "-f", "framemd5", "-"]
    done = subprocess.run(
        ["ffmpeg", "-v", "error", *words], capture_output=True, text=True, timeout=60, check=False
    )
    rows = [line for line in done.stdout.splitlines() if not line.startswith("#")]
    return [row.rpartition(",")[2].strip() for row in rows], done.stderr.splitlines()


def split_packets(pieces: Iterable[bytes]) -> list[bytes]:
    """Cut datagrams' payloads, or a whole file, into transport stream packets."""
    packets = [
        piece[at : at + PACKET]
        for piece in pieces
        for at in range(0, len(piece) - PACKET + 1, PACKET)
    ]
    assert all(packet[0] == 0x47 for packet in packets), "not a transport stream"
    return packets


def pid_of(packet: bytes) -> int:
    """Return the packet's PID (ISO/IEC 13818-1, 2.4.3.2)."""
    return (packet[1] & 0x1F) << 8 | packet[2]


def whole_units(packets: list[bytes]) -> list[bytes]:
    """Leave out the last unit of each PID, which the end of the recording may have cut."""
    last_start = {pid_of(packet): at for at, packet in enumerate(packets) if packet[1] & 0x40}
    return [
        packet
        for at, packet in enumerate(packets)
        if at < last_start.get(pid_of(packet), len(packets))
    ]


def continuity_errors(packets: list[bytes]) -> list[str]:
    """List the places where a continuity counter is not the one that must follow (2.4.3.3)."""
    counters: dict[int, int] = {}
    errors = []
    for at, packet in enumerate(packets):
        pid, counter, has_payload = pid_of(packet), packet[3] & 0x0F, packet[3] & 0x10
        announced = packet[3] & 0x20 and packet[4] and packet[5] & 0x80
        expected = (counters.get(pid, counter - 1) + (1 if has_payload else 0)) & 0x0F
        if pid != NULL_PID and counter != expected and not announced:
            errors.append(f"packet {at}, PID {pid:#x}: counter {counter}, expected {expected}")
        counters[pid] = counter
    return errors
