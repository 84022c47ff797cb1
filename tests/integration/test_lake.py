"""Warehouse to lake and back, on the real S3 server, catalog and warehouse."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from clickhouse_connect.driver.client import Client
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from herald.lake.intervals import Offsets
from herald.lake.status import status
from herald.lake.store import LakeError, open_catalog
from herald.lake.sync import Lake
from herald.lake.tables import DEAD_LETTERS, EVENTS, LEDGER, TABLES
from herald.settings import ROOT, Settings
from spark_jobs.jobs.land_range import Lander, TaskConfig
from spark_jobs.rebuild import rebuild_from_lake
from spark_jobs.sources.ranges import OffsetRange

TOPIC = "lake-test.events"
NOW_MS = 1_800_000_000_000
ROLLUPS = ("live.events_second", "live.events_minute", "live.events_hour")
KILLED = """
import os, signal, sys
from herald.lake.store import open_catalog
from herald.lake.sync import Lake
from herald.settings import load_settings
from herald.warehouse.client import connect
step, table = sys.argv[1:]
def die(now, name):
    if (now, name) == (step, table):
        os.kill(os.getpid(), signal.SIGKILL)
settings = load_settings()
Lake(open_catalog(settings), settings).sync(connect(settings.warehouse), step=die)
"""


def value(number: int) -> bytes:
    return json.dumps(
        {
            "event_id": f"0192d3a4-5b6c-7d8e-9f01-{number:012d}",
            "tenant_id": "lake-test",
            "event_type": "push.sent" if number % 50 else "push.flew",
            "occurred_at": f"2026-01-0{number % 3 + 1}T0{number % 5}:04:05.678Z",
            "cost": 0.25,
            "suspected_bot_reasons": ["user_agent"] if number % 7 == 0 else [],
            "unknown": "é\u0000" if number % 11 == 0 else "x",
        }
    ).encode()


@pytest.fixture(scope="module")
def lander(settings: Settings, broker: str, warehouse: Client) -> Iterator[Lander]:
    empty(warehouse)
    admin = AdminClient({"bootstrap.servers": broker})
    for future in admin.create_topics([NewTopic(TOPIC, 1), NewTopic("lake-test.dead", 1)]).values():
        future.result(20)
    producer = Producer({"bootstrap.servers": broker})
    for number in range(1_250):
        producer.produce(TOPIC, value=value(number))
    assert producer.flush(30) == 0
    base = TaskConfig.of(settings)
    config = TaskConfig(
        broker, base.warehouse, base.limits, "lake-test.dead", ((TOPIC, "raw.events"),)
    )
    lander = Lander(config)
    for first in range(0, 1_000, 250):
        lander.land(OffsetRange(TOPIC, 0, first, first + 249, NOW_MS), 0)
    yield lander
    lander.consumer.close()
    lander.sink.close()
    empty(warehouse)


def empty(warehouse: Client) -> None:
    """Whatever other tests landed is not in the lake: a rebuild would not bring it back."""
    for name in (*(table.source for table in TABLES), *ROLLUPS):
        warehouse.command(f"TRUNCATE TABLE {name}")


@pytest.fixture
def store(lake: Settings) -> Lake:
    return Lake(open_catalog(lake), lake)


def counts(store: Lake) -> tuple[int, int, int]:
    """Rows, and distinct offsets, of events; ranges of the ledger."""
    offsets = store.table(EVENTS).scan(selected_fields=("_offset",)).to_arrow()["_offset"]
    ledger = store.table(LEDGER).scan().to_arrow()
    return len(offsets), len(offsets.unique()), ledger.num_rows


@pytest.mark.parametrize(
    ("step", "table"),
    [("before_commit", "events"), ("after_commit", "events"), ("before_commit", "landed_ranges")],
)
def test_sync_is_exactly_once_when_killed(
    lander: Lander,
    store: Lake,
    warehouse: Client,
    herald_environment: dict[str, str],
    tmp_path: Path,
    step: str,
    table: str,
) -> None:
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    environment = {**herald_environment, "PYTHONPATH": str(ROOT)}
    first = 1_000 + 50 * ["before_commitevents", "after_commitevents"].index(step + table) \
        if table == "events" else 1_100  # fmt: skip
    lander.land(OffsetRange(TOPIC, 0, first, first + 49, NOW_MS), 1)
    done = subprocess.run(
        [sys.executable, str(script), step, table],
        env=environment,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr[-3000:]

    store.sync(warehouse)

    stored = int(warehouse.query("SELECT count() FROM raw.events").first_row[0])
    ranges = int(warehouse.query("SELECT count() FROM raw.landed_ranges").first_row[0])
    assert counts(store) == (stored, stored, ranges)
    assert store.sync(warehouse).commits == 0


def test_second_of_two_syncs_writes_nothing_when_both_started_from_one_state(
    lander: Lander, store: Lake, lake: Settings, warehouse: Client
) -> None:
    store.sync(warehouse)
    lander.land(OffsetRange(TOPIC, 0, 1_150, 1_199, NOW_MS), 2)
    other = Lake(open_catalog(lake), lake)

    def meanwhile(step: str, table: str) -> None:
        if (step, table) == ("before_commit", "events"):
            other.sync(warehouse)

    with pytest.raises(LakeError, match="another sync was faster"):
        store.sync(warehouse, step=meanwhile)
    stored = int(warehouse.query("SELECT count() FROM raw.events").first_row[0])
    assert counts(store)[:2] == (stored, stored)


def test_files_lie_by_hour_when_events_are_of_several(
    lander: Lander, store: Lake, warehouse: Client
) -> None:
    store.sync(warehouse)
    table = store.table(EVENTS)
    hours = {task.file.partition[0] for task in table.scan().plan_files()}
    assert len(hours) == 15
    assert [f.name for f in table.spec().fields] == ["occurred_at_hour"]


def test_status_counts_what_waits_when_a_table_is_behind(
    lander: Lander, store: Lake, warehouse: Client
) -> None:
    store.sync(warehouse)
    rows = {row["table"]: row for row in status(store, warehouse)}
    assert rows["raw.events"]["rows"] == counts(store)[0]
    assert {row["waiting_ranges"] for row in rows.values()} == {0}


def test_sync_refuses_when_the_warehouse_lost_rows_of_a_landed_range(
    lander: Lander, store: Lake, warehouse: Client
) -> None:
    warehouse.command(
        "INSERT INTO raw.landed_ranges (topic, partition, first_offset, last_offset, rows_stored) "
        "VALUES ('lake-test.lost', 0, 0, 9, 10)"
    )
    try:
        with pytest.raises(LakeError, match=r"raw\.events: 0 rows in 1 ranges.*ledger says 10"):
            store.sync(warehouse)
    finally:
        warehouse.command(
            "ALTER TABLE raw.landed_ranges DELETE WHERE topic = 'lake-test.lost'",
            settings={"mutations_sync": 2},
        )


def test_rebuild_gives_every_row_and_rollup_back(
    lander: Lander,
    store: Lake,
    lake: Settings,
    warehouse: Client,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store.sync(warehouse)
    before = state(warehouse)
    rows = int(warehouse.query("SELECT count() FROM raw.events").first_row[0])
    last = OffsetRange(TOPIC, 0, 1_200, 1_249, NOW_MS)
    monkeypatch.setattr(Lander, "_record", lambda *_: (_ for _ in ()).throw(SystemExit))
    with pytest.raises(SystemExit):  # written, but dead before the ledger knew
        lander.land(last, 3)
    monkeypatch.undo()
    with pytest.raises(LakeError, match=r"hold rows; .*--replace"):
        rebuild_from_lake(warehouse, store, lake)

    rebuilt = rebuild_from_lake(warehouse, store, lake, replace=True)

    assert "live.events_hour" in rebuilt.derived
    assert state(warehouse) == before
    assert all(before[name] for name in ("raw.events", "raw.dead_letters", "live.events_hour"))
    # what was half landed is landed again under the token that it had
    lander.land(last, 4)
    assert int(warehouse.query("SELECT count() FROM raw.events").first_row[0]) == rows + 49
    store.sync(warehouse)
    assert counts(store)[0] == rows + 49


def state(warehouse: Client) -> dict[str, object]:
    """Every raw row as a hash, and the recount of a rollup."""
    found: dict[str, object] = {}
    for table in (*TABLES,):
        found[table.source] = warehouse.query(
            f"SELECT count() AS n, groupBitXor(cityHash64(*)) FROM {table.source} HAVING n > 0"
        ).result_rows
    found["live.events_hour"] = warehouse.query(
        "SELECT bucket_at, tenant_id, channel, sum(events), sum(sent), sum(cost) "
        "FROM live.events_hour GROUP BY ALL ORDER BY ALL"
    ).result_rows
    return found


def test_offsets_are_merged_and_read_back() -> None:
    found = Offsets().with_ranges([("t", 0, 10, 19), ("t", 0, 0, 9), ("t", 0, 30, 39)])
    assert found.items() == [("t", 0, [(0, 19), (30, 39)])]
    assert Offsets.parse(found.text()) == found
    assert found.covers("t", 0, 5, 15)
    assert not found.covers("t", 0, 15, 35)
    assert found.overlaps("t", 0, 15, 35)
    assert Offsets.parse("") == Offsets()
    assert DEAD_LETTERS.name == "dead_letters"
