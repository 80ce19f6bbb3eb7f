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
from relaylib.stream.ingest_sockets import SocketsState
from relaylib.stream.output import Counters, OutputState
from relaylib.stream.receive_buffer import DropCount
from relaylib.stream.source_lock import LockState
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

OUTPUTS = st.builds(
    OutputState, FDS, ADDRESSES, FLAGS, FLAGS, st.builds(Counters, COUNTS, COUNTS, COUNTS)
)
VIEWERS = st.builds(
    ViewerState, FDS, ADDRESSES, st.sampled_from(session.State), BYTES,
    st.integers(0, 4), BYTES, st.text(),
    st.none() | OUTPUTS,
)  # fmt: skip
INGESTS = st.builds(
    IngestState,
    st.builds(SocketsState, FDS, st.none() | FDS, FLAGS, FLAGS, COUNTS),
    st.builds(LockState, st.none() | ADDRESSES, FLAGS, st.floats(0, 1e9), COUNTS),
    st.builds(DropCount, COUNTS, COUNTS),
    COUNTS,
)
STATES = st.builds(
    State, FDS, ASKED, INGESTS, COUNTS, st.dictionaries(st.text(), COUNTS), st.lists(VIEWERS)
)

SILENCE = IngestState(SocketsState(Descriptor(4), None, False), LockState(), DropCount(), 0)
EMPTY = State(Descriptor(3), ("::", 0, None), SILENCE, 0, {}, [])


@given(STATES)
def test_everything_travels(state: State) -> None:
    """What is decoded equals what was encoded, whatever the bytes, names and numbers."""
    assert decode(encode(state)) == state


@given(STATES)
def test_every_descriptor_survives(state: State) -> None:
    """The descriptors named are those of the listener, the ingest, each viewer and output."""
    sockets = [state.listener, state.ingest.sockets.stream, state.ingest.sockets.standby]
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
