"""Kafka, PostgreSQL, Valkey and the warehouse, as the platform runs them."""

from __future__ import annotations

import time
import uuid

import psycopg
import pytest
import redis
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError
from confluent_kafka import Consumer, Producer

from herald.settings import Settings
from infra.local import kafka, postgres
from infra.local.platform import Platform


def test_broker_keeps_a_record_when_it_is_killed(broker: str, platform: Platform) -> None:
    value = uuid.uuid4().bytes
    producer = Producer({"bootstrap.servers": broker, "acks": "all"})
    producer.produce("notifications.alerts.v1", value)
    assert producer.flush(20) == 0

    platform.kill("kafka")
    seconds = platform.wait_healthy("kafka", 60)

    consumer = Consumer(
        {"bootstrap.servers": broker, "group.id": "t", "auto.offset.reset": "earliest"}
    )
    consumer.subscribe(["notifications.alerts.v1"])
    found: list[bytes | None] = []
    deadline = time.monotonic() + 30
    while value not in found and time.monotonic() < deadline:
        found += [message.value() for message in consumer.consume(10, timeout=0.5)]
    consumer.close()
    assert value in found
    assert seconds < 20


def test_topics_are_unchanged_when_applied_again(broker: str, settings: Settings) -> None:
    assert kafka.apply_topics(settings.kafka) == []


def test_topic_gets_partitions_and_configuration_when_the_file_changes(
    broker: str, settings: Settings
) -> None:
    topics = settings.kafka.topics.model_copy(update={"alerts": f"t.{uuid.uuid4().hex}"})
    own = settings.kafka.model_copy(update={"topics": topics})
    first = {"alerts": kafka.Topic(name="x", partitions=1)}
    more = {"alerts": kafka.Topic(name="x", partitions=3, config={"retention.ms": 60_000})}
    fewer = {"alerts": kafka.Topic(name="x", partitions=2, config={"retention.ms": 60_000})}

    assert kafka.apply_topics(own, first) == [f"created {topics.alerts}"]
    assert kafka.apply_topics(own, more) == [
        f"{topics.alerts}: 1 -> 3 partitions",
        f"{topics.alerts}: retention.ms = 60000",
    ]
    assert kafka.apply_topics(own, fewer) == []  # partitions are never taken away


def test_broker_error_names_the_address_when_nothing_answers(
    settings: Settings, free_port: object
) -> None:
    assert callable(free_port)
    nowhere = settings.kafka.model_copy(update={"port": free_port()})
    with pytest.raises(kafka.BrokerDownError, match=f"127.0.0.1:{nowhere.port}"):
        kafka.admin(nowhere, timeout_seconds=1)


def test_postgres_has_the_databases_and_refuses_a_wrong_password(platform: Platform) -> None:
    platform.up(["postgres"])
    server = platform.settings.postgres
    for name in postgres.DATABASES:
        with postgres.connect(server, name) as connection:
            row = connection.execute("SHOW server_version").fetchone()
            assert row is not None
            assert row[0].startswith("18.")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(
            postgres.url(server, "airflow").replace(
                ":" + server.password.get_secret_value(), ":wrong"
            )
        )


def test_valkey_refuses_a_client_without_a_password(valkey: str, settings: Settings) -> None:
    assert redis.Redis.from_url(valkey).set("a", "b")
    with pytest.raises(redis.AuthenticationError):
        redis.Redis(port=settings.valkey.port).ping()


def test_warehouse_has_the_schema_and_a_reader(warehouse: Client, warehouse_reader: Client) -> None:
    count = "SELECT count() FROM system.tables WHERE database = 'raw'"
    assert warehouse.query(count).result_rows[0][0] >= 5
    assert warehouse_reader.query("SELECT 1").result_rows == [(1,)]
    with pytest.raises(ClickHouseError):
        warehouse_reader.command("CREATE TABLE marts.refused (a UInt8) ENGINE = Memory")
