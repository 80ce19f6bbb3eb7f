"""Start, restart and end. Start with `restart`: how a new program takes the place of this one.

`check` tries it before, `handover` is what travels, as `codec` writes it. `sockets` is where the
first sockets come from, `signals` who asks for what, `shutdown` the end in order, `systemd` what a
service manager is told, `guide` what a person is.
"""
