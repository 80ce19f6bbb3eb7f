"""What travels in a reload: nothing is lost in JSON, and what is not understood is refused."""

import errno
import json
import math
import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaylib.channel import ChannelState
from relaylib.errors import SetupError
from relaylib.history.history import HistoryState, Place
from relaylib.history.recorder import RecorderState, RecordingState
from relaylib.lifecycle import handover
from relaylib.lifecycle.handover import RelayState, decode, descriptors, encode
from relaylib.lifecycle.stand_in import StandInState
from relaylib.lifecycle.upgrade import upgraded
from relaylib.media.form import Form
from relaylib.media.verdict import Told, Word
from relaylib.net.descriptors import Descriptor
from relaylib.net.mrl import Mrl
from relaylib.net.multicast import MembershipState
from relaylib.outputs.fixed import FixedState
from relaylib.outputs.output import Behind, Counters, OutputState
from relaylib.protocol import session
from relaylib.protocol.lines import Telnet
from relaylib.source.failover import FailoverState
from relaylib.source.gate import GateState
from relaylib.source.ingest import IngestState
from relaylib.source.receive_buffer import DropCount
from relaylib.source.sockets import SocketsState
from relaylib.track.health import HealthState
from relaylib.track.ring import RingState
from relaylib.track.track import Break, Entry, TrackState
from relaylib.track.walk import Counts, WalkState
from relaylib.viewers.viewer import ViewerState
from relaylib.web.state import ConnectionState, SiteState, WebState
from relaylib.web.stream_state import StreamState

FDS = st.integers(0, 1 << 20).map(Descriptor)
COUNTS = st.integers(0, 1 << 64)
PORTS, NUMBERS = st.integers(0, 65535), st.integers(0, (1 << 32) - 1)
ADDRESSES = st.one_of(
    st.tuples(st.ip_addresses(v=4).map(str), PORTS),
    st.tuples(st.ip_addresses(v=6).map(str), PORTS, NUMBERS, NUMBERS),
    st.tuples(st.just("fe80::1%eth0"), PORTS, NUMBERS, NUMBERS),
)
BYTES = st.binary(max_size=600)
FLAGS = st.booleans()
ASKED = st.tuples(st.text(), COUNTS, st.none() | COUNTS | st.text())
MRLS = st.builds(
    Mrl, st.text(), st.text(), st.text(), PORTS, st.text(), st.none() | st.integers(0, 255)
)

SECONDS = st.floats(0, 1e9)

OUTPUTS = st.builds(
    OutputState, FDS, ADDRESSES, FLAGS, FLAGS, st.builds(Counters, COUNTS, COUNTS, COUNTS),
    st.none() | st.builds(Behind, st.builds(Place, COUNTS, COUNTS), SECONDS, FLAGS),
)  # fmt: skip
VIEWERS = st.builds(
    ViewerState, FDS, ADDRESSES, st.sampled_from(session.State), BYTES,
    st.sampled_from(Telnet), BYTES, st.text(), st.none() | OUTPUTS, st.floats(0, 1e9), FLAGS,
)  # fmt: skip
INGESTS = st.builds(
    IngestState,
    st.builds(SocketsState, FDS, st.none() | FDS, FLAGS, FLAGS, COUNTS),
    st.builds(
        GateState,
        st.none() | ADDRESSES,
        FLAGS,
        st.floats(0, 1e9),
        COUNTS,
        st.sampled_from(Form),
        COUNTS,
    ),
    st.builds(DropCount, COUNTS, COUNTS),
    COUNTS,
    st.none() | st.floats(0, 1e9),
    st.builds(FailoverState, st.none() | ADDRESSES, COUNTS, st.none() | ADDRESSES, COUNTS),
)
RECORDINGS = st.builds(RecordingState, st.text(), st.floats(0, 1e9))
FOUND = st.builds(Counts, *[COUNTS] * 10, st.dictionaries(st.text(), COUNTS))
WALKS = st.builds(WalkState, COUNTS, COUNTS, FOUND, st.lists(COUNTS), FOUND)
VALUES = st.integers() | st.floats(allow_nan=False) | st.text()
TOLD = st.builds(Told, st.text(), st.dictionaries(st.text(), VALUES, max_size=3))
WEBS = st.builds(
    WebState,
    FDS,
    st.tuples(st.text(), COUNTS),
    st.lists(
        st.builds(
            ConnectionState, FDS, ADDRESSES, BYTES, BYTES, FLAGS, st.text(), st.text(),
            st.none() | st.builds(StreamState, COUNTS, BYTES, COUNTS, st.none() | COUNTS), COUNTS,
        ),
        max_size=3,
    ),
)  # fmt: skip
ENTRIES = st.builds(Entry, COUNTS, SECONDS, st.none() | COUNTS, BYTES, COUNTS)
BREAKS = st.builds(Break, COUNTS, SECONDS | st.just(-math.inf))
TRACKS = st.builds(
    TrackState,
    st.builds(RingState, FDS, *[COUNTS] * 5),
    st.lists(ENTRIES, max_size=3),
    st.lists(BREAKS, max_size=3),
)
CHANNELS = st.builds(
    ChannelState,
    INGESTS,
    track=st.none() | TRACKS,
    walk=st.none() | WALKS,
    health=st.none()
    | st.builds(
        HealthState, st.floats(0, 1e9), st.sampled_from(Word), TOLD, st.none(), st.none() | TOLD
    ),
    history=st.none() | st.builds(HistoryState, FDS, COUNTS),
    group=st.none() | st.builds(MembershipState, MRLS, st.none() | NUMBERS),
    fixed=st.lists(st.builds(FixedState, MRLS, OUTPUTS, FLAGS), max_size=2),
    recorder=st.none()
    | st.builds(RecorderState, st.sampled_from(Word), st.floats(0, 1e9), st.none() | RECORDINGS),
)
STATES = st.builds(
    RelayState,
    FDS,
    ASKED,
    CHANNELS,
    COUNTS,
    st.dictionaries(st.text(), COUNTS),
    st.lists(VIEWERS, max_size=3),
    st.lists(st.text()),
    st.none() | st.builds(StandInState, COUNTS, FDS),
    site=st.none() | st.builds(SiteState, WEBS),
)

SILENCE = IngestState(SocketsState(Descriptor(4), None, False), GateState(), DropCount(), 0)


@given(STATES)
def test_everything_travels(state: RelayState) -> None:
    """What is decoded equals what was encoded, whatever the bytes, names and numbers."""
    assert decode(encode(state)) == state


@given(STATES)
def test_every_descriptor_survives(state: RelayState) -> None:
    """Those named are the listener's, the ingest's, each output's, those of memory, and so on."""
    channel = state.channel
    ingest = channel.ingest.sockets
    sockets = [state.listener, ingest.stream, ingest.standby]
    sockets += [viewer.sock for viewer in state.viewers]
    sockets += [viewer.output.sock for viewer in state.viewers if viewer.output]
    sockets += [each.output.sock for each in channel.fixed]
    sockets += [state.stand_in.channel] if state.stand_in else []
    sockets += [channel.history.memory] if channel.history else []
    sockets += [channel.track.ring.memory] if channel.track else []
    if state.site:
        web = state.site.web
        sockets += [web.listener, *(each.sock for each in web.connections)]
    assert sorted(descriptors(state)) == sorted(fd for fd in sockets if fd is not None)


# --- what is refused

WATCHING = ViewerState(
    Descriptor(5), ("192.0.2.1", 40000), session.State.STREAMING, b"AYU", Telnet.TEXT, b"OK\n", "",
    OutputState(Descriptor(6), ("fe80::1%eth0", 5004, 0, 2), False, False, Counters(9, 0, 0),
                Behind(Place(7, 1), 2.5)),
)  # fmt: skip
FULL = RelayState(Descriptor(3), ("::", 0, None), ChannelState(SILENCE), 7, {"full": 1}, [WATCHING])


def damaged(path: str, value: object) -> bytes:
    """A state that is right but for one value, or, if that is `...`, lacks it."""
    raw: Any = json.loads(encode(FULL))
    *parents, last = path.split()
    place = raw
    for name in parents:
        place = place[int(name) if isinstance(place, list) else name]
    if value is ...:
        del place[last]
    else:
        place[int(last) if isinstance(place, list) else last] = value
    return json.dumps(raw).encode()


VIEWER = "state viewers 0"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("state accepted", "7"),
        ("state accepted", True),
        ("state accepted", ...),
        ("state unheard", 1),
        ("state asked", ["::", 0]),
        ("state declined full", None),
        ("state declined", []),
        ("state listener", -1),
        ("state listener", 3.0),
        ("state channel", None),
        ("state channel ingest", None),
        ("state channel ingest", ...),
        ("state channel ingest lock last", "never"),
        ("state channel ingest lock silent", 0),
        ("state channel ingest sockets standby", -1),
        ("state channel ingest lock active", []),
        ("state channel ingest lock active", ["192.0.2.1"]),
        ("state channel ingest lock active", ["192.0.2.1", 5004, 0]),
        ("state channel ingest lock active", {}),
        ("state viewers", None),
        (f"{VIEWER} state", "nadando"),
        (f"{VIEWER} state", "STREAMING"),
        (f"{VIEWER} telnet", 5),
        (f"{VIEWER} telnet", "TEXT"),
        (f"{VIEWER} pending", "\u20ac"),
        (f"{VIEWER} unsent", [79, 75]),
        (f"{VIEWER} sock", None),
        (f"{VIEWER} peer", None),
        (f"{VIEWER} peer 0", "nowhere"),
        (f"{VIEWER} peer 0", "192.0.2.256"),
        (f"{VIEWER} peer 0", ""),
        (f"{VIEWER} peer 1", 65536),
        (f"{VIEWER} peer 1", "40000"),
        (f"{VIEWER} output", []),
        (f"{VIEWER} output sock", 1 << 31),
        (f"{VIEWER} output destination 0", "fe80::1::2"),
        (f"{VIEWER} output destination 2", -1),
        (f"{VIEWER} output destination 3", 1 << 32),
        (f"{VIEWER} output destination 3", "eth0"),
        (f"{VIEWER} output paused", ...),
        (f"{VIEWER} output behind place", [7]),
        (f"{VIEWER} output behind place", [7, "1"]),
        (f"{VIEWER} output behind delay", None),
        ("state argv", None),
        ("state argv", ["relay.py", 9000]),
        ("state stand_in", {}),
    ],
)
def test_every_value_is_checked(path: str, value: object) -> None:
    """One value that this program does not know, however deep, and the whole state is refused."""
    assert decode(encode(FULL)) == FULL
    with pytest.raises(SetupError, match=r"cannot take over from the running relay: ."):
        decode(damaged(path, value))


@pytest.mark.parametrize("field", [f"{VIEWER} silent_for", f"{VIEWER} declined"])
def test_what_an_older_program_does_not_know_has_a_default(field: str) -> None:
    """A state of the previous release is taken over: what it lacks is as if it had never been."""
    assert decode(damaged(field, ...)) == FULL


def flat(state: RelayState) -> bytes:
    """Write a state as version 3 did: what belongs to the stream beside all the rest."""
    raw = json.loads(encode(state))
    channel = raw["state"].pop("channel")
    channel["inspection"] = channel.pop("walk")
    del channel["track"]
    raw["state"] |= channel
    return json.dumps({**raw, "version": 3}).encode()


@given(STATES)
def test_the_flat_state_of_an_older_program_is_understood(state: RelayState) -> None:
    """A relay of version 1.0 is reloaded: everything is found where it lay then, but for places of
    viewers by HTTP, who are let go.
    """
    state.channel.track = None
    carried = [] if state.site is None else state.site.web.connections
    for each in carried:
        each.stream, each.left, each.resource = None, None, ""
    if state.site is not None:
        state.site.hls = None
    assert decode(flat(state)) == state


def test_a_viewer_by_http_of_an_older_program_is_let_go() -> None:
    """Its place means nothing here: the connection is closed in order; the player asks again."""
    connection = {"stream": {"place": [3, 4, 5]}, "resource": "/live.ts", "closing": False}
    web = {"connections": [connection, {"stream": None, "closing": False}]}
    site = upgraded({"viewers": [], "site": {"web": web, "hls": {"run": "a"}}})["site"]
    first, second = site["web"]["connections"]
    assert (first["stream"], first["closing"], site["hls"]) == (None, True, None)
    assert not second["closing"]


@pytest.mark.parametrize("state", [None, [], 7, "", {"ingest": None}, [[1]]])
def test_a_flat_state_that_is_none(state: object) -> None:
    """It is refused like any other that this program does not know."""
    with pytest.raises(SetupError, match=r"cannot take over from the running relay: ."):
        decode(json.dumps({"version": 3, "state": state}).encode())


def test_the_reason_names_the_value_and_its_place() -> None:
    """Who reads the log learns what did not fit."""
    with pytest.raises(SetupError, match=r"viewers: state: 'nadando' is not a valid State"):
        decode(damaged(f"{VIEWER} state", "nadando"))
    with pytest.raises(SetupError, match=r"viewers: peer: 65536 is out of range"):
        decode(damaged(f"{VIEWER} peer 1", 65536))
    with pytest.raises(SetupError, match=r"ViewerState does not fit: \['mood'\]"):
        decode(damaged(f"{VIEWER} mood", "good"))


@pytest.mark.parametrize(
    ("path", "default"),
    [
        (f"{VIEWER} output counters offered", 0),
        (f"{VIEWER} output counters", Counters()),
        (f"{VIEWER} output behind", None),
        ("state channel ingest lock active", None),
        ("state argv", []),
        ("state stand_in", None),
        ("state site", None),
        ("state channel fixed", []),
    ],
)
def test_what_an_older_program_does_not_know_has_its_default(path: str, default: object) -> None:
    """A field with a default may be missing, however deep; the others are as they were."""
    state = decode(damaged(path, ...))
    value: Any = state
    for name in path.split()[1:]:
        value = value[int(name)] if isinstance(value, list) else getattr(value, name)
    assert value == default
    assert state.viewers[0].pending == FULL.viewers[0].pending


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b"null", b"\xff", encode(FULL)[:-1]])
def test_what_is_no_state_is_refused(data: bytes) -> None:
    """What is cut short or something else altogether is one clear error."""
    with pytest.raises(SetupError, match=r"cannot take over from the running relay: ."):
        decode(data)


@pytest.mark.parametrize("version", [2, 5])
def test_another_version_is_refused(version: int) -> None:
    """A state of another version is not even looked at: its fields may mean something else."""
    reason = f"its state is of version {version}, not 4"
    with pytest.raises(SetupError, match=reason):
        decode(damaged("version", version))
    with pytest.raises(SetupError, match=reason):
        decode(json.dumps({"listener_fd": 3, "viewers": [], "version": version}).encode())


def test_nothing_was_handed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """A relay that nobody reloaded has nothing to take over."""
    monkeypatch.delenv(handover.STATE_FD, raising=False)
    assert handover.take() is None


# --- the file


def forbidden(_name: str) -> int:
    """Stand for a system call that a sandbox does not let through (seccomp(2))."""
    raise PermissionError(errno.EPERM, "Operation not permitted")


def test_memory_without_a_name_may_be_forbidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where memfd_create(2) is answered by an error, the state travels in a temporary file."""
    monkeypatch.setattr(os, "memfd_create", forbidden, raising=False)
    with handover.write(FULL) as file:
        monkeypatch.setenv(handover.STATE_FD, str(os.dup(file.fileno())))
        assert handover.take() == FULL
    assert handover.STATE_FD not in os.environ


@pytest.mark.parametrize("kind", ["", "a word", "-1", "0", "2", "9" * 30, "999999", "pipe", "dir"])
def test_a_descriptor_that_cannot_hold_a_state(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is no number, or not that of an open file, is one clear error."""
    reading, writing = os.pipe()
    directory = os.open(os.curdir, os.O_RDONLY)
    text = {"pipe": str(reading), "dir": str(directory)}.get(kind, kind)
    monkeypatch.setenv(handover.STATE_FD, text)
    with pytest.raises(SetupError, match=f"RELAY_HANDOVER_FD={text} names no file"):
        handover.take()
    for fd in (reading, writing, directory):
        os.close(fd)


def test_the_words_of_an_older_program_are_understood() -> None:
    """Releases up to 1.0.0 hand over the verdict in Spanish, and a sentence of evidence."""
    health = {"begun": 1.0, "word": "fuente", "evidence": "3 RTP packets lost", "since": 2.0}
    raw: Any = json.loads(flat(FULL))
    raw["state"] |= {"health": health, "recorder": {"word": "sano", "next_at": 3.0}}
    raw["state"]["viewers"][0]["state"] = "pausado"
    state = decode(json.dumps(raw).encode())
    assert state.channel.health == HealthState(1.0, Word.SOURCE, Told("inherited"), 2.0)
    assert state.channel.recorder == RecorderState("healthy", 3.0)
    assert state.viewers[0].state is session.State.PAUSED
