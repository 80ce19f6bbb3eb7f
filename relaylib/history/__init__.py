"""The datagrams of the last seconds, as they came. Start with `history`, the ring that has them.

It is filled after the outputs. Viewers by UDP who are behind read it, and so does the walk, which
makes the track of it. `recorder` writes what was around a fault to the files that `recordings`
keeps.
"""
