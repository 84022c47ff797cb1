"""Migrations on the embedded engine in process: it speaks the same SQL as the server."""

from __future__ import annotations

from pathlib import Path

import pytest

from herald.settings import ROOT, Retention
from herald.warehouse.migrations import MigrationError, read_migrations, split_statements
from herald.warehouse.retention import rules


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT 1; SELECT 2;", ("SELECT 1", "SELECT 2")),
        ("-- a; comment\nSELECT 1 -- end;\n", ("SELECT 1",)),
        ("/* ; */ SELECT ';' AS `a;b`, \"c;d\"", ("SELECT ';' AS `a;b`, \"c;d\"",)),
        (r"SELECT 'it\'s; fine', 'it''s; too'", (r"SELECT 'it\'s; fine', 'it''s; too'",)),
        (" ;;\n ; ", ()),
    ],
)
def test_split_statements_keeps_quoted_semicolons_when_it_splits(
    sql: str, expected: tuple[str, ...]
) -> None:
    assert split_statements(sql) == expected


def test_read_migrations_finds_the_project_files_in_order() -> None:
    names = [m.name for m in read_migrations()]
    assert names == sorted(names)
    assert [int(n[:4]) for n in names] == list(range(1, len(names) + 1))
    assert all(m.statements for m in read_migrations())


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["1_short.sql"], "1_short.sql: a migration is named"),
        (["0001_a.sql", "0001_b.sql"], r"0001_b.sql: number 0001 is taken by 0001_a.sql"),
        ([], "no migration in"),
    ],
)
def test_read_migrations_refuses_when_a_name_is_wrong(
    tmp_path: Path, names: list[str], message: str
) -> None:
    for name in names:
        (tmp_path / name).write_text("SELECT 1", encoding="utf-8")
    with pytest.raises(MigrationError, match=message):
        read_migrations(tmp_path)


def test_every_expiring_table_has_one_rule() -> None:
    tables = [rule.table for rule in rules(Retention())]
    assert len(set(tables)) == len(tables)
    assert "raw.events" in tables
    assert ROOT.is_dir()
