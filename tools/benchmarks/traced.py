"""Runs a program under tracemalloc; for each byte on stdin prints how many bytes its objects take.

usage: traced.py PYTHON PROGRAM [ARGUMENT]...    (PYTHON is not used: this is put before a command)
"""

import gc
import os
import runpy
import sys
import threading
import tracemalloc
from pathlib import Path


def _answer() -> None:
    """Read the descriptor itself: a thread inside `sys.stdin` aborts the interpreter's exit."""
    while os.read(0, 1):
        gc.collect()
        print(tracemalloc.get_traced_memory()[0], flush=True)


if __name__ == "__main__":
    tracemalloc.start()
    threading.Thread(target=_answer, daemon=True).start()
    sys.argv = sys.argv[2:]
    sys.path[0] = str(Path(sys.argv[0]).resolve().parent)
    runpy.run_path(sys.argv[0], run_name="__main__")
