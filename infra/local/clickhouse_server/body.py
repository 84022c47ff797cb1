"""The body of a request: a statement, rows, or both, or a form."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from infra.local.clickhouse_server.errors import ClientLeftError, Code, refuse
from infra.local.clickhouse_server.multipart import parse_form
from infra.local.clickhouse_server.request import Request, external_tables
from infra.local.clickhouse_server.rows import RowFile, decompress
from infra.local.clickhouse_server.statement import Insert, parse_insert

Receive = Callable[[], Awaitable[dict[str, Any]]]

# Content-Encoding of rows by the engine's name for it; the engine unpacks them outside the GIL
_ROW_ENCODINGS = {
    "": "none", "identity": "none", "gzip": "gzip", "deflate": "deflate", "br": "br",
    "lz4": "lz4", "zstd": "zstd", "xz": "xz", "bz2": "bz2", "snappy": "snappy",
}  # fmt: skip


@dataclass(slots=True)
class Body:
    """What was sent: `insert` with its `rows`, or the `text` of another statement."""

    text: bytes = b""
    insert: Insert | None = None
    rows: RowFile | None = None
    rows_encoding: str = "none"
    params: dict[str, str] = field(default_factory=dict)
    external: list[str] = field(default_factory=list)
    files: list[RowFile] = field(default_factory=list)

    def close(self) -> None:
        """Give back what the rows take."""
        for file in self.files:
            file.close()
        self.files.clear()


async def read_body(scope: dict[str, Any], request: Request, receive: Receive, spool: Path) -> Body:
    """Read a body to its end, rows straight into a file for the engine.

    Raises:
        ServerError: damaged or unknown compression, a form without sense.
        ClientLeftError: the client left before the end. Nothing of it is inserted.
    """
    body = Body()
    try:
        await _read(body, scope, request, receive, spool)
    except BaseException:
        body.close()
        raise
    return body


async def _read(
    body: Body, scope: dict[str, Any], request: Request, receive: Receive, spool: Path
) -> None:
    first, more = await _next(receive)
    in_url = parse_insert(request.query) if request.query else None
    if in_url is not None:
        encoding = _ROW_ENCODINGS.get(request.content_encoding)
        if encoding is None:
            raise refuse(
                Code.NOT_IMPLEMENTED, f"Content-Encoding {request.content_encoding!r} is not known"
            )
        inline = request.query[in_url.data_at :]
        await _spool(body, in_url, inline if inline.strip() else b"", first, more, receive, spool)
        body.rows_encoding = encoding
        return
    if not request.content_encoding:
        insert = None if request.query else parse_insert(first)
        if insert is not None:
            rows = memoryview(first)[insert.data_at :]
            await _spool(body, insert, b"", rows, more, receive, spool)
            return
    parts = [first]
    while more:
        part, more = await _next(receive)
        parts.append(part)
    data = decompress(b"".join(parts), request.content_encoding)
    if request.content_type.startswith("multipart/form-data"):
        data = _read_form(body, data, scope, request, spool)
    body.text = request.query + b"\n" + data if request.query and data else request.query or data
    insert = parse_insert(body.text)
    if insert is not None:
        rows = memoryview(body.text)[insert.data_at :]
        await _spool(body, insert, b"", rows, False, receive, spool)


async def _next(receive: Receive) -> tuple[bytes, bool]:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientLeftError
    return message.get("body", b""), message.get("more_body", False)


async def _spool(
    body: Body,
    insert: Insert,
    inline: bytes,
    first: bytes | memoryview,
    more: bool,
    receive: Receive,
    spool: Path,
) -> None:
    body.insert = insert
    body.rows = RowFile(spool)
    body.files.append(body.rows)
    if inline:
        body.rows.write(inline)
    body.rows.write(first)
    while more:
        part, more = await _next(receive)
        body.rows.write(part)


def _read_form(
    body: Body, data: bytes, scope: dict[str, Any], request: Request, spool: Path
) -> bytes:
    """Take parameters and external tables out of a form; returns its statement."""
    form = parse_form(data, request.content_type)
    query = form.fields.pop("query", b"")
    for name, value in form.fields.items():
        if not name.startswith("param_"):
            raise refuse(Code.BAD_ARGUMENTS, f"form field {name!r} is neither query nor param_*")
        body.params[name[6:]] = value.decode()
    described = external_tables(scope)
    for name, rows in form.files.items():
        about = described.get(name, {})
        structure = about.get("structure") or ", ".join(
            f"_{n} {kind}" for n, kind in enumerate(about.get("types", "").split(","), 1) if kind
        )
        if not structure or not name.isidentifier():
            raise refuse(
                Code.BAD_ARGUMENTS,
                f"external table {name!r} needs {name}_structure or {name}_types in the URL",
            )
        file = RowFile(spool)
        body.files.append(file)
        file.write(rows)
        made = about.get("format", "TabSeparated")
        if not made.isidentifier():
            raise refuse(Code.BAD_ARGUMENTS, f"{name}_format={made!r} is not a format")
        body.external.append(f"CREATE TEMPORARY TABLE {name} ({structure})")
        body.external.append(f"INSERT INTO {name} FROM INFILE '{file.path}' FORMAT {made}")
    return query
