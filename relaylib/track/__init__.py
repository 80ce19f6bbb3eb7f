"""The stream's packets, whole and in order, in one ring for all readers; and the verdict.

Start with `track`: places, entry points, breaks.
`ring` keeps the bytes and their times of arrival. `walk` is the one reading of the stream: it
follows the history and finds packets, entry points, tables, codecs and faults in the same pass.
`health` makes a verdict of the faults, and of the counters of other rooms.

A reader that wants datagrams as they came reads the history instead.
"""
