"""What the read model asks the rollups: few questions, each over little."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from herald.live.filters import LiveFilters
from herald.live.rollups import UNIQUE_PRECISION, UNIQUES
from herald.live.window import COLUMNS, Row

Ask = Callable[[str, dict[str, Any]], Sequence[Sequence[Any]]]
"""Runs a SELECT with bound values and gives its rows."""

MAX_CAMPAIGNS = 200
ALERTS = 50
WEEK = 7 * 86_400

VERSION_SQL = (
    "SELECT max(max_block_number), count() FROM system.parts "
    "WHERE active AND database = 'live' AND table = 'events_hour'"
)
"""Changes with every insert of events: each of them reaches the hour table. Merges keep it."""

_TIME = (
    "bucket_at >= toDateTime({{{0}:Int64}}, 'UTC') AND bucket_at < toDateTime({{{1}:Int64}}, 'UTC')"
)
_KINDS = {
    "channel": ("channel",),
    "provider": ("provider",),
    "country": ("country",),
    "platform": ("platform",),
    "campaign": ("campaign_id", "channel"),
    "variant": ("variant_id", "channel"),
    "tenant": ("tenant_id",),
}


@dataclass(frozen=True, slots=True)
class Unique:
    """Distinct counts and the counts of the same minutes, of one campaign (or variant) and channel.

    every: over all rows; by_audience: over those of people and of machines.
    """

    key: str
    channel: str
    every: dict[str, float] = field(default_factory=dict)
    by_audience: dict[str, dict[str, float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Uniques:
    """Distinct counts over whole minutes. recipients: over all of them together."""

    rows: list[Unique]
    recipients: float


def read_slots(
    ask: Ask, filters: LiveFilters, seconds: int, spans: Sequence[tuple[int, int]]
) -> tuple[list[Row], int]:
    """Counts by slot and kind, of slots [first, last) in each span.

    Returns the rows, and the newest landing time among them in Unix ms (0 for no rows).
    """
    kinds = _kinds(filters)
    names = sorted({name for columns in kinds.values() for name in columns})
    times = " OR ".join(f"({_TIME.format(f'a{i}', f'b{i}')})" for i in range(len(spans)))
    sets = ", ".join(f"(slot, {', '.join(columns)}, audience)" for columns in kinds.values())
    table = "live.events_minute" if seconds >= 60 else "live.events_second"
    sums = ", ".join(f"toFloat64(sum({name}))" for name in COLUMNS)
    rows = ask(
        f"SELECT intDiv(toUnixTimestamp(bucket_at), {seconds}) AS slot, "
        f"[{', '.join(f'grouping({name})' for name in names)}] AS absent, audience, "
        f"[{', '.join(f'toString({name})' for name in names)}] AS labels, "
        f"toUnixTimestamp64Milli(max(last_landed_at)), {sums} FROM {table} "
        f"WHERE {filters.condition()} AND ({times}) GROUP BY GROUPING SETS ({sets})",
        {
            **filters.parameters(),
            **{f"a{i}": first * seconds for i, (first, _) in enumerate(spans)},
            **{f"b{i}": last * seconds for i, (_, last) in enumerate(spans)},
        },
    )
    by_columns = {tuple(sorted(columns)): kind for kind, columns in kinds.items()}
    position = {name: i for i, name in enumerate(names)}
    found, landed = [], 0
    for slot, absent, audience, labels, landed_ms, *values in rows:
        kind = by_columns[tuple(n for n in names if not absent[position[n]])]
        key = tuple(labels[position[name]] for name in kinds[kind])
        found.append(Row(kind, (*key, audience), int(slot), values))
        landed = max(landed, int(landed_ms))
    return found, landed


def _kinds(filters: LiveFilters) -> dict[str, tuple[str, ...]]:
    return {
        kind: columns
        for kind, columns in _KINDS.items()
        if (kind != "variant" or filters.campaign) and (kind != "tenant" or not filters.tenant)
    }


def read_uniques(ask: Ask, filters: LiveFilters, first: int, last: int) -> Uniques:
    """Distinct counts of the minutes in [first, last), Unix seconds, by campaign and channel.

    By variant instead of campaign when the filters name a campaign.
    """
    key = "variant_id" if filters.campaign else "campaign_id"
    names = ("delivered", "impressed", "sent")
    sums = ", ".join(f"toFloat64(sum(w.{name}))" for name in names)
    states = ", ".join(
        f"uniqCombined64MergeState({UNIQUE_PRECISION})({name}) AS {name}" for name in UNIQUES
    )
    merged = ", ".join(
        f"toFloat64(uniqCombined64Merge({UNIQUE_PRECISION})(w.{name}))" for name in UNIQUES
    )
    rows = ask(
        # states are merged once by the finest key, the little that is left once for each set
        f"SELECT grouping(w.key), grouping(w.audience), w.key, w.channel, w.audience, {merged}, "
        f"{sums} FROM (SELECT toString({key}) AS key, channel, audience, {states}, "
        f"{', '.join(f'sum(m.{name}) AS {name}' for name in names)} FROM live.events_minute AS m "
        f"WHERE {filters.condition()} AND {_TIME.format('first', 'last')} "
        "GROUP BY key, channel, audience) AS w GROUP BY GROUPING SETS "
        "((w.key, w.channel, w.audience), (w.key, w.channel), ())",
        {**filters.parameters(), "first": first, "last": last},
    )
    found: dict[tuple[str, str], Unique] = {}
    recipients = 0.0
    for no_key, no_audience, name, channel, audience, *numbers in rows:
        counts = dict(zip((*UNIQUES, *names), map(float, numbers), strict=True))
        if no_key:
            recipients = counts["unique_recipients"]
            continue
        unique = found.setdefault((name, channel), Unique(name, channel))
        if no_audience:
            unique.every.update(counts)
        else:
            unique.by_audience[audience] = counts
    return Uniques(list(found.values()), recipients)


def read_totals(ask: Ask, filters: LiveFilters, first: int, last: int) -> list[Row]:
    """Counts by channel of the minutes in [first, last), Unix seconds, as rows of slot 0."""
    sums = ", ".join(f"toFloat64(sum({name}))" for name in COLUMNS)
    rows = ask(
        f"SELECT channel, audience, {sums} FROM live.events_minute "
        f"WHERE {filters.condition()} AND {_TIME.format('first', 'last')} "
        "GROUP BY channel, audience",
        {**filters.parameters(), "first": first, "last": last},
    )
    return [Row("channel", (channel, audience), 0, values) for channel, audience, *values in rows]


def has_history(ask: Ask, filters: LiveFilters, before: int) -> bool:
    """Whether the tenant had any event before an instant, Unix seconds."""
    tenant = LiveFilters(tenant=filters.tenant)
    rows = ask(
        f"SELECT 1 FROM live.events_hour WHERE {tenant.condition()} "
        "AND bucket_at < toDateTime({before:Int64}, 'UTC') LIMIT 1",
        {**tenant.parameters(), "before": before},
    )
    return bool(rows)


def read_hours(ask: Ask, filters: LiveFilters, now: int) -> list[tuple[int, int, int]]:
    """Messages sent by weekday (0 is Monday) and hour, UTC, of the last 7 days."""
    rows = ask(
        "SELECT toDayOfWeek(bucket_at) - 1 AS day, toHour(bucket_at) AS hour, sum(sent) AS n "
        f"FROM live.events_hour WHERE {filters.condition()} "
        f"AND {_TIME.format('first', 'last')} GROUP BY day, hour HAVING n > 0 ORDER BY day, hour",
        {
            **filters.parameters(),
            "first": (now // 3_600 + 1) * 3_600 - WEEK,
            "last": (now // 3_600 + 1) * 3_600,
        },
    )
    return [(int(day), int(hour), int(n)) for day, hour, n in rows]


def read_as_of(ask: Ask, now: int) -> datetime | None:
    """When the newest event landed, of any tenant; None when none has, in the last two days."""
    rows = ask(
        "SELECT toUnixTimestamp64Milli(max(last_landed_at)) FROM live.events_hour "
        "WHERE bucket_at >= toDateTime({first:Int64}, 'UTC')",
        {"first": now - 2 * 86_400},
    )
    milliseconds = int(rows[0][0]) if rows else 0
    return datetime.fromtimestamp(milliseconds / 1_000, UTC) if milliseconds > 0 else None


def read_names(ask: Ask, filters: LiveFilters) -> dict[tuple[str, str], str]:
    """Current name of each campaign, by tenant and id."""
    tenant = LiveFilters(tenant=filters.tenant)
    rows = ask(
        "SELECT tenant_id, campaign_id, name FROM live.campaigns FINAL "
        f"WHERE {tenant.condition()} AND NOT is_deleted",
        tenant.parameters(),
    )
    return {(str(tenant_id), str(campaign)): str(name) for tenant_id, campaign, name in rows}


_ALERT = (
    *("alert_id", "tenant_id", "rule", "severity", "status", "group_key", "value", "threshold"),
    *("baseline", "window_start", "window_end", "opened_at", "updated_at", "resolved_at"),
    *("summary", "runbook", "owner", "acknowledged_by", "silenced_until"),
)


def read_alerts(ask: Ask, filters: LiveFilters) -> list[dict[str, Any]]:
    """Alerts that fire or are acknowledged, the gravest and newest first."""
    tenant = LiveFilters(tenant=filters.tenant)
    rows = ask(
        f"SELECT {', '.join(_ALERT)} FROM live.alerts FINAL "
        f"WHERE status IN ('firing', 'acknowledged') AND {tenant.condition()} "
        "ORDER BY indexOf(['critical', 'warning', 'info'], severity), opened_at DESC "
        f"LIMIT {ALERTS}",
        tenant.parameters(),
    )
    return [dict(zip(_ALERT, row, strict=True)) for row in rows]
