"""What the keyed state counts, and how a batch of the pattern stream is cut."""

from __future__ import annotations

import json
from typing import Any

import polars as pl
import pytest

from herald.settings import Warehouse
from spark_jobs.jobs.detect_patterns import fact_config
from spark_jobs.patterns.facts import FACTS, Windows, facts
from spark_jobs.patterns.source import (
    SCHEMA,
    UNTIL,
    FactConfig,
    FactPartition,
    FactReader,
    _ends,
    configured,
)
from spark_jobs.sinks.clickhouse import Address
from spark_jobs.sources.ranges import OffsetRange, Slot

HOUR = 3_600_000
NOON = 1_795_521_600_000 // (24 * HOUR) * 24 * HOUR + 12 * HOUR
DAILY = Windows("daily", 24 * HOUR, 6 * HOUR)


def event(kind: str = "email.sent", minute: int = 0, **fields: Any) -> bytes:
    at = f"2026-11-24T12:{minute:02d}:00.500Z"
    base = {"tenant_id": "acme", "user_id": "u1", "event_type": kind, "occurred_at": at}
    return json.dumps({**base, **fields}).encode()


def rows(values: list[bytes], *windows: Windows, newest: int = NOON * 2) -> list[dict[str, Any]]:
    return (
        facts(values, windows or (DAILY,), newest).sort("rule", "user_id", "window_end").to_dicts()
    )


def test_a_send_counts_in_every_window_that_holds_it() -> None:
    found = rows([event(), event(minute=5)])
    assert [r["window_end"] % (24 * HOUR) // HOUR for r in found] == [18, 0, 6, 12]
    assert {(r["sends"], r["opens"], r["rule"], r["tenant_id"]) for r in found} == {
        (2, 0, "daily", "acme")
    }
    assert all(r["seen_ms"] < r["window_end"] <= r["seen_ms"] + 24 * HOUR for r in found)
    assert found[0]["seen_ms"] % HOUR == 5 * 60_000 + 500


@pytest.mark.parametrize(
    ("kind", "machine", "opens"),
    [
        ("email.opened", False, 1), ("email.opened", True, 0), ("push.clicked", False, 1),
        ("in_app.impressed", False, 1), ("sms.delivered", False, None),
    ],
)  # fmt: skip
def test_opens_of_people_count_and_those_of_machines_do_not(
    kind: str, machine: bool, opens: int | None
) -> None:
    found = rows([event(kind, machine_open=machine)])
    assert {r["opens"] for r in found} == (set() if opens is None else {opens})


def test_unusable_records_count_nowhere_and_stop_nothing() -> None:
    bad = [
        b"", b'{"event_type":"email.sent"', b'["email.sent"]', b'"email.sent"', b"\xff.sent\"",
        event(user_id=""), event(user_id=7), event(tenant_id=None), event(occurred_at="noon"),
        event(user_id="late", occurred_at="2027-11-24T12:00:00Z"),
    ]  # fmt: skip
    found = rows([*bad, event(user_id="good")], newest=NOON + 24 * HOUR)
    assert {r["user_id"] for r in found} == {"good"}


def test_every_rule_has_windows_of_its_own() -> None:
    hourly = Windows("hourly", HOUR, HOUR)
    found = rows([event()], DAILY, hourly)
    assert [r["rule"] for r in found] == ["daily"] * 4 + ["hourly"]
    assert facts([event()], (), NOON).schema == pl.Schema(FACTS)
    assert len(facts([event("email.targeted")], (DAILY,), NOON)) == 0


def config(**changes: Any) -> FactConfig:
    address = Address.of(Warehouse())
    base: dict[str, Any] = {
        "servers": "127.0.0.1:1", "topic": "t", "warehouse": address, "windows": (DAILY,),
        "step_ms": 60_000, "settle_ms": 0, "lookback_ms": HOUR, "max_offsets": 100,
    }  # fmt: skip
    return FactConfig(**{**base, **changes})


def slots(**values: int) -> dict[Slot, int]:
    return {Slot("t", int(name[1:])): value for name, value in values.items()}


def test_batch_takes_what_there_is_and_shares_its_limit() -> None:
    lows, highs = slots(p0=0, p1=0, p2=50), slots(p0=10, p1=500, p2=900)
    ends = _ends({"t/0": 4, "t/1": 100, "t/2": 10}, lows, highs, 100)
    # six in the first, the rest shared; what expired of the last is skipped
    assert ends == {"t/0": 10, "t/1": 147, "t/2": 97}
    assert _ends(ends, lows, highs, 10_000) == {"t/0": 10, "t/1": 500, "t/2": 900}


def test_partitions_are_a_range_each_and_one_for_the_instants() -> None:
    class Known(FactReader):
        @property
        def watermarks(self) -> Any:
            return self

        def read(self, partition: Any = None) -> Any:
            return super().read(partition) if partition else (slots(p0=0, p2=70), {})

    reader = Known(config())
    start = {UNTIL: 60_000, "t/0": 5, "t/2": 50}
    parts = reader.partitions(start, {UNTIL: 120_000, "t/0": 9, "t/1": 3, "t/2": 80})
    assert all(isinstance(p, FactPartition) for p in parts)
    ranges = [p.part for p in parts if isinstance(p, FactPartition)]
    # the second partition is new, and some of the third has expired
    assert ranges == [
        None, OffsetRange("t", 0, 5, 8), OffsetRange("t", 1, 0, 2), OffsetRange("t", 2, 70, 79),
    ]  # fmt: skip
    assert len(reader.partitions(start, {**start, UNTIL: 120_000})) == 1
    (batch,) = reader.read(parts[0])
    assert batch.schema.names == [c.split()[0] for c in SCHEMA.split(", ")]
    assert batch.column("from_ms").to_pylist() == [60_000]
    assert batch.column("until_ms").to_pylist() == [120_000]


def test_offset_stays_when_the_broker_is_away() -> None:
    class Away(FactReader):
        @property
        def watermarks(self) -> Any:
            from spark_jobs.sources.kafka import BrokerError

            raise BrokerError("away")

    reader = Away(config())
    start = {UNTIL: 60_000, "t/0": 5}
    assert reader.latestOffset(start, reader.getDefaultReadLimit()) == start


def test_source_hides_the_password_in_spark_plans() -> None:
    source = configured(config())
    assert source.name() == "herald_facts"
    assert "password" not in repr(source.config.warehouse).lower()
    assert fact_config.__name__ == "fact_config"
