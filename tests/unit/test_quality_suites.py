"""Suites as data: names, tables, severities. No service, no Great Expectations."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from expectations.checkpoints import UnknownSuiteError, all_suites, select_suites
from expectations.checks import measured, rows
from expectations.engine import one_row
from expectations.housekeeping import prune_files
from expectations.model import LAYERS, Check, GateFailedError, Outcome, Suite
from expectations.report_page import render_page
from herald.settings import ROOT, Settings, load_settings


@pytest.fixture(scope="module")
def settings() -> Settings:
    return load_settings()


@pytest.fixture(scope="module")
def suites(settings: Settings) -> dict[str, Suite]:
    return all_suites(settings)


def existing_tables() -> set[str]:
    ddl = "\n".join(p.read_text() for p in (ROOT / "infra/clickhouse/migrations").glob("*.sql"))
    made = set(re.findall(r"CREATE TABLE (?:IF NOT EXISTS )?(\w+\.\w+)", ddl))
    models = (ROOT / "dbt_project" / "models").rglob("*.sql")
    return made | {f"{path.relative_to(ROOT).parts[2]}.{path.stem}" for path in models}


def test_every_suite_is_named_after_a_table_that_exists(suites: dict[str, Suite]) -> None:
    files = {p.stem for p in (ROOT / "expectations" / "suites").glob("[a-z]*__*.py")}
    assert set(suites) == files
    tables = existing_tables()
    assert "raw.events" in tables
    assert "marts.fct_messages" in tables
    for name, suite in suites.items():
        layer, _, table = name.partition("__")
        assert suite.layer == layer
        assert suite.table == f"{layer}.{table}"
        assert suite.table in tables


def test_every_layer_has_a_gate(suites: dict[str, Suite]) -> None:
    for layer in LAYERS:
        checks = [c for s in suites.values() if s.layer == layer for c in s.checks]
        assert any(check.severity == "error" for check in checks)


def test_every_fact_and_dimension_is_checked(suites: dict[str, Suite]) -> None:
    models = (ROOT / "dbt_project" / "models" / "marts").rglob("*.sql")
    marts = {f"marts.{p.stem}" for p in models if p.stem.startswith(("fct_", "dim_"))}
    assert marts - {suite.table for suite in suites.values()} == set()


def test_checks_of_a_suite_have_names_of_their_own(suites: dict[str, Suite]) -> None:
    for suite in suites.values():
        keys = [(check.name, check.column) for check in suite.checks]
        assert len(keys) == len(set(keys)), suite.name
        assert all(check.expected for check in suite.checks)


def test_batch_is_narrowed_when_the_suite_says_where() -> None:
    suite = Suite("raw.events", "raw", "", (), where="landed_at > now()")

    check = rows("odd", "select * from {batch}", "none")

    assert suite.name == "raw__events"
    assert suite.resolved_sql(check) == (
        "select * from (select * from raw.events where landed_at > now())"
    )


def test_violation_is_what_a_measurement_does_not_allow() -> None:
    suite = Suite("raw.events", "raw", "", ())

    check = measured("many", "select count() > 3 as is_ok from {batch}", "more than 3")

    assert suite.resolved_sql(check) == (
        "select * from (select count() > 3 as is_ok from (select * from raw.events))"
        " where not is_ok"
    )


def test_suites_are_chosen_by_name_and_layer(settings: Settings) -> None:
    chosen = select_suites(settings, ["marts__dim_users"], ["staging"])

    assert [suite.name for suite in chosen] == ["staging__stg_raw__events", "marts__dim_users"]
    assert next(suite.layer for suite in select_suites(settings)) == "raw"


def test_choice_is_refused_when_the_name_is_unknown(settings: Settings) -> None:
    with pytest.raises(UnknownSuiteError, match="no suite raw__unicorns; known: raw__dead_letters"):
        select_suites(settings, ["raw__unicorns"])
    with pytest.raises(UnknownSuiteError, match="no layer gold; known: raw, staging, marts"):
        select_suites(settings, layers=["gold"])


def outcome(severity: str, *, success: bool) -> Outcome:
    return Outcome(
        suite="raw__events",
        layer="raw",
        table="raw.events",
        expectation="offset_is_unique",
        column="_offset",
        severity="error" if severity == "error" else "warning",
        success=success,
        observed="2 violations",
        expected="one row for each offset",
        message="for example _offset=7",
    )


def test_gate_error_names_only_what_stops() -> None:
    error = GateFailedError(
        [
            outcome("error", success=False),
            outcome("warning", success=False),
            outcome("error", success=True),
        ]
    )

    assert len(error.failed) == 1
    assert str(error) == (
        "quality gate failed: 1 of 3 expectations\n"
        "  ERROR raw__events: offset_is_unique on raw.events._offset: observed 2 violations,"
        " expected one row for each offset (for example _offset=7)"
    )


def test_reason_leaves_out_the_column_when_a_check_has_none() -> None:
    check = Check("any", "rows", "none")
    text = Outcome(
        "s", "raw", "raw.events", check.name, "", "warning", False, "1", "none", ""
    ).reason

    assert text == "WARNING s: any on raw.events: observed 1, expected none"


def test_files_are_pruned_when_they_are_old(settings: Settings, tmp_path: Path) -> None:
    now = datetime(2026, 11, 20, tzinfo=UTC)
    local = settings.model_copy(update={"state_dir": tmp_path})
    ages = {
        "reports/quality-2026-01-01.html": 40,
        "reports/quality-2026-11-19.html": 1,
        "airflow/logs/dag/run/task.log": 31,
        "data_docs/validations/raw__events/x.html": 29,
        "secrets.env": 400,
    }
    for name, days in ages.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
        changed = (now - timedelta(days=days)).timestamp()
        os.utime(path, (changed, changed))
    for folder in (p for p in tmp_path.rglob("*") if p.is_dir()):
        os.utime(folder, (changed, changed))

    deleted = prune_files(local, now=now)

    assert deleted == {
        "data_docs/validations": 0,
        "quality/validations": 0,
        "reports": 1,
        "airflow/logs": 1,
    }
    left = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    assert left == {
        "reports/quality-2026-11-19.html",
        "data_docs/validations/raw__events/x.html",
        "secrets.env",
    }
    assert not (tmp_path / "airflow" / "logs" / "dag").exists()


def test_files_are_kept_when_retention_is_zero(settings: Settings, tmp_path: Path) -> None:
    retention = settings.retention.model_copy(update={"files_days": 0})
    local = settings.model_copy(update={"state_dir": tmp_path, "retention": retention})
    report = tmp_path / "reports" / "old.html"
    report.parent.mkdir()
    report.write_text("x")
    os.utime(report, (0, 0))

    prune_files(local, now=datetime(2026, 11, 20, tzinfo=UTC))

    assert report.exists()


def test_page_says_so_when_nothing_happened() -> None:
    page = render_page(
        {
            "generated_at": "2026-11-20T00:00:00+00:00",
            "since": "2026-11-19T00:00:00+00:00",
            "summary": {"checks": 0, "passed": 0, "errors": 0, "warnings": 0},
            "suites": [],
            "failing": [],
            "trend": [],
            "dead_letters": [],
            "reconciliation": [],
        }
    )

    for sentence in ("Nothing fails.", "No suite ran", "Nothing has landed.", "No checks yet."):
        assert sentence in page


def test_page_counts_a_topic_that_does_not_add_up() -> None:
    def page(topic: str, difference: int) -> str:
        row = {
            "topic": topic,
            "produced": 10,
            "stored": 10 - difference,
            "dead_lettered": 0,
            "difference": difference,
            "lag": 0,
        }
        return render_page(
            {
                "generated_at": "",
                "since": "",
                "summary": {"checks": 1, "passed": 1, "errors": 0, "warnings": 0},
                "suites": [],
                "failing": [],
                "trend": [
                    {"date": "2026-11-20", "runs": 1, "checks": 1, "errors": 0, "warnings": 0}
                ],
                "dead_letters": [],
                "reconciliation": [row],
            }
        )

    bad = '<b class="bad">1</b><span>topics that do not add up'
    assert bad in page("notifications.events.v1", 3)
    assert bad in page("notifications.users.v1", -1)
    # the broker compacts reference topics: superseded records never land
    assert bad not in page("notifications.users.v1", 3)


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("select * from a", "select * from a limit 1"),
        ("select * from a \n FORMAT X", "select * from a limit 1 \n FORMAT X"),
        ("select * from ab", "select * from ab"),  # another table
        ("select count() from (select * from a)", "select count() from (select * from a)"),
        ("select * from a where b", "select * from a where b"),
    ],
)
def test_columns_are_learned_from_one_row_when_a_batch_is_run_whole(
    statement: str, expected: str
) -> None:
    assert one_row(statement, {"select * from a"}) == expected
