"""Counted facts of a run: from the broker, the warehouse, the marts. Nothing is remembered."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from herald.settings import Settings
from herald.warehouse.client import connect
from herald.warehouse.errors import WarehouseDownError

IMPORTED_TENANTS = {"open_bandit": "open_bandit", "hillstrom": "hillstrom"}
"""Tenant of each importer; every other tenant is the simulator's."""


class StalledError(Exception):
    """Landing made no progress for too long."""


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """produced = landed + dead_lettered, and nothing twice.

    `lost` is what the broker holds and the warehouse does not; `duplicates` are rows beyond one per
    (topic, partition, offset), over events and dead letters.
    """

    produced: int
    landed: int
    dead_lettered: int
    duplicates: int

    @property
    def lost(self) -> int:
        """Offsets that are in neither table. Negative never happens when duplicates is 0."""
        return self.produced - (self.landed + self.dead_lettered - self.duplicates)

    @property
    def is_settled(self) -> bool:
        """Every produced offset is accounted for exactly once."""
        return self.lost == 0 and self.duplicates == 0


def produced_offsets(settings: Settings, topic: str) -> int:
    """Records that a topic ever took: the sum of its end offsets. 0 for a topic not yet made."""
    consumer = KafkaConsumer(bootstrap_servers=settings.kafka.servers, request_timeout_ms=10_000)
    try:
        partitions = consumer.partitions_for_topic(topic) or set()
        ends = consumer.end_offsets([TopicPartition(topic, p) for p in partitions])
        return int(sum(ends.values()))
    finally:
        consumer.close()


def reconcile(settings: Settings, client: Client | None = None) -> Reconciliation:
    """Compare the broker with the warehouse for the events topic."""
    topic = settings.kafka.topics.events
    own = client or connect(settings.warehouse)
    # the broker first: what arrives in between is seen as lag, never as a false surplus
    produced = produced_offsets(settings, topic)
    row = own.query(
        "SELECT (SELECT count() FROM raw.events WHERE _topic = {topic:String}),"
        " (SELECT count() FROM raw.dead_letters WHERE topic = {topic:String}),"
        " (SELECT uniqExact(p, o) FROM (SELECT _partition AS p, _offset AS o FROM raw.events"
        " WHERE _topic = {topic:String} UNION ALL SELECT partition, offset FROM raw.dead_letters"
        " WHERE topic = {topic:String}))",
        parameters={"topic": topic},
    ).result_rows[0]
    landed, dead, distinct = (int(value) for value in row)
    return Reconciliation(produced, landed, dead, landed + dead - distinct)


def wait_landed(
    settings: Settings,
    *,
    stall_seconds: float = 180.0,
    on_progress: Callable[[Reconciliation], None] = lambda _: None,
) -> Reconciliation:
    """Wait until everything produced is landed or dead-lettered.

    A broker or warehouse that is down meanwhile counts as no progress, not as an error: faults
    are part of what this waits through.

    Raises:
        StalledError: nothing moved for `stall_seconds`; the message has the last counts.
    """
    last: Reconciliation | None = None
    moved_at = time.monotonic()
    while True:
        try:
            current = reconcile(settings)
        except (WarehouseDownError, ClickHouseError, KafkaError, OSError):
            current = None
        if current is not None:
            on_progress(current)
            if current.lost <= 0:
                return current
            if current != last:
                last, moved_at = current, time.monotonic()
        if time.monotonic() - moved_at > stall_seconds:
            raise StalledError(
                f"landing made no progress for {stall_seconds:.0f} s; last seen: "
                f"{asdict(last) if last else 'no answer'}; see `herald logs landing`"
            )
        time.sleep(0.25)


def landed_by_source(client: Client) -> dict[str, int]:
    """Rows of raw.events by where they came from."""
    rows = client.query("SELECT tenant_id, count() FROM raw.events GROUP BY tenant_id").result_rows
    counts: dict[str, int] = {}
    for tenant, count in rows:
        source = IMPORTED_TENANTS.get(tenant, "simulator")
        counts[source] = counts.get(source, 0) + int(count)
    return dict(sorted(counts.items()))


def mart_rows(client: Client) -> dict[str, int]:
    """Rows of every table and view of the marts."""
    names = client.query(
        "SELECT name FROM system.tables WHERE database = 'marts' ORDER BY name"
    ).result_columns
    return {
        f"marts.{name}": int(client.query(f"SELECT count() FROM marts.`{name}`").result_rows[0][0])
        for name in (names[0] if names else [])
    }


def check_counts(client: Client) -> dict[str, Any]:
    """Passed and failed expectations, of each suite's latest run."""
    rows = client.query(
        "SELECT suite, countIf(success), countIf(NOT success) FROM governance.quality_results"
        " WHERE (suite, run_id) IN (SELECT suite, argMax(run_id, checked_at)"
        " FROM governance.quality_results GROUP BY suite) GROUP BY suite ORDER BY suite"
    ).result_rows
    suites = {suite: {"passed": int(good), "failed": int(bad)} for suite, good, bad in rows}
    return {
        "passed": sum(s["passed"] for s in suites.values()),
        "failed": sum(s["failed"] for s in suites.values()),
        "suites": suites,
    }


def dbt_test_counts(state_dir: Path) -> dict[str, int]:
    """Passed and failed dbt tests of the latest build, from dbt's own result files."""
    counts = {"passed": 0, "failed": 0}
    for path in state_dir.glob("dbt/**/run_results.json"):
        for result in json.loads(path.read_text(encoding="utf-8"))["results"]:
            if result["unique_id"].startswith(("test.", "unit_test.")):
                counts[
                    "passed" if result["status"] in ("pass", "success", "warn") else "failed"
                ] += 1
    return counts if any(counts.values()) else {}
