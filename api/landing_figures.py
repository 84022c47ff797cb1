"""Figures of landing for Prometheus: read from broker and ledger when they are asked for.

The landing job is not asked: what it wrote down is the truth also while it is dead, and every
worker of the API tells the same. Counters and histograms start at 0 each midnight (UTC), as after a
restart, so that no question reads the whole ledger; `rate` and `increase` know how to take that.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from clickhouse_connect.driver.exceptions import ClickHouseError
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from herald.contract.references import REFERENCES
from herald.settings import Settings
from herald.warehouse.client import connect
from herald.warehouse.errors import WarehouseDownError
from spark_jobs.sources.kafka import BrokerError, Watermarks

log = logging.getLogger(__name__)

FRESH_SECONDS = 5.0
ANSWER_SECONDS = 5.0
BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
SLOT = ("topic", "partition")

Rows = Sequence[Mapping[str, Any]]


def _buckets(column: str) -> str:
    """Counts up to each bound, as an array; the last is all."""
    bounds = ", ".join(f"countIf({column} <= {bound})" for bound in BUCKETS)
    return f"[{bounds}, count()] AS buckets, sum({column}) AS seconds"


_DAY = "toStartOfDay(now('UTC'))"
_LEDGER = (
    "SELECT topic, toString(`partition`) AS partition, "
    f"sumIf(rows_stored, landed_at >= {_DAY}) AS stored, "
    f"sumIf(rows_dead_lettered, landed_at >= {_DAY}) AS dead_lettered, "
    f"sumIf(bytes, landed_at >= {_DAY}) AS bytes, "
    f"sumIf(pushbacks, landed_at >= {_DAY}) AS pushbacks, "
    "sumIf(rows_stored + rows_dead_lettered, landed_at >= now64(3, 'UTC') - toIntervalMinute(1)) "
    "/ 60 AS rate, max(last_offset) + 1 AS following, "
    "dateDiff('millisecond', max(landed_at), now64(3, 'UTC')) / 1000 AS landed_age, "
    "dateDiff('millisecond', max(max_occurred_at), now64(3, 'UTC')) / 1000 AS event_age "
    "FROM raw.landed_ranges WHERE topic IN {topics:Array(String)} GROUP BY topic, partition"
)
_INSERTS = (
    f"SELECT topic, toString(`partition`) AS partition, {_buckets('insert_seconds')} "
    f"FROM raw.landed_ranges WHERE topic IN {{topics:Array(String)}} AND landed_at >= {_DAY} "
    "GROUP BY topic, partition"
)
_BATCHES = (
    f"SELECT topic, toString(`partition`) AS partition, {_buckets('batch_seconds')} "
    f"FROM live.landing_progress WHERE topic IN {{topics:Array(String)}} AND observed_at >= {_DAY} "
    "GROUP BY topic, partition"
)
_REJECTED = (
    "SELECT topic, toString(`partition`) AS partition, error_class, count() AS rejected "
    "FROM raw.dead_letters "
    f"WHERE topic IN {{topics:Array(String)}} AND landed_at >= {_DAY} "
    "GROUP BY topic, partition, error_class"
)


class LandingFigures(Collector):
    """Lag, rates, batch and insert times, rejected rows and ages by topic and partition.

    Who is away is told by `herald_landing_source_up`; what it knew is left out, which says more
    than an old number.
    """

    def __init__(self, settings: Settings) -> None:
        topics = settings.kafka.topics
        self._topics = [topics.events, *(getattr(topics, m.table) for m in REFERENCES)]
        self._settings = settings
        self._lock = threading.Lock()
        self._watermarks: Watermarks | None = None
        self._lows: dict[tuple[str, str], float] = {}
        self._found: list[Metric] = []
        self._at = float("-inf")

    def collect(self) -> Iterator[Metric]:
        """The figures, at most five seconds old: many scrapers cost one question."""
        with self._lock:
            if time.monotonic() - self._at > FRESH_SECONDS:
                self._found = list(self._read())
                self._at = time.monotonic()
            yield from self._found

    def close(self) -> None:
        """Leave the broker."""
        with self._lock:
            if self._watermarks is not None:
                self._watermarks.close()
                self._watermarks = None

    def _read(self) -> Iterator[Metric]:
        highs = self._ends()
        ledger = self._ledger()
        up = GaugeMetricFamily(
            "herald_landing_source_up", "Whether it answered this scrape.", labels=["source"]
        )
        up.add_metric(["broker"], float(highs is not None))
        up.add_metric(["warehouse"], float(ledger is not None))
        yield up
        if highs is not None:
            yield _gauge("end_offset", "Next offset of the broker.", highs)
        if ledger is not None:
            yield from _of_ledger(*ledger)
            nexts = {_slot(row): float(row["following"]) for row in ledger[0]}
            if highs is not None:
                lag = {s: max(high - nexts.get(s, self._lows[s]), 0) for s, high in highs.items()}
                yield _gauge("lag_events", "Events on the broker that are not landed.", lag)

    def _ends(self) -> dict[tuple[str, str], float] | None:
        try:
            if self._watermarks is None:
                self._watermarks = Watermarks(self._settings.kafka.servers, self._topics)
            lows, highs = self._watermarks.read(ANSWER_SECONDS, tries=1)
        except BrokerError as error:
            log.warning("no figures of the broker: %s", type(error).__name__)
            return None
        self._lows = {(s.topic, str(s.partition)): float(low) for s, low in lows.items()}
        return {(s.topic, str(s.partition)): float(high) for s, high in highs.items()}

    def _ledger(self) -> tuple[Rows, Rows, Rows, Rows] | None:
        try:
            client = connect(self._settings.warehouse, timeout_seconds=ANSWER_SECONDS)
            try:
                one, two, three, four = (
                    list(client.query(sql, parameters={"topics": self._topics}).named_results())
                    for sql in (_LEDGER, _INSERTS, _BATCHES, _REJECTED)
                )
            finally:
                client.close()
        except (ClickHouseError, WarehouseDownError, OSError) as error:
            log.warning("no figures of the ledger: %s", type(error).__name__)
            return None
        return one, two, three, four


def _of_ledger(ledger: Rows, inserts: Rows, batches: Rows, rejected: Rows) -> Iterator[Metric]:
    yield _gauge("next_offset", "Next offset to be landed.", _values(ledger, "following"))
    yield _gauge("rows_per_second", "Landed in the last minute.", _values(ledger, "rate"))
    yield _gauge("last_landed_age_seconds", "Since a range landed.", _values(ledger, "landed_age"))
    yield _gauge(
        "newest_event_age_seconds", "Since the newest landed event.", _values(ledger, "event_age")
    )
    rows = CounterMetricFamily(
        "herald_landing_rows", "Landed since midnight UTC.", labels=[*SLOT, "outcome"]
    )
    for row in ledger:
        for outcome in ("stored", "dead_lettered"):
            rows.add_metric([*_slot(row), outcome], float(row[outcome]))
    yield rows
    yield _counter("bytes", "Landed since midnight UTC, as JSON.", _values(ledger, "bytes"))
    yield _counter(
        "pushbacks", "Inserts that the warehouse refused for now.", _values(ledger, "pushbacks")
    )
    refused = CounterMetricFamily(
        "herald_landing_rejected", "Dead letters since midnight UTC.", labels=[*SLOT, "class"]
    )
    for row in rejected:
        refused.add_metric([*_slot(row), str(row["error_class"])], float(row["rejected"]))
    yield refused
    yield _histogram("insert_seconds", "Time to insert a range.", inserts)
    yield _histogram("batch_seconds", "Time of a batch that held the partition.", batches)


def _slot(row: Mapping[str, Any]) -> tuple[str, str]:
    return str(row["topic"]), str(row["partition"])


def _values(rows: Rows, column: str) -> dict[tuple[str, str], float]:
    return {_slot(row): float(row[column]) for row in rows if row[column] is not None}


def _gauge(name: str, about: str, values: Mapping[tuple[str, str], float]) -> Metric:
    family = GaugeMetricFamily(f"herald_landing_{name}", about, labels=SLOT)
    for slot, value in sorted(values.items()):
        family.add_metric(slot, value)
    return family


def _counter(name: str, about: str, values: Mapping[tuple[str, str], float]) -> Metric:
    family = CounterMetricFamily(f"herald_landing_{name}", about, labels=SLOT)
    for slot, value in sorted(values.items()):
        family.add_metric(slot, value)
    return family


def _histogram(name: str, about: str, rows: Rows) -> Metric:
    family = HistogramMetricFamily(f"herald_landing_{name}", about, labels=SLOT)
    bounds = [*(str(bound) for bound in BUCKETS), "+Inf"]
    for row in rows:
        counts = [float(count) for count in row["buckets"]]
        family.add_metric(
            _slot(row), list(zip(bounds, counts, strict=True)), sum_value=float(row["seconds"])
        )
    return family
