"""Fixed outputs (`--to`) with real VLC at both ends: it joins a group, and knows no relay."""

import pytest

from tools.lab.media import RATE, assert_faultless, judge, make_clip, studio
from tools.lab.players import Vlc
from tools.lab.relay import RelayProcess
from tools.lab.sockets import unused_port

SECONDS = 8

GROUP = "239.2.2.2"


@pytest.mark.parametrize("scheme", ["udp", "rtp"])
def test_vlc_shows_a_group(scheme: str) -> None:
    """What VLC sends to the relay reaches another VLC through a group, each frame as it was."""
    port = unused_port()
    with (
        studio() as room,
        RelayProcess(
            "--to", f"{scheme}://{GROUP}:{port}?iface=lo", "--source-timeout", "1"
        ) as relay,
        Vlc.recording(scheme, port, room / "group.ts", GROUP) as player,
    ):
        clip = make_clip(room, SECONDS)
        with Vlc.streaming(scheme, clip, relay.ingest_port):
            relay.wait_event("ingest_silent")
        player.stop()
        assert player.complaints() == []
        assert relay.stop() == 0
        ended = relay.wait_event("output_removed")
        assert (ended["dropped"], ended["unreachable"]) == (0, 0)
        assert_faultless(judge(room / "group.ts", clip), (SECONDS - 2) * RATE)
