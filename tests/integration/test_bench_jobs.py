"""Small runs of the comparison jobs on Spark: every way lands what it was given."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from herald.bench.comparison import from_json_row, spark_lines
from herald.bench.cost import run_cost_bench
from herald.bench.stage import BenchError, produce
from herald.bench.suite import bench_platform
from herald.bench.ways import real_time_point, ways_points
from herald.settings import Settings
from herald.warehouse.client import connect

EVENTS = 12_000


@pytest.fixture(scope="module")
def filled(settings: Settings) -> Iterator[Settings]:
    """Settings of a platform with some events in the broker and nothing that lands them."""
    with bench_platform(settings, ["kafka", "warehouse"]) as platform:
        produce(platform.settings, EVENTS, seed=6)
        yield platform.settings


def test_from_json_is_compared_when_it_landed_the_events(filled: Settings) -> None:
    client = connect(filled.warehouse)
    row = from_json_row(filled, client, EVENTS, 50_000.0)
    tables = client.query("SELECT name FROM system.tables WHERE database = 'bench'").result_rows
    client.close()
    assert row.baseline is not None
    assert row.value == pytest.approx(50_000 / row.baseline, rel=0.01)
    assert tables == []


def test_every_way_takes_the_same_events_when_measured(filled: Settings) -> None:
    points = ways_points(filled, EVENTS)
    assert [(p["way"], p["stage"]) for p in points] == [
        *(
            (way, stage)
            for way in ("kafka_source", "ranges", "ranges_large", "records_source")
            for stage in ("read", "parse", "land")
        ),
        ("from_json", "parse"),
        ("from_json", "land"),
    ]
    assert len({p["events"] for p in points}) == 1
    assert points[0]["events"] > EVENTS * 0.8
    assert all(p["events_per_s"] > 0 for p in points)


def test_canaries_come_through_when_the_query_is_in_real_time_mode(filled: Settings) -> None:
    point = real_time_point(filled, "realTime", 4.0, warm=5.0)
    assert point["canaries"] > 30
    assert 0 < point["p50_ms"] <= point["p99_ms"]


def test_job_that_fails_is_told_with_its_log(filled: Settings) -> None:
    with pytest.raises(BenchError, match="KeyError: 'never'"):
        list(spark_lines(filled, "spark_jobs.bench.real_time", "never", "1"))


def test_cost_has_every_stage_when_measured_small(settings: Settings, tmp_path: Path) -> None:
    output = tmp_path / "bench.json"
    points = run_cost_bench(
        settings, 12_000, 4.0, output, command="herald bench cost", rates=(500,)
    )
    batches = [p for p in points if p["kind"] == "batch"]
    fields = [p for p in points if p["kind"] == "fields"]
    rates = [p for p in points if p["kind"] == "rate"]
    assert [p["size"] for p in batches][:1] == [1_000]
    assert [p["fields"] for p in fields] == [10, 20, 30, 40, 55]
    assert {p["process"] for p in rates} == {"kafka", "warehouse", "landing", "producer"}
    for point in [*batches, *fields]:
        assert point["parse_us"] > 0
        assert point["insert_server_us"] > 0
    assert fields[-1]["bytes"] > 2 * fields[0]["bytes"]
    series = json.loads(output.read_text(encoding="utf-8"))["series"]
    assert series["cost"]["points"] == [*batches, *fields]
