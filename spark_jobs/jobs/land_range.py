"""What a task does with one offset range: read, parse, insert, write into the ledger."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from herald.contract.events import CONTRACT_VERSION
from herald.contract.references import REFERENCES, Reference
from herald.settings import Settings
from spark_jobs.sinks.clickhouse import Address, ClickHouseSink
from spark_jobs.sinks.dead_letters import DeadLetter, DeadLetterTopic
from spark_jobs.sources.kafka import RangeConsumer, Records
from spark_jobs.sources.ranges import OffsetRange
from spark_jobs.transforms.events import EventParser, Parsed
from spark_jobs.transforms.judging import Limits
from spark_jobs.transforms.references import parse_references

JOB = "land_events__v1"
"""Name of the job and of its checkpoint; bumped when the checkpoint's meaning changes."""

RESULT = "topic STRING, `partition` INT, `first` BIGINT, `last` BIGINT, end_offset BIGINT, " + (
    "stored BIGINT, dead_lettered BIGINT, suspects BIGINT, bytes BIGINT, read_seconds DOUBLE, "
    "parse_seconds DOUBLE, insert_seconds DOUBLE"
)
_RESULT_NAMES = [part.split()[0].strip("`") for part in RESULT.split(", ")]


@dataclass(frozen=True)
class TaskConfig:
    """What a task needs of the settings; travels to the executors."""

    servers: str
    warehouse: Address
    limits: Limits
    dead_letter_topic: str
    tables: tuple[tuple[str, str], ...]
    """Topic and table, the events first."""

    @classmethod
    def of(cls, settings: Settings) -> TaskConfig:
        """Configuration of the settings."""
        topics = settings.kafka.topics
        tables = [(topics.events, "raw.events")]
        tables += [(getattr(topics, model.table), f"raw.{model.table}") for model in REFERENCES]
        return cls(
            settings.kafka.servers,
            Address.of(settings.warehouse),
            Limits.of(settings.landing),
            topics.dead_letters,
            tuple(tables),
        )

    @property
    def topics(self) -> tuple[str, ...]:
        """Every topic that is landed."""
        return tuple(topic for topic, _ in self.tables)

    def table(self, topic: str) -> str:
        """Where a topic is landed."""
        return dict(self.tables)[topic]


@dataclass(frozen=True, slots=True)
class Landed:
    """Outcome of one range; seconds are of the wall."""

    stored: int
    dead_lettered: int
    suspects: int
    bytes: int
    read_seconds: float
    parse_seconds: float
    insert_seconds: float


@dataclass
class Lander:
    """Connections and parser of one worker process, kept warm from task to task."""

    config: TaskConfig
    consumer: RangeConsumer = field(init=False)
    sink: ClickHouseSink = field(init=False)
    dead_letters: DeadLetterTopic = field(init=False)
    parser: EventParser = field(init=False)

    def __post_init__(self) -> None:
        self.consumer = RangeConsumer(self.config.servers)
        self.sink = ClickHouseSink(self.config.warehouse)
        self.dead_letters = DeadLetterTopic(self.config.servers, self.config.dead_letter_topic)
        self.parser = EventParser(self.config.limits)

    def land(self, part: OffsetRange, batch_id: int) -> Landed:
        """Land one range. Doing it again changes nothing.

        Order: dead letters to their topic (at least once), to their table, the rows, the ledger.
        Each insert has the range's token, so whatever was written by a run that died is kept once.

        Raises:
            BrokerError, WarehouseError, DeadLetterTopicError: nothing of the range is in the
                ledger; the next try lands it.
        """
        start = time.perf_counter()
        records = self.consumer.read(part)
        read = time.perf_counter()
        parsed = self._parse(part, records)
        letters = [
            _letter(records, r.position, r.error_class, r.field, r.message)
            for r in parsed.rejections
        ]
        parse = time.perf_counter()
        self.sink.take_pushbacks()  # of a try that failed
        self._write(part, records, parsed, letters)
        insert = time.perf_counter()
        landed = Landed(
            len(parsed.positions),
            len(letters),
            parsed.suspects,
            sum(map(len, records.values)),
            read - start,
            parse - read,
            insert - parse,
        )
        self._record(part, parsed, landed, batch_id)
        return landed

    def _parse(self, part: OffsetRange, records: Records) -> Parsed:
        table = self.config.table(part.topic)
        if table == "raw.events":
            return self.parser.parse(records.values, part.planned_at_ms)
        model = _model(table)
        return parse_references(records.values, model, part.planned_at_ms, self.config.limits)

    def _write(
        self, part: OffsetRange, records: Records, parsed: Parsed, letters: list[DeadLetter]
    ) -> None:
        now = pa.scalar(time.time_ns() // 1_000_000, pa.timestamp("ms", tz="UTC"))
        landed = partial(self.sink.is_landed, part)
        if letters:
            self.dead_letters.send(part, letters)
            self.sink.insert(
                "raw.dead_letters",
                _letters_table(part, letters, now),
                token=f"dead {part.token}",
                already_there=landed,
            )
        if parsed.table.num_rows:
            self.sink.insert(
                self.config.table(part.topic),
                _with_landing(part, records, parsed, now),
                token=part.token,
                already_there=landed,
            )

    def _record(self, part: OffsetRange, parsed: Parsed, landed: Landed, batch_id: int) -> None:
        times = parsed.table.column_names
        name = "occurred_at" if "occurred_at" in times else "updated_at"
        known = name in times and parsed.table.num_rows > 0
        bounds = pc.min_max(parsed.table[name]).as_py() if known else {"min": None, "max": None}
        stamp = pa.timestamp("ms", tz="UTC")
        pushbacks, code = self.sink.take_pushbacks()
        # the planner makes the next batches smaller; nearly always there is nothing to say
        pressure = {
            "pushbacks": pa.array([min(pushbacks, 65_535)], pa.uint16()),
            "pushback_code": pa.array([code], pa.uint16()),
        }
        self.sink.insert(
            "raw.landed_ranges",
            pa.table(
                {
                    "topic": [part.topic],
                    "partition": pa.array([part.partition], pa.uint16()),
                    "first_offset": pa.array([part.first], pa.uint64()),
                    "last_offset": pa.array([part.last], pa.uint64()),
                    "rows_stored": pa.array([landed.stored], pa.uint64()),
                    "rows_dead_lettered": pa.array([landed.dead_lettered], pa.uint64()),
                    "bytes": pa.array([landed.bytes], pa.uint64()),
                    "min_occurred_at": pa.array([bounds["min"]], stamp),
                    "max_occurred_at": pa.array([bounds["max"]], stamp),
                    "batch_id": pa.array([batch_id], pa.int64()),
                    "insert_seconds": pa.array([landed.insert_seconds], pa.float64()),
                    "job": [JOB],
                    "landed_at": pa.array([time.time_ns() // 1_000_000], stamp),
                    **(pressure if pushbacks else {}),
                }
            ),
            token=f"ledger {part.token}",
        )


_landers: dict[TaskConfig, Lander] = {}


def land_batches(
    batches: Iterator[pa.RecordBatch], config: TaskConfig, batch_id: int
) -> Iterator[pa.RecordBatch]:
    """For `mapInArrow`: rows name ranges, the result tells what became of each."""
    lander = _lander(config)
    for batch in batches:
        for row in batch.to_pylist():
            part = OffsetRange(
                row["topic"], row["partition"], row["first"], row["last"], row["planned_at_ms"]
            )
            landed = lander.land(part, batch_id)
            yield _result(part, row["end_offset"], landed)


def warm_up(batches: Iterator[pa.RecordBatch], config: TaskConfig) -> Iterator[pa.RecordBatch]:
    """For `mapInArrow`: make this worker's connections and load its libraries."""
    lander = _lander(config)
    sample = b'{"event_id":"","tenant_id":"","event_type":"","occurred_at":""}'
    EventParser(config.limits).parse([sample] * 100, 0)  # not its own: that learns columns
    lander.sink.query("SELECT 1 AS one")
    for batch in batches:
        time.sleep(0.5)  # long enough that every slot gets its own worker
        yield batch


def _lander(config: TaskConfig) -> Lander:
    if config not in _landers:
        _landers[config] = Lander(config)
    return _landers[config]


def _result(part: OffsetRange, end_offset: int, landed: Landed) -> pa.RecordBatch:
    values: list[Any] = [
        part.topic,
        part.partition,
        part.first,
        part.last,
        end_offset,
        landed.stored,
        landed.dead_lettered,
        landed.suspects,
        landed.bytes,
        landed.read_seconds,
        landed.parse_seconds,
        landed.insert_seconds,
    ]
    kinds = [pa.string(), pa.int32(), *[pa.int64()] * 7, *[pa.float64()] * 3]
    arrays = [pa.array([v], kind) for v, kind in zip(values, kinds, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, _RESULT_NAMES)


def _model(table: str) -> type[Reference]:
    return next(model for model in REFERENCES if f"raw.{model.table}" == table)


def _letter(
    records: Records, position: int, error_class: str, field_name: str, message: str
) -> DeadLetter:
    record = records.messages[position]
    _, produced = record.timestamp()
    return DeadLetter(
        records.offsets[position],
        record.key() or b"",
        records.values[position],
        max(int(produced), 0),
        error_class,
        field_name,
        message,
    )


def _letters_table(part: OffsetRange, letters: list[DeadLetter], now: pa.Scalar) -> pa.Table:
    rows = len(letters)
    return pa.table(
        {
            "topic": [part.topic] * rows,
            "partition": pa.array([part.partition] * rows, pa.uint16()),
            "offset": pa.array([x.offset for x in letters], pa.uint64()),
            "key": pa.array([x.key for x in letters], pa.binary()),
            "value": pa.array([x.value for x in letters], pa.binary()),
            "error_class": [x.error_class for x in letters],
            "error_field": [x.field for x in letters],
            "error_message": [x.message for x in letters],
            "contract_version": [CONTRACT_VERSION] * rows,
            "produced_at": pa.array(
                [x.produced_at_ms for x in letters], pa.timestamp("ms", tz="UTC")
            ),
            "landed_at": pa.repeat(now, rows),
        }
    )


def _with_landing(part: OffsetRange, records: Records, parsed: Parsed, now: pa.Scalar) -> pa.Table:
    rows = parsed.table.num_rows
    offsets = np.asarray(records.offsets, dtype=np.uint64)[parsed.positions]
    topic = pa.DictionaryArray.from_arrays(
        pa.array(np.zeros(rows, dtype=np.int32)), pa.array([part.topic])
    )
    table = parsed.table
    for name, column in {
        "_topic": topic,
        "_partition": pa.repeat(pa.scalar(part.partition, pa.uint16()), rows),
        "_offset": pa.array(offsets),
        "landed_at": pa.repeat(now, rows),
    }.items():
        table = table.append_column(name, column)
    return table
