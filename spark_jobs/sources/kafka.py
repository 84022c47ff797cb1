"""Reads exactly one offset range of a partition, and asks the broker where partitions end."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message
from confluent_kafka import TopicPartition as KafkaPartition

from spark_jobs.sources.ranges import OffsetRange, Slot

CHUNK = 20_000
STALL_SECONDS = 60.0


class BrokerError(Exception):
    """The broker does not give what was asked for; the message says what and where."""


class NoAnswerError(BrokerError):
    """The broker did not answer in time."""


@dataclass(frozen=True, slots=True)
class Records:
    """Records of one range, in order of offset: gaps are possible on a compacted topic."""

    values: list[bytes]
    offsets: list[int]
    messages: list[Message]
    """The same, with key and time, for the few that are dead-lettered."""


class RangeConsumer:
    """One connection, kept from range to range. Not for several threads."""

    def __init__(self, servers: str) -> None:
        self._servers = servers
        self._consumer = Consumer(
            {
                "bootstrap.servers": servers,
                "group.id": "herald-landing",  # asked for by the library; nothing is committed
                "enable.auto.commit": False,
                "auto.offset.reset": "error",
                "enable.partition.eof": True,
                "fetch.wait.max.ms": 20,
                "fetch.max.bytes": 16 * 1024**2,
                "max.partition.fetch.bytes": 16 * 1024**2,
                "queued.max.messages.kbytes": 65_536,
                # the default pause of a second would stall a full queue
                "fetch.queue.backoff.ms": 2,
                "allow.auto.create.topics": False,
                "log_level": 3,
            },
            logger=None,
        )

    def read(self, part: OffsetRange) -> Records:
        """Every record of the range.

        Raises:
            BrokerError: offsets were deleted already, or the broker stopped answering.
        """
        self._consumer.assign([KafkaPartition(part.topic, part.partition, part.first)])
        try:
            return self._collect(part)
        finally:
            self._consumer.unassign()

    def _collect(self, part: OffsetRange) -> Records:
        messages: list[Message] = []
        deadline = time.monotonic() + STALL_SECONDS
        complete = False
        while not complete:
            missing = len(part) - len(messages)
            got = self._consumer.consume(min(CHUNK, max(missing, 1)), timeout=0.2)
            if got:
                deadline = time.monotonic() + STALL_SECONDS
            elif time.monotonic() > deadline:
                raise BrokerError(
                    f"{part.token}: no record for {STALL_SECONDS:.0f} s from {self._servers}, "
                    f"{missing} missing (is the broker up? `herald status`)"
                )
            if any(map(Message.error, got)):
                got, complete = self._without_errors(got, part)
            messages += got
            complete = complete or (bool(messages) and messages[-1].offset() >= part.last)
        return _records(messages, part)

    def _without_errors(
        self, got: Sequence[Message], part: OffsetRange
    ) -> tuple[list[Message], bool]:
        """The records among the answers, and whether the partition ended at or after the range."""
        ended = False
        for message in got:
            error = message.error()
            if error is None:
                continue
            if error.code() == KafkaError._PARTITION_EOF:
                ended = ended or (message.offset() or 0) > part.last
            elif error.code() in {
                KafkaError._AUTO_OFFSET_RESET,
                KafkaError.OFFSET_OUT_OF_RANGE,
            }:
                raise BrokerError(
                    f"{part.token}: the broker no longer has these offsets ({error.str()}); they "
                    "expired before they were landed, or the topic was made anew"
                )
            elif not error.retriable() and error.fatal():
                raise BrokerError(f"{part.token}: {error.str()}")
        return [m for m in got if m.error() is None], ended

    def close(self) -> None:
        """Leave the broker."""
        self._consumer.close()


def _records(messages: list[Message], part: OffsetRange) -> Records:
    if messages and messages[-1].offset() > part.last:
        messages = [m for m in messages if m.offset() <= part.last]
    values = list(map(Message.value, messages))
    if None in values:
        values = [v or b"" for v in values]
    if messages and len(messages) == messages[-1].offset() - messages[0].offset() + 1:
        first = messages[0].offset()
        return Records(values, list(range(first, first + len(messages))), messages)
    return Records(values, list(map(Message.offset, messages)), messages)


class Watermarks:
    """First and next offset of every partition of some topics."""

    def __init__(self, servers: str, topics: Sequence[str]) -> None:
        self._servers = servers
        self._topics = topics
        self._consumer = Consumer(
            {"bootstrap.servers": servers, "group.id": "herald-landing-plan", "log_level": 3}
        )

    def read(
        self, timeout: float = 10.0, *, tries: int = 2
    ) -> tuple[dict[Slot, int], dict[Slot, int]]:
        """Low and high offsets by partition; seconds and tries before it gives up.

        Raises:
            BrokerError: no answer, or a topic is missing.
        """
        for _ in range(tries - 1):
            try:
                return self._read(timeout)
            except NoAnswerError:
                # a process that was halted wakes up with requests that are overdue at once
                continue
        return self._read(timeout)

    def _read(self, timeout: float) -> tuple[dict[Slot, int], dict[Slot, int]]:
        lows: dict[Slot, int] = {}
        highs: dict[Slot, int] = {}
        try:
            known = self._consumer.list_topics(timeout=timeout).topics
            for topic in self._topics:
                if topic not in known or known[topic].error is not None:
                    raise BrokerError(
                        f"topic {topic} is not on {self._servers}; `herald up` makes it "
                        "(infra/kafka/topics.yaml)"
                    )
                for partition in known[topic].partitions:
                    low, high = self._consumer.get_watermark_offsets(
                        KafkaPartition(topic, partition, OFFSET_BEGINNING), timeout=timeout
                    )
                    lows[Slot(topic, partition)] = low
                    highs[Slot(topic, partition)] = high
        except KafkaException as error:
            raise NoAnswerError(
                f"broker at {self._servers} does not answer: {error.args[0].str()} "
                "(is it up? `herald status`)"
            ) from error
        return lows, highs

    def close(self) -> None:
        """Leave the broker."""
        self._consumer.close()
