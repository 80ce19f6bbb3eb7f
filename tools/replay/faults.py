"""Faults on purpose: what networks do to datagrams, repeatable from a seed. Pure.

Every datagram draws the same number of random numbers whatever is asked for, so the same seed drops
the same datagrams whether or not others are duplicated as well.
"""

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tools.replay.pacing import Timed

MAX_HELD = 16
"""Most datagrams held back in a row: the next one is not reordered, and they follow it."""


@dataclass(frozen=True, slots=True)
class Faults:
    """Probabilities from 0 to 1, and the most that a datagram is delayed, in seconds."""

    drop: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    jitter: float = 0.0


@dataclass(slots=True)
class Done:
    """How many datagrams met which fault."""

    dropped: int = 0
    duplicated: int = 0
    reordered: int = 0


def inject(
    datagrams: Iterable[Timed], faults: Faults, rng: random.Random, done: Done
) -> Iterator[tuple[int, bytes | None]]:
    """Drop, duplicate, swap and delay datagrams.

    A reordered datagram is sent right behind the next one that is not. Jitter alone never reorders:
    a datagram that is delayed delays those behind it. In the place of what is dropped or held back
    comes None, which takes its time, too: a loop that drops everything would spin otherwise.
    """
    held = list[bytes]()
    latest = 0
    for due, payload in datagrams:
        latest = max(latest, due)
        drop, duplicate, reorder, delay = (rng.random() for _ in range(4))
        if drop < faults.drop:
            done.dropped += 1
            yield latest, None
            continue
        copies = [payload]
        if duplicate < faults.duplicate:
            done.duplicated += 1
            copies.append(payload)
        latest = max(latest, due + int(delay * faults.jitter * 1e9))
        if reorder < faults.reorder and len(held) < MAX_HELD:
            done.reordered += 1
            held += copies
            yield latest, None
            continue
        yield from ((latest, each) for each in (*copies, *held))
        held.clear()
    yield from ((latest, each) for each in held)
