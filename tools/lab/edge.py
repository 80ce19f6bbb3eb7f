"""Stock nginx and Varnish as edges before a relay, with the configurations of `contrib`."""

import os
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

from tools.lab.media import NOBODY
from tools.lab.process import ROOT, ChildProcess, need, wait_for
from tools.lab.sockets import unused_port
from tools.lab.web import HttpViewer

CONF = ROOT / "contrib/nginx.conf"

VCL = ROOT / "contrib/varnish.vcl"

OPTIONS = ("-s", "malloc,64m", "-p", "http_req_size=4k")
"""Of Varnish: those that its configuration asks for, with less memory."""

SUBSTITUTES = {
    "server 127.0.0.1:8080;": "server 127.0.0.1:{origin};",
    "listen 8081 ": "listen 127.0.0.1:{port} ",
    "worker_processes auto;": "worker_processes 1;",
    "access_log off;": 'log_format asked "$upstream_addr $uri"; access_log asked.log asked;',
}
"""What a test needs other than it stands there: ports, and what was asked of whom."""


def answers_404(port: int) -> bool:
    """Tell whether an edge is there: it has nothing but HLS."""
    try:
        with HttpViewer(port) as browser:
            return browser.get("/").status == 404
    except ConnectionRefusedError:
        return False


def as_nobody() -> tuple[str, ...]:
    """Return what goes before a command so that root does not run it as root."""
    drop = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
    return drop if os.geteuid() == 0 else ()


class Edge:
    """An nginx of the project's configuration, as nobody, in a folder of its own."""

    def __init__(self, room: Path, origin: int) -> None:
        need("nginx", "setpriv")
        self.port, self._origin = unused_port(), origin
        self._home = room / f"edge-{self.port}"
        text = CONF.read_text()
        for before, after in SUBSTITUTES.items():
            assert before in text
            text = text.replace(before, after.format(origin=origin, port=self.port))
        for folder in (self._home, self._home / "cache", self._home / "tmp"):
            folder.mkdir()
            if os.geteuid() == 0:
                os.chown(folder, NOBODY, NOBODY)
        (self._home / "nginx.conf").write_text(text)
        words = ("nginx", "-p", self._home, "-c", self._home / "nginx.conf", "-e", "stderr")
        self.program = ChildProcess(*as_nobody(), *words)
        try:
            wait_for(lambda: answers_404(self.port), "nginx")
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self) -> "Edge":
        return self

    def __exit__(self, *exc: object) -> None:
        self.program.stop()  # not killed: its children would stay
        self.program.__exit__(*exc)

    def asked(self) -> Counter[str]:
        """Return what was asked of the origin since the last time, and how often."""
        log, found = self._home / "asked.log", Counter[str]()
        for line in log.read_text().splitlines():
            whom, path = line.split()
            found[path] += whom == f"127.0.0.1:{self._origin}"
        log.write_text("")
        return +found


class Varnish:
    """A Varnish of the project's configuration, and what it asks of the relay."""

    def __init__(self, room: Path, origin: int) -> None:
        need("varnishd", "varnishncsa", "setpriv")
        self.port = unused_port()
        home, text = room / "varnish", VCL.read_text()
        assert '.port = "8080"' in text
        (room / "edge.vcl").write_text(text.replace("8080", str(origin)))
        words = ("-F", "-n", home, "-a", f"127.0.0.1:{self.port}", "-f", room / "edge.vcl")
        with ExitStack() as stack:
            program = stack.enter_context(
                ChildProcess(
                    *as_nobody(), "varnishd", *words, "-s", "malloc,64m", "-p", "http_req_size=4k"
                )
            )
            stack.callback(program.stop)  # not killed: its child would stay
            wait_for(lambda: answers_404(self.port), "Varnish")
            self._log = stack.enter_context(
                ChildProcess("varnishncsa", "-b", "-n", home, "-F", "%U")
            )
            self._stack = stack.pop_all()

    def __enter__(self) -> "Varnish":
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def asked(self) -> Counter[str]:
        """Return what was asked of the relay, and how often."""
        return Counter(line.strip() for line in self._log.stdout)
