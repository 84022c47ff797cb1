"""Detect patterns: users counted in keyed state, rules judged over the live rollups, alerts.

Run: `python -m spark_jobs.jobs.detect_patterns`, or `herald up patterns`. A batch that is run again
after a crash changes nothing (docs/decisions/0120).
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

from clickhouse_connect.driver.exceptions import ClickHouseError
from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as f
from pyspark.sql.streaming import StreamingQuery

from herald.alerts.destinations import destinations
from herald.alerts.dispatch import Dispatcher
from herald.alerts.judge import Judge
from herald.alerts.model import instant
from herald.alerts.observations import WarehouseObservations
from herald.alerts.rules import OverMessaging, Rule, RuleError, evaluation_step_ms, load_rules
from herald.alerts.store import WarehouseStore
from herald.settings import Settings, SettingsError, load_settings
from herald.warehouse.client import connect
from herald.warehouse.errors import WarehouseDownError
from spark_jobs.patterns.facts import Windows
from spark_jobs.patterns.source import FactConfig, configured
from spark_jobs.sinks.clickhouse import Address

JOB = "detect_patterns__v1"
LATE_MS = 2 * 3_600_000
"""How late a send may come and still count for its user; facts are landed however late."""

PATIENCE_SECONDS = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0, 15.0)


def log(level: str, message: str, **facts: Any) -> None:
    """One JSON line on stderr; nothing personal goes in."""
    line = {"at": datetime.now(UTC).isoformat(timespec="milliseconds"), "level": level}
    sys.stderr.write(json.dumps({**line, "job": JOB, "message": message, **facts}) + "\n")
    sys.stderr.flush()


def build_session(settings: Settings) -> SparkSession:
    """A small Spark session; under spark-submit the submitted configuration wins."""
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    os.environ.setdefault("POLARS_MAX_THREADS", "1")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    builder = (
        SparkSession.builder.appName(JOB)
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.sql.adaptive.enabled", "false")
        # written into the checkpoint at the first run
        .config("spark.sql.shuffle.partitions", "2")
        .config("spark.sql.streaming.noDataMicroBatches.enabled", "false")
        .config("spark.sql.streaming.numRecentProgressUpdates", "2")
        .config("spark.sql.streaming.minBatchesToRetain", "5")
        .config(
            "spark.sql.streaming.stateStore.providerClass",
            "org.apache.spark.sql.execution.streaming.state.RocksDBStateStoreProvider",
        )
        .config("spark.sql.streaming.stateStore.rocksdb.changelogCheckpointing.enabled", "true")
        .config("spark.sql.streaming.stateStore.rocksdb.boundedMemoryUsage", "true")
        .config("spark.sql.streaming.stateStore.rocksdb.maxMemoryUsageMB", "128")
    )
    if "PYSPARK_GATEWAY_PORT" not in os.environ:
        builder = (
            builder.master(settings.alerts.master)
            .config("spark.driver.memory", settings.alerts.driver_memory)
            .config("spark.driver.extraJavaOptions", "-XX:+UseSerialGC -XX:TieredStopAtLevel=1")
        )
    session = builder.getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    return session


def fact_config(settings: Settings, rules: list[Rule]) -> FactConfig:
    """What the source needs for these rules."""
    windows = tuple(
        Windows(r.name, r.window_ms, int(r.hop.total_seconds() * 1_000))
        for r in rules
        if isinstance(r, OverMessaging)
    )
    return FactConfig(
        servers=settings.kafka.servers,
        topic=settings.kafka.topics.events,
        warehouse=Address.of(settings.warehouse),
        windows=windows,
        step_ms=evaluation_step_ms(rules),
        settle_ms=int(settings.alerts.settle_seconds * 1_000),
        lookback_ms=settings.alerts.lookback_minutes * 60_000,
        max_offsets=settings.alerts.max_offsets_per_trigger,
    )


def counted(facts: DataFrame, longest_ms: int) -> DataFrame:
    """Sends and opens by rule, user and window: the keyed state, forgotten after the window."""
    delay = f"{(longest_ms + LATE_MS) // 1_000} seconds"
    return (
        facts.withWatermark("window_end", delay)
        .groupBy("rule", "tenant_id", "user_id", "window_end")
        .agg(
            f.sum("sends").alias("sends"),
            f.sum("opens").alias("opens"),
            f.max("seen_ms").alias("seen_ms"),
            # of the one row that carries the instants; the newest batch's
            f.max(f.struct("until_ms", "from_ms")).alias("instants"),
        )
    )


class Batches:
    """What happens to each batch, in the driver."""

    def __init__(self, settings: Settings, rules: list[Rule]) -> None:
        self._settings = settings
        self._client = connect(settings.warehouse)
        self._lines = {r.name: r for r in rules if isinstance(r, OverMessaging)}
        self._judge = Judge(
            rules, WarehouseObservations(self._client), WarehouseStore(self._client)
        )

    def __call__(self, found: DataFrame, batch_id: int) -> None:
        """Keep users over the line, then judge the instants of the batch."""
        started = time.perf_counter()
        least = min((r.threshold for r in self._lines.values()), default=0)
        # all of it: a partition that is not computed would not commit its state
        rows = found.filter((f.col("rule") == "") | (f.col("sends") >= least)).collect()
        users = [
            r for r in rows if r["rule"] in self._lines
            and r["sends"] >= self._lines[r["rule"]].threshold
        ]  # fmt: skip
        spans = [r["instants"] for r in rows if r["rule"] == ""]
        newest = max(spans, key=lambda s: s["until_ms"], default=None)
        for pause in (*PATIENCE_SECONDS, None):
            try:
                self._keep(users)
                judged = self._judge.step(newest["from_ms"], newest["until_ms"]) if newest else None
            except (ClickHouseError, OSError) as error:
                if pause is None:
                    raise
                log("WARNING", "waiting for the warehouse", reason=str(error)[:300])
                time.sleep(pause)
            else:
                break
        if judged is None or newest is None or not (judged.rules or users):
            return
        log(
            "ERROR" if judged.failed else "INFO",
            "judged",
            batch=batch_id,
            until=instant(newest["until_ms"]).isoformat(),
            rules=judged.rules,
            users_over=len(users),
            opened=judged.opened,
            resolved=judged.resolved,
            open=judged.open_alerts,
            seconds=round(time.perf_counter() - started, 3),
            **({"failed": list(judged.failed)} if judged.failed else {}),
        )

    def _keep(self, users: list[Row]) -> None:
        if not users:
            return
        version = time.time_ns() // 1_000
        rows = []
        for r in users:
            end = r["window_end"].replace(tzinfo=UTC)
            start = end - self._lines[r["rule"]].window
            rows.append(
                [r["rule"], r["tenant_id"], r["user_id"], start, end, r["sends"], r["opens"],
                 instant(r["seen_ms"]), version]
            )  # fmt: skip
        self._client.insert(
            "live.messaged_users",
            rows,
            column_names=["rule", "tenant_id", "user_id", "window_start", "window_end", "sends",
                          "opens", "seen_at", "version"],
        )  # fmt: skip


def start_query(session: SparkSession, settings: Settings, rules: list[Rule]) -> StreamingQuery:
    """Start the stream; its checkpoint holds the offsets, the instants and the users' counts."""
    config = fact_config(settings, rules)
    session.dataSource.register(configured(config))
    facts = session.readStream.format("herald_facts").load()
    return (
        counted(facts, config.longest_ms)
        .writeStream.foreachBatch(Batches(settings, rules))
        .outputMode("update")
        .option("checkpointLocation", str(settings.state_dir / "patterns" / JOB))
        .trigger(processingTime=f"{int(settings.alerts.trigger_seconds * 1000)} milliseconds")
        .queryName(JOB)
        .start()
    )


def start_dispatcher(settings: Settings, stop: threading.Event) -> threading.Thread:
    """Tell destinations in a thread of its own: a slow one must not hold judging up."""
    alerts = settings.alerts
    told = destinations(settings)
    dispatcher = Dispatcher(
        connect(settings.warehouse),
        told,
        group_seconds=alerts.group_seconds,
        give_up_hours=alerts.give_up_hours,
        runbook_url=alerts.runbook_url,
    )

    def complain(problem: str) -> None:
        log("WARNING", "telling", reason=problem)

    thread = threading.Thread(
        target=dispatcher.run, args=(stop, complain), name="dispatcher", daemon=True
    )
    thread.start()
    log("INFO", "telling", destinations=[d.name for d in told])
    return thread


def heartbeat_file(settings: Settings) -> Path:
    """Touched every second while the stream runs; `herald status` reads its age."""
    return settings.state_dir / "run" / "patterns.heartbeat"


def run(settings: Settings) -> int:
    """Watch until SIGTERM or SIGINT. Returns 0 stopped, 1 failed, 2 nothing to work with."""
    stopping: list[int] = []

    def stop(number: int, _frame: FrameType | None) -> None:
        stopping.append(number)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    os.nice(10)  # landing comes first
    try:
        rules = load_rules(settings.alerts.rules_dir)
        client = connect(settings.warehouse)
        client.query("SELECT count() FROM live.alerts")
        client.close()
    except (RuleError, WarehouseDownError, ClickHouseError) as error:
        log("ERROR", "cannot start", reason=str(error)[:1_000])
        return 2
    heartbeat = heartbeat_file(settings)
    heartbeat.unlink(missing_ok=True)
    session = build_session(settings)
    query = start_query(session, settings, rules)
    stop_telling = threading.Event()
    teller = start_dispatcher(settings, stop_telling)
    log("INFO", "watching", rules=len(rules), step_ms=evaluation_step_ms(rules))
    try:
        return _watch(session, query, stopping, heartbeat)
    finally:
        stop_telling.set()
        teller.join(15)


def _watch(
    session: SparkSession, query: StreamingQuery, stopping: list[int], heartbeat: Path
) -> int:
    heartbeat.parent.mkdir(parents=True, exist_ok=True)
    try:
        while not stopping:
            heartbeat.touch()
            if query.awaitTermination(1):
                break
    except (PySparkException, Py4JError, OSError) as error:
        if not stopping:
            reason = [x.strip() for x in str(error).splitlines() if "Error" in x] or [str(error)]
            log("ERROR", "stopped; a restart goes on where it was", reason=reason[-1][:1_000])
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
