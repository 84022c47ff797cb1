"""Produces a rehearsed send to Kafka: a week of history, the last minutes, then as time goes on."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from confluent_kafka import KafkaException, Producer

from herald.rehearsal.send import HOUR_MS, Plan, Rehearsal, campaign_records, week_share
from herald.settings import Settings

STEP_MS = 200


class RehearsalError(Exception):
    """The broker does not take the events; the message says where it was looked for."""


@dataclass(frozen=True, slots=True)
class Produced:
    """How many events went out, by part, and the seconds that the live part took."""

    history: int
    past: int
    live: int
    seconds: float

    def record(self) -> dict[str, Any]:
        """As a JSON record."""
        return asdict(self)


class Rehearser:
    """One rehearsal against one broker."""

    def __init__(self, settings: Settings, plan: Plan, *, say: Callable[[str], None]) -> None:
        self._topic = settings.kafka.topics.events
        self._campaigns = settings.kafka.topics.campaigns
        self._servers = settings.kafka.servers
        self._plan = plan
        self._say = say
        self._failed = 0
        self._producer = Producer(
            {
                "bootstrap.servers": self._servers,
                "linger.ms": 20,
                "compression.type": "lz4",
                "queue.buffering.max.messages": 500_000,
                "message.timeout.ms": 30_000,
            }
        )

    def run(
        self,
        *,
        seconds: float,
        past_minutes: float = 0,
        history_days: int = 0,
        history_rate: float = 3.0,
    ) -> Produced:
        """Produce history, the last minutes as fast as possible, then `seconds` of the present.

        history_rate: events a second at the busiest hour of the history.

        Raises:
            RehearsalError: the broker is away or refuses events.
        """
        try:
            self._producer.list_topics(self._topic, timeout=10)
        except KafkaException as error:
            raise RehearsalError(
                f"broker at {self._servers} does not answer ({error}); is it up? `herald status`"
            ) from error
        for key, value in campaign_records(self._plan.tenant, int(time.time() * 1_000)):
            self._producer.produce(self._campaigns, value=value, key=key)
        history = self._history(history_days, history_rate)
        show = Rehearsal(self._plan)
        clock = int(time.time() * 1_000 - past_minutes * 60_000)
        # what is produced as fast as possible takes time too: catch up until nothing is left
        past = 0
        while (now := int(time.time() * 1_000)) - clock > STEP_MS:
            end = min(now, clock + 10_000)
            past += self._send(show, clock, end)
            clock = end
        self._say(f"{past:,} events of the last {past_minutes:g} minutes, now live")
        started, live = time.monotonic(), 0
        while time.monotonic() - started < seconds:
            time.sleep(max(0.0, (clock + STEP_MS) / 1_000 - time.time()))
            now = int(time.time() * 1_000)
            live += self._send(show, clock, now)
            clock = now
        took = time.monotonic() - started
        self._finish()
        return Produced(history, past, live, round(took, 1))

    def _history(self, days: int, rate: float) -> int:
        if not days:
            return 0
        past = Rehearsal(Plan(self._plan.tenant, rate, self._plan.seed + 1))
        hour = int(time.time() * 1_000) // HOUR_MS * HOUR_MS
        sent = sum(
            self._send(past, at, at + HOUR_MS, week_share(at))
            for at in range(hour - days * 24 * HOUR_MS, hour, HOUR_MS)
        )
        self._say(f"{sent:,} events of the last {days} days")
        return sent

    def _send(self, show: Rehearsal, start_ms: int, end_ms: int, share: float = 1.0) -> int:
        count = 0
        for _, value in show.between(start_ms, end_ms, share):
            while True:
                try:
                    self._producer.produce(self._topic, value=value, on_delivery=self._delivered)
                    break
                except BufferError:
                    self._producer.poll(0.1)
            count += 1
        self._producer.poll(0)
        if self._failed:
            self._finish()
        return count

    def _delivered(self, error: object, _message: object) -> None:
        if error is not None:
            self._failed += 1

    def _finish(self) -> None:
        left = self._producer.flush(30)
        if left or self._failed:
            raise RehearsalError(
                f"broker at {self._servers}: {left + self._failed} events were not taken"
            )
