"""The ways that Spark offers from Kafka to the warehouse, one after the other on one session.

`python -m spark_jobs.bench.ways <events> <table> <now_ms>` prints a JSON line for each way and
stage: read only, read and parse, all of it. Batch queries, so that nothing but the way differs; the
tasks do what they would do in a stream.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.datasource import DataSource, DataSourceReader, InputPartition

from herald.bench.usage import cpu_seconds
from herald.settings import Settings, load_settings
from spark_jobs.bench.session import as_json, insert_lines, kafka_options, kafka_session, say
from spark_jobs.sinks.clickhouse import Address, ClickHouseSink
from spark_jobs.sources.kafka import RangeConsumer, Watermarks
from spark_jobs.sources.ranges import OffsetRange, cut
from spark_jobs.transforms.events import EventParser
from spark_jobs.transforms.judging import Limits

STAGES = ("read", "parse", "land")
SMALL, LARGE = 100_000, 300_000
RESULT = "rows BIGINT"


@dataclass(frozen=True)
class Work:
    """What a task needs; travels to the workers."""

    servers: str
    warehouse: Address
    table: str
    limits: Limits
    now_ms: int


_kept: dict[Work, tuple[RangeConsumer, ClickHouseSink, EventParser]] = {}


def _tools(work: Work) -> tuple[RangeConsumer, ClickHouseSink, EventParser]:
    """Connections and parser of this worker, warm from task to task as in production."""
    if work not in _kept:
        _kept[work] = (
            RangeConsumer(work.servers),
            ClickHouseSink(work.warehouse),
            EventParser(work.limits),
        )
    return _kept[work]


def handle(values: Sequence[bytes], stage: str, work: Work) -> pa.RecordBatch:
    """Do with values what a stage asks for, and count them."""
    if stage != "read":
        _, sink, parser = _tools(work)
        parsed = parser.parse(values, work.now_ms)
        if stage == "land" and parsed.table.num_rows:
            sink.insert(work.table, parsed.table, token=f"{os.getpid()} {time.time_ns()}")
    return pa.RecordBatch.from_pydict({"rows": [len(values)]})


def of_records(
    batches: Iterator[pa.RecordBatch], *, stage: str, work: Work
) -> Iterator[pa.RecordBatch]:
    """For `mapInArrow`: records that Spark brought, in a column `value`."""
    for batch in batches:
        if stage == "read":
            yield pa.RecordBatch.from_pydict({"rows": [batch.num_rows]})
        else:
            yield handle(batch.column(0).to_pylist(), stage, work)


def of_ranges(
    batches: Iterator[pa.RecordBatch], *, stage: str, work: Work, ranges: Sequence[OffsetRange]
) -> Iterator[pa.RecordBatch]:
    """For `mapInArrow`: numbers of ranges, which the task reads by itself."""
    for batch in batches:
        for number in batch.column(0).to_pylist():
            records = _tools(work)[0].read(ranges[number])
            yield handle(records.values, stage, work)


def of_lines(batches: Iterator[pa.RecordBatch], *, work: Work) -> Iterator[pa.RecordBatch]:
    """For `mapInArrow`: JSON lines to insert."""
    for batch in batches:
        insert_lines(work.warehouse, work.table, batch.column(0).to_pylist())
        yield pa.RecordBatch.from_pydict({"rows": [batch.num_rows]})


class RangeSlot(InputPartition):
    """One range of the records source."""

    def __init__(self, part: OffsetRange) -> None:
        self.part = part


class RecordsReader(DataSourceReader):
    """Reads ranges with librdkafka and hands the records to Spark as Arrow."""

    def __init__(self, work: Work, ranges: Sequence[OffsetRange]) -> None:
        self._work = work
        self._ranges = ranges

    def partitions(self) -> Sequence[InputPartition]:
        """One task for each range."""
        return [RangeSlot(part) for part in self._ranges]

    def read(self, partition: InputPartition) -> Iterator[pa.RecordBatch]:
        """The records of one range."""
        assert isinstance(partition, RangeSlot)
        values = _tools(self._work)[0].read(partition.part).values
        yield pa.RecordBatch.from_arrays([pa.array(values, pa.binary())], ["value"])


def records_source(work: Work, ranges: Sequence[OffsetRange]) -> type[DataSource]:
    """A data source with its configuration inside."""

    class RecordsSource(DataSource):
        @classmethod
        def name(cls) -> str:
            return "herald_records"

        def schema(self) -> str:
            return "value BINARY"

        def reader(self, schema: Any) -> DataSourceReader:
            return RecordsReader(work, ranges)

    return RecordsSource


def topic_ranges(settings: Settings, events: int, size: int) -> list[OffsetRange]:
    """Ranges of the first events of the topic, cut as the landing cuts them."""
    topic = settings.kafka.topics.events
    lows, highs = Watermarks(settings.kafka.servers, [topic]).read()
    share = events // max(1, len(highs))
    return [
        part
        for slot in sorted(highs)
        for part in cut(slot, lows[slot], min(highs[slot], lows[slot] + share), size, [], 0)
    ]


@dataclass(frozen=True)
class Bench:
    """The ways over one topic."""

    session: SparkSession
    settings: Settings
    work: Work
    events: int

    def ways(self) -> dict[str, dict[str, Callable[[int], DataFrame]]]:
        """Way and stage to a query over so many events that gives counts of rows."""
        return {
            "kafka_source": {s: partial(self._kafka, s) for s in STAGES},
            "ranges": {s: partial(self._ranges, s, SMALL) for s in STAGES},
            "ranges_large": {s: partial(self._ranges, s, LARGE) for s in STAGES},
            "records_source": {s: partial(self._records, s) for s in STAGES},
            "from_json": {"parse": self._from_json_only, "land": self._from_json},
        }

    def measure(self) -> None:
        """Run each, after a small one that warms it; print a line each."""
        for way, stages in self.ways().items():
            for stage, query in stages.items():
                _count(query(max(12_000, self.events // 20)))
                cpu, begun = cpu_seconds(os.getpid()), time.perf_counter()
                rows = _count(query(self.events))
                seconds = time.perf_counter() - begun
                used = cpu_seconds(os.getpid()) - cpu
                say(
                    way=way,
                    stage=stage,
                    events=rows,
                    events_per_s=round(rows / seconds),
                    spark_cpu_us=round(used * 1e6 / rows, 2),
                )

    def _records_of_kafka(self, events: int) -> DataFrame:
        ends = {}
        for part in topic_ranges(self.settings, events, 1 << 40):
            ends[str(part.partition)] = part.last + 1
        topic = self.settings.kafka.topics.events
        ending = '{"' + topic + '":{' + ",".join(f'"{p}":{o}' for p, o in ends.items()) + "}}"
        return (
            self.session.read.format("kafka")
            .options(**kafka_options(self.settings))
            .option("endingOffsets", ending)
            .load()
            .select("value")
        )

    def _kafka(self, stage: str, events: int) -> DataFrame:
        task = partial(of_records, stage=stage, work=self.work)
        return self._records_of_kafka(events).mapInArrow(task, RESULT)

    def _ranges(self, stage: str, size: int, events: int) -> DataFrame:
        ranges = topic_ranges(self.settings, events, size)
        task = partial(of_ranges, stage=stage, work=self.work, ranges=ranges)
        return self.session.range(0, len(ranges), 1, len(ranges)).mapInArrow(task, RESULT)

    def _records(self, stage: str, events: int) -> DataFrame:
        ranges = topic_ranges(self.settings, events, SMALL)
        self.session.dataSource.register(records_source(self.work, ranges))
        task = partial(of_records, stage=stage, work=self.work)
        return self.session.read.format("herald_records").load().mapInArrow(task, RESULT)

    def _from_json_only(self, events: int) -> DataFrame:
        """Every parsed field is looked at, or Spark would not parse it: they go out as text."""
        lines = as_json(self._records_of_kafka(events))
        return lines.selectExpr("sum(length(line)) AS bytes", "count(*) AS rows").select("rows")

    def _from_json(self, events: int) -> DataFrame:
        return as_json(self._records_of_kafka(events)).mapInArrow(
            partial(of_lines, work=self.work), RESULT
        )


def _count(frame: DataFrame) -> int:
    return sum(int(row["rows"]) for row in frame.collect())


def run(settings: Settings, events: int, table: str, now_ms: int) -> None:
    """Measure every way over the first events of the topic."""
    session = kafka_session(settings)
    work = Work(
        settings.kafka.servers,
        Address.of(settings.warehouse),
        table,
        Limits.of(settings.landing),
        now_ms,
    )
    Bench(session, settings, work, events).measure()
    session.stop()


if __name__ == "__main__":
    run(load_settings(), int(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
