"""POST /v1/events against a real broker, Valkey and warehouse: each event once, or not taken."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import zstandard
from clickhouse_connect.driver.client import Client
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from prometheus_client import CollectorRegistry

from herald.contract.judging import RejectedError
from herald.intake.broker import EventTopic, Sendable
from herald.intake.recent import Claim, RecentIds
from herald.intake.service import Intake, _Head, _identity
from herald.settings import Settings, Topics
from infra.local.platform import Platform
from tests.integration.serving.conftest import serve

TOPIC = "intake-test.events"
PARTITIONS = 2


def event(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "event_id": f"0192d3a4-5b6c-7d8e-9f01-{number:012d}",
        "tenant_id": "intake-test",
        "event_type": "push.sent",
        "occurred_at": "2026-01-02T03:04:05.678Z",
        "user_id": f"u{number % 7}",
        **changes,
    }


@pytest.fixture(scope="module")
def own(
    platform: Platform,
    broker: str,
    valkey: str,
    warehouse: Client,
    free_port: Callable[[], int],
) -> Settings:
    admin = AdminClient({"bootstrap.servers": broker})
    admin.create_topics([NewTopic(TOPIC, PARTITIONS)])[TOPIC].result(20)
    settings = platform.settings
    kafka = settings.kafka.model_copy(update={"topics": Topics(events=TOPIC)})
    api = settings.api.model_copy(update={"port": free_port()})
    return settings.model_copy(update={"kafka": kafka, "api": api})


@pytest.fixture(scope="module")
def url(own: Settings) -> Iterator[str]:
    with serve(own) as address:
        yield address


@pytest.fixture
def api(url: str, own: Settings) -> Iterator[httpx.Client]:
    with client_of(url, own) as client:
        yield client


def client_of(url: str, settings: Settings) -> httpx.Client:
    headers = {"Authorization": f"Bearer {settings.api.password.get_secret_value()}"}
    return httpx.Client(base_url=url, headers=headers, timeout=40)


def on_topic(own: Settings) -> list[bytes]:
    """Every value of the topic."""
    consumer = Consumer({"bootstrap.servers": own.kafka.servers, "group.id": "intake-test"})
    values: list[bytes] = []
    for partition in range(PARTITIONS):
        slot = TopicPartition(TOPIC, partition, 0)
        _, end = consumer.get_watermark_offsets(slot, timeout=20)
        consumer.assign([slot])
        position = 0
        while position < end:
            for message in consumer.consume(end - position, timeout=10):
                assert message.error() is None
                values.append(message.value())
                position = message.offset() + 1
    consumer.close()
    return values


def copies(own: Settings, *numbers: int) -> list[int]:
    """How often each event is on the topic."""
    ids = [json.loads(value)["event_id"] for value in on_topic(own)]
    return [ids.count(event(number)["event_id"]) for number in numbers]


def post(api: httpx.Client, events: list[dict[str, Any]]) -> httpx.Response:
    return api.post("/v1/events", json=events)


def test_batch_is_on_the_topic_once_when_it_is_sent_three_times(
    api: httpx.Client, own: Settings
) -> None:
    batch = [event(1), event(2, country="de"), event(3), event(1, event_type="push.delivered")]
    first = post(api, batch)
    assert first.status_code == 202, first.text
    document = first.json()
    assert (document["accepted"], document["duplicates"], document["refused"]) == (2, 1, 1)
    [error] = document["errors"]
    assert error["index"] == 1
    assert error["event_id"] == event(2)["event_id"]
    assert (error["class"], error["field"], error["value"]) == ("invalid_value", "country", "'de'")
    assert "[A-Z]{2}" in error["rule"]
    assert copies(own, 1, 2, 3) == [1, 0, 1]
    for _ in range(2):
        again = post(api, batch).json()
        assert (again["accepted"], again["duplicates"], again["refused"]) == (0, 3, 1)
    mended = post(api, [event(2, country="DE"), event(3)]).json()
    assert (mended["accepted"], mended["duplicates"]) == (1, 1)
    assert copies(own, 1, 2, 3) == [1, 1, 1]


@pytest.mark.parametrize(
    ("number", "body", "headers"),
    [
        (10, lambda e: b'{"events":[' + e + b"]}", {"Content-Type": "application/json"}),
        (11, lambda e: e + b"\n", {"Content-Type": "application/x-ndjson"}),
        (
            12,
            lambda e: gzip.compress(b"[" + e + b"]"),
            {"Content-Type": "application/json", "Content-Encoding": "gzip"},
        ),
        (
            13,
            lambda e: zstandard.compress(e),
            {"Content-Type": "application/x-ndjson", "Content-Encoding": "zstd"},
        ),
    ],
)
def test_event_keeps_its_bytes_when_the_form_differs(
    api: httpx.Client,
    own: Settings,
    number: int,
    body: Callable[[bytes], bytes],
    headers: dict[str, str],
) -> None:
    raw = json.dumps(event(number, revenue=1.5, properties={"a": [1, 2.50]})).encode()
    answer = api.post("/v1/events", content=body(raw), headers=headers)
    assert answer.status_code == 202, answer.text
    assert answer.json()["accepted"] == 1
    assert on_topic(own).count(raw) == 1


def problem_of(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    document: dict[str, Any] = answer.json()
    assert document["code"] == code
    return document


def test_batch_is_refused_with_a_reason_when_it_cannot_be_read(api: httpx.Client) -> None:
    lines = {"Content-Type": "application/x-ndjson"}
    bomb = gzip.compress(bytes(100_000_000))
    packed = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    problem_of(api.post("/v1/events", content=bomb, headers=packed), 413, "batch_too_large")
    long = b"x" * (8 * 1024**2 + 1)
    problem_of(api.post("/v1/events", content=long, headers=lines), 413, "body_too_large")
    many = b"{}\n" * 10_001
    problem_of(api.post("/v1/events", content=many, headers=lines), 413, "too_many_events")
    problem_of(api.post("/v1/events", content=b"x"), 415, "unknown_type")
    refused = problem_of(post(api, [event(1, tenant_id="")]), 422, "no_valid_event")
    assert refused["errors"][0]["field"] == "events.0.tenant_id"
    no_token = httpx.post(f"{api.base_url}/v1/events", json=[event(1)])
    problem_of(no_token, 401, "unauthorized")


def test_openapi_shows_each_form_when_asked(api: httpx.Client) -> None:
    operation = api.get("/openapi.json").json()["paths"]["/v1/events"]["post"]
    content = operation["requestBody"]["content"]
    assert set(content) == {"application/json", "application/x-ndjson"}
    assert set(operation["responses"]) >= {"202", "413", "422", "429", "503"}
    for example in content["application/json"]["examples"].values():
        assert api.post("/v1/events", json=example["value"]).status_code == 202
    lines = content["application/x-ndjson"]["examples"]["lines"]["value"]
    answer = api.post("/v1/events", content=lines, headers={"Content-Type": "application/x-ndjson"})
    assert answer.status_code == 202


def test_each_event_is_taken_once_when_many_send_the_same_batch(
    api: httpx.Client, own: Settings
) -> None:
    batch = [event(n) for n in range(100, 130)]
    accepted: list[int] = []

    def send() -> None:
        while (answer := post(api, batch)).status_code != 202:
            assert answer.json()["code"] == "batch_under_way", answer.text
        accepted.append(answer.json()["accepted"])

    threads = [threading.Thread(target=send) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(accepted) == 6
    assert sum(accepted) == 30
    assert copies(own, *range(100, 130)) == [1] * 30


def recent_of(own: Settings, port: int = 0) -> RecentIds:
    valkey = own.valkey
    password = valkey.password.get_secret_value()
    return RecentIds(f"redis://:{password}@{valkey.host}:{port or valkey.port}/0", 600)


def identity(number: int) -> str:
    return _identity(_Head(event_id=event(number)["event_id"], tenant_id="intake-test"))


def test_event_is_taken_once_when_an_earlier_request_died_half_way(
    api: httpx.Client, own: Settings
) -> None:
    """One event was sent and never confirmed, one only claimed, one is being sent."""
    recent = recent_of(own)
    topic = EventTopic(own.kafka.servers, TOPIC, deliver_seconds=20)
    starts = {p: high for p, (_, high) in topic.ends().items()}
    claim = Claim.new(starts)
    assert recent.claim([identity(200), identity(201)], claim) == [None, None]
    value = json.dumps(event(200)).encode()
    assert topic.send([Sendable("u", value)], claim.token) == [None]

    problem = problem_of(post(api, [event(200), event(202)]), 503, "batch_under_way")
    assert "1 of these events" in problem["detail"]
    assert copies(own, 200, 202) == [1, 0]

    recent.end(claim)
    answer = post(api, [event(200), event(201), event(202)]).json()
    assert (answer["accepted"], answer["duplicates"]) == (2, 1)
    assert copies(own, 200, 201, 202) == [1, 1, 1]
    answer = post(api, [event(200), event(201), event(202)]).json()
    assert (answer["accepted"], answer["duplicates"]) == (0, 3)
    topic.close()
    recent.close()


def test_batch_is_refused_for_now_when_landing_is_too_far_behind(
    own: Settings, warehouse: Client, free_port: Callable[[], int]
) -> None:
    settings = own.model_copy(
        update={
            "intake": own.intake.model_copy(update={"max_lag": 5}),
            "api": own.api.model_copy(update={"port": free_port()}),
        }
    )
    produced = len(on_topic(own))
    assert produced > 5
    with serve(settings) as address, client_of(address, settings) as api:
        answer = post(api, [event(300)])
        document = problem_of(answer, 429, "too_far_behind")
        assert document["detail"].startswith(f"{produced} events wait")
        assert int(answer.headers["Retry-After"]) >= 1
        assert copies(own, 300) == [0]
        for partition in range(PARTITIONS):
            warehouse.command(
                "INSERT INTO raw.landed_ranges (topic, `partition`, first_offset, last_offset, "
                f"landed_at) VALUES ('{TOPIC}', {partition}, 0, 999999, now())"
            )
        while (answer := post(api, [event(300)])).status_code == 429:
            pass
        assert answer.status_code == 202
        figures = api.get("/metrics").text
        assert 'herald_intake_events_total{outcome="accepted"} 1.0' in figures
        assert 'herald_intake_batches_refused_total{code="too_far_behind"}' in figures


def test_nothing_is_claimed_or_lost_when_broker_or_valkey_is_away(
    own: Settings, free_port: Callable[[], int], api: httpx.Client
) -> None:
    port = free_port()
    away: dict[str, dict[str, Any]] = {
        "broker_away": {"kafka": own.kafka.model_copy(update={"port": port})},
        "dedupe_store_away": {"valkey": own.valkey.model_copy(update={"port": port})},
    }
    for code, change in away.items():
        settings = own.model_copy(
            update={**change, "api": own.api.model_copy(update={"port": free_port()})}
        )
        with serve(settings) as address, client_of(address, settings) as client:
            answer = post(client, [event(400)])
            assert str(port) in problem_of(answer, 503, code)["detail"]
            assert int(answer.headers["Retry-After"]) >= 1
    assert post(api, [event(400)]).json()["accepted"] == 1
    assert copies(own, 400) == [1]


def no_rule(_events: object) -> dict[int, RejectedError]:
    return {}


def test_retry_finds_what_the_broker_kept_when_no_acknowledgement_came(
    own: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The records arrive, but the request hears nothing of half of them."""
    topic = EventTopic(own.kafka.servers, TOPIC, deliver_seconds=20)
    recent = recent_of(own)
    intake = Intake(own.intake, topic, recent, no_rule, lambda: None, CollectorRegistry())
    batch = [json.dumps(event(n)).encode() for n in range(500, 504)]
    send = EventTopic.send

    def half_heard(self: EventTopic, records: Any, token: str) -> list[str | None]:
        send(self, records, token)
        return [None, None, "timed out", "timed out"]

    monkeypatch.setattr(EventTopic, "send", half_heard)
    with pytest.raises(Exception, match="2 of 4 events were not acknowledged"):
        intake.take(batch)
    monkeypatch.undo()
    receipt = intake.take(batch)
    assert (receipt.accepted, receipt.duplicates) == (0, 4)
    assert copies(own, *range(500, 504)) == [1, 1, 1, 1]
    intake.close()
