"""Every mart before and after the warehouse was rebuilt from the lake."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from clickhouse_connect.driver.client import Client
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from pydantic import SecretStr

from herald.lake.store import open_catalog
from herald.lake.sync import Lake
from herald.lake.tables import TABLES
from herald.settings import Settings
from herald.warehouse.dbt import run_dbt
from spark_jobs.jobs.land_range import Lander, TaskConfig
from spark_jobs.rebuild import rebuild_from_lake
from spark_jobs.sources.ranges import OffsetRange

TOPIC = "lake-marts.events"
CAMPAIGNS = "lake-marts.campaigns"
STAMPS = {"updated_at", "rule_updated_at", "staged_at"}
"""Times of the dbt run, which differ by their meaning."""


def event(number: int) -> dict[str, Any]:
    action = ("sent", "delivered", "opened", "clicked", "bounced")[number % 5]
    return {
        "event_id": f"0192d3a4-5b6c-7d8e-9f02-{number:012d}",
        "tenant_id": "lake-marts",
        "event_type": f"email.{action}",
        "occurred_at": f"2026-02-0{number % 7 + 1}T1{number % 9}:00:00Z",
        "message_id": f"m{number // 5}",
        "user_id": f"u{number % 40}",
        "campaign_id": "c-lake",
        "variant_id": "AB"[number // 5 % 2],
        "country": ("DE", "FR")[number // 5 % 2],
        "cost": 0.01,
        "user_agent": "curl/8" if number % 13 == 0 else "",
    }


def campaign() -> dict[str, Any]:
    return {
        "tenant_id": "lake-marts",
        "campaign_id": "c-lake",
        "name": "Lake",
        "channel": "email",
        "updated_at": "2026-01-01T00:00:00Z",
        "status": "active",
    }


def marts(client: Client) -> dict[str, list[tuple[Any, ...]]]:
    """Rows of every table of the marts and their layers below, by name."""
    found = {}
    tables = client.query(
        "SELECT database, name FROM system.tables WHERE engine LIKE '%MergeTree' "
        "AND database IN ('staging', 'intermediate', 'marts') ORDER BY ALL"
    ).result_rows
    for database, table in tables:
        columns = [
            f"finalizeAggregation({name})" if kind.startswith("AggregateFunction")
            else f"arraySort({name})" if kind.startswith("Array") else name
            for name, kind in client.query(
                "SELECT name, type FROM system.columns WHERE database = {d:String} "
                "AND table = {t:String}",
                parameters={"d": database, "t": table},
            ).result_rows
            if name not in STAMPS
        ]  # fmt: skip
        found[f"{database}.{table}"] = client.query(
            f"SELECT toString(tuple({', '.join(columns)})) AS r FROM {database}.{table} ORDER BY r"
        ).result_rows
    return found


def build(settings: Settings) -> None:
    done = run_dbt(
        settings,
        ["build", "--full-refresh", "--exclude-resource-type", "test",
         "--exclude-resource-type", "unit_test"],
        capture=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-5000:]


def test_every_mart_is_the_same_when_the_warehouse_is_rebuilt_from_the_lake(
    settings: Settings, broker: str, warehouse: Client, lake: Settings, tmp_path: Path
) -> None:
    for table in TABLES:
        warehouse.command(f"TRUNCATE TABLE {table.source}")
    admin = AdminClient({"bootstrap.servers": broker})
    topics = [NewTopic(TOPIC, 1), NewTopic(CAMPAIGNS, 1), NewTopic("lake-marts.dead", 1)]
    for future in admin.create_topics(topics).values():
        future.result(20)
    producer = Producer({"bootstrap.servers": broker})
    for number in range(500):
        producer.produce(TOPIC, value=json.dumps(event(number)).encode())
    producer.produce(CAMPAIGNS, value=json.dumps(campaign()).encode())
    assert producer.flush(30) == 0
    kafka = lake.kafka.model_copy(
        update={"topics": lake.kafka.topics.model_copy(update={"campaigns": CAMPAIGNS})}
    )
    # a catalog of its own: what other tests left in the shared one would be rebuilt too
    catalog = SecretStr(f"sqlite:///{tmp_path / 'catalog.db'}")
    own = lake.model_copy(
        update={"kafka": kafka, "lake": lake.lake.model_copy(update={"catalog_uri": catalog})}
    )
    base = TaskConfig.of(own)
    tables = ((TOPIC, "raw.events"), (CAMPAIGNS, "raw.campaigns"))
    lander = Lander(TaskConfig(broker, base.warehouse, base.limits, "lake-marts.dead", tables))
    try:
        lander.land(OffsetRange(TOPIC, 0, 0, 299, 1_800_000_000_000), 0)
        lander.land(OffsetRange(TOPIC, 0, 300, 499, 1_800_000_000_000), 0)
        lander.land(OffsetRange(CAMPAIGNS, 0, 0, 0, 1_800_000_000_000), 0)
    finally:
        lander.consumer.close()
        lander.sink.close()
    build(settings)
    before = marts(warehouse)
    store = Lake(open_catalog(own), own)
    store.sync(warehouse)

    rebuild_from_lake(warehouse, store, own, replace=True)
    build(settings)

    after = marts(warehouse)
    for table in TABLES:
        warehouse.command(f"TRUNCATE TABLE {table.source}")
    assert len(before["marts.fct_messages"]) == 100
    assert before["marts.dim_campaigns"]
    assert after.keys() == before.keys()
    for name, rows in before.items():
        assert after[name] == rows, name
