"""Which state of the marts an answer is made from."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime

from herald.engine.errors import EngineError
from herald.engine.pool import Pool

TABLES = ("fct_messages", "fct_engagement_hourly", "fct_activity_hourly")
RECHECK_SECONDS = 1.0

# hashes of the data files: any insert, delete or rebuild changes them, and no row is read. A merge
# changes them too, which costs one needless computation.
VERSION_SQL = """
select hex(sipHash64(groupArray((table, name, hash_of_all_files))))
from (
    select table, name, hash_of_all_files from system.parts
    where active and database = 'marts' and table in {tables:Array(String)}
    order by table, name
)"""
AS_OF_SQL = (
    "select toUnixTimestamp64Milli(toDateTime64(max(updated_at), 3)) from marts.fct_messages"
)


@dataclass(frozen=True, slots=True)
class DataVersion:
    """State of the marts: a name for it, and when it was built; None for marts without rows."""

    version: str
    as_of: datetime | None


class Freshness:
    """The current state, looked up once a second at most, whoever asks."""

    def __init__(self, pool: Pool, *, recheck_seconds: float = RECHECK_SECONDS) -> None:
        self._pool = pool
        self._recheck = recheck_seconds
        self._lock = threading.Lock()
        self._checked_at = float("-inf")
        self._known: DataVersion | None = None
        self._failure: EngineError | None = None

    def current(self) -> DataVersion:
        """The state of the marts now.

        Raises:
            EngineError: the warehouse does not answer, or has no marts.
        """
        with self._lock:
            if time.monotonic() - self._checked_at < self._recheck:
                if self._failure is not None:
                    # whoever waited for this look-up shares its end, instead of trying in turn
                    raise self._failure
                if self._known is not None:
                    return self._known
            try:
                self._known = self._look_up()
                self._failure = None
            except EngineError as error:
                self._failure = error
                raise
            finally:
                self._checked_at = time.monotonic()
            return self._known

    def _look_up(self) -> DataVersion:
        known = self._known
        version = str(self._pool.rows(VERSION_SQL, {"tables": list(TABLES)})[0][0])
        if known is not None and known.version == version:
            return known
        milliseconds = int(self._pool.rows(AS_OF_SQL)[0][0])
        as_of = datetime.fromtimestamp(milliseconds / 1000, UTC) if milliseconds else None
        return DataVersion(version, as_of)
