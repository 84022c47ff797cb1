"""Where counts come from: the live rollups, or frames in memory when a simulation is judged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import polars as pl
from clickhouse_connect.driver.client import Client

from herald.alerts.rules import BaseRule, Canary, Count, OverMessaging

MINUTE_MS = 60_000
HOUR_MS = 3_600_000
HISTORY_WEEKS = 4
MAX_GROUPS = 2_000
"""Groups of one rule that are judged, the busiest first: a rule by campaign stays affordable."""
MAX_USERS = 100_000


class Observations(Protocol):
    """What detection may ask for. Times are Unix ms; ranges are [start, end)."""

    def counts(
        self, rule: BaseRule, names: Sequence[Count], start_ms: int, end_ms: int
    ) -> pl.DataFrame:
        """Rows of tenant_id, the rule's `group_by`, `at` (start of a step) and the counts."""

    def history(self, rule: BaseRule, names: Sequence[Count], before_ms: int) -> pl.DataFrame:
        """The same by hour, of the HISTORY_WEEKS weeks before an instant."""

    def messaged(self, rule: OverMessaging, start_ms: int, end_ms: int) -> pl.DataFrame:
        """Users over the line without an open: tenant_id, user_id, sends, seen_at (last send)."""

    def canaries(self, rule: Canary, start_ms: int, end_ms: int) -> pl.DataFrame:
        """Canaries sent: tenant_id, the rule's `group_by`, sent_at, delivered_at or null."""


def _shape(groups: Sequence[str], counts: Sequence[str]) -> dict[str, type[pl.DataType]]:
    return {
        "tenant_id": pl.String, **dict.fromkeys(groups, pl.String), "at": pl.Int64,
        **dict.fromkeys(counts, pl.Int64),
    }  # fmt: skip


class WarehouseObservations:
    """Reads the rollups; canaries come from `raw.events`, by its primary key."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def counts(
        self, rule: BaseRule, names: Sequence[Count], start_ms: int, end_ms: int
    ) -> pl.DataFrame:
        """Of the second or the minute table, as the rule's step asks."""
        table = "live.events_minute" if rule.step_ms == MINUTE_MS else "live.events_second"
        return self._read(table, rule, names, start_ms, end_ms)

    def history(self, rule: BaseRule, names: Sequence[Count], before_ms: int) -> pl.DataFrame:
        """Of the hour table."""
        start = before_ms - HISTORY_WEEKS * 7 * 24 * HOUR_MS
        return self._read("live.events_hour", rule, names, start, before_ms)

    def _read(
        self, table: str, rule: BaseRule, names: Sequence[Count], start_ms: int, end_ms: int
    ) -> pl.DataFrame:
        groups = list(rule.group_by)
        keys = ", ".join(f"toString(r.{g}) AS {g}" for g in ["tenant_id", *groups])
        conditions = "".join(
            f" AND r.{name} IN {{where_{name}:Array(String)}}" for name in rule.where
        )
        sums = ", ".join(f"toInt64(sum(r.{name})) AS {name}" for name in names)
        by = ", ".join(f"r.{g}" for g in ["tenant_id", *groups])
        scope = (
            f"FROM {table} AS r WHERE r.bucket_at >= toDateTime({{start:Int64}}, 'UTC') "
            f"AND r.bucket_at < toDateTime({{end:Int64}}, 'UTC'){conditions}"
        )
        sql = (
            f"SELECT {keys}, toUnixTimestamp(r.bucket_at) * 1000 AS at, {sums} {scope} "
            + (
                f"AND ({by}) IN (SELECT {by} {scope} GROUP BY {by} "
                f"ORDER BY sum(r.{names[0]}) DESC LIMIT {MAX_GROUPS}) "
                if groups
                else ""
            )
            + f"GROUP BY {by}, at"
        )
        result = self._client.query(
            sql,
            parameters={
                "start": start_ms // 1_000, "end": end_ms // 1_000,
                **{f"where_{name}": list(values) for name, values in rule.where.items()},
            },
        )  # fmt: skip
        return pl.DataFrame(result.result_rows, schema=_shape(groups, names), orient="row")

    def messaged(self, rule: OverMessaging, start_ms: int, end_ms: int) -> pl.DataFrame:
        """Of what the pattern stream wrote."""
        result = self._client.query(
            "SELECT tenant_id, user_id, max(sends), max(toUnixTimestamp64Milli(seen_at)) "
            "FROM live.messaged_users FINAL WHERE rule = {rule:String} AND opens = 0 "
            "AND sends >= {sends:UInt64} AND seen_at >= fromUnixTimestamp64Milli({start:Int64}) "
            "AND seen_at < fromUnixTimestamp64Milli({end:Int64}) GROUP BY tenant_id, user_id "
            f"ORDER BY tenant_id, user_id LIMIT {MAX_USERS}",
            parameters={
                "rule": rule.name, "sends": rule.threshold, "start": start_ms, "end": end_ms,
            },
        )  # fmt: skip
        schema = {
            "tenant_id": pl.String, "user_id": pl.String, "sends": pl.Int64, "seen_at": pl.Int64,
        }  # fmt: skip
        return pl.DataFrame(result.result_rows, schema=schema, orient="row")

    def canaries(self, rule: Canary, start_ms: int, end_ms: int) -> pl.DataFrame:
        """End to end: `delivered_at` is when the delivery was both reported and landed."""
        groups = list(rule.group_by)
        keys = "".join(f"any(toString({g})) AS {g}, " for g in groups)
        result = self._client.query(
            f"SELECT tenant_id, {keys}"
            "minIf(toUnixTimestamp64Milli(occurred_at), action IN ('attempted', 'sent')) AS sent, "
            "if(countIf(action = 'delivered') = 0, NULL, "
            "minIf(toUnixTimestamp64Milli(greatest(occurred_at, landed_at)), "
            "action = 'delivered')) AS done "
            "FROM raw.events WHERE campaign_id IN {campaigns:Array(String)} "
            "AND occurred_at >= fromUnixTimestamp64Milli({start:Int64}) "
            "AND occurred_at < fromUnixTimestamp64Milli({until:Int64}) "
            "GROUP BY tenant_id, message_id HAVING sent > 0 AND sent < {end:Int64}",
            parameters={
                "campaigns": list(rule.campaigns), "start": start_ms, "end": end_ms,
                "until": end_ms + 24 * HOUR_MS,
            },
        )  # fmt: skip
        schema: dict[str, type[pl.DataType]] = {
            "tenant_id": pl.String, **dict.fromkeys(groups, pl.String),
            "sent_at": pl.Int64, "delivered_at": pl.Int64,
        }  # fmt: skip
        return pl.DataFrame(result.result_rows, schema=schema, orient="row")


class FrameObservations:
    """Frames in memory: `minutes` has every dimension and count, by minute or second."""

    def __init__(
        self,
        minutes: pl.DataFrame,
        *,
        hours: pl.DataFrame | None = None,
        messaged: pl.DataFrame | None = None,
        canaries: pl.DataFrame | None = None,
    ) -> None:
        self._minutes = minutes
        self._hours = hours if hours is not None else minutes
        self._messaged = messaged
        self._canaries = canaries

    def counts(
        self, rule: BaseRule, names: Sequence[Count], start_ms: int, end_ms: int
    ) -> pl.DataFrame:
        """Of the frame."""
        return _summed(self._minutes, rule, names, start_ms, end_ms, rule.step_ms)

    def history(self, rule: BaseRule, names: Sequence[Count], before_ms: int) -> pl.DataFrame:
        """Of the hours, or else of the minutes."""
        start = before_ms - HISTORY_WEEKS * 7 * 24 * HOUR_MS
        return _summed(self._hours, rule, names, start, before_ms, HOUR_MS)

    def messaged(self, rule: OverMessaging, start_ms: int, end_ms: int) -> pl.DataFrame:
        """Of the frame given: rule, tenant_id, user_id, sends, opens, seen_at."""
        if self._messaged is None:
            return pl.DataFrame(
                schema={"tenant_id": pl.String, "user_id": pl.String, "sends": pl.Int64,
                        "seen_at": pl.Int64}
            )  # fmt: skip
        return self._messaged.filter(
            (pl.col("rule") == rule.name)
            & (pl.col("opens") == 0)
            & (pl.col("sends") >= rule.threshold)
            & pl.col("seen_at").is_between(start_ms, end_ms, closed="left")
        ).select("tenant_id", "user_id", "sends", "seen_at")

    def canaries(self, rule: Canary, start_ms: int, end_ms: int) -> pl.DataFrame:
        """Of the frame given."""
        groups = list(rule.group_by)
        if self._canaries is None:
            return pl.DataFrame(
                schema={"tenant_id": pl.String, **dict.fromkeys(groups, pl.String),
                        "sent_at": pl.Int64, "delivered_at": pl.Int64}
            )  # fmt: skip
        return self._canaries.filter(
            pl.col("sent_at").is_between(start_ms, end_ms, closed="left")
        ).select("tenant_id", *groups, "sent_at", "delivered_at")


def _summed(
    frame: pl.DataFrame, rule: BaseRule, names: Sequence[str], start_ms: int, end_ms: int, step: int
) -> pl.DataFrame:
    kept = frame.filter(pl.col("at").is_between(start_ms, end_ms, closed="left"))
    for name, values in rule.where.items():
        kept = kept.filter(pl.col(name).is_in(list(values)))
    keys = ["tenant_id", *rule.group_by]
    return (
        kept.with_columns(at=pl.col("at") // step * step)
        .group_by([*keys, "at"])
        .agg([pl.col(name).sum().cast(pl.Int64) for name in names])
    )
