"""What a Dockerfile builds, and its containers, without an engine.

The steps are carried out in overlays of this machine's own files, which stand for the base image:
no registry is asked for one. A container is such an overlay as the root directory of a process that
is PID 1 of a namespace of its own. Everything ends with the process that holds the mounts.
"""

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from tools.lab.process import ROOT, LabError, NeedError, Program, need, wait_for

_HOLD = """
chmod 755 "$0" && mount -t tmpfs tmpfs "$0" && echo ready && exec sleep 600
"""
_STAGE = """
mkdir "$0" "$0/upper" "$0/work" "$0/root" && cd "$0" &&
mount -t overlay overlay -o lowerdir=/,upperdir=upper,workdir=work root &&
mount --rbind /dev root/dev && mount -t proc proc root/proc && cd root &&
mkdir -p usr/local/bin && printf '#!/bin/sh\\nexec python -m pip "$@"\\n' >usr/local/bin/pip &&
printf '#!/bin/sh\\nexec %s "$@"\\n' "$1" >usr/local/bin/python && chmod 755 usr/local/bin/* &&
path=$(readlink -f "$1") &&
while path=$(dirname "$path"); [ "$path" != / ]; do chmod go+rx ".$path" || exit; done
"""
"""A base image: these files, this interpreter as `python`, and users may read it."""


class Image:
    """The image of ROOT's Dockerfile; `stack` takes it away again.

    The fields are what the Dockerfile sets: `stop_signal`, `health` (a command), `command`.
    """

    def __init__(self, stack: contextlib.ExitStack, directory: Path) -> None:
        """Build.

        Raises:
            NeedError: nothing can be mounted here.
            LabError: a step failed.
        """
        import dockerfile

        need("unshare", "nsenter", "chroot")
        self._place = directory / "image"
        self._place.mkdir()
        words = ("unshare", "--mount", "--propagation", "private", "sh", "-c", _HOLD, self._place)
        self._holder = holder = stack.enter_context(Program(*words))
        wait_for(lambda: holder.stdout or holder.process.poll() is not None, "a mount")
        if not holder.stdout:
            raise NeedError(f"needs root, to mount: {holder.stderr}")
        self._context = Path(shutil.copytree(ROOT, directory / "context", ignore=_left_out()))
        self._stages: dict[str, Path] = {}
        for step in dockerfile.parse_file(str(ROOT / "Dockerfile")):
            getattr(self, f"_{step.cmd.lower()}")(step.value, dict(_flag(f) for f in step.flags))

    def container(self, *words: str, network: bool = True) -> tuple[str, ...]:
        """Return the command that runs these words as PID 1; without network, a loopback alone."""
        space: tuple[str, ...] = (*self._enter(), "unshare", "--pid", "--fork", "--kill-child")
        space = (*space, f"--mount-proc={self._root}/proc")
        if not network:
            space = (*space, "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh")
        return (*space, *self._inside(*words))

    def run(self, *words: str, **environment: str) -> str:
        """Run a command as the image's user, in its directory; return what it said.

        Raises:
            LabError: it failed.
        """
        return self._do(*self._inside(*words, **environment))

    def _enter(self) -> tuple[str, ...]:
        return ("nsenter", "--mount", "--target", str(self._holder.pid))

    def _inside(self, *words: str, **environment: str) -> tuple[str, ...]:
        pairs = [f"{key}={value}" for key, value in {**self.environment, **environment}.items()]
        go = ("sh", "-c", f'cd {self._directory} && exec "$@"', "sh", *words)
        user = f"--userspec={self.user}:{self.user}"
        return ("env", "-i", *pairs, "chroot", user, str(self._root), *go)

    def _do(self, *words: str) -> str:
        done = subprocess.run(
            [*self._enter(), *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode:
            raise LabError(f"{' '.join(words)}: {done.stdout}")
        return done.stdout

    # --- instructions

    def _arg(self, value: tuple[str, ...], _flags: dict[str, str]) -> None:
        """The version of a base image, which has no say here."""

    def _from(self, value: tuple[str, ...], _flags: dict[str, str]) -> None:
        stage = self._place / str(len(self._stages))
        self._do("sh", "-c", _STAGE, str(stage), sys.executable)
        self._root = stage / "root"
        self._stages[value[-1]] = self._root
        self._directory, self.user = "/", "root"
        self.environment = {"PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}

    def _workdir(self, value: tuple[str, ...], _flags: dict[str, str]) -> None:
        self._directory = value[0]
        self._do("mkdir", "-p", f"{self._root}{self._directory}")

    def _copy(self, value: tuple[str, ...], flags: dict[str, str]) -> None:
        source, target = value
        if stage := flags.get("from"):
            self._do("cp", "-a", f"{self._stages[stage]}{source}", f"{self._root}{target}")
        else:
            self._do("cp", "-a", f"{self._context}/.", f"{self._root}{self._directory}")

    def _run(self, value: tuple[str, ...], _flags: dict[str, str]) -> None:
        kept = {key: text for key, text in os.environ.items() if key.startswith(("PIP_", "HOME"))}
        self.run("sh", "-c", *value, **kept)

    def _env(self, value: tuple[str, ...], _flags: dict[str, str]) -> None:
        for name, text in zip(value[::2], value[1::2], strict=True):
            self.environment[name] = text.replace("$PATH", self.environment["PATH"])

    def _user(self, value: tuple[str, ...], _flags: dict[str, str]) -> None:
        self.user = value[0]

    def _expose(self, value: tuple[str, ...], _flags: dict[str, str]) -> None:
        """Told to people, and to `docker run -P`."""

    def _stopsignal(self, value: tuple[str, ...], _flags: dict[str, str]) -> None:
        self.stop_signal = value[0]

    def _healthcheck(self, value: tuple[str, ...], _flags: dict[str, str]) -> None:
        self.health = value[1:]

    def _entrypoint(self, value: tuple[str, ...], _flags: dict[str, str]) -> None:
        self.command = value

    def _cmd(self, value: tuple[str, ...], _flags: dict[str, str]) -> None:
        self.command = (*self.command, *value)


def _flag(text: str) -> tuple[str, str]:
    name, _, value = text.removeprefix("--").partition("=")
    return name, value


def _left_out() -> Any:
    """Return what keeps out of the build's context what .dockerignore does: nearly everything."""
    everything, *lines = [
        line for line in (ROOT / ".dockerignore").read_text().split() if line[0] in "*!"
    ]
    assert everything == "*"
    kept = {ROOT / line[1:] for line in lines if line.startswith("!")}

    def left_out(folder: str, names: list[str]) -> list[str]:
        paths = {name: Path(folder, name) for name in names}
        return [
            name
            for name, path in paths.items()
            if name == "__pycache__"
            or not any(path.is_relative_to(one) or one.is_relative_to(path) for one in kept)
        ]

    return left_out
