"""The landing path under load, beside chDB alone and beside a plain Python consumer.

Broker, Spark and warehouse run on a platform of its own in a temporary folder, on the same cores.
"""

from __future__ import annotations

import json
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from clickhouse_connect.driver.client import Client
from confluent_kafka import Consumer
from confluent_kafka import TopicPartition as KafkaPartition

from herald.bench.rows import BenchRow, row, save
from herald.bench.stage import (
    Backlog,
    BenchError,
    await_rows,
    landing_job,
    own_settings,
    produce,
)
from herald.contract.events import Event
from herald.records import now
from herald.settings import Settings
from herald.warehouse.client import connect
from infra.local.platform import Platform

SAMPLE = 200_000
"""Events that the plain Python consumer is timed on; it is slow."""

PLAIN_BLOCK = 10_000

LIMIT_CHUNK = 200_000
WARM_EVENTS = 30_000


def run_landing_bench(settings: Settings, events: int, output: Path | None) -> list[dict[str, Any]]:
    """Measure, write the record and return its rows.

    Args:
        settings: the landing's limits are taken from them; ports and state are its own.
        events: backlog to drain.
        output: the record; None is `<state_dir>/bench.json`.

    Raises:
        BenchError: landing stopped, or stood still.
    """
    started = now()
    with tempfile.TemporaryDirectory(prefix="herald-bench-") as folder:
        own = own_settings(Path(folder), settings)
        platform = Platform(own, attached=True)
        platform.up(["kafka", "warehouse"])
        try:
            rows = measure_landing(platform.settings, events)
        finally:
            platform.down()
    path = output or settings.state_dir / "bench.json"
    command = f"herald bench landing --events {events}"
    return save(path, rows, command=command, started_at=started)


def measure_landing(settings: Settings, events: int) -> list[BenchRow]:
    """Rows of a backlog drained on a platform that has a broker and a warehouse, both empty."""
    client = connect(settings.warehouse)
    with landing_job(settings) as job:
        produce(settings, WARM_EVENTS, seed=1)
        await_rows(client, settings, job, WARM_EVENTS)
        # stopped, not slowed: the backlog waits in the broker until all of it is there
        os.killpg(job.pid, signal.SIGSTOP)
        backlog = produce(settings, events, seed=2)
        os.killpg(job.pid, signal.SIGCONT)
        begun = time.perf_counter()
        await_rows(client, settings, job, WARM_EVENTS + events)
        drain = events / (time.perf_counter() - begun)
    compressed = _compression(client, settings)
    limit = _limit(client, settings, backlog)
    plain = _plain_consumer(client, settings, min(SAMPLE, events))
    client.close()
    size = backlog.json_bytes / backlog.events
    return [
        row(
            "landing_drain_events_per_s",
            drain,
            f"{events} simulated events of {size:.0f} bytes with faults, validation on, broker, "
            "Spark and warehouse on the same cores; from release to the last ledger row",
        ),
        row(
            "landing_over_limit",
            drain / limit,
            "over chDB inserting the same events from JSON into the same sorted table, through "
            f"the same server, nothing else running: {limit:.0f} events/s",
            limit,
        ),
        row(
            "landing_over_python_consumer",
            drain / plain,
            "over confluent-kafka, json.loads and row inserts of every field, 10,000 at a time: "
            f"{plain:.0f} events/s on {min(SAMPLE, events)} events, warm, no validation",
            plain,
        ),
        row(
            "simulate_events_per_s",
            backlog.events / backlog.seconds,
            "generated and encoded in one process, not written",
        ),
        row("compressed_over_json", compressed, "raw.events on disk over the JSON that was landed"),
    ]


def _compression(client: Client, settings: Settings) -> float:
    """Bytes on disk over bytes of JSON, of what was stored."""
    disk = client.query(
        "SELECT sum(bytes_on_disk) FROM system.parts WHERE active AND database = 'raw' "
        "AND table = 'events'"
    ).result_rows[0][0]
    landed, stored, dead = client.query(
        "SELECT sum(bytes), sum(rows_stored), sum(rows_dead_lettered) FROM raw.landed_ranges "
        "WHERE topic = {topic:String}",
        parameters={"topic": settings.kafka.topics.events},
    ).result_rows[0]
    return float(int(disk) / (int(landed) * int(stored) / (int(stored) + int(dead))))


def _limit(client: Client, settings: Settings, backlog: Backlog) -> float:
    """Events/s of the warehouse reading the same JSON into a table of the same shape."""
    client.command("CREATE DATABASE IF NOT EXISTS bench")
    _same_table(client, "bench.events")
    seconds, events = 0.0, 0
    for chunk in _valid_chunks(backlog.path):
        events += chunk.count(b"\n")
        begun = time.perf_counter()
        client.raw_insert(
            "bench.events",
            insert_block=chunk,
            fmt="JSONEachRow",
            settings={
                "async_insert": 0,
                "date_time_input_format": "best_effort",
                "input_format_skip_unknown_fields": 1,
                "input_format_json_read_objects_as_strings": 1,
                "input_format_parallel_parsing": 1,
            },
        )
        seconds += time.perf_counter() - begun
    stored = int(client.query("SELECT count() FROM bench.events").result_rows[0][0])
    if stored != events:
        raise BenchError(f"the limit stored {stored} of {events} events")
    client.command("DROP TABLE bench.events SYNC")
    return events / seconds


def _same_table(client: Client, name: str) -> None:
    client.command(f"CREATE TABLE {name} AS raw.events")
    # rows without landed_at would be of 1970, and gone
    client.command(f"ALTER TABLE {name} REMOVE TTL")


def _valid_chunks(path: Path) -> Iterator[bytes]:
    """The file in pieces, without what the warehouse cannot read: it would refuse the whole."""
    lines: list[bytes] = []
    with path.open("rb") as file:
        for line in file:
            if _is_plain_object(line):
                lines.append(line)
            if len(lines) == LIMIT_CHUNK:
                yield b"".join(lines)
                lines = []
    if lines:
        yield b"".join(lines)


def _is_plain_object(line: bytes) -> bool:
    try:
        pairs = json.loads(line, object_pairs_hook=list)
    except ValueError:
        return False
    names = [p[0] for p in pairs if isinstance(p, tuple)]
    return len(names) == len(set(names)) > 0 and "_offset" not in names


def _plain_consumer(client: Client, settings: Settings, sample: int) -> float:
    """Events/s of the loop that everybody writes first: every field, no validation.

    The first insert is not timed: it connects, fetches and looks the table up.
    """
    _same_table(client, "bench.plain")
    converters = {
        name: _converter(kind)
        for name, kind in client.query(
            "SELECT name, type FROM system.columns WHERE database = 'bench' AND table = 'plain'"
        ).result_rows
        if name in Event.model_fields
    }
    consumer = Consumer(
        {"bootstrap.servers": settings.kafka.servers, "group.id": "bench", "log_level": 3}
    )
    topic = settings.kafka.topics.events
    consumer.assign([KafkaPartition(topic, p, 0) for p in range(6)])
    _consume(client, consumer, converters, PLAIN_BLOCK)
    begun = time.perf_counter()
    _consume(client, consumer, converters, sample)
    rate = sample / (time.perf_counter() - begun)
    consumer.close()
    client.command("DROP TABLE bench.plain SYNC")
    return rate


def _converter(kind: str) -> Callable[[Any], Any]:
    """What a column needs of a JSON value, None where the event has none."""
    if kind.startswith("Nullable(DateTime"):
        return lambda value: None if value is None else datetime.fromisoformat(value)
    if kind.startswith("DateTime"):
        return datetime.fromisoformat
    if kind.startswith("Nullable(Decimal"):
        return lambda value: None if value is None else Decimal(str(value))
    if "String" in kind and not kind.startswith("Array"):
        return lambda value: "" if value is None else str(value)  # a wrong type fails the block
    default: Any = {"Bool": False, "UInt8": 0}.get(kind, [])
    return lambda value: default if value is None else value


def _consume(
    client: Client, consumer: Consumer, converters: Mapping[str, Callable[[Any], Any]], count: int
) -> None:
    """Take `count` events and insert them in blocks, the last block too."""
    taken = 0
    rows: list[list[Any]] = []
    while taken < count:
        message = consumer.poll(5.0)
        if message is None:
            raise BenchError("the plain consumer got no more events")
        if message.error() is not None:
            continue
        taken += 1
        try:
            event = json.loads(message.value())
            if "properties" in event:
                event["properties"] = json.dumps(event["properties"])
            rows.append([convert(event.get(name)) for name, convert in converters.items()])
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
        if len(rows) >= PLAIN_BLOCK or taken == count:
            client.insert("bench.plain", rows, column_names=list(converters))
            rows = []
    if rows:
        client.insert("bench.plain", rows, column_names=list(converters))
