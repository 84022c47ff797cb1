"""`system.query_log` with the users and query ids of the HTTP clients, kept over restarts.

Inside the engine every query runs as its one user under an id of its own, and what lies in its
`system` database is gone when it stops. So each query carries the facts of its HTTP request in
`log_comment`; the engine logs into `system.engine_query_log`; a materialized view puts the facts
back in their columns and the rows into `server_logs.query_log`, which `system.query_log` shows.
"""

from __future__ import annotations

import time
from collections.abc import Callable

ENGINE_TABLE = "engine_query_log"
OUTPUT_CLAUSE = "\nINTO OUTFILE '/proc/self/fd/"
"""What the server puts behind a query to stream it; the view takes it off again."""

COMMENT_OFF = "log_comment = DEFAULT"
"""First assignment of the statements that clean a session up; they are not logged."""

_SEPARATOR = "\x1f"
_FACT = "splitByChar('\x1f', log.log_comment)[{}]"
_ROWS = (
    "SELECT * REPLACE ("
    f"{_FACT.format(1)} AS query_id, {_FACT.format(1)} AS initial_query_id, "
    f"{_FACT.format(2)} AS user, {_FACT.format(2)} AS initial_user, "
    f"toIPv6OrDefault({_FACT.format(3)}) AS address, "
    f"toIPv6OrDefault({_FACT.format(3)}) AS initial_address, "
    f"{_FACT.format(4)} AS http_user_agent, {_FACT.format(5)} AS log_comment, "
    "toUInt8(2) AS interface, "
    r"replaceRegexpOne(log.query, '\\nINTO OUTFILE \'[^\']*\' TRUNCATE[^\\n]*\\n', '\n') AS query"
    f") FROM system.{ENGINE_TABLE} AS log WHERE position(log.log_comment, '{_SEPARATOR}') > 0 "
    f"AND NOT startsWith(log.query, 'SET {COMMENT_OFF}')"
)
_COLUMNS = (
    "SELECT arraySort(groupArray((name, type))) FROM system.columns "
    "WHERE database = 'server_logs' AND table = '{}'"
)


def start(run: Callable[[str], str], keep_days: int) -> None:
    """Set the log up, once at each start.

    Args:
        run: executes a statement and returns its result as text.
        keep_days: how long rows are kept.
    """
    run("CREATE DATABASE IF NOT EXISTS server_logs")
    run("SYSTEM FLUSH LOGS")  # makes the engine's table
    run("DROP TABLE IF EXISTS server_logs.query_log_now")
    run(_table("query_log_now", keep_days))
    kept = run(_COLUMNS.format("query_log"))
    if kept not in ("[]", run(_COLUMNS.format("query_log_now"))):
        # an earlier engine version made it, with other columns
        run(f"RENAME TABLE server_logs.query_log TO server_logs.query_log_until_{time.time():.0f}")
    run("DROP TABLE server_logs.query_log_now")
    run(_table("query_log", keep_days))
    run(f"CREATE MATERIALIZED VIEW system.query_log_rows TO server_logs.query_log AS {_ROWS}")
    run(
        "CREATE VIEW system.query_log DEFINER = default SQL SECURITY DEFINER AS "
        "SELECT * FROM server_logs.query_log"
    )


def _table(name: str, keep_days: int) -> str:
    return (
        f"CREATE TABLE IF NOT EXISTS server_logs.{name} ENGINE = MergeTree "
        "PARTITION BY toYYYYMM(event_date) ORDER BY (event_date, event_time) "
        f"TTL event_date + INTERVAL {keep_days} DAY EMPTY AS {_ROWS}"
    )


KILL_ID = "splitByChar('\x1f', Settings['log_comment'])[1]"
"""The client's query id in `system.processes`."""


def facts(query_id: str, user: str, address: str, agent: str, comment: str) -> str:
    """The `log_comment` of a query; the client's own comment comes last."""
    parts = (query_id, user, address, agent, comment)
    return _SEPARATOR.join(part.replace(_SEPARATOR, " ") for part in parts)
