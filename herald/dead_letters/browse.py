"""Reading dead letters: counts, pages, one with its raw value."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from clickhouse_connect.driver.client import Client

from herald.dead_letters.errors import DeadLetterError
from herald.dead_letters.selection import REPLAYED, TENANT, LetterId, Selection

SHOWN_BYTES = 65_536
_LISTED = (
    "topic, `partition`, offset, landed_at, produced_at, error_class, error_field, error_message, "
    f"contract_version, {TENANT} AS tenant_id, length(value) AS bytes, ({REPLAYED}) AS is_replayed"
)


@dataclass(frozen=True, slots=True)
class Page:
    """Letters, newest first, without their values. cursor: of the next page, '' on the last."""

    letters: list[dict[str, Any]]
    cursor: str


def summarize(client: Client, selection: Selection) -> list[dict[str, Any]]:
    """Counts by topic, class and field, the most frequent first, with one message of each."""
    where, parameters = selection.where()
    return list(
        client.query(
            "SELECT topic, error_class, error_field, count() AS dead_letters, "
            f"countIf({REPLAYED}) AS replayed, min(landed_at) AS first_at, "
            "max(landed_at) AS last_at, any(error_message) AS example "
            f"FROM raw.dead_letters WHERE {where} GROUP BY ALL "
            "ORDER BY dead_letters DESC, topic, error_class, error_field",
            parameters=parameters,
        ).named_results()
    )


def page(
    client: Client,
    selection: Selection,
    *,
    limit: int = 50,
    cursor: str = "",
    replayed: bool | None = None,
) -> Page:
    """One page of letters; letters that land meanwhile do not shift it.

    Args:
        client: a writer.
        selection: which ones.
        limit: most letters.
        cursor: of the page before.
        replayed: only those that were sent again, or only the others.

    Raises:
        DeadLetterError: the cursor is none of ours.
    """
    where, parameters = selection.where()
    if replayed is not None:
        where += f" AND {'' if replayed else 'NOT '}({REPLAYED})"
    if cursor:
        at, after = _read_cursor(cursor)
        where += (
            " AND (landed_at < {at:DateTime64(3, 'UTC')} OR (landed_at = "
            "{at:DateTime64(3, 'UTC')} AND (topic, `partition`, offset) > "
            "({after_topic:String}, {after_partition:UInt16}, {after_offset:UInt64})))"
        )
        parameters |= {
            "at": at,
            "after_topic": after.topic,
            "after_partition": after.partition,
            "after_offset": after.offset,
        }
    rows = list(
        client.query(
            f"SELECT {_LISTED} FROM raw.dead_letters WHERE {where} "
            "ORDER BY landed_at DESC, topic, `partition`, offset "
            f"LIMIT {int(limit) + 1}",
            parameters=parameters,
        ).named_results()
    )
    letters = [_letter(row) for row in rows[:limit]]
    return Page(letters, _cursor(letters[-1]) if len(rows) > limit else "")


def one(client: Client, letter: LetterId) -> dict[str, Any] | None:
    """A letter with its raw value, its key and every replay of it; None where there is none.

    `value` is text with bytes that are no UTF-8 escaped, cut after 64 KiB; `value_base64` is exact.
    """
    parameters = {"t": letter.topic, "p": letter.partition, "o": letter.offset}
    place = "topic = {t:String} AND `partition` = {p:UInt16} AND offset = {o:UInt64}"
    rows = list(
        client.query(
            f"SELECT {_LISTED}, key, value FROM raw.dead_letters WHERE {place} LIMIT 1",
            parameters=parameters,
            column_formats={"key": "bytes", "value": "bytes"},
        ).named_results()
    )
    if not rows:
        return None
    replays = client.query(
        "SELECT run_id, replayed_at, fix_up, principal, new_partition, new_offset "
        f"FROM raw.dead_letter_replays WHERE {place} ORDER BY replayed_at",
        parameters=parameters,
    ).named_results()
    [row] = rows
    key, value = bytes(row.pop("key")), bytes(row.pop("value"))
    return _letter(row) | {
        "key": as_text(key),
        "value": as_text(value),
        "value_base64": base64.b64encode(value[:SHOWN_BYTES]).decode(),
        "is_cut": len(value) > SHOWN_BYTES,
        "replays": [r | {"replayed_at": _time(r["replayed_at"])} for r in replays],
    }


def as_text(value: bytes, limit: int = SHOWN_BYTES) -> str:
    """Text of a value; what is no UTF-8 is escaped, what is too long is cut."""
    return value[:limit].decode("utf-8", "backslashreplace")


def _letter(row: dict[str, Any]) -> dict[str, Any]:
    letter = LetterId(str(row["topic"]), int(row["partition"]), int(row["offset"]))
    times = {name: _time(row[name]) for name in ("landed_at", "produced_at")}
    return {"id": str(letter), **row, **times, "is_replayed": bool(row["is_replayed"])}


def _time(value: datetime) -> str:
    zoned = value if value.tzinfo else value.replace(tzinfo=UTC)
    return zoned.isoformat(timespec="milliseconds")


def _cursor(letter: dict[str, Any]) -> str:
    text = json.dumps([letter["landed_at"], letter["id"]])
    return base64.urlsafe_b64encode(text.encode()).decode()


def _read_cursor(cursor: str) -> tuple[datetime, LetterId]:
    try:
        at, letter = json.loads(base64.urlsafe_b64decode(cursor))
        return datetime.fromisoformat(at), LetterId.parse(letter)
    except (ValueError, TypeError, binascii.Error):
        raise DeadLetterError(
            f"cursor {cursor[:40]!r}: none of ours; ask for the first page without one"
        ) from None
