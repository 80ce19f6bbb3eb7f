"""Real VLC on both sides of the relay."""

from pathlib import Path

import pytest

from tools.lab.players import Vlc, check_end_to_end
from tools.lab.process import Program

SOUT = {
    "rtp": "#rtp{{proto=udp,mux=ts,dst=127.0.0.1,port={port}}}",
    "udp": "#std{{access=udp,mux=ts,dst=127.0.0.1:{port}}}",
}


def vlc_source(scheme: str, clip: Path, port: int) -> Program:
    """Stream the clip with VLC; `--sout-keep` lets it send what it holds when the clip ends."""
    sout = SOUT[scheme].format(port=port)
    return Vlc(clip.parent, str(clip), "--sout-keep", "--sout", sout)


@pytest.mark.parametrize("scheme", ["rtp", "udp"])
def test_vlc_reaches_vlc_intact(scheme: str) -> None:
    """A VLC that records what another VLC sends through the relay gets each frame bit for bit."""
    check_end_to_end(scheme, lambda clip, port: vlc_source(scheme, clip, port), whole=False)
