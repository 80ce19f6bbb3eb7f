"""What is inside a stream, pure: RTP and MPEG-TS. Start with `mpegts`; the tools use it, too."""
