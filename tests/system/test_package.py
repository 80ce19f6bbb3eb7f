"""Wheel and sdist, and what is installed from them: the commands `relay` and `relay-client`."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import urllib.request
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from relaylib import __version__
from tools.lab.client import PseudoTerminal
from tools.lab.process import PATIENCE, ROOT, ChildProcess, NeedError
from tools.lab.relay import RelayProcess
from tools.lab.reloads import reload
from tools.lab.sockets import udp_socket
from tools.lab.web import Packets

NOT_SOURCE = shutil.ignore_patterns(
    ".git", ".venv", ".*_cache", ".hypothesis", "__pycache__", "build", "dist", "*.egg-info"
)
"""What lies about in a working copy."""

NEWER = "1000.0"

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A copy of the source, to build in."""
    return Path(shutil.copytree(ROOT, tmp_path / "source", ignore=NOT_SOURCE))


def build(source: Path, *options: str) -> str:
    """Build, into dist; return what was said.

    Raises:
        NeedError: what builds is too old.
    """
    if int(metadata.version("setuptools").partition(".")[0]) < 77:
        raise NeedError("needs setuptools 77")
    status, text = said(sys.executable, "-m", "build", "--no-isolation", *options, str(source))
    assert status == 0, text
    return text


def environment(directory: Path, wheel: Path) -> Path:
    """Make an environment of what the wheel depends on, and nothing else; install the wheel."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", directory], check=True)
    packages = next(directory.glob("lib/python*/site-packages"))
    about = zipfile.ZipFile(wheel).read(f"relay-{__version__}.dist-info/METADATA").decode()
    for name in re.findall(r"^Requires-Dist: ([\w-]+)[^;\n]*$", about, re.MULTILINE):
        found = metadata.distribution(name)
        for top in {file.parts[0] for file in found.files or ()} - {".."}:
            (packages / top).symlink_to(str(found.locate_file(top)))
    install(wheel, directory)
    return directory


def install(wheel: Path, directory: Path) -> None:
    """Install, or upgrade in place, without asking anybody for packages."""
    pip = (sys.executable, "-m", "pip", "--python", directory / "bin" / "python")
    options = ("--quiet", "--no-index", "--no-deps", "--force-reinstall")
    subprocess.run([*pip, "install", *options, wheel], check=True)


def said(*words: str) -> tuple[int, str]:
    """Run a command to its end, elsewhere; return its exit status and all that it said."""
    done = subprocess.run(
        words,
        cwd="/",
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


def test_what_is_built(source: Path) -> None:
    """Both build without a warning, nothing is missing, and no common name is taken."""
    assert "warn" not in build(source).lower()
    wheel, sdist = (next(source.glob(f"dist/*{kind}")) for kind in (".whl", ".tar.gz"))
    inside = set(zipfile.ZipFile(wheel).namelist())
    assert {name.split("/")[0] for name in inside if f"relay-{__version__}." not in name} == {
        "relaylib",
        "relay_programs",
    }
    paths = [ROOT / "relay.py", ROOT / "client.py", *(ROOT / "relaylib").rglob("*.*")]
    program = {str(path.relative_to(ROOT)) for path in paths if path.suffix != ".pyc"}
    assert program <= {name.removeprefix("relay_programs/") for name in inside}
    assert {
        "man/man1/relay.1",
        "bash-completion/completions/relay-client.bash",
        "zsh/site-functions/_relay",
        "fish/vendor_completions.d/relay.fish",
    } <= {name.partition(".data/data/share/")[2] for name in inside}
    with tarfile.open(sdist) as tar:
        kept = {name.partition("/")[2] for name in tar.getnames()}
    assert {"LICENSE", "Makefile", "tools/fake_vlc.py", "tests/conftest.py", *program} <= kept


def test_the_installed_commands(source: Path, tmp_path: Path) -> None:
    """Relay, client and page work, each by its name, and a reload takes an upgrade in place."""
    build(source, "--wheel")
    wheel = next(source.glob("dist/*.whl"))
    bin_ = environment(tmp_path / "env", wheel) / "bin"
    for name, wrong in (("relay", "--nonsense"), ("relay-client", "host")):
        status, text = said(str(bin_ / name), wrong)
        assert status == 2
        assert text.startswith(f"{name}: ")
        assert f"\n  {name} " in said(str(bin_ / name), "--help")[1]
    assert said(str(bin_ / "relay"), "--version") == (0, f"relay {__version__}\n")

    with PseudoTerminal(str(bin_ / "relay"), "127.0.0.1", "0") as terminal:
        terminal.contains("Ctrl-C ends the relay.")
        assert "  relay-client 127.0.0.1 " in terminal.text
        assert ".py" not in terminal.text

    start = ("sh", "-c", f'shift 2; cd / && exec {bin_ / "relay"} "$@"', "sh")
    with RelayProcess("--http", "0", prefix=start) as relay, udp_socket() as player:
        words = ("127.0.0.1", str(relay.port), str(player.getsockname()[1]))
        with (
            ChildProcess(bin_ / "relay-client", *words, stdin=subprocess.PIPE) as client,
            Packets(relay.ingest_port),
        ):
            os.write(client.process.stdin.fileno(), b"CONECTAR\n")  # type: ignore[union-attr]
            player.settimeout(PATIENCE)
            assert player.recv(2048)
            upgrade(source, bin_.parent)
            reload(relay)
            assert relay.events("reloaded", version=NEWER, clients=1)
            page = f"http://127.0.0.1:{relay.events('http_listening')[0]['port']}/"
            with urllib.request.urlopen(page, timeout=PATIENCE) as answer:
                assert b"<video" in answer.read()
            assert player.recv(2048)
            client.process.stdin.close()  # type: ignore[union-attr]
            assert (client.wait(), client.stdout) == (0, ["OK\n", "OK\n"])
        assert relay.stop() == 0


def upgrade(source: Path, directory: Path) -> None:
    """Install a newer version over the one that runs."""
    (source / "relaylib" / "__init__.py").write_text(f'__version__ = "{NEWER}"\n')
    build(source, "--wheel")
    install(source / "dist" / f"relay-{NEWER}-py3-none-any.whl", directory)
