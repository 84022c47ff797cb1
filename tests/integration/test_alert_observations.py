"""Counts that rules read, from rollups that a real warehouse filled; and what waits for landing."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from clickhouse_connect.driver.client import Client
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from herald.alerts.judge import Judge, MemoryStore, grid
from herald.alerts.observations import WarehouseObservations
from herald.alerts.rules import Canary, OverMessaging, Rule, load_rules
from herald.settings import Settings
from spark_jobs.patterns.facts import Windows
from spark_jobs.patterns.source import UNTIL, FactConfig, FactReader, offsets_at
from spark_jobs.sinks.clickhouse import Address
from spark_jobs.sources.kafka import BrokerError

TENANT = "observed"
TOPIC = "observed.events"
NOW = datetime.now(UTC).replace(second=0, microsecond=0)
COLUMNS = ["event_id", "tenant_id", "event_type", "action", "channel", "provider", "campaign_id",
           "message_id", "occurred_at", "landed_at"]  # fmt: skip


def ms(at: datetime) -> int:
    return round(at.timestamp() * 1_000)


def insert(client: Client, rows: list[dict[str, Any]]) -> None:
    now = datetime.now(UTC)
    base = {"tenant_id": TENANT, "channel": "email", "provider": "ses", "campaign_id": "spring",
            "message_id": "", "landed_at": now}  # fmt: skip
    full = [{**base, "event_id": uuid.uuid4(), "event_type": f"email.{r['action']}", **r}
            for r in rows]  # fmt: skip
    client.insert("raw.events", [[r[c] for c in COLUMNS] for r in full], column_names=COLUMNS)


@pytest.fixture(scope="module")
def filled(warehouse: Client) -> Iterator[Client]:
    """Ten messages a minute of the last half hour; those of the last 15 minutes have no answer."""
    rows: list[dict[str, Any]] = []
    for minute in range(1, 31):
        at = NOW - timedelta(minutes=minute, seconds=-5)
        for provider in ("ses", "sendgrid"):
            rows += [{"action": "sent", "provider": provider, "occurred_at": at}] * 10
            if minute > 15 or provider == "sendgrid":
                done = {"action": "delivered", "provider": provider, "occurred_at": at}
                rows += [done] * 10
    # canaries: one answered at once, two never
    for number, age in enumerate((25, 20, 15)):
        at = NOW - timedelta(minutes=age)
        canary = {"campaign_id": "canary", "message_id": f"c{number}", "provider": "ses"}
        rows.append({**canary, "action": "attempted", "occurred_at": at})
        if number == 0:
            rows.append({**canary, "action": "delivered", "occurred_at": at + timedelta(seconds=3)})
    insert(warehouse, rows)
    yield warehouse
    warehouse.command(f"DELETE FROM live.events_minute WHERE tenant_id = '{TENANT}'")


@pytest.fixture(scope="module")
def rules() -> dict[str, Rule]:
    return {rule.name: rule for rule in load_rules()}


def test_counts_are_those_of_the_rollup_by_the_groups_of_the_rule(
    filled: Client, rules: dict[str, Rule]
) -> None:
    rule = rules["sent_without_delivered"]
    start, end = ms(NOW) - 20 * 60_000, ms(NOW)
    frame = WarehouseObservations(filled).counts(rule, ["sent", "delivered"], start, end)
    mine = frame.filter(frame["tenant_id"] == TENANT)
    totals = mine.group_by("provider").agg(pl.col("sent", "delivered").sum()).sort("provider")
    assert totals.select("provider", "sent", "delivered").rows() == [
        ("sendgrid", 200, 200), ("ses", 200, 50),
    ]  # fmt: skip
    assert sorted(set(mine["at"].to_list())) == list(range(start, end, 60_000))


def test_rules_find_the_gap_in_real_rollups_and_only_there(
    filled: Client, rules: dict[str, Rule]
) -> None:
    store = MemoryStore()
    wanted = [rules["sent_without_delivered"], rules["sending_stalled"], rules["bounce_rate"]]
    Judge(wanted, WarehouseObservations(filled), store).step(ms(NOW) - 30 * 60_000, ms(NOW))
    mine = [a for a in store.alerts.values() if a.tenant_id == TENANT]
    (alert,) = [a for a in mine if a.rule == "sent_without_delivered"]
    assert alert.group_key == {"channel": "email", "provider": "ses"}
    assert alert.status == "firing"
    assert not [a for a in mine if a.rule == "bounce_rate"]


def test_every_rule_of_the_project_runs_on_the_real_tables(
    filled: Client, rules: dict[str, Rule]
) -> None:
    judged = Judge(list(rules.values()), WarehouseObservations(filled), MemoryStore()).step(
        ms(NOW) - 10 * 60_000, ms(NOW)
    )
    assert judged.failed == ()
    assert judged.rules == len(rules)


def test_history_is_by_hour(filled: Client, rules: dict[str, Rule]) -> None:
    frame = WarehouseObservations(filled).history(
        rules["sent_volume"], ["sent"], ms(NOW) + 3_600_000
    )
    mine = frame.filter(frame["tenant_id"] == TENANT)
    assert mine["sent"].sum() == 600
    assert all(at % 3_600_000 == 0 for at in mine["at"])


def test_canaries_are_read_from_the_events_when_they_come_late(
    filled: Client, rules: dict[str, Rule]
) -> None:
    rule = rules["canary_late"]
    assert isinstance(rule, Canary)
    frame = WarehouseObservations(filled).canaries(rule, ms(NOW) - 3_600_000, ms(NOW))
    mine = frame.filter(frame["tenant_id"] == TENANT).sort("sent_at")
    assert mine["delivered_at"].is_null().to_list() == [False, True, True]
    # from end to end: until the answer had landed
    assert mine["delivered_at"][0] >= ms(NOW)
    store = MemoryStore()
    Judge([rule], WarehouseObservations(filled), store).step(ms(NOW) - 20 * 60_000, ms(NOW))
    (alert,) = [a for a in store.alerts.values() if a.tenant_id == TENANT]
    assert "limit 120 s" in alert.summary


def test_users_over_the_line_are_those_without_an_open(
    filled: Client, rules: dict[str, Rule]
) -> None:
    rule = rules["over_messaged_users"]
    assert isinstance(rule, OverMessaging)
    start = NOW - timedelta(hours=6)
    filled.insert(
        "live.messaged_users",
        [
            [rule.name, TENANT, user, start, NOW, sends, opens, NOW - timedelta(minutes=5), version]
            for user, sends, opens, version in (
                ("a", 30, 0, 1), ("a", 31, 0, 2), ("b", 25, 0, 1), ("b", 26, 1, 2), ("c", 9, 0, 1),
            )
        ],
    )  # fmt: skip
    found = WarehouseObservations(filled).messaged(rule, ms(start), ms(NOW))
    assert found.filter(found["tenant_id"] == TENANT).rows() == [
        (TENANT, "a", 31, ms(NOW) - 300_000)
    ]


def test_one_rule_that_fails_does_not_stop_the_others(
    filled: Client, rules: dict[str, Rule]
) -> None:
    class Failing(WarehouseObservations):
        def counts(self, rule: Any, *args: Any) -> Any:
            if rule.name == "bounce_rate":
                self._client.query("SELECT no_such_column FROM live.alerts")
            return super().counts(rule, *args)

    wanted = [rules["bounce_rate"], rules["sent_without_delivered"]]
    judged = Judge(wanted, Failing(filled), MemoryStore()).step(ms(NOW) - 30 * 60_000, ms(NOW))
    assert len(judged.failed) == 1
    assert judged.failed[0].startswith("bounce_rate: ")
    assert judged.opened >= 1


def test_instants_wait_for_the_landing_when_it_is_behind(
    filled: Client, broker: str, settings: Settings
) -> None:
    admin = AdminClient({"bootstrap.servers": broker})
    for future in admin.create_topics([NewTopic(TOPIC, 1)]).values():
        future.result(20)
    config = FactConfig(
        servers=broker, topic=TOPIC, warehouse=Address.of(settings.warehouse),
        windows=(Windows("daily", 86_400_000, 21_600_000),), step_ms=60_000, settle_ms=0,
        lookback_ms=600_000, max_offsets=100,
    )  # fmt: skip
    reader = FactReader(config)
    limit = reader.getDefaultReadLimit()
    deadline = time.monotonic() + 30
    while not is_there(reader):
        assert time.monotonic() < deadline, "the broker does not show its new topic"
        time.sleep(0.1)
    start = reader.initialOffset()
    until = time.time_ns() // 1_000_000
    assert until - 720_000 < start[UNTIL] <= until - 600_000
    assert reader.latestOffset(start, limit)[UNTIL] >= until // 60_000 * 60_000
    producer = Producer({"bootstrap.servers": broker})
    for _ in range(3):
        producer.produce(TOPIC, b'{"event_type":"email.sent"}')
    assert producer.flush(20) == 0
    behind = reader.latestOffset(start, limit)
    assert behind[f"{TOPIC}/0"] == 3
    assert behind[UNTIL] == start[UNTIL]  # nothing of it has landed
    landed = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=3)
    columns = ["topic", "partition", "first_offset", "last_offset", "max_occurred_at", "landed_at"]
    filled.insert("raw.landed_ranges", [[TOPIC, 0, 0, 1, landed, NOW]], column_names=columns)
    assert reader.latestOffset(start, limit)[UNTIL] == ms(landed)
    filled.insert("raw.landed_ranges", [[TOPIC, 0, 2, 2, landed, NOW]], column_names=columns)
    assert reader.latestOffset(start, limit)[UNTIL] >= until // 60_000 * 60_000
    # what is counted begins at the time asked for; later than everything is the end
    lows, highs = reader.watermarks.read()
    assert set(offsets_at(broker, TOPIC, 0, lows, highs).values()) == {0}
    assert set(offsets_at(broker, TOPIC, ms(NOW) + 86_400_000, lows, highs).values()) == {3}


def is_there(reader: FactReader) -> bool:
    try:
        return bool(reader.watermarks.read()[1])
    except BrokerError:
        return False


def test_grid_is_made_of_whole_steps() -> None:
    assert np.array_equal(grid(0, 120_000, 60_000), [60_000, 120_000])
