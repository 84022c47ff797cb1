"""Dead letters on their topic: the raw value, with its origin and reason in headers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from confluent_kafka import KafkaException, Producer

from herald.contract.events import CONTRACT_VERSION
from spark_jobs.sources.ranges import OffsetRange

HEADER_RANGE = "herald-range"
HEADER_ORIGIN = "herald-origin"
FLUSH_SECONDS = 60.0


class DeadLetterTopicError(Exception):
    """The broker did not take the dead letters."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A refused record: where it stood, its bytes, and why."""

    offset: int
    key: bytes
    value: bytes
    produced_at_ms: int
    error_class: str
    field: str
    message: str


class DeadLetterTopic:
    """At least once: a replay of a range sends its letters again, under the same range header."""

    def __init__(self, servers: str, topic: str) -> None:
        self._topic = topic
        self._producer = Producer(
            {
                "bootstrap.servers": servers,
                "compression.type": "lz4",
                "linger.ms": 5,
                "message.max.bytes": 8 * 1024**2,
                "log_level": 3,
            },
            logger=None,
        )
        self._failed: list[str] = []

    def send(self, part: OffsetRange, letters: Sequence[DeadLetter]) -> None:
        """Send and wait. Raises DeadLetterTopicError if one was not taken."""
        self._failed.clear()
        for letter in letters:
            headers = [
                (HEADER_RANGE, part.token.encode()),
                (HEADER_ORIGIN, f"{part.topic}/{part.partition}/{letter.offset}".encode()),
                ("herald-error-class", letter.error_class.encode()),
                ("herald-error-field", letter.field.encode()),
                ("herald-error-message", letter.message.encode()),
                ("herald-contract-version", CONTRACT_VERSION.encode()),
            ]
            self._produce(letter, headers)
        if self._producer.flush(FLUSH_SECONDS) or self._failed:
            raise DeadLetterTopicError(
                f"{part.token}: topic {self._topic} did not take {len(letters)} dead letters in "
                f"{FLUSH_SECONDS:.0f} s: {', '.join(sorted(set(self._failed))) or 'no answer'}"
            )

    def _produce(self, letter: DeadLetter, headers: list[tuple[str, bytes]]) -> None:
        while True:
            try:
                self._producer.produce(
                    self._topic,
                    key=letter.key,
                    value=letter.value,
                    headers=headers,
                    on_delivery=self._delivered,
                )
            except BufferError:
                self._producer.poll(0.1)
            except KafkaException as error:
                raise DeadLetterTopicError(f"{self._topic}: {error.args[0].str()}") from error
            else:
                return

    def _delivered(self, error: object, _message: object) -> None:
        if error is not None:
            self._failed.append(str(error))
