"""A pause that resumes where the viewer left: real players that record, and a reload meanwhile."""

import time

from tools.lab.media import RATE, assert_faultless, judge, make_clip, studio
from tools.lab.players import PlayerTap, Vlc
from tools.lab.process import ChildProcess, need, wait_for
from tools.lab.relay import RelayProcess
from tools.lab.reloads import reload
from tools.lab.sockets import is_bound, unused_port
from tools.lab.viewer import TestViewer

SECONDS = 8
"""Of video."""

PAUSE = 2.0
"""Seconds of a pause. What comes meanwhile has to be there after it."""


def sent(control: TestViewer) -> int:
    """Ask how many datagrams a viewer was sent."""
    return int(control.command("ESTADO").split("enviados=")[1].split()[0])


def _wait_sent(control: TestViewer, count: int) -> None:
    wait_for(lambda: sent(control) == count, "the rest of the stream")


def ffmpeg_recording(port: int, to: str) -> ChildProcess:
    """A player that records what it demuxes, without transcoding; listening already."""
    need("ffmpeg")
    words = ("-analyzeduration", "500000", "-i", f"udp://127.0.0.1:{port}?timeout=2000000")
    player = ChildProcess("ffmpeg", "-nostdin", "-v", "error", *words, "-c", "copy", "-y", to)
    wait_for(lambda: is_bound(port), f"ffmpeg to listen on {port}")
    return player


def test_a_recording_has_no_seam() -> None:
    """Paused, resumed deferred, the relay reloaded: the recordings have every byte and frame."""
    with studio() as room, RelayProcess("--timeshift", "60", "--source-timeout", "1") as relay:
        clip = make_clip(room, SECONDS)
        first, second = unused_port(), unused_port()
        with (
            TestViewer(relay.port) as plain,
            TestViewer(relay.port) as dumping,
            TestViewer(relay.port) as recording,
            PlayerTap(plain.subscribe()) as tap,
            Vlc.dumping(first, room / "dump.ts") as vlc,
            ffmpeg_recording(second, str(room / "ffmpeg.ts")) as ffmpeg,
        ):
            assert dumping.command(f"CONECTAR {first}") == "OK"
            assert recording.command(f"CONECTAR {second}") == "OK"
            encoder = ("-re", "-i", str(clip), "-c", "copy", "-f", "mpegts")
            to = f"udp://127.0.0.1:{relay.ingest_port}?pkt_size=1316"
            with ChildProcess("ffmpeg", "-v", "error", *encoder, to):
                wait_for(lambda: sent(recording) > 100, "a part of the stream")
                for control in (dumping, recording):
                    assert control.command("INTERRUMPIR") == "OK"
                time.sleep(PAUSE)
                for control in (dumping, recording):
                    assert control.command("CONTINUAR DIFERIDO") == "OK"
                reload(relay)
                relay.wait_event("ingest_silent")
            everything = len(tap.datagrams)
            for control in (dumping, recording):
                _wait_sent(control, everything)
                assert " perdidos=0 " in control.command("ESTADO")
            assert ffmpeg.wait() == 0  # it has got nothing for two seconds
            vlc.stop()
        stream = tap.save(room / "wire.ts").read_bytes()
        assert (room / "dump.ts").read_bytes() == stream
        assert [line for line in ffmpeg.stderr if not line.startswith("udp:")] == []
        for recorded in ("dump.ts", "ffmpeg.ts"):
            assert_faultless(judge(room / recorded, clip), SECONDS * RATE - 1)
