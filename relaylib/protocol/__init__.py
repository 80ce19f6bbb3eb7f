"""The control protocol, pure: bytes, lines, commands, sessions. Start with `session`.

A new command is a verb in `commands`, a column of `session`'s table, and an action in
`viewers/viewer.py`.
"""
