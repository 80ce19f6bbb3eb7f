"""The relay's rooms (packages). Start with `channel`, which draws a datagram's way through them.

The stream: `source` (where it comes in), `outputs` (where datagrams go), `history` (datagrams as
they came), `track` (packets as a decoder wants them, and the verdict). `channel` joins these to one
stream, `snapshot` says how it is. `media` knows what is inside a datagram, `mp4` makes MP4 of it.

The doors: `viewers` by the control protocol (`protocol`), `web` by HTTP. They use the channel, and
never each other. Around them: `net` (the loop, sockets, addresses), `lifecycle` (starting,
reloading, stopping), `doctor` (`--doctor`), `client` (the console client).

What every room uses lies here: `config` (the options), `cli`, `errors`, `log`, `stdio`.
State that has to survive a reload is a field of the part's own dataclass, which `ChannelState` or
`lifecycle/handover.py` names. `tests/test_architecture.py` says which room may know which.
"""

__version__ = "1.0.0"
