"""The fast path against the exact one, and every error class."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from herald.contract.errors import ErrorClass
from herald.contract.events import Event
from herald.contract.references import Campaign, User
from herald.settings import Landing
from spark_jobs.transforms.clock import usual_times
from spark_jobs.transforms.events import EventParser, Parsed
from spark_jobs.transforms.judging import (
    RESERVED,
    Limits,
    RejectedError,
    judge_event,
    judge_reference,
    to_ms,
)
from spark_jobs.transforms.references import parse_references

NOW = to_ms(datetime(2026, 11, 1, 12, tzinfo=UTC))
LIMITS = Limits.of(Landing())
ID = "0192d3a4-5b6c-7d8e-9f00-112233445566"


def event(**changes: Any) -> dict[str, Any]:
    base = {
        "event_id": ID,
        "tenant_id": "acme",
        "event_type": "email.sent",
        "occurred_at": "2026-11-01T10:00:00.123Z",
        "user_id": "u1",
        "campaign_id": "c1",
    }
    merged = {**base, **changes}
    return {name: value for name, value in merged.items() if value is not ...}


def encode(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def parse(*values: bytes) -> Parsed:
    return EventParser(LIMITS).parse(list(values), NOW)


def rows(parsed: Parsed) -> dict[int, dict[str, Any]]:
    return dict(zip(parsed.positions.tolist(), parsed.table.to_pylist(), strict=True))


REFUSED: list[tuple[bytes, ErrorClass, str, str]] = [
    (b"", ErrorClass.EMPTY, "", "empty"),
    (b"  \n", ErrorClass.EMPTY, "", "empty"),
    (encode(event(user_id="x" * 300_000)), ErrorClass.TOO_LARGE, "", "262144"),
    (b'{"tenant_id":"\xff\xfe"}', ErrorClass.INVALID_UTF8, "", "byte 14"),
    (b'{"tenant_id":', ErrorClass.MALFORMED_JSON, "", "not JSON"),
    (b'{"tenant_id":}', ErrorClass.MALFORMED_JSON, "", "not JSON"),
    (encode(event()) + encode(event()), ErrorClass.MALFORMED_JSON, "", "Extra data"),
    (encode(event(revenue=1)).replace(b":1}", b":NaN}"), ErrorClass.MALFORMED_JSON, "", "NaN"),
    (
        encode(event(subject="@")).replace(b"@", b"\\ud800"),
        ErrorClass.MALFORMED_JSON,
        "",
        "not JSON",
    ),
    (b"[" * 100_000, ErrorClass.MALFORMED_JSON, "", "not JSON"),
    (b'[{"a":1}]', ErrorClass.NOT_AN_OBJECT, "", "not an object"),
    (b"null", ErrorClass.NOT_AN_OBJECT, "", "not an object"),
    (b'"text"', ErrorClass.NOT_AN_OBJECT, "", "not an object"),
    (
        encode(event())[:-1] + b',"user_id":"u2"}',
        ErrorClass.DUPLICATE_KEY,
        "user_id",
        "more than once",
    ),
    (
        encode(event())[:-1] + b',"odd":1,"odd":2}',
        ErrorClass.DUPLICATE_KEY,
        "odd",
        "more than once",
    ),
    *[
        (encode(event(**{name: "x"})), ErrorClass.RESERVED_NAME, name, "landing job")
        for name in sorted(RESERVED)
    ],
    (encode(event(tenant_id=...)), ErrorClass.MISSING_FIELD, "tenant_id", "required"),
    (encode(event(occurred_at=...)), ErrorClass.MISSING_FIELD, "occurred_at", "required"),
    (encode(event(tenant_id=7)), ErrorClass.WRONG_TYPE, "tenant_id", "7"),
    (encode(event(tenant_id=None)), ErrorClass.WRONG_TYPE, "tenant_id", "string"),
    (encode(event(occurred_at=1_790_000_000)), ErrorClass.WRONG_TYPE, "occurred_at", "1790000000"),
    (encode(event(is_holdout="true")), ErrorClass.WRONG_TYPE, "is_holdout", "boolean"),
    (encode(event(is_holdout=1)), ErrorClass.WRONG_TYPE, "is_holdout", "boolean"),
    (encode(event(attempt="1")), ErrorClass.WRONG_TYPE, "attempt", "integer"),
    (encode(event(attempt=1.5)), ErrorClass.WRONG_TYPE, "attempt", "integer"),
    (encode(event(properties=[1])), ErrorClass.WRONG_TYPE, "properties", "object"),
    (encode(event(properties='{"a":"b"}')), ErrorClass.WRONG_TYPE, "properties", "object"),
    (encode(event(properties=None)), ErrorClass.WRONG_TYPE, "properties", "object"),
    (
        encode(event(suspected_bot_reasons=["a", 1])),
        ErrorClass.WRONG_TYPE,
        "suspected_bot_reasons.1",
        "1",
    ),
    (encode(event(suspected_bot_reasons="a")), ErrorClass.WRONG_TYPE, "suspected_bot_reasons", "a"),
    (encode(event(user_id={"a": 1})), ErrorClass.WRONG_TYPE, "user_id", "string"),
    (encode(event(revenue=True)), ErrorClass.WRONG_TYPE, "revenue", "Decimal"),
    (
        encode(event(event_type="email.exploded")),
        ErrorClass.UNKNOWN_EVENT_TYPE,
        "event_type",
        "email.exploded",
    ),
    (
        encode(event(event_type="app.delivered")),
        ErrorClass.UNKNOWN_EVENT_TYPE,
        "event_type",
        "app.delivered",
    ),
    (
        encode(event(event_type="nope", country="de")),
        ErrorClass.UNKNOWN_EVENT_TYPE,
        "event_type",
        "nope",
    ),
    (encode(event(event_id="not-a-uuid")), ErrorClass.INVALID_VALUE, "event_id", "not-a-uuid"),
    (encode(event(tenant_id="")), ErrorClass.INVALID_VALUE, "tenant_id", "at least 1"),
    (encode(event(country="de")), ErrorClass.INVALID_VALUE, "country", "'de'"),
    (encode(event(currency="EURO")), ErrorClass.INVALID_VALUE, "currency", "EURO"),
    (encode(event(attempt=256)), ErrorClass.INVALID_VALUE, "attempt", "255"),
    (encode(event(cost=-1)), ErrorClass.INVALID_VALUE, "cost", "greater than or equal to 0"),
    (encode(event(revenue=1.23456)), ErrorClass.INVALID_VALUE, "revenue", "4 decimal"),
    (encode(event(revenue=10**15)), ErrorClass.INVALID_VALUE, "revenue", "14 digits"),
    (encode(event(channel="push")), ErrorClass.INVALID_VALUE, "channel", "disagrees"),
    (encode(event(channel="fax")), ErrorClass.INVALID_VALUE, "channel", "fax"),
    (encode(event(channel="")), ErrorClass.INVALID_VALUE, "channel", "''"),
    (
        encode(event(event_type="email.aborted")),
        ErrorClass.INVALID_VALUE,
        "failure_reason",
        "abort reason",
    ),
    (
        encode(event(event_type="email.aborted", failure_reason="x")),
        ErrorClass.INVALID_VALUE,
        "failure_reason",
        "'x'",
    ),
    (encode(event(user_id="x" * 257)), ErrorClass.INVALID_VALUE, "user_id", "256"),
    (encode(event(campaign_id="x" * 257)), ErrorClass.INVALID_VALUE, "campaign_id", "256"),
    (encode(event(link_url="x" * 4_097)), ErrorClass.INVALID_VALUE, "link_url", "4096"),
    (
        encode(event(occurred_at="2026-11-01")),
        ErrorClass.INVALID_VALUE,
        "occurred_at",
        "2026-11-01",
    ),
    (
        encode(event(occurred_at="2026-11-01T10:00:00")),
        ErrorClass.INVALID_VALUE,
        "occurred_at",
        "timezone",
    ),
    (
        encode(event(occurred_at="2026-13-01T10:00:00Z")),
        ErrorClass.INVALID_VALUE,
        "occurred_at",
        "month",
    ),
    (
        encode(event(occurred_at="2026-11-01T14:00:00Z")),
        ErrorClass.TIMESTAMP_IN_FUTURE,
        "occurred_at",
        "3600 s ahead",
    ),
    (
        encode(event(ingested_at="2031-11-01T14:00:00Z")),
        ErrorClass.TIMESTAMP_IN_FUTURE,
        "ingested_at",
        "3600 s ahead",
    ),
    (
        encode(event(occurred_at="1999-12-31T23:59:59Z")),
        ErrorClass.TIMESTAMP_TOO_OLD,
        "occurred_at",
        "before 2000",
    ),
    (
        encode(event(occurred_at="0001-01-01T00:00:00Z")),
        ErrorClass.TIMESTAMP_TOO_OLD,
        "occurred_at",
        "before 2000",
    ),
]


@pytest.mark.parametrize(("value", "error_class", "field", "part"), REFUSED)
def test_parse_refuses_with_class_field_and_rule_when_a_row_breaks_one(
    value: bytes, error_class: ErrorClass, field: str, part: str
) -> None:
    good = encode(event())
    parsed = parse(good, value, good)
    assert parsed.positions.tolist() == [0, 2]
    [rejection] = parsed.rejections
    assert (rejection.position, rejection.error_class, rejection.field) == (1, error_class, field)
    assert part in rejection.message
    assert rejection.message.startswith(field.split(".")[0])
    assert len(rejection.message) < 700


def test_refused_cases_cover_every_error_class() -> None:
    assert {case[1] for case in REFUSED} == set(ErrorClass)


def test_parse_shifts_nothing_when_bad_rows_stand_between_good_ones() -> None:
    values = []
    for index in range(200):
        values.append(encode(event(user_id=f"u{index}")))
        values.append(REFUSED[index % len(REFUSED)][0])
    parsed = parse(*values)
    found = rows(parsed)
    assert {p: r["user_id"] for p, r in found.items()} == {2 * i: f"u{i}" for i in range(200)}
    assert [r.position for r in parsed.rejections] == list(range(1, 400, 2))


def test_parse_keeps_values_exactly_when_they_are_unusual() -> None:
    texts = [
        "naïve ☃ 😀",
        'quote " and \\ back',
        "line\nbreak",
        "tab\t",
        "a:b",
        '":',
        '":"',
        "a : b",
    ]
    values = [encode(event(subject=t, campaign_name=t, properties={"t": t})) for t in texts]
    values += [
        json.dumps(event(subject=t, campaign_name=t, properties={"t": t})).encode() for t in texts
    ]
    found = rows(parse(*values))
    assert [found[i]["subject"] for i in range(len(values))] == texts * 2
    assert [json.loads(found[i]["properties"]) for i in range(len(values))] == [
        {"t": t} for t in texts * 2
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-01T10:00:00Z", "2026-11-01T10:00:00.000+00:00"),
        ("2026-11-01T12:00:00.5+02:00", "2026-11-01T10:00:00.500+00:00"),
        ("2026-10-31T23:30:00.001-10:30", "2026-11-01T10:00:00.001+00:00"),
        ("2026-11-01T10:00:00.123999Z", "2026-11-01T10:00:00.123+00:00"),
        ("2026-11-01 10:00:00z", "2026-11-01T10:00:00.000+00:00"),
    ],
)
def test_parse_converts_to_utc_when_a_time_has_an_offset(text: str, expected: str) -> None:
    [row] = rows(parse(encode(event(occurred_at=text)))).values()
    assert row["occurred_at"].isoformat(timespec="milliseconds") == expected


@pytest.mark.parametrize(
    "amount", ["0", "19.99", "0.0001", "-5.5", "123456789.1234", '"99999999999999.9999"', '"7.10"']
)
def test_parse_keeps_money_exactly_when_it_has_four_decimals(amount: str) -> None:
    value = encode(event(revenue=1))[:-2] + amount.encode() + b"}"
    [row] = rows(parse(value)).values()
    assert row["revenue"] == Decimal(amount.strip('"')).quantize(Decimal("0.0001"))


def test_unknown_keys_survive_in_properties_when_producers_add_them() -> None:
    parsed = parse(
        encode(event(extra=[1, {"b": 2}], properties={"a": 1})),
        encode(event(extra=12345678901234567890123)),
        encode(event(a="top", properties={"a": "inner"})),
        encode(event(properties={"exact": 1.10})),
        encode(event(properties={})),
    )
    found = [row["properties"] for _, row in sorted(rows(parsed).items())]
    assert found[0] == '{"a":1,"extra":[1,{"b":2}]}'
    assert found[1] == '{"extra":12345678901234567890123}'
    assert json.loads(found[2]) == {"a": "inner", "a__envelope": "top"}
    assert json.loads(found[3]) == {"exact": 1.1}
    assert found[4] == ""


def test_channel_and_action_are_filled_when_the_producer_leaves_them_out() -> None:
    [row] = rows(parse(encode(event(event_type="web_push.marked_as_spam")))).values()
    assert (row["channel"], row["action"]) == ("web_push", "marked_as_spam")


def test_schema_version_is_the_contract_when_no_event_carries_one() -> None:
    [row] = rows(parse(encode(event()))).values()
    assert row["schema_version"] == "1.0"


def test_plain_events_take_the_fast_path_when_they_are_certain() -> None:
    values = [
        encode(event(attempt=1, cost=0.0012, is_holdout=False, channel="email", country="DE")),
        encode(event(suspected_bot_reasons=["too_fast", "user_agent"], is_suspected_bot=True)),
        encode(event(properties={"a": "b", "n": 1, "o": {"x": [1, 2]}})),
        json.dumps(event(properties={"a": "b"})).encode(),
    ]
    parsed = parse(*values)
    assert len(parsed.positions) == len(values)
    assert parsed.suspects == 0


def test_columns_are_learned_at_once_when_producers_begin_to_send_them() -> None:
    parser = EventParser(LIMITS)
    parser.parse([encode(event(user_id=f"u{i}")) for i in range(500)], NOW)
    values = [encode(event(city="Bonn", properties={"n": i})) for i in range(500)]
    parsed = parser.parse([*values, b"{"], NOW)
    assert (parsed.suspects, [r.position for r in parsed.rejections]) == (1, [500])
    found = rows(parsed)
    assert [found[i]["city"] for i in range(500)] == ["Bonn"] * 500
    assert json.loads(found[499]["properties"]) == {"n": 499}


def test_bad_bytes_hurt_no_neighbour_when_a_batch_is_longer_than_a_block() -> None:
    values = [encode(event(city=f"Köln {i}")) for i in range(3_000)]
    values[1_500] = values[1_500].replace("ö".encode(), b"\xff")
    values[2_999] = b""
    parsed = parse(*values)
    assert [(r.position, r.error_class) for r in parsed.rejections] == [
        (1_500, "invalid_utf8"),
        (2_999, "empty"),
    ]
    assert parsed.suspects == 2
    found = rows(parsed)
    assert all(found[i]["city"] == f"Köln {i}" for i in found)
    assert len(found) == 2_998


@settings(deadline=None)
@given(
    st.lists(
        st.one_of(
            st.none(),
            st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31)).map(
                lambda t: t.isoformat(timespec="milliseconds") + "Z"
            ),
            st.from_regex(r"[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-6][0-9]:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z",
                          fullmatch=True),
            st.text("0129-:TZ.", min_size=24, max_size=24),
        ),
        min_size=1,
    )
)  # fmt: skip
def test_usual_times_are_those_of_the_standard_library_when_24_wide(
    texts: list[str | None],
) -> None:
    ms, usual = usual_times(pa.array(texts, pa.large_string()))
    assert ms is not None
    for text, found, is_usual in zip(texts, ms.tolist(), usual.tolist(), strict=True):
        expected = None if text is None else _usual(text)
        assert (found if is_usual else None) == expected


def _usual(text: str) -> int | None:
    try:
        time = datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
    except ValueError:
        return None
    # strptime takes one digit where two belong
    return to_ms(time) if time.strftime("%m-%dT%H:%M:%S") == text[5:19] else None


def test_usual_times_decline_when_a_time_has_another_width() -> None:
    ms, _ = usual_times(pa.array(["2026-11-01T10:00:00Z"], pa.large_string()))
    assert ms is None


def test_result_is_the_same_when_a_batch_is_parsed_again() -> None:
    values = [encode(event(user_id=f"u{i}")) for i in range(50)] + [case[0] for case in REFUSED]
    parser = EventParser(LIMITS)
    first, second = parser.parse(values, NOW), parser.parse(values, NOW)
    assert rows(first) == rows(second)
    assert first.rejections == second.rejections


NAMES = sorted(Event.model_fields)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 300),
    st.floats(allow_nan=False, allow_infinity=False, width=32),
    st.sampled_from(
        [
            "",
            "email",
            "push",
            "DE",
            "de",
            "EUR",
            "holdout",
            "1.0",
            ID,
            "a:b",
            '":"',
            '\\"',
            "é😀",
            "\x00",
        ]
    ),
    st.text(max_size=12),
)
VALUES = st.one_of(
    SCALARS,
    st.lists(SCALARS, max_size=3),
    st.dictionaries(st.text(max_size=5), SCALARS, max_size=3),
)
TIMES = st.one_of(
    st.datetimes(datetime(1990, 1, 1), datetime(2027, 1, 1)).map(lambda t: t.isoformat() + "Z"),
    st.sampled_from(
        ["2026-11-01T10:00:00+02:00", "2026-11-01T10:00:00.1-23:59", "x", "2026-02-30T00:00:00Z"]
    ),
)
PLAUSIBLE = st.fixed_dictionaries(
    {
        "event_id": st.sampled_from([ID, ID.upper(), ID.replace("-", ""), "x"]),
        "tenant_id": st.sampled_from(["acme", "ü", ""]),
        "event_type": st.sampled_from(["email.sent", "push.aborted", "app.custom", "email.nope"]),
        "occurred_at": TIMES,
    },
    optional={
        "ingested_at": TIMES,
        "channel": st.sampled_from(["email", "push", "app", "sms"]),
        "failure_reason": st.sampled_from(["holdout", "because"]),
        "revenue": st.one_of(st.decimals(-100, 100, places=4).map(float), SCALARS),
        "cost": st.one_of(st.decimals(-1, 100, places=5).map(float), st.sampled_from(["1.5", "x"])),
        "properties": st.dictionaries(st.text(max_size=5), VALUES, max_size=3),
        "suspected_bot_reasons": st.lists(SCALARS, max_size=2),
    },
)


@st.composite
def raw_values(draw: st.DrawFn) -> bytes:
    document = draw(PLAUSIBLE)
    document |= draw(
        st.dictionaries(st.sampled_from([*NAMES, "odd", "action", "_topic"]), VALUES, max_size=2)
    )
    text = json.dumps(
        document,
        ensure_ascii=draw(st.booleans()),
        separators=draw(st.sampled_from([(",", ":"), (", ", ": "), (" , ", " : ")])),
    )
    if draw(st.integers(0, 9)) == 0:
        cut = draw(st.integers(0, len(text)))
        text = text[:cut] + draw(
            st.sampled_from(["", "}", '"', "\n", ',"user_id":"u","user_id":"v"}'])
        )
    return text.encode("utf-8", "surrogatepass")


@settings(max_examples=150, deadline=None)
@given(st.lists(raw_values(), min_size=1, max_size=30))
def test_fast_path_agrees_with_the_exact_one_when_rows_are_arbitrary(values: list[bytes]) -> None:
    parsed = parse(*values)
    found = rows(parsed)
    refused = {r.position: r for r in parsed.rejections}
    assert sorted([*found, *refused]) == list(range(len(values)))
    for position, value in enumerate(values):
        expected = judged(value)
        if isinstance(expected, RejectedError):
            rejection = refused[position]
            assert rejection.error_class == expected.error_class
            assert rejection.field == expected.field
        else:
            _assert_same(found[position], expected)


def judged(value: bytes) -> dict[str, Any] | RejectedError:
    try:
        return judge_event(value, NOW, LIMITS)
    except RejectedError as error:
        return error


def _assert_same(row: dict[str, Any], expected: dict[str, Any]) -> None:
    defaults: dict[str, Any] = {
        "is_holdout": False,
        "machine_open": False,
        "is_suspected_bot": False,
    }
    for name, value in expected.items():
        stored = row.get(name, defaults.get(name))
        if name in {"occurred_at", "ingested_at"}:
            assert (None if stored is None else to_ms(stored)) == value
        elif name == "properties":
            assert json.loads(stored or "{}") == json.loads(value or "{}")
        elif name == "event_id":
            assert str(stored).lower() == value
        elif name in {"revenue", "cost"}:
            assert stored == value
        else:
            assert (stored or None) == (value or None), name


def test_reference_becomes_a_version_when_it_keeps_the_contract() -> None:
    record = {
        "tenant_id": "acme",
        "updated_at": "2026-10-01T00:00:00Z",
        "campaign_id": "c1",
        "variants": [{"variant_id": "a", "share": 0.5}],
        "fixed_cost": 12.5,
    }
    parsed = parse_references(
        [encode(record), b"", b"{", encode({**record, "odd": 1})], Campaign, NOW, LIMITS
    )
    [row] = parsed.table.to_pylist()
    assert row["variants"] == '[{"variant_id":"a","share":0.5}]'
    assert row["fixed_cost"] == Decimal("12.5000")
    assert row["status"] == "active"
    assert [(r.position, r.error_class) for r in parsed.rejections] == [
        (1, "empty"),
        (2, "malformed_json"),
        (3, "wrong_type"),
    ]


def test_reference_is_refused_when_it_is_from_the_future() -> None:
    record = {"tenant_id": "acme", "updated_at": "2030-01-01T00:00:00Z", "user_id": "u1"}
    with pytest.raises(RejectedError, match="ahead") as caught:
        judge_reference(encode(record), User, NOW, LIMITS)
    assert caught.value.error_class is ErrorClass.TIMESTAMP_IN_FUTURE
