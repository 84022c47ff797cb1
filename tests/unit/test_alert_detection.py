"""Each rule of the project: a case in which it fires, and one in which it must not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import polars as pl
import pytest

from herald.alerts.judge import Judge, MemoryStore
from herald.alerts.model import Alert
from herald.alerts.observations import FrameObservations
from herald.alerts.rules import Rule, load_rules
from tests.data.alert_counts import DAY, HOUR, MINUTE, NOON, frame, hourly, minutes, usual

DAWN = NOON - 12 * HOUR
BEGIN = NOON - 6 * HOUR
END = NOON + 3 * HOUR


@pytest.fixture(scope="module")
def rules() -> dict[str, Rule]:
    return {rule.name: rule for rule in load_rules()}


@dataclass(frozen=True)
class Case:
    """What a rule must see, what it must not take for it, and what the alert says."""

    rule: str
    bad: Callable[[], FrameObservations]
    good: Callable[[], FrameObservations]
    summary: str
    group: dict[str, str]


def seen(*rows: list[dict[str, object]], history: pl.DataFrame | None = None) -> FrameObservations:
    return FrameObservations(frame(*rows), hours=history)


def weeks(**fields: object) -> pl.DataFrame:
    return hourly(DAWN - 28 * DAY, DAWN, **fields)


def canaries(took: list[int | None]) -> FrameObservations:
    start = NOON - 60 * MINUTE
    sent = [start + i * 5 * MINUTE for i in range(len(took))]
    rows = pl.DataFrame(
        {
            "tenant_id": "acme", "channel": "email", "provider": "ses", "sent_at": sent,
            "delivered_at": [
                None if t is None else s + t for s, t in zip(sent, took, strict=True)
            ],
        },
        schema_overrides={"delivered_at": pl.Int64},
    )  # fmt: skip
    return FrameObservations(frame(), canaries=rows)


def messaged(users: int, sends: int, opens: int = 0) -> FrameObservations:
    rows = pl.DataFrame(
        {
            "rule": "over_messaged_users", "tenant_id": "acme",
            "user_id": [f"u{i}" for i in range(users)] * 2, "sends": sends, "opens": opens,
            "seen_at": NOON - 30 * MINUTE,
        }
    )  # fmt: skip
    return FrameObservations(frame(), messaged=rows)


EMAIL = {"channel": "email", "provider": "ses"}
CASES = [
    Case(
        "sent_without_delivered",
        lambda: seen(usual(BEGIN, NOON), usual(NOON, END, delivered=2), history=weeks()),
        # a provider that never answers for a third of its messages is no news
        lambda: seen(usual(BEGIN, END, delivered=7), history=weeks(delivered=7)),
        "of 150 sent in 15 min have no answer",
        EMAIL,
    ),
    Case(
        "bounce_rate",
        lambda: seen(usual(BEGIN, NOON), usual(NOON, END, bounced=2), history=weeks()),
        # five bounces at once, of three hundred
        lambda: seen(usual(BEGIN, END), minutes(NOON, NOON + MINUTE, bounced=5), history=weeks()),
        "bounced, limit 3.0%",
        EMAIL,
    ),
    Case(
        "complaint_rate",
        lambda: seen(usual(BEGIN, END), minutes(NOON, NOON + HOUR, complained=1)),
        # above 0.3% by luck: 2 of the first 400
        lambda: seen(
            usual(BEGIN, END, delivered=2), minutes(NOON, NOON + 2 * MINUTE, complained=1)
        ),
        "were marked as spam, limit 0.30%",
        {"channel": "email"},
    ),
    Case(
        "provider_silent",
        lambda: seen(usual(BEGIN, NOON), history=weeks()),
        # quiet because this hour is always quiet
        lambda: seen(usual(BEGIN, NOON), history=weeks().filter(pl.col("at") % DAY < 12 * HOUR)),
        "0 events in 20 min, usual are 920",
        EMAIL,
    ),
    Case(
        "click_bot_storm",
        lambda: seen(usual(BEGIN, END), minutes(NOON, NOON + 30 * MINUTE, clicked=200)),
        # a campaign starts and its readers click
        lambda: seen(usual(NOON, END, delivered=300, clicked=40)),
        "clicks in 15 min",
        {"channel": "email", "campaign_id": "c1"},
    ),
    Case(
        "over_messaged_users",
        lambda: messaged(users=5, sends=31),
        lambda: messaged(users=2, sends=31),
        "5 users got 155 messages in 24 h and opened none",
        {},
    ),
    Case(
        "targeting_stalled",
        lambda: seen(usual(BEGIN, NOON), minutes(NOON, END, targeted=12), history=weeks()),
        # quiet hours hold half of it back
        lambda: seen(usual(BEGIN, NOON), usual(NOON, END, attempted=5), history=weeks()),
        "0.0% of 180 targeted in 15 min were attempted",
        {"channel": "email"},
    ),
    Case(
        "sending_stalled",
        lambda: seen(usual(BEGIN, NOON), usual(NOON, END, sent=1), history=weeks()),
        # a provider that always refuses a third
        lambda: seen(usual(BEGIN, END, sent=6), history=weeks(sent=6)),
        "attempted in 15 min were sent, limit 60.0%",
        EMAIL,
    ),
    Case(
        "sent_volume",
        lambda: seen(usual(BEGIN, NOON), usual(NOON, END, sent=40), history=weeks()),
        # a quarter more than in other weeks
        lambda: seen(usual(BEGIN, END, sent=13), history=weeks()),
        "sent in 1 h, usual are 600",
        {},
    ),
    Case(
        "open_rate",
        lambda: seen(usual(BEGIN, NOON), usual(NOON, END, opened=0), history=weeks()),
        lambda: seen(usual(BEGIN, NOON), usual(NOON, END, opened=2), history=weeks()),
        "opened a delivered in 3 h, usual is 30.0%",
        {"channel": "email"},
    ),
    Case(
        "canary_late",
        lambda: canaries([4_000] * 6 + [None, None, 400_000]),
        # one lost canary is bad luck
        lambda: canaries([4_000] * 6 + [None, 5_000, 90_000]),
        "limit 120 s",
        EMAIL,
    ),
]  # fmt: skip


def judged(rule: Rule, observations: FrameObservations) -> list[Alert]:
    store = MemoryStore()
    Judge([rule], observations, store).step(NOON - 2 * HOUR, END)
    return list(store.alerts.values())


def test_every_rule_of_the_project_has_a_case(rules: dict[str, Rule]) -> None:
    assert {case.rule for case in CASES} == set(rules)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.rule)
def test_rule_fires_once_when_it_is_broken(case: Case, rules: dict[str, Rule]) -> None:
    (alert,) = judged(rules[case.rule], case.bad())
    assert case.summary in alert.summary
    assert alert.group_key == case.group
    assert (alert.tenant_id, alert.rule, alert.kind) == ("acme", case.rule, rules[case.rule].kind)
    assert alert.window_start < alert.opened_at <= alert.updated_at


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.rule)
def test_rule_keeps_quiet_when_all_is_as_usual(case: Case, rules: dict[str, Rule]) -> None:
    assert judged(rules[case.rule], case.good()) == []


def test_rules_keep_quiet_when_nothing_ever_happened(rules: dict[str, Rule]) -> None:
    for rule in rules.values():
        assert judged(rule, seen()) == []


def test_anomaly_waits_for_weeks_when_there_is_no_history(rules: dict[str, Rule]) -> None:
    young = hourly(DAWN - 6 * DAY, DAWN)
    busy = usual(BEGIN, NOON), usual(NOON, END, sent=90)
    assert judged(rules["sent_volume"], seen(*busy, history=young)) == []


def test_usual_level_forgets_an_incident_when_one_past_week_had_it(rules: dict[str, Rule]) -> None:
    odd = pl.col("at").is_between(DAWN - 7 * DAY, DAWN - 6 * DAY)
    history = weeks().with_columns(sent=pl.when(odd).then(0).otherwise(pl.col("sent")))
    assert judged(rules["sent_volume"], seen(usual(BEGIN, END), history=history)) == []
