"""The datagrams of the last seconds, as they came. Start with `history`, the ring that has them.

It is filled after the outputs. Outputs that are behind read it; the walk reads it, too, and fills
the track from it. `recorder` writes the stream around a fault to files, which `recordings` names,
counts and deletes.
"""
