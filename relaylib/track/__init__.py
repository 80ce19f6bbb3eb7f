"""The stream's packets, whole and in order, in one ring for all who want them; and the verdict.

Start with `track`: places, entry points, breaks.
`ring` keeps the bytes and says when they came. `walk` is the one reading of the stream: it follows
the history and finds packets, entry points, tables, codecs and faults in the same pass. `health`
makes a verdict of that, and of what the other rooms count.

A reader that wants datagrams as they came reads the history instead.
"""
