"""Start, reload and end of the program. Read `reload` first: how a new program takes its place.

`check` tries it before, `handover` is the state that is passed on, `codec` its JSON; `stand_in`
relays meanwhile. `sockets` has the first sockets, `signals` the meaning of signals, `shutdown` the
end in order. `guide` prints the next steps at the start, `report` writes the periodic report,
`systemd` tells the service manager (`notify`).
"""
