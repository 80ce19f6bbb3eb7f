"""The next steps for a person at a terminal, printed when the relay has started."""

import ipaddress

from relaylib.cli import client_command, is_installed
from relaylib.net.address import Address, player_url, show
from relaylib.net.lookup import reachable_host
from relaylib.net.networks import PRIVATE, Network, contains, is_any
from relaylib.stdio import say

GUIDE = """\
Relay listening on {listening}

  1. Send a stream here, from VLC on any machine:
       vlc FILE --sout '#rtp{{proto=udp,mux=ts,dst={source_host},port={source_port}}}' --sout-keep
{sample}  2. Ask for it, on the viewer's machine:
       {client} {host} {port} 5004 --vlc      (or: nc {host} {port}, then CONECTAR 5004)
  3. Watch it: --vlc opened the player; by hand, open this address in VLC:
       {udp}      ({rtp} is better for a source that sends RTP)
{page}{others}{open}
  Ctrl-C ends the relay.
"""

SAMPLE = """\
     or the sample that comes with the relay:
       python3 tools/fake_vlc.py {host} {port} --rtp --loop
"""

PAGE = """
  Or in a browser, picture and all that the relay knows:
       {url}
"""

OTHERS = """
  {host} is a public address that --allow does not cover: viewers on other machines are declined
  until it names their network, for example --allow private --allow 203.0.113.0/24
"""

OPEN = """
  Whoever reaches UDP {ingest} may send the stream when nobody else does. If only your encoder is
  to: --allow-source ADDRESS
"""


def guide(
    listening: Address,
    host: str,
    ingest: Address,
    allow: tuple[Network, ...],
    *,
    http: int | None = None,
    allow_source: tuple[Network, ...] = (),
) -> str:
    """Tell a person at a terminal what to type next.

    `host` is where viewers reach the relay, `ingest` where a source does, `http` the page's port.
    """
    udp, rtp = (player_url(scheme, 5004, ipv6=":" in host) for scheme in ("udp", "rtp"))
    return GUIDE.format(
        listening=show(listening),
        host=host,
        port=listening[1],
        source_host=ingest[0],
        source_port=ingest[1],
        sample="" if is_installed() else SAMPLE.format(host=ingest[0], port=ingest[1]),
        client=client_command(),
        udp=udp,
        rtp=rtp,
        page="" if http is None else PAGE.format(url=f"http://{show((host, http))}/"),
        open=OPEN.format(ingest=show(ingest)) if _is_open(ingest, allow_source) else "",
        others="" if contains((*PRIVATE, *allow), host) else OTHERS.format(host=host),
    )


def _is_open(ingest: Address, allow_source: tuple[Network, ...]) -> bool:
    """Tell whether any other machine may send the stream."""
    here_only = ipaddress.ip_address(ingest[0].partition("%")[0]).is_loopback
    return is_any(allow_source) and not here_only


def show_guide(
    listening: Address,
    ingest: Address,
    allow: tuple[Network, ...],
    http: int | None,
    allow_source: tuple[Network, ...],
) -> None:
    """Write the guide on stdout, as much of it as there is room for."""
    source = (reachable_host(ingest[0]), ingest[1])
    viewers = reachable_host(listening[0])
    say(guide(listening, viewers, source, allow, http=http, allow_source=allow_source) + "\n")
