"""What is inside a datagram, pure: bytes in, values out. So far only the tools use it.

Start with `rtp` (the header around a payload), then `mpegts` (the packets inside).
"""
