"""The comparison jobs: other landings in Spark, as processes that print what they did."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from clickhouse_connect.driver.client import Client

from herald.bench.rows import BenchRow, row
from herald.bench.stage import BenchError
from herald.settings import Settings
from infra.local.environment import child_environment


def spark_lines(settings: Settings, module: str, *arguments: str) -> Iterator[dict[str, Any]]:
    """What a comparison job prints, line by line, until it ends.

    Its standard input ends when the line after its first is asked for: a job that waits for that
    runs while the first is looked at.

    Raises:
        BenchError: it failed; the message ends with its log.
    """
    log = settings.state_dir / f"{module.rpartition('.')[2]}.log"
    with log.open("wb") as errors:
        job = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            env={**os.environ, **child_environment(settings)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
        )
        assert job.stdin is not None
        assert job.stdout is not None
        try:
            for line in job.stdout:
                yield json.loads(line)
                job.stdin.close()
            code = job.wait(60)
        finally:
            if job.poll() is None:
                job.terminate()
                job.wait(60)
    if code:
        end = log.read_text(errors="replace")[-2_000:]
        raise BenchError(f"{module} ended with {code}:\n{end}")


def from_json_row(settings: Settings, client: Client, events: int, drain: float) -> BenchRow:
    """`landing_over_from_json`: our drain over that of `from_json` and JSONEachRow.

    The first batch (workers, classes, connections) is not timed.

    Args:
        settings: of a platform whose events topic holds at least so many events.
        client: a writer's.
        events: how many it takes.
        drain: our own events/s, of the same topic in the same run.
    """
    same_table(client, "bench.from_json")
    batches = list(
        spark_lines(settings, "spark_jobs.bench.from_json", str(events), "bench.from_json")
    )
    first, last = batches[0], batches[-1]
    if last["landed"] == first["landed"]:
        raise BenchError(f"from_json landed its {events} events in one batch: take more")
    rate = (last["landed"] - first["landed"]) / (last["at"] - first["at"])
    stored = int(client.query("SELECT count() FROM bench.from_json").result_rows[0][0])
    client.command("DROP TABLE bench.from_json SYNC")
    if stored < last["landed"] * 0.98:
        raise BenchError(f"from_json stored only {stored} of {last['landed']} events")
    return row(
        "landing_over_from_json",
        drain / rate,
        "over Spark's Kafka source, from_json of every field and JSONEachRow inserts of up to "
        f"100,000 rows by two tasks: {rate:.0f} events/s on {last['landed'] - first['landed']} "
        "events, warm, no validation, at least once",
        rate,
    )


def same_table(client: Client, name: str) -> None:
    """An empty table of the shape of `raw.events`, without its views and its end of life."""
    client.command("CREATE DATABASE IF NOT EXISTS bench")
    client.command(f"DROP TABLE IF EXISTS {name} SYNC")
    client.command(f"CREATE TABLE {name} AS raw.events")
    client.command(f"ALTER TABLE {name} REMOVE TTL")
