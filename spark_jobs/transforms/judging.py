"""The exact path lives with the contract; landing, the HTTP intake and replays judge alike."""

from __future__ import annotations

from herald.contract.judging import (
    RESERVED,
    SHOWN_CHARS,
    Limits,
    RejectedError,
    judge_event,
    judge_reference,
    to_ms,
)

__all__ = [
    "RESERVED",
    "SHOWN_CHARS",
    "Limits",
    "RejectedError",
    "judge_event",
    "judge_reference",
    "to_ms",
]
