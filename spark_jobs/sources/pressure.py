"""Backpressure: how many offsets the next batch may take, from how the warehouse took the last."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from spark_jobs.sinks.clickhouse import TOO_MANY_PARTS, ClickHouseSink

RECENT_SECONDS = 60.0
"""How far a job looks back when it starts: what overloaded the warehouse may do so still."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Offsets of the largest and of a shrunk batch, seconds of a trigger and of a slow insert."""

    largest: int
    smallest: int
    trigger_seconds: float
    slow_insert_seconds: float


@dataclass(frozen=True, slots=True)
class Load:
    """How the warehouse took some ranges.

    rows: landed. seconds: they took. slowest_insert: seconds. pushbacks: how often it refused for
    now, code: with which error last (252: too many parts, 241: memory), 0 for never.
    """

    rows: int
    seconds: float
    slowest_insert: float
    pushbacks: int
    code: int

    @classmethod
    def read(
        cls, sink: ClickHouseSink, topics: Sequence[str], since_ms: int, seconds: float
    ) -> Load:
        """From the ledger: of everything landed since."""
        [row] = sink.query(
            "SELECT sum(rows_stored + rows_dead_lettered) AS landed, "
            "max(insert_seconds) AS slowest, sum(pushbacks) AS refused, "
            "argMax(pushback_code, (pushbacks > 0, landed_at)) AS code "
            "FROM raw.landed_ranges WHERE topic IN {topics:Array(String)} "
            "AND landed_at >= fromUnixTimestamp64Milli({since:Int64})",
            {"topics": "[" + ",".join(f"'{t}'" for t in topics) + "]", "since": since_ms},
        )
        return cls(
            int(row["landed"]),
            seconds,
            float(row["slowest"] or 0),
            int(row["refused"]),
            int(row["code"] or 0),
        )


class Throttle:
    """The limit: all that the settings allow, until the warehouse is overloaded.

    Then two trigger intervals' worth of the rate it still reaches, half of the last limit at most;
    doubled again with each batch that goes well.
    """

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self.limit = bounds.largest

    @property
    def is_shrunk(self) -> bool:
        """Whether it is below what the settings allow."""
        return self.limit < self._bounds.largest

    def wants(self, seconds: float) -> bool:
        """Whether a batch that took so long is worth a look into the ledger."""
        return self.is_shrunk or seconds > 2 * self._bounds.trigger_seconds

    def observe(self, load: Load, whole: int) -> None:
        """Learn from the last batch.

        Args:
            load: how it went.
            whole: offsets of one full range of each partition that waits. Too many parts do not
                shrink below it: smaller ranges are more parts.
        """
        bounds, before = self._bounds, self.limit
        slow = load.slowest_insert > bounds.slow_insert_seconds
        if load.pushbacks or slow:
            floor = max(bounds.smallest, whole if load.code == TOO_MANY_PARTS else 0)
            rate = load.rows / max(load.seconds, 1e-3)
            wanted = min(self.limit // 2, int(2 * bounds.trigger_seconds * rate))
            self.limit = min(max(wanted, floor), self.limit)
        else:
            self.limit = min(2 * self.limit, bounds.largest)
        if self.limit != before:
            reason = f"error {load.code}" if load.pushbacks else "slow" if slow else "recovered"
            _log(before, self.limit, reason, load.slowest_insert)


def _log(before: int, after: int, reason: str, slowest: float) -> None:
    line = {
        "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "level": "INFO" if after > before else "WARNING",
        "message": "batches grow" if after > before else "batches shrink",
        "offsets": after,
        "reason": reason,
        "slowest_insert_seconds": round(slowest, 3),
    }
    sys.stderr.write(json.dumps(line) + "\n")
    sys.stderr.flush()
