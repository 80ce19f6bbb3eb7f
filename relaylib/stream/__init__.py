"""The data path: datagrams in, batches, datagrams out. Start with `ingest`, then `fanout`.

It knows no viewers: whoever adds an output says whom to call when its port is closed.
"""
