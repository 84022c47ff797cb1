"""How far landing is, from the ledger: asked at most once a second, never a reason to fail."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from herald.settings import Warehouse
from herald.warehouse.client import connect
from herald.warehouse.errors import WarehouseDownError

log = logging.getLogger(__name__)

CACHE_SECONDS = 1.0
TIMEOUT_SECONDS = 5.0


class LandedOffsets:
    """Next offset to be landed by partition of one topic. Thread-safe."""

    def __init__(self, warehouse: Warehouse, topic: str) -> None:
        self._warehouse = warehouse
        self._topic = topic
        self._lock = threading.Lock()
        self._client: Client | None = None
        self._until = 0.0
        self._known: Mapping[int, int] | None = None

    def __call__(self) -> Mapping[int, int] | None:
        """The offsets, at most a second old; None while the warehouse does not answer."""
        with self._lock:
            if time.monotonic() >= self._until:
                self._known = self._ask()
                self._until = time.monotonic() + CACHE_SECONDS
            return self._known

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            if self._client is not None:
                self._client.close()
                self._client = None

    def _ask(self) -> Mapping[int, int] | None:
        try:
            if self._client is None:
                self._client = connect(self._warehouse, timeout_seconds=TIMEOUT_SECONDS)
            rows = self._client.query(
                "SELECT `partition`, max(last_offset) + 1 FROM raw.landed_ranges "
                "WHERE topic = {topic:String} GROUP BY `partition`",
                parameters={"topic": self._topic},
            ).result_rows
        except (ClickHouseError, WarehouseDownError, OSError) as error:
            log.warning("lag of landing is unknown: %s", type(error).__name__)
            self._client = None
            return None
        return {int(partition): int(following) for partition, following in rows}
