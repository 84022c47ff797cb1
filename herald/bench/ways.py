"""`herald bench ways`: the ways that Spark offers, compared in one run on one platform."""

from __future__ import annotations

import time
from typing import Any

from herald.bench.comparison import same_table, spark_lines
from herald.settings import Settings
from herald.warehouse.client import connect

TABLE = "bench.ways"


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
