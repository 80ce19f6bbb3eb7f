"""Real programs read `/live.mp4`: each frame arrives bit for bit, and browsers play it."""

import functools
import http.server
import importlib.util
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from relaylib.mp4.remuxer import AUDIO, VIDEO
from tests.unit.mp4 import mp4
from tools.lab.browser import BROWSERS, Browser
from tools.lab.media import RATE, make_clip, studio
from tools.lab.process import PATIENCE, ChildProcess, NeedError, need, wait_for
from tools.lab.relay import RelayProcess
from tools.lab.reloads import reload
from tools.lab.web import HttpViewer, Watching, http_port

SECONDS = 6

PAGE = """<!doctype html><title>MSE</title><link rel="icon" href="data:,"><video muted></video>
<script type="module">
window.video = document.querySelector("video");
window.opened = 0;
const url = new URLSearchParams(location.search).get("url");
async function play() {
  const answer = await fetch(url), source = new MediaSource();
  video.src = URL.createObjectURL(source);
  await new Promise(done => source.onsourceopen = done);
  const buffer = source.addSourceBuffer(answer.headers.get("Content-Type"));
  window.opened++;
  for (const reader = answer.body.getReader(); ;) {
    const {done, value} = await reader.read();
    if (done) return;
    buffer.appendBuffer(value);
    await new Promise(done => buffer.onupdateend = done);
    if (!buffer.buffered.length) continue;
    const edge = buffer.buffered.end(buffer.buffered.length - 1);
    if (video.currentTime < edge - 1.5) video.currentTime = edge - 0.5;
    video.play().catch(() => {});
  }
}
for (;;) await play().catch(error => window.last = `${error}`);
</script>"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files, and says nothing about it."""

    def log_message(self, *_words: object) -> None:
        """Say nothing."""


@pytest.fixture
def page(tmp_path: Path) -> Iterator[str]:
    """Serve the page."""
    (tmp_path / "page.html").write_text(PAGE)
    handler = functools.partial(Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/page.html"
        server.shutdown()
        thread.join()


def run(*words: str | Path) -> str:
    """Run a program that must have nothing to complain about."""
    done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def frames(path: Path) -> list[str]:
    """Decode the pictures; the sum of each."""
    words = ("-map", "0:v", "-fps_mode", "passthrough", "-f", "framemd5", "-")
    rows = run("ffmpeg", "-v", "error", "-i", path, *words).splitlines()
    return [row.rpartition(",")[2].strip() for row in rows if not row.startswith("#")]


def test_ffmpeg_finds_every_frame() -> None:
    """Who watches from the beginning of a stream has all of it, in whole boxes, without a fault."""
    need("ffmpeg", "ffprobe")
    with studio() as room, RelayProcess("--http", "127.0.0.1:0") as relay:
        clip, saved = make_clip(room, SECONDS), room / "saved.mp4"
        words = ("-v", "error", "-re", "-i", str(clip), "-c", "copy", "-f", "rtp_mpegts")
        with ChildProcess("ffmpeg", *words, f"rtp://127.0.0.1:{relay.ingest_port}") as source:
            wait_until_known(relay)
            with Watching(http_port(relay), "/live.mp4?back=60") as viewer:
                source.wait()
                relay.wait_event("ingest_silent")
                relay.stop()
                wait_for(lambda: viewer.ended, "the end of the stream")
                data = bytes(viewer.data)
        saved.write_bytes(data)
        kinds = [kind for kind, _ in mp4.boxes(data)]
        fragments = kinds.count(b"moof")
        assert kinds == [b"ftyp", b"moov", *[b"moof", b"mdat"] * fragments]
        assert fragments >= SECONDS * 4
        assert set[int]().union(*map(mp4.samples, cut(data))) == {VIDEO, AUDIO}
        run("ffprobe", "-v", "error", "-show_packets", saved)
        assert_pymp4_agrees(data)
        got, sent = frames(saved), frames(clip)
        assert got == sent[: len(got)]
        assert len(got) >= len(sent) - RATE // 2  # what makes no whole fragment any more


def wait_until_known(relay: RelayProcess) -> None:
    """Wait until the relay knows what its source sends."""

    def status() -> int:
        with HttpViewer(http_port(relay)) as asking:
            return asking.get("/live.mp4", "HEAD").status

    wait_for(lambda: status() == 200, "codecs")


def cut(data: bytes) -> list[bytes]:
    """Cut out the fragments."""
    whole = [(len(body) + 8).to_bytes(4) + kind + body for kind, body in mp4.boxes(data)][2:]
    return [moof + mdat for moof, mdat in zip(whole[::2], whole[1::2], strict=True)]


def assert_pymp4_agrees(data: bytes) -> None:
    """Assert that another parser finds the boxes that we do, and the same samples in them."""
    if importlib.util.find_spec("pymp4") is None:
        raise NeedError("needs the Python package pymp4")
    from pymp4.parser import Box

    def tree(box: Any) -> Any:
        inside = [tree(each) for each in box.get("children") or ()]
        return bytes(box.type), [each for each in inside if each[0] != b"esds"]  # a part of stsd

    def ours(kind: bytes, body: bytes) -> Any:
        inside = mp4.boxes(body) if kind in mp4.CONTAINERS else ()
        return kind, [ours(*each) for each in inside]

    whole = [
        (kind, body, (len(body) + 8).to_bytes(4) + kind + body) for kind, body in mp4.boxes(data)
    ]
    found = [Box.parse(box) for _, _, box in whole]
    for parsed, (kind, body, _) in zip(found, whole, strict=True):
        assert tree(parsed) == ours(kind, body)
    for moof, fragment in zip(found[2::2], cut(data), strict=True):
        tracks = mp4.samples(fragment)
        for traf in moof.children[1:]:
            tfhd, tfdt, trun = traf.children
            samples = tracks[tfhd.track_ID]
            assert tfdt.baseMediaDecodeTime == samples[0].time
            assert [each.sample_size for each in trun.sample_info] == [
                len(each.data) for each in samples
            ]


@pytest.mark.parametrize("name", BROWSERS)
def test_browsers_play_it(page: str, name: str) -> None:
    """By Media Source Extensions, without an error; a page that asks again survives a reload."""
    with RelayProcess("--http", "127.0.0.1:0", "--cors", "*") as relay, BROWSERS[name]() as browser:
        words = (sys.executable, "tools/fake_vlc.py", "--loop", "127.0.0.1", relay.ingest_port)
        with ChildProcess(*map(str, words)):
            wait_until_known(relay)
            browser.open(f"{page}?url=http://127.0.0.1:{http_port(relay)}/live.mp4")
            assert_plays(browser, 1)
            reload(relay)
            assert_plays(browser, 2)
            assert browser.errors() == []


def assert_plays(browser: Browser, opened: int) -> None:
    """Assert that the page has asked so often, and that pictures go on."""
    wait_for(lambda: browser.evaluate("opened") >= opened, "it to be opened")
    start = browser.evaluate("video.currentTime")
    wait_for(lambda: browser.evaluate("video.currentTime") > start + 2, "it to play")
    count = "video.getVideoPlaybackQuality().totalVideoFrames"
    wait_for(lambda: browser.evaluate(count) > RATE, "pictures to be decoded")
    assert browser.evaluate("video.error") is None
