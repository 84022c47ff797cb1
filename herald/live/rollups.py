"""The rollup tables of migration 0007: which there are, and what each column counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from herald.contract.vocabulary import Action

GrainName = Literal["second", "minute", "hour"]

DIMENSIONS = (
    *("tenant_id", "campaign_id", "variant_id", "channel"),
    *("country", "platform", "provider", "audience"),
)
"""Columns beside `bucket_at` that make a row's key."""

COUNTS: Mapping[str, Action] = MappingProxyType(
    {
        "targeted": Action.TARGETED,
        "attempted": Action.ATTEMPTED,
        "sent": Action.SENT,
        "delivered": Action.DELIVERED,
        "deferred": Action.DEFERRED,
        "bounced": Action.BOUNCED,
        "soft_bounced": Action.SOFT_BOUNCED,
        "failed": Action.FAILED,
        "aborted": Action.ABORTED,
        "opened": Action.OPENED,
        "clicked": Action.CLICKED,
        "impressed": Action.IMPRESSED,
        "converted": Action.CONVERTED,
        "unsubscribed": Action.UNSUBSCRIBED,
        "complained": Action.MARKED_AS_SPAM,
    }
)
"""Count columns, and the action that each counts."""

MONEY = ("revenue", "cost")

UNIQUES: Mapping[str, tuple[str, tuple[Action, ...]]] = MappingProxyType(
    {
        "unique_recipients": ("user_id", (Action.SENT, Action.IMPRESSED)),
        "unique_opens": ("message_id", (Action.OPENED,)),
        "unique_clicks": ("message_id", (Action.CLICKED,)),
    }
)
"""States of uniqCombined64(14): which distinct values, of events with which actions."""

UNIQUE_PRECISION = 14
UNIQUE_ERROR = 0.0081
"""Standard error of a unique count: 1.04 / sqrt(2^14). Sets of some thousands are exact."""


@dataclass(frozen=True, slots=True)
class Grain:
    """One rollup table.

    Attributes:
        table: database and name.
        seconds: length of a bucket.
        start: SQL of the bucket's start, of `occurred_at`.
        late_seconds: events that landed later than this after they occurred are not in it; None
            takes every event.
        kept_seconds: how long buckets stay, from their start; None: as long as raw.events.
        has_uniques: whether it holds the states of UNIQUES.
    """

    name: GrainName
    table: str
    seconds: int
    start: str
    late_seconds: int | None
    kept_seconds: int | None
    has_uniques: bool


DAY = 86_400

GRAINS: Mapping[GrainName, Grain] = MappingProxyType(
    {
        "second": Grain(
            "second",
            "live.events_second",
            1,
            "toDateTime(toStartOfSecond(occurred_at), 'UTC')",
            2 * 3_600,
            DAY,
            has_uniques=False,
        ),
        "minute": Grain(
            "minute",
            "live.events_minute",
            60,
            "toStartOfMinute(occurred_at)",
            2 * DAY,
            35 * DAY,
            has_uniques=True,
        ),
        "hour": Grain(
            "hour",
            "live.events_hour",
            3_600,
            "toStartOfHour(occurred_at)",
            None,
            None,
            has_uniques=True,
        ),
    }
)
"""Every rollup, finest first."""
