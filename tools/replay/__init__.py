"""The parts of fake_vlc and capture: from a file to datagrams in time, and back.

A transport stream: `transport` (packets of a file) -> `restamp` (a loop without a seam) -> `pacing`
(when to send what). A capture: `captures` (the file) -> `packets` (its frames) -> `flows` (which of
them). Both then go through `faults` to the `sender`. Recording: `tap` (a socket) -> `captures`.
"""
