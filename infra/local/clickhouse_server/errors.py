"""ClickHouse's error texts and codes, and the HTTP status that ClickHouse gives each."""

from __future__ import annotations

import re

SYNTAX_ERROR = 62
TIMEOUT_EXCEEDED = 159
READONLY = 164
REQUIRED_PASSWORD = 194
TOO_MANY_SIMULTANEOUS_QUERIES = 202
SESSION_NOT_FOUND = 372
SESSION_IS_LOCKED = 373
QUERY_WAS_CANCELLED = 394
AUTHENTICATION_FAILED = 516
NOT_IMPLEMENTED = 48
INCORRECT_DATA = 117
BAD_ARGUMENTS = 36
ACCESS_DENIED = 497
UNKNOWN_EXCEPTION = 1002

_CODE = re.compile(r"Code: (\d+)\.")
_NAMES = {
    SYNTAX_ERROR: "SYNTAX_ERROR",
    READONLY: "READONLY",
    REQUIRED_PASSWORD: "REQUIRED_PASSWORD",
    TOO_MANY_SIMULTANEOUS_QUERIES: "TOO_MANY_SIMULTANEOUS_QUERIES",
    SESSION_NOT_FOUND: "SESSION_NOT_FOUND",
    SESSION_IS_LOCKED: "SESSION_IS_LOCKED",
    QUERY_WAS_CANCELLED: "QUERY_WAS_CANCELLED",
    AUTHENTICATION_FAILED: "AUTHENTICATION_FAILED",
    NOT_IMPLEMENTED: "NOT_IMPLEMENTED",
    INCORRECT_DATA: "INCORRECT_DATA",
    BAD_ARGUMENTS: "BAD_ARGUMENTS",
    ACCESS_DENIED: "ACCESS_DENIED",
    UNKNOWN_EXCEPTION: "UNKNOWN_EXCEPTION",
}

# exceptionCodeToHTTPStatus of ClickHouse's HTTP handler
_STATUS = {
    **dict.fromkeys((194,), 401),
    **dict.fromkeys((192, 193, 497, 512, 516), 403),
    **dict.fromkeys(
        # parse and type errors
        (6, 15, 25, 26, 27, 36, 38, 41, 44, 53, 62, 69, 72, 117, 130, 167, 168, 223, 427, 456, 457),
        400,
    ),
    **dict.fromkeys((46, 47, 50, 56, 60, 63, 73, 81, 106, 115, 135, 336, 511), 404),
    159: 408,
    381: 411,
    48: 501,
    **dict.fromkeys((76, 202, 209, 439), 503),
}


class ServerError(Exception):
    """An error of the server or the engine, as a ClickHouse client expects it.

    `message` is the full text: `Code: 62. DB::Exception: ... (SYNTAX_ERROR)`.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    @property
    def status(self) -> int:
        """HTTP status of the answer."""
        return _STATUS.get(self.code, 500)


def refuse(code: int, text: str) -> ServerError:
    """An error of this server, in ClickHouse's words."""
    return ServerError(code, f"Code: {code}. DB::Exception: {text} ({_NAMES[code]})")


def engine_error(text: str, version: str) -> ServerError:
    """The engine's own error, with the version that a server adds behind it."""
    found = _CODE.search(text)
    if not found:
        return ServerError(
            UNKNOWN_EXCEPTION,
            f"Code: {UNKNOWN_EXCEPTION}. DB::Exception: {text.strip()} (UNKNOWN_EXCEPTION)",
        )
    return ServerError(int(found.group(1)), f"{text[found.start() :].strip()} (version {version})")
