"""Alerts in a real warehouse, told to real receivers: every one, whoever was away in between."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client
from confluent_kafka import Consumer
from confluent_kafka import TopicPartition as KafkaPartition
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, SecretStr

from herald.alerts.destinations import DeliveryError, Destination, destinations
from herald.alerts.dispatch import Dispatcher, pause
from herald.alerts.lifecycle import Changes
from herald.alerts.model import Alert, Transition, TransitionName
from herald.alerts.notice import Notice, group
from herald.alerts.sample import sample
from herald.alerts.store import NoAlertError, WarehouseStore
from herald.settings import Mail, Settings
from tests.data.alert_receivers import Mailbox, Receiver, http_receiver, mail_server

TABLES = ("alerts", "alert_actions", "alert_transitions", "alert_deliveries")


class PostableAlert(BaseModel):
    """Alertmanager's OpenAPI v2 `postableAlert`."""

    model_config = ConfigDict(extra="forbid")

    labels: dict[str, str]
    annotations: dict[str, str]
    starts_at: AwareDatetime = Field(alias="startsAt")
    ends_at: AwareDatetime = Field(alias="endsAt")


class Clock:
    """A clock that tests move."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def store(warehouse: Client) -> WarehouseStore:
    for table in TABLES:
        warehouse.command(f"TRUNCATE TABLE live.{table}")
    return WarehouseStore(warehouse)


@pytest.fixture
def hook() -> Iterator[Receiver]:
    with http_receiver() as receiver:
        yield receiver


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    with mail_server() as box:
        yield box


def alert(number: int = 1, **changes: Any) -> Alert:
    base = sample(datetime.now(UTC)).alert.model_copy(
        update={
            "alert_id": f"{number:032x}", "tenant_id": "acme", "rule": "bounce_rate",
            "kind": "bounce_spike", "severity": "critical", "group_key": {"provider": f"p{number}"},
            "summary": f"acme / p{number}: 9% bounced <b>", "owner": "deliverability",
            "runbook": "docs/runbooks/alerts-bounce_spike.md",
        }
    )  # fmt: skip
    return base.model_copy(update=changes)


def opened(*alerts: Alert, name: TransitionName = "opened") -> Changes:
    return Changes(
        {a.alert_id: a for a in alerts},
        [Transition(transition=name, happened_at=a.updated_at, alert=a) for a in alerts],
    )


def resolved(one: Alert) -> Changes:
    later = one.updated_at + timedelta(seconds=30)
    done = one.model_copy(update={"status": "resolved", "resolved_at": later, "updated_at": later})
    return opened(done, name="resolved")


def with_destinations(settings: Settings, **changes: Any) -> list[Destination]:
    alerts = settings.alerts.model_copy(update=changes)
    return [
        d for d in destinations(settings.model_copy(update={"alerts": alerts}))
        if d.name != "topic"
    ]  # fmt: skip


def webhook(settings: Settings, hook: Receiver) -> list[Destination]:
    return with_destinations(
        settings, webhook_url=SecretStr(f"{hook.url}/in"), webhook_secret=SecretStr("k")
    )


def dispatcher(
    client: Client, told: list[Destination], clock: Clock | None = None, **changes: Any
) -> Dispatcher:
    return Dispatcher(client, told, group_seconds=0, clock=clock or Clock(), **changes)


def deliveries(client: Client) -> list[tuple[str, str, int]]:
    return [
        (str(d), str(o), int(a))
        for d, o, a in client.query(
            "SELECT destination, outcome, attempt FROM live.alert_deliveries "
            "ORDER BY attempted_at, alert_id, transition, attempt"
        ).result_rows
    ]


def test_webhook_is_told_once_with_key_and_signature_when_an_alert_opens(
    warehouse: Client, store: WarehouseStore, settings: Settings, hook: Receiver
) -> None:
    store.write(opened(alert()))
    teller = dispatcher(warehouse, webhook(settings, hook))
    assert teller.round().sent == 1
    assert teller.round().sent == 0
    (body,), (headers,) = hook.bodies, hook.headers
    assert body["event"] == "alerts.opened"
    assert body["alerts"][0]["group_key"] == {"provider": "p1"}
    assert headers["idempotency-key"] == body["idempotency_key"] == f"{1:032x}.opened"
    digest = hmac.new(b"k", hook.raw[0], hashlib.sha256).hexdigest()
    assert headers["x-herald-signature"] == f"sha256={digest}"


def test_webhook_gets_it_under_the_same_key_when_it_failed_before(
    warehouse: Client, store: WarehouseStore, settings: Settings, hook: Receiver
) -> None:
    store.write(opened(alert()))
    clock, hook.answers = Clock(), [503, 500]
    teller = dispatcher(warehouse, webhook(settings, hook), clock)
    assert teller.round().failed == 1
    assert teller.round() == teller.round()  # not before the pause is over
    assert len(hook.bodies) == 1
    for attempts in (1, 2):
        clock.now += pause(attempts) + 0.1
        # as after a crash: another dispatcher knows from the log how far this one came
        teller = dispatcher(warehouse, webhook(settings, hook), clock)
        teller.round()
    assert len({h["idempotency-key"] for h in hook.headers}) == 1
    assert deliveries(warehouse) == [
        ("webhook", "failed", 1), ("webhook", "failed", 2), ("webhook", "delivered", 3),
    ]  # fmt: skip


def test_end_is_not_told_before_the_beginning_when_a_receiver_was_away(
    warehouse: Client, store: WarehouseStore, settings: Settings, hook: Receiver
) -> None:
    store.write(opened(alert()))
    clock, hook.answers = Clock(), [503]
    teller = dispatcher(warehouse, webhook(settings, hook), clock)
    teller.round()
    store.write(resolved(alert()))
    teller.round()
    assert len(hook.bodies) == 1
    clock.now += 60
    teller.round()
    assert [b["event"] for b in hook.bodies[1:]] == ["alerts.opened", "alerts.resolved"]


def test_alerts_of_one_rule_are_told_together_when_they_open_together(
    warehouse: Client, store: WarehouseStore, settings: Settings, hook: Receiver
) -> None:
    other = alert(9, rule="sent_volume", group_key={})
    store.write(opened(alert(1), alert(2), alert(3), other))
    assert dispatcher(warehouse, webhook(settings, hook)).round().sent == 2
    assert sorted(len(b["alerts"]) for b in hook.bodies) == [1, 3]


def test_group_waits_for_others_when_an_alert_is_new(
    warehouse: Client, store: WarehouseStore, settings: Settings, hook: Receiver
) -> None:
    clock = Clock()
    teller = Dispatcher(warehouse, webhook(settings, hook), group_seconds=5, clock=clock)
    store.write(opened(alert(1)))
    assert teller.round().sent == 0
    clock.now += 5
    store.write(opened(alert(2)))
    assert teller.round().sent == 1
    assert len(hook.bodies[0]["alerts"]) == 1


def test_slack_gets_escaped_text_and_blocks_when_an_alert_opens(
    warehouse: Client, store: WarehouseStore, settings: Settings, hook: Receiver
) -> None:
    store.write(opened(alert()))
    told = with_destinations(
        settings, slack_url=SecretStr(hook.url), runbook_url="https://git.example.com/herald"
    )
    dispatcher(warehouse, told, runbook_url="https://git.example.com/herald").round()
    (body,) = hook.bodies
    assert body["text"].startswith("🔴 [critical] bounce_rate opened: acme")
    assert "9% bounced &lt;b&gt;" in body["blocks"][0]["text"]["text"]
    assert (
        "https://git.example.com/herald/docs/runbooks" in body["blocks"][1]["elements"][0]["text"]
    )


def test_alertmanager_gets_the_v2_schema_when_alerts_open_and_resolve(
    warehouse: Client, store: WarehouseStore, settings: Settings, hook: Receiver
) -> None:
    store.write(opened(alert()))
    store.write(resolved(alert()))
    told = with_destinations(settings, alertmanager_url=hook.url)
    dispatcher(warehouse, told).round()
    assert hook.paths == ["/api/v2/alerts"] * 2
    first, last = ([PostableAlert.model_validate(a) for a in body] for body in hook.bodies)
    assert first[0].labels == last[0].labels  # what Alertmanager knows an alert by
    assert first[0].labels["alertname"] == "bounce_rate"
    assert first[0].labels["provider"] == "p1"
    assert first[0].ends_at > datetime.now(UTC) + timedelta(days=1) > last[0].ends_at
    assert last[0].starts_at <= last[0].ends_at


def test_mail_is_sent_with_a_stable_message_id_when_an_alert_opens(
    warehouse: Client, store: WarehouseStore, settings: Settings, mailbox: Mailbox
) -> None:
    mail = Mail(
        host="127.0.0.1", port=mailbox.port, starttls=False, sender="herald@example.com",
        recipients="a@example.com, b@example.com",
    )  # fmt: skip
    store.write(opened(alert()))
    clock, mailbox.refuses = Clock(), True
    teller = dispatcher(warehouse, with_destinations(settings, mail=mail), clock)
    assert teller.round().failed == 1
    mailbox.refuses = False
    clock.now += 60
    assert teller.round().sent == 1
    (letter,) = mailbox.mails
    assert mailbox.recipients == [["a@example.com", "b@example.com"]]
    assert letter["Subject"] == "[critical] bounce_rate opened: acme"
    assert letter["Message-ID"] == f"<{1:032x}.opened@example.com>"
    assert "9% bounced" in letter.get_content()


def test_silence_keeps_people_quiet_and_the_alert_visible(
    warehouse: Client, store: WarehouseStore, settings: Settings, hook: Receiver
) -> None:
    store.write(opened(alert()))
    store.silence(alert().alert_id, "ann", timedelta(hours=1), "deploying")
    again = alert(2, group_key={"provider": "p1"})
    store.write(opened(again))
    outcome = dispatcher(warehouse, webhook(settings, hook)).round()
    assert (outcome.sent, outcome.suppressed) == (0, 3)
    assert not hook.bodies
    assert {a.alert_id for a in store.find(statuses=["firing"])} == {f"{n:032x}" for n in (1, 2)}
    assert store.get(f"{1:032x}").silenced_until is not None


def test_alert_is_given_up_and_logged_when_it_is_too_old(
    warehouse: Client, store: WarehouseStore, settings: Settings, hook: Receiver
) -> None:
    store.write(opened(alert()))
    clock = Clock()
    clock.now += 3 * 3_600
    outcome = dispatcher(warehouse, webhook(settings, hook), clock, give_up_hours=2).round()
    assert outcome.gave_up == 1
    assert deliveries(warehouse) == [("webhook", "gave_up", 1)]


def test_acknowledgement_stays_when_the_job_writes_an_older_state(
    warehouse: Client, store: WarehouseStore
) -> None:
    store.write(opened(alert()))
    seen_by_job = store.known()
    taken = store.acknowledge(alert().alert_id, "ann", "on it")
    assert (taken.status, taken.acknowledged_by) == ("acknowledged", "ann")
    (stale,) = seen_by_job.values()
    store.write(Changes({stale.alert_id: stale.model_copy(update={"value": 0.5})}))
    now = store.get(alert().alert_id)
    assert (now.status, now.acknowledged_by, now.value) == ("acknowledged", "ann", 0.5)
    assert store.acknowledge(alert().alert_id, "bob").acknowledged_by == "ann"
    store.write(resolved(now))
    assert store.get(alert().alert_id).status == "resolved"


def test_store_finds_by_state_tenant_and_rule_and_refuses_what_is_not_there(
    warehouse: Client, store: WarehouseStore
) -> None:
    other = alert(2, tenant_id="other", rule="sent_volume", severity="info")
    store.write(opened(alert(1), other))
    assert len(store.find()) == 2
    assert [a.tenant_id for a in store.find(tenant="other", rule="sent_volume")] == ["other"]
    assert store.find(severity="warning") == []
    assert store.get(f"{2:032x}") == store.find(tenant="other")[0]
    with pytest.raises(NoAlertError, match="alert_id='none': no such alert"):
        store.get("none")
    with pytest.raises(NoAlertError, match="several alerts begin so; write more of it"):
        store.get("0" * 12)
    assert store.get(f"{2:032x}"[:32]).alert_id == f"{2:032x}"


def test_topic_gets_every_transition_under_the_alert_as_key(
    broker: str, warehouse: Client, store: WarehouseStore, settings: Settings
) -> None:
    store.write(opened(alert()))
    store.write(resolved(alert()))
    (topic,) = destinations(settings)
    dispatcher(warehouse, [topic]).round()
    reader = Consumer({"bootstrap.servers": broker, "group.id": "alerts-test"})
    place = KafkaPartition(settings.kafka.topics.alerts, 0, 0)
    reader.assign([place])
    found: list[dict[str, Any]] = []
    deadline = time.monotonic() + 30
    while len(found) < 2:
        assert time.monotonic() < deadline, found
        record = reader.poll(1)
        if record is not None and record.key() == alert().alert_id.encode():
            found.append(json.loads(record.value()))
    reader.close()
    assert [r["transition"] for r in found] == ["opened", "resolved"]
    assert found[1]["status"] == "resolved"


def test_dispatcher_goes_on_when_a_round_fails(
    warehouse: Client, store: WarehouseStore, settings: Settings, hook: Receiver
) -> None:
    class Failing(Dispatcher):
        left = 1

        def round(self) -> Any:
            if self.left:
                self.left -= 1
                raise OSError("warehouse away")
            stop.set()
            return super().round()

    store.write(opened(alert()))
    stop, problems = threading.Event(), []
    teller = Failing(warehouse, webhook(settings, hook), group_seconds=0)
    thread = threading.Thread(target=teller.run, args=(stop, problems.append))
    thread.start()
    thread.join(30)
    assert not thread.is_alive()
    assert problems == ["warehouse: warehouse away"]
    assert len(hook.bodies) == 1


def test_destination_says_why_and_shows_no_secret_when_nobody_listens(
    settings: Settings, free_port: Callable[[], int]
) -> None:
    nobody = free_port()
    told = with_destinations(
        settings,
        webhook_url=SecretStr(f"http://127.0.0.1:{nobody}/token-hunter2"),
        slack_url=SecretStr("no address"),
        mail=Mail(host="127.0.0.1", port=nobody, recipients="a@example.com"),
    )
    assert [d.name for d in told] == ["webhook", "slack", "mail"]
    for destination in told:
        with pytest.raises(DeliveryError) as caught:
            destination.send(Notice((sample(),)))
        assert "hunter2" not in str(caught.value)
        assert destination.name in str(caught.value)


def test_notice_lists_some_and_counts_the_rest_when_there_are_many() -> None:
    (notice,) = group(opened(*(alert(n) for n in range(30))).transitions)
    assert len(notice.lines) == 21
    assert notice.lines[-1] == "and 10 more"
    assert "(30)" in notice.title
    assert notice.idempotency_key.endswith(".opened")


@pytest.mark.parametrize(("attempts", "seconds"), [(1, 2), (3, 8), (20, 300)])
def test_pause_doubles_up_to_five_minutes(attempts: int, seconds: float) -> None:
    assert pause(attempts) == seconds
