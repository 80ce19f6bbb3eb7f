"""Who sends the stream: each as its manual has it, with H.264 and AAC and a key frame a second."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tools.lab.players import Vlc
from tools.lab.process import ChildProcess, NeedError, need, wait_for
from tools.lab.sockets import is_bound, unused_port

SECONDS = 120
"""Of film: for longer nobody watches one source."""

TS = "udp://127.0.0.1:{port}?pkt_size=1316"
TEST_PICTURE = ("-f", "lavfi", "-i", "testsrc2=size={size}:rate={rate}")
TEST_SOUND = ("-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000")

LIVE = """
    videotestsrc is-live=true ! video/x-raw,width=320,height=240,framerate=25/1
        ! openh264enc gop-size=25 bitrate=600000 ! h264parse config-interval=-1 ! mux.
    audiotestsrc is-live=true wave=ticks ! voaacenc ! aacparse ! mux.
    mpegtsmux name=mux alignment=7 !
"""
"""GStreamer's pipeline, up to what sends."""

SYSTEM_PYTHON = "/usr/bin/python3"


def make_film(directory: Path) -> Path:
    """Make what those play who send a file: small, since what counts is the way it is sent."""
    need("ffmpeg")
    film = directory / "film.ts"
    picture = (word.format(size="320x240", rate=25) for word in TEST_PICTURE)
    coding = ("-c:v", "libx264", "-preset", "veryfast", "-g", "25", "-b:v", "600k", "-c:a", "aac")
    words = ("ffmpeg", "-v", "error", *picture, *TEST_SOUND, "-t", str(SECONDS), *coding)
    subprocess.run([*words, "-f", "mpegts", str(film)], check=True, timeout=120)
    film.chmod(0o644)
    return film


Start = Callable[[Path, int], Iterator[None]]


class Source(NamedTuple):
    """What is sent, as an MRL begins, and how: with the film to the relay's port, in a context."""

    scheme: str
    start: Start


def ffmpeg(*words: str, port: int) -> ChildProcess:
    """Start ffmpeg; `{port}` stands for the relay's."""
    need("ffmpeg")
    return ChildProcess("ffmpeg", "-v", "error", *(word.format(port=port) for word in words))


def vlc(scheme: str) -> Source:
    """VLC, *Stream...* in its menu: without transcoding."""

    def start(film: Path, port: int) -> Iterator[None]:
        with Vlc.streaming(scheme, film, port):
            yield

    return Source(scheme, start)


def ffmpeg_copy(scheme: str, *form: str) -> Source:
    """A file, at its own pace."""

    def start(film: Path, port: int) -> Iterator[None]:
        with ffmpeg("-re", "-i", str(film), "-c", "copy", "-f", *form, port=port):
            yield

    return Source(scheme, start)


def gstreamer(scheme: str, *payloader: str) -> Source:
    """A live picture, encoded by GStreamer, seven packets to a datagram."""

    def start(_film: Path, port: int) -> Iterator[None]:
        need("gst-launch-1.0")
        sink = ("udpsink", "host=127.0.0.1", f"port={port}")
        with ChildProcess("gst-launch-1.0", "-q", *LIVE.split(), *payloader, *sink):
            yield

    return Source(scheme, start)


def obs(_film: Path, port: int) -> Iterator[None]:
    """OBS's *Custom Output (FFmpeg)*: x264 at a constant rate with B frames, and AAC."""
    picture = (word.format(size="640x360", rate=30) for word in TEST_PICTURE)
    rate = ("-b:v", "2500k", "-maxrate", "2500k", "-bufsize", "2500k")
    x264 = ("-c:v", "libx264", "-preset", "veryfast", "-profile:v", "high", "-pix_fmt", "yuv420p")
    coding = (*x264, *rate, "-g", "30", "-bf", "2", "-c:a", "aac", "-b:a", "160k")
    with ffmpeg("-re", *picture, "-re", *TEST_SOUND, *coding, "-f", "mpegts", TS, port=port):
        yield


def srt(film: Path, port: int) -> Iterator[None]:
    """An encoder that calls by SRT, and srt-live-transmit, which answers and passes on."""
    need("srt-live-transmit")
    meeting = unused_port()
    ways = (f"srt://127.0.0.1:{meeting}?mode=listener", f"udp://127.0.0.1:{port}")
    sending = ("-re", "-i", str(film), "-c", "copy", "-f", "mpegts")
    with ChildProcess("srt-live-transmit", "-q", "-chunk:1316", *ways):
        wait_for(lambda: is_bound(meeting), "srt-live-transmit to listen")
        with ffmpeg(*sending, f"srt://127.0.0.1:{meeting}?pkt_size=1316", port=port):
            yield


def camera(_film: Path, port: int) -> Iterator[None]:
    """A network camera, and ffmpeg, which fetches its stream by RTSP over TCP."""
    probe = (SYSTEM_PYTHON, "-c", "import gi; gi.require_version('GstRtspServer', '1.0')")
    if not Path(SYSTEM_PYTHON).exists() or subprocess.run(probe, check=False).returncode:
        raise NeedError("needs python3-gi and gir1.2-gst-rtsp-server-1.0")
    rtsp = unused_port()
    url = f"rtsp://127.0.0.1:{rtsp}/camera"
    with ChildProcess(SYSTEM_PYTHON, "tools/interop/camera.py", str(rtsp)) as served:
        wait_for(lambda: served.stdout, "the camera")
        with ffmpeg(
            *("-rtsp_transport", "tcp", "-i", url, "-c", "copy", "-f", "mpegts", TS), port=port
        ):
            yield


def fake_vlc(_film: Path, port: int) -> Iterator[None]:
    """The sample that comes with the relay, as VLC sends it."""
    words = ("tools/fake_vlc.py", "127.0.0.1", str(port), "--loop", "--rtp")
    with ChildProcess(sys.executable, *words):
        yield


SOURCES: dict[str, Source] = {
    "VLC, RTP": vlc("rtp"),
    "VLC, UDP": vlc("udp"),
    "ffmpeg, RTP": ffmpeg_copy("rtp", "rtp_mpegts", "rtp://127.0.0.1:{port}"),
    "ffmpeg, UDP": ffmpeg_copy("udp", "mpegts", TS),
    "GStreamer, rtpmp2tpay": gstreamer("rtp", "rtpmp2tpay", "!"),
    "GStreamer, udpsink": gstreamer("udp"),
    "OBS's output (ffmpeg's muxer)": Source("udp", obs),
    "SRT, srt-live-transmit": Source("udp", srt),
    "RTSP camera, ffmpeg": Source("udp", camera),
    "fake_vlc": Source("rtp", fake_vlc),
}


@contextmanager
def sending(name: str, film: Path, port: int) -> Iterator[None]:
    """Let a source send the film, or what it has itself, to a port.

    Raises:
        NeedError: this machine lacks what it needs.
    """
    yield from SOURCES[name].start(film, port)
