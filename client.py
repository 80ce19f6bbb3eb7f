"""The console client: commands typed, piped or in a script, the relay's replies as they come.

This file reads the arguments and runs the loop; the rest is in `relaylib/client`, `app` first. It
runs in the relay's own reactor, here over `select`: epoll takes no regular files, and `client.py
... < commands.txt` must work. The client needs nothing but the standard library.
"""

import signal

if (
    __name__ in ("__main__", "relay_programs.client")  # the latter where it is installed
    and signal.getsignal(signal.SIGINT) is signal.default_int_handler
):
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until connected there is nothing to undo

import argparse
import io
import os
import random
import selectors
import sys
from collections.abc import Callable, Sequence

from relaylib import __version__
from relaylib.cli import Parser, examples, host, port, program_name
from relaylib.client import messages
from relaylib.client.app import App, ClientPlan
from relaylib.client.console import open_console
from relaylib.client.link import Backoff, connect
from relaylib.client.messages import say
from relaylib.client.player import find_player
from relaylib.client.script import Step, is_script, read_script, read_words
from relaylib.errors import SetupError
from relaylib.net.loop import Loop, reraise
from relaylib.protocol.commands import MIN_PORT, Verb


def _host(word: str) -> str:
    try:
        return host(word)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(
            say("{word!r} looks like a port: HOST comes before PORT", word=word)
        ) from None


def _port(lowest: int) -> Callable[[str], int]:
    def read(word: str) -> int:
        try:
            return port(word, lowest)
        except argparse.ArgumentTypeError:
            raise argparse.ArgumentTypeError(
                say("not a port ({low} to {high}): {word!r}", low=lowest, high=65535, word=word)
            ) from None

    return read


def make_parser(prog: str) -> Parser:
    """Return the parser of the command line, for a program that was called by this name.

    It speaks the language in use.
    """
    argparse._ = say  # type: ignore[attr-defined]  # its own words; it asks gettext otherwise
    parser = Parser(
        prog=prog,
        usage="%(prog)s HOST PORT VLCPORT [options]",
        description=say("Ask a relay for its stream, and control it."),
        epilog=examples(say(messages.EXAMPLES), "client.py", prog),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.hint = say("--help shows how")
    add = parser.add_argument
    add("host", type=_host, metavar="HOST", help=say("the relay's name or address, IPv4 or IPv6"))
    add("port", metavar="PORT", type=_port(1), help=say("its TCP port"))
    add("vlcport", metavar="VLCPORT", type=_port(MIN_PORT),
        help=say("the UDP port here where the player listens"))  # fmt: skip
    add("--vlc", metavar="=rtp|udp", nargs="?", choices=("rtp", "udp", "auto"),
        help=say("open VLC there, after CONECTAR at the address that fits what the source sends, "
                 "or at once at this one, and close it on leaving"))  # fmt: skip
    add("--reconnect", action="store_true",
        help=say("when the connection is lost or cannot be made, try again until it is, and go on "
                 "as before"))  # fmt: skip
    add("--watch", action="store_true", help=say("show how the session stands, once a second"))
    add("--script", metavar="FILE",
        help=say("take the commands from FILE, from the standard input (-), or from the argument "
                 "itself, such as CONECTAR"))  # fmt: skip
    add("--version", action="version", version=f"client {__version__}",
        help=say("show program's version number and exit"))  # fmt: skip
    return parser


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    # `--vlc` takes its value after "=" only: in `--vlc HOST PORT VLCPORT` HOST is no value.
    words = ["--vlc=auto" if word == "--vlc" else word for word in argv]
    return make_parser(program_name()).parse_args(words)


def _script(word: str, vlcport: int) -> tuple[Step, ...]:
    """Read the script that `--script` names, or is.

    Raises:
        SetupError: it cannot be read, or is wrong.
    """
    if is_script(word):
        return tuple(read_words(word, vlcport))
    try:
        with open(0 if word == "-" else word, "rb", closefd=word != "-") as file:
            data = file.read()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SetupError(say("cannot read {name}: {reason}", name=word, reason=reason), 2) from None
    return tuple(read_script(data, word, vlcport))


def _plan(options: argparse.Namespace) -> ClientPlan:
    return ClientPlan(
        host=options.host,
        port=options.port,
        vlcport=options.vlcport,
        lasting=options.reconnect,
        watch=options.watch,
        player=find_player() if options.vlc else "",
        scheme=(options.vlc or "").removeprefix("auto"),
        script=None if options.script is None else _script(options.script, options.vlcport),
    )


def _run(plan: ClientPlan) -> int:
    sock = None if plan.lasting else connect(plan.host, plan.port)
    loop = Loop(reraise, selectors.SelectSelector())
    app = App(loop, plan, Backoff(random.random))
    try:
        words = tuple(verb.value for verb in Verb)
        typed = plan.script is None
        console = open_console(loop, app, words, typed=typed, watch=plan.watch)
        interrupts = dict.fromkeys(("SIGINT", "SIGTERM", "SIGQUIT"), app.interrupt)
        for name, callback in {"SIGHUP": app.leave, **interrupts}.items():
            signum = getattr(signal, name, None)  # not every system has them all
            # Ignored by nohup, or by a script's &.
            if signum is not None and signal.getsignal(signum) is not signal.SIG_IGN:
                loop.on_signal(signum, callback)
        try:
            app.start(console, sock)
            loop.run()
        finally:
            app.close()
    finally:
        loop.close()
        if sock is not None:
            sock.close()
    return app.status


def main() -> int:
    """Run the client; return its exit status."""
    messages.use(messages.language(os.environ))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=messages.PLAIN)
    try:
        return _run(_plan(_parse(sys.argv[1:])))
    except SetupError as error:
        print(f"{program_name()}: {error}", file=sys.stderr)
        return error.status


if __name__ == "__main__":
    sys.exit(main())
