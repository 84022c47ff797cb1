"""Whether landing would take a value now, by the topic it goes to."""

from __future__ import annotations

import time
from collections.abc import Mapping

from herald.contract.errors import ErrorClass
from herald.contract.judging import Limits, RejectedError, judge_event, judge_reference
from herald.contract.references import REFERENCES, Reference
from herald.settings import Settings


class TopicJudge:
    """Judges values of every topic that is landed."""

    def __init__(self, settings: Settings) -> None:
        topics = settings.kafka.topics
        self._limits = Limits.of(settings.landing)
        self._events = topics.events
        self._models: Mapping[str, type[Reference]] = {
            getattr(topics, model.table): model for model in REFERENCES
        }

    def problem(self, topic: str, value: bytes) -> RejectedError | None:
        """Why landing would refuse it, or None."""
        now_ms = time.time_ns() // 1_000_000
        try:
            if topic == self._events:
                judge_event(value, now_ms, self._limits)
            elif topic in self._models:
                judge_reference(value, self._models[topic], now_ms, self._limits)
            else:
                return RejectedError(
                    ErrorClass.INVALID_VALUE, "", f"topic {topic} is not one that is landed"
                )
        except RejectedError as error:
            return error
        return None
