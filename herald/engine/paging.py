"""Where a page starts. A cursor names the question and the state of the data it belongs to."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, replace

import orjson

from herald.engine.errors import CursorExpiredError, InvalidQueryError, Problem
from herald.engine.freshness import DataVersion
from herald.engine.query import Query


@dataclass(frozen=True, slots=True)
class Position:
    """The first row of a page, in one answer over one state of the data."""

    question: str
    version: str
    offset: int

    @classmethod
    def of(cls, query: Query, data: DataVersion) -> Position:
        """Where the asked page starts.

        Raises:
            InvalidQueryError: the cursor is not one of ours, or belongs to another question.
            CursorExpiredError: the data changed since; pages of two states would not fit together.
        """
        question = query.fingerprint()
        if query.cursor is None:
            return cls(question, data.version, 0)
        try:
            text = base64.urlsafe_b64decode(query.cursor.encode())
            asked, version, offset = orjson.loads(text)
        except (binascii.Error, UnicodeEncodeError, orjson.JSONDecodeError, TypeError, ValueError):
            raise _wrong(query.cursor, "not a cursor of ours; use `next_cursor` as it is") from None
        if asked != question:
            raise _wrong(query.cursor, "it belongs to another question; start without a cursor")
        if not isinstance(offset, int) or offset < 0:
            raise _wrong(query.cursor, "not a cursor of ours; use `next_cursor` as it is")
        if version != data.version:
            raise CursorExpiredError(
                "the marts changed since the first page; start again without a cursor"
            )
        return cls(question, data.version, offset)

    def after(self, rows: int) -> Position:
        """The page after one of so many rows."""
        return replace(self, offset=self.offset + rows)

    def text(self) -> str:
        """As a cursor."""
        parts = [self.question, self.version, self.offset]
        return base64.urlsafe_b64encode(orjson.dumps(parts)).decode()


def _wrong(cursor: str, message: str) -> InvalidQueryError:
    return InvalidQueryError.of([Problem("cursor", cursor[:80], message)])
