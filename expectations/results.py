"""Keeps the outcomes of a run in governance.quality_results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from datetime import UTC, datetime

from clickhouse_connect.driver.client import Client

from expectations.model import Outcome

_TEXT_LIMIT = 2_000


def store(client: Client, run_id: str, outcomes: Sequence[Outcome]) -> datetime:
    """Insert one row for each outcome; returns the time they carry, UTC."""
    checked_at = datetime.now(UTC)
    names = [f.name for f in fields(Outcome)]
    rows = [
        [
            run_id,
            *(v[:_TEXT_LIMIT] if isinstance(v, str) else v for v in asdict(outcome).values()),
            checked_at,
        ]
        for outcome in outcomes
    ]
    if rows:
        client.insert(
            "quality_results",
            rows,
            column_names=["run_id", *names, "checked_at"],
            database="governance",
        )
    return checked_at
