"""What probe says of real encoders' streams is what ffprobe and tstools say of them."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tools.interop.sources import SOURCES, sending
from tools.lab.media import make_clip, studio
from tools.lab.players import payload
from tools.lab.process import ROOT, ChildProcess, need, wait_for
from tools.lab.sockets import is_bound, unused_port
from tools.replay.flows import choose, replay_capture, survey_capture

SECONDS = 7
"""Of video."""

DATAGRAMS = 600
"""That are recorded of it: every encoder sends more."""

ENCODERS = [name for name in SOURCES if name.startswith(("VLC", "ffmpeg", "GStreamer", "OBS"))]

NAMES = {
    "h264": "H.264",
    "hevc": "HEVC",
    "mpeg2video": "MPEG-2 video",
    "aac": "AAC",
    "mp2": "MP2",
    "mp3": "MP3",
    "ac3": "AC-3",
    "eac3": "E-AC-3",
    "opus": "Opus",
}
"""ffprobe's names of codecs, and ours."""


class Said(NamedTuple):
    """What a judge says of a stream."""

    programs: list[dict[str, Any]]
    keyframes: int
    bitrate: float


def output(*words: str | Path) -> str:
    """Run a program and return its standard output."""
    return subprocess.run(
        [str(word) for word in words],
        stdout=subprocess.PIPE, text=True, check=True, timeout=60, cwd=ROOT,
    ).stdout  # fmt: skip


def probed(*words: str | Path) -> dict[str, Any]:
    """Return what probe says; its stream must be healthy."""
    found: dict[str, Any] = json.loads(output(sys.executable, "tools/probe.py", "--json", *words))
    return found


def said(found: dict[str, Any]) -> Said:
    """Put probe's report in the terms of ffprobe's."""
    programs = [
        {
            **{key: program[key] for key in ("number", "pmt_pid", "pcr_pid")},
            "streams": {each["pid"]: each["codec"] for each in program["streams"]},
        }
        for program in found["ts"]["programs"]
    ]
    return Said(programs, found["ts"]["random_access"]["count"], found["ts"]["bitrate"])


def ffprobed(film: Path) -> Said:
    """Ask ffprobe."""
    shown = ("-show_programs", "-show_entries", "packet=flags:format=bit_rate", "-of", "json")
    words = ("ffprobe", "-v", "error", "-select_streams", "v:0", *shown, film)
    found = json.loads(output(*words))
    programs = [
        {
            "number": program["program_num"],
            "pmt_pid": program["pmt_pid"],
            "pcr_pid": program["pcr_pid"],
            "streams": {
                int(each["id"], 16): NAMES[each["codec_name"]] for each in program["streams"]
            },
        }
        for program in json.loads(output("ffprobe", "-v", "error", *shown, film))["programs"]
    ]
    keyframes = sum("K" in packet["flags"] for packet in found["packets"])
    return Said(programs, keyframes, float(found["format"]["bit_rate"]))


def assert_agree(ours: Said, theirs: Said) -> None:
    """Programs, codecs and entry points are the same, the bit rate within 2 %."""
    assert ours.programs == theirs.programs
    assert ours.keyframes == theirs.keyframes
    assert ours.bitrate == pytest.approx(theirs.bitrate, rel=0.02)


def transport(capture: Path, to: Path) -> Path:
    """Write the transport stream of a capture to a file."""
    with capture.open("rb") as file:
        survey = survey_capture(file)
        flow = choose(survey, None)
        timed = replay_capture(file, flow, survey.flows[flow], loop=False)
        to.write_bytes(b"".join(payload(datagram) for _, datagram in timed))
    return to


@pytest.mark.parametrize("encoder", ENCODERS)
def test_streams_of_encoders(encoder: str) -> None:
    """Recorded from the network, with the times of arrival and without, they are healthy."""
    need("ffprobe")
    with studio() as room:
        clip, port = make_clip(room, SECONDS), unused_port()
        capture = room / "stream.pcapng"
        recorder = (
            sys.executable,
            "tools/capture.py",
            str(port),
            capture,
            "--count",
            str(DATAGRAMS),
        )
        with ChildProcess(*recorder) as recording:
            wait_for(lambda: is_bound(port), "the recorder to listen")
            with sending(encoder, clip, port):
                assert recording.wait() == 0
        film = transport(capture, room / "stream.ts")
        arrived, read, theirs = probed(capture), probed(film), ffprobed(film)
    assert arrived["form"] == ("rtp" if SOURCES[encoder].scheme == "rtp" else "ts")
    assert_agree(said(arrived), theirs)
    assert_agree(said(read), theirs)


STREAMS = (
    ("mpeg2video", "mp2"),
    ("libx264", "mp3"),
    ("libx265", "ac3"),
    ("libx264", "eac3"),
    ("mpeg2video", "libopus"),
)


@pytest.mark.parametrize(("video", "audio"), STREAMS)
def test_codecs_and_pictures(video: str, audio: str) -> None:
    """Names of codecs, size and rate of the pictures, and the key frames are ffprobe's."""
    need("ffmpeg", "ffprobe")
    with studio() as room:
        film = room / "film.ts"
        source = ("-f", "lavfi", "-i", "testsrc2=size=720x400:rate=30000/1001")
        words = (*source, "-f", "lavfi", "-i", "sine", "-t", "3", "-c:v", video, "-g", "15")
        quiet = ("-x265-params", "log-level=none") if video == "libx265" else ()
        output("ffmpeg", "-v", "error", *words, *quiet, "-c:a", audio, "-b:v", "1M", film)
        found, theirs = probed(film), ffprobed(film)
        shown = output(sys.executable, "tools/probe.py", film)
    assert_agree(said(found), theirs)
    assert re.search(r"720x400, 29\.97 pictures/s", shown)


def test_two_programs() -> None:
    """Each has its own streams and clock; tstools names the same ones."""
    need("ffmpeg", "ffprobe", "tsinfo", "tsreport")
    with studio() as room:
        film = room / "film.ts"
        inputs = (*("-f", "lavfi", "-i", "testsrc2=size=320x240") * 2,)
        maps = ("-map", "0:v", "-map", "1:v", "-program", "st=0", "-program", "st=1")
        codec = ("-c:v", "mpeg2video", "-t", "3")
        output("ffmpeg", "-v", "error", *inputs, *maps, *codec, film)
        found, theirs = probed(film), ffprobed(film)
        listed, counted = output("tsinfo", film), output("tsreport", film)
    ours = said(found)
    assert ours.programs == theirs.programs
    assert len(ours.programs) == 2
    programs = re.findall(r"Program (\d+) -> PID \w+ \((\d+)\)", listed)
    assert {(int(number), int(pid)) for number, pid in programs} == {
        (program["number"], program["pmt_pid"]) for program in ours.programs
    }
    streams = re.findall(r"PID \w+ \( *(\d+)\) -> Stream type \w+ \( *(\d+)\)", listed)
    assert streams  # of the first program
    assert {(int(pid), int(kind)) for pid, kind in streams} <= {
        (each["pid"], each["type"])
        for program in found["ts"]["programs"]
        for each in program["streams"]
    }
    assert f"Read {found['ts']['packets']} TS packets" in counted
