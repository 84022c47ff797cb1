"""The pattern stream with a real broker and warehouse: killed within a window, it goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from clickhouse_connect.driver.client import Client
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from pydantic import SecretStr

from herald.alerts.store import WarehouseStore
from herald.settings import Settings
from herald.warehouse.client import connect
from infra.local.environment import child_environment
from infra.local.platform import Platform
from spark_jobs.jobs.detect_patterns import JOB, heartbeat_file
from tests.data.alert_receivers import Receiver, http_receiver

TOPIC = "patterns-test.events"
TENANT = "patterns-test"
COMMON = {
    "owner": "team", "severity": "warning", "every": "1s",
    "runbook": "docs/runbooks/alerts-bounce_spike.md",
}  # fmt: skip
RULES = [
    {
        **COMMON, "name": "quick_bounces", "kind": "bounce_spike", "window": "8s", "for": "4s",
        "cooldown": "5s", "threshold": 0.2, "min_volume": 20, "certainty": 1,
        "group_by": ["provider"],
    },
    {
        **COMMON, "name": "many_sends", "kind": "over_messaging", "window": "1h", "hop": "30m",
        "cooldown": "5s", "threshold": 5, "min_volume": 1, "recent": "10m",
    },
]  # fmt: skip


class Rig:
    """A topic, a stand-in for landing that writes what it says, and the job."""

    def __init__(self, settings: Settings, state: Path, hook: Receiver) -> None:
        rules = state / "rules"
        rules.mkdir()
        (rules / "quick.yaml").write_text(yaml.safe_dump({"rules": RULES}))
        topics = settings.kafka.topics.model_copy(
            update={"events": TOPIC, "alerts": "patterns-test.alerts"}
        )
        self.settings = settings.model_copy(
            update={
                "state_dir": state,
                "kafka": settings.kafka.model_copy(update={"topics": topics}),
                "alerts": settings.alerts.model_copy(
                    update={
                        "rules_dir": rules, "trigger_seconds": 0.5, "settle_seconds": 1.0,
                        "lookback_minutes": 1, "group_seconds": 0.0,
                        "webhook_url": SecretStr(hook.url),
                    }
                ),
            }
        )  # fmt: skip
        self.log = state / "patterns.log"
        self.job: subprocess.Popen[bytes] | None = None
        self.offset = 0
        self._producer = Producer({"bootstrap.servers": settings.kafka.servers})
        self._client = connect(settings.warehouse)

    def create_topics(self) -> None:
        admin = AdminClient({"bootstrap.servers": self.settings.kafka.servers})
        topics = self.settings.kafka.topics
        for future in admin.create_topics(
            [NewTopic(topics.events, 1), NewTopic(topics.alerts, 1)]
        ).values():
            future.result(20)

    def send(self, events: list[dict[str, Any]]) -> None:
        """Produce events and land them: rows, and their range in the ledger."""
        now = datetime.now(UTC)
        for event in events:
            value = {**event, "occurred_at": now.isoformat(timespec="milliseconds")}
            self._producer.produce(TOPIC, value=json.dumps(value).encode(), partition=0)
        assert self._producer.flush(30) == 0
        first, self.offset = self.offset, self.offset + len(events)
        self._client.insert(
            "raw.events",
            [
                [uuid.uuid4(), TENANT, e["event_type"], e["event_type"].partition(".")[2], now,
                 e.get("user_id", ""), e.get("provider", ""), TOPIC, 0, first + i, now]
                for i, e in enumerate(events)
            ],
            column_names=["event_id", "tenant_id", "event_type", "action", "occurred_at", "user_id",
                          "provider", "_topic", "_partition", "_offset", "landed_at"],
        )  # fmt: skip
        self._client.insert(
            "raw.landed_ranges",
            [[TOPIC, 0, first, self.offset - 1, len(events), 0, now, now]],
            column_names=["topic", "partition", "first_offset", "last_offset", "rows_stored",
                          "rows_dead_lettered", "max_occurred_at", "landed_at"],
        )  # fmt: skip

    def start(self) -> None:
        with self.log.open("ab") as out:
            self.job = subprocess.Popen(
                [sys.executable, "-m", "spark_jobs.jobs.detect_patterns"],
                env={**os.environ, **child_environment(self.settings)},
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def kill(self) -> None:
        assert self.job is not None
        os.killpg(self.job.pid, signal.SIGKILL)
        self.job.wait(20)

    def stop(self) -> int:
        assert self.job is not None
        os.kill(self.job.pid, signal.SIGTERM)
        return self.job.wait(60)

    def wait(self, done: Callable[[], bool], seconds: float = 200) -> None:
        deadline = time.monotonic() + seconds
        while not done():
            assert self.job is not None
            tail = self.log.read_text(errors="replace")[-3_000:]
            assert self.job.poll() is None, f"the job ended:\n{tail}"
            assert time.monotonic() < deadline, f"nothing happened:\n{tail}"
            time.sleep(0.1)

    def counted(self) -> int:
        """Offset up to which a committed batch has counted users."""
        folder = self.settings.state_dir / "patterns" / JOB
        done = [int(p.name) for p in (folder / "commits").glob("[0-9]*")]
        if not done:
            return -1
        offsets = (folder / "offsets" / str(max(done))).read_text().splitlines()
        return int(json.loads(offsets[-1]).get(f"{TOPIC}/0", -1))


class Traffic:
    """A steady stream of events in a thread; `bad` makes every second message bounce."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._extra: list[dict[str, Any]] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.bad = False
        self.error: Exception | None = None

    def __enter__(self) -> Traffic:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)

    def add(self, events: list[dict[str, Any]]) -> None:
        """Let these go out with the next ones."""
        with self._lock:
            self._extra += events

    def _run(self) -> None:
        while not self._stop.is_set():
            sent = [event("email.sent", f"u{uuid.uuid4()}") for _ in range(6)]
            ends = ["email.bounced" if self.bad and i % 2 else "email.delivered" for i in range(6)]
            with self._lock:
                extra, self._extra = self._extra, []
            answers = [event(e, s["user_id"]) for e, s in zip(ends, sent, strict=True)]
            self._rig.send([*sent, *answers, *extra])
            self._stop.wait(0.4)


def event(kind: str, user: str) -> dict[str, Any]:
    return {
        "event_id": str(uuid.uuid4()), "tenant_id": TENANT, "event_type": kind, "user_id": user,
        "provider": "ses",
    }  # fmt: skip


@pytest.fixture(scope="module")
def hook() -> Iterator[Receiver]:
    with http_receiver() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def rig(
    platform: Platform,
    broker: str,
    warehouse: Client,
    hook: Receiver,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Rig]:
    rig = Rig(platform.settings, tmp_path_factory.mktemp("patterns"), hook)
    rig.create_topics()
    yield rig
    if rig.job is not None and rig.job.poll() is None:
        rig.kill()


def told(hook: Receiver, rule: str) -> list[tuple[str, str]]:
    return [(b["event"], b["idempotency_key"]) for b in hook.bodies if b["rule"] == rule]


@pytest.mark.timeout(600)  # two starts of Spark on a busy machine
def test_one_alert_opens_and_resolves_when_the_job_is_killed_within_the_window(
    rig: Rig, hook: Receiver, warehouse: Client
) -> None:
    rig.start()
    with Traffic(rig) as traffic:
        traffic.add([event("email.sent", "often")] * 3)
        rig.wait(lambda: rig.counted() >= 36)
        traffic.bad = True
        began = datetime.now(UTC)
        rig.wait(lambda: bool(told(hook, "quick_bounces")) or _is_wrong(warehouse, began))
        # wrong already, but not for as long as the rule wants
        rig.kill()
        traffic.add([event("email.sent", "often")] * 3)
        rig.start()
        rig.wait(lambda: bool(told(hook, "quick_bounces")))
        traffic.bad = False
        rig.wait(lambda: "alerts.resolved" in dict(told(hook, "quick_bounces")))
        # three sends before the kill and three after it make six only if the state survived
        rig.wait(lambda: bool(told(hook, "many_sends")))
    assert heartbeat_file(rig.settings).is_file()
    assert rig.stop() == 0
    events = told(hook, "quick_bounces")
    assert [name for name, _ in events] == ["alerts.opened", "alerts.resolved"]
    store = WarehouseStore(warehouse)
    (bounces,) = store.find(tenant=TENANT, rule="quick_bounces")
    assert (bounces.status, bounces.group_key) == ("resolved", {"provider": "ses"})
    assert bounces.opened_at >= began
    (sends,) = store.find(tenant=TENANT, rule="many_sends")
    assert "1 users got 6 messages" in sends.summary
    rows = warehouse.query(
        "SELECT user_id, max(sends) FROM live.messaged_users FINAL "
        f"WHERE tenant_id = '{TENANT}' GROUP BY user_id"
    ).result_rows
    assert rows == [("often", 6)]


def _is_wrong(warehouse: Client, since: datetime) -> bool:
    """Half of the window is bad: a rule without `for` would have fired."""
    bounced = warehouse.query(
        "SELECT sum(bounced) FROM live.events_second WHERE tenant_id = {t:String} "
        "AND bucket_at >= {since:DateTime64(3, 'UTC')}",
        parameters={"t": TENANT, "since": since},
    ).result_rows[0][0]
    return int(bounced) >= 9


def test_job_ends_with_one_message_when_a_rule_is_wrong(rig: Rig, tmp_path: Path) -> None:
    bad = {"rules": [{**RULES[0], "threshold": 7}]}
    (tmp_path / "bad.yaml").write_text(yaml.safe_dump(bad))
    alerts = rig.settings.alerts.model_copy(update={"rules_dir": tmp_path})
    done = subprocess.run(
        [sys.executable, "-m", "spark_jobs.jobs.detect_patterns"],
        env={**os.environ, **child_environment(rig.settings.model_copy(update={"alerts": alerts}))},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 2
    assert "bad.yaml: quick_bounces" in done.stderr
    assert "threshold=7: Input should be less than 1" in done.stderr
