"""What can go wrong with a question. Each error has a code, an HTTP status and says the fix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from pydantic import ValidationError


@dataclass(frozen=True, slots=True)
class Problem:
    """One wrong part of a question.

    Attributes:
        field: which part, such as `metrics.0`.
        value: what was given.
        message: what is wrong with it, and the fix.
    """

    field: str
    value: str
    message: str


class EngineError(Exception):
    """A question without an answer. The message is safe to show to whoever asked."""

    code: ClassVar[str] = "engine_error"
    title: ClassVar[str] = "The question could not be answered"
    status: ClassVar[int] = 500

    def __init__(self, message: str, *, problems: Sequence[Problem] = ()) -> None:
        super().__init__(message)
        self.problems = tuple(problems)


class InvalidQueryError(EngineError):
    """Some part of the question is wrong; `problems` has them all."""

    code = "invalid_query"
    title = "The question is not valid"
    status = 422

    @classmethod
    def of(cls, problems: Sequence[Problem]) -> InvalidQueryError:
        """One error for all problems."""
        text = "; ".join(f"{p.field}={p.value!r}: {p.message}" for p in problems)
        return cls(text, problems=problems)

    @classmethod
    def from_validation(cls, error: ValidationError) -> InvalidQueryError:
        """The same for what pydantic refused."""
        return cls.of(
            [
                Problem(".".join(str(p) for p in e["loc"]), repr(e["input"])[:200], e["msg"])
                for e in error.errors()
            ]
        )


class CursorExpiredError(EngineError):
    """The marts changed between two pages."""

    code = "cursor_expired"
    title = "The data changed since the first page"
    status = 409


class TooManyRowsError(EngineError):
    """The answer has more rows than the limit."""

    code = "too_many_rows"
    title = "The answer has too many rows"
    status = 422


class TooExpensiveError(EngineError):
    """Answering would read more than the limit."""

    code = "too_expensive"
    title = "The question is too expensive"
    status = 422


class BusyError(EngineError):
    """Every connection is in use and none came free in time."""

    code = "busy"
    title = "Too many questions at once"
    status = 503


class QueryTimeoutError(EngineError):
    """The warehouse did not answer within the limit."""

    code = "query_timeout"
    title = "The question took too long"
    status = 504


class NotBuiltError(EngineError):
    """The mart that holds the answer does not exist yet."""

    code = "marts_not_built"
    title = "The marts are not built yet"
    status = 503


class UnavailableError(EngineError):
    """The warehouse does not answer."""

    code = "warehouse_down"
    title = "The warehouse does not answer"
    status = 503


class WarehouseRefusedError(EngineError):
    """The warehouse answered with an error that is not the asker's fault."""

    code = "warehouse_error"
    title = "The warehouse refused the question"
    status = 500
