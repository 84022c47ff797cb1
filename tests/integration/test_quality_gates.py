"""The gates on a warehouse of their own, with rows written by hand.

Great Expectations lives in another environment, so each run is a process, as in production.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client

from expectations.checkpoints import all_suites, select_suites
from expectations.report import build_report, write_report
from herald.settings import ROOT, Settings
from herald.warehouse.client import connect
from infra.local.environment import child_environment
from infra.local.platform import Platform
from infra.local.ports import free_ports
from tests.data import quality_rows as rows

EMPTY_ONLY = "expect_table_row_count_to_be_between"
"""Fails on a table without rows, where no other check can."""


@dataclass(frozen=True)
class GateRun:
    exit_code: int
    log: str
    result: dict[str, Any]

    @property
    def failing(self) -> set[tuple[str, str, str]]:
        return {
            (o["suite"], o["expectation"], o["column"])
            for o in self.result["outcomes"]
            if not o["success"]
        }

    def outcome(self, suite: str, expectation: str) -> dict[str, Any]:
        (found,) = [
            o
            for o in self.result["outcomes"]
            if (o["suite"], o["expectation"]) == (suite, expectation)
        ]
        return found


@pytest.fixture(scope="module")
def quality_settings(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    warehouse = settings.warehouse.model_copy(update={"port": free_ports(1)[0]})
    state = tmp_path_factory.mktemp("quality")
    return settings.model_copy(update={"state_dir": state, "warehouse": warehouse})


@pytest.fixture(scope="module")
def client(quality_settings: Settings) -> Iterator[Client]:
    platform = Platform(quality_settings, attached=True)
    try:
        platform.up(["warehouse"])
        with connect(quality_settings.warehouse) as client:
            yield client
    finally:
        platform.down()


@pytest.fixture(scope="module")
def environment(quality_settings: Settings) -> dict[str, str]:
    return {**os.environ, **child_environment(quality_settings)}


Check = Callable[..., GateRun]


@pytest.fixture
def check(environment: dict[str, str]) -> Check:
    def run(*arguments: str) -> GateRun:
        done = subprocess.run(
            [sys.executable, "-m", "herald.cli.main", "quality", "check", "--json", *arguments],
            env=environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return GateRun(done.returncode, done.stderr, json.loads(done.stdout) if done.stdout else {})

    return run


def apply(client: Client, statements: Iterable[str]) -> None:
    for statement in statements:
        client.command(statement)


def every_check(settings: Settings, layer: str) -> set[tuple[str, str, str]]:
    return {
        (suite.name, check.name, check.column)
        for suite in select_suites(settings, layers=[layer])
        for check in suite.checks
        if check.name != EMPTY_ONLY
    }


def test_gate_is_open_when_rows_are_good(
    client: Client, check: Check, quality_settings: Settings
) -> None:
    rows.fill_raw(client)
    apply(client, rows.BUILD_STAGING)
    apply(client, rows.BUILD_MARTS)

    run = check("--run-id", "good")

    assert run.failing == set()
    assert run.exit_code == 0
    assert run.result["is_open"]
    suites = all_suites(quality_settings)
    assert set(run.result["suites"]) == set(suites)
    assert run.result["passed"] == sum(len(suite.checks) for suite in suites.values())
    stored = client.query(
        "select count(), countIf(success), uniqExact(suite) from governance.quality_results"
        " where run_id = 'good'"
    ).first_row
    assert stored == (run.result["passed"], run.result["passed"], len(suites))
    # four weeks of ten events in this hour, and ten now
    volume = run.outcome("raw__events", "volume_is_usual")
    assert volume["observed"].startswith("10 events")
    assert volume["expected"] == "5 to 15"


def test_pages_are_built_when_a_gate_ran(
    client: Client, check: Check, quality_settings: Settings
) -> None:
    rows.fill_raw(client)

    check("raw__dead_letters", "--run-id", "pages")

    docs = quality_settings.state_dir / "data_docs"
    assert "raw__dead_letters" in (docs / "index.html").read_text()
    pages = list((docs / "validations" / "raw__dead_letters" / "pages").rglob("*.html"))
    assert len(pages) == 1
    assert "malformed_json" in pages[0].read_text()
    password = quality_settings.warehouse.password.get_secret_value()
    written = [p for p in quality_settings.state_dir.joinpath("quality").rglob("*") if p.is_file()]
    assert written
    assert not [p for p in [*written, *docs.rglob("*.html")] if password in p.read_text()]


def test_every_check_fails_when_raw_rows_are_bad(
    client: Client, check: Check, quality_settings: Settings
) -> None:
    rows.fill_raw(client, landed_hours_ago=3)
    apply(client, rows.BREAK_RAW)
    try:
        run = check("--layer", "raw", "--run-id", "bad-raw")
    finally:
        apply(client, rows.MEND_RAW)

    assert every_check(quality_settings, "raw") - run.failing == set()
    assert run.exit_code == 1
    assert not run.result["is_open"]
    assert (
        "ERROR raw__events: offset_is_unique on raw.events._topic, _partition, _offset:"
        " observed 1 violations, expected one row for each _topic, _partition, _offset" in run.log
    )
    assert f"_topic={rows.TOPIC}, _partition=0, _offset=59, copies=2" in run.log
    assert "expect_column_values_to_be_in_set on raw.events.channel: observed 1 of" in run.log
    assert "column_name=surprise" in run.log
    stored = client.query(
        "select countIf(not success and severity = 'error') from governance.quality_results"
        " where run_id = 'bad-raw'"
    ).first_row
    assert stored[0] > 15


def test_every_check_fails_when_staging_rows_are_bad(
    client: Client, check: Check, quality_settings: Settings
) -> None:
    rows.fill_raw(client)
    apply(client, rows.BUILD_STAGING)
    apply(client, rows.BREAK_STAGING)

    run = check("--layer", "staging")

    assert every_check(quality_settings, "staging") - run.failing == set()
    assert run.exit_code == 1
    known = run.outcome("staging__stg_raw__events", "campaign_id_is_known")
    assert (known["observed"], known["message"]) == (
        "1 of 2 ids unknown",
        "for example c-unknown",
    )


def test_every_check_fails_when_mart_rows_are_bad(
    client: Client, check: Check, quality_settings: Settings
) -> None:
    rows.fill_raw(client)
    client.command(
        "alter table raw.events update landed_at = landed_at - toIntervalHour(5)"
        " where _offset < 50 settings mutations_sync = 2"
    )
    apply(client, rows.BUILD_STAGING)
    apply(client, rows.BUILD_MARTS)
    apply(client, rows.BREAK_MARTS)

    run = check("--layer", "marts")

    assert every_check(quality_settings, "marts") - run.failing == set()
    assert run.exit_code == 1


def test_gate_stays_open_when_only_warnings_fail(client: Client, check: Check) -> None:
    rows.clear_raw(client)

    run = check("--layer", "raw")

    assert run.exit_code == 0
    assert run.result["is_open"]
    assert {name for _, name, _ in run.failing} == {EMPTY_ONLY, "is_fresh"}
    assert "WARNING raw__events: is_fresh" in run.log
    share = run.outcome("raw__dead_letters", "share_is_bearable")
    assert share["success"]
    assert share["message"] == "not estimable: fewer than 1000 events"


def test_volume_is_not_estimable_when_history_is_short(client: Client, check: Check) -> None:
    rows.fill_raw(client)
    client.command(
        "alter table raw.events delete where occurred_at < now() - toIntervalWeek(2)"
        " settings mutations_sync = 2"
    )

    run = check("raw__events")

    volume = run.outcome("raw__events", "volume_is_usual")
    assert volume["success"]
    assert volume["expected"] == "not estimable"
    assert volume["message"] == "not estimable: 1 of 3 weeks of history"
    assert "NOTE raw__events: volume_is_usual: not estimable" in run.log


def test_check_that_cannot_run_fails_when_its_table_is_missing(
    client: Client, check: Check
) -> None:
    apply(client, ["create database if not exists marts", "drop table if exists marts.dim_users"])

    run = check("marts__dim_users")

    assert run.exit_code == 1
    assert {o["observed"] for o in run.result["outcomes"]} == {"not checked"}
    assert "marts.dim_users" in run.log


def test_gate_cannot_run_when_suite_is_unknown(check: Check) -> None:
    run = check("raw__unicorns")

    assert run.exit_code == 2
    assert "no suite raw__unicorns; known: raw__dead_letters, raw__events" in run.log


def test_gate_cannot_run_when_layer_is_unknown(check: Check) -> None:
    run = check("--layer", "bronze")

    assert run.exit_code == 2
    assert "no layer bronze; known: raw, staging, marts" in run.log


def test_gate_cannot_run_when_warehouse_is_down(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, check: Check
) -> None:
    port = free_ports(1)[0]
    monkeypatch.setitem(environment, "HERALD_WAREHOUSE__PORT", str(port))

    run = check("raw__events")

    assert run.exit_code == 2
    assert f"warehouse at 127.0.0.1:{port} does not answer" in run.log


def test_report_says_what_fails_and_what_was_refused(
    client: Client, check: Check, tmp_path: Path
) -> None:
    client.command("truncate table governance.quality_results")
    rows.fill_raw(client)
    client.command(
        "insert into raw.dead_letters (topic, partition, offset, error_class, error_message,"
        f" contract_version, landed_at) values ('{rows.TOPIC}', 0, 60, 'tired', '<b>x</b>', '1.0',"
        " now64(3))"
    )
    check("--layer", "raw")
    now = datetime.now(UTC)

    report = build_report(client, now=now, since=now - timedelta(hours=1))
    files = write_report(report, tmp_path / "reports")

    assert {f["expectation"] for f in report["failing"]} == {
        "expect_column_values_to_be_in_set",
        "offset_is_unique",
        "dead_letters_are_there",
    }
    assert report["summary"]["errors"] == 3
    assert [(d["error_class"], d["dead_letters"]) for d in report["dead_letters"]] == [
        ("malformed_json", 1),
        ("tired", 1),
    ]
    events = {r["topic"]: r for r in report["reconciliation"]}[rows.TOPIC]
    assert (events["produced"], events["stored"], events["dead_lettered"]) == (61, 60, 1)
    assert (events["difference"], events["lag"]) == (0, 0)
    assert report["trend"][-1]["errors"] == 3
    page = files.html.read_text()
    assert "&lt;b&gt;x&lt;/b&gt;" in page
    assert "<b>x</b>" not in page
    assert json.loads(files.json.read_text()) == report


def test_report_command_writes_both_files_when_asked(
    client: Client, environment: dict[str, str], quality_settings: Settings
) -> None:
    rows.fill_raw(client)

    done = subprocess.run(
        [sys.executable, "-m", "herald.cli.main", "quality", "report", "--json"],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    paths = json.loads(done.stdout)
    assert Path(paths["html"]).parent == quality_settings.state_dir / "reports"
    assert "Data quality" in Path(paths["html"]).read_text()
    assert json.loads(Path(paths["json"]).read_text())["reconciliation"]
