"""Migrations, retention and their command line against a running warehouse."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from clickhouse_connect.driver.client import Client

from herald.settings import Retention, Settings
from herald.warehouse import migrations
from herald.warehouse.client import connect
from herald.warehouse.migrations import MigrationError, migrate, migration_status
from herald.warehouse.retention import apply_retention


@pytest.fixture
def folder(tmp_path: Path, warehouse: Client, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of migrations with a ledger of its own."""
    monkeypatch.setattr(migrations, "LEDGER", "migrations_test.ledger")
    monkeypatch.setattr(migrations, "LOCK", "migrations_test.lock")
    warehouse.command("CREATE DATABASE migrations_test")
    write(tmp_path, "0001_first.sql", "CREATE TABLE migrations_test.a (x UInt8) ENGINE = Memory;")
    yield tmp_path
    warehouse.command("DROP DATABASE migrations_test SYNC")


def write(folder: Path, name: str, sql: str) -> None:
    (folder / name).write_text(sql, encoding="utf-8")


def states(warehouse: Client, folder: Path) -> dict[str, str]:
    return {s.name: s.state for s in migration_status(warehouse, folder)}


def test_migrate_does_nothing_when_run_twice(warehouse: Client, folder: Path) -> None:
    assert states(warehouse, folder) == {"0001_first.sql": "pending"}
    assert migrate(warehouse, folder=folder) == ["0001_first.sql"]
    assert migrate(warehouse, folder=folder) == []
    assert states(warehouse, folder) == {"0001_first.sql": "applied"}


def test_migrate_refuses_naming_the_file_when_it_changed_or_vanished(
    warehouse: Client, folder: Path
) -> None:
    migrate(warehouse, folder=folder)
    write(folder, "0001_first.sql", "CREATE TABLE migrations_test.b (x UInt8) ENGINE = Memory")
    with pytest.raises(MigrationError, match=r"0001_first.sql: changed .*restore the file"):
        migrate(warehouse, folder=folder)
    (folder / "0001_first.sql").rename(folder / "0002_second.sql")
    with pytest.raises(MigrationError, match=r"0001_first.sql: missing"):
        migrate(warehouse, folder=folder)


def test_migrate_reports_and_resumes_when_a_file_is_half_applied(
    warehouse: Client, folder: Path
) -> None:
    write(
        folder,
        "0002_second.sql",
        "CREATE TABLE migrations_test.b (x UInt8) ENGINE = Memory;\n"
        "INSERT INTO migrations_test.c VALUES (1);\n"
        "CREATE TABLE migrations_test.d (x UInt8) ENGINE = Memory;",
    )
    with pytest.raises(MigrationError, match=r"0002_second.sql: statement 2 of 3 failed"):
        migrate(warehouse, folder=folder)
    assert states(warehouse, folder)["0002_second.sql"] == "half_applied"
    with pytest.raises(MigrationError, match=r"half_applied \(1 of 3 statements recorded\)"):
        migrate(warehouse, folder=folder)
    warehouse.command("CREATE TABLE migrations_test.c (x UInt8) ENGINE = Memory")
    assert migrate(warehouse, folder=folder, resume=True) == ["0002_second.sql"]
    assert warehouse.query("SELECT x FROM migrations_test.c").result_rows == [(1,)]
    assert set(states(warehouse, folder).values()) == {"applied"}


def test_migrate_applies_each_file_once_when_runs_race(
    settings: Settings, folder: Path, warehouse: Client
) -> None:
    write(
        folder,
        "0002_second.sql",
        "SELECT sleep(0.5); CREATE TABLE migrations_test.b (x UInt8) ENGINE = Memory",
    )
    with ThreadPoolExecutor(3) as pool:
        runs = list(
            pool.map(lambda _: migrate(connect(settings.warehouse), folder=folder), range(3))
        )
    assert sorted(name for run in runs for name in run) == ["0001_first.sql", "0002_second.sql"]


def test_migrate_says_who_holds_the_lock_when_it_does_not_come_free(
    warehouse: Client, folder: Path
) -> None:
    warehouse.command("CREATE TABLE migrations_test.lock (x UInt8) ENGINE = Memory COMMENT 'me'")
    with pytest.raises(MigrationError, match=r"another run holds the lock .*\(me\)"):
        migrate(warehouse, folder=folder, lock_wait_seconds=0.3)


def test_migrate_takes_a_stale_lock_over_when_its_holder_died(
    warehouse: Client, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations, "LOCK_STALE_SECONDS", -1)
    warehouse.command("CREATE TABLE migrations_test.lock (x UInt8) ENGINE = Memory")
    assert migrate(warehouse, folder=folder) == ["0001_first.sql"]


def test_retention_follows_the_settings_when_they_change(warehouse: Client) -> None:
    default = Retention()
    apply_retention(warehouse, default)
    changed = apply_retention(warehouse, Retention(events_days=30, dead_letters_days=0))
    assert {r["table"] for r in changed if r["outcome"] == "changed"} == {
        "raw.events",
        "raw.dead_letters",
        "live.events_hour",
    }
    assert " TTL " not in str(
        warehouse.command("SELECT engine_full FROM system.tables WHERE name = 'dead_letters'")
    )
    back = apply_retention(warehouse, default)
    assert [r["outcome"] for r in back if r["table"] == "raw.events"] == ["changed"]
    assert "changed" not in {r["outcome"] for r in apply_retention(warehouse, default)}


def herald(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "herald.cli.main", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_commands_print_json_when_asked(
    warehouse: Client, herald_environment: dict[str, str]
) -> None:
    done = herald(herald_environment, "migrate", "--json")
    assert done.returncode == 0, done.stderr
    assert {row["state"] for row in json.loads(done.stdout)} == {"applied"}
    assert not any(row["now"] for row in json.loads(done.stdout))
    kept = herald(herald_environment, "retention", "apply", "--json")
    assert {row["table"] for row in json.loads(kept.stdout)} >= {"raw.events"}
    letters = herald(herald_environment, "dead-letters", "list", "--since", "1h", "--json")
    assert isinstance(json.loads(letters.stdout), list)
    wrong = herald(herald_environment, "dead-letters", "list", "--class", "odd")
    assert (wrong.returncode, "class 'odd': no such class" in wrong.stderr) == (1, True)
    wrong = herald(herald_environment, "dead-letters", "replay", "--fix-up", "$uppercase(")
    assert (wrong.returncode, "fix" in wrong.stderr) == (1, True), wrong.stderr
