"""Batch sizes under hand-made loads."""

from __future__ import annotations

import json

import pytest

from spark_jobs.sources.pressure import Bounds, Load, Throttle

BOUNDS = Bounds(largest=2_400_000, smallest=50_000, trigger_seconds=0.5, slow_insert_seconds=5)


def load(
    rows: int = 100_000, seconds: float = 1, slowest: float = 0.5, pushbacks: int = 0, code: int = 0
) -> Load:
    return Load(rows, seconds, slowest, pushbacks, code)


def test_limit_stays_at_the_largest_while_the_warehouse_is_well() -> None:
    throttle = Throttle(BOUNDS)
    for rows in (10, 2_400_000, 0):
        throttle.observe(load(rows, seconds=25), 600_000)
    assert throttle.limit == 2_400_000
    assert not throttle.is_shrunk


def test_nothing_is_asked_when_batches_are_quick_and_nothing_is_wrong() -> None:
    throttle = Throttle(BOUNDS)
    assert not throttle.wants(0.9)
    assert throttle.wants(1.1)
    throttle.observe(load(slowest=6), 0)
    assert throttle.wants(0.1)


@pytest.mark.parametrize(
    ("overload", "expected"),
    [
        # two intervals of half a second at the rate that was reached
        (load(rows=2_400_000, seconds=10, pushbacks=1, code=241), 240_000),
        (load(rows=2_400_000, seconds=10, slowest=5.1), 240_000),
        # half at most, however fast
        (load(rows=2_400_000, seconds=1, pushbacks=1, code=241), 1_200_000),
        # never under the setting
        (load(rows=1_000, seconds=10, pushbacks=9, code=202), 50_000),
        # too many parts: a full range of each of six partitions, smaller ones are more parts
        (load(rows=1_000, seconds=10, pushbacks=9, code=252), 600_000),
    ],
)
def test_limit_shrinks_to_two_intervals_when_the_warehouse_is_overloaded(
    overload: Load, expected: int
) -> None:
    throttle = Throttle(BOUNDS)
    throttle.observe(overload, 600_000)
    assert throttle.limit == expected


def test_limit_shrinks_step_by_step_and_grows_back_when_it_passes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    throttle = Throttle(BOUNDS)
    limits = []
    for _ in range(4):
        throttle.observe(load(rows=throttle.limit, seconds=1, pushbacks=2, code=241), 0)
        limits.append(throttle.limit)
    assert limits == [1_200_000, 600_000, 300_000, 150_000]
    for _ in range(5):
        throttle.observe(load(rows=throttle.limit, seconds=1), 0)
        limits.append(throttle.limit)
    assert limits[4:] == [300_000, 600_000, 1_200_000, 2_400_000, 2_400_000]
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["message"] for line in lines] == ["batches shrink"] * 4 + ["batches grow"] * 4
    assert [line["offsets"] for line in lines] == limits[:-1]
    assert lines[0]["reason"] == "error 241"


def test_limit_never_grows_by_an_overload_when_it_is_below_the_floor() -> None:
    throttle = Throttle(Bounds(30_000, 50_000, 0.5, 5))
    throttle.observe(load(pushbacks=1, code=252), 600_000)
    assert throttle.limit == 30_000
