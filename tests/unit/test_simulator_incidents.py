"""Planted incidents: there when asked for, found in the events alone, and nowhere else."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from herald.simulator.incidents import HOURS_OF_KIND, STRENGTHS, plan
from herald.simulator.options import SimulationOptions
from herald.simulator.stream import Simulation

END = datetime(2026, 10, 5, tzinfo=UTC)


def options(**changes: Any) -> SimulationOptions:
    base = {"events": 120_000, "days": 7.0, "seed": 5, "end": END, "malformed_share": 0.0}
    return SimulationOptions(**{**base, "outages": False, **changes})


def events_of(chosen: SimulationOptions) -> tuple[pl.DataFrame, Simulation]:
    run = Simulation(chosen)
    parsed = [json.loads(v) for batch in run.batches() for v in batch.values]
    names = ("event_type", "provider", "message_id", "user_id", "campaign_id")
    frame = pl.DataFrame(
        [{**{n: e.get(n, "") for n in names}, "at": e["occurred_at"]} for e in parsed]
    )
    action = pl.col("event_type").str.split(".").list.last()
    at = pl.col("at").str.to_datetime("%+", time_zone="UTC", time_unit="ms").dt.epoch("ms")
    return frame.with_columns(at=at, action=action), run


@pytest.fixture(scope="module")
def bad() -> tuple[pl.DataFrame, Simulation]:
    return events_of(options(incidents_per_kind=1, canary_minutes=30))


def inside(frame: pl.DataFrame, one: Any) -> pl.DataFrame:
    """Events of the incident's time, channel and provider."""
    found = frame.filter(pl.col("at").is_between(one.starts_ms, one.ends_ms, closed="left"))
    if one.channel:
        found = found.filter(pl.col("event_type").str.starts_with(f"{one.channel}."))
    return found.filter(pl.col("provider") == one.provider) if one.provider else found


def counts(frame: pl.DataFrame) -> dict[str, int]:
    return dict(frame.group_by("action").len().iter_rows())


def test_plan_has_every_kind_apart_from_each_other_when_asked() -> None:
    found = plan(options(incidents_per_kind=2))
    assert {p.kind for p in found} == set(HOURS_OF_KIND)
    assert len(found) == 2 * len(HOURS_OF_KIND)
    starts = [p.starts_ms for p in found]
    assert starts == sorted(starts)
    for one in found:
        low, high = STRENGTHS.get(one.kind, (1.0, 1.0))
        assert low <= one.strength <= high
        assert options().start_ms <= one.starts_ms < one.ends_ms <= options().end_ms


def test_nothing_is_planted_when_nobody_asks() -> None:
    plain = [bytes(v) for b in Simulation(options()).batches() for v in b.values]
    assert len(plain) == 120_000
    assert not any(b"canary" in v for v in plain)
    assert Simulation(options()).planted.truth() == []


def test_the_same_seed_plants_the_same_when_run_again() -> None:
    small = options(events=5_000, incidents_per_kind=1, canary_minutes=60)
    first, second = (
        [bytes(v) for b in Simulation(small).batches() for v in b.values] for _ in range(2)
    )
    assert first == second


def test_incidents_are_found_in_the_events_alone(bad: tuple[pl.DataFrame, Simulation]) -> None:
    frame, run = bad
    planted = {p.kind: p for p in run.planted.planted}
    seen = {kind: counts(inside(frame, one)) for kind, one in planted.items()}
    lost = seen["callbacks_lost"]
    assert lost.get("delivered", 0) < lost["sent"] * (1.2 - planted["callbacks_lost"].strength)
    assert seen["bounce_spike"]["bounced"] > 0.04 * seen["bounce_spike"]["sent"]
    assert seen["complaint_spike"]["marked_as_spam"] > 0.005 * seen["complaint_spike"]["delivered"]
    assert not seen["provider_silent"]
    assert seen["provider_outage"].get("sent", 0) < 0.5 * seen["provider_outage"]["attempted"]
    assert seen["click_bots"]["clicked"] >= 600
    assert seen["stalled"].get("attempted", 0) < 0.3 * seen["stalled"]["targeted"]
    assert seen["opens_lost"].get("opened", 0) < 0.5 * seen["opens_lost"]["delivered"]
    canary = inside(frame, planted["canary_lost"]).filter(pl.col("campaign_id") == "canary")
    assert counts(canary) == {"attempted": 2, "sent": 2}


def test_volume_changes_and_loops_are_found_beside_a_run_without_them(
    bad: tuple[pl.DataFrame, Simulation],
) -> None:
    frame, run = bad
    plain, _ = events_of(options())
    planted = {p.kind: p for p in run.planted.planted}
    for kind, low, high in (("volume_drop", 0.0, 0.6), ("double_send", 2.0, 4.0)):
        with_it, without = (
            counts(inside(f, planted[kind]).filter(pl.col("campaign_id") != "canary"))["sent"]
            for f in (frame, plain)
        )
        assert low < with_it / without < high, kind
    loops = inside(frame, planted["send_loop"]).filter(pl.col("action") == "sent")
    often = loops.group_by("message_id", "user_id").len().filter(pl.col("len") >= 40)
    assert len(often) >= 10


def test_truth_lists_what_was_planted_when_it_is_written(
    bad: tuple[pl.DataFrame, Simulation], tmp_path: Path
) -> None:
    _, run = bad
    truth = json.loads(run.write_truth(tmp_path).read_bytes())
    assert {p["kind"] for p in truth["planted"]} == set(HOURS_OF_KIND)
    assert all(p["starts_at"] < p["ends_at"] for p in truth["planted"])
