"""The broker as the intake sees it: acknowledged records, where partitions end, how far behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from herald.intake.errors import BrokerAwayError

HEADER_BATCH = "herald-intake"
"""Token of the claim that a record was sent under."""

CACHE_SECONDS = 1.0
ANSWER_SECONDS = 5.0

Ends = Mapping[int, tuple[int, int]]
"""First and next offset by partition."""


@dataclass(frozen=True, slots=True)
class Sendable:
    """One record: Kafka key ('' for none) and the event as it was received."""

    key: str
    value: bytes


class Cached:
    """A value that is asked for at most once a second, errors too. Thread-safe."""

    def __init__(self, ask: Callable[[], Any], seconds: float = CACHE_SECONDS) -> None:
        self._ask = ask
        self._seconds = seconds
        self._lock = threading.Lock()
        self._until = 0.0
        self._value: Any = None
        self._error: BrokerAwayError | None = None

    def get(self) -> Any:
        """The value, at most `seconds` old, or the error that asking raised."""
        with self._lock:
            if time.monotonic() >= self._until:
                try:
                    self._value, self._error = self._ask(), None
                except BrokerAwayError as error:
                    self._error = error
                self._until = time.monotonic() + self._seconds
            if self._error is not None:
                raise self._error
            return self._value


class EventTopic:
    """Producer and offsets of the events topic. Thread-safe; close it."""

    def __init__(self, servers: str, topic: str, *, deliver_seconds: float) -> None:
        self.servers = servers
        self.topic = topic
        self._deliver_seconds = deliver_seconds
        self._producer = Producer(
            {
                "bootstrap.servers": servers,
                "acks": "all",
                "enable.idempotence": True,
                "compression.type": "lz4",
                "linger.ms": 5,
                "message.max.bytes": 8 * 1024**2,
                "delivery.timeout.ms": int(deliver_seconds * 1_000),
                "allow.auto.create.topics": False,
                "partitioner": "murmur2_random",
                "log_level": 2,
            }
        )
        self._consumer = Consumer(
            {"bootstrap.servers": servers, "group.id": "herald-intake", "log_level": 2}
        )
        self._ends = Cached(self._read_ends)
        self._closing = threading.Event()
        self._poller = threading.Thread(target=self._poll, name="intake-poll", daemon=True)
        self._poller.start()

    def ends(self) -> Ends:
        """Where each partition begins and ends, at most a second old. Raises BrokerAwayError."""
        found: Ends = self._ends.get()
        return found

    def send(self, records: Sequence[Sendable], token: str) -> list[str | None]:
        """Send and wait for the broker's acknowledgement of each.

        Returns:
            None for each that the broker has, else why it is not known to have it.
        """
        outcome: list[str | None] = ["no acknowledgement in time"] * len(records)
        waiting = threading.Semaphore(0)
        headers = [(HEADER_BATCH, token.encode())]
        deadline = time.monotonic() + self._deliver_seconds + ANSWER_SECONDS
        queued = 0
        for position, record in enumerate(records):
            note = _Note(outcome, position, waiting)
            error = self._produce(record, headers, note, deadline)
            if error is None:
                queued += 1
            else:
                outcome[position] = error
        for _ in range(queued):
            if not waiting.acquire(timeout=max(deadline - time.monotonic(), 0.001)):
                break
        return outcome

    def close(self) -> None:
        """Wait for what is under way, then leave the broker."""
        self._producer.flush(self._deliver_seconds)
        self._closing.set()
        self._poller.join(ANSWER_SECONDS)
        self._consumer.close()

    def _produce(
        self, record: Sendable, headers: list[tuple[str, bytes]], note: _Note, deadline: float
    ) -> str | None:
        while True:
            try:
                self._producer.produce(
                    self.topic,
                    key=record.key or None,
                    value=record.value,
                    headers=headers,
                    on_delivery=note,
                )
            except BufferError:
                if time.monotonic() > deadline:
                    return "the queue to the broker stayed full"
                time.sleep(0.005)
            except KafkaException as error:
                return str(error.args[0].str())
            else:
                return None

    def _poll(self) -> None:
        while not self._closing.is_set():
            self._producer.poll(0.1)

    def _read_ends(self) -> Ends:
        try:
            known = self._consumer.list_topics(self.topic, timeout=ANSWER_SECONDS).topics
            found = known.get(self.topic)
            if found is None or found.error is not None or not found.partitions:
                raise BrokerAwayError(
                    f"topic {self.topic} is not on {self.servers}; `herald up` makes it"
                )
            ends: dict[int, tuple[int, int]] = {}
            for partition in found.partitions:
                offsets = self._consumer.get_watermark_offsets(
                    TopicPartition(self.topic, partition), timeout=ANSWER_SECONDS
                )
                if offsets is None:
                    raise BrokerAwayError(f"{self.topic}/{partition}: no answer where it ends")
                ends[partition] = (int(offsets[0]), int(offsets[1]))
        except KafkaException as error:
            raise BrokerAwayError(
                f"broker at {self.servers} does not answer: {error.args[0].str()}; nothing was "
                "taken, send the batch again"
            ) from error
        return ends


class _Note:
    """Writes the broker's answer to one record where the waiting request reads it."""

    __slots__ = ("_outcome", "_position", "_waiting")

    def __init__(
        self, outcome: list[str | None], position: int, waiting: threading.Semaphore
    ) -> None:
        self._outcome = outcome
        self._position = position
        self._waiting = waiting

    def __call__(self, error: Any, _message: object) -> None:
        self._outcome[self._position] = None if error is None else str(error.str())
        self._waiting.release()
