"""`herald bench ways`: the ways that Spark offers, compared in one run on one platform."""

from __future__ import annotations

import json
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, TopicPartition

from herald.bench.comparison import same_table, spark_lines
from herald.bench.flow import Producing
from herald.bench.pacer import Pace
from herald.bench.rows import save
from herald.bench.stage import BenchError, produce
from herald.bench.stats import percentile
from herald.bench.suite import bench_platform
from herald.records import now
from herald.settings import Settings
from herald.sources.producer import BulkProducer
from herald.warehouse.client import connect

TABLE = "bench.ways"
TRIGGERS = ("realTime", "processingTime")
REAL_TIME_RATE = 1_000
REAL_TIME_CANARIES = 20
WARM_SECONDS = 10.0
LINGER_SECONDS = 3.0
SLOTS = 8
"""Real-time mode keeps a task for each partition running, so it needs as many slots."""


def run_ways_bench(
    settings: Settings, events: int, seconds: float, output: Path | None, *, command: str
) -> list[dict[str, Any]]:
    """Measure on a platform of its own; points go into the record: `ways`, `real_time`.

    Args:
        settings: the landing's limits are taken from them.
        events: of each way and stage.
        seconds: of each real-time query.
        output: the record; None is `<state_dir>/bench.json`.
        command: what was run, for the record.

    Raises:
        BenchError: a job failed.
    """
    started = now()
    path = output or settings.state_dir / "bench.json"
    with bench_platform(settings, ["kafka", "warehouse"]) as platform:
        produce(platform.settings, events, seed=5)
        ways = ways_points(platform.settings, events)
        save(path, [], command=command, started_at=started, series={"ways": ways})
        latency = [real_time_point(platform.settings, name, seconds) for name in TRIGGERS]
        save(path, [], command=command, started_at=started, series={"real_time": latency})
    return ways + latency


def ways_points(settings: Settings, events: int) -> list[dict[str, Any]]:
    """Events/s and Spark's CPU by way and stage.

    Args:
        settings: of a platform whose events topic holds at least so many events.
        events: how many each measurement takes.

    Returns:
        Records of `way`, `stage` (read, parse, land), `events`, `events_per_s`, `spark_cpu_us` (µs
        of CPU an event of the JVM and its workers; the warehouse's is not in it).
    """
    client = connect(settings.warehouse)
    same_table(client, TABLE)
    now_ms = str(time.time_ns() // 1_000_000)
    try:
        return list(spark_lines(settings, "spark_jobs.bench.ways", str(events), TABLE, now_ms))
    finally:
        client.command(f"DROP TABLE {TABLE} SYNC")
        client.close()


def real_time_point(
    settings: Settings, trigger: str, seconds: float, warm: float = WARM_SECONDS
) -> dict[str, Any]:
    """Latency of a stateless Kafka-to-Kafka query, from a canary's due time to its time there.

    Returns:
        `trigger`, `canaries`, `p50_ms`, `p99_ms`, `max_ms`.
    """
    landing = settings.landing.model_copy(update={"master": f"local[{SLOTS}]"})
    wide = settings.model_copy(update={"landing": landing})
    topic = settings.kafka.topics.alerts
    first = BulkProducer(settings.kafka.servers).end_offsets([topic])[topic]
    pace = Pace(
        settings.kafka.servers,
        settings.kafka.topics.events,
        REAL_TIME_RATE,
        seconds,
        pool=10_000,
        canaries=REAL_TIME_CANARIES,
        prefix=f"real{time.time_ns() // 1_000_000}",
    )
    for line in spark_lines(wide, "spark_jobs.bench.real_time", trigger, str(warm)):
        if "started" in line:
            source = Producing(settings, pace)
            try:
                source.wait_begun()
                source.process.wait(seconds + 60)
                source.end()
                time.sleep(LINGER_SECONDS)  # for the last canaries, before the job is told to end
            finally:
                source.kill()
    took = _passed_on(settings, topic, first, pace.prefix)
    if not took:
        raise BenchError(f"{trigger}: no canary came through")
    return {
        "trigger": trigger,
        "rate": REAL_TIME_RATE,
        "canaries": len(took),
        "p50_ms": round(percentile(took, 0.5)),
        "p99_ms": round(percentile(took, 0.99)),
        "max_ms": round(max(took)),
    }


def _passed_on(settings: Settings, topic: str, first: int, prefix: str) -> list[float]:
    """Milliseconds of the canaries of one run."""
    end = BulkProducer(settings.kafka.servers).end_offsets([topic])[topic]
    consumer = Consumer(
        {"bootstrap.servers": settings.kafka.servers, "group.id": "bench", "log_level": 3}
    )
    consumer.assign([TopicPartition(topic, 0, first)])
    took = []
    for _ in range(end - first):
        message = consumer.poll(5.0)
        if message is None:
            break
        if message.error() is not None:
            continue
        event = json.loads(message.value() or b"{}")
        if str(event.get("campaign_id", "")).startswith(prefix):
            at = datetime.fromisoformat(event["occurred_at"]).timestamp()
            took.append(message.timestamp()[1] - at * 1_000)
    consumer.close()
    return took
