from typing import Any

import pyarrow as pa
import pytest
from pydantic import ValidationError

from herald.contract.events import Event
from herald.contract.references import REFERENCES, Campaign, User
from herald.contract.schemas import (
    arrow_schema,
    clickhouse_columns,
    event_fields,
    reference_fields,
    spark_ddl,
)
from herald.contract.vocabulary import EVENT_TYPES, AbortReason, Action, Channel

EVENT: dict[str, Any] = {
    "event_id": "0193b2c0-0000-7000-8000-000000000001",
    "tenant_id": "acme",
    "event_type": "push.delivered",
    "occurred_at": "2026-11-01T12:00:00.123Z",
}


def problem(changes: dict[str, Any]) -> str:
    with pytest.raises(ValidationError) as caught:
        Event.model_validate(EVENT | changes)
    return str(caught.value)


def test_event_needs_only_four_fields_when_nothing_else_is_known() -> None:
    event = Event.model_validate(EVENT)

    assert event.user_id == ""
    assert event.revenue is None
    assert event.occurred_at.isoformat() == "2026-11-01T12:00:00.123000+00:00"
    assert {n for n, f in Event.model_fields.items() if f.is_required()} == set(EVENT)


def test_event_keeps_unknown_keys_when_a_newer_producer_sends_them() -> None:
    event = Event.model_validate(EVENT | {"weather": "rain"})

    assert event.model_extra == {"weather": "rain"}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"event_id": "7"}, "event_id"),
        ({"tenant_id": ""}, "tenant_id"),
        ({"occurred_at": "2026-11-01T12:00:00"}, "occurred_at"),  # no zone: not UTC by guess
        ({"event_type": "push.flew"}, "event_type: 'push.flew'"),
        ({"event_type": "app.delivered"}, "event_type: 'app.delivered'"),
        ({"channel": "email"}, "channel: 'email' disagrees"),
        ({"country": "de"}, "country"),
        ({"currency": "euro"}, "currency"),
        ({"attempt": 256}, "attempt"),
        ({"cost": -1}, "cost"),
        ({"event_type": "push.aborted", "failure_reason": "mood"}, "failure_reason: 'mood'"),
        ({"campaign_id": "x" * 257}, "campaign_id"),
    ],
)
def test_event_names_the_field_when_it_is_refused(changes: dict[str, Any], expected: str) -> None:
    assert expected in problem(changes)


def test_vocabulary_has_every_channel_and_action() -> None:
    assert len(Action) == 33
    assert len(AbortReason) == 11
    assert len(Channel) == 9
    assert "email.sent" in EVENT_TYPES
    assert "app.session_started" in EVENT_TYPES
    assert "app.sent" not in EVENT_TYPES


def test_schemas_agree_when_derived_from_the_contract() -> None:
    fields = event_fields()
    names = [f.name for f in fields]

    assert len(names) == len(set(names))
    assert list(arrow_schema(fields).names) == names
    assert list(clickhouse_columns(fields)) == names
    assert [part.split("`")[1] for part in spark_ddl(fields).split(", ")] == names
    assert names[-5:] == ["action", "_topic", "_partition", "_offset", "landed_at"]


def test_schemas_type_each_kind_of_field() -> None:
    schema = arrow_schema(event_fields())

    assert schema.field("occurred_at").type == pa.timestamp("ms", tz="UTC")
    assert schema.field("channel").type == pa.dictionary(pa.int32(), pa.string())
    assert schema.field("suspected_bot_reasons").type == pa.list_(pa.string())
    assert schema.field("revenue").nullable
    assert not schema.field("user_id").nullable
    assert "`attempt` SMALLINT" in spark_ddl(event_fields())
    assert clickhouse_columns(event_fields())["revenue"] == "Nullable(Decimal(18, 4))"


def test_references_refuse_unknown_keys_when_misspelt() -> None:
    with pytest.raises(ValidationError, match="campain_id"):
        Campaign.model_validate(
            {"tenant_id": "a", "updated_at": "2026-01-01T00:00:00Z", "campain_id": "c"}
        )


def test_references_carry_no_contact_point() -> None:
    personal = {"email", "phone", "name", "first_name", "last_name", "address"}

    assert personal.isdisjoint(User.model_fields)
    for model in REFERENCES:
        assert model.key in model.model_fields
        assert reference_fields(model)[-1].name == "landed_at"
