from __future__ import annotations

import pytest

from infra.local.clickhouse_server.statement import parse_insert, parse_statement


@pytest.mark.parametrize(
    ("text", "target", "name", "rows"),
    [
        (b"INSERT INTO t FORMAT CSV\n1,2\n", b"INSERT INTO t", "CSV", b"1,2\n"),
        (b"insert into t format CSV\r\n1", b"insert into t", "CSV", b"1"),
        (b"INSERT INTO t FORMAT JSONEachRow {}", b"INSERT INTO t", "JSONEachRow", b"{}"),
        (b"INSERT INTO t FORMAT RowBinary\n\nx", b"INSERT INTO t", "RowBinary", b"\nx"),
        (b"INSERT INTO t VALUES (1)", b"INSERT INTO t", "Values", b" (1)"),
        (b"INSERT INTO db.values VALUES(1)", b"INSERT INTO db.values", "Values", b"(1)"),
        (b"INSERT INTO `format` (a) FORMAT TSV\n1", b"INSERT INTO `format` (a)", "TSV", b"1"),
        (b"INSERT INTO format FORMAT TSV\n1", b"INSERT INTO format", "TSV", b"1"),
        (b'INSERT INTO TABLE t (`a;b`, "values") FORMAT TSV\n', None, "TSV", b""),
        (b"INSERT INTO FUNCTION null('a Int8') FORMAT TSV\n1", None, "TSV", b"1"),
        (b"/* values */ INSERT INTO t -- format X\n VALUES (1)", None, "Values", b" (1)"),
        (b"INSERT INTO t FORMAT Native\n\x00'\xff`;", b"INSERT INTO t", "Native", b"\x00'\xff`;"),
        (b"INSERT INTO t VALUES ('SELECT'), (';')", b"INSERT INTO t", "Values", None),
    ],
)
def test_rows_are_found_when_they_follow_the_head(
    text: bytes, target: bytes | None, name: str, rows: bytes | None
) -> None:
    insert = parse_insert(text)
    assert insert is not None
    assert insert.format == name
    if target is not None:
        assert insert.target == target
    if rows is not None:
        assert text[insert.data_at :] == rows


def test_settings_stand_behind_the_file_when_the_head_has_some() -> None:
    insert = parse_insert(b"INSERT INTO t (a) SETTINGS async_insert = 0, x = 'VALUES' VALUES (1)")
    assert insert is not None
    assert insert.settings == b"SETTINGS async_insert = 0, x = 'VALUES'"
    assert insert.from_file("/f", "gzip") == (
        "INSERT INTO t (a)\nFROM INFILE '/f' COMPRESSION 'gzip' "
        "SETTINGS async_insert = 0, x = 'VALUES' FORMAT Values"
    )


@pytest.mark.parametrize(
    "text",
    [
        b"INSERT INTO t SELECT 1",
        b"INSERT INTO t (a) WITH x AS (SELECT 1) SELECT * FROM x",
        b"INSERT INTO t FROM INFILE 'x' FORMAT CSV",
        b"INSERT INTO t; DROP TABLE t; INSERT INTO t VALUES (1)",
        b"INSERT INTO t",
        b"INSERT INTO t FORMAT",
        b"SELECT 'INSERT INTO t VALUES (1)'",
        b"",
    ],
)
def test_no_rows_are_found_when_the_statement_has_none(text: bytes) -> None:
    assert parse_insert(text) is None


@pytest.mark.parametrize(
    ("text", "body", "name", "settings"),
    [
        (b"SELECT 1", b"SELECT 1", None, b""),
        (b"SELECT 1 FORMAT JSON", b"SELECT 1", "JSON", b""),
        (b" SELECT 1\nFORMAT Native ; ", b"SELECT 1", "Native", b""),
        (b"SELECT 1 FORMAT CSV SETTINGS a = 1", b"SELECT 1", "CSV", b"SETTINGS a = 1"),
        (b"SELECT 1 SETTINGS a = 1 FORMAT CSV", b"SELECT 1 SETTINGS a = 1", "CSV", b""),
        (b"SELECT format('{}', x) AS format", b"SELECT format('{}', x) AS format", None, b""),
        (b"SELECT ' FORMAT JSON'", b"SELECT ' FORMAT JSON'", None, b""),
        (b"SELECT 1 -- FORMAT JSON", b"SELECT 1 -- FORMAT JSON", None, b""),
        (b"SELECT (SELECT format FROM t)", b"SELECT (SELECT format FROM t)", None, b""),
        (b"SELECT format x FROM t", b"SELECT format x FROM t", None, b""),
        (b"SELECT $$ FORMAT JSON$$", b"SELECT $$ FORMAT JSON$$", None, b""),
    ],
)
def test_format_is_found_when_it_ends_the_statement(
    text: bytes, body: bytes, name: str | None, settings: bytes
) -> None:
    statement = parse_statement(text)
    assert (statement.body, statement.format, statement.settings) == (body, name, settings)


@pytest.mark.parametrize(
    ("text", "verb"),
    [
        (b"select 1", "SELECT"),
        (b" -- c\n /* d */ (( SELECT 1))", "SELECT"),
        (b"#!x\nwith a as (select 1) select 1", "WITH"),
        (b"123", ""),
    ],
)
def test_verb_is_read_when_comments_come_first(text: bytes, verb: str) -> None:
    assert parse_statement(text).verb == verb


@pytest.mark.parametrize(
    "text",
    [
        b"SELECT 1 INTO OUTFILE 'x'",
        b"SELECT 1 INTO/**/OUTFILE 'x' FORMAT CSV",
        b"(SELECT 1 into -- c\n outfile 'x')",
        b"INSERT INTO t FROM INFILE 'x' FORMAT CSV",
    ],
)
def test_server_files_are_seen_when_a_clause_is_disguised(text: bytes) -> None:
    assert parse_statement(text).uses_server_files


@pytest.mark.parametrize("text", [b"SELECT 'INTO OUTFILE'", b"SELECT infile FROM outfile"])
def test_server_files_are_not_seen_when_only_named(text: bytes) -> None:
    assert not parse_statement(text).uses_server_files
