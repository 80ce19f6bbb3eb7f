"""What tools that measure ask of the machine: a core for the relay alone, a C compiler, costs.

The relay gets one core to itself and everybody else (source, viewers, this program) the others, so
that they take no time from it, and the figures do not depend on the scheduler. The core is given by
a prefix of the command line, taskset(1), because a thread that this process starts meanwhile stays
as it was.
"""

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from relaylib.errors import SetupError
from tools.lab.process import ROOT, LabError

FAILURES = (LabError, AssertionError, OSError)
"""What the harness raises when something is not as it must be: for a test that is the end of it,
for a tool a line to print."""


def require_linux() -> None:
    """Raise SetupError without what the instruments need: SO_MEMINFO, CPU time in nanoseconds."""
    if sys.platform != "linux":
        raise SetupError("needs Linux")
    if not Path("/proc/self/schedstat").exists():
        raise SetupError("this kernel keeps no /proc/PID/schedstat (CONFIG_SCHED_INFO)")


def claim_core() -> tuple[str, ...]:
    """Take this process off the last of its cores; return the prefix that puts another one there.

    Where there is only one core they share it, and the prefix does nothing.
    """
    *others, last = sorted(os.sched_getaffinity(0))
    if others:
        os.sched_setaffinity(0, others)
    return on_core(last)


def on_core(core: int) -> tuple[str, ...]:
    """Return the prefix that runs a program on this core, with all its threads."""
    return ("taskset", "--cpu-list", str(core))


def compile_c(source: str, *options: str) -> Path:
    """Compile a file of `tools/` into `build/`, unless it is there; return the program.

    Raises:
        SetupError: there is no compiler, or it fails.
    """
    path, program = ROOT / "tools" / source, ROOT / "build" / Path(source).stem
    if program.exists() and program.stat().st_mtime > path.stat().st_mtime:
        return program
    if shutil.which("cc") is None:
        raise SetupError("no C compiler; on Debian: sudo apt-get install -y gcc libc6-dev")
    program.parent.mkdir(exist_ok=True)
    fresh = program.with_name(f"{program.name}.{os.getpid()}")  # others may be compiling it, too
    words = ["cc", "-O2", "-Wall", "-Wextra", *options, "-o", str(fresh), str(path)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SetupError(f"cannot compile {source}: {done.stderr.strip().splitlines()[0]}")
    return fresh.replace(program)


def cpu_seconds(pid: int) -> float:
    """CPU time of a process's living threads, in seconds with nanosecond resolution.

    The work that a `send` on the loopback causes, up to the receiving socket, is done and charged
    here. Source: /proc/PID/task/TID/schedstat, first field (Documentation/scheduler/sched-stats).
    """
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def memory(pid: int, field: str = "VmRSS") -> int:
    """KiB of resident memory; `VmHWM`: the most there ever was (proc(5))."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split(f"{field}:")[1].split()[0])
