"""A stateless alert in Spark alone: `python -m spark_jobs.bench.real_time <trigger> <warm s>`.

Kafka to Kafka with a filter in SQL, under `realTime` or `processingTime`, until its input ends.
Real-time mode takes no Python operator (`MapInArrowExec` is not in its list), so it cannot validate
as landing does. Prints a line when it is warm.
"""

from __future__ import annotations

import sys
import tempfile

from herald.settings import Settings, load_settings
from spark_jobs.bench.session import kafka_options, kafka_session, say

TRIGGERS = {
    "realTime": ({"realTime": "5 seconds"}, "update"),
    "processingTime": ({"processingTime": "0 seconds"}, "append"),
}


def run(settings: Settings, trigger: str, warm: float) -> None:
    """Pass canaries on from the events topic to that of the alerts until standard input ends."""
    session = kafka_session(settings)
    when, mode = TRIGGERS[trigger]
    options = {**kafka_options(settings), "startingOffsets": "latest"}
    canaries = (
        session.readStream.format("kafka")
        .options(**options)
        .load()
        .select("key", "value")
        .where('contains(CAST(value AS STRING), \'"source":"canary"\')')
    )
    with tempfile.TemporaryDirectory(prefix="real-time-") as folder:
        query = (
            canaries.writeStream.format("kafka")
            .option("kafka.bootstrap.servers", settings.kafka.servers)
            .option("topic", settings.kafka.topics.alerts)
            .option("checkpointLocation", folder)
            .outputMode(mode)
            .trigger(**when)
            .start()
        )
        query.awaitTermination(warm)  # its first batch loads classes and finds the offsets
        say(started=trigger)
        sys.stdin.read()
        query.stop()
    session.stop()


if __name__ == "__main__":
    run(load_settings(), sys.argv[1], float(sys.argv[2]))
