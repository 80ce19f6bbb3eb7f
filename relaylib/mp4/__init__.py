"""A transport stream made into fragmented MP4, for browsers. Pure. Start with `remuxer`.

`selection` chooses the streams, `pes` puts PES packets together, `nal` and `sound` make samples of
them, `boxes` writes what goes around those. Nothing is decoded.
"""
