"""ClickHouse's error texts and codes, and the HTTP status that ClickHouse gives each."""

from __future__ import annotations

import re
from enum import IntEnum


class Code(IntEnum):
    """Codes of the errors that this server raises itself; the engine raises the rest."""

    BAD_ARGUMENTS = 36
    NOT_IMPLEMENTED = 48
    SYNTAX_ERROR = 62
    TIMEOUT_EXCEEDED = 159
    READONLY = 164
    INVALID_SESSION_TIMEOUT = 374
    REQUIRED_PASSWORD = 194
    TOO_MANY_SIMULTANEOUS_QUERIES = 202
    QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING = 216
    INCORRECT_DATA = 117
    SESSION_NOT_FOUND = 372
    SESSION_IS_LOCKED = 373
    QUERY_WAS_CANCELLED = 394
    SET_NON_GRANTED_ROLE = 512
    AUTHENTICATION_FAILED = 516
    UNKNOWN_EXCEPTION = 1002


_CODE = re.compile(r"Code: (\d+)\.")

# exceptionCodeToHTTPStatus of ClickHouse's HTTP handler; overload is 503 here, so that clients
# and proxies know that they may try again
_PARSE_ERRORS = (6, 25, 26, 27, 36, 38, 41, 43, 44, 53, 62, 69, 70, 72, 117, 130, 167, 168, 456)
_NOT_FOUND = (46, 47, 50, 56, 60, 63, 73, 81, 115, 336, 511)
_STATUS = {
    194: 401,
    **dict.fromkeys((192, 193, 497, 512, 516), 403),
    **dict.fromkeys(_PARSE_ERRORS, 400),
    **dict.fromkeys(_NOT_FOUND, 404),
    159: 408,
    223: 413,
    48: 501,
    **dict.fromkeys((202, 209, 439), 503),
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


class ClientLeftError(Exception):
    """The client closed its connection before its answer."""


def refuse(code: Code, text: str) -> ServerError:
    """An error of this server, in ClickHouse's words."""
    return ServerError(code, f"Code: {int(code)}. DB::Exception: {text} ({code.name})")


def engine_error(text: str, user: str, version: str) -> ServerError:
    """The engine's own error, with the user and the version that a server puts in."""
    found = _CODE.search(text)
    if not found:
        return refuse(Code.UNKNOWN_EXCEPTION, text.strip())
    message = text[found.start() :].strip().replace("Exception: default: ", f"Exception: {user}: ")
    return ServerError(int(found.group(1)), f"{message} (version {version} (chDB))")
