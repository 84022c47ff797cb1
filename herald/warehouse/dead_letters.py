"""Dead letters: what was refused and why, and sending it again once the cause is mended."""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError
from kafka import KafkaProducer
from kafka.errors import KafkaError

from herald.contract.errors import ErrorClass

HEADER_REPLAY_OF = "herald-replay-of"
"""`topic/partition/offset` of the dead letter that a record repeats."""

HEADER_REPLAY_RUN = "herald-replay-run"
CHUNK = 1_000
SEND_SECONDS = 60

_UNITS = {"m": "minutes", "h": "hours", "d": "days"}
_DURATION = re.compile(r"^(\d+)([mhd])$")


class DeadLetterError(Exception):
    """A request that cannot be met; the message names the option and what it may be."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which dead letters. Empty strings and None select all.

    error_class: one of `ErrorClass`.
    field: name of the field that was refused.
    topic: topic they came from.
    since: landed at or after, UTC.
    """

    error_class: str = ""
    field: str = ""
    topic: str = ""
    since: datetime | None = None

    def __post_init__(self) -> None:
        known = [str(c) for c in ErrorClass]
        if self.error_class and self.error_class not in known:
            raise DeadLetterError(
                f"--class {self.error_class!r}: no such class; one of {', '.join(known)}"
            )

    def where(self) -> tuple[str, dict[str, Any]]:
        """Condition and its parameters."""
        conditions = ["1"]
        parameters: dict[str, Any] = {}
        for column, value in (
            ("error_class", self.error_class),
            ("error_field", self.field),
            ("topic", self.topic),
        ):
            if value:
                conditions.append(f"{column} = {{{column}:String}}")
                parameters[column] = value
        if self.since is not None:
            conditions.append("landed_at >= {since:DateTime64(3, 'UTC')}")
            parameters["since"] = self.since
        return " AND ".join(conditions), parameters


@dataclass(frozen=True, slots=True)
class Replay:
    """Outcome of one replay. `sent` is 0 in a dry run; `examples` are values as they go out."""

    run_id: str
    selected: int
    already_replayed: int
    sent: int
    dry_run: bool
    examples: tuple[str, ...]


def parse_since(text: str, now: datetime | None = None) -> datetime | None:
    """`90m`, `2h`, `7d` before now, or an ISO time (UTC where it names no zone); '' is None.

    Raises:
        DeadLetterError: neither.
    """
    if not text:
        return None
    if match := _DURATION.match(text):
        return (now or datetime.now(UTC)) - timedelta(**{_UNITS[match[2]]: int(match[1])})
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise DeadLetterError(
            f"--since {text!r}: neither a duration (90m, 2h, 7d) nor an ISO time "
            "(2026-11-01T12:00:00)"
        ) from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def summarize(client: Client, selection: Selection) -> list[dict[str, Any]]:
    """Counts by topic, class and field, the most frequent first, with one message of each."""
    where, parameters = selection.where()
    return _records(
        client,
        "SELECT topic, error_class, error_field, count() AS dead_letters, "
        f"countIf({_REPLAYED}) AS replayed, min(landed_at) AS first_at, max(landed_at) AS last_at, "
        "any(error_message) AS example FROM raw.dead_letters AS d "
        f"WHERE {where} GROUP BY ALL ORDER BY dead_letters DESC, topic, error_class, error_field",
        parameters,
    )


def show(client: Client, selection: Selection, limit: int) -> list[dict[str, Any]]:
    """The newest dead letters with their raw value (bytes that are no UTF-8 are escaped)."""
    where, parameters = selection.where()
    return _records(
        client,
        "SELECT topic, `partition`, offset, error_class, error_field, error_message, "
        f"landed_at, ({_REPLAYED}) AS is_replayed, value FROM raw.dead_letters AS d "
        f"WHERE {where} ORDER BY landed_at DESC, topic, `partition`, offset LIMIT {int(limit)}",
        parameters,
    )


def replay(
    client: Client,
    servers: str,
    selection: Selection,
    *,
    fix_up: str = "",
    dry_run: bool = False,
    again: bool = False,
) -> Replay:
    """Send the raw values to the topics they came from, with headers that name their origin.

    Args:
        client: a writer.
        servers: Kafka bootstrap servers.
        selection: which ones.
        fix_up: ClickHouse expression over `value` (String) that gives the value to send.
        dry_run: send nothing, show what would be sent.
        again: also those that were replayed before.

    Raises:
        DeadLetterError: the expression is wrong, or the broker does not take the records.
    """
    where, parameters = selection.where()
    total, done = client.query(
        f"SELECT count(), countIf({_REPLAYED}) FROM raw.dead_letters AS d WHERE {where}",
        parameters=parameters,
    ).result_rows[0]
    if not again:
        where = f"{where} AND NOT ({_REPLAYED})"
    rows = _values(client, where, parameters, fix_up)
    run_id = str(uuid.uuid4())
    examples = tuple(_text(value) for *_, value in rows[:3])
    if not dry_run:
        for start in range(0, len(rows), CHUNK):
            chunk = rows[start : start + CHUNK]
            _send(servers, run_id, chunk)
            _record(client, run_id, fix_up, chunk)
    sent = 0 if dry_run else len(rows)
    return Replay(run_id, int(total), int(done), sent, dry_run, examples)


_REPLAYED = (
    "(topic, `partition`, offset) IN "
    "(SELECT topic, `partition`, offset FROM raw.dead_letter_replays)"
)

Row = tuple[str, int, int, bytes, bytes]


def _values(client: Client, where: str, parameters: dict[str, Any], fix_up: str) -> list[Row]:
    if ";" in fix_up:
        raise DeadLetterError(f"--fix-up {fix_up!r}: one expression, without a semicolon")
    expression = f"toString({fix_up})" if fix_up else "value"
    try:
        rows = client.query(
            f"SELECT topic, `partition`, offset, key, {expression} AS sent FROM raw.dead_letters "
            f"AS d WHERE {where} ORDER BY topic, `partition`, offset",
            parameters=parameters,
            column_formats={"key": "bytes", "sent": "bytes"},
        ).result_rows
    except ClickHouseError as error:
        if not fix_up:
            raise
        raise DeadLetterError(
            f"--fix-up {fix_up!r}: the warehouse refuses it: {str(error).splitlines()[0]}"
        ) from error
    return [(str(t), int(p), int(o), bytes(k), bytes(v)) for t, p, o, k, v in rows]


def _send(servers: str, run_id: str, rows: Sequence[Row]) -> None:
    try:
        producer = KafkaProducer(
            bootstrap_servers=servers, acks="all", retries=5, max_request_size=8 * 1024**2
        )
        try:
            futures = [
                producer.send(
                    topic,
                    key=key or None,
                    value=value,
                    headers=[
                        (HEADER_REPLAY_OF, f"{topic}/{partition}/{offset}".encode()),
                        (HEADER_REPLAY_RUN, run_id.encode()),
                    ],
                )
                for topic, partition, offset, key, value in rows
            ]
            for future in futures:
                future.get(timeout=SEND_SECONDS)
        finally:
            producer.close(timeout=5)
    except KafkaError as error:
        raise DeadLetterError(
            f"broker at {servers} did not take the records: {error}; what was recorded as replayed "
            "stays so, run the command again for the rest"
        ) from error


def _record(client: Client, run_id: str, fix_up: str, rows: Sequence[Row]) -> None:
    """After the broker confirmed: a crash between both sends a chunk twice, never loses it."""
    now = datetime.now(UTC)
    client.insert(
        "raw.dead_letter_replays",
        [[topic, partition, offset, run_id, fix_up, now] for topic, partition, offset, *_ in rows],
        column_names=["topic", "partition", "offset", "run_id", "fix_up", "replayed_at"],
        settings={"async_insert": 0},
    )


def _records(client: Client, sql: str, parameters: dict[str, Any]) -> list[dict[str, Any]]:
    result = client.query(sql, parameters=parameters, column_formats={"value": "bytes"})
    return [
        {name: _text(v) if isinstance(v, bytes) else v for name, v in row.items()}
        for row in result.named_results()
    ]


def _text(value: bytes) -> str:
    shown = value.decode("utf-8", "backslashreplace")
    return shown if len(shown) <= 2_000 else f"{shown[:2_000]}... ({len(value)} bytes)"
