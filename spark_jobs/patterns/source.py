"""A streaming source of two things: what users got, from Kafka, and instants that are to be judged.

Both stand in one offset, so Spark's checkpoint says what was judged and what was counted, and a
batch that is run again judges the same instants. The instants follow the landing: an instant is
given out when what happened before it has landed, or the silence of a late landing job would look
like the silence of a provider.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
import pyarrow as pa
from confluent_kafka import Consumer, KafkaException
from confluent_kafka import TopicPartition as KafkaPartition
from pyspark.sql.datasource import DataSource, DataSourceStreamReader, InputPartition
from pyspark.sql.streaming.datasource import ReadLimit, ReadMaxRows

from spark_jobs.patterns.facts import FACTS, Windows, facts
from spark_jobs.sinks.clickhouse import Address, ClickHouseSink, WarehouseError
from spark_jobs.sources.kafka import BrokerError, RangeConsumer, Watermarks
from spark_jobs.sources.ranges import OffsetRange, Slot

SCHEMA = (
    "rule STRING, tenant_id STRING, user_id STRING, window_end TIMESTAMP, sends BIGINT, "
    "opens BIGINT, seen_ms BIGINT, from_ms BIGINT, until_ms BIGINT"
)
UNTIL = "until_ms"
"""Name of the instant in the offset; the other names are partitions."""

FUTURE_MS = 60_000
"""A clock that runs ahead by more than this does not decide which windows are over."""

_CHUNK = 50_000


@dataclass(frozen=True)
class FactConfig:
    """What planning and reading need; travels to Spark's processes."""

    servers: str
    topic: str
    warehouse: Address
    windows: tuple[Windows, ...]
    step_ms: int
    settle_ms: int
    lookback_ms: int
    max_offsets: int

    @property
    def longest_ms(self) -> int:
        """Longest window of a user."""
        return max((w.window_ms for w in self.windows), default=0)


class FactPartition(InputPartition):
    """One offset range, or (without one) the instants of a batch."""

    def __init__(self, part: OffsetRange | None, from_ms: int, until_ms: int) -> None:
        self.part = part
        self.from_ms = from_ms
        self.until_ms = until_ms


class FactReader(DataSourceStreamReader):
    """Spark's side of the source."""

    def __init__(self, config: FactConfig) -> None:
        self._config = config
        self._watermarks: Watermarks | None = None
        self._sink: ClickHouseSink | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"_config": self._config, "_watermarks": None, "_sink": None}

    @property
    def watermarks(self) -> Watermarks:
        """Made in the process that plans."""
        if self._watermarks is None:
            self._watermarks = Watermarks(self._config.servers, [self._config.topic])
        return self._watermarks

    @property
    def sink(self) -> ClickHouseSink:
        """Made in the process that plans."""
        if self._sink is None:
            self._sink = ClickHouseSink(self._config.warehouse)
        return self._sink

    def initialOffset(self) -> dict[str, int]:
        """A query without a checkpoint counts the longest window and judges the lookback."""
        now = _now_ms()
        until = (now - self._config.lookback_ms) // self._config.step_ms * self._config.step_ms
        lows, highs = self.watermarks.read()
        starts = offsets_at(
            self._config.servers, self._config.topic, now - self._config.longest_ms, lows, highs
        )
        return {UNTIL: until, **{slot.key: start for slot, start in starts.items()}}

    def getDefaultReadLimit(self) -> ReadLimit:
        """At most the offsets of the settings in a batch."""
        return ReadMaxRows(self._config.max_offsets)

    def latestOffset(self, start: dict[str, int], limit: ReadLimit) -> dict[str, int]:
        """How far a batch may go. With the broker or the warehouse away, no further."""
        rows = limit.max_rows if isinstance(limit, ReadMaxRows) else self._config.max_offsets
        try:
            lows, highs = self.watermarks.read()
            ends = {} if not self._config.windows else _ends(start, lows, highs, rows)
            until = self._judgeable(start.get(UNTIL, 0), highs)
        except (BrokerError, WarehouseError):
            return start
        return {**start, **ends, UNTIL: until}

    def _judgeable(self, until_ms: int, highs: dict[Slot, int]) -> int:
        """The newest instant of the grid whose events have landed; never before the last one."""
        now = _now_ms() - self._config.settle_ms
        rows = self.sink.query(
            "SELECT `partition`, max(last_offset) + 1 AS next, "
            "argMax(toUnixTimestamp64Milli(max_occurred_at), last_offset) AS newest "
            "FROM raw.landed_ranges WHERE topic = {topic:String} GROUP BY `partition`",
            {"topic": self._config.topic},
        )
        landed = {int(r["partition"]): (int(r["next"]), int(r["newest"] or 0)) for r in rows}
        for slot, high in highs.items():
            done, newest = landed.get(slot.partition, (0, 0))
            if done < high:
                now = min(now, newest)
        return max(until_ms, now // self._config.step_ms * self._config.step_ms)

    def partitions(self, start: dict[str, int], end: dict[str, int]) -> Sequence[InputPartition]:
        """A task for each partition with new records, one for the instants."""
        begin, until = start.get(UNTIL, 0), end[UNTIL]
        parts: list[InputPartition] = [FactPartition(None, begin, until)]
        lows = {} if start == {**end, UNTIL: begin} else self.watermarks.read()[0]
        for key, stop in end.items():
            if key == UNTIL:
                continue
            slot = Slot.of(key)
            # a partition that is new begins at its begin; what expired is gone for alerts only
            first = max(start.get(key, 0), lows.get(slot, 0))
            if stop > first:
                part = OffsetRange(slot.topic, slot.partition, first, stop - 1)
                parts.append(FactPartition(part, begin, until))
        return parts

    def read(self, partition: InputPartition) -> Iterator[pa.RecordBatch]:
        """Facts of the range, or the row that carries the instants."""
        assert isinstance(partition, FactPartition)
        if partition.part is None:
            yield _instants(partition.from_ms, partition.until_ms, self._config)
            return
        values = consumer(self._config.servers).read(partition.part).values
        for start in range(0, len(values), _CHUNK):
            frame = facts(
                values[start : start + _CHUNK], self._config.windows, _now_ms() + FUTURE_MS
            )
            if len(frame):
                yield _arrow(frame)


class FactSource(DataSource):
    """`spark.readStream.format("herald_facts")`, once a configured subclass is registered."""

    config: FactConfig

    @classmethod
    def name(cls) -> str:
        """Name of the format."""
        return "herald_facts"

    def schema(self) -> str:
        """Facts, and one row that carries the instants."""
        return SCHEMA

    def streamReader(self, schema: Any) -> DataSourceStreamReader:
        """Reader of one query."""
        return FactReader(self.config)


def configured(config: FactConfig) -> type[FactSource]:
    """The source with its configuration inside: options show in Spark's plans, password and all."""

    class Configured(FactSource):
        pass

    Configured.config = config
    return Configured


_consumers: dict[str, RangeConsumer] = {}


def consumer(servers: str) -> RangeConsumer:
    """The connection of this worker process, kept from batch to batch."""
    if servers not in _consumers:
        _consumers[servers] = RangeConsumer(servers)
    return _consumers[servers]


def offsets_at(
    servers: str, topic: str, at_ms: int, lows: dict[Slot, int], highs: dict[Slot, int]
) -> dict[Slot, int]:
    """First offset of each partition that was produced at or after an instant.

    Raises:
        BrokerError: no answer.
    """
    client = Consumer({"bootstrap.servers": servers, "group.id": "herald-patterns", "log_level": 3})
    asked = [KafkaPartition(topic, slot.partition, at_ms) for slot in highs]
    try:
        found = client.offsets_for_times(asked, timeout=10.0)
    except KafkaException as error:
        raise BrokerError(f"broker at {servers} does not answer: {error}") from error
    finally:
        client.close()
    starts = {}
    for answer in found:
        slot = Slot(topic, answer.partition)
        offset = answer.offset if answer.offset >= 0 else highs[slot]
        starts[slot] = max(lows[slot], offset)
    return starts


def _ends(
    start: dict[str, int], lows: dict[Slot, int], highs: dict[Slot, int], rows: int
) -> dict[str, int]:
    """Where each partition's part of a batch ends: an equal share each, and what others leave."""
    waiting = {}
    begins = {}
    for slot, high in highs.items():
        # records that expired before they were counted are gone for alerts, and for nothing else
        begins[slot] = max(start.get(slot.key, lows[slot]), lows[slot])
        waiting[slot] = max(0, high - begins[slot])
    left = rows
    ends = {}
    for i, slot in enumerate(sorted(waiting, key=lambda s: waiting[s])):
        take = min(waiting[slot], left // (len(waiting) - i))
        left -= take
        ends[slot.key] = begins[slot] + take
    return ends


def _instants(from_ms: int, until_ms: int, config: FactConfig) -> pa.RecordBatch:
    # beyond every watermark, which follows the ends of windows: it must never count as late
    end = _now_ms() + config.longest_ms
    row = {
        "rule": "", "tenant_id": "", "user_id": "", "window_end": end, "sends": 0, "opens": 0,
        "seen_ms": 0,
    }  # fmt: skip
    return _arrow(pl.DataFrame([row], schema=FACTS), from_ms, until_ms)


def _arrow(frame: pl.DataFrame, from_ms: int = 0, until_ms: int = 0) -> pa.RecordBatch:
    fields = [
        ("rule", pa.string()), ("tenant_id", pa.string()), ("user_id", pa.string()),
        ("window_end", pa.timestamp("us", tz="UTC")), ("sends", pa.int64()),
        ("opens", pa.int64()), ("seen_ms", pa.int64()), ("from_ms", pa.int64()),
        ("until_ms", pa.int64()),
    ]  # fmt: skip
    count = len(frame)
    arrays = []
    for name, kind in fields:
        if name == "window_end":
            arrays.append(pa.array(frame[name].to_numpy() * 1_000, pa.int64()).cast(kind))
        elif name in {"from_ms", "until_ms"}:
            arrays.append(pa.array([from_ms if name == "from_ms" else until_ms] * count, kind))
        else:
            arrays.append(pa.array(frame[name].to_list(), kind))
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
