"""The parts of the relay. Start with `relay.py`, then follow a datagram: `ingest`, `fanout`."""

__version__ = "0.1.0"
