"""Datagrams end to end in one buffer, and the runs that one system call can send."""

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaylib.source.batch import MAX_BYTES, MAX_DATAGRAMS, Batch

LARGEST = 65507


def datagram(index: int, size: int) -> bytes:
    """Make a datagram that can be told from its neighbours."""
    return bytes([index % 251]) * size


def fill(batch: Batch, sizes: Iterable[int]) -> int:
    """Receive datagrams of these sizes until the batch takes no more; return how many."""
    for index, size in enumerate(sizes):
        batch.room()[:size] = datagram(index, size)
        if not batch.add(size):
            return index + 1
    return len(list(sizes))


def runs(*sizes: int) -> list[list[int]]:
    """Return the sizes of the datagrams in each run of a batch of datagrams of these sizes."""
    batch = Batch()
    assert fill(batch, sizes) == len(sizes)
    return [[len(each) for each in run.datagrams()] for run in batch.finish()]


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([], []),
        ([1316], [[1316]]),
        ([1316] * 3, [[1316] * 3]),
        ([1316, 1316, 188], [[1316, 1316, 188]]),
        ([1316, 188, 1316], [[1316, 188], [1316]]),
        ([1316, 188, 188], [[1316, 188], [188]]),
        ([188, 1316, 1316], [[188], [1316, 1316]]),
        ([5, 4, 3, 3, 3, 1, 2], [[5, 4], [3, 3, 3, 1], [2]]),
        ([LARGEST], [[LARGEST]]),
        ([30_000, 40_000], [[30_000], [40_000]]),
        ([0], []),
        ([1316, 0, 1316], [[1316, 1316]]),
    ],
)
def test_a_run_is_equal_datagrams_and_a_shorter_one(
    sizes: list[int], expected: list[list[int]]
) -> None:
    """A run is datagrams of one size, of which the last may be shorter; empty ones are left out."""
    assert runs(*sizes) == expected


@given(st.lists(st.integers(0, LARGEST) | st.sampled_from([188, 1316, 1328]), max_size=100))
def test_any_datagrams_come_out_as_they_went_in(sizes: list[int]) -> None:
    """Whatever the sizes: every datagram, in order, in runs that one system call can send."""
    batch = Batch()
    count = fill(batch, sizes)
    full = (
        not sizes
        or batch.count == MAX_DATAGRAMS
        or sum(sizes[:count]) + max(sizes[:count]) > MAX_BYTES
    )
    assert count == len(sizes) or full
    out = batch.finish()
    taken = [datagram(index, size) for index, size in enumerate(sizes[:count]) if size]
    assert [bytes(each) for run in out for each in run.datagrams()] == taken
    assert batch.count == len(taken) <= MAX_DATAGRAMS
    for run in out:
        assert len(run.view) <= MAX_BYTES
        assert run.count == len(run.datagrams())
        assert run.size * (run.count - 1) < len(run.view) <= run.size * run.count


@given(st.lists(st.integers(1, LARGEST), max_size=MAX_DATAGRAMS))
def test_there_is_always_room_for_the_largest_datagram(sizes: list[int]) -> None:
    """While the batch takes more, a datagram of any size fits: none is ever truncated."""
    batch = Batch()
    assert len(batch.room()) == 65535
    for size in sizes:
        if not batch.add(size):
            break
        assert len(batch.room()) == 65535


def test_a_batch_is_full_after_64_datagrams_or_65507_bytes() -> None:
    """The batch ends where one system call's worth is reached, and begins anew after `clear`."""
    batch = Batch()
    assert fill(batch, [100] * 100) == 64
    batch.clear()
    assert fill(batch, [1316] * 100) == 49
    batch.clear()
    assert fill(batch, [LARGEST] * 2) == 1
    batch.clear()
    assert batch.finish() == []


def test_a_steady_stream_allocates_no_views() -> None:
    """The second batch of a stream is received into the same views as the first."""
    batch, rounds = Batch(), []
    for _ in range(2):
        batch.clear()
        views = []
        for _ in range(20):
            views.append(batch.room())
            batch.add(1316)
        rounds.append(views)
    assert all(one is other for one, other in zip(*rounds, strict=True))


def test_an_unsteady_stream_does_not_keep_views_for_ever() -> None:
    """Views are remembered for a bounded number of places."""
    batch = Batch()
    for size in range(1, 5000):
        batch.clear()
        batch.add(size)
        batch.room()
    assert len(batch._views) <= 1024
