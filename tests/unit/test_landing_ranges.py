from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spark_jobs.sources.ranges import OffsetRange, PlanError, Slot, batch_ends, cut

SLOT = Slot("t", 0)


def bounds(ranges: list[OffsetRange]) -> list[tuple[int, int]]:
    return [(r.first, r.last) for r in ranges]


def test_cut_falls_on_multiples_when_a_batch_starts_inside_one() -> None:
    assert bounds(cut(SLOT, 250, 520, 100, [], 7)) == [
        (250, 299),
        (300, 399),
        (400, 499),
        (500, 519),
    ]
    assert cut(SLOT, 5, 5, 100, [], 7) == []


def test_cut_repeats_planned_ranges_when_a_batch_is_larger_after_a_crash() -> None:
    planned = [OffsetRange("t", 0, 250, 269, 1), OffsetRange("t", 1, 0, 9, 1)]
    found = cut(SLOT, 250, 400, 100, planned, 7)
    assert bounds(found) == [(250, 269), (270, 299), (300, 399)]
    assert [r.planned_at_ms for r in found] == [1, 7, 7]


@pytest.mark.parametrize("planned", [(240, 260), (390, 410)])
def test_cut_refuses_when_a_planned_range_lies_across_an_end(planned: tuple[int, int]) -> None:
    with pytest.raises(PlanError, match=f"t/0: planned range {planned[0]}-{planned[1]}"):
        cut(SLOT, 250, 400, 100, [OffsetRange("t", 0, *planned)], 7)


def test_batch_ends_share_the_limit_when_every_partition_waits() -> None:
    slots = [Slot("t", p) for p in range(3)]
    ends = batch_ends(
        dict.fromkeys(slots, 0), {slots[0]: 5_000, slots[1]: 50, slots[2]: 0}, 1_000, 100, []
    )
    assert ends == {slots[0]: 900, slots[1]: 50, slots[2]: 0}


def test_batch_ends_reach_behind_a_planned_range_when_the_limit_falls_into_it() -> None:
    ends = batch_ends({SLOT: 0}, {SLOT: 5_000}, 150, 100, [OffsetRange("t", 0, 50, 349)])
    assert ends == {SLOT: 350}


@given(
    st.integers(0, 500),
    st.lists(st.tuples(st.integers(0, 400), st.integers(1, 300)), min_size=1, max_size=6),
    st.integers(1, 97),
    st.lists(st.integers(0, 5), max_size=6),
)
def test_ranges_cover_each_offset_once_when_batches_are_cut_and_checkpoints_lost(
    start: int, growth: list[tuple[int, int]], size: int, losses: list[int]
) -> None:
    """Batches of any size; after some of them the checkpoint and a part of the ledger are lost."""
    planned: dict[tuple[int, int], OffsetRange] = {}
    landed: set[tuple[int, int]] = set()
    position, high = start, start
    for number, (more, limit) in enumerate(growth * 2):
        high += more
        known = list(planned.values())
        end = batch_ends({SLOT: position}, {SLOT: high}, limit, size, known)[SLOT]
        ranges = cut(SLOT, position, end, size, known, number)
        planned |= {(r.first, r.last): planned.get((r.first, r.last), r) for r in ranges}
        if number in losses:  # half of the batch is written, then everything is forgotten
            landed |= set(bounds(ranges[::2]))
            open_ranges = [first for first, last in planned if (first, last) not in landed]
            position = min(open_ranges, default=end)
        else:
            landed |= set(bounds(ranges))
            position = end
    covered = sorted(landed)
    for (_, last), (first, _) in pairwise(covered):
        assert first > last
    if not losses:
        assert sum(last - first + 1 for first, last in covered) == position - start


def test_slot_key_round_trips_when_a_topic_has_slashes_and_dots() -> None:
    assert Slot.of(Slot("a.b-c_d", 12).key) == Slot("a.b-c_d", 12)
    assert OffsetRange("a", 1, 2, 3).token == "a/1/2-3"
    assert len(OffsetRange("a", 1, 2, 3)) == 2
