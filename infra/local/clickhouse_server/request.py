"""One HTTP request in ClickHouse's terms."""

from __future__ import annotations

import base64
import binascii
import re
import uuid
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from infra.local.clickhouse_server.errors import Code, refuse

# Parameters of the HTTP interface; everything else in the URL is a setting of the query.
_INTERFACE = frozenset(
    {
        "query", "user", "password", "database", "default_format", "session_id",
        "session_timeout", "session_check", "query_id", "quota_key", "compress", "decompress",
        "wait_end_of_query", "buffer_size", "client_protocol_version", "role", "stacktrace",
        "enable_http_compression", "send_progress_in_http_headers", "close_session",
        "http_headers_progress_interval_ms", "cancel_http_readonly_queries_on_client_close",
        "http_zlib_compression_level",
    }
)  # fmt: skip
_SETTING = re.compile(r"[A-Za-z_]\w*\Z")
_EXTERNAL = re.compile(r"(.+)_(format|types|structure)\Z")
_ENCODINGS = ("zstd", "lz4", "gzip", "br", "deflate")
_MAX_SESSION_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class Request:
    """What the URL and the headers say; the body is read apart."""

    query: bytes
    user: str
    password: str
    has_login: bool
    database: str
    format: str
    query_id: str
    role: str
    settings: dict[str, str]
    params: dict[str, str]
    session_id: str
    session_timeout: int
    session_check: bool
    content_encoding: str
    content_type: str
    answer_encoding: str
    waits_for_end: bool
    address: str
    agent: str


def parse_request(scope: dict[str, Any]) -> Request:
    """Read URL and headers of an ASGI scope. Raises ServerError on values that make no sense."""
    headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]}
    url = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))
    user, password, has_login = _login(url, headers)
    settings = {}
    params = {}
    for name, value in url.items():
        if name.startswith("param_"):
            params[name[6:]] = value
        elif name not in _INTERFACE and not _EXTERNAL.match(name):
            if not _SETTING.match(name):
                raise refuse(Code.BAD_ARGUMENTS, f"URL parameter {name!r} is not a setting name")
            settings[name] = value
    if url.get("compress", "0") not in ("0", "") or url.get("decompress", "0") not in ("0", ""):
        raise refuse(
            Code.NOT_IMPLEMENTED,
            "compress and decompress (ClickHouse's own block format) are not supported here: use "
            "Content-Encoding and Accept-Encoding with enable_http_compression=1",
        )
    client = scope.get("client")
    return Request(
        query=url.get("query", "").encode(),
        user=user,
        password=password,
        has_login=has_login,
        database=url.get("database") or headers.get("x-clickhouse-database", ""),
        format=url.get("default_format") or headers.get("x-clickhouse-format") or "TabSeparated",
        query_id=url.get("query_id") or str(uuid.uuid4()),
        role=url.get("role", ""),
        settings=settings,
        params=params,
        session_id=url.get("session_id", ""),
        session_timeout=_timeout(url.get("session_timeout", "60")),
        session_check=url.get("session_check", "0") == "1",
        content_encoding=headers.get("content-encoding", "").strip().lower(),
        content_type=headers.get("content-type", ""),
        answer_encoding=_accepted(headers.get("accept-encoding", ""), url),
        waits_for_end=url.get("wait_end_of_query", "0") not in ("0", ""),
        address=client[0] if client else "",
        agent=headers.get("user-agent", ""),
    )


def external_tables(scope: dict[str, Any]) -> dict[str, dict[str, str]]:
    """`<name>_format`, `<name>_types`, `<name>_structure` of the URL by table name."""
    found: dict[str, dict[str, str]] = {}
    for name, value in parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True):
        match = _EXTERNAL.match(name)
        if match and not name.startswith("param_"):
            found.setdefault(match.group(1), {})[match.group(2)] = value
    return found


def _login(url: dict[str, str], headers: dict[str, str]) -> tuple[str, str, bool]:
    """User and password, from the ClickHouse headers, else basic authentication, else the URL."""
    if "x-clickhouse-user" in headers or "x-clickhouse-key" in headers:
        return headers.get("x-clickhouse-user", ""), headers.get("x-clickhouse-key", ""), True
    scheme, _, value = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            user, _, password = base64.b64decode(value, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            raise refuse(Code.AUTHENTICATION_FAILED, "Authorization is not Basic base64") from None
        return user, password, True
    return url.get("user", "default"), url.get("password", ""), "user" in url


def _accepted(header: str, url: dict[str, str]) -> str:
    if url.get("enable_http_compression", "0") in ("0", "false", ""):
        return ""
    accepted = {part.split(";")[0].strip().lower() for part in header.split(",")}
    return next((name for name in _ENCODINGS if name in accepted), "")


def _timeout(text: str) -> int:
    if not text.isdigit() or int(text) > _MAX_SESSION_SECONDS:
        raise refuse(
            Code.INVALID_SESSION_TIMEOUT,
            f"Session timeout '{text}' is invalid: give whole seconds, {_MAX_SESSION_SECONDS} at "
            "most",
        )
    return int(text)
