"""The relay's rooms (packages). A datagram goes `net`, `stream`; a command `net`, `protocol`,
`viewers`. `media` knows what is inside a datagram, `web` has those who watch by HTTP, `lifecycle`
starts and restarts the program, `doctor` looks at the machine, `client` is the console client.

What every room uses lies here: `config` (the relay's options), `cli` (what all programs ask of
argparse), `errors`, `log`, `stdio` (writing without waiting). `relay.py` builds the parts and joins
them: a new part is added there, and in `lifecycle/handover.py` if it has to survive a restart.

A new way to watch is a room of its own beside `viewers` and `web`: they use `stream`, never each
other; what one shows of the other it is given by `relay.py`.
`tests/test_architecture.py` holds the table of which room may know which.
"""

__version__ = "1.0.0"
