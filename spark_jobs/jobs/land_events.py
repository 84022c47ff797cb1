"""Land events and reference records: Kafka to ClickHouse, each record exactly once.

Run: `python -m spark_jobs.jobs.land_events`, `herald land`, or `spark-submit` (docs/how-to/).
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import pyarrow as pa
from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql.streaming import StreamingQuery

from herald.settings import Settings, SettingsError, load_settings
from spark_jobs.jobs.land_range import JOB, RESULT, TaskConfig, land_batches, warm_up
from spark_jobs.sinks.clickhouse import Address, ClickHouseSink, WarehouseError
from spark_jobs.sources.checkpoint import SPARK_COMPLAINTS, FolderLock, complaint, set_aside
from spark_jobs.sources.kafka import BrokerError, Watermarks
from spark_jobs.sources.plan import PlanConfig, configured

QUICK_JVM = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
"""No optimising compiler and no parallel collector for a driver that does next to nothing."""

MEMORY = {
    "MALLOC_TRIM_THRESHOLD_": "4000000000",
    "MALLOC_MMAP_THRESHOLD_": "4000000000",
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "_RJEM_MALLOC_CONF": "dirty_decay_ms:-1,muzzy_decay_ms:-1,thp:always",
}
"""Each range needs the memory that the last one freed: giving it back to the kernel and asking
again costs a fault a page. All three allocators keep it, in large pages (decision 0045)."""


def log(level: str, message: str, **facts: Any) -> None:
    """One JSON line on stderr; nothing personal goes in."""
    line = {"at": datetime.now(UTC).isoformat(timespec="milliseconds"), "level": level}
    sys.stderr.write(json.dumps({**line, "job": JOB, "message": message, **facts}) + "\n")
    sys.stderr.flush()


def build_session(settings: Settings) -> SparkSession:
    """A Spark session; under spark-submit the submitted configuration wins."""
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    # a task has a core of its own; more threads would fight the other tasks for theirs
    os.environ.setdefault("POLARS_MAX_THREADS", "1")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    for name, value in MEMORY.items():
        os.environ.setdefault(name, value)
    builder = (
        SparkSession.builder.appName(JOB)
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.executorEnv.POLARS_MAX_THREADS", "1")
        .config("spark.python.worker.reuse", "true")
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.sql.adaptive.enabled", "false")
        .config("spark.sql.streaming.numRecentProgressUpdates", "2")
        .config("spark.sql.streaming.minBatchesToRetain", "10")
    )
    if "PYSPARK_GATEWAY_PORT" not in os.environ:
        builder = builder.master(settings.landing.master).config(
            "spark.driver.memory", settings.landing.driver_memory
        )
        # Spark moves a row a range: what counts is a quick start and cores left to the workers
        builder = builder.config("spark.driver.extraJavaOptions", QUICK_JVM)
    session = builder.getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    return session


def start_landing(session: SparkSession, settings: Settings) -> StreamingQuery:
    """Start the stream. Its batches are landed when `awaitTermination` returns or is polled."""
    config = TaskConfig.of(settings)
    plan = PlanConfig(
        config.servers,
        config.topics,
        config.warehouse,
        settings.landing.range_offsets,
        settings.landing.max_offsets_per_trigger,
        JOB,
        settings.landing.min_offsets_per_trigger,
        # a trigger of 0 asks again at once; a batch still takes some time
        max(settings.landing.trigger_seconds, 0.5),
        settings.landing.slow_insert_seconds,
    )
    session.dataSource.register(configured(plan))
    progress = Progress(config.warehouse)
    return (
        session.readStream.format("herald_ranges")
        .load()
        .writeStream.foreachBatch(partial(land_batch, config=config, progress=progress))
        .option("checkpointLocation", str(checkpoint_folder(settings)))
        .trigger(processingTime=f"{int(settings.landing.trigger_seconds * 1000)} milliseconds")
        .queryName(JOB)
        .start()
    )


def land_batch(ranges: DataFrame, batch_id: int, *, config: TaskConfig, progress: Progress) -> None:
    """Land the ranges of one batch, a task each, and report."""
    started = time.perf_counter()

    def land(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return land_batches(batches, config, batch_id)

    rows = ranges.mapInArrow(land, RESULT).collect()
    progress.report(rows, batch_id, time.perf_counter() - started)


class Progress:
    """Where landing stands: rows in `live.landing_progress`, and log lines."""

    def __init__(self, warehouse: Address) -> None:
        self._sink = ClickHouseSink(warehouse)

    def report(self, rows: list[Row], batch_id: int, seconds: float) -> None:
        """Report one batch. A failure to do so stops nothing: the ledger has the truth."""
        if not rows:
            return
        stored = sum(r["stored"] for r in rows)
        dead = sum(r["dead_lettered"] for r in rows)
        ends: dict[tuple[str, int], Row] = {}
        for row in sorted(rows, key=lambda r: r["last"]):
            ends[row["topic"], row["partition"]] = row
        total = max(
            sum(r["read_seconds"] + r["parse_seconds"] + r["insert_seconds"] for r in rows), 1e-9
        )
        log(
            "INFO",
            "batch landed",
            batch=batch_id,
            ranges=len(rows),
            stored=stored,
            dead_lettered=dead,
            suspects=sum(r["suspects"] for r in rows),
            seconds=round(seconds, 3),
            events_per_s=round((stored + dead) / max(seconds, 1e-9)),
            lag=sum(max(r["end_offset"] - r["last"] - 1, 0) for r in ends.values()),
            share_read=round(sum(r["read_seconds"] for r in rows) / total, 2),
            share_parse=round(sum(r["parse_seconds"] for r in rows) / total, 2),
            share_insert=round(sum(r["insert_seconds"] for r in rows) / total, 2),
        )
        counts: dict[tuple[str, int], int] = {}
        for row in rows:
            slot = (row["topic"], row["partition"])
            counts[slot] = counts.get(slot, 0) + row["stored"] + row["dead_lettered"]
        now = time.time_ns() // 1_000_000
        try:
            self._sink.insert(
                "live.landing_progress",
                pa.table(
                    {
                        "observed_at": pa.array([now] * len(ends), pa.timestamp("ms", tz="UTC")),
                        "topic": [t for t, _ in ends],
                        "partition": pa.array([p for _, p in ends], pa.uint16()),
                        "next_offset": pa.array(
                            [r["last"] + 1 for r in ends.values()], pa.uint64()
                        ),
                        "end_offset": pa.array(
                            [max(r["end_offset"], r["last"] + 1) for r in ends.values()],
                            pa.uint64(),
                        ),
                        "batch_id": pa.array([batch_id] * len(ends), pa.int64()),
                        "batch_rows": pa.array([counts[slot] for slot in ends], pa.uint64()),
                        "batch_seconds": pa.array([seconds] * len(ends), pa.float64()),
                    }
                ),
                token=f"progress {batch_id} {now}",
            )
        except WarehouseError as error:
            log("WARNING", "progress not written", reason=str(error)[:300])


def wait_for(what: str, check: Callable[[], object], seconds: float) -> None:
    """Retry until it answers. Raises the last error after the given time."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            check()
        except (BrokerError, WarehouseError) as error:
            if time.monotonic() > deadline:
                raise
            log("WARNING", f"waiting for the {what}", reason=str(error)[:300])
            time.sleep(2)
        else:
            return


def run(settings: Settings) -> int:
    """Land until SIGTERM or SIGINT. Returns the exit code: 0 stopped, 2 nothing to work with."""
    stopping: list[int] = []

    def stop(number: int, _frame: FrameType | None) -> None:
        stopping.append(number)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    config = TaskConfig.of(settings)
    try:
        patience = settings.landing.start_timeout_seconds
        broker = Watermarks(config.servers, list(config.topics))
        wait_for("broker", lambda: broker.read(5.0, tries=1), patience)
        wait_for("warehouse", lambda: _check_warehouse(config.warehouse), patience)
    except (BrokerError, WarehouseError) as error:
        log("ERROR", "cannot start", reason=str(error))
        return 2
    session = build_session(settings)
    _warm(session, config)
    folder = checkpoint_folder(settings)
    lock = FolderLock(folder.with_suffix(".lock"))
    if not _take(lock, stopping):
        session.stop()
        return 0
    if reason := complaint(folder):
        _set_aside(folder, reason)
    heartbeat_file(settings).unlink(missing_ok=True)
    query = start_landing(session, settings)
    log("INFO", "landing", servers=config.servers, topics=list(config.topics))
    return _watch(session, query, stopping, settings)


def _take(lock: FolderLock, stopping: list[int]) -> bool:
    """Wait, ready to go on at once, while another job uses the checkpoint; False when stopped."""
    if lock.take():
        return True
    log("WARNING", "waits: another landing job of this folder is at work")
    while not stopping:
        if lock.take():
            log("INFO", "takes over")
            return True
        time.sleep(0.05)
    return False


def _set_aside(folder: Path, reason: str) -> None:
    """A torn checkpoint must not stop landing for ever: the ledger says where to go on."""
    kept = set_aside(folder)
    log("WARNING", "unreadable checkpoint set aside", reason=reason[:300], kept=kept.name)


def _check_warehouse(address: Address) -> None:
    found = ClickHouseSink(address, sleep=lambda _seconds: None).query(
        "SELECT count() AS n FROM system.tables WHERE database = 'raw' "
        "AND name IN ('events', 'planned_ranges', 'landed_ranges')"
    )
    if int(found[0]["n"]) < 3:
        raise WarehouseError("tables of the landing are missing: run `herald migrate`")


def _warm(session: SparkSession, config: TaskConfig) -> None:
    slots = session.sparkContext.defaultParallelism

    def warm(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return warm_up(batches, config)

    session.range(0, slots, 1, slots).mapInArrow(warm, "id BIGINT").collect()


def checkpoint_folder(settings: Settings) -> Path:
    """Where Spark keeps how far the stream is."""
    return settings.state_dir / "landing" / JOB


def heartbeat_file(settings: Settings) -> Path:
    """Touched every second while the stream runs; `herald status` reads its age."""
    return settings.state_dir / "run" / "landing.heartbeat"


def _watch(
    session: SparkSession, query: StreamingQuery, stopping: list[int], settings: Settings
) -> int:
    heartbeat = heartbeat_file(settings)
    heartbeat.parent.mkdir(parents=True, exist_ok=True)
    try:
        while not stopping:
            heartbeat.touch()
            if query.awaitTermination(1):
                break
    except (PySparkException, Py4JError, OSError) as error:
        if not stopping:
            log("ERROR", "landing stopped; a restart goes on where it was", reason=_reason(error))
            if any(words in str(error) for words in SPARK_COMPLAINTS):
                _set_aside(checkpoint_folder(settings), _reason(error))
            return 1
    if not stopping:
        log("ERROR", "the stream ended by itself")
        return 1
    log("INFO", "stopping", signal=stopping[0])
    try:
        query.stop()
        session.stop()
    except (PySparkException, Py4JError, OSError) as error:  # the JVM got the signal too
        log("WARNING", "Spark ended first", reason=type(error).__name__)
    return 0


def _reason(error: Exception) -> str:
    """The innermost Python error in Spark's message, which is pages long."""
    lines = [line.strip() for line in str(error).splitlines() if "Error: " in line]
    return (lines[-1] if lines else str(error).splitlines()[0])[:1_000]


def main() -> int:
    """Entry point."""
    try:
        settings = load_settings()
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return run(settings)


if __name__ == "__main__":
    sys.exit(main())
