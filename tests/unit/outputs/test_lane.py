"""The order in which outputs are sent to."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from relaylib.outputs.lane import Lane


@dataclass(eq=False)
class Place:
    """An output, as far as its order goes."""

    host: str


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9), st.sampled_from("abc"))))
def test_the_first_of_each_host_comes_before_the_others(
    steps: list[tuple[bool, int, str]],
) -> None:
    """Whoever comes and goes, everybody is there once, one of each host before any second one."""
    lane: Lane[Place] = Lane()
    members: list[Place] = []
    for leave, index, host in steps:
        if leave and members:
            lane.remove(members.pop(index % len(members)))
        else:
            members.append(Place(host))
            lane.add(members[-1])
        lane.rotate()
        assert {id(each) for each in lane} == {id(each) for each in members}
        assert len(list(lane)) == len(members)
        assert sorted(each.host for each in lane.first) == sorted({one.host for one in members})


def test_each_run_begins_with_another() -> None:
    """Of the first ones, and of the others, each begins as often as the rest."""
    lane: Lane[Place] = Lane()
    places = [Place(host) for host in "aaaabc"]
    for place in places:
        lane.add(place)
    began = []
    for _ in range(9):
        began += [lane.first[0], lane.rest[0]]
        lane.rotate()
    assert {place.host: began.count(place) for place in lane.first} == {"a": 3, "b": 3, "c": 3}
    assert [began.count(place) for place in places[1:4]] == [3, 3, 3]
