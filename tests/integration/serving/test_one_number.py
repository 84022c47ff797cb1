"""One number everywhere: hand-written events through dbt, the API and an independent recount."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import NAMESPACE_OID, uuid5

import httpx
import orjson
import pytest
from clickhouse_connect.driver.client import Client

from herald.engine.errors import InvalidQueryError
from herald.engine.reconcile import Case, default_cases, one_number
from herald.engine.recount import recount
from herald.metrics.registry import exposed, resolve
from herald.settings import Settings
from herald.warehouse.client import connect
from herald.warehouse.dbt import run_dbt
from tests.integration.serving.conftest import own_platform, serve

SENT = datetime(2026, 11, 1, 9, 30, tzinfo=UTC)
INGEST = {
    "date_time_input_format": "best_effort",
    "input_format_null_as_default": "1",
}


class Feed:
    """Writes events and campaigns as the landing job would, a new offset for each."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._offset = 0
        self._rows: list[dict[str, Any]] = []

    def add(self, event_type: str, message: str, after: timedelta, **values: Any) -> None:
        """One event of a message, so long after 09:30 on 1 November."""
        channel, action = event_type.split(".")
        count = values.pop("copies", 1)
        number = values.pop("number", 0)
        row = {
            "event_id": str(uuid5(NAMESPACE_OID, f"{event_type} {message} {after} {number}")),
            "tenant_id": "acme",
            "event_type": event_type,
            "channel": channel,
            "action": action,
            "message_id": message,
            "user_id": f"user {message}",
            "occurred_at": (SENT + after).isoformat(),
            "landed_at": datetime.now(UTC).isoformat(),
            "_topic": "events",
            **values,
        }
        for _ in range(count):
            self._offset += 1
            self._rows.append({**row, "_offset": self._offset})

    def life(self, channel: str, message: str, *actions: str, **values: Any) -> None:
        """Actions of a message, a minute apart, the send at 09:30."""
        cost = values.pop("cost", None)
        for step, action in enumerate(actions):
            minutes = step - (actions.index("sent") if "sent" in actions else 0)
            spent = {"cost": cost} if action == "sent" and cost else {}
            self.add(f"{channel}.{action}", message, timedelta(minutes=minutes), **values, **spent)

    def land(self) -> None:
        """Write what was added."""
        block = b"\n".join(orjson.dumps(row) for row in self._rows)
        self._client.raw_insert(
            "raw.events", insert_block=block, fmt="JSONEachRow", settings=INGEST
        )
        self._rows = []

    def campaigns(self, *rows: dict[str, Any]) -> None:
        """Land versions of campaigns."""
        base = {"tenant_id": "acme", "landed_at": SENT.isoformat(), "name": "A campaign"}
        block = b"\n".join(orjson.dumps(base | row) for row in rows)
        self._client.raw_insert(
            "raw.campaigns", insert_block=block, fmt="JSONEachRow", settings=INGEST
        )


PATH = ("targeted", "eligible", "attempted", "sent", "delivered")
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
BOT = "Mozilla/5.0 (compatible; Googlebot/2.1)"
PROXY = "Mozilla/5.0 (via ggpht.com GoogleImageProxy)"


def first_load(feed: Feed) -> None:
    """Every trap that a count can fall into, one message each."""
    goal = {"campaign_id": "spring", "primary_conversion": "order", "conversion_window_hours": 48}
    feed.campaigns(
        goal | {"updated_at": (SENT - DAY).isoformat()},
        goal | {"updated_at": (SENT - 2 * DAY).isoformat(), "primary_conversion": "old"},
    )
    mail: dict[str, Any] = {"campaign_id": "spring", "country": "DE", "platform": "web"}
    feed.life("email", "plain", *PATH, cost="0.10", **mail)
    feed.add("email.opened", "plain", HOUR, copies=3, **mail)  # redelivered twice
    feed.add("email.opened", "plain", 2 * HOUR, **mail)
    feed.add("email.clicked", "plain", 2 * HOUR, link_id="a", **mail)
    feed.add("email.converted", "plain", 3 * HOUR, conversion_name="order", revenue="19.99", **mail)
    feed.add("email.converted", "plain", 4 * HOUR, conversion_name="order", revenue="0.01", **mail)

    feed.life("email", "too late", *PATH, **mail)
    feed.add("email.opened", "too late", 8 * DAY, **mail)
    feed.add("email.converted", "too late", 49 * HOUR, conversion_name="order", revenue="5", **mail)
    feed.life("email", "secondary", *PATH, **mail)
    feed.add("email.converted", "secondary", HOUR, conversion_name="signup", revenue="1", **mail)

    feed.life("email", "privacy", *PATH, **mail)
    feed.add("email.opened", "privacy", HOUR, machine_open=True, **mail)
    feed.life("email", "proxy", *PATH, **mail)
    feed.add("email.opened", "proxy", HOUR, user_agent=PROXY, **mail)
    feed.add("email.opened", "proxy", 2 * HOUR, **mail)
    feed.life("email", "crawler", *PATH, **mail)
    feed.add("email.clicked", "crawler", HOUR, user_agent=BOT, link_id="a", **mail)
    feed.add("email.unsubscribed", "crawler", HOUR, user_agent=BOT, **mail)
    feed.life("email", "fast", *PATH, **mail)
    feed.add("email.opened", "fast", timedelta(seconds=1), **mail)  # one reason is not enough
    feed.life("email", "scanner", *PATH, **mail)
    head = orjson.dumps({"http_method": "HEAD"}).decode()
    quick = timedelta(seconds=1)
    feed.add("email.clicked", "scanner", quick, link_id="a", properties=head, **mail)
    feed.life("email", "told", *PATH, **mail)
    feed.add("email.clicked", "told", HOUR, is_suspected_bot=True, **mail)

    feed.life("email", "bounced", *PATH[:4], "bounced", failure_class="hard", **mail)
    feed.life("email", "spam", *PATH, "opened", "marked_as_spam", **mail)
    feed.life("email", "held out", "targeted", "aborted", is_holdout=True, **mail)

    push: dict[str, Any] = {"campaign_id": "taps", "country": "IN", "platform": "ios"}
    feed.life("push", "tapped", *PATH, "opened", **push)
    feed.add("app.session_started", "", timedelta(minutes=3), user_id="user tapped")
    feed.life("push", "influenced", *PATH, **push)
    feed.add("app.session_started", "", timedelta(minutes=20), user_id="user influenced")
    feed.life("push", "habit", *PATH, **push)
    for days in (-20, -10):  # every ten days: within half of that counts
        feed.add("app.session_started", "", days * DAY, user_id="user habit")
    feed.add("app.session_started", "", 4 * DAY, user_id="user habit")
    feed.life("push", "unmoved", *PATH, **push)
    feed.add("app.session_started", "", 2 * HOUR, user_id="user unmoved")
    feed.life("push", "same user", *PATH, **push | {"user_id": "user unmoved"})

    feed.life("sms", "text", *PATH, cost="0.0500", campaign_id="taps")
    feed.life("sms", "refused", *PATH[:4], "bounced", campaign_id="taps")
    feed.life("whatsapp", "read", *PATH, "read", "replied", campaign_id="chat")
    feed.life("in_app", "banner", "sent", "impressed", "clicked", campaign_id="banner")
    feed.add(
        "in_app.converted", "banner", HOUR, conversion_name="any", revenue="3", campaign_id="banner"
    )
    feed.life("in_app", "unseen", "sent", "dismissed", campaign_id="banner")
    feed.add("app.purchased", "no message", HOUR)
    feed.life("email", "elsewhere", *PATH, "opened", tenant_id="globex", campaign_id="spring")
    feed.land()


def late_load(feed: Feed) -> None:
    """What lands after the marts were built once."""
    mail: dict[str, Any] = {"campaign_id": "spring", "country": "DE", "platform": "web"}
    feed.add("email.opened", "secondary", 5 * DAY, **mail)
    feed.add("email.opened", "plain", HOUR, **mail)  # the same event again
    feed.add("email.clicked", "told", 2 * HOUR, **mail)  # now a person clicked too
    feed.life("push", "new", *PATH, "opened", campaign_id="taps", country="IN", platform="ios")
    feed.land()


def build(settings: Settings) -> None:
    only = ["--exclude-resource-type", "test", "--exclude-resource-type", "unit_test"]
    done = run_dbt(settings, ["build", "--select", "+marts.fct_*", *only], capture=True)
    assert done.returncode == 0, done.stdout[-3000:]


@pytest.fixture(scope="module")
def modelled(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Both loads modelled by dbt, the second one incrementally, and the API in front."""
    with own_platform(settings, tmp_path_factory) as own:
        client = connect(own.warehouse)
        feed = Feed(client)
        first_load(feed)
        build(own)
        late_load(feed)
        build(own)
        client.close()
        with serve(own):
            yield own


EMAIL = {"channel": "email"}
# worked out by hand from the events above
BY_HAND: list[tuple[str, dict[str, Any], float | None]] = [
    ("sends", {}, 22),  # e-mail 11, push 6, sms 2, whatsapp 1, in-app 2
    ("unique_recipients", {}, 21),  # one user got two push messages
    ("conversion_rate", {}, 2 / 20),  # plain and banner; 19 users, 1 impression
    ("revenue", {}, 29.0),  # 19.99 + 0.01 + 5 + 1 + 3
    ("roi", {}, (29.0 - 0.15) / 0.15),
    ("read_rate", {}, 1.0),
    ("targeted", EMAIL, 12),
    ("abort_rate", EMAIL, 1 / 12),
    ("delivery_rate", EMAIL, 10 / 11),
    ("unique_opens", EMAIL, 6),  # plain, secondary, privacy, proxy, fast, spam
    ("unique_opens__human", EMAIL, 5),
    ("unique_opens__machine", EMAIL, 1),
    ("opens", EMAIL, 8),  # plain and proxy twice; redeliveries do not count
    ("unique_clicks", EMAIL, 4),  # plain, crawler, scanner, told
    ("unique_clicks__human", EMAIL, 2),  # plain, and told once a person clicked
    ("conversions", EMAIL, 1),  # not 49 h later, not a secondary one
    ("total_conversions", EMAIL, 4),
    ("unsubscribes", EMAIL, 1),  # a crawler's counts all the same
    ("spam_rate", EMAIL, 1 / 11),
    ("influenced_opens", {"channel": "push"}, 2),  # influenced, habit
    ("total_open_rate", {"channel": "push"}, 4 / 6),
    ("delivery_rate", {"channel": ["push", "sms"]}, 7 / 8),
    ("conversion_rate", {"channel": "in_app"}, 1.0),
    ("sends", {"country": "IN"}, 6),
    ("sends", {"campaign_id": "banner"}, 2),
    ("unique_open_rate", {"tenant_id": "globex"}, 1.0),
    ("sends", {"platform": ["web", "ios"], "country": "DE"}, 11),
]


@pytest.fixture(scope="module")
def compared(modelled: Settings) -> list[dict[str, Any]]:
    cases = [Case(name, filters) for name, filters, _ in BY_HAND]
    cases += [*default_cases(), *(Case(e.name) for e in exposed())]
    found = one_number(modelled, cases)
    assert len(found) == len(cases)
    return found


def test_every_metric_is_equal_when_read_raw_in_marts_and_api(
    compared: list[dict[str, Any]],
) -> None:
    assert [r for r in compared if not r["raw"] == r["dbt"] == r["api"]] == []
    assert {r["metric"] for r in compared} == {e.name for e in exposed()}


@pytest.mark.parametrize("number", range(len(BY_HAND)))
def test_metric_is_the_hand_computed_one_when_read_anywhere(
    compared: list[dict[str, Any]], number: int
) -> None:
    name, filters, expected = BY_HAND[number]
    record = compared[number]
    assert (record["metric"], record["filters"]) == (name, {"tenant_id": "acme", **filters})
    assert record["api"] == pytest.approx(expected)


def test_hourly_scopes_agree_with_the_recount_when_everything_is_in_range(
    modelled: Settings,
) -> None:
    """Over all time both date scopes hold the same counts."""
    names = [e.name for e in exposed()]
    token = modelled.api.password.get_secret_value()
    body = {"tenant_id": "acme", "start": "2026-10-01T00:00:00Z", "end": "2026-12-01T00:00:00Z"}
    with httpx.Client(
        base_url=modelled.api.url, headers={"Authorization": f"Bearer {token}"}
    ) as api:
        for part in (names[:40], names[40:]):
            sent, event = (
                api.post("/v1/query", json=body | {"metrics": part, "scope": scope}).json()
                for scope in ("sent", "event")
            )
            assert sent["rows"] == event["rows"]


def test_superset_is_asked_with_name_and_columns_when_given(modelled: Settings) -> None:
    asked = []

    def superset(settings: Settings, metric: str, filters: Any) -> float:
        assert settings is modelled
        asked.append((metric, dict(filters)))
        return 22

    found = one_number(modelled, [Case("sends")], superset=superset)
    assert asked == [("sends", {"tenant_id": "acme"})]
    assert found[0]["superset"] == found[0]["raw"] == 22


def test_comparing_is_refused_when_a_case_is_wrong(modelled: Settings) -> None:
    with pytest.raises(InvalidQueryError, match="did you mean 'sends'"):
        one_number(modelled, [Case("sendz")])
    metric = resolve("sends")
    assert metric is not None
    client = connect(modelled.warehouse)
    with pytest.raises(ValueError, match="columns are"):
        recount(client, "acme", [(metric, {"user_id": ["u"]})])
    assert recount(client, "nobody", [(metric, {})]) == [0]
    client.close()


def test_comparing_is_refused_when_the_marts_are_empty(served: Settings) -> None:
    client = connect(served.warehouse)
    client.command("create table if not exists marts.kept as marts.fct_messages")
    client.command("exchange tables marts.kept and marts.fct_messages")
    try:
        with pytest.raises(ValueError, match="is empty"):
            one_number(served, default_cases())
    finally:
        client.command("exchange tables marts.kept and marts.fct_messages")
        client.command("drop table marts.kept")
        client.close()
