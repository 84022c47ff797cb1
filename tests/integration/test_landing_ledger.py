"""The guards of exactly-once one by one, without Spark: plan, token, ledger, lost answers."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from clickhouse_connect.driver.client import Client
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from herald.contract.references import REFERENCES
from herald.contract.schemas import (
    arrow_schema,
    clickhouse_columns,
    event_fields,
    reference_fields,
    spark_ddl,
)
from herald.settings import ROOT, Settings
from spark_jobs.jobs.land_range import Lander, TaskConfig, warm_up
from spark_jobs.sinks.clickhouse import Address, ClickHouseSink, WarehouseError
from spark_jobs.sources.kafka import BrokerError, RangeConsumer, Watermarks
from spark_jobs.sources.plan import Ledger, PlanConfig, Planner
from spark_jobs.sources.ranges import OffsetRange, PlanError, Slot

TOPIC = "ledger-test.events"
SLOT = Slot(TOPIC, 0)


def value(number: int) -> bytes:
    return json.dumps(
        {
            "event_id": f"0192d3a4-5b6c-7d8e-9f00-{number:012d}",
            "tenant_id": "ledger-test",
            "event_type": "push.sent" if number % 50 else "push.flew",
            # over three months: one insert, several parts
            "occurred_at": f"2026-0{number % 3 + 1}-02T03:04:05Z",
        }
    ).encode()


@pytest.fixture(scope="module")
def config(settings: Settings, broker: str, warehouse: Client) -> TaskConfig:
    admin = AdminClient({"bootstrap.servers": broker})
    for future in admin.create_topics(
        [NewTopic(TOPIC, 1), NewTopic("ledger-test.dead", 1)]
    ).values():
        future.result(20)
    producer = Producer({"bootstrap.servers": broker})
    for number in range(1_000):
        producer.produce(TOPIC, value=value(number))
    assert producer.flush(30) == 0
    base = TaskConfig.of(settings)
    return TaskConfig(
        broker, base.warehouse, base.limits, "ledger-test.dead", ((TOPIC, "raw.events"),)
    )


@pytest.fixture
def lander(config: TaskConfig) -> Iterator[Lander]:
    lander = Lander(config)
    yield lander
    lander.consumer.close()
    lander.sink.close()


def planner(
    config: TaskConfig, *, size: int = 100, limit: int = 250, topic: str = TOPIC
) -> Planner:
    """A planner as a fresh process would have it."""
    plan = PlanConfig(config.servers, (topic,), config.warehouse, size, limit, "ledger-test")
    return Planner(plan, ClickHouseSink(config.warehouse), Watermarks(config.servers, (topic,)))


def counts(warehouse: Client) -> tuple[int, int]:
    stored = warehouse.query(f"SELECT count() FROM raw.events WHERE _topic = '{TOPIC}'")
    dead = warehouse.query(f"SELECT count() FROM raw.dead_letters WHERE topic = '{TOPIC}'")
    return int(stored.first_row[0]), int(dead.first_row[0])


def test_ranges_are_repeated_when_checkpoint_and_half_of_a_batch_are_lost(
    config: TaskConfig, lander: Lander, warehouse: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = planner(config)
    start = first.initial()
    end = first.latest(start, 250)
    batch = [part for part, _ in first.partitions(start, end)]
    assert [(r.first, r.last) for r in batch] == [(0, 99), (100, 199)]
    assert [part for part, _ in first.partitions(start, end)] == batch
    lander.land(batch[1], 0)
    monkeypatch.setattr(Lander, "_record", lambda *_: (_ for _ in ()).throw(SystemExit))
    with pytest.raises(SystemExit):  # written, but dead before the ledger knew
        lander.land(batch[0], 0)
    monkeypatch.undo()

    second = planner(config, limit=130)  # no checkpoint, and another limit
    start = second.initial()
    assert start == {SLOT.key: 0}
    end = second.latest(start, 130)
    again = [part for part, _ in second.partitions(start, end)]
    assert again == [batch[0]]  # the other is in the ledger
    lander.land(again[0], 1)
    assert counts(warehouse) == (196, 4)

    third = planner(config)
    start = third.initial()
    assert start == {SLOT.key: 200}
    while (end := third.latest(start, 250)) != start:
        for part, high in third.partitions(start, end):
            assert high == 1_000
            lander.land(part, 2)
        start = end
    assert counts(warehouse) == (980, 20)
    ledger = Ledger(ClickHouseSink(config.warehouse), (TOPIC,))
    assert ledger.next_offsets() == {SLOT: 1_000}
    assert ledger.outstanding() == []


def test_two_planners_cut_alike_when_both_see_the_same_state(
    config: TaskConfig, warehouse: Client
) -> None:
    topic = "ledger-test.two"
    admin = AdminClient({"bootstrap.servers": config.servers})
    admin.create_topics([NewTopic(topic, 1)])[topic].result(20)
    producer = Producer({"bootstrap.servers": config.servers})
    for number in range(200):
        producer.produce(topic, value=value(number))
    assert producer.flush(30) == 0
    both = [planner(config, size=100, limit=limit, topic=topic) for limit in (250, 70)]
    starts = [one.initial() for one in both]
    for one, start in zip(both, starts, strict=True):  # both know the same empty plan
        one._recall({Slot.of(key): offset for key, offset in start.items()})
    ends = [one.latest(start, n) for one, start, n in zip(both, starts, (170, 70), strict=True)]
    first, second = (
        [(r.first, r.last, r.planned_at_ms) for r, _ in one.partitions(start, end)]
        for one, start, end in zip(both, starts, ends, strict=True)
    )
    assert first[: len(second)] == second  # the second took over what the first had planned
    planned = warehouse.query(
        f"SELECT first_offset, last_offset FROM raw.planned_ranges WHERE topic = '{topic}' "
        "ORDER BY first_offset"
    ).result_rows
    assert [tuple(row) for row in planned] == [(0, 99)]

    # rows deleted by hand: the old token must not silence the new plan for ever
    warehouse.command(f"DELETE FROM raw.planned_ranges WHERE topic = '{topic}'")
    fresh = planner(config, topic=topic)
    assert fresh.latest(fresh.initial(), 170) == {Slot(topic, 0).key: 100}


def test_landing_a_range_again_changes_nothing_when_the_ledger_has_it(
    config: TaskConfig, lander: Lander, warehouse: Client
) -> None:
    before = counts(warehouse)
    landed = lander.land(OffsetRange(TOPIC, 0, 0, 99, 1_800_000_000_000), 9)
    assert (landed.stored, landed.dead_lettered) == (98, 2)
    assert counts(warehouse) == before


def test_planner_refuses_when_the_checkpoint_is_ahead_of_the_ledger(config: TaskConfig) -> None:
    ahead = Slot("ledger-test.dead", 0)
    plan = PlanConfig(config.servers, (ahead.topic,), config.warehouse, 100, 250, "ledger-test")
    fresh = Planner(
        plan, ClickHouseSink(config.warehouse), Watermarks(config.servers, (ahead.topic,))
    )
    with pytest.raises(PlanError, match=r"checkpoint is at offset 5, the ledger only at 0.*Remove"):
        fresh.partitions({ahead.key: 5}, {ahead.key: 6})


def test_planner_refuses_when_the_topic_is_shorter_than_the_ledger(
    config: TaskConfig, warehouse: Client
) -> None:
    topic = "ledger-test.anew"
    admin = AdminClient({"bootstrap.servers": config.servers})
    admin.create_topics([NewTopic(topic, 1)])[topic].result(20)
    sink = ClickHouseSink(config.warehouse)
    warehouse.command(
        "INSERT INTO raw.landed_ranges (topic, `partition`, first_offset, last_offset) "
        f"VALUES ('{topic}', 0, 0, 49)"
    )
    plan = PlanConfig(config.servers, (topic,), config.warehouse, 100, 250, "ledger-test")
    watermarks = Watermarks(config.servers, (topic,))
    for _ in range(50):  # a new topic takes a moment to be known
        try:
            watermarks.read()
            break
        except BrokerError:
            continue
    with pytest.raises(PlanError, match="made anew"):
        Planner(plan, sink, watermarks).initial()


class LosesAnswers:
    """A proxy to the warehouse that passes requests on and drops the first answers."""

    def __init__(self, target: tuple[str, int], drop: int) -> None:
        self._target = target
        self._left = drop
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._pass, args=(client,), daemon=True).start()

    def _pass(self, client: socket.socket) -> None:
        with client, socket.create_connection(self._target) as server:
            request = self._read_request(client)
            server.sendall(request)
            server.settimeout(20)
            answer = b""
            while chunk := server.recv(65_536):  # head and body may come apart
                answer += chunk
            if self._left > 0:
                self._left -= 1
                return
            client.sendall(answer)

    @staticmethod
    def _read_request(client: socket.socket) -> bytes:
        data = b""
        while b"\r\n\r\n" not in data:
            data += client.recv(65_536)
        head, _, body = data.partition(b"\r\n\r\n")
        length = next(
            int(line.split(b":")[1])
            for line in head.split(b"\r\n")
            if b"ontent-" in line and b"ength" in line
        )
        while len(body) < length:
            body += client.recv(65_536)
        return head + b"\r\nConnection: close\r\n\r\n" + body

    def close(self) -> None:
        self._server.close()


def proxied(config: TaskConfig, port: int) -> Address:
    address = config.warehouse
    return Address(address.host, port, address.secure, address.user, address._password)


def progress_row(number: int) -> pa.Table:
    return pa.table(
        {
            "topic": ["ledger-test.answers"],
            "partition": pa.array([0], pa.uint16()),
            "first_offset": pa.array([number], pa.uint64()),
            "last_offset": pa.array([number], pa.uint64()),
        }
    )


def test_insert_writes_once_when_the_answer_is_lost_twice(
    config: TaskConfig, warehouse: Client
) -> None:
    proxy = LosesAnswers((config.warehouse.host, config.warehouse.port), drop=2)
    pauses: list[float] = []
    sink = ClickHouseSink(proxied(config, proxy.port), sleep=pauses.append)
    sink.insert("raw.landed_ranges", progress_row(1), token="answers 1")
    sink.close()
    proxy.close()
    assert len(pauses) == 2
    found = warehouse.query(
        "SELECT count() FROM raw.landed_ranges WHERE topic = 'ledger-test.answers'"
    ).first_row[0]
    assert found == 1


def test_insert_stops_early_when_the_ledger_has_the_range_after_a_lost_answer(
    config: TaskConfig,
) -> None:
    proxy = LosesAnswers((config.warehouse.host, config.warehouse.port), drop=1)
    sink = ClickHouseSink(proxied(config, proxy.port), sleep=lambda _seconds: None)
    part = OffsetRange("ledger-test.answers", 0, 2, 2)
    asked: list[bool] = []

    def already_there() -> bool:
        asked.append(sink.is_landed(part))
        return asked[-1]

    sink.insert(
        "raw.landed_ranges", progress_row(2), token="answers 2", already_there=already_there
    )
    sink.close()
    proxy.close()
    assert asked == [True]


def test_insert_says_where_and_what_when_the_warehouse_is_away_or_refuses(
    config: TaskConfig, free_port: Any
) -> None:
    away = ClickHouseSink(proxied(config, free_port()), sleep=lambda _seconds: None)
    with pytest.raises(WarehouseError, match=r"no usable answer to 10 tries in \d+ s"):
        away.query("SELECT 1")
    assert not away.is_landed(OffsetRange("t", 0, 0, 1))
    sink = ClickHouseSink(config.warehouse)
    with pytest.raises(WarehouseError, match="no_such_table"):
        sink.insert("raw.no_such_table", progress_row(3), token="x")
    assert config.warehouse._password not in repr(config)


def test_range_consumer_refuses_when_offsets_are_gone(config: TaskConfig) -> None:
    consumer = RangeConsumer(config.servers)
    with pytest.raises(BrokerError, match="no longer has these offsets"):
        consumer.read(OffsetRange(TOPIC, 0, 5_000_000, 5_000_009))
    records = consumer.read(OffsetRange(TOPIC, 0, 10, 19))
    assert records.offsets == list(range(10, 20))
    assert records.values == [value(n) for n in range(10, 20)]
    consumer.close()


def test_watermarks_name_the_topic_when_it_is_missing(config: TaskConfig) -> None:
    with pytest.raises(BrokerError, match="topic no-such-topic is not on"):
        Watermarks(config.servers, ["no-such-topic"]).read()


def test_warm_up_passes_batches_on_when_the_platform_is_up(config: TaskConfig) -> None:
    batch = pa.RecordBatch.from_pydict({"id": [1]})
    assert list(warm_up(iter([batch]), config)) == [batch]


@pytest.mark.parametrize(
    ("table", "fields"),
    [("events", event_fields()), *[(m.table, reference_fields(m)) for m in REFERENCES]],
)
def test_contract_equals_ddl_spark_arrow_and_dbt_sources_in_a_running_server(
    warehouse: Client, table: str, fields: Any
) -> None:
    expected = clickhouse_columns(fields)
    found = warehouse.query(
        "SELECT name, type FROM system.columns WHERE database = 'raw' AND table = {t:String} "
        "ORDER BY position",
        parameters={"t": table},
    ).result_rows
    assert dict(found) == expected
    assert [name for name, _ in found] == list(expected)
    assert arrow_schema(fields).names == list(expected)
    ddl = [part.split("`")[1] for part in spark_ddl(fields).split(", ")]
    assert ddl == list(expected)
    sources = yaml.safe_load(
        Path(ROOT / "dbt_project/models/staging/sources.yml").read_text(encoding="utf-8")
    )
    [raw] = [s for s in sources["sources"] if s["name"] == "raw"]
    [described] = [t for t in raw["tables"] if t["name"] == table]
    assert {c["name"]: c["data_type"] for c in described["columns"]} == expected
