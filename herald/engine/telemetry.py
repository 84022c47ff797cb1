"""Figures of the engine for Prometheus. No label holds a name that an asker can choose."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Telemetry:
    """Counters of one engine in one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.questions = Counter(
            "herald_engine_questions_total",
            "Questions by surface, outcome and where the answer came from.",
            ["surface", "outcome", "cache"],
            registry=registry,
        )
        self.seconds = Histogram(
            "herald_engine_question_seconds",
            "Time to answer a question.",
            ["surface"],
            buckets=BUCKETS,
            registry=registry,
        )
        self.estimated_rows = Histogram(
            "herald_engine_estimated_rows",
            "Rows a question was estimated to read, of those not in a cache.",
            buckets=(1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9),
            registry=registry,
        )
        self.audit_dropped = Gauge(
            "herald_engine_audit_dropped",
            "Audit entries dropped because the warehouse was away too long.",
            registry=registry,
        )
