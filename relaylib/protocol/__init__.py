"""The control protocol, pure: bytes in; commands, errors and replies out.

The way of a command, and the order to read in: `lines` puts lines together from bytes, `commands`
makes a command of a line, `session` knows what is valid when. `viewers/viewer.py` carries it out.

A new command is a `Verb` and, if it takes an argument, its parsing in `commands`; a row of the
table in `session`; its effect in `Viewer._EFFECTS`; what it means, for a person, in
`client/messages.py`. What the protocol promises is in docs/PROTOCOL.md, which tests hold to this.
"""
