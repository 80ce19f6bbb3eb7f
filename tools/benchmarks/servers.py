"""Who is measured over TCP: this relay, and what Debian has that serves a live stream to many.

GStreamer's tcpserversink sends what comes, without HTTP. ffmpeg's HTTP output has one viewer
(`-listen 1`); `-listen 2` is for programs that use its library. nginx serves files: those of HLS,
which ffmpeg cuts, on another core and not counted.
"""

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.benchmarks.contenders import RECEIVE_BUFFER
from tools.lab.process import ChildProcess, need
from tools.lab.relay import RelayProcess
from tools.lab.sockets import unused_port
from tools.lab.web import http_port

LIVE = "relay /live.ts"
MP4 = "relay /live.mp4"
HLS = "relay HLS"
TCPSERVERSINK = "GStreamer tcpserversink"
LISTEN = "ffmpeg -listen 1"
NGINX = "nginx HLS"
SERVERS = (LIVE, TCPSERVERSINK, LISTEN, MP4, HLS, NGINX)

TARGETS = {LIVE: "/live.ts", MP4: "/live.mp4", TCPSERVERSINK: "-", LISTEN: "/"}
"""What a viewer asks for; HLS viewers follow a playlist."""

WEB = ("--http", "127.0.0.1:0", "--max-http-clients", "4000", "--max-http-clients-per-ip", "4000")
"""Words for a relay whose viewers all come from one address."""

_NGINX = """\
daemon off; master_process off; pid nginx.pid; error_log stderr;
events {{ worker_connections 4096; }}
http {{
    client_body_temp_path tmp; proxy_temp_path tmp; fastcgi_temp_path tmp;
    uwsgi_temp_path tmp; scgi_temp_path tmp;
    access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000;
    server {{ listen 127.0.0.1:{port} backlog=4096; root files; }}
}}
"""


@dataclass
class Serving:
    """A server's process, the UDP port where it takes the stream, the TCP port where it serves."""

    program: ChildProcess
    ingest_port: int
    port: int


@contextlib.contextmanager
def serving(name: str, core: Sequence[str]) -> Iterator[Serving]:
    """A server; a peer may not be listening yet. `core` is the prefix that puts it on its core.

    Raises:
        FAILURES: it does not start, or is not installed.
    """
    if name in (LIVE, MP4, HLS):
        with RelayProcess(*WEB, prefix=tuple(core)) as relay:
            yield Serving(relay, relay.ingest_port, http_port(relay))
        return
    ingest, port = unused_port(), unused_port()
    if name == NGINX:
        with _nginx(ingest, port, core) as nginx:
            yield Serving(nginx, ingest, port)
        return
    words = _gstreamer(ingest, port) if name == TCPSERVERSINK else _ffmpeg(ingest, port)
    need(words[0])
    with ChildProcess(*core, *words) as peer:
        yield Serving(peer, ingest, port)


def _gstreamer(ingest: int, port: int) -> list[str]:
    source = f"udpsrc address=127.0.0.1 port={ingest} buffer-size={RECEIVE_BUFFER}"
    sink = f"tcpserversink host=127.0.0.1 port={port} sync=false async=false"
    words = f"{source} retrieve-sender-address=false ! {sink} enable-last-sample=false"
    return f"gst-launch-1.0 -q {words}".split()


def _udp(ingest: int) -> str:
    return f"udp://127.0.0.1:{ingest}?overrun_nonfatal=1&buffer_size={RECEIVE_BUFFER}"


def _ffmpeg(ingest: int, port: int) -> list[str]:
    source = f"-f data -raw_packet_size 1316 -i {_udp(ingest)}"
    sink = f"-map 0 -c copy -f data -listen 1 http://127.0.0.1:{port}/"
    return f"ffmpeg -nostdin -loglevel quiet {source} {sink}".split()


@contextlib.contextmanager
def _nginx(ingest: int, port: int, core: Sequence[str]) -> Iterator[ChildProcess]:
    """Serve HLS as files that ffmpeg cuts, of a second each."""
    need("nginx", "ffmpeg")
    with tempfile.TemporaryDirectory(prefix="relay-bench-") as name:
        home = Path(name)
        (home / "files").mkdir()
        (home / "nginx.conf").write_text(_NGINX.format(port=port))
        cut = "-c copy -f hls -hls_time 1 -hls_list_size 60 -hls_flags delete_segments"
        words = f"ffmpeg -nostdin -loglevel quiet -i {_udp(ingest)} {cut} {home}/files/live.m3u8"
        server = ("nginx", "-p", home, "-c", home / "nginx.conf", "-e", "stderr")
        with ChildProcess(*words.split()), ChildProcess(*core, *server) as nginx:
            yield nginx
