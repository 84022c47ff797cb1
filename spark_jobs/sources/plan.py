"""A streaming source whose rows are offset ranges, planned against the ledger of the warehouse.

Spark's Kafka source moves every record through the JVM, row by row; this one hands each task the
name of a range, and the task reads it itself (docs/decisions/0042). Checkpoint, batches, replays
and distribution over executors stay Spark's.
"""

from __future__ import annotations

import hashlib
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
from spark_jobs.sources.pressure import RECENT_SECONDS, Bounds, Load, Throttle
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


PLAN_TRIES = 10
PLAN_TRUSTED_SECONDS = 60.0
"""What was read of the plan is read again after so long: a job may have slept meanwhile."""

_TOO_MANY_JOBS = (
    "other landing jobs planned first, each time: are several at work on these topics? `herald "
    "status` shows this platform's"
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
    min_offsets: int = 50_000
    trigger_seconds: float = 0.5
    slow_insert_seconds: float = 5.0


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

    def planned_ends(self) -> dict[Slot, int]:
        """First offset of each partition that is not planned yet: what a new plan follows."""
        rows = self._sink.query(
            "SELECT topic, `partition`, max(last_offset) + 1 AS next FROM raw.planned_ranges "
            "WHERE topic IN {topics:Array(String)} GROUP BY topic, `partition`",
            self._topics,
        )
        return {Slot(r["topic"], int(r["partition"])): int(r["next"]) for r in rows}

    def plan(self, ranges: Sequence[OffsetRange], job: str, *, after: str) -> bool:
        """Write down what will be landed, before anything of it is.

        Args:
            ranges: new ones, at least one.
            job: who plans.
            after: names the state that this plan follows. Of two jobs that follow one state the
                warehouse takes the first and drops the other as a repetition.

        Returns:
            Whether these ranges are what follows; False when another job was first.
        """
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
            token=f"plan after {after}",
        )
        return ranges[0] in self.planned_from({ranges[0].slot: ranges[0].first})

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
        self._plan_ends: dict[Slot, int] = {}
        self._plan_read = 0.0
        self._landed: set[str] = set()
        self._last: tuple[str, list[tuple[OffsetRange, int]]] | None = None
        self._sink = sink
        self._throttle = Throttle(
            Bounds(
                config.max_offsets,
                config.min_offsets,
                config.trigger_seconds,
                config.slow_insert_seconds,
            )
        )
        self._begun: float | None = time.monotonic() - RECENT_SECONDS

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
        """Where the next batch ends. Its ranges are written down before this answers."""
        lows, self._highs = self._watermarks.read()
        starts = {slot: start.get(slot.key, low) for slot, low in lows.items()}
        self._feel_pressure(starts)
        most = min(limit or self._throttle.limit, self._throttle.limit)
        for _ in range(PLAN_TRIES):
            ends = batch_ends(
                starts,
                self._highs,
                most,
                self._config.range_offsets,
                self._recall(starts),
            )
            if self._write_down(starts, ends):
                return {slot.key: end for slot, end in ends.items()}
        raise PlanError(_TOO_MANY_JOBS)

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
        ends = {Slot.of(key): offset for key, offset in end.items()}
        for _ in range(PLAN_TRIES):
            if self._write_down(starts, ends):
                break
        else:
            raise PlanError(_TOO_MANY_JOBS)
        known = self._recall(starts)
        todo = [
            (r, self._highs.get(r.slot, r.last + 1))
            for r in self._cut(starts, ends, known)
            if r.token not in self._landed
        ]
        # what was planned before this start can only concern its first batches
        self._planned = [r for r in known if r.first >= ends.get(r.slot, 0)]
        self._last = (identity, todo)
        self._begun = time.monotonic()
        return todo

    def _feel_pressure(self, starts: Mapping[Slot, int]) -> None:
        """Learn from the batch that has just ended, or at the start from the last minute.

        A batch of less than two intervals, with nothing to recover from, costs no question.
        """
        if self._begun is None:
            return
        seconds = time.monotonic() - self._begun
        self._begun = None
        if self._throttle.wants(seconds):
            since = time.time_ns() // 1_000_000 - int(seconds * 1_000)
            waiting = sum(self._highs.get(slot, 0) > start for slot, start in starts.items())
            self._throttle.observe(
                Load.read(self._sink, self._config.topics, since, seconds),
                waiting * self._config.range_offsets,
            )

    def _cut(
        self, starts: Mapping[Slot, int], ends: Mapping[Slot, int], known: Sequence[OffsetRange]
    ) -> list[OffsetRange]:
        now_ms = time.time_ns() // 1_000_000
        return [
            part
            for slot, first in sorted(starts.items())
            for part in cut(slot, first, ends[slot], self._config.range_offsets, known, now_ms)
        ]

    def _write_down(self, starts: Mapping[Slot, int], ends: Mapping[Slot, int]) -> bool:
        """Plan what is new between starts and ends; False when another job planned first.

        Two jobs at once, by mistake or because a frozen one wakes up, must cut alike, or their
        ranges overlap under different tokens. Each plan therefore follows a state that both see,
        and the warehouse takes one plan for each state (docs/decisions/0130).
        """
        known = self._recall(starts)
        if time.monotonic() - self._plan_read > PLAN_TRUSTED_SECONDS:
            known = self._reread(starts)
        old = {r.token for r in known}
        new = [r for r in self._cut(starts, ends, known) if r.token not in old]
        if not new:
            return True
        state = dict(self._plan_ends)
        for attempt in range(PLAN_TRIES):
            if self._ledger.plan(new, self._config.job, after=_state_name(state, attempt)):
                self._planned = [*known, *new]
                for part in new:
                    self._plan_ends[part.slot] = max(
                        self._plan_ends.get(part.slot, 0), part.last + 1
                    )
                self._plan_read = time.monotonic()
                return True
            self._reread(starts)
            if self._plan_ends != state:
                return False
            # nobody planned: rows were deleted, and the warehouse still knows the old token
        raise PlanError(
            "raw.planned_ranges takes no new plan: the warehouse drops it as a repetition, but "
            "has no other; were rows deleted from it? Give the topic a new name"
        )

    def _reread(self, starts: Mapping[Slot, int]) -> list[OffsetRange]:
        """Learn what other jobs planned and landed; every range planned at or after the starts."""
        self._planned = self._ledger.planned_from(starts)
        self._plan_ends = self._ledger.planned_ends()
        self._landed = self._ledger.landed(starts)
        self._plan_read = time.monotonic()
        return self._planned

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
            return self._reread(starts)
        return self._planned


def _state_name(ends: Mapping[Slot, int], attempt: int) -> str:
    text = json.dumps({slot.key: end for slot, end in sorted(ends.items())})
    name = hashlib.sha256(text.encode()).hexdigest()[:32]
    return name if attempt == 0 else f"{name} again {attempt}"


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
