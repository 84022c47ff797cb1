"""From a request to what the engine runs."""

from __future__ import annotations

import re
from dataclasses import dataclass

from infra.local.clickhouse_server import querylog
from infra.local.clickhouse_server.body import Body
from infra.local.clickhouse_server.engine import READER_SETTINGS, Engine, Job
from infra.local.clickhouse_server.errors import Code, ServerError, refuse
from infra.local.clickhouse_server.request import Request
from infra.local.clickhouse_server.statement import parse_statement
from infra.local.clickhouse_server.users import User

# Statements with rows to stream; the rest answers with little or nothing
_PIPED = frozenset(
    {"SELECT", "WITH", "FROM", "SHOW", "DESCRIBE", "DESC", "EXISTS", "EXPLAIN", "CHECK"}
)
_QUERY_ID = re.compile(r"\bquery_id\b")
_SETTINGS_TABLE = re.compile(r"\bFROM\s+system\.settings\b", re.IGNORECASE)
# Clients ask which settings they may send. In the engine a readonly=1 session may change none, on
# this interface some.
_READER_SETTINGS = (
    "FROM (SELECT * REPLACE (toUInt8(NOT match(name, '^(" + READER_SETTINGS.pattern + ")$'))"
    " AS readonly) FROM system.settings) AS settings"
)


@dataclass(frozen=True, slots=True)
class Plan:
    """A job, and for a result that streams, the text around its output clause."""

    job: Job
    source: str = ""
    tail: str = ""
    is_piped: bool = False

    def piped_sql(self, writer: int, encoding: str) -> str:
        """The statement, writing its result to a descriptor of this process."""
        packed = f" COMPRESSION '{encoding}'" if encoding else ""
        return (
            f"{self.source}{querylog.OUTPUT_CLAUSE}{writer}' TRUNCATE{packed}\n"
            f"FORMAT {self.job.format} {self.tail}"
        )


def make_plan(request: Request, user: User, body: Body, engine: Engine, max_seconds: int) -> Plan:
    """Decide how to run a request. Raises ServerError for what may not run at all."""
    job = _job(request, user, body, max_seconds)
    if body.insert is not None and body.rows is not None:
        if user.is_reader:
            raise _read_only(user)
        job.sql = body.insert.from_file(body.rows.path, body.rows_encoding)
        return Plan(job)
    statement = parse_statement(body.text)
    if not statement.body:
        raise refuse(Code.SYNTAX_ERROR, "Syntax error: Empty query")
    if statement.uses_server_files:
        raise refuse(
            Code.NOT_IMPLEMENTED, "INTO OUTFILE and FROM INFILE work in clients, not over HTTP"
        )
    try:
        job.sql = body.text.decode()
    except UnicodeDecodeError as error:
        raise refuse(Code.INCORRECT_DATA, f"the statement is not UTF-8: {error}") from None
    job.format = statement.format or request.format
    verdict = engine.classify(job.sql)
    if verdict.statements > 1:
        raise refuse(Code.SYNTAX_ERROR, "Syntax error (Multi-statements are not allowed)")
    if verdict.statements and user.is_reader and not verdict.is_read_only:
        raise _read_only(user)
    if statement.verb == "KILL":
        job.sql = _QUERY_ID.sub(lambda _: querylog.KILL_ID, job.sql)
    if not verdict.statements or statement.verb not in _PIPED:
        return Plan(job)
    source = statement.body.decode()
    if user.is_reader:
        source = _SETTINGS_TABLE.sub(lambda _: _READER_SETTINGS, source)
    return Plan(job, source, statement.settings.decode(), is_piped=True)


def _job(request: Request, user: User, body: Body, max_seconds: int) -> Job:
    if user.is_reader and request.role:
        raise refuse(
            Code.SET_NON_GRANTED_ROLE, f"Role {request.role} is not granted to {user.name}"
        )
    settings = dict(request.settings)
    limit = settings.get("max_execution_time", "")
    if not limit or (user.is_reader and not _within(limit, max_seconds)):
        settings["max_execution_time"] = str(max_seconds)
    comment = querylog.facts(
        request.query_id,
        user.name,
        request.address,
        request.agent,
        settings.pop("log_comment", ""),
    )
    return Job(
        sql="",
        format=request.format,
        user=user.name,
        is_reader=user.is_reader,
        comment=comment,
        database=request.database,
        role=request.role,
        settings=settings,
        params=request.params | body.params,
        external=body.external,
    )


def _within(text: str, limit: int) -> bool:
    try:
        return 0 < float(text) <= limit
    except ValueError:
        return False


def _read_only(user: User) -> ServerError:
    return refuse(Code.READONLY, f"{user.name}: Cannot execute query in readonly mode.")
