"""What an elementary stream is, in words: from its stream type and its descriptors.

Stream types: ISO/IEC 13818-1, table 2-34, and what ATSC and the industry added. Type 6 is private
data, and says in a descriptor what it is (ETSI EN 300 468, annex D; SMPTE RA's registrations).
"""

from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple


class Kind(StrEnum):
    """What a stream is for."""

    VIDEO = "video"
    AUDIO = "audio"
    DATA = "data"


class Codec(NamedTuple):
    """A name that people know, and the kind."""

    name: str
    kind: Kind


def _video(name: str) -> Codec:
    return Codec(name, Kind.VIDEO)


def _audio(name: str) -> Codec:
    return Codec(name, Kind.AUDIO)


def _data(name: str) -> Codec:
    return Codec(name, Kind.DATA)


H264, HEVC, MPEG2, MPEG1 = map(_video, ("H.264", "HEVC", "MPEG-2 video", "MPEG-1 video"))
MPEG_AUDIO = _audio("MPEG audio")
_AC3, _EAC3, _DTS, AAC = map(_audio, ("AC-3", "E-AC-3", "DTS", "AAC"))

_TYPES = {
    0x01: MPEG1,
    0x02: MPEG2,
    0x03: MPEG_AUDIO,
    0x04: MPEG_AUDIO,
    0x05: _data("private sections"),
    0x06: _data("private data"),
    0x0B: _data("DSM-CC"),
    0x0D: _data("DSM-CC"),
    0x0F: AAC,
    0x10: _video("MPEG-4 video"),
    0x11: _audio("AAC (LATM)"),
    0x15: _data("metadata"),
    0x1B: H264,
    0x20: _video("H.264 (MVC)"),
    0x21: _video("JPEG 2000"),
    0x24: HEVC,
    0x33: _video("VVC"),
    0x42: _video("AVS"),
    0x81: _AC3,
    0x82: _DTS,
    0x86: _data("SCTE-35"),
    0x87: _EAC3,
    0xD1: _video("Dirac"),
    0xEA: _video("VC-1"),
}

_DESCRIPTORS = {
    0x56: _data("teletext"),
    0x59: _data("DVB subtitles"),
    0x6A: _AC3,
    0x7A: _EAC3,
    0x7B: _DTS,
    0x7C: AAC,
}
_REGISTRATION = 0x05
_REGISTERED = {
    b"AC-3": _AC3,
    b"EAC3": _EAC3,
    b"DTS1": _DTS,
    b"DTS2": _DTS,
    b"DTS3": _DTS,
    b"HEVC": HEVC,
    b"AV01": _video("AV1"),
    b"drac": _video("Dirac"),
    b"VC-1": _video("VC-1"),
    b"Opus": _audio("Opus"),
    b"BSSD": _audio("SMPTE 302M"),
    b"KLVA": _data("KLV"),
    b"ID3 ": _data("ID3"),
}


def codec(stream_type: int, descriptors: bytes) -> Codec:
    """Name what a stream is; one of an unknown type is data, named by its type."""
    if stream_type == 6 or stream_type not in _TYPES:
        for tag, body in _each(descriptors):
            known = _REGISTERED.get(body[:4]) if tag == _REGISTRATION else _DESCRIPTORS.get(tag)
            if known:
                return known
    return _TYPES.get(stream_type) or _data(f"type 0x{stream_type:02x}")


def _each(descriptors: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 2 <= len(descriptors):
        end = at + 2 + descriptors[at + 1]
        yield descriptors[at], descriptors[at + 2 : end]
        at = end


def mpeg_audio(payload: bytes) -> Codec | None:
    """Tell MP2 from MP3, which share a type, by a frame's header (ISO/IEC 11172-3, 2.4.1.3)."""
    if len(payload) < 2 or payload[0] != 0xFF or payload[1] & 0xE0 != 0xE0:
        return None
    return {3: _audio("MP1"), 2: _audio("MP2"), 1: _audio("MP3")}.get(payload[1] >> 1 & 3)
