"""Events landed as the landing job would, for tests: parsed, stamped, under a token."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pyarrow as pa

from herald.settings import Landing, Warehouse
from spark_jobs.sinks.clickhouse import Address, ClickHouseSink
from spark_jobs.transforms.events import EventParser
from spark_jobs.transforms.judging import Limits

TOPIC = "rollup-test.events"


def event(
    number: int, action: str, at: datetime, *, tenant: str, channel: str = "email", **fields: Any
) -> bytes:
    """One event as JSON; message and user follow from the number unless given."""
    values = {
        "event_id": f"018f0000-0000-7000-8000-{number:012d}",
        "source": "test",
        "schema_version": "1.0",
        "tenant_id": tenant,
        "event_type": f"{channel}.{action}",
        "occurred_at": at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "user_id": f"user-{number}",
        "message_id": f"message-{number}",
        "campaign_id": "spring",
        "channel": channel,
        "provider": "post",
        "country": "DE",
        "platform": "ios",
    }
    return orjson.dumps({**values, **fields})


class Landed:
    """Inserts into raw.events one block a call, as the landing job does."""

    def __init__(self, warehouse: Warehouse, topic: str = TOPIC) -> None:
        self._sink = ClickHouseSink(Address.of(warehouse))
        self._limits = Limits.of(Landing())
        self._topic = topic
        self._offset = 0

    def land(
        self,
        values: Sequence[bytes],
        *,
        token: str,
        landed_at: datetime | None = None,
    ) -> int:
        """Land the values under a token; gives how many were valid."""
        now = landed_at or datetime.now(UTC)
        # the parser refuses the future, and learns its columns: a new one each time
        clock = int((max(now, datetime.now(UTC)) + timedelta(hours=1)).timestamp() * 1_000)
        parsed = EventParser(self._limits).parse(list(values), clock)
        rows = parsed.table.num_rows
        stamp = pa.scalar(int(now.timestamp() * 1_000), pa.timestamp("ms", tz="UTC"))
        columns = {
            "_topic": pa.array([self._topic] * rows).dictionary_encode(),
            "_partition": pa.repeat(pa.scalar(0, pa.uint16()), rows),
            "_offset": pa.array(range(self._offset, self._offset + rows), pa.uint64()),
            "landed_at": pa.repeat(stamp, rows),
        }
        self._offset += rows
        table = parsed.table
        for name, column in columns.items():
            table = table.append_column(name, column)
        self._sink.insert("raw.events", table, token=token)
        return int(rows)

    def close(self) -> None:
        """Close the connection."""
        self._sink.close()
