"""Flat events to stays and sets, against the plain way with dictionaries."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.grouping import group_sets

EVENT = st.tuples(st.integers(0, 4), st.integers(0, 3), st.integers(0, 5), st.integers(0, 2))


@settings(deadline=None)
@given(st.lists(EVENT, min_size=1, max_size=40))
def test_grouping_equals_the_plain_way(events: list[tuple[int, int, int, int]]) -> None:
    events.sort(key=lambda event: event[0])
    stay, key, minute, variable = (np.array(column) for column in zip(*events, strict=True))
    sets: dict[tuple[int, int], list[int]] = {}
    for index, event in enumerate(events):
        sets.setdefault(event[:2], []).append(index)
    earliest = {name: min(events[index][2] for index in members) for name, members in sets.items()}
    ordered = sorted(sets, key=lambda name: (name[0], earliest[name], name[1]))
    expected = [index for name in ordered for index in sets[name]]

    group = group_sets(stay, key, minute, variable)
    assert group.order.tolist() == expected
    assert group.stays.tolist() == sorted({name[0] for name in sets})
    assert group.set_count.tolist() == [sum(name[0] == number for name in sets) for number in group.stays]
    assert group.set_size.tolist() == [len(sets[name]) for name in ordered]
    assert group.set_minute.tolist() == [earliest[name] for name in ordered]
    assert group.repeats == len(events) - len({(*event[:2], event[3]) for event in events})
    moved = {events[index][0] for place, index in enumerate(expected) if place != index}
    assert group.unsorted == len(moved)
