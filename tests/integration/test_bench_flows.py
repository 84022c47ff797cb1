"""Small runs of the flows on a platform of their own: figures are there, whatever they are."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from herald.bench.flow import Producing, await_caught_up
from herald.bench.pacer import Pace
from herald.bench.rates import measure_sustained, measure_visible, recovery_measured
from herald.bench.recovery import run_recoveries
from herald.bench.stage import BenchError
from herald.bench.suite import bench_platform
from herald.bench.watch import measure_live
from herald.settings import Settings
from herald.warehouse.client import connect
from infra.local.platform import Platform


@pytest.fixture(scope="module")
def flowing(settings: Settings) -> Iterator[Platform]:
    """A platform with a landing and an API that nobody else feeds."""
    with bench_platform(settings, ["landing", "api"]) as platform:
        yield platform


def test_canaries_are_all_seen_when_events_flow(flowing: Platform) -> None:
    measured = measure_visible(flowing, [300], 5.0)
    rows = {r.name: r for r in measured.rows}
    assert 0 < rows["visible_p50_s"].value <= rows["visible_p99_s"].value
    assert not rows["visible_p99_s"].met  # not the goal's rate, however quick
    [point] = measured.series["visible"]
    assert point["unseen"] == 0
    assert point["canaries"] > 10
    assert {p["process"] for p in measured.series["cpu_by_rate"]} == {
        "kafka", "warehouse", "landing", "producer",
    }  # fmt: skip


def test_everything_produced_is_landed_when_the_flow_ends(flowing: Platform) -> None:
    measured = measure_sustained(flowing, 500, 4.0)
    [row] = measured.rows
    assert row.name == "landing_sustained_events_per_s"
    assert row.value > 0
    assert not row.met  # four seconds are no five minutes
    await_caught_up(flowing.settings)
    client = connect(flowing.settings.warehouse)
    doubled = client.query(
        "SELECT count() - uniqExact(_partition, _offset) FROM raw.events"
    ).result_rows[0][0]
    client.close()
    assert doubled == 0
    assert len(measured.series["lag"]) > 3


def test_clients_count_canaries_when_the_live_page_is_watched(flowing: Platform) -> None:
    measured = measure_live(flowing, 200, 6.0, clients=20, lead_seconds=20)
    rows = {r.name: r for r in measured.rows}
    assert rows["live_clients"].value == 20
    assert rows["live_p99_s"].value > 0
    assert "0 never counted" in rows["live_p99_s"].detail


def test_lag_returns_when_landing_is_killed(flowing: Platform) -> None:
    found = run_recoveries(
        flowing, 200, victims=["landing"], settle=1, steady=3, within=20, pool=5_000
    )
    measured = recovery_measured(found, 200)
    assert measured.rows[0].value == pytest.approx(found[0].seconds, abs=0.01)
    assert found[0].seconds > 0
    assert found[0].lag_most >= found[0].lag_before


def test_producer_says_why_when_there_is_no_topic(flowing: Platform) -> None:
    pace = Pace(flowing.settings.kafka.servers, "no.such.topic", 100, 5, pool=2_000)
    source = Producing(flowing.settings, pace)
    with pytest.raises(BenchError, match=r"ended with 1; its words are in pacer\.log"):
        source.wait_begun()
