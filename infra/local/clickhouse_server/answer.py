"""Answers: headers, whole bodies, streamed bodies, errors."""

from __future__ import annotations

import json
import secrets
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from infra.local.clickhouse_server.errors import Code, ServerError
from infra.local.clickhouse_server.request import Request

if TYPE_CHECKING:
    from infra.local.clickhouse_server.engine import Cost

Send = Callable[[dict[str, Any]], Awaitable[None]]

_TYPES = {
    "JSON": "application/json; charset=UTF-8",
    "CSV": "text/csv; charset=UTF-8; header=absent",
    "CSVWithNames": "text/csv; charset=UTF-8; header=present",
    "TabSeparated": "text/tab-separated-values; charset=UTF-8",
    "TSV": "text/tab-separated-values; charset=UTF-8",
    "XML": "application/xml; charset=UTF-8",
    "Parquet": "application/vnd.apache.parquet",
    "ArrowStream": "application/vnd.apache.arrow.stream",
    "Arrow": "application/vnd.apache.arrow.file",
}


def content_type(name: str) -> str:
    """Media type of a ClickHouse format."""
    if name in _TYPES:
        return _TYPES[name]
    if name.startswith("JSON"):
        return "application/json; charset=UTF-8"
    if name.startswith(("TSV", "TabSeparated", "Pretty", "Vertical", "Markdown", "CSV")):
        return "text/plain; charset=UTF-8"
    return "application/octet-stream"


def summary(cost: Cost) -> str:
    """The X-ClickHouse-Summary header."""
    # an insert reads its rows from the client, which ClickHouse counts as read
    read_rows = max(cost.read_rows, cost.written_rows)
    return json.dumps(
        {
            "read_rows": str(read_rows),
            "read_bytes": str(cost.read_bytes if cost.read_rows else cost.written_bytes),
            "written_rows": str(cost.written_rows),
            "written_bytes": str(cost.written_bytes),
            "total_rows_to_read": "0",
            "result_rows": str(cost.written_rows or cost.result_rows),
            "result_bytes": str(cost.written_bytes or cost.result_bytes),
            "elapsed_ns": str(int(cost.seconds * 1e9)),
        },
        separators=(",", ":"),
    )


class Answer:
    """The answer to one request."""

    def __init__(self, send: Send, timezone: str, host: str) -> None:
        self._send = send
        self._headers = [
            (b"x-clickhouse-server-display-name", host.encode()),
            (b"x-clickhouse-timezone", timezone.encode()),
        ]
        self._tag = secrets.token_hex(8)
        self._format = ""
        self._encoding = ""
        self.has_started = False

    def describe(self, request: Request) -> None:
        """Put the query id in."""
        self._headers.append((b"x-clickhouse-query-id", request.query_id.encode()))

    def shape(self, name: str, encoding: str) -> None:
        """Say in what format and compression a result comes."""
        self._format, self._encoding = name, encoding

    async def whole(self, data: bytes, cost: Cost | None, status: int = 200) -> None:
        """Send a finished result."""
        headers = self._result_headers(cost)
        headers.append((b"content-length", b"%d" % len(data)))
        self.has_started = True
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        await self._send({"type": "http.response.body", "body": data})

    async def begin(self) -> None:
        """Start a streamed result."""
        headers = self._result_headers(None)
        headers.append((b"x-clickhouse-exception-tag", self._tag.encode()))
        self.has_started = True
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})

    async def part(self, data: bytes) -> None:
        """Send a part of a streamed result; waits while the client is slow."""
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self) -> None:
        """Close a streamed result properly."""
        await self._send({"type": "http.response.body", "body": b""})

    async def fail(self, error: ServerError) -> None:
        """Send an error.

        Behind the first bytes of a result it goes into the body, between ClickHouse's exception
        marks, and the body stays without its end, so that no client takes it for whole.
        """
        text = error.message.encode() + b"\n"
        if self.has_started:
            if not self._encoding:
                tag = self._tag.encode()
                mark = b"__exception__\r\n" + tag + b"\r\n"
                tail = b"%d " % len(text) + tag + b"\r\n__exception__\r\n"
                await self.part(b"\r\n" + mark + text + tail)
            return
        headers = [
            *self._headers,
            (b"x-clickhouse-exception-code", b"%d" % error.code),
            (b"content-type", b"text/plain; charset=UTF-8"),
            (b"content-length", b"%d" % len(text)),
        ]
        if error.status == 401:
            headers.append((b"www-authenticate", b'Basic realm="ClickHouse server HTTP API"'))
        if error.code == Code.TOO_MANY_SIMULTANEOUS_QUERIES:
            headers.append((b"retry-after", b"1"))
        self.has_started = True
        await self._send(
            {"type": "http.response.start", "status": error.status, "headers": headers}
        )
        await self._send({"type": "http.response.body", "body": text})

    def _result_headers(self, cost: Cost | None) -> list[tuple[bytes, bytes]]:
        headers = list(self._headers)
        if self._format:
            headers.append((b"x-clickhouse-format", self._format.encode()))
            headers.append((b"content-type", content_type(self._format).encode()))
        if self._encoding:
            headers.append((b"content-encoding", self._encoding.encode()))
        if cost is not None:
            headers.append((b"x-clickhouse-summary", summary(cost).encode()))
        return headers
