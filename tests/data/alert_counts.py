"""Counts by minute for tests of alerts: a quiet world, and ways to break it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import polars as pl

from herald.alerts.rules import COUNTS

MINUTE = 60_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR
NOON = 1_795_521_600_000 // DAY * DAY + 12 * HOUR
"""Noon of some day, Unix ms."""

_SHAPE = {
    "tenant_id": pl.String, "campaign_id": pl.String, "channel": pl.String, "provider": pl.String,
    "at": pl.Int64, **dict.fromkeys(COUNTS, pl.Int64),
}  # fmt: skip


def minutes(start: int, end: int, **fields: Any) -> list[dict[str, Any]]:
    """A row a minute of [start, end): counts given by name, every other one 0."""
    base = {
        "tenant_id": "acme", "campaign_id": "c1", "channel": "email", "provider": "ses",
        **dict.fromkeys(COUNTS, 0),
    }  # fmt: skip
    return [{**base, "at": at, **fields} for at in range(start, end, MINUTE)]


def usual(start: int, end: int, **fields: Any) -> list[dict[str, Any]]:
    """Ten messages a minute that go well, with the few bounces and opens that are usual."""
    counts = {
        "targeted": 12, "attempted": 10, "sent": 10, "delivered": 10, "opened": 3, "clicked": 1,
        "events": 46,
    }  # fmt: skip
    return minutes(start, end, **{**counts, **fields})


def frame(*rows: Iterable[dict[str, Any]]) -> pl.DataFrame:
    """Rows as detection reads them."""
    return pl.DataFrame([row for part in rows for row in part], schema=_SHAPE, orient="row")


def hourly(start: int, end: int, **fields: Any) -> pl.DataFrame:
    """The same world by hour, for history: a row an hour with sixty minutes in it."""
    per_hour = [
        {name: value * 60 if name in COUNTS else value for name, value in row.items()}
        for row in usual(start, end, **fields)[::60]
    ]
    return frame(per_hour)
