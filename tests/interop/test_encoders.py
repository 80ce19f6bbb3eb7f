"""Real encoders as the source, real VLC as the viewer: each frame arrives bit for bit.

Two, as different as they come; `make matrix` tries them all.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from tools.lab.media import RATE, assert_faultless, judge, make_clip, studio
from tools.lab.players import VLC_KEEPS, PlayerTap, Vlc, sequence_gaps
from tools.lab.process import ChildProcess
from tools.lab.relay import RelayProcess
from tools.lab.sockets import unused_port
from tools.lab.viewer import TestViewer

SECONDS = 4
"""Of video. Each encoder sends it at its own pace and without transcoding."""


def vlc(clip: Path, port: int) -> ChildProcess:
    """Stream the clip with VLC in RTP: evenly, in datagrams of 1328 bytes."""
    return Vlc.streaming("rtp", clip, port)


def ffmpeg(clip: Path, port: int) -> ChildProcess:
    """Stream the clip with ffmpeg: each frame is a burst, whose last datagram is shorter."""
    target = ("-f", "mpegts", f"udp://127.0.0.1:{port}?pkt_size=1316")
    return ChildProcess("ffmpeg", "-v", "error", "-re", "-i", str(clip), "-c", "copy", *target)


@pytest.mark.parametrize(("scheme", "encoder"), [("rtp", vlc), ("udp", ffmpeg)])
def test_every_frame_arrives(scheme: str, encoder: Callable[[Path, int], ChildProcess]) -> None:
    """A VLC that records the stream, and a plain viewer, get the clip without a fault."""
    with studio() as room, RelayProcess("--source-timeout", "1") as relay:
        clip = make_clip(room, SECONDS)
        port = unused_port()
        with (
            TestViewer(relay.port) as plain,
            TestViewer(relay.port) as control,
            PlayerTap(plain.subscribe()) as tap,
            Vlc.recording(scheme, port, room / "vlc.ts") as player,
        ):
            assert control.command(f"CONECTAR {port}") == "OK"
            with encoder(clip, relay.ingest_port):
                relay.wait_event("ingest_silent")
            player.stop()
            status = control.command("ESTADO")
        assert sequence_gaps(tap.datagrams) == 0
        assert f"enviados={len(tap.datagrams)} perdidos=0" in status
        assert player.complaints() == []
        sent = SECONDS * RATE
        kept_back = RATE if encoder is vlc else 1  # VLC does not send the very end
        assert_faultless(judge(tap.save(room / "wire.ts"), clip), sent - kept_back)
        assert_faultless(judge(room / "vlc.ts", clip), sent - VLC_KEEPS)
