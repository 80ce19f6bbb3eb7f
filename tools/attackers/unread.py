"""A terminal that nobody reads: `python -m tools.attackers.unread WORD...` has stderr there."""

import os
import pty
import sys

if __name__ == "__main__":
    master, slave = pty.openpty()
    os.set_inheritable(master, True)  # or the terminal would be gone
    os.dup2(slave, 2)
    os.execvp(sys.argv[1], sys.argv[1:])
