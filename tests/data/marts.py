"""Hand-written messages as marts: the tables the engine reads, without dbt and its run time.

`build_marts` makes empty tables with the columns dbt gives them; `add_messages` adds rows to
fct_messages and to both hourly tables. `message` is one row with everything that did not happen.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from clickhouse_connect.driver.client import Client

from herald.metrics.counts import COUNTS

LABELS = (
    "tenant_id",
    "message_id",
    "user_id",
    "campaign_id",
    "campaign_name",
    "variant_id",
    "category",
    "channel",
    "country",
    "platform",
    "device_class",
)
FLAGS = (
    "targeted",
    "eligible",
    "attempted",
    "sent",
    "delivered",
    "bounced",
    "soft_bounced",
    "failed",
    "aborted",
    "opened",
    "human_opened",
    "machine_opened",
    "influenced_opened",
    "clicked",
    "human_clicked",
    "machine_clicked",
    "impressed",
    "converted",
    "unsubscribed",
    "complained",
    "dismissed",
    "read",
    "replied",
)
NUMBERS = (
    "opens",
    "human_opens",
    "machine_opens",
    "clicks",
    "human_clicks",
    "machine_clicks",
    "conversions",
)
KEYS = "tenant_id, campaign_id, variant_id, channel, country, platform, device_class"
HOURLY = ("fct_engagement_hourly", "fct_activity_hourly")


def message(message_id: str, *happened: str, at: datetime, **values: Any) -> dict[str, Any]:
    """One row: the named flags are true; opens and clicks follow from them unless given."""
    row: dict[str, Any] = dict.fromkeys(LABELS, "")
    row |= {"message_id": message_id, "user_id": f"user of {message_id}", "tenant_id": "acme"}
    row |= {f"is_{flag}": flag in happened for flag in FLAGS}
    for noun, flag in (("opens", "opened"), ("clicks", "clicked")):
        row[f"human_{noun}"] = int(f"human_{flag}" in happened)
        row[f"machine_{noun}"] = int(f"machine_{flag}" in happened)
        row[noun] = max(row[f"human_{noun}"] + row[f"machine_{noun}"], int(flag in happened))
    row |= {"conversions": int("converted" in happened), "revenue": 0, "cost": 0}
    row |= {"anchor_at": at, "updated_at": datetime(2026, 11, 20, 12, tzinfo=UTC)}
    unknown = set(values) - set(row)
    if unknown:
        raise ValueError(f"fct_messages has no {sorted(unknown)}")
    return row | values


def build_marts(client: Client) -> None:
    """Make the tables, empty; what was in them goes."""
    client.command("create database if not exists marts")
    labels = ", ".join(f"{name} String" for name in LABELS)
    flags = ", ".join(f"is_{flag} Bool" for flag in FLAGS)
    numbers = ", ".join(f"{name} UInt64" for name in NUMBERS)
    money = "revenue Decimal(18, 4), cost Decimal(18, 4)"
    client.command("drop table if exists marts.fct_messages")
    client.command(
        f"create table marts.fct_messages ({labels}, anchor_at DateTime64(3, 'UTC'), {flags}, "
        f"{numbers}, {money}, updated_at DateTime64(3, 'UTC')) "
        "engine = MergeTree order by (tenant_id, message_id)"
    )
    columns = ", ".join(f"{column} UInt64" for column in _counted())
    for table in HOURLY:
        client.command(f"drop table if exists marts.{table}")
        client.command(
            f"create table marts.{table} (tenant_id String, campaign_id String, variant_id String, "
            "channel String, country String, platform String, device_class String, "
            "hour_at DateTime('UTC'), campaign_name String, category String, "
            f"{columns}, {money}, unique_recipients_state AggregateFunction(uniqExact, String)) "
            "engine = MergeTree order by (tenant_id, hour_at, campaign_id)"
        )


def add_messages(client: Client, rows: Iterable[dict[str, Any]], *, later_hours: int = 0) -> None:
    """Add messages; everything that happened counts `later_hours` after the send in activity."""
    found = list(rows)
    client.insert("marts.fct_messages", [list(r.values()) for r in found], list(found[0]))
    ids = [r["message_id"] for r in found]
    counts = _counted()
    for table, shift in zip(HOURLY, (0, later_hours), strict=True):
        client.command(
            f"insert into marts.{table} select {KEYS}, "
            "toStartOfHour(anchor_at) + toIntervalHour({shift:Int64}) as hour_at, "
            "any(m.campaign_name), any(m.category), "
            + ", ".join(f"sum(m.{expression})" for expression in counts.values())
            + ", sum(m.revenue), sum(m.cost), "
            "uniqExactStateIf(m.user_id, m.is_sent or m.is_impressed) from marts.fct_messages as m "
            f"where has({{ids:Array(String)}}, message_id) group by {KEYS}, hour_at",
            parameters={"shift": shift, "ids": ids},
        )


def _counted() -> dict[str, str]:
    found: dict[str, str] = {}
    for count in COUNTS.values():
        if count.unique or count.money:
            continue
        found[count.name] = count.per_message
        if count.human:
            found[count.human] = count.human_per_message
            found[count.machine] = count.machine_per_message
    return found
