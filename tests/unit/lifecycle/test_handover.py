"""What travels in a restart: nothing is lost in JSON, and what is not understood is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaylib.errors import SetupError
from relaylib.lifecycle import handover
from relaylib.lifecycle.handover import State, decode, descriptors, encode
from relaylib.net.descriptors import Descriptor
from relaylib.protocol import session
from relaylib.stream.ingest import IngestState
from relaylib.stream.output import OutputState
from relaylib.viewers.viewer import ViewerState

FDS = st.integers(0, 1 << 20).map(Descriptor)
COUNTS = st.integers(0, 1 << 64)
ADDRESSES = st.one_of(
    st.tuples(st.just("192.0.2.1"), st.integers(0, 65535)),
    st.tuples(st.just("fe80::1"), st.integers(0, 65535), COUNTS, COUNTS),
)
BYTES = st.binary(max_size=600)
FLAGS = st.booleans()
ASKED = st.tuples(st.text(), COUNTS, st.none() | COUNTS)

SUBSCRIBERS = st.builds(OutputState, FDS, ADDRESSES, FLAGS, FLAGS, COUNTS, COUNTS, COUNTS)
VIEWERS = st.builds(
    ViewerState, FDS, ADDRESSES, st.sampled_from(session.State), BYTES,
    st.integers(0, 4), BYTES, st.text(),
    st.none() | SUBSCRIBERS,
)  # fmt: skip
INGESTS = st.builds(
    IngestState, FDS, st.none() | FDS, st.none() | ADDRESSES, FLAGS, FLAGS, FLAGS,
    st.floats(0, 1e9), COUNTS, COUNTS, COUNTS, COUNTS, COUNTS,
)  # fmt: skip
STATES = st.builds(
    State, FDS, ASKED, INGESTS, COUNTS, st.dictionaries(st.text(), COUNTS), st.lists(VIEWERS)
)

SILENCE = IngestState(Descriptor(4), None, None, False, False, False, 0.0, 0, 0, 0, 0, 0)
EMPTY = State(Descriptor(3), ("::", 0, None), SILENCE, 0, {}, [])


@given(STATES)
def test_everything_travels(state: State) -> None:
    """What is decoded equals what was encoded, whatever the bytes, names and numbers."""
    assert decode(encode(state)) == state


@given(STATES)
def test_every_descriptor_survives(state: State) -> None:
    """The descriptors named are those of the listener, the ingest, each viewer and output."""
    sockets = [state.listener, state.ingest.stream, state.ingest.door]
    sockets += [viewer.sock for viewer in state.viewers]
    sockets += [viewer.output.sock for viewer in state.viewers if viewer.output]
    assert sorted(descriptors(state)) == sorted(fd for fd in sockets if fd is not None)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b"null",
        encode(EMPTY)[:-1],
        encode(EMPTY).replace(b'"silent"', b'"unheard"'),
        encode(EMPTY).replace(b'"accepted": 0, ', b""),
        encode(EMPTY).replace(b'{"version": ', b'{"version": 1'),
    ],
)
def test_what_is_not_understood_is_refused(data: bytes) -> None:
    """A state cut short, of another shape or of another version is one clear error."""
    with pytest.raises(SetupError, match=r"cannot take over from the running relay: ."):
        decode(data)


def test_nothing_was_handed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """A relay that nobody restarted has nothing to take over."""
    monkeypatch.delenv(handover.STATE_FD, raising=False)
    assert handover.take() is None
