"""What is inside a stream, pure: bytes and times in, values out.

To read: `rtp` (the header around a payload) and `mpegts` (the packets inside), which only parse. To
judge: `health`, whose `Monitor` takes a source's datagrams, hands out packets and entry points, and
reports. Under it, from the outside
in: `form`, `reception` (RTP), `transport` (continuity and sync), `tables` and `psi` (programs),
`clock` (PCR), `elementary`, `codecs` and `video` (what a program consists of); `tr101290` has the
names of faults and counts them. `verdict` says whose fault they are, from counts that
`track/health` collects; `catalogue` has the sentences.

A new verdict word is a `Word` in `verdict`, its sentences in `catalogue` and `web/page/page.js`,
and its Spanish in `protocol/words` and `client/status`.

To keep: `pcapng` makes a capture file of datagrams, and `opening` begins a stream in the middle.
"""
