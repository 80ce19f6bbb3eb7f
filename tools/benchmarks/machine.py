"""What the benchmark asks of the machine: cores, a compiler, and what a process costs.

A contender gets one core to itself and everything else (source, this program) the others, so that
the source cannot take from the relay and the scheduler cannot deal luck.  A child inherits the
affinity that its parent has at the fork, so the parent puts it on for that moment.
"""

import contextlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from relaylib.errors import SetupError

ROOT = Path(__file__).resolve().parent.parent.parent


@contextlib.contextmanager
def on_core(core: int) -> Iterator[None]:
    """A process started inside this block runs on `core`, with all its threads."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def claim_core() -> int:
    """Take this process off the last core that it may use, if it has others; return that core."""
    *others, last = sorted(os.sched_getaffinity(0))
    if others:
        os.sched_setaffinity(0, others)
    return last


def compile_c(name: str, into: Path) -> Path:
    """Compile `tools/<name>.c` and return the program.

    Raises SetupError when there is no compiler or the compiler refuses.
    """
    compiler = shutil.which("cc")
    if compiler is None:
        raise SetupError("no C compiler for the reference; on Debian: sudo apt-get install -y gcc")
    into.mkdir(parents=True, exist_ok=True)
    program = into / name
    source = ROOT / "tools" / f"{name}.c"
    words = [compiler, "-O2", "-Wall", "-Wextra", "-o", str(program), str(source)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        first = next(iter(done.stderr.splitlines()), f"exit status {done.returncode}")
        raise SetupError(f"cannot compile {source.name}: {first}")
    return program


def cpu_seconds(pid: int) -> float:
    """CPU time of a process's living threads, in seconds with nanosecond resolution.

    The work that a `send` on the loopback causes, up to the receiving socket, is done and charged
    here.  Source: /proc/PID/task/TID/schedstat, first field (Documentation/scheduler/sched-stats).
    """
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def rss_bytes(pid: int) -> int:
    """Resident set size; proc(5)."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) * 1024


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    virtual = any(line.startswith("flags") and " hypervisor" in line for line in lines)
    return (names[0] if names else platform.machine()) + (", virtual machine" if virtual else "")


def _version(*words: str) -> str:
    """The version in the first line of a program's answer; empty when it is not installed."""
    if shutil.which(words[0]) is None:
        return ""
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    before_copyright = done.stdout.partition(" Copyright")[0].splitlines()[:1]
    return before_copyright[0].split()[-1] if before_copyright else ""


def describe() -> dict[str, str]:
    """The machine and the peers' versions, for whoever compares the figures; empty: not there."""
    return {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "kernel": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
        "GStreamer": _version("gst-launch-1.0", "--version"),
        "ffmpeg": _version("ffmpeg", "-version"),
        "cc": _version("cc", "--version"),
        "load average before": f"{os.getloadavg()[0]:.2f}",
        "net.core.rmem_max": Path("/proc/sys/net/core/rmem_max").read_text().strip(),
    }


def require_linux() -> None:
    """Raise SetupError without what the instruments need: SO_MEMINFO, CPU time in nanoseconds."""
    if sys.platform != "linux":
        raise SetupError("the benchmark needs Linux")
    if not Path("/proc/self/schedstat").exists():
        raise SetupError("this kernel keeps no /proc/PID/schedstat (CONFIG_SCHED_INFO)")
