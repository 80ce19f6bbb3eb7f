"""Stream types and descriptors in words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaylib.media.codecs import Kind, codec, mpeg_audio


@pytest.mark.parametrize(
    ("stream_type", "descriptors", "name", "kind"),
    [
        (0x1B, b"", "H.264", Kind.VIDEO),
        (0x24, b"", "HEVC", Kind.VIDEO),
        (0x02, b"", "MPEG-2 video", Kind.VIDEO),
        (0x0F, b"", "AAC", Kind.AUDIO),
        (0x06, b"\x52\1\0\x6a\1\0", "AC-3", Kind.AUDIO),
        (0x06, b"\5\4Opus\x7f\2\x80\2", "Opus", Kind.AUDIO),
        (0x06, b"\x59\x08spa\x10\0\1\0\1", "DVB subtitles", Kind.DATA),
        (0x06, b"\5\4????", "private data", Kind.DATA),
        (0x06, b"", "private data", Kind.DATA),
        (0x1B, b"\5\4Opus", "H.264", Kind.VIDEO),
        (0x99, b"", "type 0x99", Kind.DATA),
        (0x99, b"\5\4AC-3", "AC-3", Kind.AUDIO),
    ],
)
def test_streams_have_names(stream_type: int, descriptors: bytes, name: str, kind: Kind) -> None:
    """The type tells; where it is private, or nobody's, a descriptor does."""
    assert codec(stream_type, descriptors) == (name, kind)


def test_the_layers_of_mpeg_audio() -> None:
    """One stream type has three codecs; a frame's header tells which."""
    headers = (b"\xff\xff", b"\xff\xfd\x94", b"\xff\xfb\x90", b"\xff", b"", b"ID3", b"\xff\xf1")
    found = [mpeg_audio(header) for header in headers]
    assert [each and each.name for each in found] == ["MP1", "MP2", "MP3", None, None, None, None]


@given(st.integers(0, 255), st.binary(max_size=30))
def test_arbitrary_descriptors(stream_type: int, descriptors: bytes) -> None:
    """No descriptors make it fail, or leave a stream without a name."""
    assert codec(stream_type, descriptors).name
