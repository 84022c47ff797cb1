"""Looks on a topic for what an interrupted sender may have left there."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from herald.intake.errors import BrokerAwayError

CHUNK = 20_000


def find(
    servers: str,
    topic: str,
    starts: Mapping[int, int],
    name: Callable[[Message], str | None],
    *,
    seconds: float = 30.0,
) -> dict[str, tuple[int, int]]:
    """Name to (partition, offset) of the records that `name` knows, from the given offsets on.

    Reads to where each partition ends when it is asked; `name` gives None for a record that is
    not looked for. Of several with one name, the first counts.

    Raises:
        BrokerAwayError: no answer, or not read to the end within the time.
    """
    deadline = time.monotonic() + seconds
    consumer = Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": "herald-scan",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "enable.partition.eof": True,
            "log_level": 2,
        }
    )
    try:
        ends = {p: _end(consumer, topic, p) for p in starts}
        left = {p for p, end in ends.items() if starts[p] < end}
        consumer.assign([TopicPartition(topic, p, starts[p]) for p in left])
        found: dict[str, tuple[int, int]] = {}
        while left:
            if time.monotonic() > deadline:
                raise BrokerAwayError(f"{topic} could not be searched in {seconds:.0f} s")
            for message in consumer.consume(CHUNK, timeout=0.2):
                partition, offset = int(message.partition()), int(message.offset())
                if (error := message.error()) is not None:
                    if error.code() == KafkaError._PARTITION_EOF:
                        left.discard(partition)
                    continue
                if (known := name(message)) is not None:
                    found.setdefault(known, (partition, offset))
                if offset + 1 >= ends[partition]:
                    left.discard(partition)
    except KafkaException as error:
        raise BrokerAwayError(f"{topic} at {servers}: {error.args[0].str()}") from error
    else:
        return found
    finally:
        with suppress(KafkaException):
            consumer.close()


def header(message: Message, wanted: str) -> bytes | None:
    """The first header of that name, or None."""
    for name, value in message.headers() or ():
        if name == wanted and isinstance(value, bytes):
            return value
    return None


def _end(consumer: Consumer, topic: str, partition: int) -> int:
    found = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=5)
    if found is None:
        raise BrokerAwayError(f"{topic}/{partition}: the broker did not say where it ends")
    return int(found[1])
