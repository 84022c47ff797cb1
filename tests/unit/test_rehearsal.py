"""The rehearsed send: valid events in order, at the rate asked for, incidents that show."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime

import orjson
import pytest

from herald.contract.events import Event
from herald.contract.references import Campaign
from herald.rehearsal.send import Plan, Rehearsal, campaign_records, week_share

START = int(datetime(2026, 11, 23, 12, tzinfo=UTC).timestamp() * 1_000)
MINUTE = 60_000


def events(plan: Plan, minutes: int = 5) -> list[tuple[int, dict[str, object]]]:
    show = Rehearsal(plan)
    made = []
    for step in range(minutes):
        at = START + step * MINUTE
        made += list(show.between(at, at + MINUTE))
    return [(at, orjson.loads(value)) for at, value in made]


def actions(made: list[tuple[int, dict[str, object]]], **where: str) -> Counter[str]:
    return Counter(
        str(event["event_type"]).split(".")[1]
        for _, event in made
        if all(event.get(key) == value for key, value in where.items())
    )


def test_every_event_keeps_the_contract_and_its_time() -> None:
    made = events(Plan("acme", 40))
    parsed = [Event.model_validate(event) for _, event in made]
    assert [int(e.occurred_at.timestamp() * 1_000) for e in parsed] == [at for at, _ in made]
    assert len({e.event_id for e in parsed}) == len(parsed)
    assert {e.event_id.version for e in parsed} == {7}
    assert {e.tenant_id for e in parsed} == {"acme"}


def test_events_come_in_order_at_the_rate_when_time_goes_on() -> None:
    made = events(Plan("acme", 100), minutes=10)
    assert [at for at, _ in made] == sorted(at for at, _ in made)
    last = [at for at, _ in made if at >= START + 8 * MINUTE]
    assert len(last) / 120 == pytest.approx(100, rel=0.1)


def test_each_stage_is_smaller_than_the_one_before() -> None:
    counted = actions(events(Plan("acme", 200), minutes=10))
    stages = [counted[name] for name in ("targeted", "sent", "delivered", "opened", "clicked")]
    assert stages == sorted(stages, reverse=True)
    assert counted["converted"] > 0
    assert counted["aborted"] > 0


def test_every_campaign_is_published_with_its_name() -> None:
    records = [Campaign.model_validate_json(value) for _, value in campaign_records("acme", START)]
    used = {event["campaign_id"] for _, event in events(Plan("acme", 100))}
    assert used <= {record.campaign_id for record in records}
    assert all(record.name and record.updated_at.tzinfo for record in records)


def test_same_seed_gives_the_same_events() -> None:
    assert events(Plan("acme", 20)) == events(Plan("acme", 20))
    assert events(Plan("acme", 20)) != events(Plan("acme", 20, seed=8))


def test_silent_provider_confirms_nothing_after_the_incident() -> None:
    made = events(Plan("acme", 100, incident="silence", incident_ms=START))
    silent = actions(made, provider="sendgrid")
    assert silent["sent"] > 100
    assert silent["delivered"] == silent["opened"] == 0
    assert actions(made, provider="ses")["delivered"] > 100


def test_bad_list_bounces_after_the_incident() -> None:
    made = events(Plan("acme", 400, incident="bounces", incident_ms=START))
    bad = actions(made, campaign_id="win-back")
    good = actions(made, campaign_id="autumn-last-chance")
    assert bad["bounced"] / bad["sent"] > 0.1
    assert good["bounced"] / good["sent"] < 0.03


@pytest.mark.parametrize(
    ("change", "message"),
    [({"incident": "flood"}, "known are none, silence, bounces"), ({"tenant": 'a"b'}, "tenant")],
)
def test_plan_is_refused_when_a_value_cannot_be_used(change: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Plan(change.get("tenant", "acme"), 1, incident=change.get("incident", "none"))


def test_a_night_is_quieter_than_a_morning() -> None:
    monday = datetime(2026, 11, 23, tzinfo=UTC).timestamp() * 1_000
    night, morning = (week_share(int(monday + hour * 3_600_000)) for hour in (3, 9))
    assert night < morning / 5
    assert week_share(int(monday - 86_400_000 + 9 * 3_600_000)) < morning
