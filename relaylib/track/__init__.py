"""The stream's packets as they belong: one ring that is made once, for everybody who wants them.

Start with `track`: what a place is, where decoding can start, where the stream does not go on.
`ring` keeps the bytes and says when they came. `walk` is the one reading of the stream: it follows
the history and finds packets, entry points, tables, codecs and faults in the same pass. `health`
makes a verdict of that, and of what the other rooms count.

A reader that wants datagrams as they came reads the history instead.
"""
