"""Rollups equal a recount of the events: after replays, late data and failed views."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client
from typer.testing import CliRunner

from herald.cli.main import build_app
from herald.live.recount import Recount, check_rollups
from herald.live.rollups import UNIQUE_ERROR
from herald.settings import Settings
from herald.simulator.options import SimulationOptions
from herald.simulator.stream import Simulation
from spark_jobs.sinks.clickhouse import WarehouseError
from tests.data.rollups import Landed, event

NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture
def unique_token(request: pytest.FixtureRequest) -> str:
    """Tokens outlive a test's rows: each test has its own."""
    return f"{request.node.name} {NOW.timestamp()}"


@pytest.fixture
def tenant(request: pytest.FixtureRequest) -> str:
    """A tenant of its own for each test: deleting rows takes seconds."""
    return f"rollups-{request.node.name[:40]}"


@pytest.fixture(scope="module")
def landed(warehouse: Client, settings: Settings) -> Iterator[Landed]:
    landed = Landed(settings.warehouse)
    yield landed
    landed.close()
    for table in ("raw.events", "live.events_second", "live.events_minute", "live.events_hour"):
        warehouse.command(
            f"ALTER TABLE {table} DELETE WHERE startsWith(tenant_id, 'rollups-') "
            "SETTINGS mutations_sync = 2"
        )


def _check(client: Client, tenant: str) -> dict[str, Recount]:
    found = check_rollups(client, tenant=tenant, settle_seconds=0)
    return {recount.grain: recount for recount in found}


def _numbers(client: Client, tenant: str, table: str, columns: str) -> tuple[Any, ...]:
    return tuple(
        client.query(f"SELECT {columns} FROM {table} WHERE tenant_id = '{tenant}'").result_rows[0]
    )


def _simulated(tenant: str, events: int, days: float = 20) -> list[bytes]:
    options = SimulationOptions(events=events, days=days, end=NOW, tenant=tenant, seed=5)
    return [v for batch in Simulation(options).batches() for v in batch.values.to_list()]


def test_rollups_equal_the_recount_when_a_backlog_is_landed_and_replayed(
    warehouse: Client, landed: Landed, unique_token: str, tenant: str
) -> None:
    values = _simulated(tenant, 12_000)
    half = len(values) // 2
    stored = landed.land(values[:half], token=f"{unique_token} a")
    stored += landed.land(values[half:], token=f"{unique_token} b")
    for _ in range(2):
        landed.land(values[:half], token=f"{unique_token} a")
    found = _check(warehouse, tenant)
    assert found["hour"].ok
    assert found["hour"].events_rollup == found["hour"].events_raw == stored
    assert found["minute"].ok
    assert 0 < found["minute"].events_rollup < stored
    assert found["second"].ok
    assert found["second"].events_rollup < found["minute"].events_rollup


def test_each_table_takes_an_event_by_its_lateness_when_it_lands(
    warehouse: Client, landed: Landed, unique_token: str, tenant: str
) -> None:
    ages = {1: 5, 2: 7_100, 3: 7_300, 4: 172_700, 5: 172_900, 6: 40 * 86_400}
    landed.land(
        [event(n, "sent", NOW - timedelta(seconds=s), tenant=tenant) for n, s in ages.items()],
        token=unique_token,
        landed_at=NOW,
    )
    counts = [
        _numbers(warehouse, tenant, f"live.events_{g}", "sum(sent)")[0]
        for g in ("second", "minute")
    ]
    assert counts == [2, 4]
    assert _numbers(warehouse, tenant, "live.events_hour", "sum(sent)") == (6,)
    assert all(recount.ok for recount in _check(warehouse, tenant).values())


def test_counts_money_and_audience_are_kept_apart_when_people_and_machines_engage(
    warehouse: Client, landed: Landed, unique_token: str, tenant: str
) -> None:
    landed.land(
        [
            event(1, "sent", NOW, tenant=tenant, cost=0.002),
            event(1, "opened", NOW, tenant=tenant, machine_open=True),
            event(1, "opened", NOW, tenant=tenant),
            event(1, "clicked", NOW, tenant=tenant, is_suspected_bot=True),
            event(1, "converted", NOW, tenant=tenant, conversion_name="booking", revenue=12.5),
            event(1, "marked_as_spam", NOW, tenant=tenant),
            event(2, "bounced", NOW, tenant=tenant),
            event(2, "soft_bounced", NOW, tenant=tenant),
        ],
        token=unique_token,
    )
    columns = (
        "sumIf(opened, audience = 'human'), sumIf(opened, audience = 'machine'), "
        "sumIf(clicked, audience = 'human'), sumIf(clicked, audience = 'machine'), sum(converted), "
        "sum(complained), sum(bounced), sum(soft_bounced), sum(revenue), sum(cost), sum(events)"
    )
    for grain in ("second", "minute", "hour"):
        numbers = _numbers(warehouse, tenant, f"live.events_{grain}", columns)
        assert [float(n) for n in numbers] == [1, 1, 0, 1, 1, 1, 1, 1, 12.5, 0.002, 8]


def test_a_retry_completes_the_rollups_when_a_view_failed_after_the_events_were_stored(
    warehouse: Client, landed: Landed, unique_token: str, tenant: str
) -> None:
    values = [event(n, "sent", NOW - timedelta(hours=n), tenant=tenant) for n in range(1, 60)]
    warehouse.command(
        "CREATE MATERIALIZED VIEW live.failing_view TO live.campaigns AS "
        f"SELECT throwIf(tenant_id = '{tenant}') AS is_deleted FROM live.rollup_stage"
    )
    try:
        with pytest.raises(WarehouseError, match="throwIf"):
            landed.land(values, token=unique_token)
    finally:
        warehouse.command("DROP VIEW live.failing_view SYNC")
    assert _numbers(warehouse, tenant, "raw.events", "count()") == (59,)
    for _ in range(2):
        landed.land(values, token=unique_token)
    found = _check(warehouse, tenant)
    assert found["hour"].events_rollup == found["hour"].events_raw == 59
    assert all(recount.ok for recount in found.values())


def test_the_recount_finds_what_is_wrong_when_a_rollup_was_changed(
    warehouse: Client, landed: Landed, unique_token: str, tenant: str
) -> None:
    at = NOW - timedelta(minutes=5)
    landed.land([event(n, "sent", at, tenant=tenant) for n in range(3)], token=unique_token)
    warehouse.command(
        "INSERT INTO live.events_minute (bucket_at, tenant_id, campaign_id, channel, country, "
        "platform, provider, audience, sent, events) SELECT toStartOfMinute(toDateTime("
        f"{int(at.timestamp())})), '{tenant}', 'spring', 'email', 'DE', 'ios', 'post', 'human', "
        "2, 2"
    )
    found = _check(warehouse, tenant)
    assert found["second"].ok
    assert found["hour"].ok
    (difference,) = found["minute"].shown
    assert not found["minute"].ok
    assert difference.delta == {"sent": 2.0, "events": 2.0}
    assert difference.key["campaign_id"] == "spring"
    assert found["minute"].events_rollup - found["minute"].events_raw == 2


def test_a_difference_is_no_error_when_events_landed_at_the_cut_of_a_grain(
    warehouse: Client, landed: Landed, unique_token: str, tenant: str
) -> None:
    at = NOW - timedelta(seconds=7_190)
    landed.land([event(1, "sent", at, tenant=tenant)], token=unique_token, landed_at=NOW)
    # as if another process had retried: its stamp says late, the stored row says in time
    warehouse.command(
        f"ALTER TABLE live.events_second DELETE WHERE tenant_id = '{tenant}' "
        "SETTINGS mutations_sync = 2"
    )
    second = _check(warehouse, tenant)["second"]
    assert second.ok
    assert second.boundary == 1
    assert second.shown[0].is_boundary


def test_uniques_stay_within_their_error_when_many_blocks_are_merged(
    warehouse: Client, landed: Landed, unique_token: str, tenant: str
) -> None:
    users = 20_000
    for block in range(4):
        landed.land(
            [
                event(n, "sent", NOW - timedelta(seconds=n % 3_000), tenant=tenant)
                for n in range(block * users // 5, block * users // 5 + 2 * users // 5)
            ],
            token=f"{unique_token} {block}",
        )
    (estimate,) = _numbers(
        warehouse, tenant, "live.events_minute", "uniqCombined64Merge(14)(unique_recipients)"
    )
    assert estimate == pytest.approx(users, rel=4 * UNIQUE_ERROR)
    assert _check(warehouse, tenant)["minute"].ok


def test_live_check_prints_a_record_of_each_grain_when_asked_for_json(
    warehouse: Client,
    landed: Landed,
    unique_token: str,
    tenant: str,
    herald_environment: dict[str, str],
) -> None:
    landed.land([event(1, "sent", NOW, tenant=tenant)], token=unique_token)
    command = ["live", "check", "--json", "--tenant", tenant, "--settle", "0"]
    result = CliRunner().invoke(build_app(), command, env=herald_environment)
    assert result.exit_code == 0, result.output
    records = json.loads(result.stdout)
    assert [(r["grain"], r["ok"], r["events_raw"]) for r in records] == [
        ("second", True, 1),
        ("minute", True, 1),
        ("hour", True, 1),
    ]
    wrong = CliRunner().invoke(
        build_app(), ["live", "check", "--grain", "day"], env=herald_environment
    )
    assert wrong.exit_code == 2
