"""Dead letters on a real broker, warehouse and Valkey: browsed, mended, sent again once."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from clickhouse_connect.driver.client import Client
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from typer.testing import CliRunner

from herald.cli.main import build_app
from herald.dead_letters.errors import ReplayBrokenError, ReplayBusyError
from herald.dead_letters.ledger import ReplayLedger
from herald.dead_letters.lock import replay_lock
from herald.dead_letters.replay import replay
from herald.dead_letters.selection import Selection
from herald.settings import Settings, Topics
from infra.local.environment import child_environment
from infra.local.platform import Platform
from spark_jobs.jobs.land_range import Lander, TaskConfig
from spark_jobs.sources.ranges import OffsetRange
from tests.integration.serving.conftest import serve

TOPIC = "letters-test.events"
UPPER = '$ ~> | $ | {"country": $uppercase(country)} |'
NOW_MS = 1_790_000_000_000


def event(number: int, **changes: Any) -> bytes:
    base = {
        "event_id": f"0192d3a4-5b6c-7d8e-9f03-{number:012d}",
        "tenant_id": "letters-test",
        "event_type": "push.sent",
        "occurred_at": "2026-01-02T03:04:05.678Z",
        "message_id": f"m{number}",
    }
    return json.dumps({**base, **changes}).encode()


class Rig:
    """A topic, and the landing of its ranges."""

    def __init__(self, settings: Settings, warehouse: Client) -> None:
        self.settings = settings
        self.warehouse = warehouse
        self.lander = Lander(TaskConfig.of(settings))
        self._producer = Producer({"bootstrap.servers": settings.kafka.servers})
        self._landed = 0

    def produce(self, *values: bytes) -> None:
        for value in values:
            self._producer.produce(TOPIC, value=value, key=b"k", partition=0)
        assert self._producer.flush(30) == 0

    def end(self) -> int:
        consumer = Consumer(
            {"bootstrap.servers": self.settings.kafka.servers, "group.id": "letters-test"}
        )
        _, end = consumer.get_watermark_offsets(TopicPartition(TOPIC, 0), timeout=20)
        consumer.close()
        return int(end)

    def land(self) -> None:
        end = self.end()
        if end > self._landed:
            self.lander.land(OffsetRange(TOPIC, 0, self._landed, end - 1, NOW_MS), 0)
            self._landed = end

    def copies(self, *numbers: int) -> list[int]:
        """How often each event is in the facts."""
        self.land()
        rows = self.warehouse.query(
            "SELECT message_id, count() FROM raw.events WHERE _topic = {t:String} GROUP BY 1",
            parameters={"t": TOPIC},
        ).result_rows
        found = dict(rows)
        return [found.get(f"m{number}", 0) for number in numbers]

    def replay(self, error_class: str, fix_up: str = "", **options: Any) -> Any:
        selection = Selection(error_class, topic=TOPIC)
        return replay(self.warehouse, self.settings, selection, fix_up=fix_up, **options)


@pytest.fixture(scope="module")
def rig(
    platform: Platform,
    broker: str,
    valkey: str,
    warehouse: Client,
    free_port: Callable[[], int],
) -> Iterator[Rig]:
    names = {name: f"letters-test.{name}" for name in Topics.model_fields}
    admin = AdminClient({"bootstrap.servers": broker})
    wanted = [NewTopic(names[n], 1) for n in ("events", "dead_letters")]
    for future in admin.create_topics(wanted).values():
        future.result(20)
    settings = platform.settings
    rig = Rig(
        settings.model_copy(
            update={
                "kafka": settings.kafka.model_copy(update={"topics": Topics(**names)}),
                "api": settings.api.model_copy(update={"port": free_port()}),
            }
        ),
        warehouse,
    )
    rig.produce(
        event(0),
        *(event(n, country="de") for n in range(1, 6)),
        event(6, country="xxx"),
        event(7, tenant_id=7),
        b"{'single': 'quotes'}",
        *(event(n, currency="eur") for n in range(20, 24)),
        *(event(n, attempt=300) for n in range(30, 34)),
    )
    rig.land()
    yield rig
    rig.lander.consumer.close()
    rig.lander.sink.close()


@pytest.fixture(scope="module")
def api(rig: Rig) -> Iterator[httpx.Client]:
    token = rig.settings.api.password.get_secret_value()
    headers = {"Authorization": f"Bearer {token}"}
    with (
        serve(rig.settings) as url,
        httpx.Client(base_url=url, headers=headers, timeout=60) as client,
    ):
        yield client


def test_letters_are_browsed_by_filter_and_page_when_asked(api: httpx.Client, rig: Rig) -> None:
    stats = api.get("/v1/dead-letters/stats", params={"topic": TOPIC}).json()
    assert {(s["error_class"], s["error_field"], s["dead_letters"]) for s in stats} == {
        ("invalid_value", "country", 6),
        ("invalid_value", "currency", 4),
        ("invalid_value", "attempt", 4),
        ("wrong_type", "tenant_id", 1),
        ("malformed_json", "", 1),
    }
    ask: dict[str, str | int] = {
        "topic": TOPIC,
        "class": "invalid_value",
        "tenant": "letters-test",
        "limit": 6,
    }
    seen: list[str] = []
    cursor = ""
    for expected in (6, 6, 2):
        page = api.get("/v1/dead-letters", params={**ask, "cursor": cursor}).json()
        assert len(page["dead_letters"]) == expected
        seen += [letter["id"] for letter in page["dead_letters"]]
        cursor = page["next_cursor"]
    assert cursor == ""
    assert len(set(seen)) == 14
    assert "value" not in page["dead_letters"][0]
    for nothing in ({"tenant": "other"}, {"until": "2020-01-01T00:00:00Z"}, {"replayed": "true"}):
        answer = api.get("/v1/dead-letters", params={"topic": TOPIC, **nothing})
        assert answer.json()["dead_letters"] == []


def test_letter_shows_its_bytes_when_asked_by_id(api: httpx.Client) -> None:
    letter = api.get(f"/v1/dead-letters/{TOPIC}:0:8").json()
    assert letter["value"] == "{'single': 'quotes'}"
    assert (letter["error_class"], letter["key"], letter["replays"]) == ("malformed_json", "k", [])
    assert api.get(f"/v1/dead-letters/{TOPIC}:0:0").status_code == 404
    for wrong in ("/v1/dead-letters/x", "/v1/dead-letters?cursor=x", "/v1/dead-letters?class=x"):
        assert api.get(wrong).status_code == 422
    assert httpx.get(f"{api.base_url}/v1/dead-letters").status_code == 401


def test_replay_by_api_lands_each_mended_letter_once_when_it_is_repeated(
    api: httpx.Client, rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    ask: dict[str, Any] = {"filter": {"topic": TOPIC, "field": "country"}, "fix_up": UPPER}
    before = rig.end()
    with caplog.at_level(logging.DEBUG):
        dry = api.post("/v1/dead-letters/replay", json=ask).json()
        assert (dry["dry_run"], dry["selected"], dry["sendable"]) == (True, 6, 5)
        assert (dry["sent"], dry["refused"]) == (0, 1)
        assert dry["reasons"] == {"invalid_value country": 1}
        assert '"country":"DE"' in dry["examples"][0]["after"]
        assert rig.end() == before
        for expected in (5, 0):
            done = api.post("/v1/dead-letters/replay", json={**ask, "dry_run": False}).json()
            assert done["sent"] == expected
            assert rig.copies(*range(1, 7)) == [1, 1, 1, 1, 1, 0]
    assert "9f03" not in caplog.text  # no id of an event, no value
    assert "letters-test" not in caplog.text
    shown = api.get(f"/v1/dead-letters/{TOPIC}:0:1").json()
    [sent] = shown["replays"]
    assert (sent["principal"], sent["fix_up"]) == ("api:admin", UPPER)
    assert sent["new_offset"] == before
    assert shown["is_replayed"]
    for wrong in ({"fix_up": "1 +"}, {"filter": {"ids": ["x"]}}, {"limit": 100_000}):
        assert api.post("/v1/dead-letters/replay", json={**ask, **wrong}).status_code == 422


def test_replay_leaves_out_what_the_fix_up_gives_nothing_for(rig: Rig) -> None:
    outcome = rig.replay("malformed_json", 'missing.path ? "x" : nothing', dry_run=True)
    assert (outcome.skipped, outcome.sendable) == (1, 0)
    outcome = rig.replay("wrong_type", "$uppercase(tenant_id)", dry_run=True)
    assert (outcome.failed, outcome.sendable) == (1, 0)
    limited = rig.replay("invalid_value", dry_run=True, limit=3)
    assert (limited.refused, limited.left) == (3, limited.selected - 3 - 5)


KILLED = """
import os, signal, sys
from herald.dead_letters import lock
from herald.dead_letters.ledger import ReplayLedger
lock.SECONDS, lock.RENEW_SECONDS = 6, 0.5
ReplayLedger.sent = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
sys.argv = ["herald", "dead-letters", "replay", "--topic", sys.argv[1], "--field", "currency",
            "--fix-up", sys.argv[2]]
from herald.cli.main import run
run()
"""


def test_replay_lands_each_letter_once_when_it_was_killed_after_sending(rig: Rig) -> None:
    fix = '$ ~> | $ | {"currency": $uppercase(currency)} |'
    before = rig.end()
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, TOPIC, fix],
        env={**child_environment(rig.settings), "PYTHONPATH": ":".join(p for p in sys.path if p)},
        check=False,
        capture_output=True,
        text=True,
    )
    assert killed.returncode == -9, killed.stderr
    assert rig.end() == before + 4
    selection = Selection(field="currency", topic=TOPIC)
    outcome = replay(rig.warehouse, rig.settings, selection, fix_up=fix)
    assert (outcome.recovered, outcome.already_replayed, outcome.sent) == (4, 4, 0)
    assert rig.copies(*range(20, 24)) == [1, 1, 1, 1]
    assert ReplayLedger(rig.warehouse).open_claims() == []


def test_replay_sends_what_a_dead_one_only_claimed(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    fix = '$ ~> | $ | {"attempt": 3} |'
    selection = Selection(field="attempt", topic=TOPIC)

    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("herald.dead_letters.replay._Sender.send", die)
    with pytest.raises(KeyboardInterrupt):
        replay(rig.warehouse, rig.settings, selection, fix_up=fix)
    monkeypatch.undo()
    assert len(ReplayLedger(rig.warehouse).open_claims()) == 4
    outcome = replay(rig.warehouse, rig.settings, selection, fix_up=fix)
    assert (outcome.recovered, outcome.sent) == (0, 4)
    assert ReplayLedger(rig.warehouse).open_claims() == []
    assert rig.copies(*range(30, 34)) == [1, 1, 1, 1]


def test_replay_refuses_when_another_is_under_way_or_something_is_away(
    rig: Rig, free_port: Callable[[], int]
) -> None:
    with replay_lock(rig.settings.valkey) as held:
        held.check()
        with pytest.raises(ReplayBusyError, match="another replay"):
            rig.replay("wrong_type", wait_seconds=0)
    port = free_port()
    valkey = rig.settings.valkey.model_copy(update={"port": port})
    away = rig.settings.model_copy(update={"valkey": valkey})
    with pytest.raises(ReplayBrokenError, match=f"Valkey at .*:{port} does not answer"):
        replay(rig.warehouse, away, Selection(topic=TOPIC))


def test_commands_show_count_and_replay_when_used(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in child_environment(rig.settings).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("COLUMNS", "300")
    runner, app = CliRunner(), build_app()

    def run(*words: str) -> str:
        done = runner.invoke(app, ["dead-letters", *words])
        assert done.exit_code == 0, done.output
        return done.output

    assert "malformed_json" in run("stats", "--topic", TOPIC)
    listed = json.loads(run("list", "--topic", TOPIC, "--class", "wrong_type", "--json"))
    assert [letter["error_field"] for letter in listed] == ["tenant_id"]
    assert listed[0]["id"].split(":")[0] in run("list", "--topic", TOPIC)
    assert "single" in run("show", f"{TOPIC}:0:8")
    fix = '$ ~> | $ | {"tenant_id": "letters-test"} |'
    only = ("replay", "--id", listed[0]["id"], "--fix-up", fix)
    assert '"tenant_id":"letters-test"' in run(*only, "--dry-run", "--json").replace("\\", "")
    assert rig.copies(7) == [0]
    done = json.loads(run(*only, "--examples", "0", "--json"))
    assert (done["sent"], done["examples"]) == (1, [])
    assert rig.copies(7) == [1]
    refused = runner.invoke(app, ["dead-letters", "show", "nonsense"])
    assert refused.exit_code == 1
