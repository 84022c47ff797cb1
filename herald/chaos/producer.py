"""Produces events without a pause and remembers where the broker put each: the ledger of truth."""

from __future__ import annotations

import json
import random
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from confluent_kafka import KafkaError, KafkaException, Message, Producer

TICK_SECONDS = 0.05
TENANT = "chaos"

_ACTIONS = (
    "targeted", "attempted", "sent", "sent", "sent", "delivered", "delivered", "opened", "opened",
    "clicked", "converted", "bounced", "deferred", "failed", "marked_as_spam", "unsubscribed",
)  # fmt: skip
_CHANNELS = ("push", "email", "sms", "in_app")
_AGES = (
    # (share in 1000, age in seconds): most events are of now; some lie where a table's memory ends
    (700, 0.0),
    (100, 90.0),
    (60, 3_600.0),
    (50, 2 * 3_600.0),
    (40, 26 * 3_600.0),
    (50, 2 * 86_400.0),
)


def event(seed: int, number: int, at: datetime) -> bytes:
    """Event `number` of a run: a function of seed, number and time; one in 100 breaks the contract.

    Its `message_id` is `m<number>`, whatever else is broken, so that a row tells where it is from.
    """
    rng = random.Random(seed * 1_000_003 + number)
    channel = rng.choice(_CHANNELS)
    action = rng.choice(_ACTIONS)
    age = _age(rng)
    record: dict[str, object] = {
        "event_id": f"0192d3a4-5b6c-7d8e-{seed % 0x1000 | 0x8000:04x}-{number:012x}",
        "message_id": f"m{number}",
        "tenant_id": TENANT,
        "event_type": f"{channel}.{action}",
        "occurred_at": (at - timedelta(seconds=age)).isoformat(timespec="milliseconds"),
        "user_id": f"u{rng.randrange(5_000)}",
        "campaign_id": f"c{rng.randrange(7)}",
        "variant_id": rng.choice(["", "a", "b"]),
        "country": rng.choice(["DE", "FR", "US", ""]),
        "platform": rng.choice(["ios", "android", "web"]),
        "provider": rng.choice(["apns", "ses", "twilio"]),
    }
    if action == "converted":
        record |= {"revenue": rng.randrange(100_000) / 100, "currency": "EUR"}
    if action == "sent":
        record["cost"] = rng.randrange(1_000) / 10_000
    if action == "opened" and rng.random() < 0.3:
        record["machine_open"] = True
    if action == "bounced":
        record["failure_class"] = rng.choice(["hard", "soft"])
    if rng.random() < 0.01:
        record["event_type"] = rng.choice(["pigeon.released", 7])
    return json.dumps(record, separators=(",", ":")).encode()


def _age(rng: random.Random) -> float:
    draw = rng.randrange(1_000)
    for share, age in _AGES:
        if draw < share:
            # a second around each edge, so that a row is judged on either side of it
            return max(0.0, age + rng.uniform(-1.5, 1.5))
        draw -= share
    return 0.0


class EventProducer:
    """A thread that produces `rate` events/s until closed. `paused` holds it.

    `delivered[partition][offset]` is the number of the event that the broker acknowledged there.
    A broker that is away is waited for; nothing acknowledged is ever sent again (idempotent).
    """

    def __init__(self, servers: str, topic: str, *, rate: int, seed: int, partitions: int) -> None:
        self.rate = rate
        self.partitions = partitions
        self.delivered: dict[int, dict[int, int]] = defaultdict(dict)
        self.failures: list[str] = []
        self.numbers = 0
        self._topic, self._seed = topic, seed
        self._running, self._closing = threading.Event(), threading.Event()
        self._idle = threading.Event()
        self._acknowledged = 0
        self._producer = Producer(
            {
                "bootstrap.servers": servers,
                "enable.idempotence": True,
                "linger.ms": 10,
                "compression.type": "lz4",
                "message.timeout.ms": 600_000,
                "reconnect.backoff.max.ms": 500,
                "topic.metadata.refresh.interval.ms": 2_000,
                "log_level": 0,
            }
        )
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> EventProducer:
        self._running.set()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._running.set()
        self._thread.join(30)

    @property
    def acknowledged(self) -> int:
        """Events that the broker has taken."""
        return self._acknowledged

    def pause(self, timeout_seconds: float = 120.0) -> None:
        """Stop producing and wait until the broker has acknowledged everything.

        Raises:
            TimeoutError: it did not.
        """
        self._running.clear()
        self._idle.wait(10)
        deadline = time.monotonic() + timeout_seconds
        while self._acknowledged + len(self.failures) < self.numbers:
            if time.monotonic() > deadline:
                missing = self.numbers - self._acknowledged
                raise TimeoutError(f"the broker has not acknowledged {missing} events")
            time.sleep(0.02)

    def resume(self) -> None:
        """Produce again."""
        self._running.set()

    def _run(self) -> None:
        due = time.monotonic()
        while not self._closing.is_set():
            if not self._running.is_set():
                self._idle.set()
                self._producer.poll(0.02)
                due = time.monotonic()
                continue
            self._idle.clear()
            self._tick(int(self.rate * TICK_SECONDS))
            due = max(due + TICK_SECONDS, time.monotonic() - 1.0)
            self._producer.poll(max(0.0, due - time.monotonic()))
            time.sleep(max(0.0, due - time.monotonic()))
        self._producer.flush(5)

    def _tick(self, count: int) -> None:
        at = datetime.now(UTC)
        for number in range(self.numbers, self.numbers + count):
            value = event(self._seed, number, at)
            partition = number % self.partitions
            while True:
                try:
                    self._producer.produce(
                        self._topic, value, partition=partition, on_delivery=self._note(number)
                    )
                    break
                except BufferError:
                    self._producer.poll(0.05)
                except KafkaException as error:
                    # a partition that was just added: the client learns of it within seconds
                    if error.args[0].code() != KafkaError._UNKNOWN_PARTITION:
                        raise
                    self._producer.poll(0.1)
            self.numbers += 1

    def _note(self, number: int) -> Callable[[KafkaError | None, Message], None]:
        def delivered(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                self.failures.append(error.str())
                return
            self.delivered[message.partition() or 0][message.offset() or 0] = number
            self._acknowledged += 1

        return delivered
