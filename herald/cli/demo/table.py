"""The table that `herald demo` ends with: what happened, in one screen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

SURFACES = ("raw", "dbt", "api", "superset", "report")


def print_summary(record: Mapping[str, Any], console: Console) -> None:
    """Print the record of a demo run; parts that did not run are left out."""
    events = record.get("events", {})
    rows: list[tuple[str, str]] = [
        ("produced", f"{events.get('produced', 0):,}"),
        ("landed", f"{events.get('landed', 0):,}"),
        ("dead-lettered", f"{events.get('dead_lettered', 0):,}"),
        ("duplicates", f"{events.get('duplicates', 0):,}"),
    ]
    rows += [(f"  from {name}", f"{n:,}") for name, n in events.get("by_source", {}).items()]
    rows += [(name, f"{count:,}") for name, count in record.get("marts", {}).items()]
    if checks := record.get("checks"):
        rows.append(("checks passed / failed", f"{checks['passed']} / {checks['failed']}"))
    if tests := record.get("dbt_tests"):
        rows.append(("dbt tests passed / failed", f"{tests['passed']} / {tests['failed']}"))
    for run in record.get("dag_runs", []):
        rows.append((run["dag_id"], f"{run['state']} in {run['seconds']:.0f} s"))
    for board in record.get("dashboards", []):
        errors = len(board["errors"])
        rows.append(
            (
                f"dashboard {board['slug']}",
                f"{board['charts']} charts, {errors} errors, {board['seconds']:.0f} s",
            )
        )
    for fault in record.get("faults", []):
        rows.append(
            (
                f"killed {fault['killed']}",
                f"lost {fault['lost']}, duplicated {fault['duplicated']}, "
                f"recovered in {fault['recovered_seconds']:.0f} s",
            )
        )
    _print(console, "", rows)
    _print_one_number(record.get("one_number", []), console)
    _print(console, "seconds", [(k, f"{v:.0f}") for k, v in record.get("seconds", {}).items()])


def _print_one_number(cases: list[Mapping[str, Any]], console: Console) -> None:
    if not cases:
        return
    surfaces = [s for s in SURFACES if any(s in case for case in cases)]
    table = Table(box=None, pad_edge=False)
    for column in ("one number", "filters", *surfaces):
        table.add_column(column, overflow="fold")
    for case in cases:
        filters = ", ".join(f"{k}={v}" for k, v in case["filters"].items()) or "all"
        table.add_row(case["metric"], filters, *(_number(case.get(s)) for s in surfaces))
    console.print(table)
    console.print()


def _number(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _print(console: Console, title: str, rows: list[tuple[str, str]]) -> None:
    table = Table(box=None, pad_edge=False, show_header=bool(title))
    table.add_column(title)
    table.add_column(justify="left")
    for row in rows:
        table.add_row(*row)
    console.print(table)
    console.print()


def print_logins(pages: list[tuple[str, str, str, str]], console: Console) -> None:
    """Print addresses and logins; the API takes its password as a bearer token."""
    table = Table(box=None, pad_edge=False)
    for column in ("page", "address", "user", "password"):
        table.add_column(column, overflow="fold")
    for row in pages:
        table.add_row(*row)
    console.print(table)
    console.print()
