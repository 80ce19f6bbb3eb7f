"""Real encoders as the source, real VLC as the viewer: each frame arrives bit for bit."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tools.lab.media import RATE, assert_faultless, judge, make_clip, studio
from tools.lab.players import VLC_KEEPS, Tap, Vlc, sequence_gaps
from tools.lab.process import Program, need
from tools.lab.relay import Relay
from tools.lab.sockets import unused_port
from tools.lab.viewer import Viewer

SECONDS = 4
"""Of video. Each encoder sends it at its own pace and without transcoding."""

FFMPEG = {
    "rtp": ("-f", "rtp_mpegts", "rtp://127.0.0.1:{port}"),
    "udp": ("-f", "mpegts", "udp://127.0.0.1:{port}?pkt_size=1316"),
}
PAYLOADER = {"rtp": ("!", "rtpmp2tpay"), "udp": ()}


def ffmpeg(scheme: str, clip: Path, port: int) -> Program:
    """Stream the clip with ffmpeg."""
    *form, url = FFMPEG[scheme]
    words = ("-v", "error", "-re", "-i", str(clip), "-c", "copy", *form, url.format(port=port))
    return Program("ffmpeg", *words)


def gstreamer(scheme: str, clip: Path, port: int) -> Program:
    """Stream the clip with GStreamer, paced by its PCR, seven packets to a datagram."""
    need("gst-launch-1.0")
    parse = ("tsparse", "set-timestamps=true", "alignment=7")
    sink = ("udpsink", "host=127.0.0.1", f"port={port}")
    words = ("filesrc", f"location={clip}", "!", *parse, *PAYLOADER[scheme], "!", *sink)
    return Program("gst-launch-1.0", "-q", *words)


@pytest.mark.parametrize("scheme", ["rtp", "udp"])
@pytest.mark.parametrize("encoder", [Vlc.streaming, ffmpeg, gstreamer])
def test_every_frame_arrives(encoder: Callable[[str, Path, int], Program], scheme: str) -> None:
    """A VLC that records the stream, and a plain viewer, get the clip without a fault."""
    with studio() as room, Relay("--source-timeout", "1") as relay:
        clip = make_clip(room, SECONDS)
        port = unused_port()
        with (
            Viewer(relay.port) as plain,
            Viewer(relay.port) as control,
            Tap(plain.subscribe()) as tap,
            Vlc.recording(scheme, port, room / "vlc.ts") as player,
        ):
            assert control.command(f"CONECTAR {port}") == "OK"
            with encoder(scheme, clip, relay.ingest_port):
                relay.wait_event("ingest_silent")
            player.stop()
            status = control.command("ESTADO")
        assert sequence_gaps(tap.datagrams) == 0
        assert f"enviados={len(tap.datagrams)} perdidos=0" in status
        assert player.complaints() == []
        sent = SECONDS * RATE
        kept_back = RATE if encoder == Vlc.streaming else 1  # VLC does not send the very end
        assert_faultless(judge(tap.save(room / "wire.ts"), clip), sent - kept_back)
        assert_faultless(judge(room / "vlc.ts", clip), sent - VLC_KEEPS)
