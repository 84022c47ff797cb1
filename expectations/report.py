"""The data-quality report: what the checks say, what was refused, whether the counts add up.

Needs the warehouse only, so it runs in any environment.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from clickhouse_connect.driver.client import Client

from expectations.report_page import render_page

TREND_DAYS = 14

_LATEST = """
select suite, layer, table, expectation, column, severity, success, observed, expected, message,
       checked_at
from governance.quality_results
where checked_at >= {since:DateTime64(3)}
order by checked_at desc
limit 1 by suite, expectation, column
"""

_TREND = """
select toString(toDate(checked_at)) as date, uniqExact(run_id) as runs, count() as checks,
       countIf(not success and severity = 'error') as errors,
       countIf(not success and severity = 'warning') as warnings
from governance.quality_results
where checked_at >= toStartOfDay(now()) - toIntervalDay({days:UInt32})
group by date order by date
"""

_DEAD_LETTERS = """
select topic, error_class, error_field, count() as dead_letters,
       toString(max(landed_at)) as last_at, any(error_message) as example
from raw.dead_letters
where landed_at >= {since:DateTime64(3)}
group by topic, error_class, error_field order by dead_letters desc, error_class, error_field
"""

_RECONCILIATION = """
select l.topic as topic, toInt64(l.offsets) as produced, toInt64(l.stored) as stored,
       toInt64(l.dead_lettered) as dead_lettered,
       toInt64(l.offsets) - toInt64(l.stored) - toInt64(l.dead_lettered) as difference,
       toInt64(p.lag) as lag
from (
    select topic, sum(offsets) as offsets, sum(stored) as stored, sum(refused) as dead_lettered
    from (
        select topic, partition, max(last_offset) + 1 - min(first_offset) as offsets,
               sum(rows_stored) as stored, sum(rows_dead_lettered) as refused
        from raw.landed_ranges group by topic, partition
    ) group by topic
) as l
left join (
    select topic, sum(behind) as lag from (
        select topic, partition,
               argMax(end_offset, observed_at) - argMax(next_offset, observed_at) as behind
        from live.landing_progress group by topic, partition
    ) group by topic
) as p on l.topic = p.topic
order by topic
"""


@dataclass(frozen=True, slots=True)
class ReportFiles:
    """The files of one report."""

    html: Path
    json: Path


def build_report(client: Client, *, now: datetime, since: datetime) -> dict[str, Any]:
    """What the report says, as plain values.

    Args:
        client: of the warehouse.
        now: time of the report, UTC.
        since: checks and dead letters from here on count, UTC.

    Returns:
        generated_at, since, summary {checks, passed, errors, warnings}, suites, failing, trend,
        dead_letters, reconciliation; the last five are lists of records.
    """
    naive_since = since.astimezone(UTC).replace(tzinfo=None)
    checks = _records(client, _LATEST, since=naive_since)
    suites: dict[str, dict[str, Any]] = {}
    for check in checks:
        suite = suites.setdefault(
            check["suite"],
            {
                "suite": check["suite"],
                "layer": check["layer"],
                "passed": 0,
                "errors": 0,
                "warnings": 0,
                "checked_at": _text(check["checked_at"]),
            },
        )
        suite["passed" if check["success"] else check["severity"] + "s"] += 1
    failing = [
        {k: _text(v) for k, v in check.items() if k != "success"}
        for check in checks
        if not check["success"]
    ]
    return {
        "generated_at": _text(now),
        "since": _text(since),
        "summary": {
            "checks": len(checks),
            "passed": len(checks) - len(failing),
            "errors": sum(c["severity"] == "error" for c in failing),
            "warnings": sum(c["severity"] == "warning" for c in failing),
        },
        "suites": sorted(suites.values(), key=lambda s: s["suite"]),
        "failing": failing,
        "trend": _records(client, _TREND, days=TREND_DAYS),
        "dead_letters": _records(client, _DEAD_LETTERS, since=naive_since),
        "reconciliation": _records(client, _RECONCILIATION),
    }


def write_report(report: dict[str, Any], folder: Path) -> ReportFiles:
    """Write the report as `quality-<date>.html` and `.json`; a second one of a day replaces it."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"quality-{report['generated_at'][:10]}"
    files = ReportFiles(folder / f"{stem}.html", folder / f"{stem}.json")
    files.html.write_text(render_page(report), encoding="utf-8")
    files.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return files


def _records(client: Client, sql: str, **parameters: Any) -> list[dict[str, Any]]:
    return list(client.query(sql, parameters=parameters).named_results())


def _text(value: Any) -> Any:
    if isinstance(value, datetime):
        aware = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        return aware.isoformat(timespec="seconds")
    return value
