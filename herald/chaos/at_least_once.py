"""The control: a sink as it is often written, at least once. The harness must find its duplicates.

It consumes with a group, inserts without a token, retries what it got no answer to, and commits
its offsets after the insert. Run: `python -m herald.chaos.at_least_once SERVERS TOPIC PORT`.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import sys
import time
from urllib.parse import urlencode

from confluent_kafka import Consumer, KafkaException

TABLE = "chaos.control"
DDL = (
    "CREATE DATABASE IF NOT EXISTS chaos",
    f"CREATE TABLE IF NOT EXISTS {TABLE} (`partition` UInt16, `offset` UInt64, value String) "
    "ENGINE = MergeTree ORDER BY (`partition`, `offset`)",
)
GROUP = "chaos-control"
BATCH = 500


def land(servers: str, topic: str, port: int, user: str, password: str) -> None:
    """Land until killed."""
    consumer = Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": GROUP,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "session.timeout.ms": 6_000,
            "log_level": 0,
        }
    )
    consumer.subscribe([topic])
    while True:
        batch = [m for m in consumer.consume(BATCH, timeout=0.2) if m.error() is None]
        if not batch:
            continue
        rows = [
            {"partition": m.partition(), "offset": m.offset(), "value": m.value().decode()}
            for m in batch
        ]
        body = "\n".join(map(json.dumps, rows)).encode()
        while not _insert(port, user, password, body):
            time.sleep(0.2)
        try:
            consumer.commit(asynchronous=False)
        except KafkaException:
            continue  # the group moved on; somebody lands it again


def _insert(port: int, user: str, password: str, body: bytes) -> bool:
    token = base64.b64encode(f"{user}:{password}".encode()).decode()
    query = urlencode({"query": f"INSERT INTO {TABLE} FORMAT JSONEachRow"})
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("POST", f"/?{query}", body, {"Authorization": f"Basic {token}"})
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    land(
        sys.argv[1],
        sys.argv[2],
        int(sys.argv[3]),
        os.environ["HERALD_WAREHOUSE__USER"],
        os.environ["HERALD_WAREHOUSE__PASSWORD"],
    )
