"""The contract's judgement of a batch: the fast path of landing, so both refuse alike."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence

from herald.contract.errors import ErrorClass
from herald.contract.judging import Limits, RejectedError, judge_event
from spark_jobs.transforms.events import EventParser


class BatchJudge:
    """Judges batches. Thread-safe: a parser learns columns, so each thread has its own."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._own = threading.local()

    def __call__(self, events: Sequence[bytes]) -> Mapping[int, RejectedError]:
        """Position to reason of each event that landing would refuse now."""
        now_ms = time.time_ns() // 1_000_000
        parser: EventParser | None = getattr(self._own, "parser", None)
        if parser is None:
            parser = self._own.parser = EventParser(self._limits)
        refused: dict[int, RejectedError] = {}
        for one in parser.parse(events, now_ms).rejections:
            refused[one.position] = RejectedError(
                ErrorClass(one.error_class), one.field, one.message
            )
            try:  # again, for value and rule apart; nearly none is refused
                judge_event(events[one.position], now_ms, self._limits)
            except RejectedError as error:
                refused[one.position] = error
        return refused
