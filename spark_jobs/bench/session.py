"""A session with Spark's Kafka source, and what the comparison jobs share."""

from __future__ import annotations

import http.client
import json
import os
import sys
from typing import Any
from urllib.parse import urlencode

from pyspark.sql import DataFrame, SparkSession

from herald.settings import ROOT, Settings
from spark_jobs.jobs.land_events import build_session
from spark_jobs.sinks.clickhouse import Address
from spark_jobs.transforms.columns import PRODUCED

JARS = ROOT / "var" / "jars" / "spark"

BLOCK = 100_000
"""Rows of an Arrow batch and of an insert, as many as in a range of ours."""

_SPARK_TYPES = {
    "bool": "BOOLEAN",
    "uint8": "INT",
    "decimal": "DOUBLE",
    "list<string>": "ARRAY<STRING>",
}
SCHEMA = ", ".join(
    f"`{name}` {_SPARK_TYPES.get(field.column.arrow, 'STRING')}" for name, field in PRODUCED.items()
)
"""Every field that is produced, for `from_json`; times stay text, the warehouse reads them."""


def kafka_session(settings: Settings) -> SparkSession:
    """The landing job's session with the jars of Spark's Kafka source.

    Raises:
        FileNotFoundError: the jars are not installed.
    """
    jars = sorted(map(str, JARS.glob("*.jar")))
    if not jars:
        raise FileNotFoundError(f"{JARS} is empty: `make setup` fetches Spark's Kafka source")
    # jars are read when the JVM starts
    os.environ["PYSPARK_SUBMIT_ARGS"] = f"--jars {','.join(jars)} pyspark-shell"
    session = build_session(settings)
    session.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", str(BLOCK))
    session.conf.set("spark.sql.execution.arrow.maxBytesPerBatch", str(1 << 30))
    return session


def kafka_options(settings: Settings) -> dict[str, str]:
    """Options of Spark's Kafka source for the whole events topic."""
    return {
        "kafka.bootstrap.servers": settings.kafka.servers,
        "subscribe": settings.kafka.topics.events,
        "startingOffsets": "earliest",
        "failOnDataLoss": "true",
        # as much at once as our own reader asks for
        "kafka.max.partition.fetch.bytes": str(16 * 1024**2),
        "kafka.fetch.max.bytes": str(16 * 1024**2),
        "kafka.max.poll.records": "20000",
    }


def as_json(frame: DataFrame) -> DataFrame:
    """Kafka's values through `from_json` with every field, and out again as JSON lines."""
    parsed = frame.selectExpr(f"from_json(CAST(value AS STRING), '{SCHEMA}') AS event")
    return parsed.selectExpr("to_json(event) AS line")


def insert_lines(address: Address, table: str, lines: list[str | None]) -> None:
    """Insert JSON lines; what was no JSON (null, {}) or the warehouse cannot read is skipped."""
    settings = {
        "query": f"INSERT INTO {table} FORMAT JSONEachRow",
        "async_insert": 0,
        "date_time_input_format": "best_effort",
        "input_format_allow_errors_ratio": 1,
        "input_format_allow_errors_num": 1_000_000,
    }
    connection = http.client.HTTPConnection(address.host, address.port, timeout=300)
    try:
        body = "\n".join(line for line in lines if line and len(line) > 2).encode()
        connection.request("POST", f"/?{urlencode(settings)}", body, address.headers())
        answer = connection.getresponse()
        text = answer.read().decode(errors="replace")
        if answer.status != http.client.OK:
            raise OSError(f"{table}: {answer.status} {text[:300]}")
    finally:
        connection.close()


def say(**facts: Any) -> None:
    """One JSON line for the measuring process."""
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()
