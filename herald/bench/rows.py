"""Rows of `bench.json`: names, units and goals are fixed in one place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from herald.records import git_commit, now, read_record, write_record

Better = Literal["higher", "lower"]


@dataclass(frozen=True, slots=True)
class Goal:
    """What a figure should reach; `stretch` is what it may reach beyond."""

    unit: str
    value: float
    better: Better
    stretch: float | None = None


GOALS: dict[str, Goal] = {
    "landing_drain_events_per_s": Goal("events/s", 150_000, "higher", 200_000),
    "landing_over_limit": Goal("ratio", 0.35, "higher", 0.50),
    "landing_over_python_consumer": Goal("ratio", 3.0, "higher"),
    "landing_over_from_json": Goal("ratio", 2.0, "higher"),
    "landing_sustained_events_per_s": Goal("events/s", 100_000, "higher", 150_000),
    "visible_p50_s": Goal("s", 1.2, "lower"),
    "visible_p99_s": Goal("s", 2.5, "lower"),
    "live_clients": Goal("clients", 1_000, "higher"),
    "live_p99_s": Goal("s", 2.0, "lower"),
    "recovery_s": Goal("s", 20.0, "lower"),
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
    stretch: float | None = None


def row(
    name: str, value: float, detail: str, baseline: float | None = None, *, valid: bool = True
) -> BenchRow:
    """A figure under its goal.

    Args:
        name: of `GOALS`; another raises KeyError.
        value: in the goal's unit.
        detail: how it was measured, in a sentence.
        baseline: what it was compared with, in the same run.
        valid: False where the figure was not reached under the goal's conditions (a short run, a
            lag that grew), so that it cannot meet it.
    """
    goal = GOALS[name]
    met = value >= goal.value if goal.better == "higher" else value <= goal.value
    ratio = None
    if baseline:  # a figure that is a ratio names only what it was divided by
        ratio = round(value if goal.unit == "ratio" else value / baseline, 4)
    return BenchRow(
        name,
        round(value, 4),
        goal.unit,
        goal.value,
        goal.better,
        met and valid,
        detail,
        baseline,
        ratio,
        goal.stretch,
    )


def save(
    path: Path,
    rows: Sequence[BenchRow],
    *,
    command: str,
    started_at: datetime,
    series: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """Write rows and series; those of other measurements in the same file stay as they were.

    Args:
        path: the record.
        rows: figures with goals.
        command: what was run, as typed.
        started_at: when it started, UTC.
        series: what plots and tables are drawn from, by name: lists of flat records.

    Returns:
        The rows as written, each with the time and the commit it was measured at.
    """
    stamp = {"measured_at": now().isoformat(timespec="seconds"), "measured_commit": git_commit()}
    fresh = [
        {**{name: value for name, value in asdict(r).items() if value is not None}, **stamp}
        for r in rows
    ]
    names = {r["name"] for r in fresh}
    old = read_record(path)
    kept = [r for r in old.get("rows", []) if r["name"] not in names]
    drawn = {
        **old.get("series", {}),
        **{name: {**stamp, "points": points} for name, points in (series or {}).items()},
    }
    payload: dict[str, Any] = {"rows": [*kept, *fresh]}
    if drawn:
        payload["series"] = drawn
    write_record(path, command=command, started_at=started_at, **payload)
    return fresh
