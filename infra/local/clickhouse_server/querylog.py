"""`system.query_log` with the users and query ids of the HTTP clients.

Inside the engine every query runs as its one user under an id of its own. So each query carries
the facts of its HTTP request in `log_comment`, the engine logs into `engine_query_log`, and the
view `system.query_log` puts the facts back in their columns.
"""

from __future__ import annotations

ENGINE_TABLE = "engine_query_log"
OUTPUT_CLAUSE = "\nINTO OUTFILE '/proc/self/fd/"
"""What the server puts behind a query to stream it; the view takes it off again."""

_SEPARATOR = "\x1f"
_FACT = "splitByChar('\x1f', log_comment)[{}]"

VIEW = (
    "CREATE OR REPLACE VIEW system.query_log DEFINER = default SQL SECURITY DEFINER AS "
    "SELECT * REPLACE ("
    f"{_FACT.format(1)} AS query_id, {_FACT.format(1)} AS initial_query_id, "
    f"{_FACT.format(2)} AS user, {_FACT.format(2)} AS initial_user, "
    f"toIPv6OrDefault({_FACT.format(3)}) AS address, "
    f"toIPv6OrDefault({_FACT.format(3)}) AS initial_address, "
    f"{_FACT.format(4)} AS http_user_agent, {_FACT.format(5)} AS log_comment, "
    "toUInt8(2) AS interface, "
    r"replaceRegexpOne(query, '\\nINTO OUTFILE \'[^\']*\' TRUNCATE[^\\n]*\\n', '\n') AS query"
    f") FROM system.{ENGINE_TABLE} WHERE position(log_comment, '{_SEPARATOR}') > 0"
)

KILL_ID = "splitByChar('\x1f', Settings['log_comment'])[1]"
"""The client's query id in `system.processes`."""


def facts(query_id: str, user: str, address: str, agent: str, comment: str) -> str:
    """The `log_comment` of a query; the client's own comment comes last."""
    parts = (query_id, user, address, agent, comment)
    return _SEPARATOR.join(part.replace(_SEPARATOR, " ") for part in parts)
