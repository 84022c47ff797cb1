"""The landing that everybody writes first: Kafka source, `from_json`, JSONEachRow.

`python -m spark_jobs.bench.from_json <events> <table>` lands from the start of the topic and prints
a JSON line a batch. No validation, no dead letters, at least once.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator

import pyarrow as pa
from pyspark.sql import DataFrame

from herald.settings import Settings, load_settings
from spark_jobs.bench.session import as_json, insert_lines, kafka_options, kafka_session, say
from spark_jobs.sinks.clickhouse import Address

OFFSETS_A_TRIGGER = 600_000


def run(settings: Settings, events: int, table: str) -> None:
    """Land at least so many events into a table of the shape of `raw.events`."""
    session = kafka_session(settings)
    address = Address.of(settings.warehouse)
    landed = 0

    def post(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            insert_lines(address, table, batch.column(0).to_pylist())
            yield pa.RecordBatch.from_pydict({"rows": [batch.num_rows]})

    def land(frame: DataFrame, _batch_id: int) -> None:
        nonlocal landed
        rows = as_json(frame).mapInArrow(post, "rows BIGINT").collect()
        landed += sum(row["rows"] for row in rows)
        say(landed=landed, at=time.time())

    source = session.readStream.format("kafka").options(**kafka_options(settings))
    # a small first batch is over when workers, classes and connections are there
    share = min(OFFSETS_A_TRIGGER, max(1_000, events // 4))
    with tempfile.TemporaryDirectory(prefix="from-json-") as folder:
        query = (
            source.option("maxOffsetsPerTrigger", share)
            .load()
            .writeStream.foreachBatch(land)
            .option("checkpointLocation", folder)
            .start()
        )
        while landed < events and not query.awaitTermination(0.1):
            pass
        query.stop()
    session.stop()


if __name__ == "__main__":
    run(load_settings(), int(sys.argv[1]), sys.argv[2])
