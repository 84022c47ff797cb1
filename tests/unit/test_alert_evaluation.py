"""The measurement of the rules, over a small tenant and few weeks."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from herald.alerts.evaluate import EXPECTED, Collector, _compare, table
from herald.alerts.rules import load_rules
from herald.alerts.sample import sample
from herald.cli.main import build_app
from herald.simulator.incidents import HOURS_OF_KIND

AT = datetime(2026, 9, 1, 12, tzinfo=UTC)


def ms(minutes: int) -> int:
    return round((AT + timedelta(minutes=minutes)).timestamp() * 1_000)


def planted(**changes: Any) -> dict[str, Any]:
    base = {"kind": "bounce_spike", "channel": "email", "provider": "ses"}
    return {**base, "starts_ms": ms(0), "ends_ms": ms(120), **changes}


def alert(opened: int, last: int, **changes: Any) -> Any:
    at = {"opened_at": AT + timedelta(minutes=opened), "window_end": AT + timedelta(minutes=last)}
    base = {"rule": "bounce_rate", "group_key": {"channel": "email", "provider": "ses"}}
    return sample(AT).alert.model_copy(update={**at, **base, **changes})


@pytest.mark.parametrize(
    ("alerts", "delay", "noise"),
    [
        ([alert(10, 100)], 10, 0),
        (
            [alert(-300, 100)],
            0,
            1,
        ),  # open already, and wrong again
        ([alert(10, 30)], None, 0),
        ([alert(400, 500)], None, 1),
        ([alert(10, 100, rule="sent_volume")], None, 0),
        ([alert(10, 100, group_key={"channel": "email", "provider": "sendgrid"})], None, 0),
    ],
)
def test_incident_counts_as_found_only_by_its_rule_group_and_time(
    alerts: list[Any], delay: int | None, noise: int
) -> None:
    (found,), clean, other = _compare(alerts, [planted()], ms(-1_000))
    assert found.delay_minutes == delay
    assert clean == []
    assert len(other) == noise


def test_alert_of_the_clean_week_is_false_whatever_it_says() -> None:
    _, clean, noise = _compare([alert(-2_000, -1_900)], [planted()], ms(-1_000))
    assert (len(clean), len(noise)) == (1, 0)


def test_every_kind_of_incident_has_a_rule_that_has_to_find_it() -> None:
    names = {rule.name for rule in load_rules()}
    assert set(EXPECTED) == set(HOURS_OF_KIND)
    assert {rule for rules in EXPECTED.values() for rule in rules} == names


def test_collector_leaves_out_of_minutes_what_arrives_late() -> None:
    def event(late_seconds: int) -> bytes:
        times = {"occurred_at": AT, "ingested_at": AT + timedelta(seconds=late_seconds)}
        return json.dumps(
            {"tenant_id": "acme", "event_type": "email.sent", "user_id": "u", "provider": "ses",
             **{k: v.isoformat() for k, v in times.items()}}
        ).encode()  # fmt: skip

    collector = Collector(load_rules(), ms(-60))
    collector.add([event(1), event(30), event(3_600)])
    observations = collector.observations()
    rule = next(r for r in load_rules() if r.name == "sent_volume")
    assert observations.counts(rule, ["sent"], ms(-60), ms(60))["sent"].sum() == 2
    assert observations.history(rule, ["sent"], ms(60))["sent"].sum() == 3


def test_command_prints_a_row_a_rule_and_leaves_a_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HERALD_STATE_DIR", str(tmp_path))
    words = ["alerts", "evaluate", "--seeds", "5", "--events-per-second", "0.1", "--weeks", "2"]
    done = CliRunner().invoke(build_app(), [*words, "--json"])
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout)
    rules = {row["rule"]: row for row in record["rules"]}
    assert set(rules) == {rule.name for rule in load_rules()}
    # these need no volume: everything of theirs is found in a small tenant too
    for name in ("canary_late", "over_messaged_users"):
        assert rules[name]["found"] == rules[name]["planted"] == 2
    assert rules["canary_late"]["delay_minutes"] < 30
    assert record["summary"]["planted"] == sum(row["planted"] for row in record["rules"]) == 24
    assert len(record["clean"]) <= 1
    assert len(record["missed"]) == 24 - record["summary"]["found"]
    assert table(record)[-1]["found"] == record["summary"]["found"]
    assert json.loads((tmp_path / "alerts.json").read_text())["summary"] == record["summary"]
