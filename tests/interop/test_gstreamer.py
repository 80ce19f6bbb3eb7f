"""Real GStreamer as the source, real VLC as the viewer."""

from pathlib import Path

import pytest

from tools.lab.players import check_end_to_end
from tools.lab.process import Program, need

PAYLOADER = {"rtp": ("!", "rtpmp2tpay"), "udp": ()}


def gstreamer_source(scheme: str, clip: Path, port: int) -> Program:
    """Stream the clip with GStreamer, paced by its PCR, seven packets to a datagram."""
    need("gst-launch-1.0")
    parse = ("tsparse", "set-timestamps=true", "alignment=7")
    sink = ("udpsink", "host=127.0.0.1", f"port={port}")
    words = ("filesrc", f"location={clip}", "!", *parse, *PAYLOADER[scheme], "!", *sink)
    return Program("gst-launch-1.0", "-q", *words)


@pytest.mark.parametrize("scheme", ["rtp", "udp"])
def test_gstreamer_reaches_vlc_intact(scheme: str) -> None:
    """A VLC that records what GStreamer sends through the relay gets each frame bit for bit."""
    check_end_to_end(scheme, lambda clip, port: gstreamer_source(scheme, clip, port), whole=True)
