"""Applies the numbered SQL files of `infra/clickhouse/migrations`, each exactly once.

`governance.schema_migrations` is the ledger: a row when a file starts and one for each statement
that succeeded. ClickHouse has no transactional DDL, so a run that died leaves a file between two
statements; the ledger knows between which, and `resume` goes on from there.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from herald.settings import ROOT

FOLDER = ROOT / "infra" / "clickhouse" / "migrations"
LEDGER = "governance.schema_migrations"
LOCK = "governance.schema_migrations_lock"
LOCK_WAIT_SECONDS = 60.0
LOCK_STALE_SECONDS = 300

_NAME = re.compile(r"^(\d{4})_[a-z0-9_]+\.sql$")
_TOKEN = re.compile(
    r"""(?P<skip>--[^\n]*|/\*.*?\*/)|(?P<keep>'(?:\\.|''|[^'\\])*'|`[^`]*`|"[^"]*")|(?P<end>;)""",
    re.DOTALL,
)
_TABLE_EXISTS = "TABLE_ALREADY_EXISTS"


class MigrationError(Exception):
    """Migrations cannot go on; the message names the file and the remedy."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered file."""

    name: str
    checksum: str
    statements: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Recorded:
    """What the ledger knows of one file: statements done out of how many."""

    checksum: str
    done: int
    of: int


@dataclass(frozen=True, slots=True)
class MigrationStatus:
    """State of one file: `applied`, `pending`, `half_applied`, `changed` or `missing`."""

    name: str
    state: str
    detail: str = ""


def split_statements(sql: str) -> tuple[str, ...]:
    """Statements of a script, without comments; semicolons inside quotes do not split."""
    statements: list[str] = []
    current: list[str] = []
    position = 0
    for match in _TOKEN.finditer(sql):
        current.append(sql[position : match.start()])
        position = match.end()
        if match["keep"]:
            current.append(match["keep"])
        elif match["skip"]:
            current.append(" ")
        elif match["end"]:
            statements.append("".join(current).strip())
            current = []
    statements.append(("".join(current) + sql[position:]).strip())
    return tuple(s for s in statements if s)


def read_migrations(folder: Path = FOLDER) -> list[Migration]:
    """Every file of the folder in order. Raises MigrationError on a bad or doubled number."""
    numbers: dict[str, str] = {}
    found = []
    for path in sorted(folder.glob("*.sql")):
        match = _NAME.match(path.name)
        if match is None:
            raise MigrationError(f"{path.name}: a migration is named 0007_add_something.sql")
        if (other := numbers.setdefault(match[1], path.name)) != path.name:
            raise MigrationError(
                f"{path.name}: number {match[1]} is taken by {other}; take the next"
            )
        text = path.read_text(encoding="utf-8")
        found.append(
            Migration(path.name, hashlib.sha256(text.encode()).hexdigest(), split_statements(text))
        )
    if not found:
        raise MigrationError(f"no migration in {folder}")
    return found


def migration_status(client: Client, folder: Path = FOLDER) -> list[MigrationStatus]:
    """State of every file and of every recorded name, in order; changes nothing."""
    return _compare(read_migrations(folder), _recorded(client))


def migrate(
    client: Client,
    *,
    folder: Path = FOLDER,
    resume: bool = False,
    lock_wait_seconds: float = LOCK_WAIT_SECONDS,
) -> list[str]:
    """Apply what is pending and return the names of the files applied; twice is a no-op.

    Args:
        client: a writer.
        folder: where the numbered files are.
        resume: go on with a half-applied file after the last statement that is known to have
            succeeded. The one after it may have run too, without being recorded: look first.
        lock_wait_seconds: how long to wait for another run.

    Raises:
        MigrationError: a file was changed or removed after it was applied, one is half-applied,
            a statement failed, or another run holds the lock.
    """
    migrations = read_migrations(folder)
    _create_ledger(client)
    if _nothing_to_do(_compare(migrations, _recorded(client))):
        return []
    with _lock(client, lock_wait_seconds):
        # read again under the lock: another run may just have applied them
        recorded = _recorded(client)
        _refuse(_compare(migrations, recorded), resume=resume)
        applied = []
        for migration in migrations:
            row = recorded.get(migration.name)
            done = row.done if row else 0
            if row and row.done >= row.of:
                continue
            _apply(client, migration, done)
            applied.append(migration.name)
        return applied


def _apply(client: Client, migration: Migration, done: int) -> None:
    if done == 0:
        _record(client, migration, 0)
    for number, statement in enumerate(migration.statements[done:], start=done + 1):
        try:
            client.command(statement)
        except ClickHouseError as error:
            raise MigrationError(
                f"{migration.name}: statement {number} of {len(migration.statements)} failed: "
                f"{str(error).splitlines()[0]}\n  {statement.splitlines()[0]} ...\n"
                f"Mend the cause, then `herald migrate --resume`."
            ) from error
        _record(client, migration, number)


def _record(client: Client, migration: Migration, done: int) -> None:
    client.insert(
        LEDGER,
        [[migration.name, migration.checksum, done, len(migration.statements)]],
        column_names=["name", "checksum", "statements_done", "statements"],
        settings={"async_insert": 0},
    )


def _recorded(client: Client) -> dict[str, Recorded]:
    if not _exists(client, LEDGER):
        return {}
    rows = client.query(
        f"SELECT name, argMax(checksum, statements_done), max(statements_done), any(statements) "
        f"FROM {LEDGER} GROUP BY name ORDER BY name"
    ).result_rows
    return {str(n): Recorded(str(c), int(d), int(o)) for n, c, d, o in rows}


def _compare(
    migrations: Sequence[Migration], recorded: Mapping[str, Recorded]
) -> list[MigrationStatus]:
    result = []
    for migration in migrations:
        row = recorded.get(migration.name)
        if row is None:
            result.append(MigrationStatus(migration.name, "pending"))
        elif row.checksum != migration.checksum:
            result.append(
                MigrationStatus(
                    migration.name,
                    "changed",
                    f"applied with sha256 {row.checksum[:12]}, the file now has "
                    f"{migration.checksum[:12]}",
                )
            )
        elif row.done < row.of:
            result.append(
                MigrationStatus(
                    migration.name, "half_applied", f"{row.done} of {row.of} statements recorded"
                )
            )
        else:
            result.append(MigrationStatus(migration.name, "applied"))
    known = {m.name for m in migrations}
    result += [
        MigrationStatus(name, "missing", "applied, but the file is gone")
        for name in recorded
        if name not in known
    ]
    return result


def _nothing_to_do(status: Sequence[MigrationStatus]) -> bool:
    return all(s.state == "applied" for s in status)


def _refuse(status: Sequence[MigrationStatus], *, resume: bool) -> None:
    remedies = {
        "changed": "restore the file from version control and put the change into a new number",
        "missing": "restore the file from version control",
        "half_applied": "an earlier run died in it; check what exists, then "
        "`herald migrate --resume`",
    }
    problems = [
        f"{s.name}: {s.state} ({s.detail}): {remedies[s.state]}"
        for s in status
        if s.state in remedies and not (resume and s.state == "half_applied")
    ]
    if problems:
        raise MigrationError("migrations refused:\n  " + "\n  ".join(problems))


def _create_ledger(client: Client) -> None:
    client.command("CREATE DATABASE IF NOT EXISTS governance")
    client.command(
        f"""CREATE TABLE IF NOT EXISTS {LEDGER}
(
    `name` String,
    `checksum` String,
    `statements_done` UInt16,
    `statements` UInt16,
    `recorded_at` DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC')
)
ENGINE = MergeTree
ORDER BY (name, statements_done)"""
    )


@contextmanager
def _lock(client: Client, wait_seconds: float) -> Iterator[None]:
    """Hold the lock: CREATE TABLE without IF NOT EXISTS succeeds for one run only.

    KeeperMap would be the usual mutex; the embedded engine has none.
    """
    holder = f"{os.uname().nodename} process {os.getpid()}"
    deadline = time.monotonic() + wait_seconds
    while not _try_lock(client, holder):
        age, other = _lock_holder(client)
        if age > LOCK_STALE_SECONDS:
            client.command(f"DROP TABLE IF EXISTS {LOCK} SYNC")
            continue
        if time.monotonic() > deadline:
            raise MigrationError(
                f"another run holds the lock for {age:.0f} s ({other}); wait for it, or if it is "
                f"dead, `DROP TABLE {LOCK}` (taken over by itself after {LOCK_STALE_SECONDS} s)"
            )
        time.sleep(0.2)
    try:
        yield
    finally:
        client.command(f"DROP TABLE IF EXISTS {LOCK} SYNC")


def _try_lock(client: Client, holder: str) -> bool:
    try:
        client.command(
            f"CREATE TABLE {LOCK} (x UInt8) ENGINE = MergeTree ORDER BY x COMMENT '{holder}'"
        )
    except ClickHouseError as error:
        if _TABLE_EXISTS in str(error) or "already exists" in str(error):
            return False
        raise
    return True


def _lock_holder(client: Client) -> tuple[float, str]:
    database, table = LOCK.split(".")
    rows = client.query(
        "SELECT now() - metadata_modification_time, comment FROM system.tables "
        "WHERE database = {d:String} AND name = {t:String}",
        parameters={"d": database, "t": table},
    ).result_rows
    return (float(rows[0][0]), str(rows[0][1])) if rows else (0.0, "just gone")


def _exists(client: Client, name: str) -> bool:
    return bool(int(str(client.command(f"EXISTS TABLE {name}"))))
