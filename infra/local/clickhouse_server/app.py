"""The ASGI application: ClickHouse's HTTP interface."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hmac
import json
import uuid
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import lz4.frame
import zstandard

from herald.settings import Warehouse
from infra.local.clickhouse_server import errors
from infra.local.clickhouse_server.errors import ServerError, refuse
from infra.local.clickhouse_server.statement import parse_insert, parse_statement

if TYPE_CHECKING:
    from infra.local.clickhouse_server.engine import Engine

_TRANSPORT = {
    "query",
    "user",
    "password",
    "database",
    "default_format",
    "session_id",
    "session_timeout",
    "session_check",
    "query_id",
    "quota_key",
    "compress",
    "decompress",
    "wait_end_of_query",
    "buffer_size",
    "client_protocol_version",
    "role",
    "enable_http_compression",
    "send_progress_in_http_headers",
    "http_headers_progress_interval_ms",
    "cancel_http_readonly_queries_on_client_close",
}


class Application:
    """ClickHouse's HTTP interface over the engine."""

    def __init__(self, warehouse: Warehouse, engine: Engine) -> None:
        self._warehouse = warehouse
        self._engine = engine
        self._threads = ThreadPoolExecutor(warehouse.max_concurrent_queries)
        self._users = {
            warehouse.user: (warehouse.password.get_secret_value(), False),
            warehouse.reader_user: (warehouse.reader_password.get_secret_value(), True),
        }

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Answer one request."""
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        headers = {k.decode().lower(): v.decode("latin-1") for k, v in scope["headers"]}
        if scope["path"] in ("/ping", "/replicas_status"):
            await _answer(send, 200, b"Ok.\n", {})
            return
        params = dict(parse_qsl(scope["query_string"].decode(), keep_blank_values=True))
        query_id = params.get("query_id") or str(uuid.uuid4())
        extra = {"X-ClickHouse-Query-Id": query_id, "X-ClickHouse-Timezone": self._engine.timezone}
        try:
            data, more = await self._run(params, headers, bytes(body))
            await _answer(send, 200, data, extra | more)
        except ServerError as error:
            extra["X-ClickHouse-Exception-Code"] = str(error.code)
            await _answer(send, error.status, error.message.encode() + b"\n", extra)

    async def _run(
        self, params: dict[str, str], headers: dict[str, str], body: bytes
    ) -> tuple[bytes, dict[str, str]]:
        from infra.local.clickhouse_server.engine import Job

        is_reader = self._login(params, headers)
        body = _unpack(body, headers.get("content-encoding", ""))
        query = params.get("query", "").encode()
        text = query + b"\n" + body if query and not parse_insert(query) else query or body
        insert = parse_insert(text)
        shown = params.get("default_format") or headers.get("x-clickhouse-format") or "TabSeparated"
        job = Job(
            "",
            shown,
            is_reader,
            params.get("database") or headers.get("x-clickhouse-database") or "",
            {k: v for k, v in params.items() if k not in _TRANSPORT and k[:6] != "param_"},
            {k[6:]: v for k, v in params.items() if k.startswith("param_")},
        )
        job.settings.setdefault("max_execution_time", str(self._warehouse.max_execution_seconds))
        if insert:
            job.sql = insert.from_file("{rows}")
            job.rows = memoryview(body if query else text)[
                0 if query and body else insert.data_at :
            ]
        else:
            statement = parse_statement(text)
            if statement.uses_server_files:
                raise refuse(errors.NOT_IMPLEMENTED, "Files of the server are out of reach")
            job.sql = text.decode()
            job.format = statement.format or shown
        loop = asyncio.get_running_loop()
        answer = await loop.run_in_executor(self._threads, self._engine.run, job)
        summary = {
            "read_rows": answer.read_rows,
            "read_bytes": answer.read_bytes,
            "written_rows": answer.written_rows,
            "written_bytes": answer.written_bytes,
            "total_rows_to_read": 0,
            "result_rows": answer.result_rows,
            "result_bytes": len(answer.data),
            "elapsed_ns": int(answer.seconds * 1e9),
        }
        more = {
            "X-ClickHouse-Summary": json.dumps({k: str(v) for k, v in summary.items()}),
            "X-ClickHouse-Format": job.format,
        }
        return answer.data, more

    def _login(self, params: dict[str, str], headers: dict[str, str]) -> bool:
        user, password = params.get("user"), params.get("password", "")
        if "x-clickhouse-user" in headers:
            user, password = headers["x-clickhouse-user"], headers.get("x-clickhouse-key", "")
        elif headers.get("authorization", "")[:6].lower() == "basic ":
            text = base64.b64decode(headers["authorization"][6:]).decode()
            user, _, password = text.partition(":")
        known = self._users.get(user or "default")
        if known is None or not hmac.compare_digest(known[0].encode(), password.encode()):
            raise refuse(
                errors.AUTHENTICATION_FAILED,
                f"{user or 'default'}: Authentication failed: password is incorrect, or there is "
                "no user with such name.",
            )
        return known[1]


def _unpack(body: bytes, encoding: str) -> bytes:
    if encoding == "gzip":
        return gzip.decompress(body)
    if encoding == "deflate":
        return zlib.decompress(body)
    if encoding == "lz4":
        return bytes(lz4.frame.decompress(body))
    if encoding == "zstd":
        return bytes(zstandard.ZstdDecompressor().decompressobj().decompress(body))
    return body


async def _answer(send: Any, status: int, data: bytes, headers: dict[str, str]) -> None:
    pairs = [(k.encode(), v.encode()) for k, v in headers.items()]
    pairs.append((b"content-length", str(len(data)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": data})
