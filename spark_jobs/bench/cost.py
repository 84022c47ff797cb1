"""CPU of one event by stage: `python -m spark_jobs.bench.cost <events> <warehouse pid>`.

The parts of the landing task, called as the task calls them, without Spark around them. Prints a
JSON line for each batch size and each number of fields.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa

from herald.bench.usage import cpu_seconds
from herald.contract.events import Event
from herald.settings import Settings, load_settings
from herald.simulator.encode import random_bits, uuid7
from herald.sources.sinks import EVENTS, KafkaSink
from spark_jobs.bench.session import say
from spark_jobs.sinks.clickhouse import Address, ClickHouseSink
from spark_jobs.sources.kafka import RangeConsumer, Records, Watermarks
from spark_jobs.sources.ranges import OffsetRange
from spark_jobs.transforms.events import EventParser, Parsed
from spark_jobs.transforms.judging import Limits

BATCHES = (1_000, 3_000, 10_000, 30_000, 100_000, 300_000)
FIELDS = (10, 20, 30, 40, len(Event.model_fields))
FIELDS_BATCH = 100_000
MOST_BATCHES = 30
CALM_SECONDS = 20.0


class CostError(Exception):
    """A point could not be measured; the message says why."""


@dataclass
class Stages:
    """CPU seconds of some batches by stage."""

    events: int = 0
    json_bytes: int = 0
    fetch: float = 0.0
    parse: float = 0.0
    insert: float = 0.0


@dataclass
class Parts:
    """What a landing task works with."""

    settings: Settings
    consumer: RangeConsumer
    parser: EventParser
    sink: ClickHouseSink
    warehouse_pid: int

    @classmethod
    def of(cls, settings: Settings, warehouse_pid: int) -> Parts:
        """Connections to the platform of the settings."""
        return cls(
            settings,
            RangeConsumer(settings.kafka.servers),
            EventParser(Limits.of(settings.landing)),
            ClickHouseSink(Address.of(settings.warehouse)),
            warehouse_pid,
        )

    def measure(self, ranges: Sequence[OffsetRange], **point: Any) -> dict[str, Any]:
        """Land ranges one after the other and tell µs of CPU an event by stage.

        insert_server is what the engine counted for the insert queries, with the rollups' views;
        merges is all else that the server did until it was calm: merges, HTTP, its own tables.
        """
        self._await_calm()
        before, since = cpu_seconds(self.warehouse_pid), time.time()
        stages = Stages()
        for part in ranges:
            self._land(part, stages)
        self._await_calm()
        server = cpu_seconds(self.warehouse_pid) - before
        inserts = self._insert_seconds(since, len(ranges))
        micro = 1e6 / stages.events
        return {
            **point,
            "events": stages.events,
            "batches": len(ranges),
            "bytes": round(stages.json_bytes / stages.events),
            "fetch_us": round(stages.fetch * micro, 3),
            "parse_us": round(stages.parse * micro, 3),
            "insert_client_us": round(stages.insert * micro, 3),
            "insert_server_us": round(inserts * micro, 3),
            "merges_us": round(max(0.0, server - inserts) * micro, 3),
        }

    def _land(self, part: OffsetRange, stages: Stages) -> None:
        marks = [time.process_time()]
        records = self.consumer.read(part)
        marks.append(time.process_time())
        parsed = self.parser.parse(records.values, part.planned_at_ms)
        marks.append(time.process_time())
        rows = _stored(part, records, parsed)
        self.sink.insert("raw.events", rows, token=f"cost {time.time_ns()} {part.token}")
        marks.append(time.process_time())
        stages.events += len(records.values)
        stages.json_bytes += sum(map(len, records.values))
        stages.fetch += marks[1] - marks[0]
        stages.parse += marks[2] - marks[1]
        stages.insert += marks[3] - marks[2]

    def _await_calm(self) -> None:
        """Until nothing merges twice in a row, or for twenty seconds."""
        deadline = time.monotonic() + CALM_SECONDS
        calm = 0
        while calm < 2 and time.monotonic() < deadline:
            merging = self.sink.query("SELECT count() AS n FROM system.merges")[0]["n"]
            calm = 0 if int(merging) else calm + 1
            time.sleep(0.2)

    def _insert_seconds(self, since: float, expected: int) -> float:
        """CPU seconds of the insert queries, once the log has all of them."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            found = self.sink.query(
                "SELECT count() AS n, sum(ProfileEvents['UserTimeMicroseconds'] "
                "+ ProfileEvents['SystemTimeMicroseconds']) AS cpu FROM system.query_log "
                "WHERE type = 'QueryFinish' AND startsWith(query, 'INSERT INTO raw.events ') "
                "AND event_time_microseconds >= fromUnixTimestamp64Micro({since:Int64})",
                {"since": int(since * 1e6)},
            )[0]
            if int(found["n"]) >= expected:
                return int(found["cpu"]) / 1e6
            time.sleep(0.5)
        raise CostError(f"the query log has {found['n']} of {expected} inserts")


def _stored(part: OffsetRange, records: Records, parsed: Parsed) -> pa.Table:
    """Parsed rows with what landing adds to them."""
    rows = parsed.table.num_rows
    zeros = pa.array(np.zeros(rows, dtype=np.int32))
    now = pa.scalar(time.time_ns() // 1_000_000, pa.timestamp("ms", tz="UTC"))
    offsets = np.asarray(records.offsets, dtype=np.uint64)[parsed.positions]
    added = {
        "_topic": pa.DictionaryArray.from_arrays(zeros, pa.array([part.topic])),
        "_partition": pa.repeat(pa.scalar(part.partition, pa.uint16()), rows),
        "_offset": pa.array(offsets),
        "landed_at": pa.repeat(now, rows),
    }
    table = parsed.table
    for name, column in added.items():
        table = table.append_column(name, column)
    return table


def full_event(number: int, names: Sequence[str], event_id: str, at: str) -> bytes:
    """An event with exactly these fields, each valid and with a usual number of values."""
    given: dict[str, Any] = {
        "event_id": event_id,
        "tenant_id": "cost",
        "event_type": "push.clicked",
        "occurred_at": at,
        "ingested_at": at,
        "schema_version": "1.0",
        "channel": "push",
        "country": ("DE", "FR", "US")[number % 3],
        "currency": "EUR",
        "revenue": number % 1_000 / 100,
        "cost": number % 100 / 10_000,
        "attempt": 1 + number % 3,
        "suspected_bot_reasons": [] if number % 50 else ["datacenter_ip"],
        "properties": {"step": number % 7},
    }
    singular = {"user_id", "message_id", "device_id", "session_id", "anonymous_id"}
    event: dict[str, Any] = {}
    for name in names:
        if name in given:
            event[name] = given[name]
        elif Event.model_fields[name].annotation is bool:
            event[name] = number % 20 == 0
        else:
            event[name] = f"{name}-{number if name in singular else number % 40}"
    return json.dumps(event, separators=(",", ":")).encode()


def field_names(count: int) -> list[str]:
    """The mandatory fields and the first of the others, `count` together."""
    fields = Event.model_fields
    needed = [name for name, field in fields.items() if field.is_required()]
    others = [name for name in fields if name not in needed]
    return [*needed, *others][:count]


def produce_fields(settings: Settings, count: int, events: int) -> OffsetRange:
    """Produce events of so many fields into one partition; returns where they lie."""
    topic = settings.kafka.topics.events
    watermarks = Watermarks(settings.kafka.servers, [topic])
    _, before = watermarks.read()
    names = field_names(count)
    now = datetime.now(UTC)
    at = now.isoformat(timespec="milliseconds")
    rng = np.random.default_rng(count)
    ids = uuid7(np.full(events, int(now.timestamp() * 1_000)), random_bits(rng, events))
    with KafkaSink(settings.kafka.servers, settings.kafka.topics) as sink:
        for start in range(0, events, 10_000):
            block = range(start, min(start + 10_000, events))
            values = [full_event(n, names, ids[n].tobytes().decode(), at) for n in block]
            sink.write(EVENTS, [("fields", value) for value in values])
        sink.finish()
    _, after = watermarks.read()
    watermarks.close()
    slot = next(slot for slot in after if after[slot] > before[slot])
    planned = time.time_ns() // 1_000_000
    return OffsetRange(topic, slot.partition, before[slot], after[slot] - 1, planned)


def batch_ranges(settings: Settings, events: int, size: int) -> Iterator[OffsetRange]:
    """Ranges of one batch size, from as many partitions as it takes."""
    topic = settings.kafka.topics.events
    watermarks = Watermarks(settings.kafka.servers, [topic])
    lows, highs = watermarks.read()
    watermarks.close()
    wanted = min(MOST_BATCHES, max(1, events // size))
    planned = time.time_ns() // 1_000_000
    for slot in sorted(highs):
        for first in range(lows[slot], highs[slot] - size + 1, size):
            if not wanted:
                return
            wanted -= 1
            yield OffsetRange(topic, slot.partition, first, first + size - 1, planned)


def run(settings: Settings, events: int, warehouse_pid: int) -> None:
    """Measure every batch size on what the topic holds, then every number of fields."""
    parts = Parts.of(settings, warehouse_pid)
    warm = list(batch_ranges(settings, 5_000, 1_000))
    parts.measure(warm)
    for size in BATCHES:
        if ranges := list(batch_ranges(settings, events, size)):
            say(**parts.measure(ranges, kind="batch", size=size))
    for count in FIELDS:
        part = produce_fields(settings, count, min(events, FIELDS_BATCH))
        parts.parser = EventParser(Limits.of(settings.landing))
        say(**parts.measure([part], kind="fields", fields=count))


if __name__ == "__main__":
    run(load_settings(), int(sys.argv[1]), int(sys.argv[2]))
