"""The relay's rooms. A datagram goes `net`, `stream`; a command `net`, `protocol`, `viewers`.

What everyone uses lies here: `config`, `cli` (the command line), `errors`, `log`. `media` knows
what is inside a datagram, `lifecycle` starts and restarts the program, `client` is the console
client.

A new way to watch (HTTP, say) is a room of its own beside `viewers`: both use `stream`, never each
other. `tests/test_architecture.py` holds the table of which room may know which.
"""

__version__ = "0.1.0"
