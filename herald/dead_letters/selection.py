"""Which dead letters: a filter, the same for browsing and for replays."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from herald.contract.errors import ErrorClass
from herald.dead_letters.errors import DeadLetterError

_UNITS = {"m": "minutes", "h": "hours", "d": "days"}
_DURATION = re.compile(r"^(\d+)([mhd])$")
_ID = re.compile(r"^([A-Za-z0-9._-]{1,249}):(\d{1,5}):(\d{1,19})$")

TENANT = (
    "if(isValidJSON(value), JSONExtractString(value, 'tenant_id'), "
    """extract(value, '"tenant_id"\\\\s*:\\\\s*"([^"\\\\\\\\]*)"'))"""
)
"""The tenant that a value names, also where the rest of it is no JSON; '' for none."""

REPLAYED = (
    "(topic, `partition`, offset) IN "
    "(SELECT topic, `partition`, offset FROM raw.dead_letter_replays)"
)
"""Whether a letter was sent again."""


@dataclass(frozen=True, slots=True)
class LetterId:
    """Where a letter stood on the topic it came from; written `topic:partition:offset`."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}:{self.partition}:{self.offset}"

    @classmethod
    def parse(cls, text: str) -> LetterId:
        """Inverse of `str`. Raises DeadLetterError if it is none."""
        match = _ID.match(text)
        if match is None:
            raise DeadLetterError(
                f"id {text[:80]!r}: an id is topic:partition:offset, such as "
                "notifications.events.v1:3:1042"
            )
        return cls(match[1], int(match[2]), int(match[3]))


@dataclass(frozen=True, slots=True)
class Selection:
    """Which dead letters. Empty and None select all.

    error_class: one of `ErrorClass`. field: name of the field that was refused.
    topic: topic they came from. tenant: tenant that the value names.
    since, until: landed at or after, before; UTC. ids: only these.
    """

    error_class: str = ""
    field: str = ""
    topic: str = ""
    since: datetime | None = None
    until: datetime | None = None
    tenant: str = ""
    ids: tuple[LetterId, ...] = ()

    def __post_init__(self) -> None:
        known = [str(c) for c in ErrorClass]
        if self.error_class and self.error_class not in known:
            raise DeadLetterError(
                f"class {self.error_class!r}: no such class; one of {', '.join(known)}"
            )

    def where(self) -> tuple[str, dict[str, Any]]:
        """Condition and its parameters."""
        conditions = ["1"]
        parameters: dict[str, Any] = {}
        for column, value in (
            ("error_class", self.error_class),
            ("error_field", self.field),
            ("topic", self.topic),
        ):
            if value:
                conditions.append(f"{column} = {{{column}:String}}")
                parameters[column] = value
        for name, sign, time in (("since", ">=", self.since), ("until", "<", self.until)):
            if time is not None:
                conditions.append(f"landed_at {sign} {{{name}:DateTime64(3, 'UTC')}}")
                parameters[name] = time
        if self.tenant:
            conditions.append(f"{TENANT} = {{tenant:String}}")
            parameters["tenant"] = self.tenant
        if self.ids:
            conditions.append(
                "concat(topic, ':', toString(`partition`), ':', toString(offset)) "
                "IN {ids:Array(String)}"
            )
            parameters["ids"] = [str(one) for one in self.ids]
        return " AND ".join(conditions), parameters


def parse_time(text: str, now: datetime | None = None, *, option: str) -> datetime | None:
    """`90m`, `2h`, `7d` before now, or an ISO time (UTC where it names no zone); '' is None.

    Raises:
        DeadLetterError: neither; the message names the option.
    """
    if not text:
        return None
    if match := _DURATION.match(text):
        return (now or datetime.now(UTC)) - timedelta(**{_UNITS[match[2]]: int(match[1])})
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise DeadLetterError(
            f"{option} {text!r}: neither a duration (90m, 2h, 7d) nor an ISO time "
            "(2026-11-01T12:00:00)"
        ) from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)
