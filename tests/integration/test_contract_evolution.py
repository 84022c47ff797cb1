"""The next version of the contract beside this one: both producers, both jobs, one checkpoint."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from herald.settings import ROOT, Settings, Topics
from herald.warehouse.client import connect
from herald.warehouse.migrations import split_statements
from infra.local.environment import child_environment
from tests.integration.serving.conftest import own_platform

NEW_FIELDS = """
    mood: Annotated[Low, low("where")] = Field("", description="Weather of the reader.")
    score: Annotated[
        int, Field(ge=0, le=255), Column("UInt8", "uint8", "where", "T64, ZSTD(1)")
    ] = Field(0, description="Rank that the sender gave.")
    seen_at: Annotated[AwareDatetime | None, time_column("where", nullable=True)] = Field(
        None, description="When it was on the screen."
    )

    # engagement
"""


@pytest.fixture(scope="module")
def next_release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout whose contract is 1.1, with three optional fields more."""
    checkout = tmp_path_factory.mktemp("next")
    for package in ("herald", "spark_jobs"):
        shutil.copytree(
            ROOT / package, checkout / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    (checkout / "infra").symlink_to(ROOT / "infra")
    events = checkout / "herald/contract/events.py"
    text = events.read_text(encoding="utf-8")
    assert text.count('CONTRACT_VERSION = "1.0"') == 1
    assert text.count("\n    # engagement\n") == 1
    text = text.replace('CONTRACT_VERSION = "1.0"', 'CONTRACT_VERSION = "1.1"')
    events.write_text(text.replace("\n    # engagement\n", NEW_FIELDS), encoding="utf-8")
    return checkout


@pytest.fixture(scope="module")
def own(
    settings: Settings, broker: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Settings]:
    """A warehouse of its own: its tables change."""
    names = {name: f"evolution-test.{name}" for name in Topics.model_fields}
    admin = AdminClient({"bootstrap.servers": broker})
    for future in admin.create_topics([NewTopic(n, 1) for n in names.values()]).values():
        future.result(20)
    with own_platform(settings, tmp_path_factory) as base:
        yield base.model_copy(
            update={"kafka": base.kafka.model_copy(update={"topics": Topics(**names)})}
        )


@pytest.fixture
def table(own: Settings) -> Iterator[Client]:
    client = connect(own.warehouse)
    yield client
    client.close()


def run_in(checkout: Path, settings: Settings, *words: str) -> dict[str, Any]:
    return {
        "args": [sys.executable, "-m", *words],
        "cwd": checkout,
        "env": {**os.environ, **child_environment(settings), "PYTHONPATH": str(checkout)},
    }


class Job:
    """The landing job of one checkout."""

    def __init__(self, checkout: Path, settings: Settings, log: Path) -> None:
        self.log = log
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                **run_in(checkout, settings, "spark_jobs.jobs.land_events"),
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def wait(self, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 200
        while not done():
            tail = self.log.read_text(errors="replace")[-3_000:]
            assert self.process.poll() is None, f"the job ended:\n{tail}"
            assert time.monotonic() < deadline, f"nothing happened:\n{tail}"
            time.sleep(0.2)

    def stop(self) -> None:
        os.kill(self.process.pid, signal.SIGTERM)
        assert self.process.wait(60) == 0

    def end(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(20)


def of_1_0(number: int) -> dict[str, Any]:
    return {
        "event_id": f"0192d3a4-5b6c-7d8e-9f02-{number:012d}",
        "tenant_id": "evolution-test",
        "schema_version": "1.0",
        "event_type": "email.opened",
        "occurred_at": "2026-01-02T03:04:05.678Z",
        "message_id": f"m{number}",
        "city": "Ghent",
    }


def of_1_1(number: int) -> dict[str, Any]:
    return of_1_0(number) | {
        "schema_version": "1.1",
        "mood": "sunny",
        "score": number % 7 + 1,
        "seen_at": "2026-01-02T03:04:06.5+01:00",
        "hint": "of a version after that",
    }


def produce(own: Settings, events: list[dict[str, Any]]) -> None:
    producer = Producer({"bootstrap.servers": own.kafka.servers})
    for event in events:
        producer.produce(own.kafka.topics.events, value=json.dumps(event).encode())
    assert producer.flush(30) == 0


def accounted(table: Client, own: Settings) -> int:
    return int(
        table.query(
            "SELECT sum(rows_stored + rows_dead_lettered) FROM raw.landed_ranges "
            "WHERE topic = {t:String}",
            parameters={"t": own.kafka.topics.events},
        ).first_row[0]
    )


def ledger(table: Client, own: Settings) -> list[Any]:
    return list(
        table.query(
            "SELECT first_offset, last_offset, batch_id FROM raw.landed_ranges "
            "WHERE topic = {t:String} ORDER BY first_offset",
            parameters={"t": own.kafka.topics.events},
        ).result_rows
    )


def test_both_versions_land_when_the_contract_grows_under_a_running_job(
    own: Settings, table: Client, next_release: Path, tmp_path: Path
) -> None:
    produce(own, [*map(of_1_0, range(10)), *map(of_1_1, range(10, 20))])
    old_job = Job(ROOT, own, tmp_path / "old.log")
    try:
        old_job.wait(lambda: accounted(table, own) == 20)
        [(kept, count)] = table.query(
            "SELECT properties, count() FROM raw.events WHERE schema_version = '1.1' "
            "AND message_id = 'm13' GROUP BY 1"
        ).result_rows
        assert count == 1
        assert json.loads(kept) == {
            name: value for name, value in of_1_1(13).items() if name not in of_1_0(13)
        }
        apply_migration(own, table, next_release)
        # the old job knows nothing of the columns and goes on
        produce(own, [*map(of_1_0, range(20, 25)), *map(of_1_1, range(25, 30))])
        old_job.wait(lambda: accounted(table, own) == 30)
        old_job.stop()
    finally:
        old_job.end()
    before = ledger(table, own)

    wrong = of_1_1(49) | {"score": "high"}
    produce(own, [*map(of_1_0, range(30, 40)), *map(of_1_1, range(40, 49)), wrong])
    new_job = Job(next_release, own, tmp_path / "new.log")
    try:
        new_job.wait(lambda: accounted(table, own) == 50)
        new_job.stop()
    finally:
        new_job.end()
    after = ledger(table, own)
    assert after[: len(before)] == before
    assert after[len(before)][0] == before[-1][1] + 1
    # the checkpoint of the old job was gone on with: a new one would count batches from 0
    assert after[-1][2] > max(batch for *_, batch in before)
    check_rows(table)


def apply_migration(own: Settings, table: Client, next_release: Path) -> None:
    """What the next release says of itself, and its migration as it prints it."""
    check = subprocess.run(
        **run_in(next_release, own, "herald.cli.main", "contract", "check", "--json"),
        capture_output=True,
        text=True,
        check=True,
    )
    verdict = json.loads(check.stdout)
    assert (verdict["verdict"], verdict["version"]) == ("compatible", "1.1")
    assert [change["where"] for change in verdict["changes"]] == [
        "event.mood",
        "event.score",
        "event.seen_at",
    ]
    printed = subprocess.run(
        **run_in(next_release, own, "herald.cli.main", "contract", "migration"),
        capture_output=True,
        text=True,
        check=True,
    )
    for statement in split_statements(printed.stdout):
        table.command(statement)


def check_rows(table: Client) -> None:
    """Every event once; the new columns hold what 1.1 sent, whichever job landed it, and when."""
    rows = table.query(
        "SELECT message_id, schema_version, mood, score, toString(seen_at), city, properties "
        "FROM raw.events WHERE tenant_id = 'evolution-test'"
    ).result_rows
    found = {row[0]: row[1:] for row in rows}
    assert len(rows) == len(found) == 49
    for number in (*range(10), *range(20, 25), *range(30, 40)):
        assert found[f"m{number}"] == ("1.0", "", 0, None, "Ghent", "")
    for number in (*range(10, 20), *range(25, 30), *range(40, 49)):
        version, mood, score, seen_at, city, properties = found[f"m{number}"]
        assert (version, mood, score, city) == ("1.1", "sunny", number % 7 + 1, "Ghent")
        assert seen_at == "2026-01-02 02:04:06.500"
        assert json.loads(properties)["hint"] == "of a version after that"
    assert json.loads(found["m45"][5]) == {"hint": "of a version after that"}
    dead = table.query("SELECT error_field, contract_version FROM raw.dead_letters").result_rows
    assert dead == [("score", "1.1")]
