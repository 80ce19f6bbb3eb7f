"""The console client: commands from a terminal or a pipe, the relay's replies as they come.

This file reads the arguments, connects and runs the loop; the rest is in `relaylib/client`, `app`
first. It runs in the relay's own reactor, here over `select`: epoll takes no regular files, and
`client.py ... < commands.txt` must work. The client needs nothing but the standard library.
"""

import signal

if (
    __name__ in ("__main__", "relay_programs.client")  # the latter where it is installed
    and signal.getsignal(signal.SIGINT) is signal.default_int_handler
):
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until connected there is nothing to undo

import argparse
import contextlib
import ipaddress
import selectors
import socket
import sys
from collections.abc import Sequence
from typing import NoReturn

from relaylib import __version__
from relaylib.cli import Parser, examples, host, port, program_name
from relaylib.client.app import App
from relaylib.client.player import find_player
from relaylib.errors import SetupError
from relaylib.net.address import player_url, show
from relaylib.net.connection import tune
from relaylib.net.loop import Loop
from relaylib.protocol.commands import MIN_PORT

CONNECT_TIMEOUT = 5.0
"""Seconds for each address of the relay's name: one lost SYN is sent again after 1 s, then 3 s."""

EXAMPLES = """
examples:
  python3 client.py 192.168.1.5 9000 5004             type the commands; AYUDA lists them
  python3 client.py 192.168.1.5 9000 5004 --vlc       and watch in VLC
  python3 client.py 192.168.1.5 9000 5004 --vlc=rtp   now, for a source that sends RTP
  printf 'CONECTAR\\nESTADO\\n' | python3 client.py 192.168.1.5 9000 5004

Ctrl-D (or the end of the input) and Ctrl-C send DESCONECTAR and wait for the reply; a second Ctrl-C
leaves at once.
exit status: 0 DESCONECTAR was confirmed; 1 the connection was declined, lost or never made, or,
without a terminal, a command got ERROR or no answer, or was not sent; 2 bad argument; 130 left at
once
"""


def connect(host: str, port: int) -> socket.socket:
    """Connect to the first address of the relay's name that answers.

    Raises:
        SetupError: none does, or the name has no address.
    """
    try:
        sock = socket.create_connection((host, port), CONNECT_TIMEOUT)
        sock.setblocking(False)
        tune(sock)
    except (socket.gaierror, UnicodeError):
        raise SetupError(f"unknown host: {host}") from None
    except OSError as error:
        raise SetupError(f"cannot connect to {show((host, port))}: {_why(error, host)}") from None
    return sock


def _why(error: OSError, host: str) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer in {CONNECT_TIMEOUT:g} s"
    if _lacks_interface(host):
        ours = [name for _, name in socket.if_nameindex() if name != "lo"] or ["eth0"]
        return f"a link-local address needs the interface that leads there: {host}%{ours[0]}"
    return str(error.strerror)


def _lacks_interface(host: str) -> bool:
    """Tell whether an address means nothing without a zone (RFC 4007, section 6)."""
    try:
        address = ipaddress.IPv6Address(host)
    except ValueError:
        return False
    return address.is_link_local and address.scope_id is None


def make_parser(prog: str) -> Parser:
    """Return the parser of the command line, for a program that was called by this name."""
    parser = Parser(
        prog=prog,
        usage="%(prog)s HOST PORT VLCPORT [--vlc[=rtp|udp]]",
        description="Ask a relay for its stream, and control it.",
        epilog=examples(EXAMPLES, "client.py", prog),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("host", type=host, metavar="HOST", help="the relay's name or address, IPv4 or IPv6")
    add("port", metavar="PORT", type=lambda text: port(text, 1), help="its TCP port")
    add("vlcport", metavar="VLCPORT", type=lambda text: port(text, MIN_PORT),
        help="the UDP port here where the player listens")  # fmt: skip
    add("--vlc", metavar="=rtp|udp", nargs="?", choices=("rtp", "udp", "auto"),
        help="open VLC there, after CONECTAR at the address that fits what the source sends, or at "
        "once at this one, and close it on leaving")  # fmt: skip
    add("--version", action="version", version=f"client {__version__}")
    return parser


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    # `--vlc` takes its value after "=" only: in `--vlc HOST PORT VLCPORT` HOST is no value.
    words = ["--vlc=auto" if word == "--vlc" else word for word in argv]
    return make_parser(program_name()).parse_args(words)


def _greeting(options: argparse.Namespace, ipv6: bool) -> str:
    udp, rtp = (player_url(scheme, options.vlcport, ipv6=ipv6) for scheme in ("udp", "rtp"))
    by_hand = f"open {udp} in VLC to watch ({rtp} if you know that it is RTP)\n"
    return (
        f"connected to {show((options.host, options.port))}\n"
        f"CONECTAR brings the stream to UDP port {options.vlcport} of this host\n"
        f"{'' if options.vlc else by_hand}"
        "AYUDA lists the commands, Ctrl-D leaves"
    )


def _run(options: argparse.Namespace) -> int:
    path = find_player() if options.vlc else ""
    with contextlib.closing(connect(options.host, options.port)) as sock:
        loop = Loop(_raise, selectors.SelectSelector())
        app = App(loop, sock, options.vlcport)
        try:
            interrupts = dict.fromkeys(("SIGINT", "SIGTERM", "SIGQUIT"), app.interrupt)
            for name, callback in {"SIGHUP": app.leave, **interrupts}.items():
                signum = getattr(signal, name, None)  # not every system has them all
                # Ignored by nohup, or by a script's &.
                if signum is not None and signal.getsignal(signum) is not signal.SIG_IGN:
                    loop.on_signal(signum, callback)
            if options.vlc:
                app.play(path, "" if options.vlc == "auto" else options.vlc)
            app.greet(_greeting(options, sock.family == socket.AF_INET6))
            loop.run()
        finally:
            app.close()
            loop.close()
        return app.status


def main() -> int:
    """Run the client; return its exit status."""
    try:
        return _run(_parse(sys.argv[1:]))
    except SetupError as error:
        print(f"{program_name()}: {error}", file=sys.stderr)
        return error.status


def _raise(error: Exception) -> NoReturn:
    raise error


if __name__ == "__main__":
    sys.exit(main())
