"""Bulk production to Kafka. A record counts as produced when the broker acknowledged it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from confluent_kafka import Consumer as OffsetReader
from confluent_kafka import KafkaError, KafkaException, Message, Producer, TopicPartition

from herald.sources.errors import BrokerDownError, SourceError

CONNECT_SECONDS = 10.0
DELIVERY_MS = 120_000
MAX_RECORD_BYTES = 8 * 1024 * 1024
"""What the client lets through; the broker and the contract have limits of their own."""
CHUNK = 2_000

Record = tuple[str | bytes | None, bytes | None]
"""Key and value."""


class BulkProducer:
    """Writes records and counts acknowledgements per topic. Use as a context manager.

    Idempotent, all replicas, lz4. Leaving the context flushes and fails if anything was lost.
    """

    def __init__(self, servers: str, *, queue_records: int = 400_000) -> None:
        self.servers = servers
        self.sent: Counter[str] = Counter()
        self.acknowledged: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self._why: str = ""
        self._producer = Producer(
            {
                "bootstrap.servers": servers,
                "enable.idempotence": True,
                "acks": "all",
                "compression.type": "lz4",
                "linger.ms": 20,
                "batch.size": 1_048_576,
                "queue.buffering.max.messages": queue_records,
                "queue.buffering.max.kbytes": 524_288,
                "message.max.bytes": MAX_RECORD_BYTES,
                "delivery.timeout.ms": DELIVERY_MS,
                "partitioner": "murmur2_random",
                "logger": _silent(),
            }
        )

    def __enter__(self) -> BulkProducer:
        self.require_broker()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.flush()
        else:
            self._producer.purge()

    def require_broker(self, topics: Sequence[str] = ()) -> None:
        """Raise BrokerDownError when no broker answers within ten seconds."""
        try:
            known = self._producer.list_topics(timeout=CONNECT_SECONDS).topics
        except KafkaException as error:
            raise BrokerDownError(
                f"no Kafka broker answers at {self.servers} "
                f"(HERALD_KAFKA__HOST, HERALD_KAFKA__PORT or HERALD_KAFKA__BOOTSTRAP_SERVERS): "
                f"{error.args[0].str()}; start it with `make up`"
            ) from None
        missing = [t for t in topics if t not in known]
        if missing:
            raise SourceError(
                f"topics do not exist at {self.servers}: {', '.join(missing)}; "
                "`make up` creates those of infra/kafka/topics.yaml"
            )

    def send(self, topic: str, records: Sequence[Record]) -> None:
        """Queue records; blocks while the queue is full."""
        for start in range(0, len(records), CHUNK):
            part: list[dict[str, Any]] = [
                {"key": key, "value": value} for key, value in records[start : start + CHUNK]
            ]
            while part:
                part = self._queue(topic, part)
            self._producer.poll(0)

    def flush(self) -> None:
        """Wait for every acknowledgement; raise SourceError if a record was not delivered."""
        deadline = time.monotonic() + DELIVERY_MS / 1000 + 10
        while self._producer.flush(1.0) and time.monotonic() < deadline:
            pass
        lost = sum(self.sent.values()) - sum(self.acknowledged.values())
        if lost:
            raise SourceError(
                f"{lost} of {sum(self.sent.values())} records were not delivered to "
                f"{self.servers}: {self._why or 'no answer in time'}; "
                "what was acknowledged stays: produce the rest again"
            )

    def end_offsets(self, topics: Iterable[str]) -> dict[str, int]:
        """Sum over partitions of the end offsets of each topic."""
        reader = OffsetReader(
            {"bootstrap.servers": self.servers, "group.id": "herald-offsets", "logger": _silent()}
        )
        try:
            found = {}
            for topic in topics:
                known = reader.list_topics(topic, timeout=CONNECT_SECONDS).topics[topic]
                found[topic] = sum(
                    reader.get_watermark_offsets(TopicPartition(topic, p), timeout=CONNECT_SECONDS)[
                        1
                    ]
                    for p in known.partitions
                )
        except KafkaException as error:
            raise BrokerDownError(
                f"end offsets of {self.servers} cannot be read: {error.args[0].str()}"
            ) from None
        else:
            return found
        finally:
            reader.close()

    def _queue(self, topic: str, part: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Queue what fits and return the rest."""
        queued = self._producer.produce_batch(topic, part, on_delivery=self._report)
        self.sent[topic] += queued
        if queued == len(part):
            return []
        rest = [m for m in part if "_error" in m]
        for message in rest:
            error: KafkaError = message.pop("_error")
            if error.code() != KafkaError._QUEUE_FULL:
                raise SourceError(f"record for {topic} refused by the client: {error.str()}")
        self._producer.poll(0.05)
        return rest

    def _report(self, error: KafkaError | None, message: Message) -> None:
        topic = message.topic() or ""
        if error is None:
            self.acknowledged[topic] += 1
        else:
            self.failed[topic] += 1
            self._why = error.str()


def _silent() -> Any:
    """A logger that drops the client's chatter; failures reach us as exceptions."""
    import logging

    logger = logging.getLogger("herald.sources.kafka")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    return logger
