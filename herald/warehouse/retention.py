"""Applies `settings.retention` to the tables: how long rows are kept since they landed."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass

from clickhouse_connect.driver.client import Client

from herald.settings import Retention


@dataclass(frozen=True, slots=True)
class Rule:
    """Rows of `table` are dropped `days` after `column`; 0 days keeps them for ever."""

    table: str
    column: str
    days: int


@dataclass(frozen=True, slots=True)
class Applied:
    """What happened to one table: `changed`, `unchanged`, `missing` or `no_table`."""

    table: str
    days: int
    outcome: str


def rules(retention: Retention) -> list[Rule]:
    """Every table whose rows expire."""
    return [
        Rule("raw.events", "landed_at", retention.events_days),
        Rule("raw.dead_letters", "landed_at", retention.dead_letters_days),
        Rule("live.events_hour", "last_landed_at", retention.events_days),
        Rule("live.landing_progress", "observed_at", retention.query_log_days),
        Rule("governance.query_audit", "asked_at", retention.quality_days),
        Rule("governance.quality_results", "checked_at", retention.quality_days),
        Rule("system.query_log", "event_date", retention.query_log_days),
    ]


def apply_retention(client: Client, retention: Retention) -> list[dict[str, object]]:
    """Bring every table's TTL to the settings; a table that has it already is left alone.

    Returns a record per table: `table`, `days`, `outcome`.
    """
    return [asdict(_apply(client, rule)) for rule in rules(retention)]


def _apply(client: Client, rule: Rule) -> Applied:
    database, table = rule.table.split(".")
    rows = client.query(
        "SELECT engine_full FROM system.tables WHERE database = {d:String} AND name = {t:String}",
        parameters={"d": database, "t": table},
    ).result_rows
    if not rows:
        return Applied(rule.table, rule.days, "missing")
    if "MergeTree" not in str(rows[0][0]):  # the embedded engine's query log is a view
        return Applied(rule.table, rule.days, "no_table")
    current = re.search(r" TTL .*?toIntervalDay\((\d+)\)", str(rows[0][0]))
    if (int(current[1]) if current else 0) == rule.days:
        return Applied(rule.table, rule.days, "unchanged")
    if rule.days == 0:
        client.command(f"ALTER TABLE {rule.table} REMOVE TTL")
    else:
        # old parts expire at their next merge; rewriting all of them now would stall landing
        client.command(
            f"ALTER TABLE {rule.table} MODIFY TTL toDateTime({rule.column}) + "
            f"INTERVAL {rule.days} DAY SETTINGS materialize_ttl_after_modify = 0"
        )
    return Applied(rule.table, rule.days, "changed")
