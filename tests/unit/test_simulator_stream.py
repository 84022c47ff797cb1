"""The simulated stream: same bytes, valid events, sound life cycles, and a truth that holds."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import orjson
import polars as pl
import pytest
from pydantic import ValidationError

from herald.contract.errors import ErrorClass
from herald.contract.events import Event
from herald.contract.references import Campaign, Journey, Template, User
from herald.settings import Landing
from herald.simulator.encode import compact
from herald.simulator.options import SimulationOptions, default_end
from herald.simulator.stream import Simulation
from spark_jobs.transforms.judging import Limits, RejectedError, judge_event

END = datetime(2026, 11, 1, 12, 34, tzinfo=UTC)
EVENTS = 120_000
LIMITS = Limits.of(Landing())
NOW_MS = int(END.timestamp() * 1000)


def options(**changes: Any) -> SimulationOptions:
    return SimulationOptions(**{"events": EVENTS, "days": 28, "seed": 11, "end": END, **changes})


def values_of(run: Simulation) -> list[bytes]:
    return [value for batch in run.batches() for value in batch.values.to_list()]


@dataclass
class Ran:
    """One run, recounted from its output alone."""

    run: Simulation
    values: list[bytes]
    keys: list[str]
    truth: dict[str, Any]
    events: list[dict[str, Any]]
    rejected: Counter[str]
    repeated: int

    def messages(self) -> dict[str, list[dict[str, Any]]]:
        found: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for event in self.events:
            if "message_id" in event:
                found[event["message_id"]].append(event)
        return found


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    run = Simulation(options(malformed_share=0.005, duplicate_share=0.01))
    values: list[bytes] = []
    keys: list[str] = []
    for batch in run.batches():
        values += batch.values.to_list()
        keys += batch.keys.to_list()
    folder = tmp_path_factory.mktemp("truth")
    truth = json.loads(run.write_truth(folder).read_bytes())
    events: dict[str, dict[str, Any]] = {}
    rejected: Counter[str] = Counter()
    repeated = 0
    for value in values:
        try:
            judge_event(value, NOW_MS, LIMITS)
        except RejectedError as error:
            rejected[error.error_class.value] += 1
            continue
        event = orjson.loads(value)
        repeated += event["event_id"] in events
        assert events.setdefault(event["event_id"], event) == event
    return Ran(run, values, keys, truth, list(events.values()), rejected, repeated)


def test_output_is_the_same_bytes_when_seed_and_options_are_the_same() -> None:
    first, second = (Simulation(options(events=20_000)) for _ in range(2))
    assert values_of(first) == values_of(second)
    assert list(first.references()["users"]) == list(second.references()["users"])


@pytest.mark.parametrize("change", [{"seed": 12}, {"tenant": "other"}])
def test_no_event_id_is_shared_when_seed_or_tenant_differ(change: dict[str, Any]) -> None:
    runs = [Simulation(options(events=5_000, faults=False, **c)) for c in ({}, change)]
    ids = [{orjson.loads(v)["event_id"] for v in values_of(run)} for run in runs]
    assert len(ids[0]) == len(ids[1]) == 5_000
    assert not ids[0] & ids[1]


@pytest.mark.parametrize(
    ("size", "count"),
    [
        ({"events": 1}, 1),
        ({"events": 37, "days": 2}, 37),
        ({"events": 3_000, "days": 1 / 24}, 3_000),
        ({"events": 0, "users": 300, "days": 10}, 5_700),
    ],
)
def test_exactly_as_many_events_come_when_sizes_are_odd(size: dict[str, Any], count: int) -> None:
    run = Simulation(options(**size))
    assert len(values_of(run)) == count
    assert run.truth.produced["total"] == count


def test_every_malformed_event_is_refused_for_its_class_when_judged_by_landing(ran: Ran) -> None:
    assert dict(ran.rejected) == ran.truth["malformed_by_class"]
    assert set(ran.rejected) == {c.value for c in ErrorClass}


def test_truth_equals_a_recount_when_events_are_counted_by_type(ran: Ran) -> None:
    recount = Counter(e["event_type"] for e in ran.events)
    assert recount == Counter(ran.truth["by_event_type"])
    assert ran.truth["produced"] == {
        "total": EVENTS,
        "valid": len(ran.events),
        "redelivered": ran.repeated,
        "malformed": ran.rejected.total(),
    }
    assert sum(ran.truth["redelivered_by_event_type"].values()) == ran.repeated > 500


def test_truth_equals_a_recount_when_messages_are_counted_by_variant(ran: Ran) -> None:
    counts: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for events in ran.messages().values():
        first = events[0]
        cell = counts[first["campaign_id"], first.get("variant_id", "holdout")]
        opened = [e for e in events if e["event_type"].endswith(".opened")]
        human = any(not e.get("machine_open") for e in opened)
        cell["unique_opens"] += bool(opened)
        cell["unique_human_opens"] += human
        cell["machine_only_opens"] += bool(opened) and not human
        cell["unique_clicks"] += any(e["event_type"].endswith(".clicked") for e in events)
        cell["conversions"] += any(
            e["event_type"].endswith(".converted") and e["conversion_name"] != "item_saved"
            for e in events
        )
    planted = {
        (campaign, variant): outcome["messages"]
        for campaign, entry in ran.truth["campaigns"].items()
        for variant, outcome in [
            *entry["variants"].items(),
            *([("holdout", entry["holdout"])] if "holdout" in entry else []),
        ]
    }
    assert len(planted) > 40
    for cell, messages in planted.items():
        for name in ("unique_opens", "unique_human_opens", "machine_only_opens", "unique_clicks",
                     "conversions"):  # fmt: skip
            assert messages[name] == counts[cell][name], (cell, name)


def test_late_and_out_of_order_events_match_the_truth_when_arrival_is_compared(ran: Ran) -> None:
    late = disorder = 0
    newest = ""
    arrivals = []
    for event in ran.events:
        occurred, arrived = event["occurred_at"], event["ingested_at"]
        arrivals.append(arrived)
        disorder += occurred < newest
        newest = max(newest, occurred)
        gap = datetime.fromisoformat(arrived) - datetime.fromisoformat(occurred)
        assert gap > timedelta(0)
        late += gap > timedelta(seconds=ran.truth["late_after_seconds"])
    assert arrivals == sorted(arrivals)
    assert (late, disorder) == (ran.truth["late"], ran.truth["out_of_order"])
    assert late > 50


def test_every_event_type_is_valid_when_read_by_the_contract(ran: Ran) -> None:
    for_type: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for event in ran.events:
        if len(for_type[event["event_type"]]) < 40:
            for_type[event["event_type"]].append(event)
    assert len(for_type) > 40
    for events in for_type.values():
        for event in events:
            parsed = Event.model_validate(event)
            assert not parsed.model_extra
            assert "" not in event.values()
            assert None not in event.values()


def test_keys_are_the_users_when_events_are_valid(ran: Ran) -> None:
    for key, value in zip(ran.keys[::7], ran.values[::7], strict=True):
        if value[:1] == b"{" and len(value) < 5_000 and b'"user_id":"u_' in value:
            assert f'"user_id":"{key}"'.encode() in value


ORDER = ("targeted", "eligible", "attempted", "sent")
AFTER_SENT = {"delivered", "bounced", "soft_bounced", "deferred", "opened", "clicked", "impressed",
              "dismissed", "unsubscribed", "marked_as_spam"}  # fmt: skip


def test_life_cycles_keep_their_order_when_messages_are_followed(ran: Ran) -> None:
    followed = Counter[str]()
    for events in ran.messages().values():
        at: dict[str, str] = {}
        for event in sorted(events, key=lambda e: e["occurred_at"]):
            at.setdefault(event["event_type"].partition(".")[2], event["occurred_at"])
        if "targeted" not in at:
            continue  # its late target is not there yet at the end of the run
        steps = [at[a] for a in ORDER if a in at]
        assert steps == sorted(steps)
        if "sent" in at:
            for action in AFTER_SENT & at.keys():
                assert at[action] > at["sent"], events
                followed[action] += 1
            assert "aborted" not in at
            for action in ("opened", "clicked"):
                if action in at:
                    gap = datetime.fromisoformat(at[action]) - datetime.fromisoformat(at["sent"])
                    assert gap < timedelta(days=7)
        if "delivered" in at:
            assert "bounced" not in at
            for action in ("opened", "clicked", "dismissed"):
                assert at.get(action, "9") > at["delivered"]
    assert min(followed[a] for a in AFTER_SENT) > 0


def test_held_out_users_get_nothing_when_followed(ran: Ran) -> None:
    held = 0
    for events in ran.messages().values():
        if not any(e.get("is_holdout") for e in events):
            continue
        held += 1
        assert all(e.get("is_holdout") and e["arm"] == "holdout" for e in events)
        actions = {e["event_type"].partition(".")[2] for e in events}
        assert actions <= {"targeted", "aborted", "converted"}
        reasons = {e["failure_reason"] for e in events if e["event_type"].endswith(".aborted")}
        assert reasons <= {"holdout"}
    assert held > 300


def test_scanners_follow_every_link_within_two_seconds_when_users_are_bots(
    ran: Ran, tmp_path: Path
) -> None:
    bots = set(ran.truth["bots"]["user_ids"])
    ran.run.write_truth(tmp_path)
    scanned = set(pl.read_parquet(tmp_path / "truth_11_scanned_messages.parquet")["message_id"])
    assert len(scanned) == ran.truth["bots"]["messages"] > 10
    messages = ran.messages()
    for message in scanned:
        events = messages[message]
        links = {e["link_id"] for e in events if e["event_type"] == "email.clicked"}
        sent = [e["occurred_at"] for e in events if e["event_type"] == "email.sent"]
        quick = [
            e for e in events
            if e["event_type"] == "email.clicked" and sent
            and datetime.fromisoformat(e["occurred_at"]) - datetime.fromisoformat(sent[0])
            < timedelta(seconds=2)
        ]  # fmt: skip
        assert events[0]["user_id"] in bots
        assert len(quick) >= 3 or not sent
        assert len(links) >= 3


def test_rates_are_those_of_real_platforms_when_channels_are_summed(ran: Ran) -> None:
    n = ran.truth["by_event_type"]
    assert 0.96 < n["push.delivered"] / n["push.sent"] < 0.985
    assert 0.975 < 1 - n["email.bounced"] / n["email.sent"] < 0.995
    unique: Counter[str] = Counter()
    for entry in ran.truth["campaigns"].values():
        for outcome in entry["variants"].values():
            for name, count in outcome["messages"].items():
                unique[f"{entry['channel']}.{name}"] += count
    assert 0.04 < unique["push.unique_opens"] / n["push.delivered"] < 0.09
    assert 0.25 < unique["email.unique_opens"] / n["email.delivered"] < 0.42
    assert 0.4 < unique["email.unique_machine_opens"] / unique["email.unique_opens"] < 0.7
    assert 0.015 < unique["email.unique_human_clicks"] / n["email.delivered"] < 0.035
    assert 0.0008 < n["email.unsubscribed"] / n["email.delivered"] < 0.003
    assert 0.02 < unique["sms.unique_clicks"] / n["sms.delivered"] < 0.08


def test_counts_lie_near_their_expectation_when_everything_has_arrived() -> None:
    run = Simulation(options(events=300_000, days=60, faults=False))
    for _ in run.batches():
        pass
    clicks = run.truth.uniques()["unique_human_clicks"].sum()
    expected = run.truth.expected["clicks"].sum()
    # the last days' clicks have not happened yet; otherwise Poisson noise of about 2%
    assert 0.88 < clicks / expected < 1.05


def test_attempts_fail_in_an_outage_when_faults_are_on(ran: Ran) -> None:
    outage = next(i for i in ran.truth["incidents"] if i["provider"] == "sendgrid")
    inside = [
        e["event_type"].partition(".")[2] for e in ran.events
        if e.get("provider") == "sendgrid" and e["event_type"] in {"email.failed", "email.sent"}
        and outage["starts_at"] <= e["occurred_at"] < outage["ends_at"]
    ]  # fmt: skip
    outside = ran.truth["by_event_type"]
    assert inside.count("failed") > 2 * inside.count("sent")
    assert outside["email.failed"] < outside["email.sent"] / 50


def test_nothing_is_broken_or_late_when_faults_are_off() -> None:
    run = Simulation(options(events=30_000, faults=False))
    events = [Event.model_validate_json(value) for value in values_of(run)]
    assert len({e.event_id for e in events}) == 30_000
    assert run.truth.produced == {
        "total": 30_000, "valid": 30_000, "redelivered": 0, "malformed": 0,
    }  # fmt: skip
    assert (run.truth.late, run.truth.out_of_order, run.incidents) == (0, 0, [])


def test_references_are_valid_and_change_over_time_when_read_by_the_contract(ran: Ran) -> None:
    models = {"campaigns": Campaign, "templates": Template, "journeys": Journey, "users": User}
    records = {name: list(found) for name, found in ran.run.references().items()}
    for name, model in models.items():
        for key, value in records[name]:
            parsed = model.model_validate_json(compact(value))
            assert getattr(parsed, model.key) == key
    states: dict[str, list[str]] = defaultdict(list)
    for key, value in records["campaigns"]:
        states[key].append(value["status"])
    assert ["draft", "scheduled", "active", "completed"] in states.values()
    known = {key for key, _ in records["templates"]}
    assert {e["template_id"] for e in ran.events if "template_id" in e} <= known
    assert {e["campaign_id"] for e in ran.events if "campaign_id" in e} <= set(states)
    assert {e["user_id"] for e in ran.events} <= {key for key, _ in records["users"]}
    assert {value["locale"] for _, value in records["templates"]} == {"en", "de", "fr", "es", "pt"}


def test_users_open_more_near_their_hour_when_traits_are_compared(ran: Ran, tmp_path: Path) -> None:
    ran.run.write_truth(tmp_path)
    traits = pl.read_parquet(tmp_path / "truth_11_users.parquet")
    hours = dict(traits.select("user_id", "preferred_hour").iter_rows())
    sends: Counter[bool] = Counter()
    opens: Counter[bool] = Counter()
    for events in ran.messages().values():
        push = {e["event_type"]: e for e in events}
        if "push.delivered" not in push or "push.sent" not in push:
            continue
        sent = push["push.sent"]
        local = datetime.fromisoformat(sent["occurred_at"]).astimezone(ZoneInfo(sent["timezone"]))
        away = abs(local.hour + local.minute / 60 - hours[sent["user_id"]])
        near = min(away, 24 - away) < 6
        sends[near] += 1
        opens[near] += "push.opened" in push
    assert opens[True] / sends[True] > 1.5 * opens[False] / sends[False]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"events": 0, "users": 0}, "events: give events"),
        ({"days": 30_000}, "days"),
        ({"tenant": "no spaces"}, "tenant"),
        ({"malformed_share": 0.9}, "malformed_share"),
        ({"end": datetime(2026, 1, 1)}, "end"),
    ],
)
def test_options_name_the_field_when_a_value_is_wrong(change: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError) as error:
        options(**change)
    assert field in str(error.value)


def test_default_end_is_a_full_minute_when_none_is_given() -> None:
    end = default_end()
    assert (end.second, end.microsecond) == (0, 0)
    assert datetime.now(UTC) - end < timedelta(minutes=2)
