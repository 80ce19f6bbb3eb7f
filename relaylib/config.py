"""The configuration: a frozen dataclass, made from the command line and from nothing else."""

import argparse
import ipaddress
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from itertools import chain
from typing import Any

from relaylib import __version__
from relaylib.cli import FileParser, Parser, examples, host, number, port
from relaylib.log import LEVELS
from relaylib.net import mrl
from relaylib.net.access import HTTP_CONNECTIONS, Limits
from relaylib.net.address import show
from relaylib.net.mrl import Mrl
from relaylib.net.networks import ANY, PRIVATE, Network

Group = argparse._ArgumentGroup

Asked = tuple[str, int, int | str | None]
"""Where to listen: host, port, and the ingest as a port, as an MRL, or None for the same port."""

COALESCE_MAX_MS = 100.0
"""Viewers would notice more: players buffer no more than a few hundred milliseconds."""

MAX_CLIENTS = 1_000_000
"""More than a machine has descriptors for."""

HTTP_PORT = 8080
"""The usual port of a web page for programs that may not use port 80."""

HTTP_COALESCE_MS = (10.0, 1000.0)
"""Bounds: shorter ones cost more than they give, with longer ones a player's buffer runs empty."""

HTTP_HISTORY = 60.0
"""Seconds that are kept with HTTP, unless --timeshift says otherwise."""

MAX_MIB = 65_536
"""An hour of 150 Mb/s."""

EXAMPLES = """
examples:
  relay.py                              listen on every address, port 9000
  relay.py 192.168.1.5 7000             on one address and another port
  relay.py :: 9000                      IPv6 and IPv4
  relay.py --ingest-port 5000           control on TCP 9000, the stream on UDP 5000
  relay.py --ingest udp://@239.1.1.1:5004
                                        the stream is a multicast group
  relay.py --ingest 'udp://10.0.0.5@232.1.1.1:5004?iface=eth1'
                                        one of a single source, on that interface
  relay.py --allow private --allow 203.0.113.0/24
                                        viewers from there, too
  relay.py --allow any --max-clients 200
                                        viewers from anywhere, 200 at most
  relay.py --max-egress 900M            no more viewers than a gigabit link carries
  relay.py --allow-source 192.168.1.20  only this encoder may send the stream
  relay.py --to udp://10.0.0.7:5004 --to "udp://239.2.2.2:5004?ttl=4&iface=eth0"
                                        to a screen and a group, whoever asks or not
  relay.py --coalesce 0                 forward every datagram at once, at any cost
  relay.py --timeshift 600              viewers may go back ten minutes
  relay.py --start keyframe             a picture at once
  relay.py --record-faults /var/lib/relay
                                        record the stream around a fault there: in a
                                        directory of the relay's own (mkdir -m 700)
  relay.py --http 8080                  watch by HTTP, too: http://.../live.ts
  relay.py --log-format json --log-level debug 2>relay.log
  relay.py @relay.conf                  options from a file, one or more a line;
                                        SIGHUP reloads with it and loses nobody
  relay.py --check @relay.conf          say whether the options are right, and end
  relay.py --doctor @/etc/relay.conf    what would go wrong here, and what to do
"""


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that can be configured, in the order of --help. Times are in seconds."""

    host: str = "0.0.0.0"
    port: int = 9000
    allow: tuple[Network, ...] = PRIVATE
    """Where viewers may come from. An open relay is found and abused, so: not the Internet."""
    allow_source: tuple[Network, ...] = ANY
    """Where the stream may come from. Open, because the first source locks the ingest anyway."""
    max_clients: int = 1000
    """Connections at once. 1,000 viewers of a 5 Mb/s stream are 5 Gb/s: more than most links."""
    max_clients_per_ip: int = 32
    """Connections at once from one address: a class of thirty at the terminals of one server. It
    takes 32 such addresses to fill the relay, and 5 Mb/s to each are 160 Mb/s: not a whole link."""
    max_egress: float | None = None
    """Bits a second of all that is sent, HLS left out, above which the relay declines viewers;
    None: no limit."""
    idle_timeout: float = 60.0
    """Time a connection may take to ask for the stream: enough to read AYUDA, and no more."""
    ingest_port: int | None = None
    """UDP port of the ingest; None: the same as the control port."""
    ingest: Mrl | None = None
    """Where the stream comes in; None: at `host` and `ingest_port`."""
    source_timeout: float = 2.0
    """Silence after which another source may take over: longer than any encoder's pause between two
    frames, short enough for a viewer to wait for the standby."""
    failover_errors: int | None = None
    """Continuity errors a second, for some seconds, after which a source gives way to a standby
    that has none; None: however many. Off, because it means to look at every packet."""
    prefer: tuple[Network, ...] = ()
    """The source that gets the ingest back when it has been healthy for some seconds."""
    to: tuple[Mrl, ...] = ()
    """Fixed outputs: hosts and groups that get the stream without asking for it."""
    coalesce: float | None = None
    """Longest time for which datagrams may gather; None: the relay finds out by itself."""
    segmentation: bool = True
    """Use UDP_SEGMENT where the system has it."""
    timeshift: float = 0.0
    """Seconds of the stream that are kept for viewers who want to go back; 0: none."""
    timeshift_mib: int = 256
    """Most memory for that, in MiB: a minute of 36 Mb/s."""
    start: str = "live"
    """Where viewers start: with what comes next, or at the latest entry point."""
    inspect: bool = True
    """Look into the stream, to say what is wrong and whose fault it is."""
    record_faults: str | None = None
    """Directory for recordings of the stream around a fault; None: none are made."""
    record_mib: int = 256
    """Most that they may take in all, in MiB: three of a 50 Mb/s stream, seven of a 20 Mb/s one."""
    report: float | None = None
    """Seconds between two lines about everything; None: only when asked for by a signal."""
    http: tuple[str, int | None] | None = None
    """Where to listen for HTTP; None: nowhere. No port: `HTTP_PORT`, or a free one."""
    http_host: tuple[str, ...] = ()
    """Names by which browsers may call the relay, beside its addresses and the machine's name."""
    http_coalesce: float = 0.05
    """Seconds between two writes to a viewer: at 5 Mb/s 31 KiB, of which 100 ms would save a third,
    and 10 ms cost four times as much."""
    max_http_clients: int = 1000
    """HTTP connections at once: with the viewers' two descriptors each fewer than 4,096."""
    max_http_clients_per_ip: int = 128
    """HTTP connections at once from one address: a class of thirty, whose browsers take some."""
    trusted_proxy: tuple[Network, ...] = ()
    """Proxies whose X-Forwarded-For is used."""
    cors: str | None = None
    """Origin whose pages may read the stream by HTTP; "*": any; None: none but our own."""
    log_format: str = "auto"
    log_level: str = "info"
    check: bool = False
    """Only say whether the configuration is right."""
    doctor: bool = False
    """Only check this machine, and say what would go wrong."""
    json: bool = False
    """Write the findings of `doctor` as JSON."""
    words: tuple[str, ...] = field(default=(), compare=False, repr=False)
    """Words of the command line, with the words of files in place of the files' names."""

    @property
    def asked(self) -> Asked:
        """Where to listen, to be compared with what a reloaded program did."""
        return self.host, self.port, str(self.ingest) if self.ingest else self.ingest_port

    def limits(self) -> Limits:
        """Return the part that `Access` enforces."""
        return Limits(self.allow, self.max_clients, self.max_clients_per_ip)

    @property
    def looks(self) -> bool:
        """Whether any option needs the relay to look into the stream."""
        follows = self.failover_errors is not None or bool(self.prefer)
        return self.inspect or self.http is not None or follows

    def http_limits(self) -> Limits:
        """Return the same for HTTP."""
        return Limits(
            self.allow,
            self.max_http_clients,
            self.max_http_clients_per_ip,
            exempt=self.trusted_proxy,
            connections=HTTP_CONNECTIONS,
        )


def parse(argv: Sequence[str], prog: str = "relay.py") -> Config:
    """Make the configuration from the words of the command line of `prog`.

    Raises:
        SystemExit: after --help or --version (0), or a line on stderr about what is wrong (2).
    """
    parser = make_parser(prog)
    options = vars(parser.parse(argv))
    ingest: Mrl | None = options["ingest"]
    if ingest is not None and ingest.source:
        if options["allow_source"]:
            parser.reject(
                f"--ingest names {ingest.source} as the one source: leave out --allow-source"
            )
        options["allow_source"] = [_networks(ingest.source)]
    repeated = {"allow": PRIVATE, "allow_source": ANY, "prefer": (), "trusted_proxy": ()}
    for name, default in repeated.items():
        options[name] = tuple(chain.from_iterable(options[name] or [default]))
    if options["http"] is not None:
        where, at = options["http"]
        options["http"] = (where or options["host"], at)
    options["http_host"] = tuple(options["http_host"] or ())
    if options["timeshift"] is None:
        options["timeshift"] = HTTP_HISTORY if options["http"] else 0.0
    options["words"] = parser.words
    config = Config(**options)
    if config.json and not config.doctor:
        parser.reject("--json goes with --doctor")
    if not config.inspect and config.record_faults:
        parser.reject("--record-faults needs to look into the stream: not with --no-inspect")
    if not config.inspect and config.start == "keyframe":
        parser.reject("--start keyframe needs to look into the stream: not with --no-inspect")
    return config


def make_parser(prog: str) -> FileParser:
    """Return the parser of the command line, for a program that was called by this name."""
    parser = FileParser(
        prog=prog,
        description="Relay a live UDP stream to every viewer who asks for it over TCP.",
        epilog=examples(EXAMPLES, "relay.py", prog),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_addresses(parser)
    _add_access(parser.add_argument_group("who may, and how much"))
    _add_ingest(parser.add_argument_group("where the stream comes from"))
    _add_outputs(parser.add_argument_group("where it goes"))
    _add_history(parser.add_argument_group("going back"))
    _add_inspection(parser.add_argument_group("whose fault it is"))
    _add_http(parser.add_argument_group("the web"))
    _add_program(parser.add_argument_group("the program"))
    parser.set_defaults(**{field.name: field.default for field in fields(Config)})
    for repeated in ("allow", "allow_source", "prefer", "http_host", "trusted_proxy"):
        parser.set_defaults(**{repeated: None})
    parser.set_defaults(timeshift=None)
    return parser


def _add_addresses(parser: Parser) -> None:
    parser.add_argument(
        "host",
        nargs="?",
        metavar="HOST",
        type=host,
        help="address to listen on (%(default)s; :: for IPv4 and IPv6)",
    )
    parser.add_argument(
        "port",
        nargs="?",
        metavar="PORT",
        type=port,
        help="port for control (TCP) and stream (UDP) (%(default)s; 0: any free one)",
    )


def _add_access(group: Group) -> None:
    add = group.add_argument
    add("--allow", metavar="CIDR|private|any", action="append", type=_networks,
        help="where viewers may come from (private, which includes loopback and link-local); "
        "repeat it to name several; this machine's own addresses always may")  # fmt: skip
    add("--allow-source", metavar="CIDR|private|any", action="append", type=_networks,
        help="where the stream may come from, likewise (any)")  # fmt: skip
    add("--max-clients", metavar="N", type=_count, help="connections at once (%(default)s)")
    add("--max-clients-per-ip", metavar="N", type=_count,
        help="the same from one address other than loopback (%(default)s)")  # fmt: skip
    add("--max-egress", metavar="RATE", type=_rate,
        help="decline viewers for whom the way out has no room left: bits a second of all that is "
        "sent, headers included, HLS left out, e.g. 900M (no limit)")  # fmt: skip
    add("--idle-timeout", metavar="S", type=_seconds,
        help="seconds a connection may take to ask for the stream (%(default)g)")  # fmt: skip


def _add_ingest(group: Group) -> None:
    add = group.add_argument
    where = group.add_mutually_exclusive_group().add_argument
    where("--ingest-port", metavar="N", type=port, help="UDP port for the stream (that of control)")
    where("--ingest", metavar="MRL", type=_ingest,
        help="where the stream comes in, as VLC writes it: udp://@:5004, udp://@ADDRESS:5004, "
        "udp://@GROUP:5004, udp://SOURCE@GROUP:5004, rtp:// likewise, IPv6 in brackets; "
        "?iface=NAME, or an address: the interface for a group")  # fmt: skip
    add("--source-timeout", metavar="S", type=_seconds,
        help="seconds of silence before another source may take over (%(default)g)")  # fmt: skip
    add("--failover-errors", metavar="N", type=_errors,
        help="let a standby without errors take over from a source with more than N continuity "
        "errors a second for 3 s (off)")  # fmt: skip
    add("--prefer", metavar="CIDR", action="append", type=_networks,
        help="the source that gets the ingest back when it has been healthy for 10 s; repeat it to "
        "name several (none)")  # fmt: skip


def _add_outputs(group: Group) -> None:
    add = group.add_argument
    add("--to", metavar="MRL", action=_AppendOutput, type=_output,
        help="send the stream there all the time: udp://HOST:PORT, or to a group, "
        "udp://239.2.2.2:5004?ttl=4&iface=eth0 (ttl 1); repeat it to name several "
        "(none)")  # fmt: skip
    add("--coalesce", metavar="MS|auto|0", type=_coalesce,
        help="longest time for which datagrams may gather, to save CPU "
        "(auto: up to 10 ms when there are many viewers; below 2 ms: none)")  # fmt: skip
    add("--no-segmentation", dest="segmentation", action="store_false",
        help="never hand whole batches to the kernel (UDP_SEGMENT)")  # fmt: skip


def _add_history(group: Group) -> None:
    add = group.add_argument
    add("--timeshift", metavar="S", type=_timeshift,
        help="seconds of the stream to keep: viewers may pause and go on where they paused, and go "
        f"back (0, which is off; {HTTP_HISTORY:g} with --http)")  # fmt: skip
    add("--timeshift-mib", metavar="N", type=_mebibytes,
        help="most memory for that, in MiB; with --http, half of it each for viewers by UDP and "
        "by HTTP (%(default)s)")  # fmt: skip
    add("--start", choices=("live", "keyframe"),
        help="where viewers start: with what comes next, or, for a picture at once, at the latest "
        "entry point, sent faster until it is live (%(default)s)")  # fmt: skip


def _add_inspection(group: Group) -> None:
    add = group.add_argument
    add("--no-inspect", dest="inspect", action="store_false",
        help="judge nothing: no verdict; without --http, do not look into the stream at "
        "all")  # fmt: skip
    add("--record-faults", metavar="DIR", type=_directory,
        help="when the stream stops being healthy, record it there from 10 s before until 5 s "
        "after, as a capture (pcapng); at most once a minute (off)")  # fmt: skip
    add("--record-mib", metavar="N", type=_mebibytes,
        help="most for all of them, in MiB: the oldest give way (%(default)s)")  # fmt: skip
    add("--report", metavar="S", type=_seconds,
        help="log a line about everything this often (off; SIGUSR1 asks for one)")  # fmt: skip


def _add_http(group: Group) -> None:
    add = group.add_argument
    add("--http", metavar="[HOST:]PORT|auto", type=_http,
        help="let people watch by HTTP, too, there; HOST, which may be [::], is that of control "
        f"unless named; auto: port {HTTP_PORT}, or a free one if it is taken (off)")  # fmt: skip
    add("--http-host", metavar="NAME", action="append", type=_http_name,
        help="a name of this relay in browsers, beside its addresses, localhost and the machine's "
        "name; repeat it to name several (none)")  # fmt: skip
    add("--http-coalesce", metavar="MS", type=_http_coalesce,
        help="milliseconds between two writes to a viewer (50)")  # fmt: skip
    add("--max-http-clients", metavar="N", type=_count,
        help="HTTP connections at once (%(default)s)")  # fmt: skip
    add("--max-http-clients-per-ip", metavar="N", type=_count,
        help="the same from one address other than loopback (%(default)s)")  # fmt: skip
    add("--trusted-proxy", metavar="CIDR", action="append", type=_networks,
        help="believe X-Forwarded-For from there; repeat it to name several (none)")  # fmt: skip
    add("--cors", metavar="ORIGIN|*", type=_origin,
        help="let pages of this origin read the stream: https://example.org (none)")  # fmt: skip


def _add_program(group: Group) -> None:
    add = group.add_argument
    add("--log-format", choices=("auto", "console", "json"),
        help="auto: console on a terminal, JSON lines otherwise")  # fmt: skip
    add("--log-level", choices=tuple(LEVELS), help="least level that is logged (%(default)s)")
    add("--check", action="store_true", help="check the options and end")
    add("--doctor", action="store_true",
        help="look at this machine, with these options: what would go wrong, and what to type; "
        "send a stream through a relay, and end (status 1: something will not work)")  # fmt: skip
    add("--json", action="store_true", help="with --doctor: print one JSON object")
    add("--version", action="version", version=f"relay {__version__}")


def _ingest(text: str) -> Mrl:
    try:
        found = mrl.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if found.ttl is not None:
        raise argparse.ArgumentTypeError(f"a ttl is for --to, for what is sent: {text!r}")
    if found.iface and not found.is_group:
        raise argparse.ArgumentTypeError(
            f"iface is for multicast groups; here write its address, udp://@ADDRESS: {text!r}"
        )
    return found


class _AppendOutput(argparse._AppendAction):
    """Append an output, unless the stream goes there already."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        outputs: tuple[Mrl, ...] = getattr(namespace, self.dest)
        if values.way in {each.way for each in outputs}:
            where = show((values.host, values.port))
            raise argparse.ArgumentError(self, f"named twice: {where}; once is enough")
        setattr(namespace, self.dest, (*outputs, values))


def _output(text: str) -> Mrl:
    try:
        return mrl.parse_output(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _whole(text: str, low: int, high: int, what: str) -> int:
    digits = text.isascii() and text.isdecimal() and len(text) <= len(str(high))
    if digits and low <= int(text) <= high:
        return int(text)
    raise argparse.ArgumentTypeError(f"not a number of {what} ({low} to {high}): {text!r}")


def _count(text: str) -> int:
    return _whole(text, 1, MAX_CLIENTS, "connections")


def _errors(text: str) -> int:
    return _whole(text, 0, 999_999, "errors a second")


def _http(text: str) -> tuple[str, int | None]:
    where, _, at = text.rpartition(":")
    if ":" in where and not (where.startswith("[") and where.endswith("]")):
        raise argparse.ArgumentTypeError(f"write an IPv6 address in brackets: {text!r}")
    return (host(where) if where else ""), (None if at == "auto" else port(at))


def _http_name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,253}", text):
        raise argparse.ArgumentTypeError(f"not a name of a host: {text!r}")
    return text.lower().rstrip(".")


def _http_coalesce(text: str) -> float:
    low, high = HTTP_COALESCE_MS
    return number(text, low, high, f"milliseconds from {low:g} to {high:g}") / 1000


def _origin(text: str) -> str:
    if text != "*" and not re.fullmatch(r"https?://[A-Za-z0-9._:\[\]-]+", text):
        raise argparse.ArgumentTypeError(
            f"not an origin, like https://example.org, nor *: {text!r}"
        )
    return text


def _seconds(text: str) -> float:
    return number(text, 0.1, 86_400, "seconds from 0.1 to 86400")


def _timeshift(text: str) -> float:
    return number(text, 0, 86_400, "seconds from 0 to 86400")


def _mebibytes(text: str) -> int:
    return _whole(text, 1, MAX_MIB, "MiB")


def _directory(text: str) -> str:
    if os.path.isdir(text) and os.access(text, os.R_OK | os.W_OK | os.X_OK):
        return text
    raise argparse.ArgumentTypeError(
        f"not a directory that the relay may read and write to: {text!r}"
    )


def _rate(text: str) -> float:
    unit = _UNITS.get(text[-1:], 1)
    digits = text if unit == 1 else text[:-1]
    return unit * number(
        digits, 1e3 / unit, 1e12 / unit, "bits a second from 1k to 1000G, like 900M"
    )


_UNITS = {"k": 1e3, "M": 1e6, "G": 1e9}


def _coalesce(text: str) -> float | None:
    if text == "auto":
        return None
    return (
        number(text, 0, COALESCE_MAX_MS, f"auto, nor milliseconds from 0 to {COALESCE_MAX_MS:g}")
        / 1000
    )


def _networks(text: str) -> tuple[Network, ...]:
    if text in ("any", "private"):
        return ANY if text == "any" else PRIVATE
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"not an address or network (192.0.2.0/24, private, any): {text!r}"
        ) from None
    if network.version == 6 and (network.network_address.ipv4_mapped or "%" in text):
        raise argparse.ArgumentTypeError(
            f"write IPv4 as 192.0.2.1, and IPv6 without a zone (%): {text!r}"
        )
    return (network,)
