"""English sentences for evidence and remedies: for the log, the terminal and the doctor. Pure.

The one table of them in Python; the page has one of its own, in two languages (`page.js`). A test
compares their keys.
"""

from relaylib.media.verdict import LOST, Evidence, Remedy, Told, Value

_BEFORE = "before the relay in the last {window:g} s: {counts}"

SENTENCES: dict[str, str] = {
    Evidence.NO_SOURCE: "no source sends",
    Evidence.STOPPED: "{source} has stopped sending",
    Evidence.BUFFER_FULL: (
        "the receive buffer was full: {dropped} datagrams dropped in the last {window:g} s"
    ),
    Evidence.STOOD_STILL: "the relay stood still for {seconds:.1f} s",
    Evidence.LEFT_OUT: (
        "the relay had no time to read {datagrams} datagrams for viewers by HTTP in the last "
        "{window:g} s"
    ),
    Evidence.NO_ROOM_OUT: (
        "none of {outputs} outputs could take everything in the last {window:g} s"
    ),
    Evidence.NO_MPEG_TS: "RTP without MPEG-TS (payload type {payload_type})",
    Evidence.TURNED_AWAY: (
        "{datagrams} datagrams from another port of the source's host were turned away in the last "
        "{window:g} s, while the source was quiet"
    ),
    Evidence.MISSING: _BEFORE,
    Evidence.OUTPUTS_FULL: (
        "{full} of {outputs} outputs could not take everything in the last {window:g} s"
    ),
    Evidence.NOTHING_MISSING: "nothing was missing in the last {window:g} s",
    Evidence.CANNOT_TELL: (
        "datagrams come; whether some are missing cannot be told in a stream of unknown form"
    ),
    Evidence.INHERITED: "found before the relay was reloaded",
    Remedy.LOOK_AT_SOURCE: (
        "look at the source: does it run, and send to the address and UDP port of the ingest?"
    ),
    Remedy.LARGER_BUFFER: "sysctl -w net.core.rmem_max={bytes}, then reload",
    Remedy.LESS_WORK: (
        "fewer viewers, or a larger --coalesce: the buffer is as large as asked"
    ),
    Remedy.FIND_WHAT_STOPPED: (
        "find out what stopped the process: a signal, swapping, a machine that is overloaded"
    ),
    Remedy.MORE_ROOM_OUT: (
        "fewer viewers, a lower bitrate, or a faster link out of this machine; --max-egress"
    ),
    Remedy.BETTER_PATH: "a lower bitrate, or a better link to those viewers",
    Remedy.LOOK_BEFORE: "look at the encoder, and at the network from there to the relay",
    Remedy.SEND_MPEG_TS: "send rtp_mpegts",
    Remedy.KEEP_THE_PORT: (
        "let the sender keep its local port (ffmpeg: localport=), or give the relay a lower "
        "--source-timeout"
    ),
    Remedy.LIGHTEN: "fewer viewers, a lower bitrate, or a faster machine",
}  # fmt: skip

_NAMES = {LOST: "RTP packets lost"}
"""Of what is counted; the names of TR 101 290 stay as they are."""


def sentence(told: Told | None) -> str:
    """Return the sentence; "" where nothing is told, or what another version alone can say."""
    if told is None or told.key not in SENTENCES:
        return ""
    values: dict[str, Value] = dict(told.values)
    if told.key == Evidence.MISSING:
        values["counts"] = ", ".join(
            f"{count} {_NAMES.get(name, name)}"
            for name, count in told.values.items()
            if name != "window"
        )
    try:
        return SENTENCES[told.key].format(**values)
    except (KeyError, ValueError):
        return ""
