"""A small run of the landing bench: every figure is there and plausible, whatever the machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from herald.bench.landing import run_landing_bench
from herald.bench.rows import row, save
from herald.bench.suite import ROWS_OF
from herald.records import now
from herald.settings import Settings


def test_bench_writes_every_landing_figure_when_it_runs_small(
    settings: Settings, tmp_path: Path
) -> None:
    output = tmp_path / "bench.json"
    rows = run_landing_bench(settings, 60_000, output)
    figures = {r["name"]: r["value"] for r in rows}
    assert set(figures) == set(ROWS_OF["landing"])
    assert figures["landing_drain_events_per_s"] > 0
    assert 0 < figures["compressed_over_json"] < 0.5
    record = json.loads(output.read_text(encoding="utf-8"))
    assert (record["schema"], record["rows"]) == (1, rows)
    limit = next(r for r in rows if r["name"] == "landing_over_limit")
    assert limit["value"] == pytest.approx(
        figures["landing_drain_events_per_s"] / limit["baseline"], rel=0.01
    )


def test_save_keeps_the_rows_of_other_measurements(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    save(path, [row("compressed_over_json", 0.07, "a")], command="a", started_at=now())
    save(path, [row("simulate_events_per_s", 1.0, "b")], command="b", started_at=now())
    rows = {r["name"]: r for r in json.loads(path.read_text(encoding="utf-8"))["rows"]}
    assert rows["compressed_over_json"]["met"] is True
    assert rows["simulate_events_per_s"]["met"] is False
