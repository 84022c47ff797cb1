"""The engine: one connection a query, opened in 0.2 ms, so that nothing leaks between queries.

A connection gets the query's settings and, for the reader, its role and `readonly=1` before the
query itself, all enforced by the engine. Results go from the engine into a pipe, already in the
client's format and compression; the interpreter never touches them.
"""

from __future__ import annotations

import contextlib
import json
import re
from dataclasses import dataclass, field
from typing import Any

import chdb

from infra.local.clickhouse_server import querylog
from infra.local.clickhouse_server.config import READER_ROLE, EnginePaths
from infra.local.clickhouse_server.errors import ServerError, engine_error

READER_SETTINGS = re.compile(
    r"max_execution_time|max_threads|max_result_(rows|bytes)|result_overflow_mode|log_comment"
    r"|max_rows_to_read|max_bytes_to_read|read_overflow_mode|timeout_overflow_mode|extremes"
    r"|max_block_size|join_use_nulls|session_timezone|readonly|(input|output)_format_\w+"
    r"|date_time_\w+|use_query_cache|query_cache_\w+|async_insert|allow_experimental_json_type"
)
"""What the reader may set through the URL; anything else meets `readonly=1` in the engine."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a finished query read and wrote: rows, bytes, seconds. `data` is set without a pipe."""

    data: bytes = b""
    read_rows: int = 0
    read_bytes: int = 0
    written_rows: int = 0
    written_bytes: int = 0
    result_rows: int = 0
    result_bytes: int = 0
    seconds: float = 0.0


@dataclass(slots=True)
class Job:
    """What to run, as whom. `sql` is final: clauses for rows and output are in it."""

    sql: str
    format: str
    user: str
    is_reader: bool
    comment: str
    database: str = ""
    role: str = ""
    settings: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    external: list[str] = field(default_factory=list)
    """Statements that make the query's external tables."""


def quote(text: str) -> str:
    """A SQL string literal."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def quote_name(text: str) -> str:
    """A SQL identifier."""
    return "`" + text.replace("\\", "\\\\").replace("`", "\\`") + "`"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the engine's parser says of a statement."""

    statements: int
    is_read_only: bool


class Engine:
    """The data folder of one process. Methods may be called from any thread."""

    def __init__(self, paths: EnginePaths) -> None:
        self._dsn = paths.dsn
        self._keep = chdb._chdb.connect(self._dsn)
        self.version = self._scalar("SELECT version()")
        self.timezone = self._scalar("SELECT timezone()")
        self.host = self._scalar("SELECT hostName()")
        querylog.start(self._scalar, paths.log_days)

    def _scalar(self, sql: str) -> str:
        data: bytes = self._keep.query(sql, "TSVRaw").bytes()
        return data.decode().strip()

    def stop_queries(self) -> None:
        """Kill everything that runs."""
        self._scalar("KILL QUERY WHERE query_id != queryID() ASYNC FORMAT Null")

    def close(self) -> None:
        """Write the logs out and let go of the data folder."""
        self._scalar("SYSTEM FLUSH LOGS")
        self._keep.close()

    def connect(self) -> Any:
        """A connection for a session; the caller closes it."""
        return chdb._chdb.connect(self._dsn)

    def classify(self, sql: str) -> Verdict:
        """Parse without running. No statement is found where the syntax is wrong."""
        found = self._keep.classify_query(sql)
        return Verdict(found["statement_count"], found["query_class"].name == "READ_ONLY")

    def kill(self, comment: str) -> None:
        """Stop the query that carries this log comment, if it runs."""
        connection = self.connect()
        try:
            connection.query(
                f"KILL QUERY WHERE Settings['log_comment'] = {quote(comment)} ASYNC", "TSV"
            )
        finally:
            connection.close()

    def run(self, job: Job, session: Any = None) -> Cost:
        """Run a job to its end, in a session's connection or in one of its own.

        Raises:
            ServerError: the engine's error.
        """
        connection = session or self.connect()
        undo: list[str] = []
        try:
            if session:
                undo = _undo(connection, job)
            prelude = _prelude(job)
            connection.query(prelude, "TSV")
            result = connection.query(job.sql, job.format, params=job.params)
            if result.has_error():
                raise self.error(result.error_message(), job.user)
            return Cost(
                result.bytes() if result.size() else b"",
                result.storage_rows_read(),
                result.storage_bytes_read(),
                result.rows_written(),
                result.bytes_written(),
                result.rows_read(),
                result.bytes_read(),
                result.elapsed(),
            )
        except RuntimeError as error:
            raise self.error(str(error), job.user) from None
        finally:
            if session:
                for step in undo:
                    # the database that was current before may be gone by now
                    with contextlib.suppress(RuntimeError):
                        connection.query(step, "TSV")
            else:
                connection.close()

    def error(self, text: str, user: str) -> ServerError:
        """The engine's message as a client sees it."""
        return engine_error(text, user, self.version)


def _prelude(job: Job) -> str:
    """Statements before the query: tables, database, settings, then the reader's chains."""
    steps = list(job.external)
    if job.database:
        steps.append(f"USE {quote_name(job.database)}")
    # the comment is set last, so that none of these statements gets into the query log
    if not job.is_reader:
        if job.role:
            steps.append(f"SET ROLE {quote_name(job.role)}")
        steps.append(_set({**job.settings, "log_comment": job.comment}))
        return ";".join(steps)
    allowed = {k: v for k, v in job.settings.items() if READER_SETTINGS.fullmatch(k)}
    refused = {k: v for k, v in job.settings.items() if k not in allowed}
    chains = {**allowed, "readonly": "1", "log_comment": job.comment}
    steps += [f"SET ROLE {READER_ROLE}", _set(chains)]
    if refused:
        steps.append(_set(refused))
    return ";".join(steps)


def _set(settings: dict[str, str]) -> str:
    return "SET " + ", ".join(f"{name} = {quote(value)}" for name, value in settings.items())


def _undo(connection: Any, job: Job) -> list[str]:
    """Statements that give a session the settings and database back that its query changes.

    Settings in the URL are those of one query; only SET and USE of the client itself stay.
    """
    names = ", ".join(quote(name) for name in ("", *job.settings))
    rows = (
        connection.query(
            "SELECT name, value, changed FROM system.settings WHERE name IN "
            f"({names}) UNION ALL SELECT '', currentDatabase(), 0",
            "JSONCompactEachRow",
        )
        .bytes()
        .decode()
    )
    steps = []
    for line in rows.splitlines():
        name, value, changed = json.loads(line)
        if name:
            steps.append(f"SET {name} = {quote(value) if changed else 'DEFAULT'}")
        elif job.database:
            steps.append(f"USE {quote_name(value)}")
    # first: what follows has no comment then, so the log leaves it out
    return [f"SET {querylog.COMMENT_OFF}", *steps]
