"""Questions: what is refused and how, and the SQL that the rest becomes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from herald.engine.compile import compile_query
from herald.engine.errors import CursorExpiredError, InvalidQueryError
from herald.engine.freshness import DataVersion
from herald.engine.paging import Position
from herald.engine.query import Filter, Query

DAY = {"start": datetime(2026, 11, 1, tzinfo=UTC), "end": datetime(2026, 11, 2, tzinfo=UTC)}


def ask(**values: Any) -> Query:
    return Query.model_validate({"tenant_id": "acme", "metrics": ["sends"], **DAY, **values})


def problems(query: Query) -> dict[str, str]:
    with pytest.raises(InvalidQueryError) as error:
        query.check()
    return {p.field: p.message for p in error.value.problems}


def test_check_names_all_wrong_parts_with_near_matches_when_several_are_wrong() -> None:
    found = problems(
        ask(
            metrics=["delivry_rate", "sends"],
            dimensions=["chanel"],
            filters=[{"dimension": "contry", "values": ["DE"]}],
            order=["-send"],
            time_zone="Europe/Berlim",
        )
    )
    assert set(found) == {
        "metrics.0",
        "dimensions.0",
        "filters.0.dimension",
        "order.0",
        "time_zone",
    }
    assert "'delivery_rate'" in found["metrics.0"]
    assert "'channel'" in found["dimensions.0"]
    assert "'country'" in found["filters.0.dimension"]
    assert "'sends'" in found["order.0"]
    assert "'Europe/Berlin'" in found["time_zone"]


def test_check_lists_what_is_known_when_nothing_is_near() -> None:
    assert "known: " in problems(ask(dimensions=["xyzzy"]))["dimensions.0"]


def test_check_refuses_when_range_ends_before_it_starts() -> None:
    assert "after `start`" in problems(ask(end=DAY["start"]))["end"]


def test_check_refuses_when_a_metric_is_named_twice() -> None:
    assert "twice" in problems(ask(metrics=["sends", "sends"]))["metrics"]


def test_check_refuses_event_scope_when_range_cuts_an_hour() -> None:
    cut = ask(scope="event", start=datetime(2026, 11, 1, 0, 30, tzinfo=UTC))
    assert "whole UTC hours" in problems(cut)["start"]
    zone = ask(scope="event", grain="day", time_zone="Asia/Kolkata")
    assert "whole UTC hours" in problems(zone)["end"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"metrics": []},
        {"grain": "year"},
        {"scope": "both"},
        {"audience": "bots"},
        {"limit": 0},
        {"start": "yesterday"},
        {"tenant_id": ""},
        {"filters": [{"dimension": "channel", "values": []}]},
        {"sql": "select 1"},
    ],
)
def test_query_is_refused_when_a_value_has_the_wrong_shape(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as error:
        ask(**wrong)
    assert (
        InvalidQueryError.from_validation(error.value)
        .problems[0]
        .field.startswith(next(iter(wrong)))
    )


@pytest.mark.parametrize("text", ["channel", ":email", "!:x", ""])
def test_filter_is_refused_when_not_dimension_colon_values(text: str) -> None:
    with pytest.raises(InvalidQueryError, match="dimension:value"):
        Filter.parse(text)


def test_filter_parses_when_negated_or_empty() -> None:
    assert Filter.parse("!channel:email,sms") == Filter(
        dimension="channel", op="not_in", values=("email", "sms")
    )
    assert Filter.parse("country:").values == ("",)


def test_sql_groups_by_dimension_and_local_day_when_asked() -> None:
    compiled = compile_query(
        ask(dimensions=["campaign"], grain="day", time_zone="Europe/Berlin", order=["-sends"])
    )
    assert compiled.sql == (
        "select campaign_id as d0, "
        "toUnixTimestamp(toStartOfDay(toTimeZone(hour_at, {zone:String}))) as t, "
        "sum(sends) as m0\n"
        "from marts.fct_engagement_hourly\n"
        "where tenant_id = {tenant:String} and hour_at >= {start:DateTime64(3, 'UTC')} "
        "and hour_at < {end:DateTime64(3, 'UTC')}\n"
        "group by d0, t\n"
        "order by m0 desc nulls last, d0, t"
    )
    assert compiled.parameters == {
        "tenant": "acme",
        "zone": "Europe/Berlin",
        "start": "2026-11-01 00:00:00.000",
        "end": "2026-11-02 00:00:00.000",
    }
    assert compiled.columns == ["campaign", "time", "sends"]
    assert compiled.time_index == 1


def test_sql_reads_the_table_of_the_scope_when_event() -> None:
    assert compile_query(ask(scope="event")).table == "marts.fct_activity_hourly"


def test_sql_reads_messages_when_hours_would_have_to_be_split() -> None:
    compiled = compile_query(ask(grain="day", time_zone="Asia/Kolkata"))
    assert compiled.table == "marts.fct_messages"
    assert "sum(is_sent) as m0" in compiled.sql
    assert "anchor_at >= {start" in compiled.sql


INJECTIONS = ["'; drop table marts.fct_messages; --", "{tenant:String}", "x' or 1=1", "\\"]


@pytest.mark.parametrize("evil", INJECTIONS)
def test_value_never_reaches_the_sql_when_it_looks_like_sql(evil: str) -> None:
    plain = compile_query(ask(filters=[{"dimension": "campaign", "values": ["c"]}]))
    compiled = compile_query(
        ask(tenant_id=evil, filters=[{"dimension": "campaign", "values": [evil]}])
    )
    assert compiled.sql == plain.sql
    assert compiled.parameters["tenant"] == evil
    assert compiled.parameters["f0"] == [evil]


@pytest.mark.parametrize("field", ["metrics", "dimensions", "order"])
def test_name_is_refused_when_it_looks_like_sql(field: str) -> None:
    assert problems(ask(**{field: ["sends; drop table x"]}))


def test_audience_of_the_query_applies_when_a_metric_has_no_suffix() -> None:
    query = ask(metrics=["unique_opens", "opens__machine", "sends"], audience="human")
    assert [e.sql() for e in query.resolved()] == [
        "sum(unique_human_opens)",
        "sum(machine_opens)",
        "sum(sends)",
    ]


def test_local_midnight_is_meant_when_a_time_has_no_offset() -> None:
    query = ask(start=datetime(2026, 10, 25), end=datetime(2026, 10, 26), time_zone="Europe/Berlin")
    # the day the clocks go back has 25 hours
    assert query.range() == (
        datetime(2026, 10, 24, 22, tzinfo=UTC),
        datetime(2026, 10, 25, 23, tzinfo=UTC),
    )


def test_previous_period_is_the_local_day_before_when_clocks_change() -> None:
    compiled = compile_query(
        ask(
            start=datetime(2026, 10, 26),
            end=datetime(2026, 10, 27),
            time_zone="Europe/Berlin",
            grain="hour",
            compare="previous",
        )
    )
    assert compiled.parameters["previous_start"] == "2026-10-24 22:00:00.000"
    assert compiled.parameters["shift"] == 1
    assert compiled.columns == ["time", "sends", "sends__previous"]


def test_previous_period_shifts_by_seconds_when_range_is_not_whole_days() -> None:
    compiled = compile_query(
        ask(end=datetime(2026, 11, 1, 6, tzinfo=UTC), grain="hour", compare="previous")
    )
    assert compiled.parameters["previous_start"] == "2026-10-31 18:00:00.000"
    assert compiled.parameters["shift"] == 6 * 3600


def test_fingerprint_ignores_the_page_when_all_else_is_equal() -> None:
    assert ask().fingerprint() == ask(cursor="x", limit=3).fingerprint()
    assert ask().fingerprint() != ask(tenant_id="other").fingerprint()


NOW = DataVersion("v1", None)


def test_cursor_leads_to_the_next_page_when_nothing_changed() -> None:
    cursor = Position.of(ask(), NOW).after(10).text()
    assert Position.of(ask(cursor=cursor), NOW).offset == 10


def test_cursor_expires_when_the_data_changed() -> None:
    cursor = Position.of(ask(), NOW).after(10).text()
    with pytest.raises(CursorExpiredError):
        Position.of(ask(cursor=cursor), DataVersion("v2", None))


@pytest.mark.parametrize("cursor", ["@@@", "aGVsbG8=", "é", "WzFd", "bnVsbA=="])
def test_cursor_is_refused_when_it_is_not_ours(cursor: str) -> None:
    with pytest.raises(InvalidQueryError, match="cursor"):
        Position.of(ask(cursor=cursor), NOW)


def test_cursor_is_refused_when_it_belongs_to_another_question() -> None:
    cursor = Position.of(ask(), NOW).after(10).text()
    with pytest.raises(InvalidQueryError, match="another question"):
        Position.of(ask(cursor=cursor, tenant_id="other"), NOW)


def test_cursor_is_refused_when_its_offset_is_negative() -> None:
    cursor = Position.of(ask(), NOW).after(-3).text()
    with pytest.raises(InvalidQueryError, match="not a cursor"):
        Position.of(ask(cursor=cursor), NOW)
