"""Start, restart and end of the program. Read `restart` first: how a new program takes its place.

`check` tries it before, `handover` is the state that is passed on, `codec` its JSON; `stand_in`
relays meanwhile. `sockets` is where the first sockets come from, `signals` who asks for what,
`shutdown` the end in order. `guide` is what a person is told at the start, `report` what anybody is
told when asked, `systemd` how a service manager is told; who has something to tell it calls
`notify`.
"""
