"""Rows of `bench.json`: names, units and goals are fixed in one place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from herald.records import read_record, write_record

Better = Literal["higher", "lower"]


@dataclass(frozen=True, slots=True)
class Goal:
    """What a figure should reach; the first goal of a figure that has a later, higher one too."""

    unit: str
    value: float
    better: Better


GOALS: dict[str, Goal] = {
    "landing_drain_events_per_s": Goal("events/s", 100_000, "higher"),
    "landing_over_limit": Goal("ratio", 0.35, "higher"),
    "landing_over_python_consumer": Goal("ratio", 3.0, "higher"),
    "simulate_events_per_s": Goal("events/s", 200_000, "higher"),
    "compressed_over_json": Goal("ratio", 0.08, "lower"),
    "api_p99_ms": Goal("ms", 25.0, "lower"),
}


@dataclass(frozen=True, slots=True)
class BenchRow:
    """One figure. `baseline` is what it was compared with, `ratio` the figure over it."""

    name: str
    value: float
    unit: str
    goal: float
    better: Better
    met: bool
    detail: str
    baseline: float | None = None
    ratio: float | None = None


def row(name: str, value: float, detail: str, baseline: float | None = None) -> BenchRow:
    """A figure under its goal. Raises KeyError for a name that has none."""
    goal = GOALS[name]
    met = value >= goal.value if goal.better == "higher" else value <= goal.value
    ratio = None
    if baseline:  # a figure that is a ratio names only what it was divided by
        ratio = round(value if goal.unit == "ratio" else value / baseline, 4)
    return BenchRow(
        name, round(value, 4), goal.unit, goal.value, goal.better, met, detail, baseline, ratio
    )


def save(
    path: Path, rows: Sequence[BenchRow], *, command: str, started_at: datetime
) -> list[dict[str, Any]]:
    """Write the rows; those of other measurements in the same file stay."""
    fresh = [{name: value for name, value in asdict(r).items() if value is not None} for r in rows]
    names = {r["name"] for r in fresh}
    kept = [r for r in read_record(path).get("rows", []) if r["name"] not in names]
    write_record(path, command=command, started_at=started_at, rows=[*kept, *fresh])
    return fresh
