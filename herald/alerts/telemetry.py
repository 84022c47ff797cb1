"""Figures of alerts for Prometheus, read from the warehouse when they are asked for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from herald.alerts.store import WarehouseStore

FRESH_SECONDS = 15.0
OpenStore = Callable[[], AbstractContextManager[WarehouseStore]]


class AlertFigures(Collector):
    """Open alerts by rule and severity, and tries to tell by destination and outcome.

    A warehouse that is away leaves the figures out, which says it better than an old number.
    """

    def __init__(self, store: OpenStore, away: type[Exception]) -> None:
        """`store` opens the store; it raises `away` when the warehouse does not answer."""
        self._store, self._away = store, away
        self._lock = threading.Lock()
        self._found: list[Metric] = []
        self._at = float("-inf")

    def describe(self) -> Iterator[Metric]:
        """Nothing: registering must not ask the warehouse."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """The figures, at most fifteen seconds old."""
        with self._lock:
            if time.monotonic() - self._at > FRESH_SECONDS:
                self._found = self._read()
                self._at = time.monotonic()
            return iter(self._found)

    def _read(self) -> list[Metric]:
        opened = GaugeMetricFamily(
            "herald_alerts_open",
            "Alerts that are firing or acknowledged.",
            labels=["rule", "severity", "status"],
        )
        told = CounterMetricFamily(
            "herald_alert_deliveries",
            "Tries to tell destinations of alerts, of the last 90 days.",
            labels=["destination", "outcome"],
        )
        try:
            with self._store() as store:
                open_rows, told_rows = store.figures()
        except self._away:
            return []
        for rule, severity, status, count in open_rows:
            opened.add_metric([rule, severity, status], count)
        for destination, outcome, count in told_rows:
            told.add_metric([destination, outcome], count)
        return [opened, told]
