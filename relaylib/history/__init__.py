"""The datagrams of the last seconds, as they came. Start with `history`, the ring that has them.

It is filled after the outputs. Outputs that are behind read it; the walk reads it, too, and fills
the track from it. `recorder` writes what was around a fault to the files that `recordings`
keeps.
"""
