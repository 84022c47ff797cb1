"""The landing job against a real broker and warehouse: everything once, whatever dies."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError
from confluent_kafka import Consumer, Producer
from confluent_kafka import TopicPartition as KafkaPartition
from confluent_kafka.admin import AdminClient, NewTopic

from herald.dead_letters.browse import one, page, summarize
from herald.dead_letters.replay import replay
from herald.dead_letters.selection import LetterId, Selection
from herald.settings import Settings, Topics
from herald.warehouse.client import connect
from herald.warehouse.errors import WarehouseDownError
from infra.local.environment import child_environment
from infra.local.platform import Platform

PARTITIONS = 3


class Rig:
    """Topics, state and a landing job of its own."""

    def __init__(self, settings: Settings, state: Path) -> None:
        names = {name: f"landing-test.{name}" for name in Topics.model_fields}
        self.settings = settings.model_copy(
            update={
                "kafka": settings.kafka.model_copy(update={"topics": Topics(**names)}),
                "landing": settings.landing.model_copy(
                    update={"range_offsets": 1_000, "max_offsets_per_trigger": 9_000}
                ),
            }
        )
        self.topics = self.settings.kafka.topics
        self.checkpoints = settings.state_dir / "landing"
        self.log = state / "landing.log"
        self.produced = 0
        self.job: subprocess.Popen[bytes] | None = None
        self._producer = Producer({"bootstrap.servers": self.settings.kafka.servers})

    def create_topics(self) -> None:
        admin = AdminClient({"bootstrap.servers": self.settings.kafka.servers})
        wanted = [
            NewTopic(getattr(self.topics, name), PARTITIONS if name == "events" else 1)
            for name in Topics.model_fields
        ]
        for future in admin.create_topics(wanted).values():
            future.result(20)

    def produce(self, values: list[bytes | None], topic: str = "", key: bytes = b"k") -> None:
        for index, value in enumerate(values):
            self._producer.produce(
                topic or self.topics.events,
                value=value,
                key=key,
                partition=index % PARTITIONS if not topic else 0,
            )
            if index % 5_000 == 0:
                self._producer.poll(0)
        assert self._producer.flush(30) == 0
        self.produced += 0 if topic else len(values)

    def start(self) -> None:
        with self.log.open("ab") as out:
            self.job = subprocess.Popen(
                [sys.executable, "-m", "spark_jobs.jobs.land_events"],
                env={**os.environ, **child_environment(self.settings)},
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def kill(self) -> None:
        assert self.job is not None
        os.killpg(self.job.pid, signal.SIGKILL)
        self.job.wait(20)

    def stop(self) -> int:
        assert self.job is not None
        os.kill(self.job.pid, signal.SIGTERM)
        return self.job.wait(60)

    def wait(self, done: Callable[[], bool], seconds: float = 280) -> None:
        deadline = time.monotonic() + seconds
        while not done():
            assert self.job is not None
            tail = self.log.read_text(errors="replace")[-3_000:]
            assert self.job.poll() is None, f"the job ended:\n{tail}"
            assert time.monotonic() < deadline, f"nothing happened:\n{tail}"
            time.sleep(0.05)

    def lines(self) -> list[dict[str, Any]]:
        text = self.log.read_text(errors="replace").splitlines()
        return [json.loads(line) for line in text if line.startswith('{"at"')]


@pytest.fixture(scope="module")
def rig(
    platform: Platform, broker: str, warehouse: Client, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Rig]:
    rig = Rig(platform.settings, tmp_path_factory.mktemp("landing"))
    rig.create_topics()
    yield rig
    if rig.job is not None and rig.job.poll() is None:
        rig.kill()


def event(number: int, **changes: Any) -> bytes:
    base = {
        "event_id": f"0192d3a4-5b6c-7d8e-9f00-{number:012d}",
        "tenant_id": "landing-test",
        "event_type": "push.sent",
        "occurred_at": "2026-01-02T03:04:05.678Z",
        "message_id": f"m{number}",
        "cost": 19.99,
    }
    return json.dumps({**base, **changes}, separators=(",", ":")).encode()


def events(first: int, count: int) -> list[bytes | None]:
    return [event(n) for n in range(first, first + count)]


def accounted(rig: Rig) -> int:
    """Offsets the ledger covers; 0 while the warehouse is away."""
    try:
        client = connect(rig.settings.warehouse)
        rows = client.query(
            "SELECT sum(last_offset - first_offset + 1) FROM raw.landed_ranges "
            "WHERE topic = {t:String}",
            parameters={"t": rig.topics.events},
        ).result_rows
        client.close()
    except (ClickHouseError, WarehouseDownError, OSError):
        return 0
    return int(rows[0][0])


def reconcile(rig: Rig) -> tuple[int, int]:
    """(stored, dead-lettered), after showing that each offset is there exactly once."""
    client = connect(rig.settings.warehouse)
    parameters = {"t": rig.topics.events}
    stored, distinct = client.query(
        "SELECT count(), uniqExact(_partition, _offset) FROM raw.events WHERE _topic = {t:String}",
        parameters=parameters,
    ).result_rows[0]
    dead, distinct_dead = client.query(
        "SELECT count(), uniqExact(`partition`, offset) FROM raw.dead_letters "
        "WHERE topic = {t:String}",
        parameters=parameters,
    ).result_rows[0]
    ledger = client.query(
        "SELECT sum(rows_stored), sum(rows_dead_lettered), count(), "
        "uniqExact(`partition`, first_offset) FROM raw.landed_ranges WHERE topic = {t:String}",
        parameters=parameters,
    ).result_rows[0]
    both = client.query(
        "SELECT count() FROM raw.events WHERE _topic = {t:String} AND (_partition, _offset) IN "
        "(SELECT `partition`, offset FROM raw.dead_letters WHERE topic = {t:String})",
        parameters=parameters,
    ).result_rows[0][0]
    client.close()
    assert (stored, dead, both) == (distinct, distinct_dead, 0)
    assert stored + dead == rig.produced
    assert (ledger[0], ledger[1]) == (stored, dead)
    assert ledger[2] == ledger[3]
    return int(stored), int(dead)


BAD: list[bytes | None] = [
    None,
    b"",
    b"{",
    b'"text"',
    b'{"tenant_id":"\xff"}',
    event(1, user_id="x" * 300_000),
    event(1, tenant_id=7),
    event(1, event_type="push.flew"),
    event(1, occurred_at="2099-01-01T00:00:00Z"),
    event(1)[:-1] + b',"tenant_id":"twice"}',
]


def test_landing_accounts_for_everything_when_some_is_bad(rig: Rig, warehouse: Client) -> None:
    rig.produce([event(0, weather="rain", properties={"a": 1}), *BAD, *events(1, 3_000)])
    campaign = {
        "tenant_id": "landing-test",
        "updated_at": "2026-01-01T00:00:00Z",
        "campaign_id": "c1",
        "fixed_cost": 12.34,
    }
    versions = [json.dumps({**campaign, "name": name}).encode() for name in ("old", "new")]
    rig.produce([*versions, b"{}", None], topic=rig.topics.campaigns, key=b"c1")
    rig.start()
    rig.wait(lambda: accounted(rig) == rig.produced)
    assert reconcile(rig) == (3_001, len(BAD))
    row = warehouse.query(
        "SELECT event_id, action, channel, occurred_at, toString(cost), properties, revenue "
        "FROM raw.events WHERE _topic = {t:String} AND message_id = 'm0'",
        parameters={"t": rig.topics.events},
    ).first_row
    assert str(row[0]) == "0192d3a4-5b6c-7d8e-9f00-000000000000"
    assert list(row[1:3]) == ["sent", "push"]
    assert row[3].isoformat(timespec="milliseconds").startswith("2026-01-02T03:04:05.678")
    assert row[4:] == ("19.99", '{"a":1,"weather":"rain"}', None)
    rig.wait(lambda: len(reference_rows(rig, warehouse)) == 2)
    assert reference_rows(rig, warehouse) == [("old", "12.34"), ("new", "12.34")]


def reference_rows(rig: Rig, warehouse: Client) -> list[Any]:
    return list(
        warehouse.query(
            "SELECT name, toString(fixed_cost) FROM raw.campaigns WHERE _topic = {t:String} "
            "ORDER BY _offset",
            parameters={"t": rig.topics.campaigns},
        ).result_rows
    )


def test_dead_letters_reach_table_and_topic_when_events_are_refused(
    rig: Rig, warehouse: Client
) -> None:
    found = {
        r["error_class"]: r["dead_letters"]
        for r in summarize(warehouse, Selection(topic=rig.topics.events))
    }
    assert found == {
        "empty": 2,
        "too_large": 1,
        "invalid_utf8": 1,
        "malformed_json": 1,
        "not_an_object": 1,
        "duplicate_key": 1,
        "wrong_type": 1,
        "unknown_event_type": 1,
        "timestamp_in_future": 1,
    }
    [listed] = page(warehouse, Selection("invalid_utf8", topic=rig.topics.events)).letters
    shown = one(warehouse, LetterId.parse(listed["id"]))
    assert shown is not None
    assert shown["value"] == '{"tenant_id":"\\xff"}'
    messages = read_topic(rig, rig.topics.dead_letters, len(BAD))
    headers = [dict(m.headers()) for m in messages]
    origins = {
        h["herald-origin"].decode() for h in headers if b"campaigns" not in h["herald-origin"]
    }
    assert len(origins) == len(BAD)
    assert {h["herald-error-class"].decode() for h in headers} >= set(found)
    assert all(h["herald-range"].startswith(b"landing-test.") for h in headers)


def read_topic(rig: Rig, topic: str, at_least: int) -> list[Any]:
    consumer = Consumer({"bootstrap.servers": rig.settings.kafka.servers, "group.id": "test"})
    consumer.assign([KafkaPartition(topic, 0, 0)])
    messages: list[Any] = []
    deadline = time.monotonic() + 30
    while len(messages) < at_least and time.monotonic() < deadline:
        messages += [m for m in consumer.consume(1_000, timeout=1) if m.error() is None]
    consumer.close()
    return messages


def test_replay_lands_repaired_letters_once_when_it_is_run_twice(
    rig: Rig, warehouse: Client, valkey: str
) -> None:
    selection = Selection("wrong_type", "tenant_id", rig.topics.events)
    fix = '$ ~> | $ | {"tenant_id": "landing-test"} |'
    arguments = (warehouse, rig.settings, selection)
    dry = replay(*arguments, fix_up=fix, dry_run=True)
    assert (dry.selected, dry.sent) == (1, 0)
    assert '"tenant_id":"landing-test"' in dry.examples[0].after
    first = replay(*arguments, fix_up=fix)
    second = replay(*arguments, fix_up=fix)
    assert (first.sent, second.sent, second.already_replayed) == (1, 0, 1)
    rig.produced += 1
    rig.wait(lambda: accounted(rig) == rig.produced)
    assert reconcile(rig) == (3_002, len(BAD))


def test_progress_is_reported_when_batches_land(rig: Rig, warehouse: Client) -> None:
    def progress() -> list[Any]:
        return list(
            warehouse.query(
                "SELECT `partition`, max(next_offset), argMax(end_offset, observed_at) "
                "FROM live.landing_progress WHERE topic = {t:String} GROUP BY 1 ORDER BY 1",
                parameters={"t": rig.topics.events},
            ).result_rows
        )

    # written after the batch, and so after its ledger
    rig.wait(lambda: sum(row[1] for row in progress()) == rig.produced)
    rows = progress()
    assert all(end >= next_offset for _, next_offset, end in rows)
    landed = [line for line in rig.lines() if line["message"] == "batch landed"]
    assert sum(line["stored"] for line in landed) >= 3_001
    assert all(line["lag"] >= 0 and line["events_per_s"] > 0 for line in landed)
    assert "landing-test.events" not in json.dumps(landed)
    assert "0192d3a4" not in rig.log.read_text(errors="replace")


def test_nothing_is_lost_or_doubled_when_the_warehouse_is_killed(
    rig: Rig, platform: Platform
) -> None:
    before = accounted(rig)
    rig.produce(events(10_000, 20_000))
    rig.wait(lambda: accounted(rig) > before)
    platform.kill("warehouse")
    rig.wait(lambda: accounted(rig) == rig.produced)
    assert reconcile(rig) == (23_002, len(BAD))


def test_nothing_is_lost_or_doubled_when_the_job_is_killed_and_its_checkpoint_deleted(
    rig: Rig,
) -> None:
    kill_in_a_batch(rig, 100_000)
    shutil.rmtree(rig.checkpoints)
    rig.start()
    rig.wait(lambda: accounted(rig) == rig.produced)
    assert reconcile(rig) == (43_002, len(BAD))


def kill_in_a_batch(rig: Rig, first: int) -> None:
    before = accounted(rig)
    rig.produce(events(first, 20_000))
    rig.wait(lambda: accounted(rig) > before)
    rig.kill()
    assert accounted(rig) < rig.produced


def test_nothing_is_lost_or_doubled_when_the_job_is_killed_and_started_again(rig: Rig) -> None:
    kill_in_a_batch(rig, 200_000)
    rig.start()
    rig.wait(lambda: accounted(rig) == rig.produced)
    assert reconcile(rig) == (63_002, len(BAD))
    assert rig.stop() == 0
    assert any(line["message"] == "stopping" for line in rig.lines())
