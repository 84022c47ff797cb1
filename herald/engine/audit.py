"""Who asked what: written behind the answer, in batches, never in its way."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import astuple, dataclass, fields
from datetime import datetime

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from herald.settings import Warehouse
from herald.warehouse.client import connect
from herald.warehouse.errors import WarehouseDownError

log = logging.getLogger(__name__)

CAPACITY = 20_000
BATCH = 1_000
FLUSH_SECONDS = 1.0
RETRY_SECONDS = 2.0
TABLE = "governance.query_audit"


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of governance.query_audit. `principal` is a role or a service, never a person."""

    asked_at: datetime
    tenant_id: str
    principal: str
    surface: str
    query: str
    query_hash: str
    rows: int
    seconds: float
    outcome: str
    cache: str


class Audit:
    """A bounded queue and a thread that empties it into the warehouse.

    While the warehouse is away entries wait; when the queue is full the newest are dropped, and
    `dropped` counts them.
    """

    def __init__(
        self,
        warehouse: Warehouse,
        *,
        capacity: int = CAPACITY,
        open_client: Callable[[Warehouse], Client] | None = None,
    ) -> None:
        self._warehouse = warehouse
        self._open = open_client or (lambda w: connect(w, "writer", timeout_seconds=10))
        self._queue: queue.Queue[Entry] = queue.Queue(capacity)
        self._closing = threading.Event()
        self._client: Client | None = None
        self.dropped = 0
        self.written = 0
        self._thread = threading.Thread(target=self._work, name="query-audit", daemon=True)
        self._thread.start()

    def record(self, entry: Entry) -> None:
        """Queue one entry; returns at once."""
        try:
            self._queue.put_nowait(entry)
        except queue.Full:
            self.dropped += 1
            if self.dropped % 1_000 == 1:
                log.warning("audit: queue full, %d entries dropped so far", self.dropped)

    def close(self, *, seconds: float = 10.0) -> None:
        """Write what is queued, for so many seconds at most, and stop."""
        self._closing.set()
        self._thread.join(seconds)
        left = self._queue.qsize()
        if left:
            log.warning("audit: closed with %d entries not written", left)

    def _work(self) -> None:
        batch: list[Entry] = []
        while True:
            batch += self._collect(BATCH - len(batch))
            if batch and self._write(batch):
                self.written += len(batch)
                batch = []
            elif batch and not self._closing.wait(RETRY_SECONDS):
                continue
            elif batch:
                self.dropped += len(batch)
                log.warning("audit: %d entries lost, the warehouse is away at close", len(batch))
                batch = []
            if self._closing.is_set() and not batch and self._queue.empty():
                break
        if self._client is not None:
            self._client.close()

    def _collect(self, room: int) -> list[Entry]:
        """Entries of the next moment, at most `room` of them."""
        found: list[Entry] = []
        deadline = time.monotonic() + FLUSH_SECONDS
        while len(found) < room:
            wait = 0.05 if self._closing.is_set() else deadline - time.monotonic()
            if wait <= 0:
                break
            try:
                found.append(self._queue.get(timeout=min(wait, 0.2)))
            except queue.Empty:
                if self._closing.is_set():
                    break
        return found

    def _write(self, batch: list[Entry]) -> bool:
        try:
            if self._client is None:
                self._client = self._open(self._warehouse)
            self._client.insert(
                TABLE, [astuple(e) for e in batch], column_names=[f.name for f in fields(Entry)]
            )
        except (ClickHouseError, WarehouseDownError, OSError) as error:
            log.warning("audit: %d entries wait, the warehouse refused them: %s", len(batch), error)
            self._client = None
            return False
        return True
