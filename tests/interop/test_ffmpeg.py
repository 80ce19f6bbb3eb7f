"""Real ffmpeg as the source, real VLC as the viewer."""

from pathlib import Path

import pytest

from tools.lab.players import check_end_to_end
from tools.lab.process import Program

OUTPUT = {
    "rtp": ("-f", "rtp_mpegts", "rtp://127.0.0.1:{port}"),
    "udp": ("-f", "mpegts", "udp://127.0.0.1:{port}?pkt_size=1316"),
}


def ffmpeg_source(scheme: str, clip: Path, port: int) -> Program:
    """Stream the clip with ffmpeg, at its own pace and without transcoding."""
    *form, url = OUTPUT[scheme]
    words = ("-v", "error", "-re", "-i", str(clip), "-c", "copy", *form, url.format(port=port))
    return Program("ffmpeg", *words)


@pytest.mark.parametrize("scheme", ["rtp", "udp"])
def test_ffmpeg_reaches_vlc_intact(scheme: str) -> None:
    """A VLC that records what ffmpeg sends through the relay gets each frame bit for bit."""
    check_end_to_end(scheme, lambda clip, port: ffmpeg_source(scheme, clip, port), whole=True)
