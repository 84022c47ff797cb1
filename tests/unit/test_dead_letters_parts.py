"""Fix-ups, filters and ids of dead letters, without services."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from herald.contract.events import CONTRACT_VERSION
from herald.dead_letters.errors import DeadLetterError, FixUpError
from herald.dead_letters.fixup import FixUp
from herald.dead_letters.judge import TopicJudge
from herald.dead_letters.selection import LetterId, Selection, parse_time
from herald.settings import load_settings

EVENT: dict[str, Any] = {
    "event_id": "0192d3a4-5b6c-7d8e-9f00-112233445566",
    "tenant_id": 42,
    "country": "de",
    "landed_at": "x",
    "cost": 19.99,
    "big": 12345678901234567890,
    "properties": {"a": [1, None, "é"]},
}


@pytest.mark.parametrize(
    ("expression", "changes"),
    [
        ('$ ~> | $ | {"tenant_id": $string(tenant_id)} |', {"tenant_id": "42"}),
        ('$ ~> | $ | {"country": $uppercase(country)}, ["landed_at"] |', {"country": "DE"}),
        ('$merge([$, {"user_id": properties.a[2]}])', {"user_id": "é"}),
        ("$", {}),
        ('$replace($string($), "42", "\\"acme\\"")', {"tenant_id": "acme"}),
    ],
)
def test_fix_up_changes_only_what_it_names_when_applied(
    expression: str, changes: dict[str, Any]
) -> None:
    fixed = FixUp(expression).apply(json.dumps(EVENT).encode())
    assert fixed is not None
    expected = EVENT | changes
    if "landed_at" in expression:
        del expected["landed_at"]
    assert json.loads(fixed) == expected


def test_fix_up_mends_text_when_the_value_is_no_json() -> None:
    assert FixUp("""$replace($, "'", '"')""").apply(b"{'a':1}") == b'{"a":1}'
    assert FixUp("").apply(b"\xff raw") == b"\xff raw"
    assert FixUp("country = 'DE' ? $ : nothing").apply(b'{"country":"FR"}') is None


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("1 +", "no JSONata expression"),
        ("x" * 5_000, "longer than 4096"),
    ],
)
def test_fix_up_is_refused_when_it_is_no_expression(expression: str, message: str) -> None:
    with pytest.raises(FixUpError, match=message):
        FixUp(expression)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("tenant_id", "gives a int"),
        ("[1, 2]", "must give the event as an object"),
        ("$uppercase(tenant_id)", "fails on this value"),
        ("( $loop := function(){ $loop() }; $loop() )", "timeout"),
        ("$eval('open(\"/etc/passwd\")')", "fails on this value"),
        ("__import__('os')", "fails on this value"),
    ],
)
def test_fix_up_fails_on_a_value_when_it_does_not_give_an_event(
    expression: str, message: str
) -> None:
    with pytest.raises(FixUpError, match=message):
        FixUp(expression).apply(json.dumps(EVENT).encode())


@given(st.binary(max_size=300))
def test_fix_up_never_raises_anything_else_when_values_are_garbage(value: bytes) -> None:
    fix = FixUp('$type($) = "object" ? $merge([$, {"tenant_id": "a"}]) : $uppercase($)')
    try:
        result = fix.apply(value)
    except FixUpError:
        return
    assert result is None or isinstance(result, bytes)


def test_judge_follows_the_topic_when_values_are_judged() -> None:
    settings = load_settings(environment="test")
    judge = TopicJudge(settings)
    topics = settings.kafka.topics
    good = {
        "event_id": EVENT["event_id"],
        "tenant_id": "acme",
        "event_type": "push.sent",
        "occurred_at": "2026-01-01T00:00:00Z",
        "schema_version": CONTRACT_VERSION,
    }
    campaign = {"tenant_id": "a", "updated_at": "2026-01-01T00:00:00Z", "campaign_id": "c"}
    assert judge.problem(topics.events, json.dumps(good).encode()) is None
    assert judge.problem(topics.campaigns, json.dumps(campaign).encode()) is None
    refused = judge.problem(topics.campaigns, json.dumps(good).encode())
    assert refused is not None
    other = judge.problem("elsewhere", b"{}")
    assert other is not None
    assert "not one that is landed" in other.message


def test_selection_keeps_values_out_of_the_sql_when_it_filters() -> None:
    now = datetime(2026, 11, 1, tzinfo=UTC)
    letter = LetterId("a.b-c", 3, 12)
    where, parameters = Selection(
        "wrong_type", "x' OR 1", "t", now, now, "acme'--", (letter,)
    ).where()
    assert "acme" not in where
    assert "OR 1" not in where
    assert parameters["tenant"] == "acme'--"
    assert parameters["ids"] == ["a.b-c:3:12"]
    assert LetterId.parse(str(letter)) == letter
    with pytest.raises(DeadLetterError, match="no such class"):
        Selection("wrong")


@pytest.mark.parametrize("text", ["", "a:b:c", "t:1", "t:1:2:3 ", "t t:1:2"])
def test_letter_id_is_refused_when_it_is_none(text: str) -> None:
    with pytest.raises(DeadLetterError, match="topic:partition:offset"):
        LetterId.parse(text)


def test_times_are_read_when_they_are_spans_or_instants() -> None:
    now = datetime(2026, 11, 2, 12, tzinfo=UTC)
    assert parse_time("", option="--since") is None
    assert parse_time("2h", now, option="--since") == datetime(2026, 11, 2, 10, tzinfo=UTC)
    assert parse_time("2026-11-01", option="--until") == datetime(2026, 11, 1, tzinfo=UTC)
    with pytest.raises(DeadLetterError, match="--until 'soon'"):
        parse_time("soon", option="--until")
