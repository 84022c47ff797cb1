"""A streaming source whose rows are offset ranges, planned against the ledger of the warehouse.

Spark's Kafka source moves every record through the JVM, row by row; this one hands each task the
name of a range, and the task reads it itself (docs/decisions/0042). Checkpoint, batches, replays
and distribution over executors stay Spark's.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
from pyspark.sql.datasource import DataSource, DataSourceStreamReader, InputPartition
from pyspark.sql.streaming.datasource import ReadLimit, ReadMaxRows

from spark_jobs.sinks.clickhouse import Address, ClickHouseSink
from spark_jobs.sources.kafka import Watermarks
from spark_jobs.sources.ranges import OffsetRange, PlanError, Slot, batch_ends, cut

SCHEMA = (
    "topic STRING, `partition` INT, `first` BIGINT, `last` BIGINT, planned_at_ms BIGINT, "
    "end_offset BIGINT"
)
_ARROW = pa.schema(
    [
        ("topic", pa.string()),
        ("partition", pa.int32()),
        ("first", pa.int64()),
        ("last", pa.int64()),
        ("planned_at_ms", pa.int64()),
        ("end_offset", pa.int64()),
    ]
)


@dataclass(frozen=True)
class PlanConfig:
    """What planning needs; travels to Spark's planner process."""

    servers: str
    topics: tuple[str, ...]
    warehouse: Address
    range_offsets: int
    max_offsets: int
    job: str


class Ledger:
    """What was planned and what was landed, from the warehouse."""

    def __init__(self, sink: ClickHouseSink, topics: Sequence[str]) -> None:
        self._sink = sink
        self._topics = {"topics": "[" + ",".join(f"'{t}'" for t in topics) + "]"}

    def next_offsets(self) -> dict[Slot, int]:
        """First offset of each partition that is not known to be landed."""
        rows = self._sink.query(
            "SELECT topic, `partition`, max(last_offset) + 1 AS next FROM raw.landed_ranges "
            "WHERE topic IN {topics:Array(String)} GROUP BY topic, `partition`",
            self._topics,
        )
        found = {Slot(r["topic"], int(r["partition"])): int(r["next"]) for r in rows}
        for known in self.outstanding():
            found[known.slot] = min(found.get(known.slot, known.first), known.first)
        return found

    def outstanding(self) -> list[OffsetRange]:
        """Ranges that were planned but are not in the ledger: perhaps written, perhaps not."""
        return self._planned(
            "AND (topic, `partition`, first_offset, last_offset) NOT IN "
            "(SELECT topic, `partition`, first_offset, last_offset "
            "FROM raw.landed_ranges)"
        )

    def planned_from(self, starts: Mapping[Slot, int]) -> list[OffsetRange]:
        """Every range planned at or after the given offsets."""
        lowest = min(starts.values(), default=0)
        return [
            r
            for r in self._planned(f"AND last_offset >= {lowest}")
            if r.last >= starts.get(r.slot, 0)
        ]

    def landed(self, starts: Mapping[Slot, int]) -> set[str]:
        """Tokens of the ranges landed at or after the given offsets."""
        rows = self._sink.query(
            "SELECT topic, `partition`, first_offset, last_offset FROM raw.landed_ranges "
            "WHERE topic IN {topics:Array(String)} AND last_offset >= {lowest:UInt64}",
            {**self._topics, "lowest": min(starts.values(), default=0)},
        )
        return {_range(r).token for r in rows}

    def plan(self, ranges: Sequence[OffsetRange], job: str) -> None:
        """Write down what will be landed, before anything of it is."""
        if not ranges:
            return
        self._sink.insert(
            "raw.planned_ranges",
            pa.table(
                {
                    "topic": [r.topic for r in ranges],
                    "partition": pa.array([r.partition for r in ranges], pa.uint16()),
                    "first_offset": pa.array([r.first for r in ranges], pa.uint64()),
                    "last_offset": pa.array([r.last for r in ranges], pa.uint64()),
                    "planned_at": pa.array(
                        [r.planned_at_ms for r in ranges], pa.timestamp("ms", tz="UTC")
                    ),
                    "job": [job] * len(ranges),
                }
            ),
            token="plan " + " ".join(r.token for r in ranges[:64]) + f" of {len(ranges)}",
        )

    def _planned(self, condition: str) -> list[OffsetRange]:
        rows = self._sink.query(
            "SELECT topic, `partition`, first_offset, last_offset, "
            "min(toUnixTimestamp64Milli(planned_at)) AS planned_at_ms FROM raw.planned_ranges "
            f"WHERE topic IN {{topics:Array(String)}} {condition} "
            "GROUP BY topic, `partition`, first_offset, last_offset ORDER BY ALL",
            self._topics,
        )
        return [_range(r) for r in rows]


def _range(row: Mapping[str, Any]) -> OffsetRange:
    return OffsetRange(
        row["topic"],
        int(row["partition"]),
        int(row["first_offset"]),
        int(row["last_offset"]),
        int(row.get("planned_at_ms", 0)),
    )


class Planner:
    """Decides what each batch lands. Lives in Spark's planner process, one for each query."""

    def __init__(self, config: PlanConfig, sink: ClickHouseSink, watermarks: Watermarks) -> None:
        self._config = config
        self._watermarks = watermarks
        self._ledger = Ledger(sink, config.topics)
        self._highs: dict[Slot, int] = {}
        self._planned: list[OffsetRange] | None = None
        self._landed: set[str] = set()
        self._last: tuple[str, list[tuple[OffsetRange, int]]] | None = None

    def initial(self) -> dict[str, int]:
        """Where a query without a checkpoint begins: where the ledger ends.

        Raises:
            PlanError: the ledger knows offsets that the broker does not have.
        """
        lows, highs = self._watermarks.read()
        nexts = self._ledger.next_offsets()
        for slot, start in nexts.items():
            if start > highs.get(slot, 0):
                raise PlanError(
                    f"{slot.key}: raw.landed_ranges ends before offset {start}, but the broker "
                    f"ends at {highs.get(slot, 0)}: the topic was made anew. Give it a new "
                    "name, or delete its rows from raw.landed_ranges and raw.planned_ranges"
                )
        return {slot.key: max(low, nexts.get(slot, low)) for slot, low in lows.items()}

    def latest(self, start: Mapping[str, int], limit: int | None) -> dict[str, int]:
        """Where the next batch ends."""
        lows, self._highs = self._watermarks.read()
        starts = {slot: start.get(slot.key, low) for slot, low in lows.items()}
        self._recall(starts)
        ends = batch_ends(
            starts,
            self._highs,
            limit or sum(self._highs.values()) + 1,
            self._config.range_offsets,
            self._planned or [],
        )
        return {slot.key: end for slot, end in ends.items()}

    def partitions(
        self, start: Mapping[str, int], end: Mapping[str, int]
    ) -> list[tuple[OffsetRange, int]]:
        """Ranges of a batch that are not landed yet, with the end of their partition.

        Asked twice for one batch, it answers alike; new ranges are written down first.
        """
        identity = json.dumps([start, end], sort_keys=True)
        if self._last is not None and self._last[0] == identity:
            return self._last[1]
        starts = {Slot.of(key): start.get(key, 0) for key in end}
        known = self._recall(starts)
        now_ms = time.time_ns() // 1_000_000
        ranges = [
            part
            for slot, first in sorted(starts.items())
            for part in cut(slot, first, end[slot.key], self._config.range_offsets, known, now_ms)
        ]
        old = {r.token for r in known}
        self._ledger.plan([r for r in ranges if r.token not in old], self._config.job)
        todo = [
            (r, self._highs.get(r.slot, r.last + 1)) for r in ranges if r.token not in self._landed
        ]
        # what was planned before this start can only concern its first batches
        self._planned = [r for r in known if r.first >= end.get(r.slot.key, 0)]
        self._last = (identity, todo)
        return todo

    def _recall(self, starts: Mapping[Slot, int]) -> list[OffsetRange]:
        """Read the ledger once, at the start of a query."""
        if self._planned is None:
            lows, self._highs = self._watermarks.read()
            nexts = self._ledger.next_offsets()
            for slot, start in starts.items():
                landed = max(lows.get(slot, 0), nexts.get(slot, 0))
                if start > landed:
                    raise PlanError(
                        f"{slot.key}: the checkpoint is at offset {start}, the ledger only at "
                        f"{landed}: the warehouse lost rows or was made anew. Remove the "
                        "checkpoint folder and start again: landing then goes on from the ledger"
                    )
            self._planned = self._ledger.planned_from(starts)
            self._landed = self._ledger.landed(starts)
        return self._planned


class RangePartition(InputPartition):
    """One range as Spark hands it to a task."""

    def __init__(self, part: OffsetRange, end_offset: int) -> None:
        self.part = part
        self.end_offset = end_offset


class PlanReader(DataSourceStreamReader):
    """Spark's side of the planner."""

    def __init__(self, config: PlanConfig) -> None:
        self._config = config
        self._planner: Planner | None = None

    @property
    def planner(self) -> Planner:
        """Made in the process that plans, not where the query is built."""
        if self._planner is None:
            self._planner = Planner(
                self._config,
                ClickHouseSink(self._config.warehouse),
                Watermarks(self._config.servers, self._config.topics),
            )
        return self._planner

    def __getstate__(self) -> dict[str, Any]:
        return {"_config": self._config, "_planner": None}

    def initialOffset(self) -> dict[str, int]:
        """Where a query without a checkpoint begins."""
        return self.planner.initial()

    def getDefaultReadLimit(self) -> ReadLimit:
        """At most the offsets of the settings in a batch."""
        return ReadMaxRows(self._config.max_offsets)

    def latestOffset(self, start: dict[str, int], limit: ReadLimit) -> dict[str, int]:
        """Where the next batch ends."""
        rows = limit.max_rows if isinstance(limit, ReadMaxRows) else None
        return self.planner.latest(start, rows)

    def partitions(self, start: dict[str, int], end: dict[str, int]) -> Sequence[InputPartition]:
        """One task for each range."""
        return [RangePartition(part, high) for part, high in self.planner.partitions(start, end)]

    def read(self, partition: InputPartition) -> Iterator[pa.RecordBatch]:
        """The range itself, as a row."""
        assert isinstance(partition, RangePartition)
        row = {**asdict(partition.part), "end_offset": partition.end_offset}
        yield pa.RecordBatch.from_pylist([row], schema=_ARROW)


class PlanSource(DataSource):
    """`spark.readStream.format("herald_ranges")`, once a configured subclass is registered."""

    config: PlanConfig

    @classmethod
    def name(cls) -> str:
        """Name of the format."""
        return "herald_ranges"

    def schema(self) -> str:
        """A row names one range."""
        return SCHEMA

    def streamReader(self, schema: Any) -> DataSourceStreamReader:
        """Reader of one query."""
        return PlanReader(self.config)


def configured(config: PlanConfig) -> type[PlanSource]:
    """The source with its configuration inside: options show in Spark's plans, password and all."""

    class Configured(PlanSource):
        pass

    Configured.config = config
    return Configured
